"""What was done to whose data, as a FHIR R4 AuditEvent in the shapes of IHE BALP (Basic Audit Log Patterns).

One action becomes one event: successful or refused, by REST, SOAP or DICOM. BALP's patterns (Read, Create, Query and the
same with a Patient) are for REST that succeeded; an event claims a pattern's URL only where it has everything that the
pattern asks for. A refusal has the same shape and claims none (docs/decisions/0005). An event carries no patient data but the resource id, nobody's
name, no token but its `jti`, and no credentials.
"""

import base64
import ipaddress
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias

from profiles.identifiers import InvalidIdentifier, lenient_uid
from profiles.patient import Json
from profiles.vocabulary import (
    ACT_REASON,
    AUDIT_ENTITY_TYPE,
    AUDIT_EVENT_TYPE,
    AUDIT_SOURCE_TYPE,
    BALP_AGENT_TYPE,
    BALP_AUTHORIZATION,
    BALP_ENTITY_TYPE,
    BALP_GET_ACCESS_TOKEN,
    BALP_PROFILES,
    DCM_APPLICATION,
    DCM_APPLICATION_ACTIVITY,
    DCM_APPLICATION_LAUNCHER,
    DCM_APPLICATION_START,
    DCM_APPLICATION_STOP,
    DCM_DESTINATION_ROLE,
    DCM_EMERGENCY_STARTED,
    DCM_EMERGENCY_STOPPED,
    DCM_EXPORT,
    DCM_IMPORT,
    DCM_INSTANCES_TRANSFERRED,
    DCM_LOGIN,
    DCM_LOGOUT,
    DCM_PATIENT_RECORD,
    DCM_QUERY,
    DCM_SECURITY_ALERT,
    DCM_SOURCE_ROLE,
    DCM_SYSTEM,
    DCM_USER_AUTHENTICATION,
    DCM_USER_SECURITY_CHANGED,
    DICOM_UID_SYSTEM,
    IHE_TRANSACTION,
    LIFECYCLE,
    OBJECT_ROLE,
    PARTICIPATION_TYPE,
    PROVENANCE_PARTICIPANT,
    RESOURCE_TYPES,
    RESTFUL_INTERACTION,
    SECURITY_ROLE,
    SNOMED_SYSTEM,
)

Kind: TypeAlias = Literal["create", "read", "update", "delete", "query", "export", "sign-in", "security", "activity"]
# FHIR R4 audit-event-outcome: success, minor failure (refused, not found, bad request), serious failure, major failure
Outcome: TypeAlias = Literal["0", "4", "8", "12"]

SUCCESS: Outcome = "0"
REFUSED: Outcome = "4"
FAILED: Outcome = "8"


@dataclass(frozen=True, slots=True)
class Subtype:
    """AuditEvent.subtype: the interaction or transaction."""

    system: str
    code: str
    display: str


REST_READ = Subtype(RESTFUL_INTERACTION, "read", "read")
REST_VREAD = Subtype(RESTFUL_INTERACTION, "vread", "vread")
REST_SEARCH = Subtype(RESTFUL_INTERACTION, "search", "search")
REST_SEARCH_SYSTEM = Subtype(RESTFUL_INTERACTION, "search-system", "search-system")
REST_HISTORY_INSTANCE = Subtype(RESTFUL_INTERACTION, "history-instance", "history-instance")
REST_HISTORY_TYPE = Subtype(RESTFUL_INTERACTION, "history-type", "history-type")
REST_HISTORY_SYSTEM = Subtype(RESTFUL_INTERACTION, "history-system", "history-system")
REST_CREATE = Subtype(RESTFUL_INTERACTION, "create", "create")
REST_UPDATE = Subtype(RESTFUL_INTERACTION, "update", "update")
REST_PATCH = Subtype(RESTFUL_INTERACTION, "patch", "patch")
REST_DELETE = Subtype(RESTFUL_INTERACTION, "delete", "delete")
REST_TRANSACTION = Subtype(RESTFUL_INTERACTION, "transaction", "transaction")
REST_BATCH = Subtype(RESTFUL_INTERACTION, "batch", "batch")
REST_OPERATION = Subtype(RESTFUL_INTERACTION, "operation", "operation")

