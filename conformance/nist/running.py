"""A run with a progress bar, and its reports."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lxml import etree
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from conformance.nist.patients import Patients
from conformance.nist.replies import Schemas
from conformance.nist.reports import as_html, as_junit, as_text
from conformance.nist.results import BAD, Outcome, SectionResult, TestResult
from conformance.nist.scene import Scene
from conformance.nist.session import Session
from conformance.nist.target import Target, TargetError
from conformance.nist.testkit import Testkit
from conformance.nist.wire import Wire


@dataclass(frozen=True, slots=True)
class Outputs:
    """Files that are written besides the text; `schemas` is a folder of XSDs that answers are held against."""

    junit: Path | None = None
    html: Path | None = None
    log: Path | None = None
    schemas: Path | None = None


def run_tests(kit: Testkit, target: Target, chosen: Sequence[tuple[str, str]], outputs: Outputs) -> list[TestResult]:
    """Runs tests with a bar on standard error. Raises `TargetError` where certificates or schemas cannot be read."""
    images = target.path(target.images) if target.images else kit.folder.resolve().parent / "ImageCache"
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    try:
        schemas = Schemas(outputs.schemas) if outputs.schemas else None
        wire = Wire(target)
    except (OSError, etree.XMLSchemaParseError, etree.XMLSyntaxError) as error:
        raise TargetError(str(error)) from None
    with Progress(*columns, console=Console(stderr=True)) as progress, wire:
        task = progress.add_task("", total=sum(_sections(kit, *each) for each in chosen))
        bad = 0

        def told(result: SectionResult) -> None:
            nonlocal bad
            bad += result.outcome in BAD
            if progress.tasks[0].finished:  # what others need is run as well, and is not in the count before
                progress.update(task, total=(progress.tasks[0].total or 0) + 1)
            words = f"{result.test}/{result.name}" + (f", {bad} failed" if bad else "")
            progress.update(task, advance=1, description=words)

        scene = Scene(target, wire, Patients(target, wire), images, schemas)
        return Session(kit, scene, told, outputs.log).run(chosen)


def _sections(kit: Testkit, test: str, section: str) -> int:
    found = kit.test(test)
    return 1 if section or found is None else len(found.sections)


def run_and_report(kit: Testkit, target: Target, name: str, chosen: Sequence[tuple[str, str]], outputs: Outputs) -> int:
    """Runs tests, says what came of them, writes the reports. Returns 0 where all that were run passed, 1 where one did not, 2 where none could be run."""
    results = run_tests(kit, target, chosen, outputs)
    when = datetime.now(UTC).isoformat(timespec="seconds")
    sys.stdout.write(as_text(results))
    if outputs.junit:
        _write(outputs.junit, as_junit(results, name))
    if outputs.html:
        _write(outputs.html, as_html(results, name, when))
    return exit_code(results)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    sys.stdout.write(f"the report is in {path}\n")


def exit_code(results: Sequence[TestResult]) -> int:
    """0 where all steps that were run passed, 1 where one did not, 2 where none was run."""
    outcomes = {step.outcome for test in results for section in test.sections for step in section.steps}
    if outcomes.intersection(BAD):
        return 1
    return 0 if Outcome.PASS in outcomes else 2
