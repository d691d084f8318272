"""Reports lead to the studies that they name by UID or accession number, whichever came first."""

import threading
from typing import Any

import pytest
from peers.fhir_search import BASE, LATER, everybody
from sqlalchemy import Connection, select

from profiles.fhir.search_request import read
from server.records import fhir_search, parameters, reindexing, report_links, resources
from server.store.db import Database

ON_BOTH_ENGINES = True
ACSN = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}]}


def accession(value: str, system: str = "") -> dict[str, Any]:
    return {"type": ACSN, **({"system": system} if system else {}), "value": value}


def study(id_: str, number: str = "A1", patient: str = "p1", system: str = "") -> dict[str, Any]:
    return {
        "resourceType": "ImagingStudy", "id": id_, "status": "available", "subject": {"reference": f"Patient/{patient}"},
        "identifier": [
            {"system": "urn:dicom:uid", "value": f"urn:oid:1.2.{id_[1:]}"}, *([accession(number, system)] if number else []),
        ],
    }  # fmt: skip


def report(id_: str, patient: str = "p1", **content: Any) -> dict[str, Any]:
    made = {"resourceType": "DiagnosticReport", "id": id_, "status": "final", "code": {"text": "x"}}
    return {**made, "subject": {"reference": f"Patient/{patient}"}, **content}


def by_accession(id_: str, number: str = "A1", system: str = "", patient: str = "p1") -> dict[str, Any]:
    return report(id_, patient, identifier=[accession(number, system)])


def by_uid(id_: str, study_id: str, patient: str = "p1") -> dict[str, Any]:
    return report(
        id_, patient, imagingStudy=[{"identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:1.2.{study_id[1:]}"}}]
    )


def letter(id_: str, number: str = "A1") -> dict[str, Any]:
    return {
        "resourceType": "DocumentReference", "id": id_, "status": "current", "content": [{"attachment": {"url": "Binary/x"}}],
        "subject": {"reference": "Patient/p1"}, "context": {"related": [{"identifier": accession(number)}]},
    }  # fmt: skip


def put(connection: Connection, *given: dict[str, Any]) -> None:
    for each in given:
        resources.put(connection, each, base=BASE)


def found(connection: Connection, type_: str, query: str) -> set[str]:
    pairs = [(name, value) for name, _, value in [query.partition("=")]]
    search = read((type_,), pairs, base=BASE, now=LATER, custom=parameters.active(connection))
    page = fhir_search.page(
        connection, search, decision_where=everybody, confined=False, count=100, began=LATER, only=frozenset()
    )
    return {each.id for each in page.matches}


@pytest.mark.parametrize("report_first", [True, False])
def test_in_whichever_order_they_come(database: Database, report_first: bool) -> None:
    reports = [by_accession("number"), by_uid("uid", "s1"), letter("letter"), by_accession("other", "A2")]
    given = [*reports, study("s1")] if report_first else [study("s1"), *reports]
    with database.write() as connection:
        put(connection, *given)
    with database.write() as connection:
        assert found(connection, "DiagnosticReport", "study=ImagingStudy/s1") == {"number", "uid"}
        assert found(connection, "DiagnosticReport", "study:ImagingStudy.identifier=urn:oid:1.2.1") == {"number", "uid"}
        assert found(connection, "DocumentReference", "related=ImagingStudy/s1") == {"letter"}
        assert found(connection, "ImagingStudy", "_has:DiagnosticReport:study:status=final") == {"s1"}
        assert found(connection, "ImagingStudy", "_has:DocumentReference:related:status=current") == {"s1"}
        for each in ("DiagnosticReport/number", "DocumentReference/letter"):  # what the client wrote is as it was
            assert b"ImagingStudy" not in resources.read(connection, *each.split("/")).body
            assert resources.read(connection, *each.split("/")).version == 1


