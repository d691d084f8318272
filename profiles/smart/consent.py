"""A FHIR Consent (R4 section 6.2; IHE PCF basic, intermediate and advanced) as rules that rows of resources can be held against.

A Consent is a tree of provisions, the nested ones exceptions of the outer. What it says of a resource is said by the innermost provisions that
apply, and among these a denial wins. Here each provision is a rule with all that the ones around it ask for too, so that one denies where it
applies and none of its own exceptions does.

A root that permits some data (IHE PCF: by label, period, author, item) denies all other to those whom it is for; its exceptions that permit
are then further data. What cannot be understood makes a denial wider and a permission void, and is told in `warnings`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from profiles.smart.consent_terms import (
    FOREVER,
    LEVELS,
    Found,
    Json,
    Kind,
    Part,
    Term,
    action,
    actor_of,
    class_,
    code_of,
    data_of,
    is_modified,
    is_writing,
    moments,
    purpose,
    system_of,
)
from profiles.vocabulary import CONFIDENTIALITY_SYSTEM

MOST_RULES: Final = 100
MOST_TERMS: Final = 1000
DEEPEST: Final = 5
_SCOPES: Final = "http://terminology.hl7.org/CodeSystem/consentscope"
_BASES: Final = {"OPTIN": False, "OPTINR": False, "OPTOUT": True, "OPTOUTE": True}
"""Codes of `policyRule`: whether it denies."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One provision. `parent` is the place of the rule that it is an exception of. It is in force from `begins` until `ends` (microseconds)."""

    denies: bool
    parts: tuple[Part, ...] = ()
    parent: int | None = None
    begins: int = 0
    ends: int = FOREVER
    names_some: bool = field(default=False, compare=False)
    """Whether it, or one around it, is for named actors, understood or not: such a denial holds proxies, too."""


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
    names_some: bool = False


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
            self.rules = [Rule(denies=True, names_some=True)]
        return Directive(patient, tuple(self.rules), tuple(self.warnings))

    def _root(self, consent: Json) -> _Node:
        if is_modified(consent):
            self._warn("Consent", "it has a modifier extension: all is denied")
            return _Node(True, (), (), 0, FOREVER, names_some=True)
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
        actions = Found.of(given.get("action", ()), action)
        if is_writing(actions):
            self._warn(f"{path}.action", "what is stored is not held against consents, so this provision does nothing")
            return _Node(denies, (), (), begins, ends, is_idle=True)
        who = [
            self._part(given, denies, path, "actor", actor_of(self.base)), self._part(given, denies, path, "purpose", purpose),
            (None,) if actions.is_unknown else (),
        ]  # fmt: skip
        what = [
            self._part(given, denies, path, "class", class_), self._part(given, denies, path, "code", code_of(denies)),
            self._labels(given, denies, path), self._data_period(given, denies, path), self._part(given, denies, path, "data", data_of(denies, self.base)),
        ]  # fmt: skip
        if actions.is_unknown:
            self._warn(f"{path}.action", _told(denies))
        if is_modified(given):
            self._warn(path, f"it has a modifier extension: {_told(denies)}")
            what.append((None,))
        return _Node(
            denies, tuple(part for parts in who for part in parts), tuple(part for parts in what for part in parts), begins, ends,
            tuple(
                self._node(each, each.get("type") != "permit", f"{path}.provision[{place}]", depth + 1) for place, each in enumerate(nested)
            ),
            names_some=bool(given.get("actor")),
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
        whole = _Node(True, root.who, (), root.begins, root.ends, names_some=root.names_some)
        parent = self._emit(whole, None, (), root.begins, root.ends)
        itself = _Node(False, root.who, ((Term(Kind.TYPE, "Patient"),),), root.begins, root.ends)
        for each in (itself, _Node(False, root.who, root.what, root.begins, root.ends)):
            self._emit(each, parent, (), root.begins, root.ends)
        for each in root.nested:
            self._emit(each, parent, root.who, root.begins, root.ends, root.names_some)

    def _emit(
        self, node: _Node, parent: int | None, around: Sequence[Part | None], begins: int, ends: int, names_some: bool = False
    ) -> int | None:
        """Adds the rule of a provision and those of its exceptions; returns its place, that of `parent` where it has none itself."""
        parts, names_some = (*around, *node.who, *node.what), names_some or node.names_some
        begins, ends = max(begins, node.begins), min(ends, node.ends)
        if node.is_idle or begins >= ends:
            return parent
        place = parent
        if node.denies or None not in parts:
            known = tuple(dict.fromkeys(part for part in parts if part is not None))
            self.rules.append(Rule(node.denies, known, parent, begins, ends, names_some))
            self.terms += sum(map(len, known))
            if len(self.rules) > MOST_RULES or self.terms > MOST_TERMS:
                raise OverflowError
            place = len(self.rules) - 1
        for each in node.nested:
            self._emit(each, place, parts, begins, ends, names_some)
        return place

    # --- conditions

    def _part(self, given: Json, denies: bool, path: str, name: str, read_one: Callable[[Json], Part]) -> tuple[Part | None, ...]:
        """The condition that an element with alternatives is: none where it is not there."""
        if name not in given:
            return ()
        found = Found.of(given[name], read_one)
        if found.is_unknown:
            self._warn(f"{path}.{name}", _told(denies))
        if found.is_unknown and (denies or not found.known):
            return (None,)
        return (tuple(dict.fromkeys(found.known)),)

    def _labels(self, given: Json, denies: bool, path: str) -> tuple[Part | None, ...]:
        """Confidentiality is a water mark: a denial of R is one of V too, a permission of R one of N. Who permits asks for a mark and a label of sensitivity."""
        labels = given.get("securityLabel", ())
        if not labels:
            return ()
        if any("code" not in each or "system" not in each for each in labels):
            self._warn(f"{path}.securityLabel", _told(denies))
            return (None,)
        known = [(system_of(each), each["code"]) for each in labels]
        levels = [code for system, code in known if system == CONFIDENTIALITY_SYSTEM and code in LEVELS]
        tags = tuple(Term(Kind.LABEL, f"{system}|{code}") for system, code in known if system != CONFIDENTIALITY_SYSTEM)
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
            return moments(given.get("period", {}))
        except ValueError:
            self._warn(f"{path}.period", _told(denies))
            return (0, FOREVER) if denies else (0, 0)

    def _data_period(self, given: Json, denies: bool, path: str) -> tuple[Part | None, ...]:
        if "dataPeriod" not in given:
            return ()
        try:
            low, high = moments(given["dataPeriod"], earliest=-FOREVER)
        except ValueError:
            self._warn(f"{path}.dataPeriod", _told(denies))
            return (None,)
        return ((Term(Kind.OVERLAPS if denies else Kind.WITHIN, low=low, high=high),),)


def _told(denies: bool) -> str:
    return "not all of this is understood: " + (
        "the denial is enforced as if it were not there" if denies else "nothing is permitted for it"
    )
