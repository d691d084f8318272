"""What this server can do, from the same tables by which it does it (FHIR R4 section 5.2, CapabilityStatement)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import blake2b
from importlib.metadata import version
from threading import Lock
from types import MappingProxyType
from typing import Any, Final

from isal import igzip
from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from ihe import iti106
from profiles.fhir.expression import targets
from profiles.fhir.json import serialize
from profiles.fhir.patching import MEDIA_TYPES
from profiles.fhir.search_conditions import TEXTS
from profiles.r4 import search as r4
from profiles.r4.search import Parameter
from profiles.smart.configuration import oauth_uris
from profiles.structure_definitions import structure_definitions
from profiles.vocabulary import FHIR_JSON
from server.edges import context
from server.edges.fhir.formats import FHIR_XML, Format, encoded, sent
from server.edges.fhir.negotiation import Pairs, negotiate, pairs
from server.errors import NotAcceptable
from server.records import parameters
from server.records.fhir_search import events
from server.records.parameters import Active
from server.settings import Settings
from server.store.db import instant, micros
from server.work.fhir import bundles, offered
from server.work.fhir.operations import OPERATIONS, Operation
from server.work.fhir.refusals import ParameterError
from server.work.fhir.shape import PARAMETERS, Shape, of_read
from server.work.fhir.transaction import MOST_READS

Json = dict[str, Any]

_CORE: Final = "http://hl7.org/fhir"
_TERMINOLOGY: Final = "http://terminology.hl7.org/CodeSystem"
_BEGAN: Final = instant(micros())
_ACTORS: Final = "https://profiles.ihe.net/ITI/MHD/CapabilityStatement"
_INSTANTIATED: Final = tuple(
    f"{_ACTORS}/IHE.MHD.{actor}"
    for actor in (
        "DocumentRecipient", "DocumentRecipient.Comprehensive", "DocumentRecipient.UnContained", "DocumentRecipient.Simplified",
        "DocumentRecipient.Generate", "DocumentResponder",
    )
)  # fmt: skip
"""The actors of IHE MHD that this server is."""
_EVERYWHERE: Final = (
    Parameter("_filter", "special", f"{_CORE}/SearchParameter/filter", "", ()),
    Parameter("_has", "special", f"{_CORE}/SearchParameter/has", "", ()),
    Parameter("_type", "special", f"{_CORE}/SearchParameter/type", "", ()),
    TEXTS["_list"],
)
"""Beside those of each type."""
_DOCUMENTED: Final = {
    "AuditEvent": (
        "The trail of this server. It is written by the server alone; a patient's app sees the patient's own events. _id, date, _lastUpdated, outcome,"
        f" patient and subtype are looked up; by the other parameters a page looks at {events.MOST_LOOKED} events at most: it may have fewer than _count,"
        " or none, and the next page goes on from there."
    ),
    "DocumentReference": "A document's metadata, which the Document Registry has as well (IHE MHD, XDS.b). A transaction that creates a SubmissionSet, a List,"
    " is Provide Document Bundle (ITI-65), a create with the profile of Simplified Publish ITI-105: what they register changes by Update Document Set"
    " (ITI-57), or is replaced by another document. Others are in the Registry too, a moment after they are written, where the document's bytes are here"
    " (attachment.data, or a Binary in the same patient's security context), the id is a UUID and the patient has an identifier of the affinity domain.",
    "Binary": "A document, whose access is that of what it belongs to (securityContext). In Bundles it has its content in it; one with a file of its own is read by itself.",
    "Bundle": "Bundles of types other than batch and transaction, which are carried out, are stored as they are.",
    "ImagingStudy": "A study that came by DICOM is what its catalogue says; a client may add what that does not know (reason, note, basedOn ...).",
}
_SEARCHING: Final = (
    "Unknown search parameters are refused, unless the request says Prefer: handling=lenient. A search, with all that it includes, ends after"
    " two seconds of work, the condition of a write after half of one: what takes longer is refused as too-costly. By the clock it is five times"
    " that: a search that a busy machine could not do in it gets 503 with Retry-After. While resources are indexed anew,"
    " searches by what is not there yet, and writes on such a condition, get 503 with Retry-After; searches with handling=lenient get what is"
    " found and a warning. A part of a text that is looked for has at most 160 characters, and is found in the first 167 of a text; :exact compares"
    " all of it. What is created while a client pages is not shown; what is changed meanwhile is shown once more, after all others."
)


def metadata(request: Request) -> Response:
    """FHIR R4 section 3.1.0.8, capabilities: `GET [base]/metadata`. No token needed, nothing of patients told."""
    given = pairs(request.scope["query_string"])
    wanted = negotiate(request, given)
    shape = of_read("CapabilityStatement", _asked(given))
    node = context.node(request)
    with node.database.read() as connection:
        site, custom = Site.of(node.settings), _hashable(parameters.active(connection))
    found = _told(site, custom, shape, Format(wanted.is_xml, wanted.is_pretty))
    headers = {"Cache-Control": "no-cache", "ETag": found.etag}
    if found.is_held(request.headers.get("if-none-match", "")):
        return Response(status_code=304, headers={**headers, "Vary": "Accept, Accept-Encoding, Authorization"})
    return sent(request, found.content, wanted, headers=headers, packed=lambda: found.packed)


def statement(settings: Settings, connection: Connection) -> bytes:
    """The CapabilityStatement of this installation as it is now, as JSON."""
    return _serialized(Site.of(settings), _hashable(parameters.active(connection)))


def _asked(given: Pairs) -> list[tuple[str, str]]:
    for name, value in given:
        if name == "mode" and value == "terminology":
            raise NotAcceptable("this server has no terminology operations, so no TerminologyCapabilities: ask for mode=full")
        if name == "mode" and value not in ("full", "normative"):
            raise ParameterError("mode", "mode is full or normative")
        if name not in ("mode", "_format", "_pretty", *PARAMETERS):
            raise ParameterError("", "metadata takes mode, _format, _pretty, _summary and _elements", "not-supported")
    return [each for each in given if each[0] in PARAMETERS]


_BUNDLES: Final = (
    f"A Bundle has at most {bundles.MOST_ENTRIES} requests, and {bundles.MOST_TOLD >> 20} MiB of resources in its answer, beyond which reads are"
    f" refused as too-costly and writes answered without their resource; a transaction that writes has at most {MOST_READS} reads. Operations that"
    " write are for batches, not for transactions. A search by POST has its form as the content of a Binary; a Binary whose content is a file of its"
    " own is read by itself. Conditions of a transaction that nothing meets may not be met by what its other entries make (412)."
)
Custom = tuple[tuple[str, tuple[Parameter, ...]], ...]


@dataclass(frozen=True, slots=True)
class Site:
    """What an installation has set: `base` is its FHIR base URL; the rest as it is where nothing is said."""

    organization: str
    base: str
    update_creates: bool = True
    checks_references: bool = False
    deletes_many: bool = False
    registers: bool = False

    @staticmethod
    def of(settings: Settings) -> "Site":
        return Site(
            settings.organization,
            f"{settings.base_url}/fhir",
            settings.fhir_update_creates,
            settings.fhir_references == "check",
            settings.fhir_conditional_delete == "multiple",
            settings.client_registration != "closed",
        )


def _hashable(active: Active) -> Custom:
    return tuple((type_, tuple(found.values())) for type_, found in sorted(active.items()))


@lru_cache(maxsize=4)
def _serialized(site: Site, custom: Custom) -> bytes:
    return serialize(capability_statement(site, dict(custom)))


@dataclass(frozen=True)
class _Told:
    """A statement in one form. It is asked for by anybody, and takes a tenth of a second to make."""

    content: bytes

    @cached_property
    def etag(self) -> str:
        return f'W/"{blake2b(self.content, digest_size=12).hexdigest()}"'

    @cached_property
    def packed(self) -> bytes:
        return igzip.compress(self.content)

    def is_held(self, if_none_match: str) -> bool:
        """RFC 9110 section 13.1.2: whether the client has it."""
        return bool({"*", self.etag, self.etag.removeprefix("W/")} & {each.strip() for each in if_none_match.split(",")})


def _told(site: Site, custom: Custom, shape: Shape, wanted: Format) -> _Told:
    """Whole and as a summary it is kept; of `_elements` there are very many, so that they are made anew, one at a time."""
    if not shape.elements:
        return _kept(site, custom, shape, wanted)
    with _ONE:
        return _made(site, custom, shape, wanted)


def _made(site: Site, custom: Custom, shape: Shape, wanted: Format) -> _Told:
    return _Told(encoded(shape.of(_serialized(site, custom)), wanted))


_ONE: Final = Lock()
_kept = lru_cache(maxsize=16)(_made)


def capability_statement(site: Site, custom: Mapping[str, tuple[Parameter, ...]] = MappingProxyType({})) -> Json:
    """The CapabilityStatement of an installation. `custom` are search parameters beyond the standard's, by type."""
    found = {type_: (*r4.parameters(type_).values(), *custom.get(type_, ())) for type_ in offered.types()}
    found["AuditEvent"] = tuple(each for each in found["AuditEvent"] if each.code in events.OFFERED)
    led = _led(found)
    operations = [_operation(each) for each in OPERATIONS if "system" in each.levels]
    return {
        "resourceType": "CapabilityStatement",
        "id": "imageshare",
        "name": "Imageshare",
        "title": f"{site.organization}: medical images",
        "status": "active",
        "date": _BEGAN,
        "publisher": site.organization,
        "kind": "instance",
        "instantiates": list(_INSTANTIATED),
        "software": {"name": "imageshare", "version": version("imageshare")},
        "implementation": {"description": site.organization, "url": site.base},
        "fhirVersion": offered.FHIR_VERSION,
        "format": [FHIR_JSON, FHIR_XML, "json", "xml"],
        "patchFormat": list(MEDIA_TYPES),
        "rest": [
            {
                "mode": "server",
                "documentation": f"{_SEARCHING} {_BUNDLES}",
                "security": {
                    "extension": [oauth_uris(site.base.removesuffix("/fhir"), registration=site.registers)],
                    "cors": True,
                    "service": [{"coding": [{"system": f"{_TERMINOLOGY}/restful-security-service", "code": "SMART-on-FHIR"}]}],
                    "description": "Every request but this one needs a bearer access token of this server with SMART scopes.",
                },
                "resource": [_resource(site, type_, found[type_], led) for type_ in offered.types()],
                "interaction": [{"code": code} for code in offered.SYSTEM],
                "searchParam": [_parameter(each) for each in _EVERYWHERE],
                **({"operation": operations} if operations else {}),
                "compartment": [f"{_CORE}/CompartmentDefinition/{name.lower()}" for name in r4.compartments()],
            }
        ],
    }


