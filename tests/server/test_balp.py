"""Every kind of AuditEvent that there is, by HL7's validator against the BALP profiles that it claims. Needs Java and Maven; runs in `make test-deep`."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from peers import balp, validator
from peers.every_event import happened
from peers.validator import Validator

from profiles import audit_event
from profiles.audit_event import Agent, AuditedAction, AuditedEntity, Subtype

pytestmark = [pytest.mark.deep, pytest.mark.timeout(900)]  # the validator may take minutes to start where much else runs
Json = dict[str, Any]

NOT_OFFERED = {"ITI-67", "ITI-68", "RAD-68", "batch", "AuthZ-Consent", "110138"}
"""Subtypes that nothing here writes: other actors' transactions, what an entry of a Bundle is instead, the end of an emergency, which is the grant's, and
RAD-68 to partners, of which there is none here (tests/server/work/test_manifest_submission.py)."""
DISCLOSURE = AuditedAction(
    id="a1", recorded="2026-01-08T12:00:00.000Z", kind="export", rest=False, subtypes=(audit_event.DISCLOSED,), patient_id="p1",
    client=Agent(identifier="receiver", address="192.0.2.7"), server=Agent(identifier="imageshare", address="https://images.example.org"),
    entities=(AuditedEntity(reference="ImagingStudy/s1"),), authorizer=Agent(reference="Patient/p1"),
)  # fmt: skip
"""Shares will write it."""


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Json]]:
    with happened(tmp_path_factory.mktemp("balp") / "data") as done:
        yield [*done.events(), *(audit_event.audit_event(replace(DISCLOSURE, kind=kind)) for kind in ("export", "create"))]


@pytest.fixture(scope="module")
def hl7() -> Iterator[Validator]:
    try:
        with validator.running(balp.definitions()) as running:
            yield running
    except validator.NoValidator as reason:
        pytest.skip(str(reason))


def claims(event: Json) -> list[str]:
    return list(event.get("meta", {}).get("profile", ()))


def kind(event: Json) -> str:
    """What two events have in common that differ only in who, whom and when."""
    subtypes = [each["code"] for each in event.get("subtype", ())]
    agents = [
        ("+".join(each["code"] for each in agent["type"]["coding"]), sorted(agent), sorted(agent["who"]))
        for agent in event["agent"]
    ]
    entities = [(each["type"]["code"], sorted(each), sorted(each.get("what", ()))) for each in event.get("entity", ())]
    return str((event["type"]["code"], event["action"], subtypes, event["outcome"], claims(event), agents, entities))


def test_every_kind_is_there(events: list[Json]) -> None:
    offered = {each.code for each in vars(audit_event).values() if isinstance(each, Subtype)}
    assert offered - {each["code"] for event in events for each in event.get("subtype", ())} == NOT_OFFERED


def test_each_is_what_it_claims_to_be(events: list[Json], hl7: Validator) -> None:
    known = {each["url"] for each in balp.definitions()}
    kinds = {kind(each): each for each in events}
    assert {url for each in kinds.values() for url in claims(each)} <= known
    wrong = {name: [f"{each.place}: {each.text}" for each in hl7.errors(event)] for name, event in kinds.items()}
    assert {name: found for name, found in wrong.items() if found} == {}


def test_what_succeeded_by_rest_claims_its_pattern(events: list[Json]) -> None:
    """BALP section 3:5.7.3: all but histories, operations, and what is about several objects."""
    for event in events:
        codes = {each["code"] for each in event.get("subtype", ())}
        data = [each for each in event.get("entity", ()) if each["type"]["code"] == "2"]
        if (
            event["type"]["code"] == "rest"
            and event["outcome"] == "0"
            and not codes & {"operation", "history-type", "history-system", "history-instance"}
        ):
            assert len(data) > 1 or claims(event)[0].startswith(f"{balp.ROOT}/StructureDefinition/IHE.BasicAudit."), event
            assert any(url.endswith("Comprehensive") for url in claims(event)), event


@pytest.mark.parametrize("profile", [each.name for each in balp.PROFILES])
def test_the_validator_would_see_it(events: list[Json], hl7: Validator, profile: str) -> None:
    """Each profile is claimed by some event, and one that lacks its agents, or has another subtype or outcome, is found."""
    url = f"{balp.ROOT}/StructureDefinition/{profile}"
    event = next(each for each in events if url in claims(each))
    alone = {**event, "meta": {"profile": [url]}}
    assert hl7.errors(alone) == []
    assert hl7.errors({**alone, "agent": alone["agent"][1:2]}), "no client"
    if not profile.endswith("Comprehensive"):
        assert hl7.errors({**alone, "action": "X"})
        assert hl7.errors({**alone, "subtype": [{"system": "http://example.org", "code": "x"}]})
        assert hl7.errors({**alone, "entity": []})
