"""DICOM audit messages (PS3.15 section A.5.1) as Record Audit Event sends them (ITI-20, ITI TF-2 section 3.20.7).

Made of the AuditEvent that the trail has of the same action, so that both tell the same; FHIR has its AuditEvent from here. Where the audit table of a
transaction asks for other codes than the event has, `_EVENT_IDS`, `_OBJECTS` and `_DETAILS` have them.
"""

import base64
import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from lxml import etree
from lxml.etree import _Element

from ihe.xml import clean
from profiles.vocabulary import ACT_REASON, DCM_SYSTEM, DICOM_UID_SYSTEM, IHE_TRANSACTION

Json = Mapping[str, Any]


class Coded(NamedTuple):
    """PS3.15 table A.5.2-1, CodedValueType: csd-code, codeSystemName, originalText."""

    code: str
    system: str
    text: str


_SYSTEMS: Final = {DCM_SYSTEM: "DCM", IHE_TRANSACTION: "IHE Transactions", ACT_REASON: "2.16.840.1.113883.5.8"}
"""Code systems by the names that audit messages have for them; others are called as FHIR does, and OIDs without `urn:oid:`."""

EXPORT: Final = Coded("110106", "DCM", "Export")
IMPORT: Final = Coded("110107", "DCM", "Import")
PATIENT_RECORD: Final = Coded("110110", "DCM", "Patient Record")
QUERY: Final = Coded("110112", "DCM", "Query")
_BY_ACTION: Final = {"C": IMPORT, "R": EXPORT, "U": PATIENT_RECORD, "D": PATIENT_RECORD, "E": QUERY}
"""EventID of what is REST, by its action: FHIR has no such code for it."""
_EVENT_IDS: Final = dict.fromkeys(("ITI-8", "ITI-30", "ITI-31", "ITI-62", "ITI-64", "ITI-86"), PATIENT_RECORD)
"""ITI TF-2 sections 3.8.5.1, 3.62.5.1, 3.64.5.1, 3.86.5.1: transactions that change a record, whichever way data flow."""

# --- objects (ParticipantObjectIDTypeCode); RFC-3881's numbers where nobody has others (ITI TF-2 section 3.20.7.1.3)
PATIENT_NUMBER: Final = Coded("2", "RFC-3881", "Patient Number")
REPORT_NUMBER: Final = Coded("9", "RFC-3881", "Report Number")
SEARCH_CRITERIA: Final = Coded("10", "RFC-3881", "Search Criteria")
URI: Final = Coded("12", "RFC-3881", "URI")
STUDY_INSTANCE_UID: Final = Coded("110180", "DCM", "Study Instance UID")
SUBMISSION_SET: Final = Coded(
    "urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd", "IHE XDS Metadata", "submission set classificationNode"
)
OBJECT_REFERENCE: Final = Coded("urn:ihe:iti:2017:ObjectRef", "IHE XDS Metadata", "registry object reference")
_REPORT, _JOB, _RESOURCE, _QUERY, _PROCESSING = "3", "20", "4", "24", "26"
"""ParticipantObjectTypeCodeRole."""
_OBJECTS: Final[Mapping[str, tuple[str, Coded]]] = {
    **dict.fromkeys(("ITI-43", "ITI-68", "ITI-86"), (_REPORT, REPORT_NUMBER)),
    **dict.fromkeys(("ITI-41", "ITI-42", "ITI-57", "ITI-61", "ITI-65", "ITI-92", "RAD-68"), (_JOB, SUBMISSION_SET)),
    "ITI-62": (_REPORT, OBJECT_REFERENCE),
}
"""Role and kind of what a transaction is about, where its audit table says so; queries and studies say it themselves."""
_DETAILS: Final = {
    "repositoryUniqueId": "Repository Unique Id",
    "homeCommunityId": "ihe:homeCommunityID",
}  # ITI TF-2 section 3.43.6.1


def audit_message(event: Json, *, patient: str = "", process: str = "", endpoint: str = "") -> bytes:
    """The AuditMessage of a FHIR R4 AuditEvent, as XML in UTF-8.

    `patient` is the CX of the patient whom the event names by a reference; `process` names our process in the local system's logs; `endpoint` is the
    URL that was called here, where that is more than the address of the server.
    """
    root = etree.Element("AuditMessage")
    _identification(root, event)
    observer = event.get("source", {}).get("observer", {})
    for agent in event.get("agent", ()):
        own = agent.get("who") == observer
        _participant(root, agent, process if own else "", endpoint if own else "")
    _source(root, event.get("source", {}))
    for entity in event.get("entity", ()):
        _object(root, entity, event, patient)
    # On one line: a syslog daemon may write a line feed as "#012", which is no XML.
    return b'<?xml version="1.0" encoding="UTF-8"?>' + etree.tostring(root, encoding="UTF-8", xml_declaration=False)


def transaction(event: Json) -> Coded | None:
    """The IHE transaction that an event tells of, if any."""
    found = [_coded(each) for each in event.get("subtype", ()) if each.get("system") == IHE_TRANSACTION]
    return found[-1] if found else None


