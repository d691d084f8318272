"""The benchmarks of SMART on FHIR: they run from end to end; what they measure is not looked at."""

from pathlib import Path

import orjson
import pytest
from rich.progress import Progress

from conformance.bench import fhir, report, smart, targets
from conformance.bench.report import Measurement, best, verdicts


@pytest.mark.deep
def test_the_suite_runs(tmp_path: Path) -> None:
    """Every request of it is answered as it is meant to be, every mark is of something that was measured, and the report has all."""
    with fhir.server(tmp_path / "sqlite", "sqlite", smart.SETTINGS) as peer:
        measured = best(list(smart.suite(peer, tmp_path, 0.02, 1, Progress(disable=True))))
    assert [(row.work, row.note) for row in measured if "failed" in row.note] == []
    assert all(row.rate and row.p50 for row in measured)
    works = {row.work for row in measured}
    assert {*targets.SMART, *(mark.of for marks in targets.SMART.values() for mark in marks if mark.of)} <= works
    (flood,) = (row for row in measured if row.work.startswith("wrong passwords"))
    assert flood.note in ("answered 401", "answered 401, 429")
    report.show_fhir(measured, "SMART on FHIR")
    report.keep_fhir(measured, tmp_path, "smart")
    assert [Measurement(**each) for each in orjson.loads((tmp_path / "smart.json").read_bytes())["measured"]] == measured


def test_what_is_more_than_another_work_takes() -> None:
    call, who = targets.CALLS[0], targets.GRANTS[0]
    own, command = f"{call}, {who}, {targets.ONE}", f"{call}, {targets.COMMANDS}, {targets.ONE}"

    def row(work: str, p50: float) -> Measurement:
        return Measurement(work, "SQLite", 1.0, "requests/s", p50=p50)

    rows = [row(own, 3.0), row(command, 1.5), row(f"{targets.CONSTANT}, {targets.ONE}", 0.5)]
    assert verdicts(rows[0], rows) == [
        (f"p50 1.50 more than {command}, at most 2: reached", True),
        (f"p50 2.50 more than {targets.CONSTANT}, {targets.ONE}, at most 2: NOT reached", False),
    ]
    flooded = Measurement(f"{targets.FLOODED}, 4 connections", "SQLite", 1.0, "requests/s", p99=251.0)
    assert [reached for _, reached in verdicts(flooded, [flooded])] == [False]