# IHE transactions by their number, in the code system that BALP's own examples use
ITI_8 = Subtype(IHE_TRANSACTION, "ITI-8", "Patient Identity Feed")
ITI_64 = Subtype(IHE_TRANSACTION, "ITI-64", "Notify XAD-PID Link Change")
ITI_18 = Subtype(IHE_TRANSACTION, "ITI-18", "Registry Stored Query")
ITI_41 = Subtype(IHE_TRANSACTION, "ITI-41", "Provide and Register Document Set-b")
ITI_42 = Subtype(IHE_TRANSACTION, "ITI-42", "Register Document Set-b")
ITI_43 = Subtype(IHE_TRANSACTION, "ITI-43", "Retrieve Document Set")
ITI_57 = Subtype(IHE_TRANSACTION, "ITI-57", "Update Document Set")
ITI_61 = Subtype(IHE_TRANSACTION, "ITI-61", "Register On-Demand Document Entry")
ITI_62 = Subtype(IHE_TRANSACTION, "ITI-62", "Remove Metadata")
ITI_51 = Subtype(IHE_TRANSACTION, "ITI-51", "Multi-Patient Stored Query")
ITI_65 = Subtype(IHE_TRANSACTION, "ITI-65", "Provide Document Bundle")
ITI_67 = Subtype(IHE_TRANSACTION, "ITI-67", "Find Document References")
ITI_68 = Subtype(IHE_TRANSACTION, "ITI-68", "Retrieve Document")
ITI_105 = Subtype(IHE_TRANSACTION, "ITI-105", "Simplified Publish")
ITI_106 = Subtype(IHE_TRANSACTION, "ITI-106", "Generate Metadata")
ITI_86 = Subtype(IHE_TRANSACTION, "ITI-86", "Remove Documents")
ITI_92 = Subtype(IHE_TRANSACTION, "ITI-92", "Restricted Update Document Set")
RAD_5 = Subtype(IHE_TRANSACTION, "RAD-5", "Query Modality Worklist")
RAD_6 = Subtype(IHE_TRANSACTION, "RAD-6", "Modality Procedure Step In Progress")
RAD_7 = Subtype(IHE_TRANSACTION, "RAD-7", "Modality Procedure Step Completed")
RAD_10 = Subtype(IHE_TRANSACTION, "RAD-10", "Storage Commitment")
RAD_14 = Subtype(IHE_TRANSACTION, "RAD-14", "Query Images")
RAD_55 = Subtype(IHE_TRANSACTION, "RAD-55", "WADO Retrieve")
RAD_68 = Subtype(IHE_TRANSACTION, "RAD-68", "Provide and Register Imaging Document Set - MTOM/XOP")
RAD_69 = Subtype(IHE_TRANSACTION, "RAD-69", "Retrieve Imaging Document Set")
RAD_107 = Subtype(IHE_TRANSACTION, "RAD-107", "WADO-RS Retrieve")
RAD_108 = Subtype(IHE_TRANSACTION, "RAD-108", "Store Instances Over the Web")
RAD_129 = Subtype(IHE_TRANSACTION, "RAD-129", "QIDO-RS Query")

# DICOM: what PS3.15 section A.5.3 calls the transfer of instances, whichever DIMSE service does it
INSTANCES_TRANSFERRED = Subtype(DCM_SYSTEM, DCM_INSTANCES_TRANSFERRED, "DICOM Instances Transferred")

# The program itself: PS3.15 section A.5.3.1
APPLICATION_START = Subtype(DCM_SYSTEM, DCM_APPLICATION_START, "Application Start")
APPLICATION_STOP = Subtype(DCM_SYSTEM, DCM_APPLICATION_STOP, "Application Stop")

