"""Reports and studies of one patient that many write at once: nobody waits in a ring, and no link is lost or left over."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

from peers.fhir_search import BASE, LATER, everybody
from sqlalchemy import Connection

from profiles.fhir.search_request import read
from server.records import fhir_search, parameters, resources
from server.store.db import Database

ON_BOTH_ENGINES = True
ROUNDS = 25
ACSN = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}]}


def study(id_: str, patient: str, number: str = "A1") -> dict[str, Any]:
    return {
        "resourceType": "ImagingStudy", "id": id_, "status": "available", "subject": {"reference": f"Patient/{patient}"},
        "identifier": [{"type": ACSN, "value": number}],
    }  # fmt: skip


def report(id_: str, patient: str, said: str = "", number: str = "A1") -> dict[str, Any]:
    return {
        "resourceType": "DiagnosticReport", "id": id_, "status": "final", "code": {"text": "x"}, "conclusion": said or "x",
        "subject": {"reference": f"Patient/{patient}"}, "identifier": [{"type": ACSN, "value": number}],
    }  # fmt: skip


def put(*given: dict[str, Any]) -> Callable[[Connection], None]:
    def work(connection: Connection) -> None:
        for each in given:
            resources.put(connection, each, base=BASE)

    return work


def at_once(database: Database, writers: Sequence[Callable[[int], Callable[[Connection], None]]]) -> list[str]:
    """Runs each of them `ROUNDS` times, each in a thread; what they raised."""
    errors: list[str] = []
    begin = threading.Barrier(len(writers))

    def run(make: Callable[[int], Callable[[Connection], None]]) -> None:
        begin.wait()
        for number in range(ROUNDS):
            try:
                with database.write() as connection:
                    make(number)(connection)
            except Exception as error:  # noqa: BLE001 whatever it was: nobody's turn ends here
                errors.append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=run, args=[each]) for each in writers]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return errors


def led(connection: Connection, study_id: str) -> set[str]:
    search = read(
        ("DiagnosticReport",), [("study", f"ImagingStudy/{study_id}")], base=BASE, now=LATER, custom=parameters.active(connection)
    )
    page = fhir_search.page(
        connection, search, decision_where=everybody, confined=False, count=100, began=LATER, only=frozenset()
    )
    return {each.id for each in page.matches}


def test_a_report_and_its_study_never_wait_for_each_other(database: Database) -> None:
    with database.write() as connection:
        put(study("s1", "p1"), study("s2", "p2"), report("r1", "p1"), report("r2", "p2"))(connection)
    errors = at_once(
        database,
        [
            lambda number: put(report("r1", "p1", str(number))),
            lambda number: put(report("r2", "p2", str(number))),
            lambda number: put(study("s1", f"p{1 + number % 2}")),
            lambda number: put(study("s2", f"p{1 + (number + 1) % 2}")),
            lambda number: put(report("r3", f"p{1 + number % 2}", str(number))),
        ],
    )
    assert errors == []
    with database.read() as connection:
        stands = {id_: resources.patient_of(connection, type_, id_) for type_, id_ in (
            ("ImagingStudy", "s1"), ("ImagingStudy", "s2"), ("DiagnosticReport", "r1"), ("DiagnosticReport", "r2"), ("DiagnosticReport", "r3"),
        )}  # fmt: skip
        for each in ("s1", "s2"):
            assert led(connection, each) == {id_ for id_ in ("r1", "r2", "r3") if stands[id_] == stands[each]}


def test_many_that_are_created_at_once_by_two(database: Database) -> None:
    """Of several patients, in whatever order."""

    def made(prefix: str, number: int, *, backwards: bool) -> Callable[[Connection], None]:
        kind = study if backwards else report
        given = [kind(f"{prefix}{number}-{each}", f"p{each}", number=f"A{number}") for each in range(5)]

        def work(connection: Connection) -> None:
            resources.create_all(connection, given[::-1] if backwards else given, base=BASE)

        return work

    errors = at_once(
        database, [lambda number: made("s", number, backwards=True), lambda number: made("r", number, backwards=False)]
    )
    assert errors == []
    with database.read() as connection:
        for number in range(ROUNDS):
            for each in range(5):
                assert led(connection, f"s{number}-{each}") == {f"r{number}-{each}"}


def test_a_study_that_moves_while_its_reports_come_leaves_none_behind(database: Database) -> None:
    with database.write() as connection:
        put(study("s1", "p1"))(connection)
    errors = at_once(
        database,
        [
            lambda number: put(study("s1", f"p{2 - number % 2}")),
            lambda number: put(report(f"a{number}", "p1")),
            lambda number: put(report(f"b{number}", "p2")),
        ],
    )
    assert errors == []
    with database.read() as connection:
        patient = resources.patient_of(connection, "ImagingStudy", "s1")
        assert led(connection, "s1") == {f"{'a' if patient == 'p1' else 'b'}{number}" for number in range(ROUNDS)}
