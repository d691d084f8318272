"""Searches that ask for much, or for what they should not."""

from collections.abc import Callable
from typing import Any

import pytest
from peers.fhir_search import filled, found, observation
from sqlalchemy import Connection

from server.records import resources
from server.records.fhir_search import TooCostly, conditions, limits
from server.store.db import Database


def _many(connection: Connection) -> None:
    general = [{"reference": "Practitioner/d"}]
    made = [
        {"resourceType": "Patient", "id": f"p{each}", "name": [{"family": "Smith"}], "generalPractitioner": general}
        for each in range(60)
    ]
    measured: dict[str, Any] = {
        "effectiveDateTime": "2026",
        "valueQuantity": {"value": 1, "unit": "mg"},
        "issued": "2026-01-01T00:00:00Z",
    }
    made += [observation(f"o{each}", subject={"reference": f"Patient/p{each}"}, **measured) for each in range(60)]
    resources.create_all(connection, made)


HOSTILE: dict[str, Callable[[], tuple[str, str]]] = {
    "500 values": lambda: ("Patient", "name:contains=" + ",".join(f"x{each}" for each in range(499))),
    "500 tokens": lambda: ("Observation", "code:not=" + ",".join(f"urn:c|{each}" for each in range(499))),
    "500 dates": lambda: ("Observation", "date=" + ",".join(f"ne{year}" for year in range(1500, 1999))),
    "500 quantities": lambda: ("Observation", "value-quantity=" + ",".join(f"gt{each}||mg" for each in range(499))),
    "100 _has": lambda: ("Patient", "&".join(f"_has:Observation:subject:code=x,{each}" for each in range(99))),
    "8 chains": lambda: ("Observation", "has-member." * 7 + "subject:Patient.family=Smith"),
    "_filter": lambda: ("Patient", "_filter=" + " or ".join(f"family co a{each}" for each in range(150))),
    "like": lambda: ("Patient", "name:contains=" + "%_" * 2000),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(HOSTILE))
@pytest.mark.parametrize("few", [0, 500])
def test_searches_that_ask_for_much_end(connection: Connection, monkeypatch: pytest.MonkeyPatch, name: str, few: int) -> None:
    """With what any statement of either engine takes: values, terms, nesting."""
    monkeypatch.setattr(conditions, "FEW", few)
    monkeypatch.setattr(limits, "SECONDS", 60.0)  # whatever else the machine does
    _many(connection)
    types, query = HOSTILE[name]()
    try:
        found(connection, types, query)
    except TooCostly:
        assert (name, few) == ("100 _has", 0)


@pytest.mark.parametrize("text", ["'", "';DROP TABLE resource;--", '"', "\\'", "%27", "a' OR '1'='1", "\x01", "😀"])
def test_no_value_is_sql(connection: Connection, text: str) -> None:
    filled(connection, 1)
    for query in (
        f"identifier={text}",
        f"description={text}",
        f"endpoint.name:contains={text}",
        f"patient.family:exact={text}",
        f"_source={text}",
    ):
        try:
            assert found(connection, "ImagingStudy", query) == []
        except ValueError:
            continue  # no parameter of that name
    assert found(connection, "ImagingStudy") == ["s1"]


def test_a_search_that_takes_too_long_is_refused(module_database: Database) -> None:
    slow = {
        "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n",
        "postgresql": "SELECT pg_sleep(60)",
    }
    with pytest.raises(TooCostly), module_database.read() as connection, limits.limited(connection, 0.05):
        connection.exec_driver_sql(slow[connection.dialect.name])
    with module_database.read() as connection:
        assert found(connection, "ImagingStudy") == []
