"""The command `imageshare keys`: with what this server signs tokens."""

from typing import TYPE_CHECKING, Annotated

import typer

from server.console import Data, open_trail, operator, told
from server.settings import load

if TYPE_CHECKING:
    from sqlalchemy import Connection

keys_app = typer.Typer(no_args_is_help=True, help="The keys that sign tokens.")


@keys_app.callback()
def keys() -> None:
    """The keys that sign tokens."""


@keys_app.command("rotate")
def rotate(
    data: Data = None,
    compromised: Annotated[
        bool, typer.Option("--compromised", help="Delete the present keys: every token that they signed is refused at once.")
    ] = False,
) -> None:
    """Sign with new keys from now on; the present ones are believed for another day.

    Prints the ids of the new keys. Every process takes them up with its next request.
    """
    from profiles.audit_event import USER_SECURITY_CHANGED, AuditedEntity
    from server.access.keys import rotate as rotated
    from server.store.db import Database
    from server.store.migrations import require_current

    with told():
        settings = load(data=data)
        database = Database(settings.database)
        require_current(database)
        trail = open_trail(settings, database)
        said = "new signing keys; the former ones are refused" if compromised else "new signing keys"

        def tell(connection: "Connection", kids: tuple[str, ...]) -> None:
            entities = tuple(AuditedEntity(identifier=kid, details=(("changed", "new signing key"),)) for kid in kids)
            action = trail.action("security", USER_SECURITY_CHANGED, operator(), rest=False, outcome_desc=said, entities=entities)
            trail.record(connection, action)

        for kid in rotated(database, compromised=compromised, tell=tell):
            typer.echo(kid)
