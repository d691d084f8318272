"""The benchmark of transfers: it runs from end to end; what it measures is not looked at."""

from pathlib import Path

import orjson
import pytest

from conformance.bench import peers, report, targets, transfers
from conformance.bench.report import Measurement


@pytest.mark.deep
def test_the_suite_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything arrives and comes back whole, every mark is of something that was measured, and the report has all."""
    monkeypatch.setattr(transfers, "_DROP", tmp_path / "none" / "of the machine's caches is dropped")
    what = transfers.study(tmp_path / "template", 0.001)
    with peers.imageshare(tmp_path / "data", 0.2, settings=transfers.SETTINGS) as peer:
        measured = list(transfers.suite(peer, tmp_path, what))
    works = {row.work for row in measured}
    assert {*targets.TRANSFERS, *(mark.of for marks in targets.TRANSFERS.values() for mark in marks if mark.of)} <= works
    assert all(row.rate for row in measured)
    report.show_fhir(measured, "Transfers")
    report.keep_fhir(measured, tmp_path, "transfers")
    assert [Measurement(**each) for each in orjson.loads((tmp_path / "transfers.json").read_bytes())["measured"]] == measured


def test_instances_differ_by_their_uid_alone(tmp_path: Path) -> None:
    what = transfers.study(tmp_path, 0.001)
    assert what.count == transfers.LARGE
    files = [what.file(number) for number in range(what.count)]
    assert len(set(files)) == what.count
    assert {len(file) for file in files} == {len(what.template)}
    assert all(file.count(what.uid(number).encode()) == 2 for number, file in enumerate(files))
