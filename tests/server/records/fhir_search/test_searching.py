"""Searches against a slow oracle in Python that knows no SQL (`peers.searching`), in random small worlds, on both engines."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peers.fhir_search import BASE, LATER
from peers.searching import Kept, World
from sqlalchemy import ColumnElement, Connection, true

from profiles.fhir.query import Search
from profiles.fhir.search_request import in_compartment, read
from server.records import fhir_search, parameters, resources
from server.records.fhir_search import Position, ResourceRow, conditions, whose
from server.store.db import Database

SYSTEM = "http://example.org/codes"
UCUM = "http://unitsofmeasure.org"
Json = dict[str, Any]


@contextmanager
def opened(database_url: str) -> Iterator[Database]:
    database = Database(database_url, durable=False)
    try:
        yield database
    finally:
        database.close()


@contextmanager
def nothing_kept(database: Database) -> Iterator[Connection]:
    """A connection whose work is undone: each example begins empty."""

    class Undone(Exception):
        pass

    with suppress(Undone), database.write() as connection:
        yield connection
        raise Undone


def asked(types: str, query: str, compartment: tuple[str, str] | None = None) -> Search:
    """`types` joined by commas; `query` as behind the `?`, without percent-encoding."""
    pairs = [tuple(each.split("=", 1)) for each in query.split("&")] if query else []
    found = read(tuple(types.split(",")), pairs, base=BASE, now=LATER)  # type: ignore[arg-type]
    return in_compartment(found, *compartment) if compartment else found


def put(connection: Connection, made: Json, now: int, pk: int) -> Kept:
    resources.put(connection, made, now=now, base=BASE)
    return Kept(pk, made, parameters.indexer(connection, made["resourceType"]).index(made, BASE), now)


def everything(connection: Connection, search: Search, patients: Sequence[str] | None, count: int) -> list[str]:
    """All pages, one after the other."""

    def where(_: str, row: ResourceRow) -> ColumnElement[bool]:
        return true() if patients is None else whose(row).in_(patients)

    found: list[str] = []
    after: Position | None = None
    only = frozenset() if patients is None else frozenset(patients) if len(patients) == 1 else None
    while True:
        page = fhir_search.page(
            connection,
            search,
            decision_where=where,
            confined=patients is not None,
            count=count,
            began=LATER,
            after=after,
            only=only,
        )
        assert len(page.matches) <= count
        found += [match.id for match in page.matches]
        if page.next is None:
            total = fhir_search.total(connection, search, decision_where=where, confined=patients is not None, began=LATER)
            assert total == len(found)
            return found
        after = Position.from_plain(page.next.plain())


# --- what there is

NAMES = ["Müller", "Muller", "O'Brien", "van der Berg", "MÜLLERIN", "李", "Łukasz", "a%b_c"]
DATES = ["2025", "2026", "2026-01", "2026-01-07", "2026-01-08", "2026-01-07T23:30:00Z", "2026-01-07T23:30:00-02:00", "1969-12-31", "1970-01-01"]  # fmt: skip
PATIENTS = ["p1", "p2", "p3"]
CODES = ["x", "y", "Z"]


def maybe(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    return st.fixed_dictionaries({}, optional=fields)


def some(values: st.SearchStrategy[Any], most: int = 2) -> st.SearchStrategy[list[Any]]:
    return st.lists(values, min_size=1, max_size=most)


CODING = st.one_of(
    st.sampled_from(CODES).map(lambda code: {"system": SYSTEM, "code": code, "display": f"Code {code} of müll"}),
    st.sampled_from(CODES).map(lambda code: {"code": code}),
    st.sampled_from(CODES).map(lambda code: {"system": "http://other.example", "code": code}),
)
CONCEPT = st.one_of(some(CODING).map(lambda codings: {"coding": codings}), st.just({"text": "Only words"}))
IDENTIFIER = st.sampled_from([
    {"system": "urn:a", "value": "1"}, {"system": "urn:a", "value": "2"}, {"value": "1"},
    {"type": {"coding": [{"system": SYSTEM, "code": "MR"}], "text": "Medical record"}, "system": "urn:b", "value": "1"},
])  # fmt: skip
PERIOD = st.sampled_from([{"start": a} for a in DATES] + [{"end": a} for a in DATES] + [{"start": "2025", "end": "2026-01-07"}])
UNITS = st.sampled_from([
    {"unit": "mg", "system": UCUM, "code": "mg"}, {"unit": "gram", "system": UCUM, "code": "g"}, {"unit": "mg"}, {},
    {"system": "http://other.example", "code": "mg"},
])  # fmt: skip
QUANTITY = st.tuples(st.sampled_from(["5", "5.4", "5.40", "0.005", "5000", "-1"]), UNITS).map(
    lambda each: {"value": Decimal(each[0]), **each[1]}
)
PATIENT_REFERENCE = st.sampled_from(
    [{"reference": f"Patient/{each}"} for each in [*PATIENTS, "p9"]] + [{"reference": f"{BASE}/Patient/p1"}]
)
PRACTITIONER_REFERENCE = st.sampled_from([
    {"reference": "Practitioner/d1"}, {"reference": "Practitioner/d2"}, {"display": "somebody"}, {"identifier": {"system": "urn:a", "value": "1"}},
    {"reference": "https://there.example/Practitioner/d1"},
])  # fmt: skip
PATIENT = maybe(
    name=some(maybe(family=st.sampled_from(NAMES), given=some(st.sampled_from(NAMES)))),
    gender=st.sampled_from(["male", "female"]), birthDate=st.sampled_from([each for each in DATES if "T" not in each]), identifier=some(IDENTIFIER),
    active=st.booleans(), generalPractitioner=some(PRACTITIONER_REFERENCE), deceasedDateTime=st.sampled_from(DATES),
    meta=st.sampled_from([{"tag": [{"system": SYSTEM, "code": "x"}]}, {"profile": ["http://p.example/a|1.0"]}]),
)  # fmt: skip
OBSERVATION = st.builds(
    lambda fixed, effective, value: {**fixed, **effective, **value},
    st.fixed_dictionaries(
        {"status": st.sampled_from(["final", "amended"]), "code": CONCEPT},
        optional={
            "subject": PATIENT_REFERENCE, "performer": some(PRACTITIONER_REFERENCE), "identifier": some(IDENTIFIER),
            "hasMember": some(st.sampled_from([{"reference": f"Observation/o{each}"} for each in range(4)])),
            "component": some(st.fixed_dictionaries({"code": CONCEPT, "valueQuantity": QUANTITY})),
            "category": some(CONCEPT),
        },
    ),
    st.one_of(st.just({}), st.sampled_from(DATES).map(lambda each: {"effectiveDateTime": each}), PERIOD.map(lambda each: {"effectivePeriod": each})),
    st.one_of(
        st.just({}), QUANTITY.map(lambda each: {"valueQuantity": each}), st.sampled_from(NAMES).map(lambda each: {"valueString": each}),
        CONCEPT.map(lambda each: {"valueCodeableConcept": each}),
    ),
)  # fmt: skip
RISK = maybe(
    subject=PATIENT_REFERENCE,
    prediction=some(maybe(probabilityDecimal=st.sampled_from([Decimal("0.5"), Decimal("0.50"), Decimal(1)]), probabilityRange=st.sampled_from([{"low": {"value": Decimal("0.2")}, "high": {"value": Decimal("0.6")}}]))),
).map(lambda each: {"status": "final", **each})  # fmt: skip
VALUE_SET = st.sampled_from(
    ["http://v.example/a", "http://v.example/a/b", "http://v.example/a/b/c", "urn:oid:1.2", "HTTP://v.example/a"]
).map(lambda url: {"status": "active", "url": url})
PRACTITIONER = maybe(name=some(maybe(family=st.sampled_from(NAMES))), identifier=some(IDENTIFIER))
WORLDS = st.fixed_dictionaries({
    "Patient": st.lists(PATIENT, max_size=3), "Practitioner": st.lists(PRACTITIONER, max_size=2),
    "Observation": st.lists(OBSERVATION, max_size=6), "RiskAssessment": st.lists(RISK, max_size=3), "ValueSet": st.lists(VALUE_SET, max_size=3),
})  # fmt: skip
_IDS = {"Patient": "p", "Practitioner": "d", "Observation": "o", "RiskAssessment": "r", "ValueSet": "v"}
MOMENTS = st.lists(st.integers(1_790_000_000_000_000, 1_790_000_000_005_000), min_size=20, max_size=20)

# --- what is asked

PREFIXES = ["", "eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"]
TOKENS = ["x", f"{SYSTEM}|x", f"{SYSTEM}|", "|x", "x,y", "nothing", "Z"]
DATE_VALUES = [prefix + date for prefix in PREFIXES for date in DATES]
NUMBERS = [prefix + number for prefix in PREFIXES for number in ("5", "5.4", "5.40", "0.5", "5e3")]
QUANTITIES = [
    number + unit
    for number in NUMBERS
    for unit in ("", f"|{UCUM}|mg", f"|{UCUM}|g", "||mg", "||gram", "|http://other.example|mg")
]
STRINGS = ["mull", "Müller", "o'brien", "obrien", "berg", "van d", "李", "LUKASZ", "a%b_c", "%", "_", "er", "Muller,berg"]


def parameter(name: str, values: Sequence[str]) -> st.SearchStrategy[str]:
    return st.sampled_from(values).map(lambda value: f"{name}={value}")


def named(names: Sequence[str], values: Sequence[str]) -> st.SearchStrategy[str]:
    return st.tuples(st.sampled_from(names), st.sampled_from(values)).map("=".join)


IDENTIFIERS = ["1", "urn:a|1", "urn:a|", "|1", "urn:a|1,urn:a|2", "9"]
MISSING = ["true", "false"]
COMMON = st.one_of(
    parameter("_id", ["p1", "o1", "o1,o2", "nobody"]), named(["_id:not"], ["p1", "o1"]), parameter("_lastUpdated", [f"{each}2026-09-21T14:13:20.002Z" for each in PREFIXES]),
)  # fmt: skip
STRING_NAMES = ["", ":exact", ":contains"]
ASKED = {
    "Patient": st.one_of(
        named([f"family{each}" for each in STRING_NAMES] + [f"name{each}" for each in STRING_NAMES], STRINGS),
        named(["gender", "gender:not"], ["male", "female,male", "http://hl7.org/fhir/administrative-gender|male"]),
        named(["birthdate", "death-date"], DATE_VALUES), parameter("identifier", IDENTIFIERS), parameter("identifier:of-type", [f"{SYSTEM}|MR|1", f"{SYSTEM}|MR|2"]),
        named(["identifier:text"], ["medical", "rec med", "cord"]), parameter("active", ["true", "false"]),
        parameter("general-practitioner", ["Practitioner/d1", "d1", "https://there.example/Practitioner/d1", f"{BASE}/Practitioner/d2"]),
        parameter("general-practitioner:identifier", ["urn:a|1", "2"]), named(["general-practitioner.name", "general-practitioner:Practitioner.family:contains"], STRINGS),
        named(["_has:Observation:patient:code", "_has:Observation:subject:code:not"], TOKENS),
        named(["_has:Observation:patient:_has:Observation:has-member:code"], TOKENS), named(["_has:Observation:subject:performer.family"], STRINGS),
        named([f"{each}:missing" for each in ("family", "gender", "birthdate", "identifier", "general-practitioner", "_tag")], MISSING),
        parameter("_tag", TOKENS), parameter("_profile", ["http://p.example/a|1.0", "http://p.example/a", "http://p.example/b"]), named(["phonetic"], ["Mueller", "Miller"]),
        parameter("_filter", ["family co er or gender eq male", "not (family eq muller)", "birthdate po 2026-01", "family ew er and active pr true", "gender ne male"]),
        COMMON,
    ),
    "Observation": st.one_of(
        named(["code", "code:not", "category", "value-concept", "combo-code"], TOKENS), named(["code:text"], ["code x", "mull", "only", "ode"]), named(["date"], DATE_VALUES),
        named(["value-quantity", "component-value-quantity", "combo-value-quantity"], QUANTITIES), named(["value-string"], STRINGS), parameter("status", ["final", "amended,final"]),
        named(["subject", "patient"], ["Patient/p1", "p1", "p2,p3", f"{BASE}/Patient/p1", "Patient/p9"]), parameter("subject:Patient", ["p1", "p2"]),
        parameter("performer:identifier", ["urn:a|1"]), named(["subject.family", "patient.name:contains", "subject:Patient.general-practitioner.family"], STRINGS),
        named(["patient.identifier"], IDENTIFIERS), named(["has-member.code", "has-member.has-member.code"], TOKENS), named(["has-member.patient.birthdate"], DATE_VALUES),
        named(["code-value-quantity", "component-code-value-quantity"], [f"{code}${quantity}" for code in TOKENS[:4] for quantity in QUANTITIES]),
        named(["code-value-string"], [f"{code}${text}" for code in TOKENS[:4] for text in STRINGS if "," not in text]), named(["code-value-date"], ["x$2026"]),
        named(["code-value-concept"], [f"{code}${other}" for code in TOKENS[:4] for other in TOKENS[:4]]),
        named([f"{each}:missing" for each in ("date", "value-quantity", "performer", "code", "subject", "value-string")], MISSING), COMMON,
        parameter("_filter", ["subject.family co er and code eq x", "date gt 2025 or date pr false", "value-quantity gt 5", "patient[gender eq male].name sw mu"]),
    ),
    "RiskAssessment": st.one_of(named(["probability"], NUMBERS), named(["probability:missing"], MISSING), parameter("patient", ["p1", "p2"]), COMMON),
    "ValueSet": named(["url", "url:below"], ["http://v.example/a", "http://v.example/a/", "http://v.example/a/b", "urn:oid:1.2", "http://v.example/"]),
    "Patient,Observation,RiskAssessment": st.one_of(COMMON, named(["_tag:missing"], MISSING)),
}  # fmt: skip
SORTS = {
    "Patient": ["family", "birthdate", "gender", "_id", "_lastUpdated", "general-practitioner", "general-practitioner:Practitioner.family", "identifier"],
    "Observation": ["date", "code", "value-quantity", "patient", "subject:Patient.family", "_lastUpdated", "value-string", "patient.birthdate", "status"],
    "RiskAssessment": ["probability", "patient", "_id", "date"],
    "ValueSet": ["url", "_lastUpdated"],
    "Patient,Observation,RiskAssessment": ["_id", "_lastUpdated", "_tag"],
}  # fmt: skip


@st.composite
def searches(draw: st.DrawFn) -> tuple[str, str]:
    types = draw(st.sampled_from(sorted(ASKED)))
    found = draw(st.lists(ASKED[types], max_size=3 if draw(st.booleans()) else 1))
    keys = draw(st.lists(st.sampled_from(SORTS[types]), max_size=2, unique=True))
    if keys:
        found.append("_sort=" + ",".join(draw(st.sampled_from(["", "-"])) + key for key in keys))
    return types, "&".join(found)


@pytest.mark.timeout(1800)
def test_search_finds_what_the_standard_says(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(database_url) as database:

        @settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture])
        @given(
            world=WORLDS, moments=MOMENTS, queries=st.lists(searches(), min_size=12, max_size=12), count=st.integers(1, 5),
            few=st.sampled_from([0, 1, 500]), patients=st.none() | st.lists(st.sampled_from(PATIENTS), min_size=1, unique=True),
        )  # fmt: skip
        def finds(
            world: dict[str, list[Json]],
            moments: list[int],
            queries: list[tuple[str, str]],
            count: int,
            few: int,
            patients: list[str] | None,
        ) -> None:
            monkeypatch.setattr(conditions, "FEW", few)  # so that small worlds are walked in every way that large ones are
            with nothing_kept(database) as connection:
                kept = stored(connection, world, moments)
                oracle = World(kept, patients)
                for types, query in queries:
                    search = asked(types, query)
                    assert everything(connection, search, patients, count) == oracle.expected(search), (types, query)

        finds()


def stored(connection: Connection, world: dict[str, list[Json]], moments: list[int]) -> list[Kept]:
    made = [
        {"resourceType": type_, "id": f"{_IDS[type_]}{number}", **content}
        for type_, contents in world.items()
        for number, content in enumerate(contents, 1)
    ]
    return [put(connection, each, moments[place], place) for place, each in enumerate(made)]
