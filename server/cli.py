"""The command `imageshare`. Each command loads the settings, calls one module and says what came of it."""

import gc
import json
import os
import sys
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Annotated

import typer

from server import fetch_command, peer_commands, study_commands, trail_commands
from server.client_commands import client_app
from server.code_commands import code_app
from server.console import Data, open_trail, operator, told
from server.dicom_commands import peer_app, worklist_app
from server.errors import SettingsError, Unavailable
from server.key_commands import keys_app
from server.settings import Settings, bracketed, load
from server.user_commands import user_app
from server.viewer_commands import viewer_app

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
    """Share medical images: studies come in by DICOM or DICOMweb, and go out by DICOM, DICOMweb, FHIR R4 and IHE XDS-I.b.

    One set of access rules and one audit trail stand behind all of them. To see it at work: imageshare demo. To run it:
    imageshare serve, which makes its data folder and database on first start.
    """


serve_app = typer.Typer(invoke_without_command=True, help="Run the server: everything in one process group, or one role.")
app.add_typer(serve_app, name="serve")

app.add_typer(peer_app, name="peer")
app.add_typer(worklist_app, name="worklist")
app.add_typer(user_app, name="user")
app.add_typer(client_app, name="client")
app.add_typer(keys_app, name="keys")
app.add_typer(code_app, name="code")
app.add_typer(viewer_app, name="viewer")
app.add_typer(trail_commands.trail_app, name="trail")

# What the floor above adds (conformance: `check`), which nothing here may import.
for added in distribution("imageshare").entry_points.select(group="imageshare.commands"):
    app.add_typer(added.load(), name=added.name)


# --- serve


@serve_app.callback()
def serve(
    context: typer.Context,
    data: Data = None,
    http_port: Annotated[int | None, typer.Option(help="Of HTTP; 0 takes a free one.")] = None,
    dicom_port: Annotated[int | None, typer.Option(help="Of DICOM; 0 takes a free one.")] = None,
    mllp_port: Annotated[int | None, typer.Option(help="Of HL7 v2; 0 takes a free one.")] = None,
) -> None:
    """HTTP, DICOM, MLLP and worker in one process group; one line when all of them listen; SIGTERM ends them."""
    if context.invoked_subcommand:
        return
    _leave_out_decoders()
    from server import telemetry, upkeep
    from server.supervisor import Supervisor

    with told():
        settings = load(data=data, http_port=http_port, dicom_port=dicom_port, mllp_port=mllp_port)
        telemetry.configure("serve", settings.log_level)
        with upkeep.owned(settings):
            upkeep.make_ready(settings)
            alone = settings.database_url is None
            with upkeep.owned_blob_folder(settings, shared=not alone):
                upkeep.sweep_orphans(settings, alone=alone)
                if alone:
                    upkeep.take_over(settings)
                running = Supervisor(settings)
                raise typer.Exit(running.run(_listens(running.settings) + _first_administrator(running.settings)))


@serve_app.command("http")
def serve_http(data: Data = None) -> None:
    """Only FHIR, DICOMweb, SOAP and operations over HTTP."""
    _role("http", data)


@serve_app.command("dicom")
def serve_dicom(data: Data = None) -> None:
    """Only the DICOM port, with all of its services."""
    _role("dicom", data)


@serve_app.command("mllp")
def serve_mllp(data: Data = None) -> None:
    """Only the port of HL7 v2, for patient identities (IHE ITI-8)."""
    _role("mllp", data)


@serve_app.command("worker")
def serve_worker(data: Data = None) -> None:
    """Only the worker, which publishes settled studies.

    It also reports storage commitments, and does what is due daily.
    """
    _role("worker", data)


def _role(role: str, data: Path | None) -> None:
    _leave_out_decoders()
    from server import roles, upkeep

    with told():
        settings = load(data=data)
        upkeep.require_ready(settings)
        with upkeep.owned(settings, shared=True), upkeep.owned_blob_folder(settings, shared=True):
            roles.run(role, settings, lambda: typer.echo(f"imageshare {role} runs · {_listens(settings)}"))


