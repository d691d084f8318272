"""The commands `imageshare peer` and `imageshare worklist`: whom we talk DICOM with, and what modalities are to do."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from server.console import Data, told
from server.errors import MalformedInstance, SettingsError
from server.settings import EVERY_PERMISSION, Permission, Settings, bracketed, load

if TYPE_CHECKING:
    from rich.console import Console

    from profiles.model_item import Item
    from server.store.db import Database

PERMISSIONS: tuple[Permission, ...] = get_args(Permission)

peer_app = typer.Typer(no_args_is_help=True, help="Whom we talk DICOM with: AE titles, addresses and permissions.")
worklist_app = typer.Typer(no_args_is_help=True, help="The modality worklist: scheduled procedure steps.")


@contextlib.contextmanager
def _opened(data: Path | None) -> Iterator[tuple[Settings, "Database"]]:
    from server.store.db import Database
    from server.store.migrations import require_current

    with told():
        settings = load(data=data)
        database = Database(settings.database)
        try:
            require_current(database)
            yield settings, database
        finally:
            database.close()


# --- peers


@peer_app.command("add")
def add_peer(
    title: Annotated[str, typer.Argument(help="The AE title of the peer.")],
    where: Annotated[
        str, typer.Argument(metavar="[HOST:PORT]", help="Where it listens; left out for one that only calls us.")
    ] = "",
    network: Annotated[str, typer.Option(help="From where it may associate: an address or network such as 10.1.2.0/24.")] = "",
    allow: Annotated[
        str, typer.Option(help=f"What it may ask for, with commas: {', '.join(PERMISSIONS)}, or all.")
    ] = "store,worklist,mpps,commit",
    tls: Annotated[bool, typer.Option("--tls", help="It is called with TLS, and may associate over TLS only.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="With TLS, and a certificate for its host.")] = False,
    authority: Annotated[str, typer.Option(help="OID that assigns its patient ids; ours where absent.")] = "",
    description: Annotated[str, typer.Option(help="For people.")] = "",
    data: Data = None,
) -> None:
    """Make a peer known. A server that runs knows it a second later.

    As soon as one peer has a network, programs on this machine may not associate any more unless they are listed too.
    """
    from server.records.peers import Peer, Peers

    with _opened(data) as (settings, database):
        host, port = _address(where) if where else ("", 0)
        Peers(database, settings).add(
            Peer(
                title, network=network, host=host, port=port, tls="verify" if verify else "on" if tls else "", authority=authority,
                permissions=_permissions(allow), description=description,
            )
        )  # fmt: skip
    typer.echo(f"{title} is known")


@peer_app.command("change")
def change_peer(
    title: Annotated[str, typer.Argument(help="The AE title of the peer.")],
    where: Annotated[str | None, typer.Argument(metavar="[HOST:PORT]", help='Where it listens; "" for nowhere.')] = None,
    network: Annotated[str | None, typer.Option(help='From where it may associate; "" for nowhere.')] = None,
    allow: Annotated[str | None, typer.Option(help=f"What it may ask for: {', '.join(PERMISSIONS)}, or all.")] = None,
    tls: Annotated[
        bool | None, typer.Option("--tls/--no-tls", help="Whether it is called with TLS, and may associate over TLS only.")
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="With TLS, and a certificate for its host.")] = False,
    authority: Annotated[str | None, typer.Option(help='OID that assigns its patient ids; "" for ours.')] = None,
    description: Annotated[str | None, typer.Option(help="For people.")] = None,
    active: Annotated[bool | None, typer.Option("--active/--inactive", help="Whether we talk with it at all.")] = None,
    data: Data = None,
) -> None:
    """Change what is known of a peer; what is not named stays.

    It must be in the table, not in the settings. A server that runs knows it a second later.
    """
    from dataclasses import replace

    from server.records.peers import Peers

    given: dict[str, object] = {"network": network, "authority": authority, "description": description, "active": active}
    with _opened(data) as (settings, database):
        if where is not None:
            given["host"], given["port"] = _address(where) if where else ("", 0)
        if allow is not None:
            given["permissions"] = _permissions(allow)
        if verify or tls is not None:
            given["tls"] = "verify" if verify else "on" if tls else ""
        peers = Peers(database, settings)
        named = {name: value for name, value in given.items() if value is not None}
        peers.change(replace(peers.find(title), **named))  # type: ignore[arg-type]
    typer.echo(f"{title} is changed")


def _address(where: str) -> tuple[str, int]:
    host, _, port = where.rpartition(":")
    if not host or not port.isdigit():
        raise SettingsError("where a peer is called is HOST:PORT, such as pacs.example.org:104 or [fd00::1]:104")
    return host.strip("[]"), int(port)


def _permissions(allowed: str) -> frozenset[Permission]:
    wanted = {each.strip() for each in allowed.split(",") if each.strip()}
    if unknown := wanted - {*PERMISSIONS, "all"}:
        raise SettingsError(f"no such permission: {', '.join(sorted(unknown))}; there are {', '.join(PERMISSIONS)}, and all")
    return EVERY_PERMISSION if "all" in wanted else frozenset(each for each in EVERY_PERMISSION if each in wanted)


@peer_app.command("list")
def list_peers(data: Data = None) -> None:
    """Show every peer, of the table and of the settings."""
    from rich.table import Table

    from server.records.peers import Peers

    with _opened(data) as (settings, database):
        known = Peers(database, settings).all()
    table = Table("AE title", "calls us from", "is called at", "TLS", "may", "authority", "description", box=None)
    for peer in known:
        where = f"{bracketed(peer.host)}:{peer.port}" if peer.host else ""
        may = " ".join(each for each in PERMISSIONS if each in peer.permissions)
        table.add_row(peer.ae_title, peer.network, where, peer.tls, may, peer.authority, peer.description)
    wide().print(table)


@peer_app.command("remove")
def remove_peer(title: Annotated[str, typer.Argument(help="The AE title of the peer.")], data: Data = None) -> None:
    """Forget a peer of the table."""
    from server.records.peers import Peers

    with _opened(data) as (settings, database):
        Peers(database, settings).remove(title)
    typer.echo(f"{title} is removed")


@peer_app.command("echo")
def echo_peer(title: Annotated[str, typer.Argument(help="The AE title of the peer.")], data: Data = None) -> None:
    """Ask a peer by C-ECHO whether it is there and talks to us. Exit code 1, and why, if not."""
    from server.outbound.calling import echo
    from server.records.peers import Peers

    with _opened(data) as (settings, database):
        peer = Peers(database, settings).find(title)
        if not peer.active:
            raise SettingsError(f"{peer.ae_title} is inactive; `imageshare peer change {peer.ae_title} --active` ends that")
        if not peer.is_destination:
            raise SettingsError(f"it is not known where {peer.ae_title} listens; `imageshare peer change` says it")
        taken = echo(peer, settings)
    typer.echo(f"{peer.ae_title} at {peer.host}:{peer.port} answers C-ECHO in {taken:.1f} ms")


# --- the modality worklist


@worklist_app.command("add")
def add_items(
    files: Annotated[list[Path], typer.Argument(help="DICOM files as for dcmtk's wlmscpfs, or DICOM JSON: an item or a list.")],
    data: Data = None,
) -> None:
    """Put items on the worklist, or replace them.

    The same study and step is the same item. All of them or, if one is wrong, none.
    """
    from server.records import worklist

    with _opened(data) as (_, database):
        steps = 0
        with database.write() as connection:
            for path in files:
                try:
                    for item in _read(path):
                        steps += worklist.put(connection, item)
                except MalformedInstance as error:
                    raise MalformedInstance(f"{path}: {error.detail}") from None
    typer.echo(f"{steps} scheduled procedure steps are on the worklist")


def _read(path: Path) -> "list[Item]":
    import orjson

    from profiles.part10 import HeaderError
    from server.records.item_values import of_file

    try:
        content = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {(error.strerror or type(error).__name__).lower()}") from None
    if content[128:132] == b"DICM":
        try:
            return [of_file(content)]
        except HeaderError as error:
            raise MalformedInstance(str(error)) from None
    try:
        found = orjson.loads(content)
    except orjson.JSONDecodeError:
        raise MalformedInstance("this is neither a DICOM file nor JSON") from None
    items = found if isinstance(found, list) else [found]
    if not all(
        isinstance(each, dict) and all(isinstance(value, dict) and "vr" in value for value in each.values()) for each in items
    ):
        raise MalformedInstance("this JSON is not in the DICOM JSON Model (PS3.18 annex F)")
    return items


@worklist_app.command("list")
def list_items(
    everything: Annotated[bool, typer.Option("--all", help="Also what has begun or ended.")] = False, data: Data = None
) -> None:
    """Show the worklist by start date and time."""
    from rich.table import Table

    from profiles.model_item import text
    from server.records import worklist

    with _opened(data) as (_, database), database.read() as connection:
        entries = worklist.entries(connection, ended=everything)
    table = Table("start", "station", "modality", "accession", "patient id", "status", "step", "study", box=None)
    for entry in entries:
        item, step = entry.item, entry.step
        table.add_row(
            f"{text(step, '00400002')} {text(step, '00400003')}", text(step, "00400001"), text(step, "00080060"),
            text(item, "00080050"), text(item, "00100020"), text(step, worklist.STATUS), text(step, "00400009"),
            text(item, "0020000D"),
        )  # fmt: skip
    wide().print(table)


@worklist_app.command("remove")
def remove_items(
    study: Annotated[str, typer.Option(help="Study Instance UID.")] = "",
    step: Annotated[str, typer.Option(help="Scheduled Procedure Step ID, with --study.")] = "",
    accession: Annotated[str, typer.Option(help="Accession Number.")] = "",
    data: Data = None,
) -> None:
    """Take entries off the worklist."""
    from server.records import worklist

    with _opened(data) as (_, database), database.write() as connection:
        gone = worklist.remove(connection, study_uid=study, step_id=step, accession_number=accession)
    typer.echo(f"{gone} scheduled procedure steps are off the worklist")


def wide() -> "Console":
    """A table that goes into a pipe is not cut at 80 columns, and brackets in it are brackets."""
    from rich.console import Console

    console = Console(markup=False)
    return console if console.is_terminal else Console(markup=False, width=240)
