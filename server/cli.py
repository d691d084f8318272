"""The command `imageshare`. Each command loads the settings, calls one module and says what came of it."""

import contextlib
import json
import os
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from server.errors import ImageShareError, SettingsError
from server.settings import Settings, bracketed, load

app = typer.Typer(
    name="imageshare",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"imageshare {version('imageshare')}")
        raise typer.Exit


@app.callback()
def about(
    _: Annotated[bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)] = False,
) -> None:
    """Share medical images: DICOM files come in by C-STORE or STOW-RS, and each study goes out as DICOMweb, FHIR R4 and IHE XDS-I.b.

    One set of access rules and one audit trail stand behind all of them. To see it at work: imageshare demo. To run it:
    imageshare serve, which makes its data folder and database on first start.
    """


serve_app = typer.Typer(invoke_without_command=True, help="Run the server: everything in one process group, or one role.")
app.add_typer(serve_app, name="serve")

Data = Annotated[Path | None, typer.Option("--data", help="The data folder.", envvar="IMAGESHARE_DATA", show_envvar=False)]


@contextlib.contextmanager
def told() -> Iterator[None]:
    """An error of ours becomes one line on standard error and exit code 1."""
    try:
        yield
    except ImageShareError as error:
        typer.echo(f"imageshare: {error.detail}", err=True)
        raise typer.Exit(1) from None


# --- serve


@serve_app.callback()
def serve(
    context: typer.Context,
    data: Data = None,
    http_port: Annotated[int | None, typer.Option(help="0 takes a free port.")] = None,
    dicom_port: Annotated[int | None, typer.Option(help="0 takes a free port.")] = None,
) -> None:
    """HTTP, DICOM and worker in one process group; one line when all of them listen; SIGTERM ends them."""
    if context.invoked_subcommand:
        return
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # no threads of numpy's before the fork
    from server import telemetry, upkeep
    from server.supervisor import Supervisor

    with told():
        settings = load(data=data, http_port=http_port, dicom_port=dicom_port)
        telemetry.configure("serve", settings.log_level)
        with upkeep.owned(settings):
            upkeep.make_ready(settings)
            alone = settings.database_url is None
            with upkeep.owned_blob_folder(settings, shared=not alone):
                upkeep.sweep_orphans(settings, alone=alone)
                if alone:
                    upkeep.take_over(settings)
                running = Supervisor(settings)
                raise typer.Exit(running.run(_listens(running.settings)))


@serve_app.command("http")
def serve_http(data: Data = None) -> None:
    """Only FHIR, DICOMweb, SOAP and operations over HTTP."""
    _role("http", data)


@serve_app.command("dicom")
def serve_dicom(data: Data = None) -> None:
    """Only the DICOM Storage SCP."""
    _role("dicom", data)


@serve_app.command("worker")
def serve_worker(data: Data = None) -> None:
    """Only the worker, which publishes settled studies."""
    _role("worker", data)


def _role(role: str, data: Path | None) -> None:
    from server import roles, upkeep

    with told():
        settings = load(data=data)
        upkeep.require_ready(settings)
        with upkeep.owned(settings, shared=True), upkeep.owned_blob_folder(settings, shared=True):
            roles.run(role, settings, lambda: typer.echo(f"imageshare {role} runs · {_listens(settings)}"))


def _listens(settings: Settings) -> str:
    public = f" (public {settings.base_url})" if settings.public_url else ""
    dicom = f"{settings.ae_title}@{bracketed(settings.dicom_host)}:{settings.dicom_port}"
    return f"imageshare listens: {settings.http_address}{public} · DICOM {dicom} · data {settings.data.absolute()}"


# --- to try it, and to send


@app.command()
def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the last step: 0, or 1 if a step failed.")] = False,
    own: Annotated[
        Path | None, typer.Option("--input", help="A folder of your own DICOM files.", exists=True, file_okay=False)
    ] = None,
    keep: Annotated[Path | None, typer.Option(help="Work in this folder and leave everything in it.", file_okay=False)] = None,
) -> None:
    """Start a server in a temporary folder on free ports, and tell the story of a study step by step against it."""
    from server.demo import run

    with told():
        raise typer.Exit(run(once=once, own=own, keep=keep))


