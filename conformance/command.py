"""The commands that this floor adds to `imageshare`, by the entry point group `imageshare.commands`: `imageshare check smart`."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Test a system from outside, ours or anybody's.", rich_markup_mode=None)


@app.callback()
def about() -> None:
    """Test a system from outside, ours or anybody's."""


@app.command()
def smart(
    url: Annotated[str, typer.Argument(help="FHIR base URL; the target file's own where it is left out.")] = "",
    target: Annotated[
        Path | None, typer.Option(help="TOML file with clients, people, patients and studies; without it discovery alone.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Cases by id (with * and ?), area, or requirement number; again for more.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Folder for the report: text, JUnit XML, HTML, JSON.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="List the cases and run none.")] = False,
) -> None:
    """SMART App Launch 2.2 and SMART Imaging Access: every SHALL of a server that can be seen from outside.

    It signs in, registers clients and writes small test resources: use patients who are there for tests. Exit code 1 if a case failed, 2 if the target file is wrong or nobody answers.
    """
    from conformance.smart.cases import all_cases
    from conformance.smart.kit import chosen
    from conformance.smart.target import TargetError, read_target

    cases = chosen(all_cases(), only or ())
    if listed:
        for each in cases:
            typer.echo(f"{each.id}\t{','.join(map(str, each.requirements))}\t{each.title}")
        return
    try:
        found = read_target(target, url)
    except TargetError as error:
        typer.echo(f"imageshare: {error}", err=True)
        raise typer.Exit(2) from None
    if not cases:
        typer.echo("imageshare: no case has such an id, area or requirement", err=True)
        raise typer.Exit(2)
    from conformance.smart.running import run_and_report, unreachable

    if reason := unreachable(found):
        typer.echo(f"imageshare: {reason}", err=True)
        raise typer.Exit(2)
    if not run_and_report(found, cases, report):
        raise typer.Exit(1)