def test_never_across_patients_nor_assigning_authorities(database: Database) -> None:
    with database.write() as connection:
        put(
            connection,
            study("s1", system="urn:oid:1.1"), study("s2", system="urn:oid:1.2"), study("s3"), study("s4", patient="p2"),
            by_accession("one", system="urn:oid:1.1"), by_accession("none"), by_accession("third", system="urn:oid:1.3"),
            by_uid("stranger", "s1", patient="p2"), by_accession("others", patient="p2"),
            {key: value for key, value in by_accession("nobody").items() if key != "subject"},
        )  # fmt: skip
        for id_, expected in (("s1", {"one", "none"}), ("s2", {"none"}), ("s3", {"one", "none", "third"}), ("s4", {"others"})):
            assert found(connection, "DiagnosticReport", f"study=ImagingStudy/{id_}") == expected, id_


def test_a_corrected_number_or_patient_leads_elsewhere(database: Database) -> None:
    with database.write() as connection:
        put(
            connection,
            by_accession("old", "A1"),
            by_accession("new", "A2"),
            by_accession("moved", "A1", patient="p2"),
            study("s1"),
        )
        put(connection, study("s1", "A2"))
        assert found(connection, "DiagnosticReport", "study=ImagingStudy/s1") == {"new"}
        put(connection, study("s1", "A1", "p2"))
        assert found(connection, "DiagnosticReport", "study=ImagingStudy/s1") == {"moved"}
        put(connection, by_accession("moved", "A3", patient="p2"))
        assert found(connection, "DiagnosticReport", "study=ImagingStudy/s1") == set()
        put(connection, by_accession("moved", "A1", patient="p2"))
        resources.delete(connection, "ImagingStudy", "s1")
        put(connection, study("s1", "A3", "p2"))
        assert found(connection, "DiagnosticReport", "study=ImagingStudy/s1") == set()


def test_rows_that_are_made_anew_lead_there_too(database: Database) -> None:
    with database.write() as connection:
        put(connection, study("s1"), by_accession("number"), letter("letter"))
        pks = connection.exec_driver_sql("SELECT pk FROM resource").scalars().all()
        connection.exec_driver_sql("DELETE FROM reference_value")
        reindexing.again(connection, pks, base=BASE)
        reindexing.again(connection, pks, base=BASE)
        assert found(connection, "DiagnosticReport", "study=ImagingStudy/s1") == {"number"}
        put(connection, {**by_accession("number"), "conclusion": "changed"})  # the digest of its rows is that of what is there
        assert found(connection, "DiagnosticReport", "study=ImagingStudy/s1") == {"number"}


def test_studies_of_an_older_installation_that_are_indexed_after_their_reports(database: Database) -> None:
    with database.write() as connection:
        put(connection, study("s1"))
        connection.exec_driver_sql("DELETE FROM reference_value")
        put(connection, by_accession("number"))
        assert found(connection, "DiagnosticReport", "study=ImagingStudy/s1") == set()
        parameters.begin(connection, "ImagingStudy", parameters.EVERY)
        assert not reindexing.some(connection, "ImagingStudy", limit=10, base=BASE)
        assert found(connection, "DiagnosticReport", "study=ImagingStudy/s1") == {"number"}


def test_many_that_are_created_together(database: Database) -> None:
    with database.write() as connection:
        resources.create_all(connection, [by_accession("r1"), study("s1"), letter("l1"), study("s2")], base=BASE)
        for id_ in ("s1", "s2"):
            assert found(connection, "DiagnosticReport", f"study=ImagingStudy/{id_}") == {"r1"}
            assert found(connection, "DocumentReference", f"related=ImagingStudy/{id_}") == {"l1"}


def test_both_at_one_moment_lead_to_each_other(database: Database) -> None:
    """Neither transaction sees what the other has not committed: the second waits."""
    for number in range(8):
        both = threading.Barrier(2)

        def write(resource: dict[str, Any], both: threading.Barrier = both) -> None:
            both.wait()
            with database.write() as connection:
                put(connection, resource)

        writers = [
            threading.Thread(target=write, args=[each])
            for each in (study(f"s{number}", f"N{number}"), by_accession(f"r{number}", f"N{number}"))
        ]
        for each in writers:
            each.start()
        for each in writers:
            each.join()
        with database.read() as connection:
            assert found(connection, "DiagnosticReport", f"study=ImagingStudy/s{number}") == {f"r{number}"}


