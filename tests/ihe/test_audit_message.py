"""Audit messages: the audit tables of the transactions, DICOM's schema, and the same content as the event of the trail."""

import base64
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from lxml.etree import _Element

from ihe.audit_message import Coded, audit_message
from profiles import audit_event as trail
from profiles.audit_event import Agent, AuditedAction, AuditedEntity, Kind, Subtype, audit_event, dicom_objects
from profiles.vocabulary import URI_SYSTEM

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "testdata"
CX = "A^^^&1.2.3&ISO"
IDP = "https://idp.example.org"
USER = Agent(identifier="dr.house", system=IDP, name=f"GH<dr.house@{IDP}>")
ACTION = AuditedAction(
    id="a1", recorded="2026-01-08T12:00:00.000Z", kind="query", rest=False, subtypes=(trail.ITI_18,), patient_id="p1", request_id="r1",
    client=Agent(identifier="clinic", address="192.0.2.7"), token_id="_a1",
    server=Agent(identifier="urn:oid:2.25.9", name="Site", address="https://images.example.org:8443"),
)  # fmt: skip


@cache
def schema() -> etree.XMLSchema:
    path = SHARED / "ipf" / "dicom2017c.xsd"
    if not path.exists():
        pytest.skip("../shared/testdata is not here")
    return etree.XMLSchema(etree.parse(path))


def made(action: AuditedAction, **given: str) -> _Element:
    root = etree.fromstring(audit_message(audit_event(action), **{"patient": CX, "process": "17", **given}))
    schema().assertValid(root)
    return root


def coded(element: _Element | None) -> Coded:
    assert element is not None
    return Coded(element.get("csd-code", ""), element.get("codeSystemName", ""), element.get("originalText", ""))


def objects(root: _Element) -> list[tuple[str | None, str | None, Coded, str | None]]:
    """Type, role, kind of identifier and identifier of each."""
    return [
        (
            each.get("ParticipantObjectTypeCode"), each.get("ParticipantObjectTypeCodeRole"), coded(each.find("ParticipantObjectIDTypeCode")),
            each.get("ParticipantObjectID"),
        )
        for each in root.iter("ParticipantObjectIdentification")
    ]  # fmt: skip


def details(root: _Element) -> dict[str | None, bytes]:
    return {each.get("type"): base64.b64decode(each.get("value", "")) for each in root.iter("ParticipantObjectDetail")}


PATIENT = ("1", "1", Coded("2", "RFC-3881", "Patient Number"), CX)
REQUEST = (
    "4",
    "26",
    Coded("XrequestId", "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType", "XrequestId"),
    "r1",
)


def test_a_stored_query() -> None:
    """ITI TF-2 section 3.18.5.1.2."""
    query = AuditedEntity(
        system=URI_SYSTEM, identifier="urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d", query=b"<AdhocQueryRequest/>",
        details=(("QueryEncoding", "UTF-8"), ("urn:ihe:iti:xca:2010:homeCommunityId", "urn:oid:1.2")),
    )  # fmt: skip
    client = replace(ACTION.client, user=USER, purposes=("TREAT", "urn:oid:1.0.14265.1|12"))
    root = made(replace(ACTION, entities=(query,), client=client), endpoint="https://images.example.org:8443/xds/registry")
    event = root[0]
    assert dict(event.attrib) == {"EventActionCode": "E", "EventDateTime": ACTION.recorded, "EventOutcomeIndicator": "0"}
    assert coded(event.find("EventID")) == Coded("110112", "DCM", "Query")
    assert coded(event.find("EventTypeCode")) == Coded("ITI-18", "IHE Transactions", "Registry Stored Query")
    assert [coded(each) for each in event.iter("PurposeOfUse")] == [
        Coded("TREAT", "2.16.840.1.113883.5.8", "TREAT"), Coded("12", "1.0.14265.1", "12"),
    ]  # fmt: skip
    source, destination, human = root.iter("ActiveParticipant")
    assert dict(source.attrib) == {
        "UserID": "clinic", "UserIsRequestor": "false", "NetworkAccessPointID": "192.0.2.7", "NetworkAccessPointTypeCode": "2",
    }  # fmt: skip
    assert coded(source.find("RoleIDCode")) == Coded("110153", "DCM", "Source Role ID")
    assert dict(destination.attrib) == {
        "UserID": "https://images.example.org:8443/xds/registry", "AlternativeUserID": "17", "UserName": "Site", "UserIsRequestor": "false",
        "NetworkAccessPointID": "images.example.org", "NetworkAccessPointTypeCode": "1",
    }  # fmt: skip
    assert coded(destination.find("RoleIDCode")) == Coded("110152", "DCM", "Destination Role ID")
    assert (human.get("UserID"), human.get("UserName"), human.get("UserIsRequestor")) == ("dr.house", USER.name, "true")
    assert dict(root.find("AuditSourceIdentification").attrib) == {  # type: ignore[union-attr]
        "AuditEnterpriseSiteID": "https://images.example.org:8443", "AuditSourceID": "urn:oid:2.25.9",
    }  # fmt: skip
    kind = Coded("ITI-18", "IHE Transactions", "Registry Stored Query")
    assert objects(root) == [("2", "24", kind, query.identifier), PATIENT, REQUEST]
    assert base64.b64decode(root.findtext(".//ParticipantObjectQuery") or "") == query.query
    assert details(root) == {"QueryEncoding": b"UTF-8", "urn:ihe:iti:xca:2010:homeCommunityId": b"urn:oid:1.2"}