# People: PS3.16 CID 401 and 402, PS3.15 sections A.5.3.11 and A.5.3.12
LOGIN = Subtype(DCM_SYSTEM, DCM_LOGIN, "Login")
LOGOUT = Subtype(DCM_SYSTEM, DCM_LOGOUT, "Logout")
USER_SECURITY_CHANGED = Subtype(DCM_SYSTEM, DCM_USER_SECURITY_CHANGED, "User Security Attributes Changed")
EMERGENCY_STARTED = Subtype(DCM_SYSTEM, DCM_EMERGENCY_STARTED, "Emergency Override Started")
EMERGENCY_STOPPED = Subtype(DCM_SYSTEM, DCM_EMERGENCY_STOPPED, "Emergency Override Stopped")

# Authorization: IHE IUA, and BALP sections 3:5.7.6 and 3:5.7.7
GET_ACCESS_TOKEN = Subtype(IHE_TRANSACTION, "ITI-71", "Get Access Token")
AUTHORIZED_BY_CONSENT = Subtype(BALP_AUTHORIZATION, "AuthZ-Consent", "Authorization Decision using Roles and Consent")
DISCLOSED = Subtype(LIFECYCLE, "disclose", "Disclose Record Lifecycle Event")
# The trail itself
RECORDS_DESTROYED = Subtype(LIFECYCLE, "destroy", "Destroy/Delete Record Lifecycle Event")

_SUBTYPES = {each.code: each for each in tuple(globals().values()) if isinstance(each, Subtype)}
# The transactions that are REST: which interaction each is. An event of one says both
_INTERACTIONS = {
    ITI_65: REST_TRANSACTION,
    ITI_105: REST_CREATE,
    ITI_106: REST_OPERATION,
    RAD_55: REST_READ,
    RAD_107: REST_READ,
    RAD_108: REST_CREATE,
    RAD_129: REST_SEARCH,
}


def subtypes_of(system: str | None, code: str | None) -> tuple[str, ...]:
    """The codes of the last subtype (`AuditedAction.subtypes`) of all events that say a subtype of this `system` and `code`; None: any."""
    return tuple(
        last.code
        for last in _SUBTYPES.values()
        if any(system in (None, said.system) and code in (None, said.code) for said in (last, _INTERACTIONS.get(last, last)))
    )


@dataclass(frozen=True, slots=True)
class Agent:
    """Who took part: a client, a device, a person. `reference` (`Device/x`) or `identifier` says who, `name` is for people.

    `user` is the person on whose behalf a client asks, `purposes` are what for: codes of HL7 v3 ActReason, others as `system|code`.
    """

    identifier: str = ""
    system: str = ""
    reference: str = ""
    name: str = ""
    address: str = ""
    user: "Agent | None" = None
    purposes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AuditedEntity:
    """What was read, written or asked: a resource (`reference`), a business identifier, or the raw `query`.

    `details` are pairs such as `("instances", "500")`, without patient data. A query by REST has neither name nor details
    (BALP); a stored query has its id as `identifier` (ITI TF-2 section 3.18.5.1). Details alone are of the action's patient.
    """

    reference: str = ""
    system: str = ""
    identifier: str = ""
    query: bytes = b""
    details: tuple[tuple[str, str], ...] = ()


def dicom_objects(study: str = "", series: str = "", instance: str = "") -> tuple[AuditedEntity, ...]:
    """The study, series and instance that these UIDs name. What is empty or no UID is left out: a client may send anything."""
    found = []
    for attribute, uid in (("StudyInstanceUID", study), ("SeriesInstanceUID", series), ("SOPInstanceUID", instance)):
        try:
            named = f"urn:oid:{lenient_uid(uid)}"
        except InvalidIdentifier:
            continue
        found.append(AuditedEntity(system=DICOM_UID_SYSTEM, identifier=named, details=(("attribute", attribute),)))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class AuditedAction:
    """One thing that somebody did, or was refused.

    `recorded` is a FHIR instant. `rest` is False for SOAP and DICOM. `client` asked, `user` is the person on whose behalf, if any (else that
    of the client); `server` is this installation (`address` its URL or AE title's host). `initiated` is False where this server acts of itself.
    `patient_id` is the resource id. `purpose` is a code of HL7 v3 ActReason. `token_id` is the access token's `jti`. `authorizer` allowed a
    disclosure in the patient's name.
    """

    id: str
    recorded: str
    kind: Kind
    client: Agent
    server: Agent
    subtypes: tuple[Subtype, ...] = ()
    rest: bool = True
    outcome: Outcome = SUCCESS
    outcome_desc: str = ""
    user: Agent | None = None
    initiated: bool = True
    patient_id: str = ""
    entities: tuple[AuditedEntity, ...] = ()
    request_id: str = ""
    purpose: str = ""
    token_id: str = ""
    authorizer: Agent | None = None


