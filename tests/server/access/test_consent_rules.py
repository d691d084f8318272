"""Rules of Consents as rows: when they are there, whose they are, and what of them concerns a caller."""

from pathlib import Path
from typing import Any

import pytest
from alembic import command
from peers.generated import Made, send
from peers.imageshare import node, publish_all
from sqlalchemy import Connection, literal, select

from profiles.audit_event import Agent
from server.access.consents import NOTHING, Withheld, withheld, withheld_from_proxy
from server.access.decisions import Decision, Interaction, parse_scopes
from server.records import epoch, resources
from server.records.catalogue import PATIENT
from server.records.fhir_search.matches import Whose
from server.records.fhir_search.terms import RESOURCE
from server.store.consent_rows import RULE, TERM
from server.store.db import Database, micros
from server.store.migrations import configuration, migrate
from server.store.tables import Reindexing
from server.work.corrections import Corrector
from server.work.reconcile import Actor, Reconciler

Json = dict[str, Any]
LABELLED: Json = {"type": "permit", "provision": [{"type": "deny", "securityLabel": [{"system": "urn:s", "code": "x"}]}]}


def _consent(patient: str = "p", provision: Json | None = None, id_: str = "c", **content: Any) -> Json:
    made = {"resourceType": "Consent", "id": id_, "status": "active", "patient": {"reference": f"Patient/{patient}"}}
    return {**made, "provision": provision or {"type": "deny"}, **content}


def _held(connection: Connection, **given: Any) -> Withheld:
    asked = {
        "user": "Practitioner/d",
        "actors": frozenset(["Practitioner/d"]),
        "purposes": frozenset(),
        "patients": None,
        "permits": True,
    }
    return withheld(connection, **{**asked, **given})


@pytest.fixture
def filled(database: Database) -> Database:
    with database.write() as connection:
        for id_ in ("p", "q"):
            resources.put(connection, {"resourceType": "Patient", "id": id_})
            observation = {"resourceType": "Observation", "id": f"o{id_}", "status": "final", "code": {"text": "x"}}
            resources.put(connection, {**observation, "subject": {"reference": f"Patient/{id_}"}})
    return database


def _told(connection: Connection, held: Withheld, type_: str = "Observation") -> list[str]:
    where = RESOURCE.c.type == type_, held.told(type_, RESOURCE)
    return sorted(connection.execute(select(RESOURCE.c.id).where(*where)).scalars())


def test_rules_come_and_go_with_the_consent_and_raise_the_epoch(filled: Database) -> None:
    seen = []
    for content in (_consent(), _consent(), _consent(provision=LABELLED), _consent(status="inactive"), _consent(), None):
        with filled.write() as connection:
            if content is None:
                resources.delete(connection, "Consent", "c")
            else:
                resources.put(connection, content)
        with filled.read() as connection:
            rules, terms = (len(connection.execute(select(table)).all()) for table in (RULE, TERM))
            seen.append((rules, terms, epoch.current(connection)))
    first = seen[0][2]
    assert seen == [(1, 0, first), (1, 0, first), (2, 1, first + 1), (0, 0, first + 2), (1, 0, first + 3), (0, 0, first + 4)]


def test_a_consent_that_is_created_with_others_has_its_rules(filled: Database) -> None:
    with filled.write() as connection:
        resources.create_all(connection, [_consent(), _consent("q", id_="d")])
        assert _told(connection, _held(connection)) == []


def test_who_is_not_concerned_has_nothing_withheld(filled: Database) -> None:
    """So that everything costs what it did before there were consents."""
    with filled.write() as connection:
        assert _held(connection) is NOTHING
        resources.put(connection, _consent())
        assert not _held(connection).is_nothing
        assert _held(connection, patients=frozenset(["q"])) is NOTHING
        assert not _held(connection, patients=frozenset(["q"]), permits=False).is_nothing
        assert not _held(connection, patients=frozenset(["p", "q"])).is_nothing


@pytest.mark.parametrize(
    ("purposes", "permits", "told"),
    [
        ((), True, ["op", "oq"]), ((), False, []), (("TREAT",), True, ["op", "oq"]), (("HPAYMT", "ETREAT"), True, ["op", "oq"]),
        (("HRESCH",), True, []), (("TREAT", "HMARKT"), True, []), (("BTG",), True, ["op", "oq"]),
    ],
)  # fmt: skip
def test_what_no_consent_speaks_of_is_open_for_treatment_payment_and_operations(
    filled: Database, purposes: tuple[str, ...], permits: bool, told: list[str]
) -> None:
    with filled.read() as connection:
        held = _held(connection, purposes=frozenset(purposes), permits=permits)
        assert _told(connection, held) == told
        assert _told(connection, held, "Patient") == sorted(each[1:] for each in told)


def test_who_declares_no_purpose_treats(filled: Database) -> None:
    purpose = [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "TREAT"}]
    with filled.write() as connection:
        resources.put(connection, _consent(provision={"type": "deny", "purpose": purpose}))
        assert _told(connection, _held(connection)) == ["oq"]
        assert _told(connection, _held(connection, purposes=frozenset(["ETREAT"]))) == ["oq"]
        assert _told(connection, _held(connection, purposes=frozenset(["HPAYMT"]))) == ["op", "oq"]


