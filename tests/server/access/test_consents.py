"""A Decision with consents, constrained scopes, single studies and a caller's own right: its SQL against a slow oracle, on both engines.

What it lets through has to be exactly what the oracle tells, whichever way it is asked for: by row, by id, by search, total and page.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peers.consenting import ACT_CODE, ACT_REASON, CONFIDENTIALITY, RESOURCE_TYPES, Caller, Entry, told
from sqlalchemy import Connection, select

from profiles.fhir.search_request import read
from profiles.smart.consent_terms import Kind
from server.access.consents import Withheld
from server.access.decisions import Decision, Interaction, parse_scopes
from server.records import fhir_search, resources
from server.records.catalogue import PATIENT, SERIES, STUDY
from server.records.fhir_search.terms import RESOURCE
from server.store.db import Database
from server.work.fhir import permission

DEEP = os.environ.get("IMAGESHARE_TEST_DEEP") == "1"
BASE = "https://here.example/fhir"
DCM = "http://dicom.nema.org/resources/ontology/DCM"
Json = dict[str, Any]


# --- the world


def _of(patient: str) -> Json:
    return {"subject": {"reference": f"Patient/{patient}"}}


def _labelled(*labels: tuple[str, str]) -> Json:
    return {"meta": {"security": [{"system": system, "code": code} for system, code in labels]}}


def _coded(code: str) -> Json:
    return {"code": {"coding": [{"system": "urn:c", "code": code}]}}


def _study(id_: str, patient: str, number: int, **content: Any) -> Json:
    uid = f"1.2.{number}"
    return {
        "resourceType": "ImagingStudy", "id": id_, "status": "available", **_of(patient), **content,
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}],
        "series": [{"uid": f"{uid}.{each}", "modality": {"system": DCM, "code": "CT"}} for each in (1, 2)],
    }  # fmt: skip


def _observation(id_: str, **content: Any) -> Json:
    return {"resourceType": "Observation", "id": id_, "status": "final", **content}


IMAGES = {"derivedFrom": [{"reference": "ImagingStudy/s1"}]}
WORLD: tuple[Entry, ...] = (
    Entry({"resourceType": "Patient", "id": "p1"}, ("p1",)),
    Entry({"resourceType": "Patient", "id": "p2"}, ("p2",)),
    Entry({"resourceType": "Practitioner", "id": "d1"}),
    Entry({"resourceType": "Encounter", "id": "e1", "status": "finished", "class": {"code": "AMB"}, **_of("p1")}, ("p1",)),
    Entry(_study("s1", "p1", 1, started="2021-06-01", encounter={"reference": "Encounter/e1"}), ("p1",), ("2021-06-01", "2021-06-01")),
    Entry(_study("s2", "p1", 2, started="2022-03-01", **_labelled((CONFIDENTIALITY, "R"))), ("p1",), ("2022-03-01", "2022-03-01")),
    Entry(_study("s3", "p2", 3, started="2022-03-02"), ("p2",), ("2022-03-02", "2022-03-02")),
    Entry(
        _observation("o1", **_of("p1"), **_coded("A"), effectiveDateTime="2021", performer=[{"reference": "Practitioner/d1"}], **IMAGES),
        ("p1",), ("2021-01-01", "2021-12-31"),
    ),
    Entry(
        _observation(
            "o2", **_of("p1"), **_coded("B"), effectiveDateTime="2022-03-01", encounter={"reference": "Encounter/e1"},
            **_labelled((ACT_CODE, "PSY")),
        ),
        ("p1",), ("2022-03-01", "2022-03-01"),
    ),
    Entry(_observation("o3", **_of("p1"), **_coded("A"), **_labelled((CONFIDENTIALITY, "N"), (ACT_CODE, "ETH"))), ("p1",)),
    Entry(_observation("o4", **_of("p2"), **_coded("A"), **_labelled((CONFIDENTIALITY, "V"))), ("p2",)),
    Entry(_observation("o5", **_coded("A"), subject={"reference": "Group/g"})),
    Entry(_observation("o6", **_of("p1"), **_coded("B"), performer=[{"reference": "Patient/p2"}]), ("p1", "p2")),
    Entry(
        {
            "resourceType": "DiagnosticReport", "id": "r1", "status": "final", **_of("p1"), **_coded("R"), "effectiveDateTime": "2021-06-02",
            "imagingStudy": [{"reference": "ImagingStudy/s1"}], "resultsInterpreter": [{"reference": "Practitioner/d1"}],
            "result": [{"reference": "Observation/o2"}],
        },
        ("p1",), ("2021-06-02", "2021-06-02"),
    ),
    Entry({"resourceType": "Task", "id": "t1", "status": "requested", "intent": "order", "for": {"reference": "Patient/p1"}}, names=("p1",)),
    Entry({"resourceType": "Device", "id": "v1", "patient": {"reference": "Patient/p2"}}, names=("p2",)),
    Entry({"resourceType": "Device", "id": "v2"}),
    Entry(
        {
            "resourceType": "Provenance", "id": "v1", "recorded": "2022-03-05T10:00:00Z", "agent": [{"who": {"display": "x"}}],
            "target": [{"reference": each} for each in ("ImagingStudy/s3", "Task/t1")],
        },
        days=("2022-03-05", "2022-03-05"), names=("p1", "p2"),
    ),
    Entry(
        {
            "resourceType": "Provenance", "id": "v2", "recorded": "2022-03-05T10:00:00Z", "agent": [{"who": {"display": "x"}}],
            "target": [{"reference": each} for each in ("Patient/p1", "Observation/o6")],
        },
        ("p1",), days=("2022-03-05", "2022-03-05"), names=("p2",),
    ),
)  # fmt: skip
NAMES = [each.name for each in WORLD]
TYPES = sorted({name.partition("/")[0] for name in NAMES})


def _fill(connection: Connection) -> None:
    """The resources; and s1 and s3 are in the catalogue, whose series are its own."""
    for entry in WORLD:
        resources.put(connection, entry.json, base=BASE)
    for id_ in ("p1", "p2"):
        connection.execute(PATIENT.insert().values(id=id_, authority="1.9", value=id_))
    rows = {row.id: row.pk for row in connection.execute(select(PATIENT.c.id, PATIENT.c.pk))}
    for id_, patient, number in (("s1", "p1", 1), ("s3", "p2", 3)):
        study = {"id": id_, "uid": f"1.2.{number}", "patient_pk": rows[patient], "attributes": b"{}", "received": 1, "version": 1}
        connection.execute(STUDY.insert().values(study))
        pk = connection.execute(select(STUDY.c.pk).where(STUDY.c.id == id_)).scalar_one()
        for each in (1, 2):
            series = {"uid": f"1.2.{number}.{each}", "study_pk": pk, "attributes": b"{}", "instance_count": 1}
            connection.execute(SERIES.insert().values(series))


@pytest.fixture(scope="module")
def world(module_database_url: str) -> Iterator[Database]:
    opened = Database(module_database_url, durable=False)
    with opened.write() as connection:
        _fill(connection)
    yield opened
    opened.close()


@contextmanager
def _with(database: Database, consents: "Consents") -> Iterator[Connection]:
    """These Consents are there, for a moment."""

    class Undone(Exception):
        pass

    with suppress(Undone), database.write() as connection:
        for number, (patient, consent) in enumerate(consents):
            resources.put(
                connection,
                {"resourceType": "Consent", "id": f"c{number}", **consent, "patient": {"reference": f"Patient/{patient}"}},
                base=BASE,
            )
        yield connection
        raise Undone


# --- what is generated

Consents = list[tuple[str, Json]]


def _list(*each: Any) -> "st.SearchStrategy[list[Any]]":
    return st.lists(st.sampled_from(each), min_size=1, max_size=2, unique_by=str)


def _reference(name: str) -> Json:
    return {"reference": name}


ACTORS = _list(
    *(
        {"role": {"coding": [{"code": "IRCP"}]}, "reference": _reference(each)}
        for each in ("Practitioner/d1", "Practitioner/d2", "Organization/o")
    )
)
PURPOSES = _list(*({"system": ACT_REASON, "code": each} for each in ("TREAT", "HRESCH", "HPAYMT")))
CLASSES = _list(*({"system": RESOURCE_TYPES, "code": each} for each in ("ImagingStudy", "Observation", "Patient")))
CODES = _list(*({"coding": [{"system": "urn:c", "code": each}]} for each in ("A", "B", "Z")))
LABELS = _list(
    *({"system": CONFIDENTIALITY, "code": each} for each in "MNRV"),
    *({"system": ACT_CODE, "code": each} for each in ("PSY", "ETH")),
)
PERIODS = st.sampled_from(
    [
        {"start": "2021-01-01"},
        {"end": "2021-12-31"},
        {"start": "2022-01-01", "end": "2022-12-31"},
        {"start": "2021-06-01", "end": "2021-06-02"},
    ]
)
UIDS = ("1.2.1", "1.2.2", "1.2.1.1", "1.2.2.2", "1.2.9")
DATA = _list(
    *({"meaning": meaning, "reference": _reference(name)} for meaning in ("instance", "related", "dependents") for name in NAMES if name[0] in "IOED"),
    *({"meaning": "authoredby", "reference": _reference(name)} for name in ("Practitioner/d1", "Patient/p2")),
    *({"meaning": "instance", "reference": {"identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}}} for uid in UIDS),
)  # fmt: skip


@st.composite
def provisions(draw: st.DrawFn, depth: int = 0) -> Json:
    """All of it can be understood; what cannot has tests of its own."""
    kind = draw(st.sampled_from(["permit", "deny"]))
    asked: dict[str, Any] = {
        "actor": ACTORS, "purpose": PURPOSES, "class": CLASSES, "securityLabel": LABELS, "data": DATA, "dataPeriod": PERIODS,
        "period": st.sampled_from([{"end": "2020-01-01"}, {"start": "2020-01-01"}, {"start": "2090-01-01"}]),
        **({"code": CODES} if kind == "deny" else {}),
    }  # fmt: skip
    chosen = draw(st.lists(st.sampled_from(sorted(asked)), max_size=2, unique=True))
    made = {"type": kind, **{name: draw(asked[name]) for name in chosen}}
    nested = draw(st.lists(provisions(depth + 1), max_size=2)) if depth < 2 else []
    return {**made, "provision": nested} if nested else made


CONSENTS: st.SearchStrategy[Consents] = st.lists(
    st.tuples(st.sampled_from(["p1", "p1", "p2"]), provisions().map(lambda each: {"status": "active", "provision": each})),
    max_size=3,
)
CALLERS = st.builds(
    Caller,
    st.frozensets(st.sampled_from(["Practitioner/d1", "Organization/o", "Device/x"]), max_size=2),
    st.frozensets(st.sampled_from(["TREAT", "HRESCH", "HPAYMT"]), min_size=1, max_size=2),
    st.booleans(),
    named=st.sampled_from([False, False, True]),
    is_unknown=st.sampled_from([False, False, True]),
)
QUERIES: dict[str, Callable[[Entry], bool]] = {
    "": lambda entry: True,
    "status=final": lambda entry: entry.json.get("status") == "final",
    "code=urn:c|A": lambda entry: "A" in str(entry.json.get("code", "")),
    "_security=R": lambda entry: "'R'" in str(entry.json.get("meta", "")),
    "encounter=Encounter/e1": lambda entry: entry.json.get("encounter") == {"reference": "Encounter/e1"},
}
"""Constraints of scopes, and what meets them. Where a type has no such parameter nothing does."""
KNOWN = {
    "Observation": set(QUERIES), "DiagnosticReport": {"", "status=final", "code=urn:c|A", "_security=R", "encounter=Encounter/e1"},
    "ImagingStudy": {"", "status=final", "_security=R", "encounter=Encounter/e1"}, "Encounter": {"", "status=final", "_security=R"},
    "Patient": {"", "_security=R"}, "Practitioner": {"", "_security=R"},
    "Task": {"", "_security=R"}, "Device": {"", "_security=R"}, "Provenance": {"", "_security=R"},
}  # fmt: skip
Grants = list[tuple[str, str, str]]
GRANTS: st.SearchStrategy[Grants] = st.lists(
    st.tuples(st.sampled_from(["patient", "user"]), st.sampled_from([*TYPES, "*", "*"]), st.sampled_from(["", "", *QUERIES])),
    min_size=1,
    max_size=3,
)
REACHES = st.sampled_from([None, None, frozenset(["p1"]), frozenset(["p1", "p2"]), frozenset[str]()])
STUDIES = st.sampled_from([None, None, None, frozenset(["1.2.1"]), frozenset(["1.2.2", "1.2.3"])])


@dataclass(frozen=True)
class Asking:
    grants: Grants
    patient: str | None
    reach: frozenset[str] | None
    studies: frozenset[str] | None
    caller: Caller

    def decision(self, kept: Withheld) -> Decision:
        words = (f"{context}/{type_}.rs" + (f"?{query}" if query else "") for context, type_, query in self.grants)
        return Decision("app", parse_scopes(" ".join(words)), self.patient, reach=self.reach, studies=self.studies, withheld=kept)

    def may(self, entry: Entry, consents: Consents) -> bool:
        """The oracle: a resource is told if a scope is for it, its patient is the caller's, it is of the studies, and consents let it."""
        type_ = entry.name.partition("/")[0]
        whose = entry.patients[0] if len(entry.patients) == 1 else ""
        for context, of, query in self.grants:
            if of not in ("*", type_) or query not in KNOWN[type_] or not QUERIES[query](entry):
                continue
            if (context == "patient" and (not self.patient or whose != self.patient)) or (
                self.reach is not None and whose not in self.reach
            ):
                continue
            if self.studies is None or self._is_of_studies(entry):
                by_patient: dict[str, list[Json]] = {}
                for patient, consent in consents:
                    by_patient.setdefault(patient, []).append(consent)
                return told(entry, WORLD, by_patient, self.caller)
        return False

    def _is_of_studies(self, entry: Entry) -> bool:
        ids = {
            each.name: each for each in WORLD if each.json.get("identifier", [{}])[0].get("value", "")[8:] in (self.studies or ())
        }
        if entry.name in ids or any(entry.name == f"Patient/{each.patients[0]}" for each in ids.values()):
            return True
        return any(f"'{name}'" in str(entry.json) for name in ids)


