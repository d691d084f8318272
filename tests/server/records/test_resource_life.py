"""The life of FHIR resources: any sequence of writes leaves what a plain model says, its history, and the rows of its current version alone."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from decimal import Decimal
from functools import partial
from typing import Any

import hypothesis.strategies as st
import orjson
import pytest
from hypothesis import Phase, given, settings
from peers.resources import resources as any_resources
from peers.together import together
from sqlalchemy import func, select, true

from profiles.fhir.indexing import index
from profiles.fhir.json import parse, serialize
from profiles.r4.search import parameters
from server.errors import Conflict, Gone, NotFound
from server.records import identities, index_rows, resources
from server.records.history import HistoryPosition, history, total
from server.records.index_keys import clipped, parameter_hash
from server.records.parameters import indexer
from server.records.resources import RESOURCE, VERSION, Stored
from server.store.db import Database
from server.store.many import many
from server.store.migrations import migrate


def _patient(id_: str, **more: object) -> dict[str, Any]:
    return {"resourceType": "Patient", "id": id_, **more}


def _rows(database: Database, id_: str) -> dict[str, set[tuple[Any, ...]]]:
    with database.read() as connection:
        pk = connection.execute(select(RESOURCE.c.pk).where(RESOURCE.c.id == id_)).scalar_one()
        return {table.name: found for table in index_rows.WALKED if (found := many(table).of(connection, pk))}


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "patch", "create", "delete"]),
        st.sampled_from(["a", "b"]),
        st.fixed_dictionaries(
            {},
            optional={
                "gender": st.sampled_from(["male", "female"]),
                "birthDate": st.sampled_from(["1970", "1980-02-03"]),
                "name": st.lists(st.fixed_dictionaries({"family": st.sampled_from(["Ö" * 900, "Smith", "de Vries"])}), min_size=1, max_size=2),
                "generalPractitioner": st.just([{"reference": "Practitioner/1"}, {"identifier": {"system": "s", "value": "v"}}]),
            },
        ),
    ),
    max_size=14,
)  # fmt: skip


@pytest.fixture(scope="module")
def lasting(databases: Callable[[], AbstractContextManager[str]]) -> Iterator[Database]:
    """One database for all generated examples, each with ids of its own."""
    with databases() as url:
        opened = Database(url)
        migrate(opened)
        yield opened
        opened.close()


@settings(max_examples=15, phases=[Phase.explicit, Phase.generate])
@given(STEPS)
def test_any_sequence_of_writes_leaves_what_a_model_says(lasting: Database, steps: list[tuple[str, str, dict[str, Any]]]) -> None:
    mine = uuid.uuid4().hex
    _agrees(lasting, [(what, f"{mine}-{id_}", content) for what, id_, content in steps])


def _agrees(database: Database, steps: list[tuple[str, str, dict[str, Any]]]) -> None:
    versions: dict[str, list[tuple[str, dict[str, Any] | None]]] = {id_: [] for _, id_, _ in steps}
    for number, (what, id_, content) in enumerate(steps, 1):
        past = versions[id_]
        with database.write() as connection:
            now = number * 1_000_000
            if what == "delete":
                _delete(connection, id_, past, now)
            elif what == "create" and past:
                with pytest.raises(Conflict):
                    resources.create(connection, _patient(id_, **content), now=now)
            elif what == "create":
                resources.create(connection, _patient(id_, **content), now=now)
                past.append(("POST", content))
            else:
                resources.put(connection, _patient(id_, **content), method=what.upper(), now=now)
                if not past or past[-1][1] != content:
                    past.append((what.upper(), content))
    for id_, past in versions.items():
        _is(database, id_, past)


def _delete(connection: Any, id_: str, past: list[tuple[str, dict[str, Any] | None]], now: int) -> None:
    if not past:
        with pytest.raises(NotFound):
            resources.delete(connection, "Patient", id_, now=now)
        return
    assert resources.delete(connection, "Patient", id_, now=now).deleted
    if past[-1][1] is not None:
        past.append(("DELETE", None))


def _is(database: Database, id_: str, past: list[tuple[str, dict[str, Any] | None]]) -> None:
    with database.read() as connection:
        if not past:
            with pytest.raises(NotFound):
                resources.read(connection, "Patient", id_)
            return
        for number, (_, content) in enumerate(past, 1):
            if content is None:
                with pytest.raises(Gone):
                    resources.vread(connection, "Patient", id_, number)
            else:
                found = parse(resources.vread(connection, "Patient", id_, number).body)
                assert found.pop("meta")["versionId"] == str(number)
                assert found == _patient(id_, **content)
        told = history(connection, type="Patient", id=id_, allowed=lambda *_: true(), count=50).entries
        assert [(each.version, each.method, not each.body) for each in reversed(told)] == [
            (number, method, content is None) for number, (method, content) in enumerate(past, 1)
        ]
        current = past[-1][1]
        if current is None:
            with pytest.raises(Gone):
                resources.read(connection, "Patient", id_)
        else:
            assert resources.read(connection, "Patient", id_).version == len(past)
    assert _rows(database, id_) == (_expected(database, _patient(id_, **current)) if current is not None else {})


def _expected(database: Database, resource: dict[str, Any]) -> dict[str, set[tuple[Any, ...]]]:
    """The rows as they are made, with the resource put in."""
    with database.read() as connection:
        pk = connection.execute(select(RESOURCE.c.pk).where(RESOURCE.c.id == resource["id"])).scalar_one()
        found = index_rows.found(resource["resourceType"], indexer(connection, resource["resourceType"]).index(resource, ""))
    return {
        table.name: {tuple(pk if name == "resource_pk" else next(values) for name in [column.name for column in table.columns]) for values in map(iter, rows)}
        for table, rows in found.rows.items()
    }  # fmt: skip


@settings(max_examples=15, phases=[Phase.explicit, Phase.generate])
@given(any_resources("Observation", "ImagingStudy", "Questionnaire", "MolecularSequence", "Encounter", "DocumentReference"))
def test_what_is_put_is_what_is_read_and_what_is_found(lasting: Database, resource: dict[str, Any]) -> None:
    """Of any resource: the same elements with the same digits, and the rows of its index."""
    resource = {**resource, "id": uuid.uuid4().hex}
    with lasting.write() as connection:
        resources.put(connection, resource, yields=True)
    with lasting.read() as connection:
        read = resources.content(connection, resource["resourceType"], resource["id"])
    stamped = ("versionId", "lastUpdated")
    given_meta = {key: value for key, value in resource.get("meta", {}).items() if key not in stamped}
    assert read.get("meta", {}) == parse(serialize(given_meta))
    assert {**read, "meta": 0} == {**parse(serialize(resource)), "meta": 0}
    assert _rows(lasting, resource["id"]) == _expected(lasting, resource)


def test_decimals_keep_their_digits_and_the_clients_meta_stays_but_for_what_the_server_says(database: Database) -> None:
    meta = {"versionId": "77", "lastUpdated": "1999-01-01T00:00:00Z", "tag": [{"code": "t"}], "profile": ["http://p"]}
    body = {"resourceType": "Observation", "id": "o", "meta": meta, "valueQuantity": {"value": Decimal("1.00")}}
    with database.write() as connection:
        stored = resources.create(connection, body)
    assert b'"value":1.00' in stored.body
    told = orjson.loads(stored.body)["meta"]
    assert (told["versionId"], told["tag"], told["profile"]) == ("1", [{"code": "t"}], ["http://p"])
    assert not told["lastUpdated"].startswith("1999")


def test_a_write_that_changes_nothing_searchable_writes_no_rows(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    study = {
        "resourceType": "ImagingStudy", "id": "s", "status": "available", "subject": {"reference": "Patient/p"}, "started": "2020",
        "identifier": [{"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"}], "modality": [{"system": "d", "code": "CT"}],
    }  # fmt: skip
    with database.write() as connection:
        resources.put(connection, study)
    before = _rows(database, "s")
    assert before.keys() == {"token", "text_value", "reference_value", "compartment"}
    touched: list[str] = []
    for name in ("insert", "delete"):
        real = getattr(index_rows.many(index_rows.TOKEN).__class__, name)

        def counted(self: Any, connection: Any, rows: Any, real: Any = real) -> None:
            touched.extend("row" for _ in rows)
            real(self, connection, rows)

        monkeypatch.setattr(index_rows.many(index_rows.TOKEN).__class__, name, counted)
    with database.write() as connection:
        resources.put(connection, {**study, "note": [{"text": "seen"}]})
    assert touched == []
    with database.write() as connection:
        resources.put(connection, {**study, "status": "cancelled"})
    # two forms of the code go and two come (`system|` stays, if there is one), its text with them
    assert 0 < len(touched) <= 8
    assert _rows(database, "s") != before


def test_large_resources_keep_their_summary_beside_them(database: Database) -> None:
    instances = [{"uid": f"1.2.{n}", "sopClass": {"code": "urn:oid:1.2"}} for n in range(400)]
    series = [{"uid": "1.2.3", "modality": {"code": "CT"}, "instance": instances}]
    with database.write() as connection:
        stored = resources.put(
            connection,
            {
                "resourceType": "ImagingStudy", "id": "s", "status": "available", "subject": {"reference": "Patient/p"},
                "series": series,
            },
        )  # fmt: skip
        small = resources.put(connection, _patient("p"))
    with database.read() as connection:
        assert resources.read(connection, "ImagingStudy", "s") == stored
    assert stored.summary is not None
    told = orjson.loads(stored.summary)
    assert "instance" not in told["series"][0]
    assert told["meta"]["versionId"] == "1"
    assert len(stored.summary) * 10 < len(stored.body)
    assert small.summary is None


def test_the_patient_of_a_resource_is_the_only_one_whose_compartment_it_is_in(database: Database) -> None:
    both = [{"actor": {"reference": f"Patient/{each}"}, "status": "accepted"} for each in "pq"]
    with database.write() as connection:
        one = resources.put(connection, {"resourceType": "Appointment", "id": "1", "participant": both[:1]})
        two = resources.put(connection, {"resourceType": "Appointment", "id": "2", "participant": both})
        replaced = resources.put(connection, _patient("p", link=[{"other": {"reference": "Patient/q"}, "type": "replaced-by"}]))
    assert (one.patient, two.patient, replaced.patient) == ("p", "", "p")


def test_references_below_our_own_url_are_to_what_is_here(database: Database) -> None:
    subject = {"reference": "https://here.example/fhir/Patient/p"}
    with database.write() as connection:
        stored = resources.put(
            connection, {"resourceType": "Observation", "id": "o", "subject": subject}, base="https://here.example/fhir"
        )
    assert stored.patient == "p"


def test_fifty_writers_of_one_identity_make_one_resource(database: Database) -> None:
    identifier = [{"system": "urn:oid:1.2.3", "value": "1"}]

    def create() -> None:
        with database.write() as connection:
            resources.create(connection, {"resourceType": "Patient", "identifier": identifier})

    errors = together(*[create] * 50)
    assert [type(error) for error in errors] == [Conflict] * 49
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(RESOURCE)).scalar() == 1
        assert connection.execute(select(func.count()).select_from(VERSION)).scalar() == 1
        assert identities.by_identity(connection, "Patient", "urn:oid:1.2.3", "1") is not None


def test_what_yields_leaves_an_identifier_to_who_has_it(database: Database) -> None:
    named = partial(_patient, identifier=[{"system": "urn:oid:1.2.3", "value": "1"}])
    with database.write() as connection:
        resources.put(connection, named("a"))
        resources.put(connection, named("b"), yields=True)
        assert identities.by_identity(connection, "Patient", "urn:oid:1.2.3", "1") == "a"


def test_many_are_created_as_one_by_one(database: Database) -> None:
    some = [_patient(f"p{n}", gender="male", identifier=[{"system": "urn:oid:1.2", "value": str(n)}]) for n in range(30)]
    with database.write() as connection:
        stored = resources.create_all(connection, some)
    assert [each.id for each in stored] == [each["id"] for each in some]
    for each in some[:3]:
        assert _rows(database, each["id"]) == _expected(database, each)
    with pytest.raises(Conflict), database.write() as connection:
        resources.create_all(connection, [_patient("new"), _patient("p3")])
    with database.read() as connection, pytest.raises(NotFound):
        resources.read(connection, "Patient", "new")


KILLED = """
import os, signal, sys
from server.store.db import Database
from server.records import resources
database = Database(sys.argv[1])
for batch in range(100):
    with database.write() as connection:
        some = [{"resourceType": "Patient", "id": f"p{batch}-{n}", "gender": "male"} for n in range(20)]
        if batch == 3:
            resources.create_all(connection, some[:7])
            resources.delete(connection, "Patient", "p0-0")
            os.kill(os.getpid(), signal.SIGKILL)
        resources.create_all(connection, some)