def test_the_clock_ends_a_consent_without_anybody_writing(filled: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    provision = {"type": "deny", "period": {"start": "2031-01-01", "end": "2031-12-31"}}
    with filled.write() as connection:
        resources.put(connection, _consent(provision=provision))
        held = _held(connection)
        for year, told in ((2030, ["op", "oq"]), (2031, ["oq"]), (2032, ["op", "oq"])):
            monkeypatch.setattr("server.access.consent_sql.micros", lambda year=year: (year - 1970) * 31_557_600_000_000 + 10**13)
            assert _told(connection, held) == told


def test_what_has_no_row_is_withheld_if_anything_of_its_patient_is(filled: Database) -> None:
    with filled.write() as connection:
        resources.put(connection, _consent(provision=LABELLED))
        held = _held(connection)
        for patient, is_told in (("p", False), ("q", True), ("", True)):
            where = held.told("AuditEvent", Whose(literal(patient)))
            assert (connection.execute(select(literal(1)).where(where)).first() is not None) is is_told
            made = Decision("x", parse_scopes("user/*.rs"), withheld=held)
            assert made.sees_whose(connection, "Task", Interaction.READ, patient) is is_told
        assert _told(connection, held) == ["op", "oq"]


def test_while_rows_are_made_anew_nothing_is_told_that_they_might_withhold(filled: Database) -> None:
    """After an update of the server: a label that is not in the index yet is not one that is not there."""
    with filled.write() as connection:
        resources.put(connection, _consent(provision=LABELLED))
        held = _held(connection)
        assert _told(connection, held) == ["op", "oq"]
        connection.execute(Reindexing.__table__.insert().values(type="Observation", codes="*", began=micros()))  # type: ignore[attr-defined]
        assert _told(connection, held) == ["oq"]
        assert _told(connection, held, "Patient") == ["p", "q"]


def test_a_merged_patients_consents_are_about_the_records_of_both(tmp_path: Path, database_url: str) -> None:
    with node(tmp_path / "data", database_url) as opened:
        send(opened, Made(), Made(study=3, patient="P2"))
        publish_all(opened)
        with opened.database.write() as connection:
            ids = {row.value: row.id for row in connection.execute(select(PATIENT.c.value, PATIENT.c.id))}
            resources.put(connection, _consent(ids["P1"]))
            assert len(_told(connection, _held(connection), "ImagingStudy")) == 1
        reconciler = Reconciler(opened.settings, opened.database, opened.blobs, opened.installation, opened.trail)
        corrector = Corrector(reconciler, opened.database, opened.blobs, opened.installation.patients.oid)
        corrector.merge(ids["P1"], ids["P2"], actor=Actor(Agent(identifier="tester")))
        with opened.database.write() as connection:
            assert _told(connection, _held(connection), "ImagingStudy") == []
            assert _told(connection, _held(connection), "Patient") == []
            resources.put(connection, _consent(ids["P1"], status="inactive"))
            assert len(_told(connection, _held(connection), "ImagingStudy")) == 2
            resources.put(connection, _consent(ids["P1"]))
            assert _told(connection, _held(connection), "ImagingStudy") == []
        _made_anew(opened.database)
        with opened.database.read() as connection:
            assert {row.patient for row in connection.execute(select(RULE))} == {ids["P1"], ids["P2"]}


def test_consents_that_were_here_before_have_their_rules_after_the_migration(database: Database) -> None:
    with database.write() as connection:
        resources.put(connection, {"resourceType": "Patient", "id": "p"})
        resources.put(connection, _consent())
        resources.put(connection, _consent(id_="gone"))
        resources.delete(connection, "Consent", "gone")
    _made_anew(database)
    with database.read() as connection:
        assert [row.patient for row in connection.execute(select(RULE))] == ["p"]
        assert _told(connection, _held(connection), "Patient") == []


def _made_anew(database: Database) -> None:
    """Down to the revision that has no rules, and up again."""
    with database.rebuild() as connection:
        config = configuration()
        config.attributes["connection"] = connection
        command.downgrade(config, "0011")
    migrate(database)


def test_a_proxy_is_held_by_denials_that_name_her_or_somebody_who_is_not_known(filled: Database) -> None:
    """Not by one of everybody: a proxy stands in the patient's place."""
    role, treat = (
        {"coding": [{"code": "IRCP"}]},
        {"purpose": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "TREAT"}]},
    )
    parent, group, other = (
        {"role": role, "reference": {"reference": each}} for each in ("RelatedPerson/parent", "Group/g", "Practitioner/d")
    )
    for actors, more, is_held in (
        ([], {}, False), ([other], {}, False), ([parent], {}, True), ([group], {}, True), ([parent, group], {}, True), ([parent], treat, True),
        ([other, group], {}, True),
    ):  # fmt: skip
        provision = {"type": "deny", **({"actor": actors} if actors else {}), **more}
        with filled.write() as connection:
            resources.put(connection, _consent(provision={"type": "permit", "provision": [provision]}))
        with filled.read() as connection:
            proxy = withheld_from_proxy(connection, user="RelatedPerson/parent", patients={"p"}, own=frozenset())
            assert ("p" in _told(connection, proxy, "Patient")) is not is_held, provision
            assert withheld_from_proxy(connection, user="RelatedPerson/parent", patients={"p"}, own=frozenset({"p"})) == NOTHING
