"""What every command has: where the data are, how an error is told, and how the trail knows who typed it."""

import contextlib
import getpass
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.errors import ImageShareError

if TYPE_CHECKING:
    from profiles.audit_event import Agent
    from server.records.trail import Trail
    from server.settings import Settings
    from server.store.db import Database

Data = Annotated[Path | None, typer.Option("--data", help="The data folder.", envvar="IMAGESHARE_DATA", show_envvar=False)]


@contextlib.contextmanager
def told() -> Iterator[None]:
    """An error of ours becomes one line on standard error and exit code 1."""
    try:
        yield
    except ImageShareError as error:
        typer.echo(f"imageshare: {error.detail}", err=True)
        raise typer.Exit(1) from None


def operator(command: str = "command line") -> "Agent":
    """Who types this, as the trail has it: the command, and the person as the system knows them."""
    from profiles.audit_event import Agent

    try:
        name = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a number without a name, as in containers
        name = f"user {os.getuid()}"
    return Agent(identifier=command, user=Agent(identifier=name))


def open_trail(settings: "Settings", database: "Database") -> "Trail":
    """The trail, for a command that needs nothing else of a node."""
    from profiles.audit_event import Agent
    from server.records.installation import installation
    from server.records.trail import Trail

    server = Agent(identifier=installation(database).issuer, name=settings.organization, address=settings.base_url)
    return Trail(database, server)
