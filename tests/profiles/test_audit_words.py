"""Events in plain words; no event is without."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles import audit_event
from profiles.audit_event import (
    EMERGENCY_STARTED,
    INSTANCES_TRANSFERRED,
    RAD_107,
    REFUSED,
    REST_OPERATION,
    REST_READ,
    REST_SEARCH,
    REST_UPDATE,
    Agent,
    AuditedAction,
    AuditedEntity,
    Subtype,
)
from profiles.audit_words import words

ACTION: dict[str, Any] = {
    "id": "a", "recorded": "2026-01-08T12:00:00.000Z", "kind": "read", "client": Agent(identifier="c"), "server": Agent(identifier="s"),
    "patient_id": "p1",
}  # fmt: skip


def said(**more: Any) -> str:
    return words(audit_event.audit_event(AuditedAction(**{**ACTION, **more}))).what


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"subtypes": (REST_READ,), "entities": (AuditedEntity(reference="ImagingStudy/1"),)}, "looked at imaging studies"),
        ({"subtypes": (REST_READ,), "entities": (AuditedEntity(reference="CarePlan/1"),)}, "looked at care plan records"),
        ({"subtypes": (REST_SEARCH,), "kind": "query", "entities": (AuditedEntity(query=b"Observation?code=x"),)}, "searched for measurements and results"),
        ({"subtypes": (REST_SEARCH,), "kind": "query", "entities": (AuditedEntity(query=b"\xff\xfe"),)}, "searched for records"),
        ({"subtypes": (REST_UPDATE,), "kind": "update", "entities": (AuditedEntity(reference="Patient/p1"),)}, "changed personal details"),
        ({"subtypes": (REST_OPERATION,), "kind": "query", "entities": (AuditedEntity(query=b"Patient/p1/$everything?_count=1"),)}, "asked for everything in the record"),
        ({"subtypes": (REST_OPERATION,), "kind": "query", "entities": (AuditedEntity(query=b"Observation/$other"),)}, "asked about measurements and results"),
        ({"subtypes": (RAD_107,)}, "looked at images"),
        ({"subtypes": (INSTANCES_TRANSFERRED,), "kind": "create", "rest": False}, "sent images here"),
        ({"subtypes": (INSTANCES_TRANSFERRED,), "kind": "export", "rest": False}, "fetched images"),
        ({"subtypes": (EMERGENCY_STARTED,), "kind": "security", "rest": False}, "began emergency access"),
    ],
)  # fmt: skip
def test_what_was_done(more: dict[str, Any], what: str) -> None:
    assert said(**more) == what


def test_purpose_and_outcome() -> None:
    action = AuditedAction(**{**ACTION, "client": Agent(identifier="c", purposes=("TREAT", "XYZ")), "outcome": REFUSED})
    found = words(audit_event.audit_event(action))
    assert (found.purpose, found.outcome) == ("treatment, XYZ", "refused")
    assert words(audit_event.audit_event(AuditedAction(**ACTION))).outcome == "allowed"


@pytest.mark.parametrize("subtype", [each for each in vars(audit_event).values() if isinstance(each, Subtype)])
def test_every_kind_of_event_has_words(subtype: Subtype) -> None:
    for rest in (True, False):
        assert not said(subtypes=(subtype,), rest=rest).startswith("used")


@given(st.binary(), st.text())
def test_whatever_a_client_sent_is_no_fault(query: bytes, reference: str) -> None:
    for entity in (AuditedEntity(query=query), AuditedEntity(reference=reference)):
        assert said(entities=(entity,))
