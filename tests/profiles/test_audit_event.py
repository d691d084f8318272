import base64
from dataclasses import replace
from typing import Any

import orjson
import pytest
from fhir.resources.R4B.auditevent import AuditEvent

from profiles.audit_event import (
    AUTHORIZED_BY_CONSENT,
    DISCLOSED,
    EMERGENCY_STARTED,
    GET_ACCESS_TOKEN,
    INSTANCES_TRANSFERRED,
    ITI_67,
    RAD_68,
    RAD_69,
    RAD_107,
    REFUSED,
    REST_DELETE,
    REST_HISTORY_INSTANCE,
    REST_HISTORY_TYPE,
    REST_OPERATION,
    REST_PATCH,
    REST_READ,
    REST_UPDATE,
    USER_SECURITY_CHANGED,
    Agent,
    AuditedAction,
    AuditedEntity,
    Kind,
    Subtype,
    audit_event,
    dicom_objects,
)

BALP = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."
BY_TOKEN = BALP + "OAUTHaccessTokenUse.Comprehensive"
STUDY = AuditedEntity("ImagingStudy/s1", "urn:dicom:uid", "urn:oid:1.2.3", details=(("instances", "500"),))
READ = AuditedAction(
    id="a1",
    recorded="2026-01-08T12:00:00.000Z",
    kind="read",
    client=Agent(identifier="viewer", name="A viewer", address="192.0.2.7"),
    server=Agent(identifier="imageshare", address="https://images.example.org"),
    user=Agent(reference="Practitioner/dr-house", name="Gregory House"),
    subtypes=(REST_READ, RAD_107),
    patient_id="p1",
    entities=(STUDY,),
    request_id="0af7651916cd43dd",
    purpose="TREAT",
    token_id="6dd5f9c0",
)
QUERY = replace(
    READ,
    kind="query",
    subtypes=(ITI_67,),
    user=None,
    entities=(AuditedEntity(query=b"GET /fhir/DocumentReference?patient=p1"),),
)


def event_of(action: AuditedAction) -> dict[str, object]:
    event = audit_event(action)
    AuditEvent.model_validate(orjson.loads(orjson.dumps(event)))
    return event


def roles(event: dict[str, object]) -> dict[str, dict[str, object]]:
    agents = event["agent"]
    assert isinstance(agents, list)
    return {agent["type"]["coding"][0]["code"]: agent for agent in agents}


def test_a_read_has_the_shape_of_balp_patient_read() -> None:
    event = event_of(READ)
    assert event["meta"] == {"profile": [BALP + "PatientRead"]}
    assert event["type"] == {
        "system": "http://terminology.hl7.org/CodeSystem/audit-event-type",
        "code": "rest",
        "display": "Restful Operation",
    }
    assert event["subtype"] == [
        {"system": "http://hl7.org/fhir/restful-interaction", "code": "read", "display": "read"},
        {"system": "urn:ihe:event-type-code", "code": "RAD-107", "display": "WADO-RS Retrieve"},
    ]
    assert (event["action"], event["outcome"]) == ("R", "0")
    # 110152 destination: the client; 110153 source: the server, for what is read flows that way
    assert roles(event)["110152"] == {
        "type": {
            "coding": [
                {"system": "http://dicom.nema.org/resources/ontology/DCM", "code": "110152", "display": "Destination Role ID"}
            ]
        },
        "who": {"identifier": {"value": "viewer"}, "display": "A viewer"},
        "name": "A viewer",
        "requestor": False,
        "network": {"address": "192.0.2.7", "type": "2"},
    }
    assert roles(event)["110153"]["network"] == {"address": "https://images.example.org", "type": "5"}
    user = roles(event)["IRCP"]
    assert user["requestor"] is True
    assert user["policy"] == ["6dd5f9c0"]
    assert user["purposeOfUse"] == [
        {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "TREAT"}]}
    ]
    assert event["entity"] == [
        {
            "what": {"reference": "ImagingStudy/s1", "identifier": {"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"}},
            "type": {
                "system": "http://terminology.hl7.org/CodeSystem/audit-entity-type",
                "code": "2",
                "display": "System Object",
            },
            "role": {"system": "http://terminology.hl7.org/CodeSystem/object-role", "code": "4", "display": "Domain Resource"},
            "detail": [{"type": "instances", "valueString": "500"}],
        },
        {
            "what": {"reference": "Patient/p1"},
            "type": {"system": "http://terminology.hl7.org/CodeSystem/audit-entity-type", "code": "1", "display": "Person"},
            "role": {"system": "http://terminology.hl7.org/CodeSystem/object-role", "code": "1", "display": "Patient"},
        },
        {
            "what": {"identifier": {"value": "0af7651916cd43dd"}},
            "type": {"system": "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType", "code": "XrequestId"},
        },
    ]


