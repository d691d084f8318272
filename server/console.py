"""What every command has: where the data are, and how an error is told."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from server.errors import ImageShareError

Data = Annotated[Path | None, typer.Option("--data", help="The data folder.", envvar="IMAGESHARE_DATA", show_envvar=False)]


@contextlib.contextmanager
def told() -> Iterator[None]:
    """An error of ours becomes one line on standard error and exit code 1."""
    try:
        yield
    except ImageShareError as error:
        typer.echo(f"imageshare: {error.detail}", err=True)
        raise typer.Exit(1) from None
