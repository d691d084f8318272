"""The conditions of a Consent's provision (FHIR R4 section 6.2.4): each alternative of an element as a term that is true or not of who asks, or of a resource.

What is not understood raises `ValueError`; `Found` says so of an element.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from profiles.fhir.date_range import date_range
from profiles.fhir.references import is_resource, parse_reference
from profiles.vocabulary import ACT_REASON, DICOM_UID_SYSTEM, V3_SYSTEMS

Json = Mapping[str, Any]
FOREVER: Final = (1 << 63) - 1
LEVELS: Final = ("U", "L", "M", "N", "R", "V")
"""Codes of v3-Confidentiality, the least confidential first. What has no such label is N, or R where it has a label of sensitivity."""
_ACTIONS: Final = "http://terminology.hl7.org/CodeSystem/consentaction"
_TYPES: Final = ("http://hl7.org/fhir/resource-types", "http://hl7.org/fhir/fhir-types")
_ACTORS: Final = frozenset({"Practitioner", "PractitionerRole", "Organization", "Device", "Patient", "RelatedPerson"})
"""Types by which somebody can be known who asks."""
_CUSTODIANS: Final = frozenset({"CST", "CUST"})
_TELLING: Final = frozenset({"access", "use", "disclose"})
_WRITING: Final = frozenset({"collect", "correct"})
_NAMED_NOW: Final = {other: own for own, names in V3_SYSTEMS.items() for other in names}
_UNDER: Final = {"TREAT": ("TREAT", "ETREAT")}
"""Purposes that are kinds of another one."""


class Kind(StrEnum):
    """What a term is about; of what form its value is."""

    ACTOR = "actor"
    """A reference by which who asks is known: `Practitioner/7`."""
    PURPOSE = "purpose"
    """A code of v3-ActReason; another as `system|code`."""
    TYPE = "type"
    INSTANCE = "instance"
    """Type and id of a resource, as in the next three."""
    REFERRED = "referred"
    """What that resource refers to."""
    REFERRING = "referring"
    """What refers to that resource."""
    AUTHOR = "author"
    """What that one has written."""
    SOME_IMAGES = "some-images"
    """A Study or Series Instance UID: that study, or one that has that series."""
    ALL_IMAGES = "all-images"
    """The same: that study, and of another nothing but that series."""
    CODE = "code"
    """A code of whatever system."""
    LABEL = "label"
    """A security label, as `system|code`."""
    AT_LEAST = "at-least"
    """Confidentiality of this level or more: `low` is its place in `LEVELS`."""
    AT_MOST = "at-most"
    """The same, or less."""
    OVERLAPS = "overlaps"
    """Whose time, if there is one, has some of `low` to `high` in it; what has none."""
    WITHIN = "within"
    """Whose time there is and is all within `low` and `high`."""


WHO: Final = frozenset({Kind.ACTOR, Kind.PURPOSE})
"""What depends on who asks; all others on the resource."""


@dataclass(frozen=True, slots=True)
class Term:
    """One alternative of a condition. `low` and `high`: microseconds, half-open."""

    kind: Kind
    value: str = ""
    low: int = 0
    high: int = 0
    type: str = ""
    """Of the resource whose id is the `value`."""


Part = tuple[Term, ...]
"""A condition: one of the terms is true."""


@dataclass(frozen=True, slots=True)
class Found:
    """What an element's alternatives come to; `is_unknown`: one of them is not understood."""

    known: Part
    is_unknown: bool

    @classmethod
    def of(cls, given: Sequence[Json], read_one: Callable[[Json], Part]) -> "Found":
        found, is_unknown = list[Term](), False
        for each in given:
            try:
                if is_modified(each):
                    raise ValueError
                found += read_one(each)
            except ValueError:
                is_unknown = True
        return cls(tuple(found), is_unknown)


def is_writing(actions: Found) -> bool:
    """Whether they are of storing alone, which is not held against consents."""
    return bool(actions.known) and not actions.is_unknown and all(each.value in _WRITING for each in actions.known)