def test_a_query_has_the_shape_of_balp_patient_query() -> None:
    event = event_of(QUERY)
    assert event["meta"] == {"profile": [BALP + "PatientQuery", BY_TOKEN]}
    assert event["action"] == "E"
    subtypes = event["subtype"]
    entities = event["entity"]
    assert isinstance(subtypes, list)
    assert isinstance(entities, list)
    assert [each["code"] for each in subtypes] == ["search", "ITI-67"]
    assert base64.b64decode(entities[0]["query"]) == b"GET /fhir/DocumentReference?patient=p1"
    assert "what" not in entities[0]  # BALP: entity[query].what 0..0
    # the query flows from the client, and nobody stands behind the client
    assert roles(event)["110153"]["who"] == {"identifier": {"value": "viewer"}, "display": "A viewer"}
    assert roles(event)["110153"]["requestor"] is True
    assert roles(event)["110153"]["policy"] == ["6dd5f9c0"]


def test_a_create_names_its_author() -> None:
    event = event_of(replace(READ, kind="create", subtypes=()))
    assert event["meta"] == {"profile": [BALP + "PatientCreate"]}
    assert event["action"] == "C"
    assert set(roles(event)) == {"110152", "110153", "AUT"}


def test_an_update_and_a_patch_meet_one_pattern() -> None:
    for subtype in (REST_UPDATE, REST_PATCH):
        event = event_of(replace(READ, kind="update", subtypes=(subtype,)))
        assert event["meta"] == {"profile": [BALP + "PatientUpdate"]}
        assert (event["action"], event["subtype"][0]["code"]) == ("U", subtype.code)  # type: ignore[index]
        assert set(roles(event)) == {"110152", "110153", "AUT"}


def test_a_delete_is_by_an_application_at_a_custodian() -> None:
    """BALP 1.1.4, IHE.BasicAudit.PatientDelete: other roles than the other patterns have. Agents may name their token there."""
    event = event_of(replace(READ, kind="delete", subtypes=(REST_DELETE,), user=None, client=APP))
    assert event["meta"] == {"profile": [BALP + "PatientDelete", BY_TOKEN]}
    assert (event["action"], event["subtype"][0]["code"]) == ("D", "delete")  # type: ignore[index]
    client, server, user = parts(event, "agent")
    assert [codes(each) for each in (client, server, user)] == [["110150"], ["custodian"], ["AUT", "IRCP"]]
    assert user["policy"] == ["6dd5f9c0"]
    assert event_of(replace(READ, kind="delete", subtypes=(REST_DELETE,), patient_id=""))["meta"] == {
        "profile": [BALP + "Delete"]
    }


@pytest.mark.parametrize(
    ("kind", "subtype"), [("read", REST_HISTORY_INSTANCE), ("query", REST_HISTORY_TYPE), ("query", REST_OPERATION)]
)
def test_what_no_pattern_is_for_claims_none(kind: Kind, subtype: Subtype) -> None:
    """BALP 1.1.4: Read and Query ask for one subtype of reads, or of searches."""
    entity = QUERY.entities if kind == "query" else READ.entities
    event = event_of(replace(READ, kind=kind, subtypes=(subtype,), entities=entity, client=APP, user=None))
    assert event["meta"] == {"profile": [BY_TOKEN]}


def test_without_a_patient_it_is_the_plain_pattern() -> None:
    assert event_of(replace(READ, patient_id=""))["meta"] == {"profile": [BALP + "Read"]}


def test_a_refusal_says_so_and_claims_no_pattern() -> None:
    event = event_of(replace(READ, outcome=REFUSED, outcome_desc="the token is for another patient"))
    assert (event["outcome"], event["outcomeDesc"]) == ("4", "the token is for another patient")
    assert "meta" not in event


@pytest.mark.parametrize(
    "lacking",
    [
        {"entities": ()},
        {"entities": (STUDY, STUDY)},
        {"client": Agent(identifier="viewer")},
        {"entities": (AuditedEntity(query=b"q"),)},
        {"rest": False},
    ],
)
def test_an_event_that_lacks_what_the_pattern_asks_for_claims_none(lacking: dict[str, object]) -> None:
    assert "meta" not in event_of(replace(READ, **lacking))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "code", "action"), [("create", "110104", "C"), ("export", "110106", "R"), ("query", "110112", "E")]
)
def test_soap_and_dicom_use_the_event_types_of_dicom(kind: Kind, code: str, action: str) -> None:
    event = event_of(replace(READ, kind=kind, rest=False, subtypes=(RAD_69, INSTANCES_TRANSFERRED)))
    assert event["type"]["code"] == code  # type: ignore[index]
    assert event["action"] == action
    assert [each["code"] for each in event["subtype"]] == ["RAD-69", "110104"]  # type: ignore[attr-defined]