# kind: (AuditEvent.action, the DCM event type where it is not REST and its display, the REST interaction by default)
_KINDS: dict[Kind, tuple[str, str, str, Subtype]] = {
    "create": ("C", DCM_IMPORT, "Import", REST_CREATE),
    "read": ("R", DCM_EXPORT, "Export", REST_READ),
    "update": ("U", DCM_APPLICATION_ACTIVITY, "Application Activity", REST_UPDATE),
    "delete": ("D", DCM_APPLICATION_ACTIVITY, "Application Activity", REST_DELETE),
    "query": ("E", DCM_QUERY, "Query", REST_SEARCH),
    "export": ("R", DCM_EXPORT, "Export", REST_READ),
    "sign-in": ("E", DCM_USER_AUTHENTICATION, "User Authentication", REST_OPERATION),
    "security": ("E", DCM_SECURITY_ALERT, "Security Alert", REST_OPERATION),
    "activity": ("E", DCM_APPLICATION_ACTIVITY, "Application Activity", REST_OPERATION),
}
_READ = ("Read", frozenset({REST_READ, REST_VREAD}))
_PATTERNS: dict[Kind, tuple[str, frozenset[Subtype]]] = {
    "create": ("Create", frozenset({REST_CREATE})),
    "read": _READ,
    "export": _READ,
    "update": ("Update", frozenset({REST_UPDATE, REST_PATCH})),
    "delete": ("Delete", frozenset({REST_DELETE})),
    "query": ("Query", frozenset({REST_SEARCH, REST_SEARCH_SYSTEM})),
}
"""BALP section 3:5.7.3: the pattern of a kind, and the interactions of which it asks for one. Histories and operations have none."""

