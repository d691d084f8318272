"""A run with a progress bar, and its report."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import httpx2
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from conformance.smart.kit import Case, Result, run
from conformance.smart.reports import BAD, as_text, write
from conformance.smart.system import System
from conformance.smart.target import Target
from conformance.smart.wire import Wire

_CHECK: Final = (
    "check that the server runs, that host and port are right and reachable from here, and that the URL is the FHIR base URL, such as "
    "https://example.org/fhir"
)


def unreachable(target: Target) -> str:
    """Why nothing can be asked there; empty where somebody answers."""
    with Wire(verify=not target.insecure) as wire:
        try:
            wire.get(f"{target.clinical or target.fhir}/.well-known/smart-configuration")
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            base = target.clinical or target.fhir
            return f"nobody answers at {base}/.well-known/smart-configuration ({error}): {_CHECK}"
    return ""


def run_cases(target: Target, cases: Sequence[Case]) -> list[Result]:
    """Runs them with a bar on standard error."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True)) as progress, Wire(verify=not target.insecure) as wire:
        task = progress.add_task("", total=len(cases))
        bad = 0

        def told(result: Result) -> None:
            nonlocal bad
            bad += result.outcome in BAD
            progress.update(task, advance=1, description=f"{bad} failed" if bad else result.case.area)

        return run(cases, System(target, wire), told)


def run_and_report(target: Target, cases: Sequence[Case], folder: Path | None) -> bool:
    """Runs, says what came of it, writes the report into a folder where one is named. True where nothing failed."""
    results = run_cases(target, cases)
    sys.stdout.write(as_text(results))
    if folder is not None:
        write(results, folder, target.fhir, datetime.now(UTC).isoformat(timespec="seconds"))
        sys.stdout.write(f"the report is in {folder}\n")
    return not any(each.outcome in BAD for each in results)