def test_an_import_by_soap_is_an_import_and_one_by_dicom_a_transfer() -> None:
    """PS3.15 sections A.5.3.5 and A.5.3.7."""
    by_soap = event_of(replace(READ, kind="create", rest=False, subtypes=(RAD_68,)))
    by_dicom = event_of(replace(READ, kind="create", rest=False, subtypes=(INSTANCES_TRANSFERRED,)))
    assert by_soap["type"]["code"] == "110107"  # type: ignore[index]
    assert by_dicom["type"] == {
        "system": "http://dicom.nema.org/resources/ontology/DCM",
        "code": "110104",
        "display": "DICOM Instances Transferred",
    }


def test_a_stored_query_keeps_its_id_and_its_encoding() -> None:
    """ITI TF-2 section 3.18.5.1: ParticipantObjectID, -Query and -Detail."""
    asked = AuditedEntity("", "urn:ietf:rfc:3986", "urn:uuid:q", b"<q/>", (("QueryEncoding", "UTF-8"),))
    event = event_of(replace(QUERY, rest=False, entities=(asked,)))
    entity = event["entity"][0]  # type: ignore[index]
    assert entity["what"] == {"identifier": {"system": "urn:ietf:rfc:3986", "value": "urn:uuid:q"}}
    assert base64.b64decode(entity["query"]) == b"<q/>"
    assert entity["detail"] == [{"type": "QueryEncoding", "valueString": "UTF-8"}]
    assert "name" not in entity  # FHIR R4 sev-1: a name or a query, not both
    assert event_of(replace(QUERY, entities=(asked,)))["meta"] == {"profile": [BY_TOKEN]}, "BALP: entity[query].what 0..0"


def test_the_objects_of_a_request_are_those_whose_uids_are_uids() -> None:
    study, instance = dicom_objects(study="1.2.3", series="../../etc", instance="1.2.3.4")
    assert (study.system, study.identifier, study.details) == (
        "urn:dicom:uid",
        "urn:oid:1.2.3",
        (("attribute", "StudyInstanceUID"),),
    )
    assert (instance.identifier, instance.details) == ("urn:oid:1.2.3.4", (("attribute", "SOPInstanceUID"),))
    assert dicom_objects(study="1" * 65, instance="Doe^Jane") == dicom_objects() == ()


def test_what_the_server_does_of_itself_it_requests_itself() -> None:
    event = event_of(replace(READ, kind="export", rest=False, user=None, initiated=False))
    assert roles(event)["110153"]["requestor"] is True
    assert roles(event)["110152"]["requestor"] is False
    assert roles(event)["110153"]["policy"] == ["6dd5f9c0"]


@pytest.mark.parametrize(("address", "expected"), [("2001:db8::7334", "2"), ("ct1.example.org", "1"), ("https://x.example", "5")])
def test_a_network_address_says_of_which_kind_it_is(address: str, expected: str) -> None:
    event = event_of(replace(READ, client=Agent(identifier="x", address=address)))
    assert roles(event)["110152"]["network"] == {"address": address, "type": expected}


def test_an_unknown_client_is_still_an_agent() -> None:
    event = event_of(replace(READ, client=Agent(address="192.0.2.9"), user=None, outcome=REFUSED))
    assert roles(event)["110152"]["who"] == {"display": "unknown"}


def test_one_event_does_not_change_the_next() -> None:
    first = orjson.dumps(audit_event(READ))
    audit_event(replace(READ, user=None))
    assert orjson.dumps(audit_event(READ)) == first


# --- by whom, for what: access tokens, authorization, disclosure

DOCTOR = Agent(identifier="account-1", system="urn:oid:1.2.3", reference="Practitioner/dr-house")
APP = Agent(identifier="viewer", address="192.0.2.7", user=DOCTOR, purposes=("TREAT", "BTG"))


def parts(event: dict[str, object], name: str) -> list[dict[str, Any]]:
    found = event[name]
    assert isinstance(found, list)
    return found


def codes(agent: dict[str, Any]) -> list[str]:
    return [coding["code"] for coding in agent["type"]["coding"]]