ASKING = st.builds(Asking, GRANTS, st.sampled_from(["p1", "p2", None]), REACHES, STUDIES, CALLERS)
EVERY_KIND = frozenset(kind.value for kind in Kind)


def _kept(caller: Caller) -> Withheld:
    usual = caller.named or (caller.permits and caller.purposes <= {"TREAT", "HPAYMT"})
    return Withheld(caller.actors, caller.purposes, usual, EVERY_KIND, named=caller.named, is_unknown=caller.is_unknown)


def _usual(asking: Asking) -> Asking:
    """Purposes beyond treatment, payment and operations need a consent, whatever the setting."""
    caller = asking.caller
    return Asking(
        asking.grants, asking.patient, asking.reach, asking.studies,
        Caller(caller.actors, caller.purposes, _kept(caller).permits, named=caller.named, is_unknown=caller.is_unknown),
    )  # fmt: skip


# --- the property


@pytest.mark.timeout(7200 if DEEP else 900)
@settings(
    max_examples=2000 if DEEP else 40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(consents=CONSENTS, asking=ASKING)
def test_a_decision_tells_what_scopes_rights_and_consents_tell_and_no_more(
    world: Database, consents: Consents, asking: Asking
) -> None:
    asking = _usual(asking)
    expected = {entry.name for entry in WORLD if asking.may(entry, consents)}
    made = asking.decision(_kept(asking.caller))
    with _with(world, consents) as connection:
        for interaction in (Interaction.READ, Interaction.SEARCH):
            assert _by_rows(connection, made, interaction) == expected
        assert _by_id(connection, made) == expected
        assert _by_search(connection, made) == expected


def _by_rows(connection: Connection, made: Decision, interaction: Interaction) -> set[str]:
    found = set()
    for type_ in TYPES:
        rows = select(RESOURCE.c.id).where(RESOURCE.c.type == type_, made.rows(type_, interaction, RESOURCE))
        found |= {f"{type_}/{id_}" for id_ in connection.execute(rows).scalars()}
    return found


def _by_id(connection: Connection, made: Decision) -> set[str]:
    found = set()
    for entry in WORLD:
        type_, _, id_ = entry.name.partition("/")
        whom = made.some_of(type_, Interaction.READ)
        whose = entry.patients[0] if len(entry.patients) == 1 else ""
        if (whom is None or whose in whom) and made.sees(connection, type_, Interaction.READ, id_):
            found.add(entry.name)
    return found


def _by_search(connection: Connection, made: Decision) -> set[str]:
    found = set()
    for type_ in TYPES:
        search, matches, after = read((type_,), (), base=BASE, now=0), list[str](), None
        while True:
            page = fhir_search.page(
                connection, search, decision_where=permission.allowed(made), confined=False, count=2, began=1 << 60, after=after
            )
            matches += [f"{match.type}/{match.id}" for match in page.matches]
            if (after := page.next) is None:
                break
        assert fhir_search.total(
            connection, search, decision_where=permission.allowed(made), confined=False, began=1 << 60
        ) == len(matches)
        found |= set(matches)
    return found
