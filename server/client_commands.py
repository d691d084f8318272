"""The command `imageshare client`: the programs that may ask for access tokens (OAuth clients)."""

import contextlib
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from server.console import Data, open_trail, operator, told
from server.errors import SettingsError
from server.settings import load

if TYPE_CHECKING:
    from server.access.oauth.telling import Told
    from server.store.db import Database

client_app = typer.Typer(no_args_is_help=True, help="Apps and services that may ask for access tokens (OAuth clients).")

_SCOPE = "openid fhirUser profile launch launch/patient launch/encounter launch/imagingstudy offline_access online_access patient/*.rs user/*.rs"
_SYSTEM_SCOPE = "system/*.rs"
Several = list[str] | None


class Kind(StrEnum):
    """As `clients.KINDS`."""

    PUBLIC = "public"
    SECRET = "secret"
    ASYMMETRIC = "asymmetric"


@contextlib.contextmanager
def _opened(data: Path | None) -> Iterator["Database"]:
    from server.store.db import Database
    from server.store.migrations import require_current

    with told():
        database = Database(load(data=data).database)
        try:
            require_current(database)
            yield database
        finally:
            database.close()


@client_app.command("add")
def add_client(
    client_id: Annotated[str, typer.Argument(help="The client id; any that is not taken.")],
    name: Annotated[str, typer.Option(help="As people see it; the client id where absent.")] = "",
    kind: Annotated[
        Kind, typer.Option(help="public: an app without a secret; secret: one that can keep it; asymmetric: one with a key.")
    ] = Kind.PUBLIC,
    redirect: Annotated[Several, typer.Option(help="A redirect URI, to the letter. Several times if need be.")] = None,
    launch: Annotated[str, typer.Option(help="The URL by which an EHR opens the app.")] = "",
    origin: Annotated[
        Several, typer.Option(help="Where the app's pages come from, such as https://app.example.org: for CORS.")
    ] = None,
    scope: Annotated[str, typer.Option(help="What it may ask for at most.")] = "",
    logo: Annotated[str, typer.Option(help="The URL of its picture, PNG, JPEG or WebP: this server fetches and shows it.")] = "",
    jwks: Annotated[
        str, typer.Option(help="An asymmetric client's public keys: the URL of a JWK Set, or a file that has one.")
    ] = "",
    service: Annotated[bool, typer.Option("--service", help="It asks by itself, without a person (SMART Backend Services).")] = False,
    patient: Annotated[
        Several, typer.Option(help="Resource id of a patient whom a service may see; every one where absent. Several times.")
    ] = None,
    may: Annotated[Several, typer.Option(help="introspect others' tokens, or launch apps as an EHR. Several times if need be.")] = None,
    device: Annotated[str, typer.Option(help="The Device by which Consents may name it, such as Device/x.")] = "",
    data: Data = None,
) -> None:  # fmt: skip
    """Register a client. The secret of one that has one is printed this once, and nothing else is."""
    from server.access.oauth import clients
    from server.access.oauth.clients import AUTHORIZATION_CODE, CLIENT_CREDENTIALS, REFRESH_TOKEN, Client

    people = frozenset({AUTHORIZATION_CODE, REFRESH_TOKEN}) if redirect else frozenset[str]()
    with _opened(data) as database:
        client = Client(
            client_id, name or client_id, kind.value, redirect_uris=tuple(redirect or ()),
            scope=scope or " ".join([*([_SCOPE] if redirect else []), *([_SYSTEM_SCOPE] if service else [])]),
            grant_types=people | ({CLIENT_CREDENTIALS} if service else frozenset()), may=frozenset(may or ()), launch_uri=launch, logo_uri=logo,
            origins=tuple(origin or ()), device=device, reach=frozenset(patient) if patient else None, **_keys(jwks),
        )  # fmt: skip
        trail = _told(database, data)
        with database.write() as connection:
            secret = clients.add(connection, client, load(data=data).fetch_allowed_hosts)
            trail.client_changed(connection, client_id, "client added", operator())
    if secret:
        typer.echo(secret)
    typer.echo(f"{client_id} is registered", err=True)


def _told(database: "Database", data: Path | None) -> "Told":
    from server.access.oauth.telling import Told

    return Told(open_trail(load(data=data), database))


def _keys(text: str) -> dict[str, Any]:
    if not text or text.startswith(("https://", "http://")):
        return {"jwks_uri": text}
    import orjson

    try:
        found = orjson.loads(Path(text).read_bytes())
    except (OSError, orjson.JSONDecodeError):
        raise SettingsError("--jwks takes the URL of a JWK Set, or a file with one in it") from None
    if not isinstance(found, dict):
        raise SettingsError('--jwks: a JWK Set is a JSON object, {"keys": [...]}')
    return {"jwks": found}


@client_app.command("list")
def list_clients(data: Data = None) -> None:
    """Show all clients, without their secrets."""
    from rich.table import Table
    from rich.text import Text

    from server.access.oauth import clients
    from server.dicom_commands import wide

    with _opened(data) as database, database.read() as connection:
        found = clients.every(connection)
    table = Table("client id", "name", "kind", "grant types", "redirect URIs", "scope", "may", "state", box=None)
    for each in found:
        state = "disabled" if each.disabled else "registered itself" if each.registration_hash else ""
        grants, may = " ".join(sorted(each.grant_types)), " ".join(sorted(each.may))
        shown = each.id, each.name, each.kind, grants, " ".join(each.redirect_uris), each.scope, may, state
        table.add_row(*map(Text, shown))
    wide().print(table)


@client_app.command("disable")
def disable_client(
    client_id: Annotated[str, typer.Argument(help="The client id.")],
    enable: Annotated[bool, typer.Option("--enable", help="The reverse.")] = False,
    data: Data = None,
) -> None:
    """End all access of a client: its tokens open nothing from the next request on."""
    from server.access.oauth import clients

    with _opened(data) as database:
        trail = _told(database, data)
        with database.write() as connection:
            clients.disable(connection, client_id, disabled=not enable)
            trail.client_changed(connection, client_id, "client enabled" if enable else "client disabled", operator())
    typer.echo(f"{client_id} is {'enabled' if enable else 'disabled'}", err=True)