def test_a_retrieved_document() -> None:
    """ITI TF-2 section 3.43.6.1.2."""
    document = AuditedEntity(
        system=URI_SYSTEM,
        identifier="urn:oid:1.2.3.4",
        details=(("repositoryUniqueId", "1.9"), ("homeCommunityId", "urn:oid:1.2")),
    )
    root = made(replace(ACTION, kind="export", subtypes=(trail.ITI_43,), entities=(document,)))
    assert (coded(root[0].find("EventID")), root[0].get("EventActionCode")) == (Coded("110106", "DCM", "Export"), "R")
    assert objects(root)[0] == ("2", "3", Coded("9", "RFC-3881", "Report Number"), "1.2.3.4")
    assert details(root) == {"Repository Unique Id": b"1.9", "ihe:homeCommunityID": b"urn:oid:1.2"}
    source = next(each for each in root.iter("ActiveParticipant") if each.get("AlternativeUserID"))
    assert coded(source.find("RoleIDCode")).code == "110153"


@pytest.mark.parametrize("code", ["ITI-41", "ITI-42", "ITI-61", "RAD-68"])
def test_a_submission(code: str) -> None:
    """ITI TF-2 sections 3.41.5.1.2 and 3.42.5.1.2."""
    submission = AuditedEntity(system=URI_SYSTEM, identifier="urn:oid:1.2.3.5")
    root = made(replace(ACTION, kind="create", subtypes=(Subtype(trail.ITI_41.system, code, "x"),), entities=(submission,)))
    assert (coded(root[0].find("EventID")), root[0].get("EventActionCode")) == (Coded("110107", "DCM", "Import"), "C")
    kind = Coded("urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd", "IHE XDS Metadata", "submission set classificationNode")
    assert objects(root)[0] == ("2", "20", kind, "1.2.3.5")


@pytest.mark.parametrize(
    ("code", "kind", "action"), [("ITI-8", "create", "C"), ("ITI-62", "delete", "D"), ("ITI-86", "delete", "D")]
)
def test_records_that_change(code: str, kind: Kind, action: str) -> None:
    root = made(replace(ACTION, kind=kind, subtypes=(Subtype(trail.ITI_41.system, code, "x"),)))
    assert (coded(root[0].find("EventID")), root[0].get("EventActionCode")) == (Coded("110110", "DCM", "Patient Record"), action)


def test_images() -> None:
    study = made(replace(ACTION, kind="export", subtypes=(trail.RAD_69,), entities=dicom_objects("1.2.840.1")))
    assert objects(study)[0] == ("2", "3", Coded("110180", "DCM", "Study Instance UID"), "1.2.840.1")
    one = made(
        replace(ACTION, kind="export", subtypes=(trail.RAD_55,), rest=True, entities=dicom_objects("1.2", "1.2.3", "1.2.4"))
    )
    assert [(each[2].text, each[3]) for each in objects(one)][:3] == [
        ("Study Instance UID", "1.2"), ("URI", "urn:oid:1.2.3"), ("URI", "urn:oid:1.2.4"),
    ]  # fmt: skip
    received = made(replace(ACTION, kind="create", subtypes=(trail.INSTANCES_TRANSFERRED,), entities=dicom_objects("1.2")))
    assert coded(received[0].find("EventID")) == Coded("110104", "DCM", "DICOM Instances Transferred")


