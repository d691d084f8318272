"""A FHIR Consent (R4 section 6.2; IHE PCF basic, intermediate and advanced) as rules that rows of resources can be held against.

A Consent is a tree of provisions, the nested ones exceptions of the outer. What it says of a resource is said by the innermost provisions that
apply, and among these a denial wins. Here each provision is a rule with all that the ones around it ask for too, so that one denies where it
applies and none of its own exceptions does.

A root that permits some data (IHE PCF: by label, period, author, item) denies all other to those whom it is for; its exceptions that permit
are then further data. What cannot be understood makes a denial wider and a permission void, and is told in `warnings`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from profiles.fhir.date_range import date_range
from profiles.fhir.references import is_resource, parse_reference
from profiles.vocabulary import ACT_REASON, CONFIDENTIALITY_SYSTEM, DICOM_UID_SYSTEM

Json = Mapping[str, Any]
FOREVER: Final = (1 << 63) - 1
MOST_RULES: Final = 100
MOST_TERMS: Final = 1000
DEEPEST: Final = 5
LEVELS: Final = ("U", "L", "M", "N", "R", "V")
"""Codes of v3-Confidentiality, the least confidential first. What has no such label is N, or R where it has a label of sensitivity."""
ACT_CODE: Final = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
_ACTIONS: Final = "http://terminology.hl7.org/CodeSystem/consentaction"
_SCOPES: Final = "http://terminology.hl7.org/CodeSystem/consentscope"
_TYPES: Final = ("http://hl7.org/fhir/resource-types", "http://hl7.org/fhir/fhir-types")
_ACTORS: Final = frozenset({"Practitioner", "PractitionerRole", "Organization", "Device", "Patient", "RelatedPerson"})
"""Types by which somebody can be known who asks."""
_CUSTODIANS: Final = frozenset({"CST", "CUST"})
_TELLING: Final = frozenset({"access", "use", "disclose"})
_WRITING: Final = frozenset({"collect", "correct"})
_BASES: Final = {"OPTIN": False, "OPTINR": False, "OPTOUT": True, "OPTOUTE": True}
"""Codes of `policyRule`: whether it denies."""
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
class Rule:
    """One provision. `parent` is the place of the rule that it is an exception of. It is in force from `begins` until `ends` (microseconds)."""

    denies: bool
    parts: tuple[Part, ...] = ()
    parent: int | None = None
    begins: int = 0
    ends: int = FOREVER


@dataclass(frozen=True, slots=True)
class Warned:
    """What of a Consent is not enforced as it is written. `path` is FHIRPath."""

    path: str
    detail: str


@dataclass(frozen=True, slots=True)
class Directive:
    """What a Consent comes to. `patient` is an id, empty where there is nobody here whom it is of; there are no rules then."""

    patient: str = ""
    rules: tuple[Rule, ...] = ()
    warnings: tuple[Warned, ...] = ()


def read(consent: Json, patient: str, base: str = "") -> Directive:
    """The rules of a valid Consent of `patient`, the id of a Patient here, or empty.

    `base` is our FHIR base URL, below which absolute references lead to resources here.
    """
    if consent.get("status") != "active":
        return Directive()
    if not patient:
        return Directive(warnings=(Warned("Consent.patient", "no Patient of this server, so nothing is withheld or permitted"),))
    scopes = {each.get("code") for each in consent.get("scope", {}).get("coding", ()) if each.get("system") == _SCOPES}
    if scopes and scopes <= {"treatment", "adr"}:
        return Directive(patient, warnings=(Warned("Consent.scope", "only consents to privacy and research are enforced"),))
    return _Reader(base).read(consent, patient)


# --- provisions


@dataclass(frozen=True, slots=True)
class _Node:
    """A provision as it stands: what it asks of who asks, and of the resource. None is what cannot be understood."""

    denies: bool
    who: tuple[Part | None, ...]
    what: tuple[Part | None, ...]
    begins: int
    ends: int
    nested: "tuple[_Node, ...]" = ()
    is_idle: bool = False
    """It is about writing alone."""


@dataclass(slots=True)
class _Reader:
    base: str
    warnings: list[Warned] = field(default_factory=list)
    rules: list[Rule] = field(default_factory=list)
    terms: int = 0

    def read(self, consent: Json, patient: str) -> Directive:
        try:
            self._flatten(self._root(consent))
        except OverflowError:
            self._warn(
                "Consent.provision", f"more than {MOST_RULES} provisions, {MOST_TERMS} values or {DEEPEST} levels: all is denied"
            )
            self.rules = [Rule(denies=True)]
        return Directive(patient, tuple(self.rules), tuple(self.warnings))

    def _root(self, consent: Json) -> _Node:
        if _is_modified(consent):
            self._warn("Consent", "it has a modifier extension: all is denied")
            return _Node(True, (), (), 0, FOREVER)
        given = consent.get("provision", {})
        kind = given.get("type")
        codes = {each.get("code") for each in consent.get("policyRule", {}).get("coding", ())}
        base = {_BASES[each] for each in codes if each in _BASES}
        if kind is None and len(base) == 1:
            denies = base.pop()
        else:
            denies = kind != "permit"
            if kind is None:
                self._warn(
                    "Consent.provision", "neither its type nor a policyRule says whether it permits or denies: all is denied"
                )
                return _Node(True, (), (), 0, FOREVER)
        return self._node(given, denies, "Consent.provision", 1)

    def _node(self, given: Json, denies: bool, path: str, depth: int) -> _Node:
        nested = given.get("provision", ())
        if depth > DEEPEST and nested:
            raise OverflowError
        begins, ends = self._period(given, denies, path)
        actions = _Found.of(given.get("action", ()), _action)
        if actions.known and not actions.is_unknown and all(each.value in _WRITING for each in actions.known):
            self._warn(f"{path}.action", "what is stored is not held against consents, so this provision does nothing")
            return _Node(denies, (), (), begins, ends, is_idle=True)
        who = [
            self._part(given, denies, path, "actor", self._actor), self._part(given, denies, path, "purpose", _purpose),
            (None,) if actions.is_unknown else (),
        ]  # fmt: skip
        what = [
            self._part(given, denies, path, "class", _class), self._part(given, denies, path, "code", _code_of(denies)),
            self._labels(given, denies, path), self._data_period(given, denies, path), self._part(given, denies, path, "data", self._data_of(denies)),
        ]  # fmt: skip
        if actions.is_unknown:
            self._warn(f"{path}.action", _told(denies))
        if _is_modified(given):
            self._warn(path, f"it has a modifier extension: {_told(denies)}")
            what.append((None,))
        return _Node(
            denies, tuple(part for parts in who for part in parts), tuple(part for parts in what for part in parts), begins, ends,
            tuple(
                self._node(each, each.get("type") != "permit", f"{path}.provision[{place}]", depth + 1) for place, each in enumerate(nested)
            ),
        )  # fmt: skip

    def _warn(self, path: str, detail: str) -> None:
        self.warnings.append(Warned(path, detail))

    # --- as rules

    def _flatten(self, root: _Node) -> None:
        """A root that permits some data becomes a denial of all, of which that data, the patient's own resource and all others are exceptions."""
        if root.is_idle:
            return
        if root.denies or not root.what:
            self._emit(root, None, (), root.begins, root.ends)
            return
        whole = _Node(True, root.who, (), root.begins, root.ends)
        parent = self._emit(whole, None, (), root.begins, root.ends)
        itself = _Node(False, root.who, ((Term(Kind.TYPE, "Patient"),),), root.begins, root.ends)
        for each in (itself, _Node(False, root.who, root.what, root.begins, root.ends)):
            self._emit(each, parent, (), root.begins, root.ends)
        for each in root.nested:
            self._emit(each, parent, root.who, root.begins, root.ends)

    def _emit(self, node: _Node, parent: int | None, around: Sequence[Part | None], begins: int, ends: int) -> int | None:
        """Adds the rule of a provision and those of its exceptions; returns its place, that of `parent` where it has none itself."""
        parts = (*around, *node.who, *node.what)
        begins, ends = max(begins, node.begins), min(ends, node.ends)
        if node.is_idle or begins >= ends:
            return parent
        place = parent
        if node.denies or None not in parts:
            known = tuple(dict.fromkeys(part for part in parts if part is not None))
            self.rules.append(Rule(node.denies, known, parent, begins, ends))
            self.terms += sum(map(len, known))
            if len(self.rules) > MOST_RULES or self.terms > MOST_TERMS:
                raise OverflowError
            place = len(self.rules) - 1
        for each in node.nested:
            self._emit(each, place, parts, begins, ends)
        return place

    # --- conditions

    def _part(self, given: Json, denies: bool, path: str, name: str, read_one: Callable[[Json], Part]) -> tuple[Part | None, ...]:
        """The condition that an element with alternatives is: none where it is not there."""
        if name not in given:
            return ()
        found = _Found.of(given[name], read_one)
        if found.is_unknown:
            self._warn(f"{path}.{name}", _told(denies))
        if found.is_unknown and (denies or not found.known):
            return (None,)
        return (tuple(dict.fromkeys(found.known)),)

    def _actor(self, given: Json) -> Part:
        roles = {each.get("code") for each in given.get("role", {}).get("coding", ())}
        target = parse_reference(given.get("reference", {}).get("reference", ""), self.base)
        if roles & _CUSTODIANS or target.type not in _ACTORS or target.url or not target.id:
            raise ValueError
        return (Term(Kind.ACTOR, f"{target.type}/{target.id}"),)

    def _data_of(self, denies: bool) -> Callable[[Json], Part]:
        """FHIR R4 consent-data-meaning; `related` both ways, as IHE PCF means it of an encounter."""

        def read_one(given: Json) -> Part:
            reference = given.get("reference", {})
            target = parse_reference(reference.get("reference", ""), self.base)
            if not target.id or target.url or not is_resource(target.type):
                return (Term(Kind.SOME_IMAGES if denies else Kind.ALL_IMAGES, _uid(reference.get("identifier", {}))),)
            kinds = _MEANINGS.get(str(given.get("meaning")))
            if kinds is None:
                raise ValueError
            return tuple(Term(kind, target.id, type=target.type) for kind in kinds)

        return read_one

    def _labels(self, given: Json, denies: bool, path: str) -> tuple[Part | None, ...]:
        """Confidentiality is a water mark: a denial of R is one of V too, a permission of R one of N. Who permits asks for a mark and a label of sensitivity."""
        labels = given.get("securityLabel", ())
        if not labels:
            return ()
        if any("code" not in each or "system" not in each for each in labels):
            self._warn(f"{path}.securityLabel", _told(denies))
            return (None,)
        levels = [each["code"] for each in labels if each["system"] == CONFIDENTIALITY_SYSTEM and each["code"] in LEVELS]
        tags = tuple(
            Term(Kind.LABEL, f"{each['system']}|{each['code']}") for each in labels if each["system"] != CONFIDENTIALITY_SYSTEM
        )
        if len(levels) + len(tags) != len(labels):
            self._warn(f"{path}.securityLabel", _told(denies))
            return (None,)
        if denies:
            least = (Term(Kind.AT_LEAST, low=min(map(LEVELS.index, levels))),) if levels else ()
            return ((*least, *tags),)
        most = ((Term(Kind.AT_MOST, low=max(map(LEVELS.index, levels))),),) if levels else ()
        return (*most, *((tags,) if tags else ()))

    def _period(self, given: Json, denies: bool, path: str) -> tuple[int, int]:
        try:
            return _range(given.get("period", {}))
        except ValueError:
            self._warn(f"{path}.period", _told(denies))
            return (0, FOREVER) if denies else (0, 0)

    def _data_period(self, given: Json, denies: bool, path: str) -> tuple[Part | None, ...]:
        if "dataPeriod" not in given:
            return ()
        try:
            low, high = _range(given["dataPeriod"], earliest=-FOREVER)
        except ValueError:
            self._warn(f"{path}.dataPeriod", _told(denies))
            return (None,)
        return ((Term(Kind.OVERLAPS if denies else Kind.WITHIN, low=low, high=high),),)