def test_a_number_that_many_share_leads_to_some(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a device writes for want of a number must not lead from everything to everything."""
    monkeypatch.setattr(report_links, "MOST", 3)
    with database.write() as connection:
        put(connection, *(study(f"s{number}", "NONE") for number in range(6)), by_accession("r", "NONE"))
        led = connection.exec_driver_sql("SELECT count(*) FROM reference_value WHERE target_type = 'ImagingStudy'").scalar()
        assert led == 3


@pytest.mark.parametrize("leaves", ["another patient", "another number", "deleted and back"])
def test_no_report_of_a_crowd_leads_on_to_a_study_that_is_anothers(
    database: Database, monkeypatch: pytest.MonkeyPatch, leaves: str
) -> None:
    """However many lead to it: a link must not cross patients."""
    monkeypatch.setattr(report_links, "MOST", 3)
    with database.write() as connection:
        put(connection, study("s1"), *(by_accession(f"r{number}") for number in range(9)))
        assert len(found(connection, "DiagnosticReport", "study=ImagingStudy/s1")) == 9
        if leaves == "deleted and back":
            resources.delete(connection, "ImagingStudy", "s1")
        put(connection, study("s1", "A2") if leaves == "another number" else study("s1", patient="p2"))
        assert found(connection, "DiagnosticReport", "study=ImagingStudy/s1") == set()


def test_a_study_whose_rows_are_made_anew_leads_none_to_whom_it_left(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_links, "MOST", 3)
    with database.write() as connection:
        put(connection, study("s1"), *(by_accession(f"r{number}") for number in range(9)))
        (body,) = connection.execute(select(resources.RESOURCE.c.body).where(resources.RESOURCE.c.id == "s1")).scalars()
        moved = resources.packed(resources.unpacked(body).replace(b"Patient/p1", b"Patient/p2"))
        connection.execute(resources.RESOURCE.update().where(resources.RESOURCE.c.id == "s1").values(body=moved))
        parameters.begin(connection, "ImagingStudy", parameters.EVERY)
        assert not reindexing.some(connection, "ImagingStudy", limit=10, base=BASE)
        assert found(connection, "DiagnosticReport", "study=ImagingStudy/s1") == set()


def test_others_of_the_same_number_do_not_hide_the_one_of_its_system(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_links, "MOST", 3)
    with database.write() as connection:
        put(connection, *(study(f"s{number}", system=f"urn:oid:1.{number}") for number in range(9)))
        for number in range(9):
            put(connection, by_accession(f"r{number}", system=f"urn:oid:1.{number}"))
            assert found(connection, "DiagnosticReport", f"study=ImagingStudy/s{number}") == {f"r{number}"}


def test_a_uid_in_any_place_and_form(database: Database) -> None:
    bare, whole = ({"system": "urn:dicom:uid", "value": f"{form}1.2.1"} for form in ("", "urn:oid:"))
    with database.write() as connection:
        put(
            connection,
            study("s1"),
            report("own", identifier=[whole]), report("led", imagingStudy=[{"identifier": bare}]),
            report("ordered", basedOn=[{"identifier": whole}]), report("bare", basedOn=[{"identifier": bare}]),
        )  # fmt: skip
        assert found(connection, "DiagnosticReport", "study=ImagingStudy/s1") == {"own", "led", "ordered", "bare"}


def test_very_many_names_at_once_find_room(database: Database) -> None:
    """PostgreSQL's table of locks has room for some thousands."""
    with database.write() as connection:
        report_links.hold(connection, (f"p{number}" for number in range(40_000)))
        put(connection, study("s1"), by_accession("r1"))
        assert found(connection, "DiagnosticReport", "study=ImagingStudy/s1") == {"r1"}
