"""The example Consents of IHE ITI Privacy Consent on FHIR (PCF), and what the access tokens that it gives with each would open.

There a server shares nothing without a Consent, which is the setting `consent_default = "deny"`.
"""

from typing import Any

import pytest
from peers.consenting import ACT_CODE, ACT_REASON, CONFIDENTIALITY
from sqlalchemy import Connection, select

from server.access.consents import Withheld, withheld
from server.records import resources
from server.records.fhir_search.terms import RESOURCE
from server.store.db import Database

Json = dict[str, Any]
DOCTOR, OTHER, RESEARCHER = "Practitioner/ex-practitioner", "Practitioner/other", "Organization/ex-org-researcher"


def _observation(id_: str, date: str, *labels: tuple[str, str], author: str = OTHER, **content: Any) -> Json:
    made = {
        "resourceType": "Observation", "id": id_, "status": "final", "code": {"text": id_}, "subject": {"reference": "Patient/ex-patient"},
        "effectiveDateTime": date, "performer": [{"reference": author}], **content,
    }  # fmt: skip
    return {**made, "meta": {"security": [{"system": system, "code": code} for system, code in labels]}} if labels else made


WORLD: list[Json] = [
    {"resourceType": "Patient", "id": "ex-patient"},
    {"resourceType": "Encounter", "id": "ex-encounter", "status": "finished", "class": {"code": "AMB"}, "subject": {"reference": "Patient/ex-patient"}},
    _observation("alcoholUse", "2021-02-03", (CONFIDENTIALITY, "R"), (ACT_CODE, "ETH")),
    _observation("bloodSugar", "2022-05-06", author=DOCTOR),
    _observation("weight", "2022-12-31T23:59:59Z", encounter={"reference": "Encounter/ex-encounter"}),
    _observation("mood", "2019-01-01", (CONFIDENTIALITY, "R"), (ACT_CODE, "PSY")),
    _observation("trauma", "2019-01-01", (CONFIDENTIALITY, "R"), (ACT_CODE, "SEX")),
]  # fmt: skip
ALL = {"alcoholUse", "bloodSugar", "weight", "mood", "trauma"}
NORMAL = {"bloodSugar", "weight"}


def _codes(system: str, *codes: str) -> list[Json]:
    return [{"system": system, "code": code} for code in codes]


USUAL: Json = {"type": "permit", "purpose": _codes(ACT_REASON, "TREAT", "HPAYMT", "HOPERAT")}
N, R = _codes(CONFIDENTIALITY, "N"), _codes(CONFIDENTIALITY, "R")
IN_2022 = {"start": "2022-01", "end": "2022-12"}


def _data(meaning: str, *names: str) -> Json:
    return {"data": [{"meaning": meaning, "reference": {"reference": name}} for name in names]}


