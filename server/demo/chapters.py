"""The demo from beginning to end. Everything it claims it has asked over the wire; the first claim that fails ends it with 1."""

import contextlib
import shutil
import signal
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from server.demo import access, arrival, audit, crash, faces, portal
from server.demo.process import ServerProcess
from server.demo.scene import QUIET_PERIOD, Scene
from server.demo.story import Failed, Story
from server.demo.story import console as demo_console


def run(*, once: bool, own: Path | None = None, keep: Path | None = None) -> int:
    """Tells the story and returns the exit code: 0, or 1 if a step failed.

    Without `once` the server stays up until Ctrl-C. `own` is a folder of the reader's own DICOM files; `keep` is a folder for
    everything, which stays, where otherwise only pictures and the server's log do, and nothing after a signal.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    console = demo_console()
    folder = keep or Path(tempfile.mkdtemp(prefix="imageshare-demo-"))
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "data"
    if data.exists():
        console.print(f"imageshare: {folder} has the data of an earlier demo; give another folder, or delete it", style="red")
        return 1
    story = Story(console)
    story.title(
        "imageshare demo: one study, many faces",
        "A real server, real DICOM files, and nothing shown that was not asked over the wire.",
        f"Everything is in {folder}",
    )
    scene = Scene(story, ServerProcess(data, folder / "server.log", QUIET_PERIOD), folder, own)
    left = "Pictures and the server's log stay" if keep is None else "Everything stays"
    try:
        return _tell(scene, once=once)
    except SystemExit:  # `_end`: nobody looks any more
        left = "" if keep is None else left
        raise
    finally:
        scene.close()
        scene.server.stop()
        if keep is None:
            _tidy(folder, everything=not left)
        with contextlib.suppress(OSError):  # the terminal may be what has gone
            if left:
                console.print(Text(f"  {left} in {folder}", style="dim"), soft_wrap=True)


def _tell(scene: Scene, *, once: bool) -> int:
    console = scene.story.console
    since = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    try:
        arrival.tell(scene)
        faces.tell(scene)
        access.tell(scene)
        portal.tell(scene)
        crash.tell(scene)
        audit.tell(scene, since)
    except Failed:
        console.print(Text(f"\n  This step failed, so the demo ends here. The server's log: {scene.server.log}", style="red"))
        return 1
    console.print()
    console.print(
        Text(f"  ✓ {scene.story.number} steps in {scene.story.seconds:.0f} s, each of them checked.", style="bold green")
    )
    if not once:
        _stay(scene)
    return 0


def _stay(scene: Scene) -> None:
    server, console = scene.server, scene.story.console
    places = Table.grid(padding=(0, 2))
    places.add_column(style="bold")
    places.add_column(overflow="fold")
    for name, where in (
        ("FHIR R4", f"{server.http}/fhir"),
        ("DICOMweb", f"{server.http}/dicomweb"),
        ("XDS-I.b", f"{server.http}/xds/registry · /xds/repository · /xds/imaging-source"),
        ("DICOM", f"{server.ae_title}@{server.dicom_host}:{server.dicom_port}"),
        ("sign-in", f"{server.http}/sign-in · {scene.person.email} · {scene.person.password}"),
        ("pictures", str(scene.folder / "pictures")),
        ("server's log", str(server.log)),
    ):
        places.add_row(name, where)
    console.print()
    console.print(
        Panel(places, title="The server is yours until Ctrl-C", title_align="left", border_style="cyan", padding=(1, 2))
    )
    program = Path(sys.executable).parent / "imageshare"
    # Plain lines, so that they can be clicked and copied however narrow the terminal is.
    if scene.link:
        console.print(Text("  Look at it as a patient and as a doctor do:", style="bold"))
        for where, how in (
            (
                f"{server.http}/sign-in?next=/images/{scene.imaging_study['id']}",
                f"the claimed study: {scene.person.email} · {scene.person.password}",
            ),
            (scene.link, f"an open share: passcode {scene.passcode}, no account"),
            (f"{server.http}/claim", f"another code to claim: {scene.code}, born {scene.born}"),
        ):
            console.out(f"    {where}\n        {how}", highlight=False)
    console.print(Text("  Ask it something:", style="bold"))
    for line in (
        f'TOKEN=$({program} token --data {server.data} --scope "system/*.rs")',
        f'curl -H "Authorization: Bearer $TOKEN" "{server.http}/fhir/ImagingStudy?modality=CT&_count=1&_pretty=true"',
        f"{program} send YOUR_FILES --to {server.ae_title}@{server.dicom_host}:{server.dicom_port}",
    ):
        console.out(f"    {line}", highlight=False)
    with contextlib.suppress(KeyboardInterrupt):
        while server.wait(1.0):
            pass
    if not server.running:
        console.print(Text(f"  The server has ended; its log: {server.log}", style="red"))
    console.print()


def _tidy(folder: Path, *, everything: bool) -> None:
    """Pictures and the log stay, if not `everything` goes; the stored images and the generated files go."""
    for path in [folder] if everything else [folder / name for name in ("data", "phantom", "second")]:
        shutil.rmtree(path, ignore_errors=True)


def _end(number: int, frame: FrameType | None) -> None:
    """SIGTERM and a closed terminal end the demo as Ctrl-C does: with its server. A second one does not disturb that."""
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(128 + number)
