"""The benchmark of the Document Registry: it runs from end to end over a few documents; what it measures is not looked at."""

from pathlib import Path

import orjson
import pytest
from rich.progress import Progress

from conformance.bench import fhir, registry, registry_corpus, report, targets
from conformance.bench.report import Measurement, verdicts
from ihe import iti42, soap
from ihe.ebxml import Reading
from ihe.metadata import By
from ihe.metadata_rules import check


def test_the_suite_runs(tmp_path: Path) -> None:
    """Every request of it is answered as it is meant to be, every mark is of something that was measured, and the report has all."""
    with fhir.server(tmp_path / "sqlite", "sqlite", registry.settings()) as peer:
        measured = list(registry.suite(peer, 2 * registry.EACH, 0.02, Progress(disable=True)))
    assert [(row.work, row.note) for row in measured if "failed" in row.note] == []
    assert all(row.rate and row.p50 for row in measured)
    works = [row.work for row in measured]
    assert len(works) == len(set(works))
    assert {*targets.REGISTRY, *(mark.of for marks in targets.REGISTRY.values() for mark in marks if mark.of)} <= set(works)
    report.show_fhir(measured, "Document Registry")
    report.keep_fhir(measured, tmp_path, "registry")
    assert [Measurement(**each) for each in orjson.loads((tmp_path / "registry.json").read_bytes())["measured"]] == measured


@pytest.mark.deep
def test_copies_of_a_submission_are_what_would_have_been_registered(tmp_path: Path) -> None:
    """Every request of the suite is answered over them as over what came by the wire."""
    with fhir.server(tmp_path / "sqlite", "sqlite", registry.settings()) as peer:
        measured = list(registry.suite(peer, 4 * registry.EACH, 0.02, Progress(disable=True), copies=True))
    assert [(row.work, row.note) for row in measured if "failed" in row.note] == []
    assert {*targets.REGISTRY} <= {row.work for row in measured}


def test_what_is_registered_is_right_and_each_document_another() -> None:
    reading = Reading()
    sent = iti42.parse_request(soap.parse(registry_corpus.register(3, registry_corpus.patient(7), range(150, 200))).body, reading)
    assert check(sent, By.REGISTER, reading) == ()
    assert sent.submission_set is not None
    assert sent.submission_set.unique_id == registry_corpus.submission_id(3)
    assert {sent.submission_set.patient_id, *(each.patient_id for each in sent.documents)} == {registry_corpus.patient(7)}
    assert [each.unique_id for each in sent.documents] == [registry_corpus.unique_id(number) for number in range(150, 200)]
    assert len({each.reference_ids for each in sent.documents}) == len({each.hash for each in sent.documents}) == 50
    assert {each.class_code.code for each in sent.documents if each.class_code} == set(registry_corpus.CODES["class"])


def test_a_mark_may_be_of_one_database() -> None:
    work = f"{targets.ALMOST_EMPTY}, {targets.MANY}"
    rows = [Measurement(work, who, 250.0, "requests/s") for who in fhir.DATABASES.values()]
    assert [[reached for _, reached in verdicts(row, rows)] for row in rows] == [[False], [True]]
