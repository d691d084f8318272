"""FHIR search by reading: a slow oracle that knows no SQL, over what each resource yields (`profiles.fhir.index.Index`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cmp_to_key
from typing import Any

from profiles.fhir import query
from profiles.fhir.clinical_date import CLINICAL_DATE
from profiles.fhir.expression import targets
from profiles.fhir.index import DateRange, Index, Number, Quantity, Reference, Token
from profiles.fhir.query import DateValue, NumberValue, QuantityValue, ReferenceValue, TokenValue
from profiles.fhir.search_values import folded, implied
from profiles.fhir.units import UCUM, canonical

INFINITY = 10**20


@dataclass(frozen=True)
class Kept:
    """A resource as the oracle sees it; `pk` counts from the first one that was stored."""

    pk: int
    json: Mapping[str, Any]
    index: Index
    updated: int

    @property
    def type(self) -> str:
        return str(self.json["resourceType"])

    @property
    def id(self) -> str:
        return str(self.json["id"])


class World:
    """All resources. `visible` are the types and patients that the caller may see: None is everything."""

    def __init__(self, kept: Sequence[Kept], patients: Sequence[str] | None = None) -> None:
        self.kept = [each for each in kept if patients is None or self._patient(each) in patients]

    @staticmethod
    def _patient(kept: Kept) -> str:
        found = kept.index.compartments.get("Patient", ())
        return found[0] if len(found) == 1 or (found and kept.type == "Patient") else ""

    def expected(self, search: query.Search) -> list[str]:
        """The ids of all matches, in their order."""
        found = [each for each in self.kept if each.type in search.types and self.meets(each, search.condition)]
        directions = [key.descending for key in search.sort] or [True]
        keys = {each.pk: self._keys(each, search) for each in found}

        def compare(a: Kept, b: Kept) -> int:
            for descending, one, other in zip(directions, keys[a.pk], keys[b.pk], strict=True):
                if one == other:
                    continue
                if one is None or other is None:
                    return 1 if one is None else -1
                return (1 if one > other else -1) * (-1 if descending else 1)
            return (a.pk - b.pk) * (-1 if directions[0] else 1)

        return [each.id for each in sorted(found, key=cmp_to_key(compare))]

    def meets(self, kept: Kept, condition: query.Condition) -> bool:
        match condition:
            case query.Criterion():
                return self._criterion(kept, condition)
            case query.All():
                return all(self.meets(kept, each) for each in condition.conditions)
            case query.AnyOf():
                return any(self.meets(kept, each) for each in condition.conditions)
            case query.Not():
                return not self.meets(kept, condition.condition)
            case query.InCompartment():
                return condition.id in kept.index.compartments.get(condition.type, ())
            case query.Chain():
                leads = self._leads(kept, condition.parameter.code)
                return any(
                    (each.type, each.id) in leads and each.type == type_ and self.meets(each, inner)
                    for type_, inner in condition.conditions for each in self.kept
                )  # fmt: skip
            case query.Reverse():
                return any(
                    each.type == condition.type
                    and (kept.type, kept.id) in self._leads(each, condition.parameter.code)
                    and self.meets(each, condition.condition)
                    for each in self.kept
                )

    def _leads(self, kept: Kept, code: str) -> set[tuple[str, str]]:
        return {(each.type, each.id) for each in kept.index.values.get(code, ()) if isinstance(each, Reference) and each.id}

    def _criterion(self, kept: Kept, criterion: query.Criterion) -> bool:
        code, modifier = criterion.parameter.code, criterion.modifier
        if code == "_id":
            found = any(isinstance(each, TokenValue) and each.code == kept.id for each in criterion.values)
            return found != (modifier == "not")
        values = kept.index.values.get(code, ())
        if code == "_lastUpdated":
            seen = kept.updated // 1000 * 1000
            values = (DateRange(seen, seen + 1000),)
        if modifier == "missing":
            return any(
                isinstance(each, query.Missing) and each.missing != (code in kept.index.values) for each in criterion.values
            )
        if criterion.parameter.type == "composite":
            return any(isinstance(each, query.CompositeValue) and self._composite(kept, code, each) for each in criterion.values)
        if modifier == "text":
            return any(
                isinstance(each, query.Text) and _words(each.text, text)
                for each in criterion.values for text in kept.index.texts.get(code, ())
            )  # fmt: skip
        if modifier == "not":
            return not any(matches(asked, value, "", kept.type, criterion) for asked in criterion.values for value in values)
        return any(matches(asked, value, modifier, kept.type, criterion) for asked in criterion.values for value in values)

    def _composite(self, kept: Kept, code: str, asked: query.CompositeValue) -> bool:
        return any(
            all(
                any(matches(part, value, "", kept.type, None) for value in values)
                for part, values in zip(asked.parts, element, strict=True)
            )
            for element in kept.index.composites.get(code, ())
        )

    def _keys(self, kept: Kept, search: query.Search) -> list[Any]:
        if not search.sort:
            return [self._clinical(kept) or 0] if len(search.types) == 1 else [kept.updated]
        return [self._key(kept, key) for key in search.sort]

    def _clinical(self, kept: Kept) -> int | None:
        dates = [each.low for each in kept.index.values.get(CLINICAL_DATE.get(kept.type, ""), ()) if isinstance(each, DateRange)]
        return min(dates, default=None)

    def _key(self, kept: Kept, key: query.SortKey) -> Any:
        if key.chain:
            (parameter, target), *rest = key.chain
            led = [each for each in self.kept if each.type == target and (target, each.id) in self._leads(kept, parameter.code)]
            inner = [self._key(each, query.SortKey(key.parameter, key.descending, tuple(rest))) for each in led]
            known = [each for each in inner if each is not None]
            return (max(known) if key.descending else min(known)) if known else None
        code = key.parameter.code
        if code == "_id":
            return kept.id.encode()
        if code == "_lastUpdated":
            return kept.updated
        if code == CLINICAL_DATE.get(kept.type):
            return self._clinical(kept)
        found = [_comparable(each) for each in kept.index.values.get(code, ())]
        return (max(found) if key.descending else min(found)) if found else None


def _comparable(value: Any) -> Any:
    match value:
        case Token():
            return folded(value.code).encode()
        case DateRange():
            return value.low
        case Number():
            return value.value
        case Quantity():
            return value.number.value
        case Reference():
            return f"{value.type}/{value.id or value.url}".encode()
    return folded(value).encode()


def _words(asked: str, text: str) -> bool:
    words = folded(asked).split()
    return bool(words) and all(any(each.startswith(word) for each in folded(text).split()) for word in words)


def matches(asked: Any, value: Any, modifier: str, type_: str, criterion: query.Criterion | None) -> bool:
    """One value that is asked for against one of a resource."""
    match value:
        case Token():
            if isinstance(asked, query.OfType):
                return (asked.system, asked.code) in value.of_type and asked.value == value.code
            return isinstance(asked, TokenValue) and asked.system in (None, value.system) and asked.code in (None, value.code)
        case DateRange():
            return isinstance(asked, DateValue) and date_matches(asked, (value.low, value.high), modifier)
        case Number():
            return isinstance(asked, NumberValue) and number_matches(asked, value, Decimal(1))
        case Quantity():
            return isinstance(asked, QuantityValue) and quantity_matches(asked, value)
        case Reference():
            if modifier == "identifier":
                return value.identifier is not None and matches(asked, value.identifier, "", type_, None)
            return reference_matches(asked, value, targets(criterion.parameter, type_) if criterion else frozenset())
    return text_matches(asked.text, value, modifier, criterion is not None and criterion.parameter.type == "uri")


def text_matches(asked: str, value: str, modifier: str, is_uri: bool) -> bool:
    if is_uri:
        return value.startswith(asked) if modifier == "below" else value == asked
    if modifier == "exact":
        return asked == value
    if not folded(asked):
        return False
    found, wanted = folded(value), folded(asked)
    return {"contains": wanted in found, "equals": wanted == found, "ends": found.endswith(wanted)}.get(
        modifier, found.startswith(wanted)
    )


def reference_matches(asked: ReferenceValue, value: Reference, leads: frozenset[str]) -> bool:
    if asked.url:
        return value.url == asked.url and asked.version in ("", value.version)
    return asked.id == value.id and (value.type == asked.type if asked.type else value.type in leads or not leads)


def quantity_matches(asked: QuantityValue, value: Quantity) -> bool:
    if asked.code is None:
        return number_matches(asked.number, value.number, Decimal(1))
    if asked.system is None:
        return asked.code in (value.code, value.unit) and number_matches(asked.number, value.number, Decimal(1))
    if asked.system != value.system or not value.code:
        return False
    if asked.system != UCUM:
        return asked.code == value.code and number_matches(asked.number, value.number, Decimal(1))
    (ours, unit), (theirs, other) = canonical(asked.code), canonical(value.code)
    return unit == other and number_matches(asked.number, value.number, theirs / ours)


def number_matches(asked: NumberValue, value: Number, factor: Decimal) -> bool:
    """FHIR R4 section 3.1.1.4.6: a decimal is a point, a Range a range."""
    point = implied(value.value) == (value.low, value.high)
    low, high = (value.value, value.value) if point else (value.low, value.high)
    low, high = low * factor, high * factor
    match asked.prefix:
        case "eq":
            return asked.low <= low and (high < asked.high if point else high <= asked.high)
        case "ne":
            return not (asked.low <= low and (high < asked.high if point else high <= asked.high))
        case "gt" | "sa":
            return (high if asked.prefix == "gt" else low) > asked.value
        case "lt" | "eb":
            return (low if asked.prefix == "lt" else high) < asked.value
        case "ge":
            return high >= asked.value
        case "le":
            return low <= asked.value
        case "ap":
            return low <= asked.high and high >= asked.low


def _overlaps(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return max(a[0], b[0]) < min(a[1], b[1])


def _contains(outer: tuple[int, int], inner: tuple[int, int]) -> bool:
    return outer[0] <= inner[0] and inner[1] <= outer[1]


def date_matches(value: DateValue, target: tuple[int, int], modifier: str = "") -> bool:
    """FHIR R4 section 3.1.1.4.5, word for word."""
    asked = (value.start, value.end)
    above, below = (value.end, INFINITY), (-INFINITY, value.start)
    if target[0] == target[1]:
        return False
    match "ap" if modifier == "overlaps" else value.prefix:
        case "eq":
            return _contains(asked, target)
        case "ne":
            return not _contains(asked, target)
        case "gt":
            return _overlaps(above, target)
        case "lt":
            return _overlaps(below, target)
        case "ge":
            return _overlaps(above, target) or _contains(asked, target)
        case "le":
            return _overlaps(below, target) or _contains(asked, target)
        case "sa":
            return not _overlaps(asked, target) and _contains(above, target)
        case "eb":
            return not _overlaps(asked, target) and _contains(below, target)
        case _:
            return _overlaps(asked, target)