_DESTINATION_CODE: Json = {"system": DCM_SYSTEM, "code": DCM_DESTINATION_ROLE, "display": "Destination Role ID"}
_SOURCE_CODE: Json = {"system": DCM_SYSTEM, "code": DCM_SOURCE_ROLE, "display": "Source Role ID"}
_DESTINATION: Json = {"coding": [_DESTINATION_CODE]}
_SOURCE: Json = {"coding": [_SOURCE_CODE]}
_APPLICATION_CODE: Json = {"system": DCM_SYSTEM, "code": DCM_APPLICATION, "display": "Application"}
_APPLICATION: Json = {"coding": [_APPLICATION_CODE]}
_LAUNCHER: Json = {"coding": [{"system": DCM_SYSTEM, "code": DCM_APPLICATION_LAUNCHER, "display": "Application Launcher"}]}
_CUSTODIAN: Json = {"coding": [{"system": PROVENANCE_PARTICIPANT, "code": "custodian", "display": "Custodian"}]}
_WITH_TOKEN: dict[bool, Json] = {
    True: {"coding": [_DESTINATION_CODE, _APPLICATION_CODE]},
    False: {"coding": [_SOURCE_CODE, _APPLICATION_CODE]},
}
"""Of a client with an access token, by whether it reads."""
_TOKEN_SERVICE: Json = {
    "coding": [{"system": BALP_AGENT_TYPE, "code": "AuthzOauthService", "display": "OAuth Authorization Server"}]
}
_AUTHORIZATION_SERVER: Json = {"coding": [{"system": SECURITY_ROLE, "code": "authserver", "display": "authorization server"}]}
_ADVOCATE: Json = {"coding": [{"system": SNOMED_SYSTEM, "code": "429577009", "display": "Patient Advocate"}]}
_RECIPIENT_CODE: Json = {"system": PARTICIPATION_TYPE, "code": "IRCP", "display": "information recipient"}
_RECIPIENT: Json = {"coding": [_RECIPIENT_CODE]}
_AUTHOR_CODE: Json = {"system": PARTICIPATION_TYPE, "code": "AUT", "display": "author (originator)"}
_AUTHOR: Json = {"coding": [_AUTHOR_CODE]}
_AUTHOR_WITH_TOKEN: Json = {"coding": [_AUTHOR_CODE, _RECIPIENT_CODE]}
"""An author for the pattern of the interaction, and for that of the token the user whom it is for, whatever the interaction."""
_REST: Json = {"system": AUDIT_EVENT_TYPE, "code": "rest", "display": "Restful Operation"}
_APPLICATION_SERVER: Json = {"system": AUDIT_SOURCE_TYPE, "code": "4", "display": "Application Server"}
_PERSON: Json = {"system": AUDIT_ENTITY_TYPE, "code": "1", "display": "Person"}
_SYSTEM_OBJECT: Json = {"system": AUDIT_ENTITY_TYPE, "code": "2", "display": "System Object"}
_PATIENT_ROLE: Json = {"system": OBJECT_ROLE, "code": "1", "display": "Patient"}
_RESOURCE_ROLE: Json = {"system": OBJECT_ROLE, "code": "4", "display": "Domain Resource"}
_QUERY_ROLE: Json = {"system": OBJECT_ROLE, "code": "24", "display": "Query"}
_CONSENT: Json = {"system": RESOURCE_TYPES, "code": "Consent", "display": "Consent"}
_REQUEST_ID: Json = {"system": BALP_ENTITY_TYPE, "code": "XrequestId"}


_OF_TOKEN = 32
"""Characters of a token's id that an event has at most (BALP section 3:5.7.5.1): of a foreign token it may be made of the token itself."""


def audit_event(action: AuditedAction) -> Json:
    """IHE BALP section 3:5.7, FHIR R4 section 6.4: the AuditEvent of one action. Costs microseconds; the dicts may be shared."""
    letter, event_type, event_display, interaction = _KINDS[action.kind]
    event: Json = {"resourceType": "AuditEvent", "id": action.id}
    if profiles := _profiles(action):
        event["meta"] = {"profile": profiles}
    if not action.rest and action.kind == "create" and INSTANCES_TRANSFERRED in action.subtypes:
        event_type, event_display = INSTANCES_TRANSFERRED.code, INSTANCES_TRANSFERRED.display  # PS3.15 section A.5.3.7
    if action.kind != "export" and {ITI_57, ITI_92} & {*action.subtypes}:
        event_type, event_display = DCM_IMPORT, "Import"  # ITI TF-2 sections 3.57.5.1, 3.92.5.1
    if {ITI_8, ITI_62, ITI_64, ITI_86} & {*action.subtypes}:
        event_type, event_display = DCM_PATIENT_RECORD, "Patient Record"  # ITI TF-2 sections 3.8.5.1, 3.62.5.1, 3.86.5.1
    event["type"] = _REST if action.rest else {"system": DCM_SYSTEM, "code": event_type, "display": event_display}
    if subtypes := _subtypes(action, interaction):
        event["subtype"] = [{"system": each.system, "code": each.code, "display": each.display} for each in subtypes]
    event["action"] = letter
    event["recorded"] = action.recorded
    event["outcome"] = action.outcome
    if action.outcome_desc:
        event["outcomeDesc"] = action.outcome_desc
    event["agent"] = _agents(action)
    site = action.server.address or action.server.identifier
    event["source"] = {"site": site, "observer": _who(action.server), "type": [_APPLICATION_SERVER]}
    if entities := _entities(action):
        event["entity"] = entities
    return event


