"""An event that is filled into a form is the one that is made."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles import audit_forms
from profiles.audit_event import (
    AUTHORIZED_BY_CONSENT,
    FAILED,
    GET_ACCESS_TOKEN,
    REFUSED,
    REST_READ,
    REST_SEARCH,
    SUCCESS,
    Agent,
    AuditedAction,
    AuditedEntity,
    audit_event,
)
from profiles.audit_forms import audit_event_json

_TEXT = st.sampled_from(["", "a", 'Müller "x" \\ \n', "\ue000id\ue001", "Patient/7"])
_USERS = st.none() | st.builds(Agent, identifier=_TEXT, reference=_TEXT)
_AGENTS = st.builds(
    Agent, identifier=_TEXT, name=_TEXT, address=st.sampled_from(["", "192.0.2.7", "https://a.example"]), user=_USERS,
    purposes=st.sampled_from([(), ("TREAT",), ("TREAT", "BTG")]),
)  # fmt: skip
_ENTITIES = st.builds(
    AuditedEntity,
    reference=_TEXT,
    identifier=st.sampled_from(["", "urn:oid:1.2"]),
    query=st.sampled_from([b"", b"a=b", b"\xff\x00"]),
)
_ACTIONS = st.builds(
    AuditedAction,
    id=st.uuids().map(str),
    recorded=st.datetimes().map(lambda each: each.isoformat(timespec="milliseconds") + "Z"),
    kind=st.sampled_from(["create", "read", "update", "delete", "query", "export"]),
    client=_AGENTS,
    server=_AGENTS,
    subtypes=st.sampled_from([(), (REST_READ,), (REST_SEARCH,), (GET_ACCESS_TOKEN,), (AUTHORIZED_BY_CONSENT,)]),
    rest=st.booleans(),
    outcome=st.sampled_from([SUCCESS, REFUSED, FAILED]),
    outcome_desc=_TEXT,
    user=st.none() | _AGENTS,
    patient_id=_TEXT,
    entities=st.lists(_ENTITIES, max_size=2).map(tuple),
    request_id=_TEXT,
    purpose=st.sampled_from(["", "TREAT"]),
    token_id=_TEXT,
    authorizer=_USERS,
)


@given(st.lists(_ACTIONS, min_size=1, max_size=4))
def test_a_form_is_filled_in_to_the_same_event(actions: list[AuditedAction]) -> None:
    for action in (*actions, *actions):
        assert orjson.loads(audit_event_json(action)) == orjson.loads(orjson.dumps(audit_event(action)))


def test_forms_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever makes up clients or reasons fills no memory."""
    monkeypatch.setattr(audit_forms, "_forms", forms := {})  # type: ignore[var-annotated]
    server = Agent(identifier="s", address="https://a.example")
    for number in range(2000):
        audit_event_json(AuditedAction("i", "2026-01-08T12:00:00.000Z", "read", Agent(identifier=f"c{number}"), server))
    assert 0 < len(forms) <= 512
