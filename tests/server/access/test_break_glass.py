"""Break-glass: for practitioners, for one patient, for a reason; told in the trail and to the patient."""

import time
from typing import Any

import orjson
import pytest
from sqlalchemy import Connection

from profiles.audit_event import Agent
from server.access import break_glass, rights
from server.access.decisions import Decision, Interaction
from server.access.oauth import clients, granting
from server.access.oauth.clients import Client
from server.access.oauth.granting import Granted
from server.access.people import accounts
from server.errors import Forbidden, NotFound, Refused
from server.records import epoch, resources
from server.records.trail import Trail, events
from server.store.db import Database, micros

SCOPE = "patient/*.rs user/*.rs"


@pytest.fixture
def trail(database: Database) -> Trail:
    for id_ in ("p", "q"):
        deny = {
            "resourceType": "Consent",
            "id": f"c{id_}",
            "status": "active",
            "patient": {"reference": f"Patient/{id_}"},
            "provision": {"type": "deny"},
        }
        with database.write() as connection:
            resources.put(connection, {"resourceType": "Patient", "id": id_})
            resources.put(connection, deny)
    with database.write() as connection:
        clients.add(
            connection, Client(id="app", name="app", kind="public", redirect_uris=("https://app.example.org/",), scope=SCOPE)
        )
    return Trail(database, Agent(identifier="urn:here"))


def _granted(
    database: Database, kind: str = "practitioner", patient: str | None = "p", user: str = "Practitioner/d", scope: str = SCOPE
) -> str:
    with database.write() as connection:
        account = accounts.add(connection, kind=kind, email=f"{time.time_ns()}@example.org", fhir_user=user)
        return granting.begin(connection, Granted("", "app", scope, account.id, patient, expires=micros() + 10**9)).id


def _decision(connection: Connection, grant: str) -> Decision:
    claims: dict[str, Any] = {"grant": grant, "client_id": "app", "scope": SCOPE}
    return rights.decision(connection, claims=claims, now=micros())[0]


def _seen(connection: Connection, grant: str) -> set[str]:
    made = _decision(connection, grant)
    return {id_ for id_ in "pq" if made.sees(connection, "Patient", Interaction.READ, id_)}


def _begin(database: Database, trail: Trail, grant: str, reason: str = "unconscious") -> list[str]:
    told: list[str] = []
    with database.write() as connection:
        break_glass.begin(connection, trail, grant, reason, address="127.0.0.1", notify=lambda _, patient: told.append(patient))
    return told


def test_it_opens_the_one_patient_for_that_grant_alone(database: Database, trail: Trail) -> None:
    grant, other = _granted(database), _granted(database)
    with database.read() as connection:
        assert _seen(connection, grant) == _seen(connection, other) == set()
        before = epoch.current(connection)
    assert _begin(database, trail, grant, " unconscious\n after a fall ") == ["p"]
    with database.read() as connection:
        assert _seen(connection, grant) == {"p"}
        assert _seen(connection, other) == set()
        assert epoch.current(connection) > before
        (event,) = (orjson.loads(each.body) for each in events(connection, limit=9))
    assert [each["code"] for each in event["subtype"]] == ["110127"]
    assert "unconscious after a fall" in str(event["entity"])
    assert "BTG" in str(event)
    assert "Practitioner/d" in str(event["agent"])


@pytest.mark.parametrize("reason", ["", " \n", "x" * 501])
def test_it_needs_a_reason(database: Database, trail: Trail, reason: str) -> None:
    grant = _granted(database)
    with pytest.raises(Refused):
        _begin(database, trail, grant, reason)
    with database.read() as connection:
        assert _seen(connection, grant) == set()
        assert list(events(connection, limit=9)) == []


@pytest.mark.parametrize(
    "given",
    [
        {"kind": "staff", "user": ""},
        {"kind": "administrator", "user": ""},
        {"patient": None},
        {"kind": "patient", "user": "Patient/q"},
        {"scope": f"{SCOPE} offline_access"},
        {"scope": f"{SCOPE} online_access"},
    ],
)
def test_it_is_for_practitioners_for_a_patient_and_for_a_short_time(
    database: Database, trail: Trail, given: dict[str, Any]
) -> None:
    grant = _granted(database, **given)
    with pytest.raises(Forbidden) as caught:
        _begin(database, trail, grant)
    break_glass.refused(trail, Agent(identifier="app"), caught.value, "p")
    with database.read() as connection:
        (event,) = (orjson.loads(each.body) for each in events(connection, limit=9))
        assert "BTG" not in _decision(connection, grant).purposes
    assert (event["outcome"], [each["code"] for each in event["subtype"]]) == ("4", ["110127"])


def test_a_grant_that_has_ended_has_no_glass(database: Database, trail: Trail) -> None:
    grant = _granted(database)
    with database.write() as connection:
        granting.end(connection, grant, "test")
    with pytest.raises(NotFound):
        _begin(database, trail, grant)