def _identification(root: _Element, event: Json) -> None:
    """PS3.15 section A.5.2.1, with PurposeOfUse of ITI TF-2 section 3.20.7.1.2."""
    made = _child(
        root, "EventIdentification", EventActionCode=event.get("action", "E"), EventDateTime=event["recorded"],
        EventOutcomeIndicator=event.get("outcome", "0"),
    )  # fmt: skip
    _code(made, "EventID", _event_id(event))
    for subtype in event.get("subtype", ()):
        _code(made, "EventTypeCode", _coded(subtype))
    if event.get("outcomeDesc"):
        _child(made, "EventOutcomeDescription").text = clean(event["outcomeDesc"])
    purposes = {
        _coded(coding): None
        for agent in event.get("agent", ())
        for purpose in agent.get("purposeOfUse", ())
        for coding in purpose.get("coding", ())
    }
    for each in purposes:
        _code(made, "PurposeOfUse", each)


def _event_id(event: Json) -> Coded:
    named = transaction(event)
    if named is not None and named.code in _EVENT_IDS:
        return _EVENT_IDS[named.code]
    if event["type"].get("system") == DCM_SYSTEM:
        return _coded(event["type"])
    return _BY_ACTION[event.get("action", "E")]


def _participant(root: _Element, agent: Json, process: str, endpoint: str) -> None:
    """PS3.15 section A.5.2.2. A server is known by its URL, everybody else by who they are."""
    who, address = agent.get("who", {}), agent.get("network", {}).get("address", "")
    host = _host(address)
    named = who.get("identifier", {}).get("value") or who.get("reference") or who.get("display") or "unknown"
    attributes = {
        "UserID": endpoint or (address if "://" in address else named),
        "AlternativeUserID": process,
        "UserName": agent.get("name", ""),
        "UserIsRequestor": "true" if agent.get("requestor") else "false",
        "NetworkAccessPointID": host,
        "NetworkAccessPointTypeCode": ("2" if _is_address(host) else "1") if host else "",
    }
    made = _child(root, "ActiveParticipant", **{name: value for name, value in attributes.items() if value})
    for coding in agent.get("type", {}).get("coding", ()):
        _code(made, "RoleIDCode", _coded(coding))


def _source(root: _Element, source: Json) -> None:
    """PS3.15 section A.5.2.3."""
    who = source.get("observer", {})
    made = _child(
        root, "AuditSourceIdentification", AuditEnterpriseSiteID=source.get("site", ""),
        AuditSourceID=who.get("identifier", {}).get("value") or who.get("display") or "unknown",
    )  # fmt: skip
    for each in source.get("type", ()):
        _code(made, "AuditSourceTypeCode", Coded(each["code"], "DCM", each.get("display", each["code"])))


def _object(root: _Element, entity: Json, event: Json, patient: str) -> None:
    """PS3.15 section A.5.2.4."""
    what = entity.get("what", {})
    identifier = what.get("identifier", {}).get("value", "")
    if entity.get("role", {}).get("code") == "1":
        kind, role, typed, named = "1", "1", PATIENT_NUMBER, patient or what.get("reference", "")
    else:
        kind, role, typed = _kind(entity, event)
        bare = typed in (REPORT_NUMBER, SUBMISSION_SET, STUDY_INSTANCE_UID)
        named = (identifier.removeprefix("urn:oid:") if bare else identifier) or what.get("reference", "")
    attributes = {
        "ParticipantObjectTypeCode": kind,
        "ParticipantObjectTypeCodeRole": role,
        "ParticipantObjectID": named or "unknown",
    }
    made = _child(root, "ParticipantObjectIdentification", **attributes)
    _code(made, "ParticipantObjectIDTypeCode", typed)
    if entity.get("query"):
        _child(made, "ParticipantObjectQuery").text = entity["query"]
    for name, value in _details(entity):
        _child(made, "ParticipantObjectDetail", type=name, value=value)


def _kind(entity: Json, event: Json) -> tuple[str, str, Coded]:
    """Type, role and kind of identifier of what is no patient."""
    named, of_type = transaction(event), entity.get("type", {})
    if entity.get("query") or entity.get("role", {}).get("code") == _QUERY:
        return "2", _QUERY, named or SEARCH_CRITERIA
    if not of_type.get("code", "").isdigit():  # a request id, or a kind of resource
        return "4", _PROCESSING, _coded(of_type) if of_type.get("code") else URI
    if entity.get("what", {}).get("identifier", {}).get("system") == DICOM_UID_SYSTEM:
        of_study = all(
            each.get("valueString") == "StudyInstanceUID" for each in entity.get("detail", ()) if each["type"] == "attribute"
        )
        return "2", _REPORT, STUDY_INSTANCE_UID if of_study else URI
    role, typed = _OBJECTS.get(named.code if named else "", (entity.get("role", {}).get("code", _RESOURCE), URI))
    return "2", role, typed


def _details(entity: Json) -> Iterator[tuple[str, str]]:
    """PS3.15 section A.5.1: name and value of each detail, the value in base64."""
    for each in entity.get("detail", ()):
        yield _DETAILS.get(each["type"], each["type"]), each.get("valueBase64Binary") or _base64(each.get("valueString", ""))


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode("ascii")


def _coded(coding: Json) -> Coded:
    system = coding.get("system", "")
    return Coded(coding["code"], _SYSTEMS.get(system, system.removeprefix("urn:oid:")), coding.get("display") or coding["code"])


def _code(parent: _Element, name: str, coded: Coded) -> None:
    made = _child(parent, name, codeSystemName=coded.system or "local", originalText=coded.text)
    made.set("csd-code", clean(coded.code))


def _child(parent: _Element, name: str, **attributes: str) -> _Element:
    return etree.SubElement(parent, name, {key: clean(value) for key, value in attributes.items()})


def _host(address: str) -> str:
    """The machine of an address or URL."""
    if "://" not in address:
        return address
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
