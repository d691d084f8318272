"""One study however many send it; what is not published is not there; contradictions are refused."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers.generated import Made, send
from peers.imageshare import node, publish_all
from peers.together import together
from pydicom import Dataset, dcmwrite
from sqlalchemy import func, select

from server.edges.context import Node
from server.errors import NotFound, PatientConflict
from server.records import catalogue, placing


@pytest.fixture
def opened(tmp_path: Path, database_url: str) -> Iterator[Node]:
    with node(tmp_path / "data", database_url) as made:
        yield made


def _rows(opened: Node) -> dict[str, int]:
    tables = {"patient": catalogue.PATIENT, "study": catalogue.STUDY, "series": catalogue.SERIES, "instance": catalogue.INSTANCE}
    with opened.database.read() as connection:
        return {name: connection.execute(select(func.count()).select_from(table)).scalar_one() for name, table in tables.items()}


def test_devices_that_send_one_study_at_once_make_one_study(opened: Node) -> None:
    parts = [[Made(series=1 + device % 2, number=1 + device * 5 + n) for n in range(5)] for device in range(4)]
    assert together(*(lambda part=part, name=f"D{i}": send(opened, *part, name=name) for i, part in enumerate(parts))) == []
    assert _rows(opened) == {"patient": 1, "study": 1, "series": 2, "instance": 20}
    publish_all(opened)
    with opened.database.read() as connection:
        assert catalogue.counts(connection) == {"studies": 1, "instances": 20, "pending": 0}


def test_what_is_not_published_is_not_there(opened: Node) -> None:
    send(opened, Made(number=1))
    with opened.database.read() as connection:
        assert catalogue.instances(connection, Made().study_uid) == []
        assert catalogue.by_sop_uid(connection, [Made().uid]) == {}
        with pytest.raises(NotFound):
            catalogue.study_patient(connection, Made().study_uid)
        assert catalogue.stored(connection, Made().uid) is not None, "the doors in must know it"
        assert catalogue.counts(connection) == {"studies": 0, "instances": 0, "pending": 1}
    publish_all(opened)
    send(opened, Made(number=2))
    with opened.database.read() as connection:
        assert [found.uid for found in catalogue.instances(connection, Made().study_uid)] == [Made(number=1).uid]
        assert list(catalogue.by_sop_uid(connection, [Made(number=n).uid for n in (1, 2, 3)])) == [Made(number=1).uid]
        assert catalogue.study_patient(connection, Made().study_uid)


def test_a_study_belongs_to_one_patient(opened: Node) -> None:
    send(opened, Made(number=1))
    before = _rows(opened)
    with pytest.raises(PatientConflict):
        send(opened, Made(number=2, patient="P2"))
    assert _rows(opened) == before, "not even the other patient's row is left"


def test_a_series_belongs_to_one_study(opened: Node) -> None:
    send(opened, Made(study=1))
    stray = Made(study=2).dataset()
    stray.SeriesInstanceUID = Made(study=1).series_uid
    before = _rows(opened)
    with pytest.raises(PatientConflict):
        send(opened, _file(stray))
    assert _rows(opened) == before


def test_one_patient_id_of_two_authorities_is_two_patients(opened: Node) -> None:
    send(opened, Made(study=1), authority="1.2.3.1")
    send(opened, Made(study=2), authority="1.2.3.2")
    send(opened, Made(study=3))
    assert _rows(opened)["patient"] == 3


def test_order_is_by_number_then_uid_and_none_comes_last(opened: Node) -> None:
    unnumbered = Made(series=3, number=9).dataset()
    del unnumbered.InstanceNumber
    sent = [Made(series=2, number=10), Made(series=2, number=9), Made(series=1, number=2), Made(series=3, number=11)]
    send(opened, *sent, _file(unnumbered))
    publish_all(opened)
    wanted = [sent[2].uid, sent[1].uid, sent[0].uid, sent[3].uid, Made(series=3, number=9).uid]
    with opened.database.read() as connection:
        found = catalogue.instances(connection, Made().study_uid)
        assert [instance.uid for instance in found] == wanted
        study = catalogue.load(connection, 1)
        assert [instance.sop_instance_uid for series in study.series for instance in series.instances] == wanted
        one = catalogue.instances(connection, Made().study_uid, sent[2].series_uid, sent[2].uid)
        assert [instance.uid for instance in one] == [sent[2].uid]
        assert catalogue.instances(connection, Made().study_uid, sent[2].series_uid, sent[1].uid) == []


def test_text_that_one_engine_would_refuse_is_stored_on_both(opened: Node) -> None:
    """PostgreSQL takes no NUL in text, and equipment pads with it."""
    dataset = Made().dataset()
    dataset.PatientName = "Müller^Änne=頭部^花子"
    dataset.StudyDescription = "A\0B\tC"
    dataset.AccessionNumber = "A1\0"
    dataset.add_new(0x00200010, "LO", "x" * 300)
    send(opened, _file(dataset))
    publish_all(opened)
    with opened.database.read() as connection:
        study = catalogue.load(connection, 1)
    assert study.patient.name.startswith("Müller^Änne=頭部")
    assert study.accession_number == "A1"
    assert "\0" not in study.description


@given(st.text(max_size=30))
def test_folded_names_have_no_case_and_fold_once(name: str) -> None:
    folded = placing.folded(name)
    assert placing.folded(folded) == folded
    assert folded == " ".join(folded.split())


def test_folded_names_meet() -> None:
    assert placing.folded("Müller^ÄNNE") == placing.folded("MU\u0308LLER^anne") == "muller^anne"


def _file(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()