"""


def test_kill_9_within_a_batch_leaves_nothing_half(database: Database, database_url: str) -> None:
    died = subprocess.run([sys.executable, "-c", KILLED, database_url], check=False, env={**os.environ}, capture_output=True)
    assert died.returncode == -signal.SIGKILL, died.stderr
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(RESOURCE)).scalar() == 60
        assert connection.execute(select(func.count()).select_from(VERSION)).scalar() == 60
        assert resources.read(connection, "Patient", "p0-0").version == 1
        for table in index_rows.WALKED:
            orphans = select(func.count()).select_from(table).where(table.c.resource_pk.not_in(select(RESOURCE.c.pk)))
            assert connection.execute(orphans).scalar() == 0


# --- history


def _told(database: Database, **asked: Any) -> list[tuple[str, int]]:
    """All pages, each of two versions."""
    found: list[tuple[str, int]] = []
    after: HistoryPosition | None = None
    allowed = asked.pop("allowed", lambda *_: true())
    with database.read() as connection:
        while True:
            page = history(connection, **asked, allowed=allowed, count=2, after=after)
            found += [(each.id, each.version) for each in page.entries]
            if page.next is None:
                assert total(connection, **asked, allowed=allowed) == len(found)
                return found
            after = page.next


def test_history_of_a_type_and_of_all_by_time(database: Database) -> None:
    def put(type_: str, id_: str, second: int, **content: object) -> Stored:
        with database.write() as connection:
            return resources.put(connection, {"resourceType": type_, "id": id_, **content}, now=second * 1_000_000)

    put("Patient", "p", 1)
    put("Organization", "o", 2)
    put("Patient", "p", 3, gender="male")
    with database.write() as connection:
        resources.delete(connection, "Patient", "p", now=4_000_000)
    put("Patient", "q", 5)
    assert _told(database) == [("q", 1), ("p", 3), ("p", 2), ("o", 1), ("p", 1)]
    assert _told(database, type="Patient") == [("q", 1), ("p", 3), ("p", 2), ("p", 1)]
    assert _told(database, type="Patient", id="p") == [("p", 3), ("p", 2), ("p", 1)]
    assert _told(database, since=3_000_000) == [("q", 1), ("p", 3), ("p", 2)]
    assert _told(database, at=(2_500_000, 3_500_000)) == [("p", 2), ("o", 1), ("p", 1)]
    assert _told(database, at=(4_000_000, 4_000_001)) == [("p", 3), ("o", 1)]
    assert _told(database, allowed=lambda row, version: (row.c.patient == "q") & (version.c.patient == "q")) == [("q", 1)]
    with database.read() as connection, pytest.raises(NotFound):
        history(connection, type="Patient", id="nobody", allowed=lambda *_: true(), count=1)


# --- rows


@given(st.text(max_size=500), st.integers(60, 400))
def test_clipped_text_is_told_apart_and_begins_as_it_did(text: str, limit: int) -> None:
    made = clipped(text, limit)
    assert len(made) <= limit
    assert "\0" not in made
    assert made[: limit - 33] == text.replace("\0", "")[: limit - 33] or "\0" in text
    assert clipped(text + "x" * limit, limit) != clipped(text + "x" * limit + "y", limit)


def test_an_element_without_a_value_is_there_all_the_same(database: Database) -> None:
    with database.write() as connection:
        resources.put(connection, {"resourceType": "Observation", "id": "o", "subject": {"display": "somebody"}})
    texts = _rows(database, "o")["text_value"]
    assert parameter_hash("Observation", "subject:present") in {row[0] for row in texts}


def test_the_index_of_every_parameter_type_has_rows() -> None:
    observation = {
        "resourceType": "Observation", "id": "o", "status": "final", "effectivePeriod": {"start": "2020", "end": "2021"},
        "code": {"text": "Weight", "coding": [{"system": "http://loinc.org", "code": "29463-7", "display": "Body weight"}]},
        "valueQuantity": {"value": Decimal("5.40"), "unit": "kg", "system": "http://unitsofmeasure.org", "code": "kg"},
        "subject": {"reference": "Patient/p"}, "derivedFrom": [{"reference": "http://elsewhere/ImagingStudy/1"}],
    }  # fmt: skip
    found = index_rows.found("Observation", index(observation, parameters("Observation").values(), base=""))
    assert found.rows.keys() == set(index_rows.WALKED) - {index_rows.DATE}
    assert (found.patient, found.date_end - found.date > 0) == ("p", True)
    assert len({row[0] for row in found.rows[index_rows.COMPOSITE]}) == len(found.rows[index_rows.COMPOSITE])