def _subtypes(action: AuditedAction, interaction: Subtype) -> tuple[Subtype, ...]:
    """A REST event always names its interaction (BALP: subtype 1..*), first."""
    if not action.rest or any(subtype.system == RESTFUL_INTERACTION for subtype in action.subtypes):
        return action.subtypes
    of_transaction = (_INTERACTIONS[each] for each in action.subtypes if each in _INTERACTIONS)
    return (next(of_transaction, interaction), *action.subtypes)


def _profiles(action: AuditedAction) -> list[str]:
    """The BALP profiles that the event meets: they are for what succeeded, with client and server known by their addresses."""
    if action.outcome != SUCCESS or not (action.client.address and action.server.address):
        return []
    if GET_ACCESS_TOKEN in action.subtypes:
        return [BALP_GET_ACCESS_TOKEN] if _is_alone(action) and action.entities[0].query else []
    if DISCLOSED in action.subtypes:
        side = {"export": "Source", "create": "Recipient"}.get(action.kind)
        return [f"{BALP_PROFILES}PrivacyDisclosure.{side}"] if side and action.patient_id and action.entities else []
    found = [pattern] if (pattern := _pattern(action)) else []
    return [*found, f"{BALP_PROFILES}OAUTHaccessTokenUse.Comprehensive"] if _is_by_token(action) else found


def _pattern(action: AuditedAction) -> str:
    """The pattern of the interaction, or empty: it is REST, with exactly one object or query."""
    pattern, interactions = _PATTERNS.get(action.kind, ("", frozenset()))
    if not action.rest or len(action.entities) != 1 or _subtypes(action, _KINDS[action.kind][3])[0] not in interactions:
        return ""
    (entity,) = action.entities
    if bool(entity.query) != (action.kind == "query"):
        return ""
    if entity.query and (entity.reference or entity.identifier or entity.details):
        return ""
    return f"{BALP_PROFILES}Patient{pattern}" if action.patient_id else BALP_PROFILES + pattern


def _is_by_token(action: AuditedAction) -> bool:
    """BALP section 3:5.7.5.3: whether an access token was used by a client, and perhaps a user, who are known by identifiers."""
    user = _user(action)
    known = bool(action.client.identifier) and (user is None or bool(user.identifier))
    return known and bool(action.token_id) and action.rest and action.initiated


def _is_alone(action: AuditedAction) -> bool:
    """Whether the event is about one entity and nothing else. Then its request id is a detail of it: IHE.IUA.71 allows no other entity."""
    return len(action.entities) == 1 and not action.patient_id


def _user(action: AuditedAction) -> Agent | None:
    return action.user or action.client.user


def _roles(action: AuditedAction) -> tuple[Json, Json]:
    """Of client and server. What is read flows from server to client; a query and what is created flow to the server.

    A query that this server makes flows to the other, which is the `client` of that action all the same.
    """
    if GET_ACCESS_TOKEN in action.subtypes:
        return _APPLICATION, _TOKEN_SERVICE
    if AUTHORIZED_BY_CONSENT in action.subtypes:
        return _APPLICATION, _AUTHORIZATION_SERVER
    if action.kind == "activity":
        return _LAUNCHER, _APPLICATION
    if action.kind == "delete" and action.rest:
        return _APPLICATION, _CUSTODIAN
    outwards = action.kind in {"read", "export"} or (action.kind == "query" and not action.initiated)
    client, server = (_DESTINATION, _SOURCE) if outwards else (_SOURCE, _DESTINATION)
    return (_WITH_TOKEN[action.kind in {"read", "export"}] if _is_by_token(action) else client), server


def _user_role(action: AuditedAction) -> Json:
    if action.kind in {"create", "update", "delete"}:
        return _AUTHOR_WITH_TOKEN if _is_by_token(action) else _AUTHOR
    return _RECIPIENT