def _resource(site: Site, type_: str, found: Iterable[Parameter], led: Mapping[str, list[str]]) -> Json:
    codes = offered.interactions(type_)
    told: Json = {"type": type_, "profile": f"{_CORE}/StructureDefinition/{type_}"}
    if profiles := [url for url, each in structure_definitions().items() if each.get("type") == type_]:
        told["supportedProfile"] = profiles
    if type_ in _DOCUMENTED:
        told["documentation"] = _DOCUMENTED[type_]
    told["interaction"] = [{"code": code} for code in codes]
    told["versioning"] = "versioned" if "vread" in codes else "no-version"
    told["readHistory"] = "vread" in codes
    told["updateCreate"] = "update" in codes and site.update_creates
    searched = "search-type" in codes
    told["conditionalCreate"] = searched and "create" in codes
    told["conditionalRead"] = "full-support"
    told["conditionalUpdate"] = searched and "update" in codes
    deletes = "multiple" if site.deletes_many else "single"
    told["conditionalDelete"] = deletes if searched and "delete" in codes else "not-supported"
    told["referencePolicy"] = ["literal", "logical", *(["enforced"] if site.checks_references else [])]
    if searched:
        references = [each.code for each in found if each.type == "reference"]
        if type_ != "AuditEvent":
            told["searchInclude"] = ["*", *(f"{type_}:{code}" for code in references)]
            if type_ in led:
                told["searchRevInclude"] = led[type_]
        told["searchParam"] = [_parameter(each) for each in found]
    operations = [_operation(each) for each in OPERATIONS if each.is_of(type_) and set(each.levels) & {"type", "instance"}]
    if type_ == "DocumentReference":
        operations.append({"name": "generate-metadata", "definition": iti106.DEFINITION})
    return {**told, "operation": operations} if operations else told


def _led(found: Mapping[str, tuple[Parameter, ...]]) -> dict[str, list[str]]:
    """Of each type the parameters that lead to it, as `_revinclude` names them."""
    led: dict[str, list[str]] = {}
    for type_, each in found.items():
        if "search-type" not in offered.interactions(type_) or type_ == "AuditEvent":
            continue
        for parameter in each:
            if parameter.type == "reference":
                for target in sorted(targets(parameter, type_)):
                    led.setdefault(target, []).append(f"{type_}:{parameter.code}")
    return led


def _parameter(parameter: Parameter) -> Json:
    return {"name": parameter.code, "definition": parameter.url, "type": parameter.type}


def _operation(operation: Operation) -> Json:
    told = {"name": operation.name, "definition": operation.definition}
    return {**told, "documentation": operation.documentation} if operation.documentation else told