@pytest.mark.parametrize(
    ("kind", "event_id"),
    [("read", "110106"), ("create", "110107"), ("update", "110110"), ("delete", "110110"), ("query", "110112")],
)
def test_what_is_rest_has_an_event_id_of_dicom(kind: Kind, event_id: str) -> None:
    entity = AuditedEntity(query=b"a=b") if kind == "query" else AuditedEntity(reference="Observation/o1")
    root = made(replace(ACTION, kind=kind, rest=True, subtypes=(), entities=(entity,)))
    assert coded(root[0].find("EventID")).code == event_id
    assert coded(root[0].find("EventTypeCode")).system == "http://hl7.org/fhir/restful-interaction"
    kinds = Coded("10", "RFC-3881", "Search Criteria") if kind == "query" else Coded("12", "RFC-3881", "URI")
    assert objects(root)[0][2] == kinds


def test_a_failed_authentication_and_a_refusal() -> None:
    root = made(
        replace(
            ACTION,
            kind="sign-in",
            subtypes=(trail.LOGIN,),
            outcome="4",
            outcome_desc="the assertion is not signed",
            patient_id="",
        )
    )
    assert coded(root[0].find("EventID")) == Coded("110114", "DCM", "User Authentication")
    assert coded(root[0].find("EventTypeCode")) == Coded("110122", "DCM", "Login")
    assert (root[0].get("EventOutcomeIndicator"), root[0].findtext("EventOutcomeDescription")) == (
        "4",
        "the assertion is not signed",
    )
    assert objects(root) == [REQUEST]


def test_a_patient_whom_nobody_knows_any_more_is_named_by_reference() -> None:
    assert objects(made(ACTION, patient=""))[0][3] == "Patient/p1"


SUBTYPES = [each for each in vars(trail).values() if isinstance(each, Subtype)]
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
AGENTS = st.builds(
    Agent,
    identifier=TEXT,
    system=TEXT,
    name=TEXT,
    address=st.sampled_from(["", "::1", "192.0.2.1", "host", "https://[::1", "http://h:1/x"]),
)
ENTITIES = st.builds(
    AuditedEntity,
    reference=TEXT,
    system=TEXT,
    identifier=TEXT,
    query=st.binary(max_size=9),
    details=st.tuples(st.tuples(TEXT, TEXT)),
)


@given(
    kind=st.sampled_from(["create", "read", "update", "delete", "query", "export", "sign-in", "security"]),
    subtype=st.sampled_from(SUBTYPES), client=AGENTS, server=AGENTS, user=st.none() | AGENTS, entities=st.lists(ENTITIES, min_size=1, max_size=3),
    rest=st.booleans(), words=TEXT, patient=TEXT, purposes=st.lists(TEXT.filter(bool), max_size=2),
)  # fmt: skip
def test_every_event_is_a_message_of_the_schema(
    kind: Kind, subtype: Subtype, client: Agent, server: Agent, user: Agent | None, entities: list[AuditedEntity], rest: bool, words: str,
    patient: str, purposes: list[str],
) -> None:  # fmt: skip
    action = replace(
        ACTION, kind=kind, subtypes=(subtype,), client=replace(client, purposes=tuple(purposes)), server=server, user=user,
        entities=tuple(entities), rest=rest, outcome_desc=words,
    )  # fmt: skip
    made(action, patient=patient, process=words, endpoint=words)


def test_every_kind_of_event_of_this_server_is_one(tmp_path: Path) -> None:
    """What people, apps, devices, strangers and commands leave in the trail."""
    from peers.every_event import happened

    with happened(tmp_path / "data") as done:
        events: list[dict[str, Any]] = done.events()
    for event in events:
        schema().assertValid(etree.fromstring(audit_message(event, patient=CX, process="1")))
    assert len(events) > 100
