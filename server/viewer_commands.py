"""The command `imageshare viewer`: OHIF as a second viewer, for those who want it."""

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from server.console import Data, told
from server.settings import load

viewer_app = typer.Typer(no_args_is_help=True, help="OHIF as a second viewer.")


@viewer_app.callback()
def viewer() -> None:
    """OHIF as a second viewer."""


@viewer_app.command("install")
def install(
    data: Data = None,
    package: Annotated[
        Path | None, typer.Option("--from", exists=True, dir_okay=False, help="The package, where it was fetched elsewhere.")
    ] = None,
) -> None:
    """Fetch OHIF by npm, and serve it at /ohif from now on.

    Images are then opened in it by the link "Advanced viewer". It takes 60 MB in the data folder; imageshare viewer remove takes it away again.
    """
    from rich.console import Console
    from rich.progress import Progress

    from server.work import ohif

    with told():
        settings = load(data=data)
        with tempfile.TemporaryDirectory() as folder:
            found = package or _fetched(ohif.PACKAGE, Path(folder))
            with Progress(console=Console(stderr=True)) as progress:
                task = progress.add_task("install")
                taken = ohif.install(found, settings, lambda done, total: progress.update(task, completed=done, total=total))
        typer.echo(f"OHIF {ohif.VERSION} is in {ohif.folder(settings)}, {taken / 1e6:.0f} MB, and is served at /ohif.")


@viewer_app.command("remove")
def remove(data: Data = None) -> None:
    """Take OHIF away again."""
    from server.work import ohif

    with told():
        place = ohif.folder(load(data=data))
        if not place.exists():
            typer.echo("OHIF is not installed.")
            return
        shutil.rmtree(place)
        typer.echo("OHIF is gone.")


def _fetched(package: str, folder: Path) -> Path:
    """The package as npm fetches it. Raises `Refused` where there is no npm, or it did not get it."""
    from server.errors import Refused

    npm = shutil.which("npm")
    by_hand = f"fetch it where it can be (npm pack {package}), and give the file: imageshare viewer install --from FILE"
    if npm is None:
        raise Refused(f"npm is not installed here; {by_hand}")
    typer.echo(f"Fetching {package} (50 MB)", err=True)
    ended = subprocess.run([npm, "pack", package, "--silent"], cwd=folder, capture_output=True, text=True, check=False)
    found = [*folder.glob("*.tgz")]
    if ended.returncode or not found:
        raise Refused(f"npm did not get {package}; {by_hand}")
    return found[0]
