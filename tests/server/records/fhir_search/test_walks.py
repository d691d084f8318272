"""Which way searches are walked, and whose data they look at."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from peers.fhir_search import asked, filled, found, observation, only, page
from sqlalchemy import Connection, event

from server.records import resources
from server.records.fhir_search import conditions


@contextmanager
def plans(connection: Connection) -> Iterator[list[str]]:
    """How SQLite finds each page: the lines of its plan."""
    told: list[str] = []

    def explain(_: Connection, cursor: Any, statement: str, values: Any, *__: Any) -> None:
        if statement.startswith("SELECT") and "resource.body" in statement:
            cursor.execute(f"EXPLAIN QUERY PLAN {statement}", values)
            told.extend(row[3] for row in cursor.fetchall())

    event.listen(connection, "before_cursor_execute", explain)
    yield told
    event.remove(connection, "before_cursor_execute", explain)


@pytest.mark.parametrize(
    ("types", "query", "index"),
    [
        ("ImagingStudy", "", "resource USING INDEX ix_resource_date (type=?"),
        ("ImagingStudy", "_sort=-started", "resource USING INDEX ix_resource_date (type=?"),
        ("ImagingStudy", "_sort=-_lastUpdated", "resource USING INDEX ix_resource_updated (type=?"),
        ("ImagingStudy", "_sort=_lastUpdated&status:not=cancelled", "resource USING INDEX ix_resource_updated (type=?"),
        (
            "ImagingStudy",
            "patient=p1&started=ge2026-01-02",
            "resource USING INDEX ix_resource_patient (type=? AND patient=? AND date>?",
        ),
        ("ImagingStudy", "modality=CT", "token_1 USING PRIMARY KEY (hash=?"),
        ("ImagingStudy", "modality=CT&_sort=-started&started=ge2026-01-01", "token_1 USING PRIMARY KEY (hash=? AND date>?"),
        ("ImagingStudy", "modality=CT&status=available", "token_1 USING PRIMARY KEY (hash=?"),
        (
            "Observation",
            "subject=Patient/p1",
            "reference_value_1 USING PRIMARY KEY (parameter=? AND target_type=? AND target_id=?",
        ),
        (
            "Observation",
            "subject=Patient/p1&code=x",
            "reference_value_1 USING PRIMARY KEY (parameter=? AND target_type=? AND target_id=?",
        ),
        ("Patient", "_sort=family", "text_value_1 USING PRIMARY KEY (parameter=?"),
        ("Patient", "_sort=-birthdate", "date_value_1 USING PRIMARY KEY (parameter=?"),
        ("Observation", "_sort=-code&status=final", "text_value_1 USING PRIMARY KEY (parameter=?"),
    ],
)
def test_an_index_has_the_order(
    connection: Connection, monkeypatch: pytest.MonkeyPatch, types: str, query: str, index: str
) -> None:
    """With more candidates than are looked up at once, nothing is sorted and no table scanned, on the first page and on the next."""
    if connection.dialect.name != "sqlite":
        pytest.skip("PostgreSQL plans by what it knows of its tables, which in a test is nothing")
    monkeypatch.setattr(conditions, "FEW", 2)
    filled(connection, 9)
    for number in range(9):
        resources.put(connection, observation(f"o{number}", subject={"reference": "Patient/p1"}))
        resources.put(connection, {"resourceType": "Patient", "id": f"p{number}", "name": [{"family": "A"}], "birthDate": "2000"})
    search = asked(types, query)
    for after in (None, page(connection, search, 3).next):
        with plans(connection) as told:
            assert len(page(connection, search, 3, after).matches) == 3
        assert any(index in line for line in told), told
        wrong = [line for line in told if line.startswith("SCAN") or line == "USE TEMP B-TREE FOR ORDER BY"]
        assert not wrong, told


# --- whose data are looked at


def test_conditions_look_only_at_what_the_caller_may_see(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody learns by a chain, `_has`, `_list` or the order of what is somebody else's."""
    for number in (1, 2):
        resources.put(connection, {"resourceType": "Patient", "id": f"p{number}", "name": [{"family": f"Name{number}"}]})
        resources.put(connection, observation(f"o{number}", subject={"reference": f"Patient/p{number}"}))
    resources.put(connection, observation("o3", subject={"reference": "Patient/p1"}, hasMember=[{"reference": "Observation/o2"}]))
    resources.put(
        connection, observation("o4", code="y", subject={"reference": "Patient/p2"}, hasMember=[{"reference": "Observation/o3"}])
    )
    resources.put(
        connection,
        {
            "resourceType": "List", "id": "l", "status": "current", "mode": "working", "subject": {"reference": "Patient/p2"},
            "entry": [{"item": {"reference": "Observation/o1"}}],
        },
    )  # fmt: skip
    queries = ["has-member.subject.family=Name2", "has-member.code=x", "_has:Observation:has-member:code=y", "_list=l"]
    for few in (500, 0):
        monkeypatch.setattr(conditions, "FEW", few)
        for query in queries:
            assert found(connection, "Observation", query), query
            assert not found(connection, "Observation", query, only("p1")), query
        assert found(connection, "Observation", "", only("p1")) == ["o3", "o1"]


def test_a_list_has_its_members(connection: Connection) -> None:
    filled(connection, 3)
    entries = [{"item": {"reference": f"ImagingStudy/s{each}"}} for each in (3, 1, 9)]
    resources.put(connection, {"resourceType": "List", "id": "l", "status": "current", "mode": "working", "entry": entries})
    assert found(connection, "ImagingStudy", "_list=l") == ["s3", "s1"]
    assert found(connection, "ImagingStudy", "_list=nothing") == []
