"""The command `imageshare keys`: with what this server signs tokens."""

from typing import Annotated

import typer

from server.console import Data, told
from server.settings import load

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
    from server.access.keys import rotate as rotated
    from server.store.db import Database
    from server.store.migrations import require_current

    with told():
        database = Database(load(data=data).database)
        require_current(database)
        for kid in rotated(database, compromised=compromised):
            typer.echo(kid)