def _leave_out_decoders() -> None:
    """pydicom loads GDCM, and what downloads its own test files, wherever they are installed: 15 MB that these processes never use.

    They decode nothing themselves (`server.work.pixels`).
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # no threads of numpy's before the fork
    for name in ("gdcm", "requests"):
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # as if it were not installed


def _listens(settings: Settings) -> str:
    public = f" (public {settings.base_url})" if settings.public_url else ""
    dicom = f"{settings.ae_title}@{bracketed(settings.dicom_host)}:{settings.dicom_port}"
    if settings.dicom_tls_port is not None:
        dicom += f" (TLS {settings.dicom_tls_port})"
    mllp = f"{bracketed(settings.mllp_host)}:{settings.mllp_port if settings.mllp_port is not None else 2575}"
    if settings.mllp_tls_port is not None:
        mllp += f" (TLS {settings.mllp_tls_port})"
    return f"imageshare listens: {settings.http_address}{public} · DICOM {dicom} · MLLP {mllp} · data {settings.data.absolute()}"


def _first_administrator(settings: Settings) -> str:
    """On loopback a new server has an administrator; how to sign in for the first time is told once, on standard output."""
    from server import upkeep

    once = upkeep.first_administrator(settings)
    if once is None:
        return ""
    return f"\nfirst sign-in at {settings.base_url}/sign-in: {once[0]} with the password {once[1]}, which works once"


# --- to try it, and to send


@app.command()
def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the last step: 0, or 1 if a step failed.")] = False,
    own: Annotated[
        Path | None, typer.Option("--input", help="A folder of your own DICOM files.", exists=True, file_okay=False)
    ] = None,
    keep: Annotated[Path | None, typer.Option(help="Work in this folder and leave everything in it.", file_okay=False)] = None,
) -> None:
    """Tell the story of a study, on a server of its own.

    It runs in a temporary folder on free ports; each step is shown with its evidence.
    """
    from server.demo import run

    with told():
        raise typer.Exit(run(once=once, own=own, keep=keep))


@app.command()
def send(
    paths: Annotated[list[Path], typer.Argument(help="DICOM files, or folders of them.")],
    to: Annotated[
        str, typer.Option(help="AE@host:port or a known peer for C-STORE, or the URL of a DICOMweb service for STOW-RS.")
    ],
    calling: Annotated[
        str | None,
        typer.Option(help="The AE title to call with. Else IMAGESHARE_SEND; to ask for commitment that of a server that runs."),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            help="Access token for STOW-RS; better in the environment, where `ps` does not show it.",
            envvar="IMAGESHARE_TOKEN",
            show_envvar=True,
        ),
    ] = None,
    commit: Annotated[
        bool, typer.Option("--commit", help="Then ask the peer to commit to it (storage commitment), and wait for its report.")
    ] = False,
    commit_wait: Annotated[float, typer.Option(min=1, help="Seconds to wait for that report.")] = 30.0,
    tls: peer_commands.Tls = False,
    verify: peer_commands.Verify = False,
    data: Data = None,
) -> None:
    """Send DICOM files or folders by C-STORE or STOW-RS. Exit code 1 if any was not taken, or not committed to.

    With --commit the peer may report over the association of the request. One that calls back instead, as most archives do, needs a
    server that runs on the data folder, and must know where that is: the server takes its report.
    """
    from rich.console import Console

    from server import upkeep
    from server.outbound.files import dicom_files
    from server.sending import CALLING, called, calling_title, is_url, send_with_bar, target

    with told():
        title = calling_title(calling) if calling is not None else CALLING
        settings = None if is_url(to) else load(data=data, ae_title=title)
        if settings is None and (commit or tls or verify):
            raise SettingsError("--commit, --tls and --verify are for C-STORE, not for the URL of a DICOMweb service")
        peer = None if settings is None else peer_commands.peer_named(to, settings, "--to", tls=tls, verify=verify)
        where = target(to, token) if peer is None or settings is None else called(peer, settings)
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
        if commit and report.sent and peer is not None and settings is not None:
            served = upkeep.is_served(settings)
            asking = load(data=data, ae_title=calling) if served else settings
            if missing := peer_commands.committed(report.sent, peer, asking, commit_wait, served=served):
                raise Unavailable(missing)
            typer.echo(f"{peer.ae_title} has committed to them")
    if report.failed:
        raise typer.Exit(1)


@app.command("import")
def import_(
    paths: Annotated[list[Path], typer.Argument(help="Folders, DICOM files, ZIP files, or the storage folder of an Orthanc.")],
    data: Data = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read everything and store nothing.")] = False,
    authority: Annotated[str | None, typer.Option(help="OID that assigns the patient ids of files without issuer.")] = None,
    readers: Annotated[int, typer.Option(min=1, max=64, help="Files read at once.")] = 4,
) -> None:
    """Take in what lies on a disk, without a server.

    Can be done again after an interruption. Exit code 1 if anything was refused. Studies are published when the server runs. To import into a server that runs, use: imageshare send.
    """
    from rich.console import Console
    from rich.progress import Progress

    from server import upkeep
    from server.composition import close_node, open_node
    from server.importing import Importer, listed

    with told():
        settings = load(data=data)
        files = listed(paths)
        upkeep.make_ready(settings)
        with upkeep.owned(settings, shared=True), upkeep.owned_blob_folder(settings, shared=True):
            node = open_node(settings)
            try:
                importer = Importer(node.ingest, authority=authority, readers=readers, dry_run=dry_run)
                with Progress(console=Console(stderr=True)) as progress:
                    task = progress.add_task("import", total=len(files))
                    report = importer.run(files, lambda count: progress.update(task, advance=count))
            finally:
                close_node(node)
    would = "would be " if dry_run else ""
    typer.echo(
        f"{report.stored} instances {would}stored ({report.bytes / 1e6:.1f} MB, {len(report.studies)} studies), {report.known} known "
        f"already, {sum(report.refused.values())} refused, {report.passed_over} other files"
    )
    for reason, count in report.refused.most_common():
        typer.echo(f"{count} refused: {reason}; such as {', '.join(report.examples[reason])}", err=True)
    if report.refused:
        raise typer.Exit(1)


# --- other archives, and studies that are wrong

for command in (peer_commands.find, peer_commands.get, peer_commands.move, fetch_command.fetch):
    app.command()(command)
for change in (
    study_commands.reject,
    study_commands.restore,
    study_commands.correct,
    study_commands.merge,
    study_commands.hold,
    study_commands.manifests,
):
    app.command()(change)


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
    from profiles.audit_event import GET_ACCESS_TOKEN, AuditedEntity
    from server.access.grants import check_scopes, named_patient
    from server.access.tokens import Tokens
    from server.records.installation import installation
    from server.store.db import Database
    from server.store.migrations import require_current

    with told():
        check_scopes(scope, bound=patient is not None)
        settings = load(data=data)
        database = Database(settings.database)
        require_current(database)
        bound = named_patient(database, patient) if patient is not None else None
        tokens = Tokens(database, installation(database))
        issued = tokens.issue(client=client, scope=scope, patient=bound, seconds=seconds)
        trail, number = open_trail(settings, database), str(tokens.claims(issued)["jti"])
        asked = (AuditedEntity(identifier=client, details=(("scope", scope),)),)
        trail.write(
            trail.action(
                "sign-in", GET_ACCESS_TOKEN, operator(), rest=False, patient_id=bound or "", entities=asked, token_id=number
            )
        )
        typer.echo(issued)


@app.command()
def doctor(data: Data = None, as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False) -> None:
    """Show the settings in force, and whether what they name works.

    Secrets are masked. Exit code 1 if anything does not work.
    """
    from server.doctor import examined

    with told():
        rows = examined(load(data=data))
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
def verify(
    data: Data = None,
    repair: Annotated[bool, typer.Option("--repair", help="Do what can lose nothing: set aside, count anew, queue.")] = False,
    trail: Annotated[bool, typer.Option("--trail", help="Walk the seals of the audit trail instead.")] = False,
    seal: Annotated[
        str, typer.Option(help="With --trail: a seal as the log has it, NUMBER:HASH, that has to be there unchanged.")
    ] = "",
) -> None:
    """Compare stored bytes with their SHA-256, and rows with files; or, with --trail, the audit trail with its seals.

    Makes the SHA-256 where it is missing. Exit code 1 if anything is wrong and not repaired.
    """
    from rich.console import Console
    from rich.progress import Progress

    from server import upkeep

    if trail or seal:
        trail_commands.verify(data, seal)
        return
    with told():
        settings = load(data=data)
        upkeep.require_ready(settings)
        with Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task("verify")
            bad = upkeep.verify(settings, lambda done, total: progress.update(task, completed=done, total=total))
        found = upkeep.disagreements(settings, repair=repair)
    for blob_id in bad:
        typer.echo(f"BAD {blob_id}")
    typer.echo(f"{len(bad)} of the stored objects are missing or changed" if bad else "every stored object is as it was written")
    for one in found:
        typer.echo(f"{'repaired' if one.repaired else 'WRONG'} {one.count} {one.what}")
    if bad or not all(one.repaired for one in found):
        raise typer.Exit(1)


@app.command()
def retention(
    data: Data = None,
    apply: Annotated[bool, typer.Option("--apply", help="Purge them now; without it they are only listed.")] = False,
) -> None:
    """List the studies whose time is over by the retention rules.

    The rules are in the settings (IMAGESHARE_RETENTION). The worker purges such studies once a day.
    """
    from datetime import UTC, datetime

    from server import upkeep
    from server.composition import close_node, open_node
    from server.work.reconcile import Reconciler
    from server.work.retention import Retention, due

    with told():
        settings = load(data=data)
        upkeep.require_ready(settings)
        node = open_node(settings)
        try:
            with node.database.read() as connection:
                over = list(due(connection, settings.retention, datetime.now(UTC).date()))
            for uid in over:
                typer.echo(uid)
            if apply:
                reconciler = Reconciler(node.settings, node.database, node.blobs, node.installation, node.trail)
                over = over[: Retention(node.database, settings.retention, reconciler).apply()]
        finally:
            close_node(node)
    typer.echo(f"{len(over)} studies {'were purged' if apply else 'would be purged'}", err=True)


_WHILE_LOADING = 100_000
"""What modules make stays; to look through it for garbage again and again was a quarter of the time until a command began."""


def main() -> None:
    """Entry point of the command."""
    gc.set_threshold(_WHILE_LOADING)
    app()


if __name__ == "__main__":
    main()
