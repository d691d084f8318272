"""The command `imageshare trail`, and what `imageshare verify --trail` does."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from server.console import Data, operator, told
from server.errors import SettingsError
from server.settings import load

trail_app = typer.Typer(no_args_is_help=True, help="The audit trail.")
_SEAL = re.compile(r"[1-9][0-9]{0,17}:[0-9a-f]{64}", re.IGNORECASE)


@trail_app.callback()
def trail() -> None:
    """The audit trail."""


@trail_app.command("erase")
def erase(
    before: Annotated[
        datetime, typer.Option(formats=["%Y-%m-%d"], help="Events are erased that were sealed before this day (UTC).")
    ],
    why: Annotated[str, typer.Option(help="The rule by which their time is over; it is kept in the trail.")],
    data: Data = None,
    apply: Annotated[bool, typer.Option("--apply", help="Erase them now; without it they are only counted.")] = False,
) -> None:
    """Erase events whose time is over. Their seals stay, and the trail tells that they were erased, by whom and why."""
    from server import upkeep
    from server.composition import close_node, open_node
    from server.records import seals
    from server.store.db import micros
    from server.work import sealing

    with told():
        settings = load(data=data)
        upkeep.require_ready(settings)
        node = open_node(settings)
        until = micros(before.replace(tzinfo=UTC))
        try:
            with node.database.read() as connection:
                due = seals.erasable(connection, until)
            count = sum(each.count for each in due)
            if apply:
                sealing.erase(node.database, node.trail, before=until, by=operator("imageshare trail erase"), why=why)
        finally:
            close_node(node)
    typer.echo(f"{count} events under {len(due)} seals {'were' if apply else 'would be'} erased")


def verify(data: Path | None, seal: str) -> None:
    """Walks the seals of the trail with a bar, and says which events are not as they were sealed. Exit code 1 if there are any."""
    from rich.console import Console
    from rich.progress import Progress

    from server import upkeep

    with told():
        if seal and not _SEAL.fullmatch(seal):
            raise SettingsError("--seal is a number, a colon and 64 hexadecimal digits, as the log has it")
        settings = load(data=data)
        upkeep.require_ready(settings)
        with Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task("verify the trail")
            found = upkeep.verify_trail(settings, lambda done, total: progress.update(task, completed=done, total=total), seal)
    for each in found.breaks:
        typer.echo(f"BAD {each}")
    if found.erased:
        typer.echo(f"the events under {found.erased} seals were erased")
    newest = f"; the newest seal is {found.newest.name}" if found.newest else ""
    typer.echo(f"{found.events} events are sealed, {found.waiting} wait for their seal{newest}")
    if found.breaks:
        raise typer.Exit(1)
