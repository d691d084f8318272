"""Codes of FHIR R4 (section 4.8, Using Codes): which codes value sets have, what codes mean, and what is a kind of what.

Answers are True, False or None: None where the tables cannot tell, as for SNOMED CT and LOINC, whose codes are not in them.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

from profiles.r4 import code_systems
from profiles.r4.code_systems import Composed, Part, System, reached, stored_system, stored_value_set, unversioned

Codes = frozenset[tuple[str, str]]
"""(system, code) of each code."""
_LANGUAGE: Final = re.compile(
    r"(?:[A-Za-z]{2,3}(?:-[A-Za-z]{3}){0,3}|[A-Za-z]{4,8})(?:-[A-Za-z]{4})?(?:-(?:[A-Za-z]{2}|\d{3}))?"
    r"(?:-(?:[A-Za-z0-9]{5,8}|\d[A-Za-z0-9]{3}))*(?:-[0-9A-WY-Za-wy-z](?:-[A-Za-z0-9]{2,8})+)*(?:-x(?:-[A-Za-z0-9]{1,8})+)?"
    r"|x(?:-[A-Za-z0-9]{1,8})+|i-[A-Za-z]{2,8}(?:-[A-Za-z]{2,8})?",
    re.IGNORECASE,
)
"""RFC 5646 section 2.1: well formed, whether or not registered."""
_MEDIA_TYPE: Final = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
    r"(?:[ \t]?;[ \t]?[A-Za-z0-9!#$%&'*+.^_`|~-]+=(?:[A-Za-z0-9!#$%&'*+.^_`|~-]+|\"[^\"\\\r\n]*\"))*"
)
"""RFC 6838 section 4.2, with parameters as RFC 9110 section 8.3.1 writes them."""
# ISO 4217, list one, and what was in it since 2000: money of old invoices is in these
_CURRENCIES: Final = (
    "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BOV BRL BSD BTN BWP BYN BYR BZD CAD CDF CHE CHF CHW CLF"
    " CLP CNY COP COU CRC CUC CUP CVE CZK DJF DKK DOP DZD EEK EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HRK HTG"
    " HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LTL LVL LYD MAD MDL MGA MKD MMK"
    " MNT MOP MRO MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD"
    " SCR SDG SEK SGD SHP SKK SLE SLL SOS SRD SSP STD STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD USN USS UYI UYU"
    " UYW UZS VED VEF VES VND VUV WST XAF XAG XAU XBA XBB XBC XBD XCD XCG XDR XOF XPD XPF XPT XSU XTS XUA XXX YER ZAR ZMK ZMW ZWG ZWL"
)
_BY_RULE: Final[Mapping[str, Callable[[str], bool]]] = {
    "urn:ietf:bcp:13": lambda code: _MEDIA_TYPE.fullmatch(code) is not None,
    "urn:ietf:bcp:47": lambda code: _LANGUAGE.fullmatch(code) is not None,
    "urn:iso:std:iso:4217": frozenset(_CURRENCIES.split()).__contains__,
}
"""Code systems that a rule describes instead of a list."""


class Terminology:
    """Code systems and value sets: those of R4, and the CodeSystem and ValueSet resources that are given, which stand before them."""

    def __init__(self, systems: Iterable[Mapping[str, Any]] = (), value_sets: Iterable[Mapping[str, Any]] = ()) -> None:
        self._systems = {
            each["url"]: stored_system(each) for each in systems if each.get("content") == "complete" and "url" in each
        }
        self._value_sets = {each["url"]: stored_value_set(each) for each in value_sets if "url" in each}
        self._codes: dict[str, Codes | None] = {}

    def contains(self, value_set: str, system: str | None, code: str) -> bool | None:
        """Whether a value set (its canonical URL) has a code; None where that is not known. `system` None is any: of an element of type code."""
        return self._contains(unversioned(value_set), system, code, frozenset())

    def codes(self, value_set: str) -> Codes | None:
        """FHIR R4 section 4.9.6, expansion: all codes of a value set; None where it is not known or has more than can be listed."""
        url = unversioned(value_set)
        if url not in self._codes:
            if self._value_set(url) is None:  # not kept: clients can name any number of such
                return None
            self._codes[url] = self._expanded(url, frozenset())
        return self._codes[url]

    def display(self, system: str, code: str) -> str | None:
        """What a code of a system is called; None where it is not known."""
        found = self._system(system)
        known = found.known(code) if found else None
        return (found.displays[known] or None) if found and known is not None else None

    def subsumes(self, system: str, ancestor: str, code: str) -> bool | None:
        """FHIR R4 section 4.8.4: whether `code` is `ancestor` or a kind of it; None where one of them is not known."""
        found = self._system(system)
        if found is None:
            return None
        above, below = found.known(ancestor), found.known(code)
        if above is None or below is None:
            return None
        return above == below or above in reached(below, found.parents)

    def descendants(self, system: str, code: str) -> frozenset[str] | None:
        """The codes below a code, without itself; None where it is not known."""
        return self._walk(system, code, lambda found: found.children)

    def ancestors(self, system: str, code: str) -> frozenset[str] | None:
        """The codes above a code, without itself; None where it is not known."""
        return self._walk(system, code, lambda found: found.parents)

    def _walk(self, system: str, code: str, way: Callable[[System], Mapping[str, tuple[str, ...]]]) -> frozenset[str] | None:
        found = self._system(system)
        known = found.known(code) if found else None
        return frozenset(reached(known, way(found))) if found and known is not None else None

    def _system(self, url: str) -> System | None:
        url = unversioned(url)
        return self._systems.get(url) or code_systems.system(url)

    def _value_set(self, url: str) -> Composed | None:
        return self._value_sets.get(url) or code_systems.value_set(url)

    def _contains(self, url: str, system: str | None, code: str, within: frozenset[str]) -> bool | None:
        value_set = self._value_set(url)
        if value_set is None or url in within:
            return None
        within |= {url}
        included = _any(self._holds(part, system, code, within) for part in value_set.include)
        if included is False or not value_set.exclude:
            return included
        excluded = _any(self._holds(part, system, code, within) for part in value_set.exclude)
        return _every((included, None if excluded is None else not excluded))

    def _holds(self, part: Part, system: str | None, code: str, within: frozenset[str]) -> bool | None:
        answers = [self._contains(url, system, code, within) for url in part.value_sets]
        if part.system:
            answers.append(self._in_system(part, system, code))
        return _every(answers) if answers else None

    def _in_system(self, part: Part, system: str | None, code: str) -> bool | None:
        if system is not None and unversioned(system) != part.system:
            return False
        found = self._system(part.system)
        known = found.known(code) if found else None
        if part.codes is not None:
            return code in part.codes or (known is not None and known in part.codes)
        if found is None:
            in_rule = _BY_RULE[part.system](code) if part.system in _BY_RULE else None
            return in_rule if not part.filters else _every((in_rule, *(_on_code(each, code) for each in part.filters)))
        if known is None:
            return False
        return _every(_filtered(found, each, known) for each in part.filters)

    def _expanded(self, url: str, within: frozenset[str]) -> Codes | None:
        value_set = self._value_set(url)
        if value_set is None or url in within:
            return None
        included = [self._listed(part, within | {url}) for part in value_set.include]
        excluded = [self._listed(part, within | {url}) for part in value_set.exclude]
        if any(each is None for each in (*included, *excluded)):
            return None
        return frozenset[tuple[str, str]]().union(*_known(included)) - frozenset[tuple[str, str]]().union(*_known(excluded))

    def _listed(self, part: Part, within: frozenset[str]) -> Codes | None:
        lists = [self._expanded(unversioned(url), within) for url in part.value_sets]
        if part.system:
            lists.append(self._listed_of_system(part))
        if not lists or any(each is None for each in lists):
            return None
        return frozenset.intersection(*_known(lists))

    def _listed_of_system(self, part: Part) -> Codes | None:
        if part.codes is not None:
            return frozenset((part.system, code) for code in part.codes)
        found = self._system(part.system)
        if found is None:
            return None
        answers = {code: _every(_filtered(found, each, code) for each in part.filters) for code in found.displays}
        if None in answers.values():
            return None
        return frozenset((part.system, code) for code, answer in answers.items() if answer)


BUILT_IN: Final = Terminology()
contains = BUILT_IN.contains
codes = BUILT_IN.codes
display = BUILT_IN.display
subsumes = BUILT_IN.subsumes
descendants = BUILT_IN.descendants
ancestors = BUILT_IN.ancestors


# --- answers that may be unknown


def _any(answers: Iterable[bool | None]) -> bool | None:
    unknown = False
    for answer in answers:
        if answer:
            return True
        unknown = unknown or answer is None
    return None if unknown else False


def _every(answers: Iterable[bool | None]) -> bool | None:
    unknown = False
    for answer in answers:
        if answer is False:
            return False
        unknown = unknown or answer is None
    return None if unknown else True


def _known(lists: Iterable[Codes | None]) -> list[Codes]:
    return [each for each in lists if each is not None]


# --- filters (FHIR R4 section 4.9.6.1, FilterOperator)


def _filtered(system: System, condition: tuple[str, str, str], code: str) -> bool | None:
    """Whether a code of the system meets a filter; None for properties that the tables do not have."""
    name, operator, value = condition
    if operator in _HIERARCHY:
        known = system.known(value)
        return None if known is None else _HIERARCHY[operator](system, known, code)
    values = _property(system, name, code)
    return None if values is None else _compared(operator, values, value)


_HIERARCHY: Final[Mapping[str, Callable[[System, str, str], bool]]] = {
    "is-a": lambda system, value, code: code == value or value in reached(code, system.parents),
    "descendent-of": lambda system, value, code: value in reached(code, system.parents),
    "is-not-a": lambda system, value, code: code != value and value not in reached(code, system.parents),
    "generalizes": lambda system, value, code: code == value or code in reached(value, system.parents),
}


def _on_code(condition: tuple[str, str, str], code: str) -> bool | None:
    """A filter of a system whose codes are not listed can look at the code alone."""
    name, operator, value = condition
    return _compared(operator, (code,), value) if name in ("code", "concept") and operator not in _HIERARCHY else None


def _property(system: System, name: str, code: str) -> tuple[str, ...] | None:
    if name in ("code", "concept"):
        return (code,)
    if name == "display":
        return (system.displays[code],)
    if name == "parent":
        return system.parents.get(code, ())
    if name == "child":
        return system.children.get(code, ())
    return system.properties.get(name, {}).get(code, ()) if name in system.properties else None


def _compared(operator: str, values: tuple[str, ...], value: str) -> bool | None:
    if operator == "=":
        return value in values
    if operator in ("in", "not-in"):
        wanted = {each.strip() for each in value.split(",")}
        return wanted.isdisjoint(values) == (operator == "not-in")
    if operator == "exists":
        return bool(values) == (value == "true")
    if operator == "regex":
        pattern = _pattern(value)
        return None if pattern is None else any(pattern.fullmatch(each) for each in values)
    return None


# An expression that repeats a group can run for ages (`(a+)+`, `(a|a)*`): none of the standard's does
_REPEATED_GROUP: Final = re.compile(r"\)[*+{]")


@lru_cache(maxsize=256)
def _pattern(text: str) -> "re.Pattern[str] | None":
    """The expression, None for one that is none or that might not end. Kept: a value set has few."""
    if len(text) > 200 or _REPEATED_GROUP.search(text):
        return None
    try:
        return re.compile(text)
    except re.error:
        return None
