"""The commands `imageshare find`, `get` and `move`: what other archives have, and how it gets here or elsewhere.

A peer is named by its AE title, as `imageshare peer list` shows it, or as AE@host:port.
"""

import contextlib
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.console import Data, told
from server.errors import NotFound, SettingsError
from server.settings import Settings, load

if TYPE_CHECKING:
    from profiles.dicom_json import Attributes
    from profiles.storage_commitment import Reference, Report
    from server.outbound.retrieve import Progress
    from server.records.peers import Peer

From = Annotated[str, typer.Option("--from", help="AE title of a known peer, or AE@host:port.")]
Calling = Annotated[str | None, typer.Option(help="The AE title to call with; this server's own where absent.")]
Tls = Annotated[bool, typer.Option("--tls", help="With TLS, for AE@host:port; a known peer has that in the table.")]
Verify = Annotated[bool, typer.Option("--verify", help="With TLS, and a certificate for that host.")]
Study = Annotated[str, typer.Option(help="Study Instance UID.")]
Series = Annotated[str, typer.Option(help="Series Instance UID, for that series only.")]

_COLUMNS = {
    "PATIENT": ("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    "STUDY": (
        "StudyDate", "PatientID", "PatientName", "AccessionNumber", "ModalitiesInStudy", "StudyDescription",
        "NumberOfStudyRelatedInstances", "StudyInstanceUID",
    ),
    "SERIES": ("SeriesNumber", "Modality", "SeriesDescription", "NumberOfSeriesRelatedInstances", "SeriesInstanceUID"),
    "IMAGE": ("InstanceNumber", "SOPClassUID", "SOPInstanceUID"),
}  # fmt: skip
"""What is shown where nothing else is asked for."""


# --- peers


def peer_named(name: str, settings: Settings, option: str, *, tls: bool = False, verify: bool = False) -> "Peer":
    """A peer that can be called: `AE@host:port`, or the AE title of one that is known. Raises `SettingsError`."""
    from server.records.peers import Peer, Peers
    from server.sending import address
    from server.store.db import Database
    from server.store.migrations import require_current

    mode = "verify" if verify else "on" if tls else ""
    if "@" in name:
        title, host, port = address(name, option, ", or the AE title of a known peer")
        return Peer(title, host=host, port=port, tls=mode)
    database = Database(settings.database)
    try:
        require_current(database)
        peer = Peers(database, settings).find(name)
    except (SettingsError, NotFound) as error:
        raise SettingsError(f"{option} takes AE@host:port or the AE title of a known peer: {error.detail}") from None
    finally:
        database.close()
    if not peer.is_destination:
        raise SettingsError(f"it is not known where {peer.ae_title} listens; add it with HOST:PORT, or name it as AE@host:port")
    return replace(peer, tls=mode or peer.tls)


# --- find


def find(
    from_: From,
    level: Annotated[str, typer.Option(help="PATIENT, STUDY, SERIES or IMAGE.")] = "STUDY",
    key: Annotated[
        list[str] | None,
        typer.Option(help="KEYWORD=VALUE to match (with * and ?, ranges as 20240101-20241231), or KEYWORD to be shown; several times."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="The most matches to ask for.")] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="DICOM JSON, one match a line.")] = False,
    character_set: Annotated[str, typer.Option(help='Of the values to match, such as "ISO_IR 100"; ISO_IR 192 (UTF-8) if needed.')] = "",
    calling: Calling = None,
    tls: Tls = False,
    verify: Verify = False,
    data: Data = None,
) -> None:  # fmt: skip
    """Ask a peer by C-FIND what it has. A level below STUDY needs the UIDs above it as keys."""
    from itertools import islice

    import orjson

    from server.outbound import find as scu

    with told():
        settings = load(data=data, ae_title=calling)
        peer = peer_named(from_, settings, "--from", tls=tls, verify=verify)
        level = level.upper()
        scu.model_for(level)
        keys = dict(_key(each) for each in key or [])
        asked = dict.fromkeys(_COLUMNS[level], "") | keys
        terms = tuple(character_set.split("\\")) if character_set else ()
        with contextlib.closing(scu.find(peer, settings, level, asked, character_set=terms)) as matches:
            if as_json:
                for match in islice(matches, limit):
                    typer.echo(orjson.dumps(match).decode())
                return
            found = list(islice(matches, limit))
        _show(list(asked), found)
        more = "; there may be more, see --limit" if len(found) == limit else ""
        typer.echo(f"{len(found)} at {peer.ae_title}{more}", err=True)


