"""The benchmarks of FHIR: they run from end to end over a few studies; what they measure is not looked at."""

from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from rich.progress import Progress

from conformance.bench import fhir, fhir_corpus, postgresql, report, targets
from conformance.bench.report import Measurement, verdicts
from profiles.fhir.json import parse
from profiles.fhir.validation import check

_STUDIES, _PATIENTS = 40, 10


@pytest.mark.deep
def test_the_suite_runs(tmp_path: Path) -> None:
    """Every request of it is answered as it is meant to be, every mark is of something that was measured, and the report has all."""
    with fhir.server(tmp_path / "sqlite", "sqlite") as peer:
        measured = list(fhir.suite(peer, _STUDIES, _PATIENTS, 0.02, Progress(disable=True)))
    assert [(row.work, row.note) for row in measured if "failed" in row.note] == []
    assert {row.who for row in measured} == {"SQLite"}
    assert all(row.rate and row.p50 for row in measured)
    works = [row.work for row in measured]
    assert len(works) == len(set(works))
    assert {*targets.FHIR, *(mark.of for marks in targets.FHIR.values() for mark in marks if mark.of)} <= set(works)
    report.show_fhir(measured)
    report.keep_fhir(measured, tmp_path)
    assert [Measurement(**each) for each in orjson.loads((tmp_path / "fhir.json").read_bytes())["measured"]] == measured
    table = (tmp_path / "fhir.md").read_text()
    assert all(f"| {work} | SQLite |" in table for work in works)


def test_postgresql_is_durable() -> None:
    """The server of the benchmarks syncs to disk, that of the tests does not; its process is known."""
    try:
        with postgresql.running(durable=True) as url:
            home = Path(url.partition("host=")[2])
            assert (Path("/proc") / str(postgresql.process(url)) / "cmdline").read_bytes().find(b"fsync=off") < 0
    except postgresql.NoPostgresql as reason:
        pytest.skip(str(reason))
    assert not home.exists()


def test_what_is_stored_is_valid() -> None:
    """And spread as the suite says: each modality is that of one study in eight, an instance of the large study is 188 bytes."""
    large = fhir_corpus.large_study("bench-large-0", "Patient/bench-0")
    resources = (orjson.dumps(fhir_corpus.patient(7)), orjson.dumps(fhir_corpus.study(7, "Patient/bench-1")), large)
    assert [check(parse(each, limit=1 << 20)) for each in resources] == [[], [], []]
    assert 180_000 < len(large) < 196_000
    versions = [fhir_corpus.varied(large, number) for number in (1, 2)]
    assert len({large, *versions}) == 3
    assert {len(each) for each in versions} == {len(large)}
    codes = [fhir_corpus.modality(number) for number in range(800)]
    assert {code: codes.count(code) for code in fhir_corpus.MODALITIES} == dict.fromkeys(fhir_corpus.MODALITIES, 100)
    entries = orjson.loads(fhir_corpus.family_of_studies(range(20)))["entry"]
    assert [each["request"]["url"] for each in entries] == (["Patient"] + ["ImagingStudy"] * 4) * 4
    assert {each["resource"]["subject"]["reference"] for each in entries if "subject" in each["resource"]} == {
        each["fullUrl"] for each in entries if "fullUrl" in each
    }


def test_studies_belong_to_patients() -> None:
    """Four to each, in order; those that come later to one who is there."""
    stored = fhir.Stored(_STUDIES, _PATIENTS)
    assert [stored.patient_of(number) for number in range(8)] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert stored.patients_of(_STUDIES) == _PATIENTS
    assert 0 <= stored.patient_of(next(stored.new)) < _PATIENTS
    assert next(stored.new) > _STUDIES


def _row(work: str, **figures: float) -> Measurement:
    return Measurement(work, "SQLite", 1.0, "requests/s", **figures)


def test_verdicts() -> None:
    """A rate is at least its mark, a time at most, a multiple is of the other work's on the same database; what failed reaches nothing."""
    name, read = f"{targets.READ}, {targets.MANY}", f"{targets.READ}, {targets.ONE}"
    fast = _row(name, cpu_ms=0.4, p95=10.0)
    assert [reached for _, reached in verdicts(fast, [fast])] == [True, True]
    assert [reached for _, reached in verdicts(replace(fast, cpu_ms=0.41, p95=10.1), [])] == [False, False]
    assert [reached for _, reached in verdicts(replace(fast, note="1 of 2 failed"), [])] == [False, False]
    newest = _row(f"{targets.NEWEST}, {targets.ONE}", p50=3.0)
    assert verdicts(newest, [newest]) == []
    others = [_row(read, p50=1.0), replace(_row(read, p50=9.0), who="PostgreSQL")]
    assert [reached for _, reached in verdicts(newest, others)] == [True]
    assert [reached for _, reached in verdicts(replace(newest, p50=3.1), others)] == [False]