def is_modified(given: Json) -> bool:
    """Whether something that is not understood may turn the meaning round (FHIR R4 section 2.4.0.1)."""
    return bool(given.get("modifierExtension"))


def _codings(given: Json) -> Iterator[tuple[str, str]]:
    for each in given.get("coding", ()):
        yield str(each.get("system", "")), str(each.get("code", ""))


def system_of(coding: Json) -> str:
    """Its code system, by the name that R4 has for it."""
    system = str(coding.get("system", ""))
    return _NAMED_NOW.get(system, system)


def action(given: Json) -> Part:
    """What may be done."""
    codes = [code for system, code in _codings(given) if system in (_ACTIONS, "") and code in _TELLING | _WRITING]
    if not codes:
        raise ValueError
    return tuple(Term(Kind.CODE, each) for each in codes)


def purpose(given: Json) -> Part:
    """What for."""
    system, code = system_of(given), given.get("code")
    if not code:
        raise ValueError
    if system != ACT_REASON:
        return (Term(Kind.PURPOSE, f"{system}|{code}"),)
    return tuple(Term(Kind.PURPOSE, each) for each in _UNDER.get(code, (code,)))


def class_(given: Json) -> Part:
    """A type of resources; no other kind of class is."""
    code = str(given.get("code", ""))
    if given.get("system") not in _TYPES or not is_resource(code):
        raise ValueError
    return (Term(Kind.TYPE, code),)


def code_of(denies: bool) -> Callable[[Json], Part]:
    """Rows of searches have codes without their systems: enough to deny, too little to permit."""

    def read_one(given: Json) -> Part:
        codes = [code for _, code in _codings(given) if code]
        if not denies or not codes:
            raise ValueError
        return tuple(Term(Kind.CODE, each) for each in codes)

    return read_one


def _uid(identifier: Json) -> str:
    uid = str(identifier.get("value", "")).removeprefix("urn:oid:")
    if identifier.get("system") != DICOM_UID_SYSTEM or not uid:
        raise ValueError
    return uid


def moments(period: Json, *, earliest: int = 0) -> tuple[int, int]:
    """A Period as microseconds, half-open. What is no date raises `ValueError`."""
    low = date_range(period["start"])[0] if "start" in period else earliest
    return low, date_range(period["end"])[1] if "end" in period else FOREVER


def actor_of(base: str) -> Callable[[Json], Part]:
    """Who is known by a reference; `base` is our FHIR base URL."""

    def read_one(given: Json) -> Part:
        roles = {each.get("code") for each in given.get("role", {}).get("coding", ())}
        target = parse_reference(given.get("reference", {}).get("reference", ""), base)
        if roles & _CUSTODIANS or target.type not in _ACTORS or target.url or not target.id:
            raise ValueError
        return (Term(Kind.ACTOR, f"{target.type}/{target.id}"),)

    return read_one


def data_of(denies: bool, base: str) -> Callable[[Json], Part]:
    """FHIR R4 consent-data-meaning; `related` both ways, as IHE PCF means it of an encounter."""

    def read_one(given: Json) -> Part:
        reference = given.get("reference", {})
        target = parse_reference(reference.get("reference", ""), base)
        if not target.id or target.url or not is_resource(target.type):
            return (Term(Kind.SOME_IMAGES if denies else Kind.ALL_IMAGES, _uid(reference.get("identifier", {}))),)
        kinds = _MEANINGS.get(str(given.get("meaning")))
        if kinds is None:
            raise ValueError
        return tuple(Term(kind, target.id, type=target.type) for kind in kinds)

    return read_one


_MEANINGS: Final = {
    "instance": (Kind.INSTANCE,),
    "related": (Kind.INSTANCE, Kind.REFERRED, Kind.REFERRING),
    "dependents": (Kind.INSTANCE, Kind.REFERRING),
    "authoredby": (Kind.AUTHOR,),
}