def test_a_client_and_its_user_are_two_agents_and_the_user_asks_for_a_purpose() -> None:
    """BALP OAUTHaccessTokenUse.Comprehensive: oClient is an Application, oUser has who, the token's id and purposes of use."""
    event = event_of(replace(READ, client=APP, user=None, purpose="", token_id="x" * 40 + "y" * 32))
    assert event["meta"] == {"profile": [BALP + "PatientRead", BY_TOKEN]}
    client, server, user = parts(event, "agent")
    assert codes(client) == ["110152", "110150"]
    assert client["who"] == {"identifier": {"value": "viewer"}}
    assert codes(server) == ["110153"]
    assert codes(user) == ["IRCP"]
    assert user["who"] == {
        "reference": "Practitioner/dr-house",
        "identifier": {"system": "urn:oid:1.2.3", "value": "account-1"},
    }
    assert [each["requestor"] for each in (client, server, user)] == [False, False, True]
    assert user["policy"] == ["y" * 32], "at most the last 32 characters"
    assert [each["coding"][0]["code"] for each in user["purposeOfUse"]] == ["TREAT", "BTG"]
    assert "network" not in user
    assert "policy" not in client


def test_a_client_by_itself_is_the_one_who_asks() -> None:
    event = event_of(
        replace(READ, client=Agent(identifier="backend", address="192.0.2.7", purposes=("HRESCH",)), user=None, purpose="")
    )
    client, _ = parts(event, "agent")
    assert (client["requestor"], client["policy"], client["purposeOfUse"][0]["coding"][0]["code"]) == (
        True,
        ["6dd5f9c0"],
        "HRESCH",
    )


def test_a_refusal_claims_nothing_of_its_token_either() -> None:
    assert "meta" not in event_of(replace(READ, client=APP, outcome=REFUSED))


def test_a_token_is_issued_as_iua_has_it() -> None:
    """BALP IHE.IUA.71: 110114, ITI-71, client and authorization server and user, the request without secrets and nothing else."""
    asked = AuditedEntity(query=b"grant_type=authorization_code", details=(("scope", "user/*.rs"),))
    action = replace(
        READ, kind="sign-in", rest=False, client=APP, user=None, subtypes=(GET_ACCESS_TOKEN,), patient_id="", entities=(asked,)
    )
    event = event_of(action)
    assert event["meta"] == {"profile": ["https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.IUA.71"]}
    assert event["type"]["code"] == "110114"  # type: ignore[index]
    assert event["action"] == "E"
    assert [codes(each) for each in parts(event, "agent")] == [["110150"], ["AuthzOauthService"], ["IRCP"]]
    (entity,) = parts(event, "entity")
    assert entity["role"]["code"] == "24"
    assert {"type": "X-Request-Id", "valueString": "0af7651916cd43dd"} in entity["detail"]
    of_patient = event_of(replace(action, patient_id="p1"))
    assert "meta" not in of_patient, "the profile has no place for a patient, and the patient is worth more"
    assert {"reference": "Patient/p1"} in [each.get("what") for each in parts(of_patient, "entity")]


def test_a_decision_by_consent_names_the_consent() -> None:
    action = replace(
        READ, kind="security", rest=False, client=APP, user=None, subtypes=(AUTHORIZED_BY_CONSENT,),
        entities=(AuditedEntity(reference="Consent/c1"),), request_id="",
    )  # fmt: skip
    event = event_of(action)
    assert event["type"]["code"] == "110113"  # type: ignore[index]
    assert event["subtype"][0]["code"] == "AuthZ-Consent"  # type: ignore[index]
    assert [codes(each) for each in parts(event, "agent")] == [["110150"], ["authserver"], ["IRCP"]]
    assert [each["type"]["code"] for each in parts(event, "entity")] == ["Consent", "1"]


@pytest.mark.parametrize(("kind", "profile", "of_server"), [("export", "Source", "110153"), ("create", "Recipient", "110152")])
def test_a_disclosure_says_who_allowed_it(kind: Kind, profile: str, of_server: str) -> None:
    """BALP PrivacyDisclosure: the server is the source or the recipient, and the patient, or who acts for them, the authorizer."""
    action = replace(
        READ, kind=kind, rest=False, subtypes=(DISCLOSED,), user=None, authorizer=Agent(reference="Patient/p1"), purpose="PATRQT"
    )
    event = event_of(action)
    assert event["meta"] == {"profile": [f"{BALP}PrivacyDisclosure.{profile}"]}
    server = roles(event)[of_server]
    assert server["who"] == event["source"]["observer"]  # type: ignore[index]
    assert roles(event)["429577009"]["who"] == {"reference": "Patient/p1"}
    assert "meta" not in event_of(replace(action, patient_id=""))


@pytest.mark.parametrize(("subtype", "code"), [(EMERGENCY_STARTED, "110127"), (USER_SECURITY_CHANGED, "110137")])
def test_security_alerts_have_the_codes_of_dicom(subtype: Subtype, code: str) -> None:
    event = event_of(replace(READ, kind="security", rest=False, subtypes=(subtype,), purpose="BTG"))
    assert (event["type"]["code"], event["subtype"][0]["code"]) == ("110113", code)  # type: ignore[index]
    assert "meta" not in event