def _agents(action: AuditedAction) -> list[Json]:
    """Client, server, user, and who allowed it in the patient's name."""
    user = _user(action)
    client_role, server_role = _roles(action)
    client = _agent(action.client, client_role, action.initiated and user is None)
    server = _agent(action.server, server_role, not action.initiated and user is None)
    agents = [client, server]
    acting = client if action.initiated else server
    if user:
        acting = _agent(user, _user_role(action), True)
        acting.pop("network", None)  # a person is no network device
        agents.append(acting)
    if action.authorizer:
        agents.append(_agent(action.authorizer, _ADVOCATE, False))
    if action.token_id:
        acting["policy"] = [action.token_id[-_OF_TOKEN:]]
    if purposes := ((action.purpose,) if action.purpose else action.client.purposes):
        acting["purposeOfUse"] = [{"coding": [_purpose(each)]} for each in purposes]
    return agents


def _purpose(purpose: str) -> Json:
    """A code of v3-ActReason, or a partner's own as `system|code`."""
    system, _, code = purpose.rpartition("|")
    return {"system": system or ACT_REASON, "code": code}


def _agent(agent: Agent, role: Json, requestor: bool) -> Json:
    projected: Json = {"type": role, "who": _who(agent)}
    if agent.name:
        projected["name"] = agent.name
    projected["requestor"] = requestor
    if agent.address:
        projected["network"] = {"address": agent.address, "type": _network_type(agent.address)}
    return projected


def _who(agent: Agent) -> Json:
    who: Json = {}
    if agent.reference:
        who["reference"] = agent.reference
    if agent.identifier:
        who["identifier"] = {"system": agent.system, "value": agent.identifier} if agent.system else {"value": agent.identifier}
    if agent.name or not who:
        who["display"] = agent.name or "unknown"
    return who


@lru_cache(maxsize=1024)
def _network_type(address: str) -> str:
    """FHIR R4 network-type: 2 an IP address, 5 a URI, 1 a machine name."""
    if "://" in address:
        return "5"
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return "1"
    return "2"


def _entities(action: AuditedAction) -> list[Json]:
    own = tuple(each for each in action.entities if action.patient_id and _is_of_patient(each))
    entities = [_entity(entity) for entity in action.entities if entity not in own]
    if AUTHORIZED_BY_CONSENT in action.subtypes:
        for entity in entities:
            entity["type"] = _CONSENT
    if action.patient_id:
        patient: Json = {"reference": f"Patient/{action.patient_id}"}
        entities.append({"what": patient, "type": _PERSON, "role": _PATIENT_ROLE})
        if own:
            entities[-1]["detail"] = _details(tuple(pair for each in own for pair in each.details))
    if action.request_id and GET_ACCESS_TOKEN in action.subtypes and _is_alone(action):
        named = ("X-Request-Id", action.request_id)
        entities[0]["detail"] = _details((*action.entities[0].details, named))
    elif action.request_id:
        entities.append({"what": {"identifier": {"value": action.request_id}}, "type": _REQUEST_ID})
    return entities


def _is_of_patient(entity: AuditedEntity) -> bool:
    return bool(entity.details) and entity == AuditedEntity(details=entity.details)


def _entity(entity: AuditedEntity) -> Json:
    what: Json = {}
    if entity.reference:
        what["reference"] = entity.reference
    if entity.identifier:
        what["identifier"] = (
            {"system": entity.system, "value": entity.identifier} if entity.system else {"value": entity.identifier}
        )
    projected: Json
    if entity.query:
        projected = {"what": what} if what else {}
        projected |= {"type": _SYSTEM_OBJECT, "role": _QUERY_ROLE, "query": base64.b64encode(entity.query).decode("ascii")}
    else:
        projected = {"what": what or {"display": "unknown"}, "type": _SYSTEM_OBJECT, "role": _RESOURCE_ROLE}
    if entity.details:
        projected["detail"] = _details(entity.details)
    return projected


def _details(pairs: tuple[tuple[str, str], ...]) -> list[Json]:
    return [{"type": name, "valueString": value} for name, value in pairs]