@app.command()
def send(
    paths: Annotated[list[Path], typer.Argument(help="DICOM files, or folders of them.")],
    to: Annotated[str, typer.Option(help="AE@host:port for C-STORE, or the URL of a DICOMweb service for STOW-RS.")],
    calling: Annotated[str | None, typer.Option(help="The AE title to call with; IMAGESHARE_SEND where absent.")] = None,
    token: Annotated[
        str | None,
        typer.Option(
            help="Access token for STOW-RS; better in the environment, where `ps` does not show it.",
            envvar="IMAGESHARE_TOKEN",
            show_envvar=True,
        ),
    ] = None,
) -> None:
    """Send DICOM files or folders by C-STORE or STOW-RS. Exit code 1 if any was not taken."""
    from rich.console import Console

    from server.outbound.files import dicom_files
    from server.sending import CALLING, calling_title, send_with_bar, target

    with told():
        where = target(to, token)
        title = calling_title(calling) if calling is not None else CALLING
        try:
            files = list(dicom_files(paths))
        except FileNotFoundError as error:
            raise SettingsError(str(error)) from None
        if not files:
            raise SettingsError("there is no DICOM file under what was named")
        report = send_with_bar(Console(stderr=True), "sending", files, where, calling=title)
    typer.echo(f"{len(report.sent)} of {len(files)} files sent to {to}: {report.bytes / 1e6:.1f} MB, {report.rate()}")
    for reason, count in report.failed.most_common():
        typer.echo(f"{count} not sent: {reason}", err=True)
    if report.failed:
        raise typer.Exit(1)


# --- for scripts and administrators


@app.command()
def token(
    scope: Annotated[str, typer.Option(help='SMART scopes, such as "system/*.rs" or "patient/*.rs".')],
    data: Data = None,
    patient: Annotated[
        str | None,
        typer.Option(help="The patient that patient/ scopes open: resource id, Patient ID, or its authority's OID|Patient ID."),
    ] = None,
    client: Annotated[str, typer.Option(help="Client id that the audit trail names.")] = "script",
    seconds: Annotated[int, typer.Option(min=1, max=86400, help="Lifetime.")] = 3600,
) -> None:
    """Print a signed access token, and nothing else."""
    from server.access.grants import check_scopes, named_patient
    from server.access.tokens import Tokens
    from server.records.installation import installation
    from server.store.db import Database
    from server.store.migrations import require_current

    with told():
        check_scopes(scope, bound=patient is not None)
        database = Database(load(data=data).database)
        require_current(database)
        bound = named_patient(database, patient) if patient is not None else None
        typer.echo(Tokens(database, installation(database)).issue(client=client, scope=scope, patient=bound, seconds=seconds))


@app.command()
def doctor(data: Data = None, as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False) -> None:
    """Show the effective settings, secrets masked, and whether what they name can be reached."""
    from server import upkeep

    with told():
        rows = upkeep.doctor(load(data=data))
    if as_json:
        typer.echo(json.dumps({name: {"value": value, "ok": fine} for name, value, fine in rows}, indent=2))
    else:
        width = max(len(name) for name, _, _ in rows)
        for name, value, fine in rows:
            typer.echo(f"{'ok ' if fine else 'BAD'} {name.ljust(width)}  {value}")
    if not all(fine for _, _, fine in rows):
        raise typer.Exit(1)


@app.command()
def migrate(data: Data = None) -> None:
    """Bring the database schema to this version's revision."""
    from server import upkeep

    with told():
        upkeep.make_ready(load(data=data))


@app.command()
def verify(data: Data = None) -> None:
    """Read every stored byte and compare it with its SHA-256. Exit code 1 if anything is missing or changed."""
    from rich.console import Console
    from rich.progress import Progress

    from server import upkeep

    with told():
        settings = load(data=data)
        upkeep.require_ready(settings)
        with Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task("verify")
            bad = upkeep.verify(settings, lambda done, total: progress.update(task, completed=done, total=total))
    for blob_id in bad:
        typer.echo(f"BAD {blob_id}")
    typer.echo(f"{len(bad)} of the stored objects are missing or changed" if bad else "every stored object is as it was written")
    if bad:
        raise typer.Exit(1)


def main() -> None:
    """Entry point of the command."""
    app()


if __name__ == "__main__":
    main()