def _key(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    if not name:
        raise SettingsError("--key takes KEYWORD=VALUE or KEYWORD, such as PatientID=4711")
    return name, value


def _show(names: Sequence[str], matches: "Sequence[Attributes]") -> None:
    from rich.table import Table
    from rich.text import Text

    from server.dicom_commands import wide
    from server.outbound.find import shown

    table = Table(*names, box=None)
    for match in matches:
        table.add_row(*(Text(shown(match, name)) for name in names))
    wide().print(table)


# --- get


def get(
    from_: From,
    study: Study,
    series: Series = "",
    calling: Calling = None,
    tls: Tls = False,
    verify: Verify = False,
    data: Data = None,
) -> None:
    """Fetch a study from a peer by C-GET, without a server.

    Exit code 1 if anything of it is missing. It is published when the server runs. Into a server that runs: imageshare move --to ITS_TITLE.
    """
    from server import upkeep
    from server.composition import close_node, open_node
    from server.edges.dimse.reception import Reception
    from server.outbound import retrieve

    with told():
        settings = load(data=data, ae_title=calling)
        peer = peer_named(from_, settings, "--from", tls=tls, verify=verify)
        upkeep.make_ready(settings)
        with upkeep.owned(settings, shared=True), upkeep.owned_blob_folder(settings, shared=True):
            classes = retrieve.sop_classes_of(peer, settings, study, series)
            node = open_node(settings)
            try:
                anywhere = peer.device("0.0.0.0/0")  # we call it: from where it may call us does not matter
                request_id = str(uuid.uuid4())
                reception = Reception(node.ingest, anywhere, peer.ae_title, settings.ae_title, peer.host, request_id)
                level, keys = _selected(study, series)
                answers = retrieve.get(
                    peer, settings, level, keys, classes,
                    lambda opened, context, command: reception.answer(reception.receive(opened, context, command)),
                )  # fmt: skip
                last = _followed("get", answers)
            finally:
                close_node(node)
    refused = f"{last.failed} failed, {reception.failures} of them refused here"
    typer.echo(f"{reception.instances} instances received from {peer.ae_title}, {refused}")
    _judged(last)


# --- move


def move(
    from_: From,
    study: Study,
    to: Annotated[str, typer.Option(help="AE title that the peer sends to: it must know where that is.")],
    series: Series = "",
    calling: Calling = None,
    tls: Tls = False,
    verify: Verify = False,
    data: Data = None,
) -> None:
    """Have a peer send a study by C-MOVE, to this server or another.

    The peer must know where the AE title is that it is to send to. Exit code 1 on a failure.
    """
    from profiles.identifiers import InvalidIdentifier, ae_title
    from server.outbound import retrieve

    with told():
        settings = load(data=data, ae_title=calling)
        peer = peer_named(from_, settings, "--from", tls=tls, verify=verify)
        try:
            destination = ae_title(to)
        except InvalidIdentifier as error:
            raise SettingsError(f"--to: {error}") from None
        level, keys = _selected(study, series)
        last = _followed("move", retrieve.move(peer, settings, level, keys, destination))
    typer.echo(f"{last.completed + last.warning} instances moved from {peer.ae_title} to {destination}, {last.failed} failed")
    _judged(last)


def _selected(study: str, series: str) -> tuple[str, dict[str, str]]:
    """Query/Retrieve Level, and the unique keys from the top."""
    if series:
        return "SERIES", {"StudyInstanceUID": study, "SeriesInstanceUID": series}
    return "STUDY", {"StudyInstanceUID": study}


def _followed(label: str, answers: "Iterator[Progress]") -> "Progress":
    """The last answer; a bar shows the others."""
    from rich.console import Console
    from rich.progress import Progress as Bar

    from server.outbound.retrieve import Progress

    last = Progress(0)
    console = Console(stderr=True)
    with Bar(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(label, total=None)
        for last in answers:
            done = last.completed + last.failed + last.warning
            total = None if last.remaining is None else done + last.remaining
            bar.update(task, completed=done, total=total)
    return last


def _judged(last: "Progress") -> None:
    if last.is_complete:
        return
    typer.echo(f"not all: {last.comment or 'the peer does not say why'} (status {last.status:04X}H)", err=True)
    for uid in last.failed_uids[:10]:
        typer.echo(f"failed: {uid}", err=True)
    raise typer.Exit(1)


# --- storage commitment of what was sent


def committed(files: Sequence[Path], peer: "Peer", settings: Settings, wait: float, *, served: bool) -> str:
    """PS3.4 section J.3: asks a peer to commit to what was sent to it. Says what it does not; empty where it commits to all.

    `served` says that a server runs on these settings: the report may then come to its port too. Raises `NoAnswer`.
    """
    from profiles.identifiers import uuid_oid
    from profiles.storage_commitment import REASONS, Reference
    from server.outbound import commitment
    from server.outbound.files import sorted_out

    sent, _ = sorted_out(files)
    references = tuple(dict.fromkeys(Reference(each.sop_class, each.uid) for each in sent))
    began = time.monotonic()
    if served:
        report = _report_anywhere(peer, settings, references, wait)
    else:
        report = commitment.request(peer, settings, uuid_oid(uuid.uuid4()), references, wait=wait)
    if report is None:
        where = f"to {settings.ae_title}" if served else "on this association, and no server runs here that it could report to"
        return f"{peer.ae_title} has taken the request, but has not reported within {time.monotonic() - began:.0f} s {where}"
    missing = len(set(references) - set(report.committed))
    if not missing:
        return ""
    reasons = sorted({REASONS.get(each.reason, f"{each.reason:04X}H") for each in report.failed})
    return f"{peer.ae_title} does not commit to {missing} of {len(references)}: {', '.join(reasons) or 'it does not say why'}"


def _report_anywhere(peer: "Peer", settings: Settings, references: "Sequence[Reference]", wait: float) -> "Report | None":
    """The report over the association of the request, or to the port of the server that runs on these settings."""
    from server.store.db import Database
    from server.store.migrations import require_current
    from server.work import commit

    database = Database(settings.database)
    try:
        require_current(database)
        found = commit.ask(database, settings, peer, references, wait=wait)
    finally:
        database.close()
    return commit.report_of(found) if found.state == "delivered" else None
