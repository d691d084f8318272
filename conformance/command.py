"""The commands that this floor adds to `imageshare`, by the entry point group `imageshare.commands`: `imageshare check smart` and `imageshare check nist`."""

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


@app.command()
def nist(
    tests: Annotated[
        list[str] | None,
        typer.Argument(
            help="Tests by id (with * and ?), or sections: 11897 11897/approved. Where left out, all that a collection of an actor has."
        ),
    ] = None,
    testkit: Annotated[Path, typer.Option(help="The toolkit's `testkit` folder, or its `tests`.")] = Path("testkit"),
    endpoints: Annotated[
        Path | None, typer.Option(help="TOML file with the endpoints of the system under test (conformance/nist/example.toml).")
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="File for a report as JUnit XML.")] = None,
    html: Annotated[Path | None, typer.Option(help="File for a report as HTML.")] = None,
    log: Annotated[Path | None, typer.Option(help="Folder for requests and answers as they were sent.")] = None,
    schemas: Annotated[Path | None, typer.Option(help="The toolkit's `schema/v3`: answers are held against it.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="List tests and sections, and run none.")] = False,
) -> None:
    """Test plans of NIST's XDS Toolkit, as they are, against any registry, repository, imaging document source or gateway.

    It registers patients and documents for tests: use a system that is there for tests. What cannot be run is said with the reason, and is
    no pass. Exit code 0 if all that was run passed, 1 if not, 2 if nothing could be run or a file is wrong.
    """
    from conformance.nist.running import Outputs, run_and_report
    from conformance.nist.target import TargetError, read_target
    from conformance.nist.testkit import Testkit

    if not testkit.is_dir():
        typer.echo(f"imageshare: {testkit} is not a folder", err=True)
        raise typer.Exit(2)
    kit = Testkit(testkit)
    chosen = kit.chosen(tests or ())
    if listed:
        for line in kit.listing(chosen):
            typer.echo(line)
        return
    try:
        if endpoints is None:
            raise TargetError("name the system under test with --endpoints FILE")
        code = run_and_report(kit, read_target(endpoints), endpoints.name, chosen, Outputs(junit, html, log, schemas))
    except TargetError as error:
        typer.echo(f"imageshare: {error}", err=True)
        raise typer.Exit(2) from None
    raise typer.Exit(code)