def _told(denies: bool) -> str:
    return "not all of this is understood: " + (
        "the denial is enforced as if it were not there" if denies else "nothing is permitted for it"
    )


_MEANINGS: Final = {
    "instance": (Kind.INSTANCE,),
    "related": (Kind.INSTANCE, Kind.REFERRED, Kind.REFERRING),
    "dependents": (Kind.INSTANCE, Kind.REFERRING),
    "authoredby": (Kind.AUTHOR,),
}


@dataclass(frozen=True, slots=True)
class _Found:
    """What an element's alternatives come to; `is_unknown`: one of them is not understood."""

    known: Part
    is_unknown: bool

    @classmethod
    def of(cls, given: Sequence[Json], read_one: Callable[[Json], Part]) -> "_Found":
        found, is_unknown = list[Term](), False
        for each in given:
            try:
                if _is_modified(each):
                    raise ValueError
                found += read_one(each)
            except ValueError:
                is_unknown = True
        return cls(tuple(found), is_unknown)


def _is_modified(given: Json) -> bool:
    return bool(given.get("modifierExtension"))


def _codings(given: Json) -> Iterator[tuple[str, str]]:
    for each in given.get("coding", ()):
        yield str(each.get("system", "")), str(each.get("code", ""))


def _action(given: Json) -> Part:
    codes = [code for system, code in _codings(given) if system in (_ACTIONS, "") and code in _TELLING | _WRITING]
    if not codes:
        raise ValueError
    return tuple(Term(Kind.CODE, each) for each in codes)


def _purpose(given: Json) -> Part:
    system, code = given.get("system", ""), given.get("code")
    if not code:
        raise ValueError
    if system != ACT_REASON:
        return (Term(Kind.PURPOSE, f"{system}|{code}"),)
    return tuple(Term(Kind.PURPOSE, each) for each in _UNDER.get(code, (code,)))


def _class(given: Json) -> Part:
    code = str(given.get("code", ""))
    if given.get("system") not in _TYPES or not is_resource(code):
        raise ValueError
    return (Term(Kind.TYPE, code),)


def _code_of(denies: bool) -> Callable[[Json], Part]:
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


def _range(period: Json, *, earliest: int = 0) -> tuple[int, int]:
    low = date_range(period["start"])[0] if "start" in period else earliest
    return low, date_range(period["end"])[1] if "end" in period else FOREVER