def _actor(name: str) -> Json:
    return {
        "actor": [
            {
                "role": {"coding": _codes("http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "IRCP")},
                "reference": {"reference": name},
            }
        ]
    }


def _but(kind: str, **content: Any) -> Json:
    return {"provision": [{"type": kind, **content}]}


EXAMPLES: dict[str, tuple[Json, dict[tuple[str, str], set[str]]]] = {
    "basic-treat": (USUAL, {(OTHER, "TREAT"): ALL, (OTHER, "HPAYMT"): ALL, (OTHER, "HRESCH"): set()}),
    "expired-treat": ({**USUAL, "period": {"end": "2022-12-31"}}, {(OTHER, "TREAT"): set()}),
    "basic-reject": ({**USUAL, "type": "deny"}, {(OTHER, "TREAT"): set(), (DOCTOR, "HOPERAT"): set()}),
    "intermediate-timeframe": ({**USUAL, "dataPeriod": IN_2022}, {(OTHER, "TREAT"): NORMAL}),
    "intermediate-not-timeframe": ({**USUAL, **_but("deny", dataPeriod=IN_2022)}, {(OTHER, "TREAT"): ALL - NORMAL}),
    "intermediate-authoredby": ({**USUAL, **_data("authoredby", DOCTOR)}, {(OTHER, "TREAT"): {"bloodSugar"}}),
    "intermediate-not-authoredby": ({**USUAL, **_but("deny", **_data("authoredby", DOCTOR))}, {(OTHER, "TREAT"): ALL - {"bloodSugar"}}),
    "intermediate-encounter": ({**USUAL, **_data("related", "Encounter/ex-encounter")}, {(OTHER, "TREAT"): {"weight"}}),
    "intermediate-not-encounter": (
        {**USUAL, **_but("deny", **_data("related", "Encounter/ex-encounter"))}, {(OTHER, "TREAT"): ALL - {"weight"}},
    ),
    "intermediate-data": (
        {**USUAL, **_data("instance", "Observation/alcoholUse", "Observation/weight", "Encounter/ex-encounter")},
        {(OTHER, "TREAT"): {"alcoholUse", "weight"}},
    ),
    "intermediate-not-data": ({**USUAL, **_but("deny", **_data("instance", "Observation/alcoholUse"))}, {(OTHER, "TREAT"): ALL - {"alcoholUse"}}),
    "intermediate-purpose": (
        {"type": "permit", "purpose": _codes("http://example.org/policies/purposeOfUse", "FooBar"), **_actor(RESEARCHER)},
        {(RESEARCHER, "http://example.org/policies/purposeOfUse|FooBar"): ALL, (RESEARCHER, "TREAT"): set(), (OTHER, "http://example.org/policies/purposeOfUse|FooBar"): set()},
    ),
    "dissent-break-glass": (
        {"type": "deny", "provision": [{"type": "permit", "purpose": _codes(ACT_REASON, "BTG")}]}, {(OTHER, "TREAT"): set(), (DOCTOR, "BTG"): ALL},
    ),
    "advanced-normal": ({**USUAL, "securityLabel": N}, {(OTHER, "TREAT"): NORMAL}),
    "advanced-normal-restricted": ({**USUAL, "securityLabel": N + R}, {(OTHER, "TREAT"): ALL}),
    "advanced-normal-not-restricted": ({**USUAL, "securityLabel": N, **_but("deny", securityLabel=R)}, {(OTHER, "TREAT"): NORMAL}),
    "advanced-normal-focused-restricted": (
        {**USUAL, "securityLabel": N, **_but("permit", securityLabel=R, **_actor(DOCTOR))}, {(OTHER, "TREAT"): NORMAL, (DOCTOR, "TREAT"): ALL},
    ),
    "advanced-normal-focused-psy": (
        {**USUAL, "securityLabel": N, **_but("permit", securityLabel=_codes(ACT_CODE, "PSY"), **_actor(DOCTOR))},
        {(OTHER, "TREAT"): NORMAL, (DOCTOR, "TREAT"): NORMAL | {"mood"}},
    ),
    "advanced-normal-focused-psy-or-sex": (
        {**USUAL, "securityLabel": N, **_but("permit", securityLabel=_codes(ACT_CODE, "PSY", "SEX"), **_actor(DOCTOR))},
        {(OTHER, "TREAT"): NORMAL, (DOCTOR, "TREAT"): NORMAL | {"mood", "trauma"}},
    ),
    "advanced-normal-break-glass-restricted": (
        {**USUAL, "securityLabel": N, **_but("permit", securityLabel=R, purpose=_codes(ACT_REASON, "BTG"))}, {(OTHER, "TREAT"): NORMAL, (DOCTOR, "BTG"): ALL},
    ),
}  # fmt: skip
"""By the name that PCF gives it: the provision, and what somebody sees who declares a purpose."""


@pytest.fixture
def world(database: Database) -> Database:
    with database.write() as connection:
        for each in WORLD:
            resources.put(connection, each)
    return database


def _seen(connection: Connection, held: Withheld) -> set[str]:
    where = RESOURCE.c.type == "Observation", held.told("Observation", RESOURCE)
    return set(connection.execute(select(RESOURCE.c.id).where(*where)).scalars())


def _held(connection: Connection, actor: str, purpose: str, *, permits: bool = False) -> Withheld:
    user = actor if actor.startswith("Practitioner/") else ""
    purposes = frozenset([purpose])
    return withheld(
        connection, user=user, actors=frozenset([actor]), purposes=purposes, patients=None, patient="ex-patient", permits=permits
    )


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_of_pcf_opens_what_its_token_would(world: Database, name: str) -> None:
    provision, expected = EXAMPLES[name]
    with world.write() as connection:
        assert _seen(connection, _held(connection, OTHER, "TREAT")) == set()
        consent = {
            "resourceType": "Consent",
            "id": "c",
            "status": "active",
            "patient": {"reference": "Patient/ex-patient"},
            "provision": provision,
        }
        resources.put(connection, consent)
        for (actor, purpose), seen in expected.items():
            assert _seen(connection, _held(connection, actor, purpose)) == seen, (actor, purpose)
        for status in ("inactive", "rejected", "entered-in-error"):
            resources.put(connection, {**consent, "status": status})
            assert _seen(connection, _held(connection, OTHER, "TREAT")) == set()
            assert _seen(connection, _held(connection, OTHER, "TREAT", permits=True)) == ALL


def test_who_sees_something_of_a_patient_sees_who_that_is(world: Database) -> None:
    with world.write() as connection:
        provision = EXAMPLES["intermediate-timeframe"][0]
        resources.put(
            connection,
            {
                "resourceType": "Consent",
                "id": "c",
                "status": "active",
                "patient": {"reference": "Patient/ex-patient"},
                "provision": provision,
            },
        )
        held = _held(connection, OTHER, "TREAT", permits=True)
        told = select(RESOURCE.c.id).where(RESOURCE.c.type == "Patient", held.told("Patient", RESOURCE))
        assert connection.execute(told).scalars().all() == ["ex-patient"]
