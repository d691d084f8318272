"""IHE BALP 1.1.4 for HL7's validator: the published package where it is at hand, else definitions made of tables of what each profile asks for.

The package (`ihe.iti.balp`) is on no registry that tests reach. Where FHIR tools keep theirs, below `~/.fhir/packages`, it is taken.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

Json = dict[str, Any]
_PACKAGES: Final = Path.home() / ".fhir" / "packages"
ROOT: Final = "https://profiles.ihe.net/ITI/BALP"
_AUDIT_EVENT: Final = "http://hl7.org/fhir/StructureDefinition/AuditEvent"
DCM: Final = "http://dicom.nema.org/resources/ontology/DCM"
_PARTICIPATION: Final = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
_CUSTODIAN: Final = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
_REST: Final = "http://hl7.org/fhir/restful-interaction"
_OBJECT: Final = "http://terminology.hl7.org/CodeSystem/object-role"
_ENTITY: Final = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
_REQUEST: Final = f"{ROOT}/CodeSystem/BasicAuditEntityType"
_AGENTS: Final = f"{ROOT}/CodeSystem/UserAgentTypes"
_OF_AGENT: Final = ("type", "role", "who", "altId", "name", "requestor", "location", "policy", "media", "network", "purposeOfUse")
_OF_ENTITY: Final = ("what", "type", "role", "lifecycle", "securityLabel", "name", "description", "query", "detail")
Code = tuple[str, str]

VALUE_SETS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "DataSources": (_PARTICIPATION, ("AUT", "INF", "CST")),
    "RestObjectRoles": (_OBJECT, ("4", "3", "20")),
    "AllReadVS": (_REST, ("read", "vread")),
    "AllUpdateVS": (_REST, ("update", "patch")),
    "AllSearchVS": (_REST, ("search", "search-type", "search-system")),
}


@dataclass(frozen=True, slots=True)
class Slice:
    """Of `agent` or `entity`, told apart by its `type` (a code, or a value set); `needs` and `lacks` are elements of it."""

    name: str
    type: Code | str
    needs: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    optional: bool = False
    more: tuple[tuple[str, Json], ...] = ()
    constraint: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Profile:
    """`subtype` is a code or a value set, of which the event has exactly one; `only` says that it has no other."""

    name: str
    base: str = _AUDIT_EVENT
    type: Code | None = None
    action: str = ""
    subtype: Code | str = ""
    only: bool = False
    succeeded: bool = True
    agents: tuple[Slice, ...] = ()
    entities: tuple[Slice, ...] = ()
    entities_by: str = "type"
    at_least: tuple[int, int] = (2, 1)

    @property
    def url(self) -> str:
        return f"{ROOT}/StructureDefinition/{self.name}"


def _coding(value: Code | str, *, concept: bool = False) -> Json:
    if isinstance(value, str):
        return {"binding": {"strength": "required", "valueSet": f"{ROOT}/ValueSet/{value}"}}
    return {"patternCodeableConcept": {"coding": [_code(value)]}} if concept else {"patternCoding": _code(value)}


def _code(value: Code) -> Json:
    return {"system": value[0], "code": value[1]}


def _role(value: Code | str) -> tuple[tuple[str, Json], ...]:
    return (("role", {"min": 1, **_coding(value)}),)


_REQUESTOR: Final = (("requestor", {"patternBoolean": True}),)
_TRANSACTION: Final = Slice("transaction", (_REQUEST, "XrequestId"), ("what.identifier.value",), optional=True)
_DATA: Final = Slice("data", (_ENTITY, "2"), ("what",), more=_role("RestObjectRoles"))
_QUERY: Final = Slice("query", (_ENTITY, "2"), ("query",), ("what", "lifecycle", "detail"), more=_role((_OBJECT, "24")))
_PATIENT: Final = Slice(
    "patient", (_ENTITY, "1"),
    more=(
        ("what", {"min": 1, "type": [{"code": "Reference", "targetProfile": ["http://hl7.org/fhir/StructureDefinition/Patient"]}]}),
        *_role((_OBJECT, "1")),
    ),
)  # fmt: skip


def _peer(name: str, type_: Code) -> Slice:
    return Slice(name, type_, ("who", "network"), ("media",))


def _user(type_: Code | str, *lacks: str) -> Slice:
    return Slice("user", type_, ("who",), ("media", "network", *lacks), optional=True, more=_REQUESTOR)


def _rest(name: str, action: str, subtype: Code | str, agents: tuple[Code, Code], user: Code | str) -> Iterator[Profile]:
    """A pattern, and the same with a patient."""
    plain = Profile(
        f"IHE.BasicAudit.{name}", type=("http://terminology.hl7.org/CodeSystem/audit-event-type", "rest"), action=action, subtype=subtype,
        agents=(_peer("client", agents[0]), _peer("server", agents[1]), _user(user)),
        entities=(_TRANSACTION, _QUERY if name == "Query" else _DATA),
    )  # fmt: skip
    yield plain
    yield Profile(f"IHE.BasicAudit.Patient{name}", plain.url, entities=(_PATIENT,), at_least=(0, 2))


_SOURCE, _DESTINATION, _APPLICATION, _RECIPIENT = (DCM, "110153"), (DCM, "110152"), (DCM, "110150"), (_PARTICIPATION, "IRCP")
_ITSELF: Final[Json] = {
    "key": "val-audit-source", "severity": "error", "human": "The audit source is this agent.",
    "expression": "$this.who = %resource.source.observer",
}  # fmt: skip
_SINGLE: Final[Json] = {"min": 1, "max": "1"}


def _disclosure(side: str, type_: str, action: str) -> Profile:
    known = Slice("authorizer", ("http://snomed.info/sct", "429577009"), ("who",), optional=True)
    peers = (("source", _SOURCE), ("recipient", _DESTINATION))
    return Profile(
        f"IHE.BasicAudit.PrivacyDisclosure.{side}", type=(DCM, type_), action=action, succeeded=False,
        subtype=("http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle", "disclose"),
        agents=(*(Slice(name, code, ("who", "network"), constraint=_ITSELF if name == side.lower() else {}) for name, code in peers), known),
        entities=(_PATIENT,), at_least=(2, 2),
    )  # fmt: skip


PROFILES: Final[tuple[Profile, ...]] = (
    *_rest("Create", "C", (_REST, "create"), (_SOURCE, _DESTINATION), "DataSources"),
    *_rest("Read", "R", "AllReadVS", (_DESTINATION, _SOURCE), _RECIPIENT),
    *_rest("Update", "U", "AllUpdateVS", (_SOURCE, _DESTINATION), "DataSources"),
    *_rest("Delete", "D", (_REST, "delete"), (_APPLICATION, (_CUSTODIAN, "custodian")), "DataSources"),
    *_rest("Query", "E", "AllSearchVS", (_SOURCE, _DESTINATION), _RECIPIENT),
    Profile(
        "IHE.BasicAudit.OAUTHaccessTokenUse.Comprehensive", succeeded=False, at_least=(0, 0),
        agents=(
            Slice("oClient", _APPLICATION, ("who", "who.identifier", "who.identifier.value"), ("media",)),
            Slice(
                "oUser", _RECIPIENT, ("who", "who.identifier"), ("media", "network"), optional=True,
                more=(*_REQUESTOR, ("policy", _SINGLE)),
            ),
        ),
    ),
    Profile(
        "IHE.IUA.71", type=(DCM, "110114"), action="E", subtype=("urn:ihe:event-type-code", "ITI-71"), only=True,
        agents=(_peer("client", _APPLICATION), _peer("auth-server", (_AGENTS, "AuthzOauthService")), _user(_RECIPIENT, "altId")),
        entities=(Slice("token-request", (_OBJECT, "24"), ("query",), ("what",), more=(("type", {"min": 1, "patternCoding": {"system": _ENTITY, "code": "2"}}),)),),
        entities_by="role",
    ),
    _disclosure("Source", "110106", "R"),
    _disclosure("Recipient", "110107", "C"),
)  # fmt: skip


def definitions() -> list[Json]:
    """StructureDefinitions and ValueSets."""
    published = [
        each for folder in sorted(_PACKAGES.glob("ihe.iti.balp#*")) for each in sorted((folder / "package").glob("*.json"))
    ]
    found = [orjson.loads(each.read_bytes()) for each in published]
    kept = [each for each in found if each.get("resourceType") in ("StructureDefinition", "ValueSet", "CodeSystem")]
    return kept or [*map(_value_set, VALUE_SETS), *map(_structure, PROFILES)]


def _value_set(name: str) -> Json:
    system, codes = VALUE_SETS[name]
    include = [{"system": system, "concept": [{"code": each} for each in codes]}]
    return {"resourceType": "ValueSet", "url": f"{ROOT}/ValueSet/{name}", "status": "active", "compose": {"include": include}}


def _structure(profile: Profile) -> Json:
    return {
        "resourceType": "StructureDefinition", "url": profile.url, "name": profile.name.replace(".", ""), "status": "active",
        "fhirVersion": "4.0.1", "kind": "resource", "abstract": False, "type": "AuditEvent", "baseDefinition": profile.base,
        "derivation": "constraint", "differential": {"element": [_element("AuditEvent"), *_elements(profile)]},
    }  # fmt: skip


def _elements(profile: Profile) -> Iterator[Json]:
    if profile.type:
        yield _element("AuditEvent.type", patternCoding=_code(profile.type))
    if profile.subtype and profile.only:
        yield _element("AuditEvent.subtype", min=1, max="1", **_coding(profile.subtype))
    elif profile.subtype:
        yield _element("AuditEvent.subtype", min=1, slicing=_slicing("$this"))
        yield _element("AuditEvent.subtype:asked", sliceName="asked", min=1, max="1", **_coding(profile.subtype))
    if profile.action:
        yield _element("AuditEvent.action", patternCode=profile.action)
        yield _element("AuditEvent.outcome", min=1, **({"patternCode": "0"} if profile.succeeded else {}))
    sliced = profile.base == _AUDIT_EVENT  # a profile of a profile adds to its slices
    if profile.agents:
        bound = {"max": "3"} if profile.only else {}
        yield from _sliced(
            "agent", profile.agents, profile.at_least[0], _slicing("type", profile.only) if sliced else None, bound
        )
    if profile.entities:
        bound = {"max": "1"} if profile.only else {}
        slicing = _slicing(profile.entities_by, profile.only) if sliced else None
        yield from _sliced("entity", profile.entities, profile.at_least[1], slicing, bound, profile.entities_by)


def _slicing(path: str, closed: bool = False) -> Json:
    return {"discriminator": [{"type": "value", "path": path}], "rules": "closed" if closed else "open"}


def _sliced(
    name: str, slices: Sequence[Slice], least: int, slicing: Json | None, bound: Json, by: str = "type"
) -> Iterator[Json]:
    path = f"AuditEvent.{name}"
    yield _element(path, **({"slicing": slicing} if slicing else {}), **({"min": least} if least else {}), **bound)
    for each in slices:
        at = f"{path}:{each.name}"
        constraint = {"constraint": [each.constraint]} if each.constraint else {}
        yield _element(at, sliceName=each.name, min=0 if each.optional else 1, max="1", **constraint)
        yield from (_element(f"{at}.{inner}", **more) for inner, more in _inside(name, each, by))


def _inside(name: str, each: Slice, by: str) -> list[tuple[str, Json]]:
    """In the order of the elements of AuditEvent, which differentials have to keep."""
    told = _coding(each.type, concept=name == "agent")
    found: list[tuple[str, Json]] = [(by, {"min": 1, **told}), *((one, {"min": 1}) for one in each.needs)]
    found += [*((one, {"max": "0"}) for one in each.lacks), *each.more]
    order = _OF_AGENT if name == "agent" else _OF_ENTITY
    return sorted(found, key=lambda one: (order.index(one[0].partition(".")[0]), one[0]))


def _element(id_: str, **more: Any) -> Json:
    path = ".".join(part.partition(":")[0] for part in id_.split("."))
    return {"id": id_, "path": path, **more}
