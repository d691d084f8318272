"""The values of a search request: text to the values of `profiles.fhir.query`, one reader per parameter type (FHIR R4 section 3.1.1.4).

Readers raise `ValueError` in plain words that repeat nothing of the value.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from decimal import Context, Decimal, InvalidOperation
from functools import lru_cache
from typing import Final, cast, get_args

from profiles.fhir.date_range import date_range
from profiles.fhir.geography import point
from profiles.fhir.query import (
    CompositeValue,
    DateValue,
    Missing,
    Near,
    NumberValue,
    OfType,
    Prefix,
    QuantityValue,
    ReferenceValue,
    Text,
    TokenValue,
    Value,
)
from profiles.fhir.references import parse_reference
from profiles.person_name import sound
from profiles.r4.search import Parameter, by_url

_PREFIXES: Final = frozenset(get_args(Prefix))
_NUMBER: Final = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d{1,3})?", re.ASCII)
_ID: Final = re.compile(r"[A-Za-z0-9.-]{1,64}", re.ASCII)
_MOST_DIGITS: Final = 64
_EXACT: Final = Context(prec=400, Emax=10_000, Emin=-10_000)

# --- text


def split(text: str, separator: str) -> list[str]:
    """Section 3.1.1.4.4.1: at each `separator` that no backslash stands before. Escapes stay as they are."""
    if "\\" not in text:
        return text.split(separator)
    found, start, place = [], 0, 0
    while place < len(text):
        if text[place] == "\\":
            place += 1
        elif text[place] == separator:
            found.append(text[start:place])
            start = place + 1
        place += 1
    return [*found, text[start:]]


def unescaped(text: str) -> str:
    r"""Section 3.1.1.4.4.1: `\,` `\|` `\$` and `\\` as what they stand for. Other backslashes stay: R4 says nothing of them."""
    return re.sub(r"\\([,|$\\])", r"\1", text) if "\\" in text else text


def escaped(text: str) -> str:
    """The reverse of `unescaped`."""
    return re.sub(r"([,|$\\])", r"\\\1", text)


_LETTERS: Final = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "æ": "ae", "œ": "oe", "þ": "th", "ð": "d", "ı": "i"})
_UNWRITTEN: Final = re.compile(r"['’ʼ`´]")
_BETWEEN: Final = re.compile(r"[^a-z0-9]+", re.ASCII)


def folded(text: str) -> str:
    """Section 3.1.1.4.8: a string as it is matched, without case and accents; apostrophes go, other punctuation and space is one space."""
    if text.isascii():
        return _BETWEEN.sub(" ", _UNWRITTEN.sub("", text.lower()) if "'" in text or "`" in text else text.lower()).strip()
    plain = unicodedata.normalize("NFKD", _UNWRITTEN.sub("", text)).casefold().translate(_LETTERS)
    return " ".join("".join(_kept(character) for character in plain).split())


def _kept(character: str) -> str:
    if unicodedata.combining(character):
        return ""
    return " " if unicodedata.category(character)[0] in "PZCS" else character


@lru_cache(maxsize=4096)
def sounds(text: str) -> tuple[str, ...]:
    """What `phonetic` parameters compare: how each word of a name sounds (Soundex); the word itself where it has other letters than a to z."""
    return tuple(sound(word) or word for word in folded(text).split())


# --- numbers and dates

_DAY: Final = 86_400_000_000
_EPOCH: Final = date(1970, 1, 1).toordinal() * _DAY
_TO_THE_SECOND: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.(\d+))?(?:Z|[+-]\d\d:\d\d)", re.ASCII)


def implied(number: Decimal) -> tuple[Decimal, Decimal]:
    """Section 3.1.1.4.6: the half-open range that the precision of a number implies: `100` is [99.5, 100.5), `1e2` is [95, 105).

    Where the exponent stands for digits that are not written, the standard counts one more of them than it says there. Raises `ValueError`
    for numbers of more than 64 digits or outside of 1e-300 to 1e300.
    """
    sign_digits_exponent = number.as_tuple()
    exponent = sign_digits_exponent.exponent
    if not isinstance(exponent, int) or len(sign_digits_exponent.digits) > _MOST_DIGITS or abs(exponent) > 300:
        raise ValueError("a number has at most 64 digits, and is not beyond 1e300")
    half = Decimal((0, (5,), exponent - (2 if exponent > 0 else 1)))
    return _EXACT.subtract(number, half), _EXACT.add(number, half)


def number_value(text: str) -> NumberValue:
    """Section 3.1.1.4.6: a number with a prefix or none."""
    prefix, rest = _prefixed(text)
    if not _NUMBER.fullmatch(rest):
        raise ValueError(
            "not a number such as 100, -5.4 or 1e2, with one of the prefixes eq, ne, gt, lt, ge, le, sa, eb, ap or none"
        )
    try:
        value = Decimal(rest)
    except InvalidOperation as error:  # pragma: no cover - the pattern lets nothing else pass
        raise ValueError("not a number") from error
    low, high = implied(value)
    if prefix == "ap":  # the recommended 10 % of the value
        tenth = _EXACT.multiply(abs(value), Decimal("0.1"))
        low, high = min(low, _EXACT.subtract(value, tenth)), max(high, _EXACT.add(value, tenth))
    return NumberValue(prefix, value, low, high)


def date_value(text: str, now: int) -> DateValue:
    """Section 3.1.1.4.7: a date of any precision with a prefix or none; without a zone it is UTC. `now` is in microseconds since 1970.

    `ap` reaches a tenth of the distance to now to either side. A blank in the place of the zone's plus sign is taken as one.
    """
    prefix, rest = _prefixed(text)
    start, end = covered(rest.replace(" ", "+"))
    if prefix == "ap":
        tenth = abs(now - start) // 10
        start, end = start - tenth, end + tenth
    return DateValue(prefix, start, end)


def covered(text: str) -> tuple[int, int]:
    """The half-open range of microseconds that a date, dateTime or instant covers; a leap second is the second before. `ValueError`."""
    if len(text) == 10 and text[4] == text[7] == "-":
        start = date.fromisoformat(text).toordinal() * _DAY - _EPOCH
        return start, start + _DAY
    if (found := _TO_THE_SECOND.fullmatch(text)) and ":60" not in text:
        moment = datetime.fromisoformat(text)
        zone = moment.utcoffset() or timedelta()
        seconds = (moment.hour * 60 + moment.minute) * 60 + moment.second - zone.days * 86_400 - zone.seconds
        start = moment.toordinal() * _DAY - _EPOCH + seconds * 1_000_000 + moment.microsecond
        return start, start + 10 ** (6 - min(6, len(found[1] or "")))
    return date_range(text.replace(":60", ":59") if ":60" in text else text)


def _prefixed(text: str) -> tuple[Prefix, str]:
    if text[:2] in _PREFIXES:
        return cast("Prefix", text[:2]), text[2:]
    return "eq", text


# --- the other types


def token_value(text: str) -> TokenValue:
    """Section 3.1.1.4.10: `code`, `system|code`, `system|` or `|code`."""
    parts = split(text, "|")
    if len(parts) == 1:
        return TokenValue(None, unescaped(text))
    system, code = unescaped(parts[0]), unescaped("|".join(parts[1:]))
    if not system and not code:
        raise ValueError("a token has a system, a code or both: code, system|code, system| or |code")
    return TokenValue(system, code or None)


def of_type_value(text: str) -> OfType:
    """Section 3.1.1.4.10, `:of-type`: `system|code|value`, all three."""
    parts = [unescaped(part) for part in split(text, "|")]
    if len(parts) != 3 or not all(parts):
        raise ValueError("what :of-type looks for is system|code|value of an identifier, all three")
    return OfType(*parts)


def quantity_value(text: str) -> QuantityValue:
    """Section 3.1.1.4.11: `number`, `number|system|code` or `number||code`."""
    parts = split(text, "|")
    if len(parts) not in (1, 3):
        raise ValueError("a quantity is a number, number|system|code or number||code")
    number = number_value(parts[0])
    if len(parts) == 1:
        return QuantityValue(number)
    return QuantityValue(number, unescaped(parts[1]) or None, unescaped(parts[2]) or None)


def reference_value(text: str, base: str, type_: str = "") -> ReferenceValue:
    """Section 3.1.1.4.12: an id, Type/id, an absolute URL, a canonical with a version or none, or a `urn:`. `type_` is of a modifier.

    `base` is our own URL: what lies below it is a resource of ours.
    """
    plain = unescaped(text)
    found = reference(plain, base)
    if found is None and _ID.fullmatch(plain):
        return ReferenceValue(type_, plain)
    if found is None:
        raise ValueError("not a reference: an id, Type/id or an absolute URL")
    if type_ and (found.type or type_) != type_:
        raise ValueError("the reference is of another type than its modifier says")
    return found


def reference(text: str, base: str) -> ReferenceValue | None:
    """What a reference says (section 2.3.0): a resource of ours, or by `url` one elsewhere; None for fragments and what is neither.

    A version stands behind a `|` (canonicals) or `/_history/`.
    """
    plain, _, version = text.partition("|")
    found = parse_reference(plain, base.rstrip("/"))
    if found.form == "relative" or (found.form == "absolute" and not found.url):
        return ReferenceValue(found.type, found.id, found.version or version)
    if found.form not in ("absolute", "urn"):
        return None
    url = found.url.removesuffix(f"/_history/{found.version}") if found.version else found.url
    return ReferenceValue(version=found.version or version, url=url)


_DEGREES: Final = re.compile(r"[+-]?\d{1,3}(\.\d{1,30})?", re.ASCII)
_DISTANCE: Final = re.compile(r"\d{1,9}(\.\d{1,9})?", re.ASCII)
_NEARBY: Final = "5"
_METERS: Final[Mapping[str, Decimal]] = {
    "": Decimal(1000), "km": Decimal(1000), "m": Decimal(1),
    "mi": Decimal("1609.344"), "[mi_i]": Decimal("1609.344"), "[mi_us]": Decimal(6_336_000) / Decimal(3937),
}  # fmt: skip
"""Unit of a distance, by UCUM or as people write it -> how many meters."""


def near_value(text: str) -> Near:
    """`near` of Location: `latitude|longitude|distance|unit`; the unit is kilometers and the distance 5 of them where they are left out."""
    parts = split(text, "|")
    latitude, longitude, distance, unit = (*parts, *[""] * (4 - len(parts)))[:4] if 2 <= len(parts) <= 4 else [""] * 4
    if not _DEGREES.fullmatch(latitude) or not _DEGREES.fullmatch(longitude):
        raise ValueError("a place is latitude|longitude|distance|unit, the first two in degrees, such as 52.52|13.405|10|km")
    if not _DISTANCE.fullmatch(distance or _NEARBY):
        raise ValueError("the distance of a place is a number such as 11.2, from 0 on")
    if unit not in _METERS:
        raise ValueError("the unit of a distance is km, m, mi, [mi_i] or [mi_us]")
    point(Decimal(latitude), Decimal(longitude))
    meters = Decimal(distance) * _METERS[unit] if distance else Decimal(_NEARBY) * 1000
    return Near(Decimal(latitude), Decimal(longitude), meters)


def missing_value(text: str) -> Missing:
    """Section 3.1.1.4.4, `:missing`."""
    if text not in ("true", "false"):
        raise ValueError("what :missing takes is true or false")
    return Missing(text == "true")


def text_value(text: str) -> Text:
    """Sections 3.1.1.4.8 and 3.1.1.4.9: a string or a URI."""
    return Text(unescaped(text))


def composite_value(text: str, parameter: Parameter, base: str, now: int) -> CompositeValue:
    """Section 3.1.1.4.15: the values of the components, joined by `$`."""
    parts = split(text, "$")
    if len(parts) != len(parameter.components) or not all(parts):
        raise ValueError(f"a composite of {len(parameter.components)} values, joined by $")
    return CompositeValue(
        tuple(value(part, component(parameter, place), "", base, now) for place, part in enumerate(parts))
    )  # fmt: skip


def component(parameter: Parameter, place: int) -> Parameter:
    """The parameter that a component of a composite is of. Raises `ValueError` where it is not one of the standard's."""
    found = by_url(parameter.components[place][0])
    if found is None:
        raise ValueError("a component of this composite is of a parameter that is not known here")
    return found


# --- by type and modifier

_ANY: Final = frozenset({"", "missing"})
_MODIFIERS: Final[Mapping[str, frozenset[str]]] = {
    "number": _ANY,
    "date": _ANY,
    "quantity": _ANY,
    "composite": _ANY,
    "special": _ANY,
    "string": _ANY | {"exact", "contains"},
    "uri": _ANY | {"above", "below"},
    "token": _ANY | {"text", "not", "above", "below", "in", "not-in", "of-type"},
    "reference": _ANY | {"identifier", "above", "below"},
}
_PLAIN: Final = frozenset({"_text", "_content", "_list"})
PHONETIC: Final = "phonetic"
"""The parameter that compares how names sound, of the types that have it."""


def modifiers(parameter: Parameter) -> frozenset[str]:
    """Section 3.1.1.4.4: the modifiers that go with a parameter (of a reference also the types it may lead to); `""` for none."""
    if parameter.code in _PLAIN:
        return frozenset({""})
    if parameter.code == PHONETIC:
        return _ANY
    return _MODIFIERS[parameter.type]


_BY_MODIFIER: Final[Mapping[str, Callable[[str], Value]]] = {
    "missing": missing_value,
    "of-type": of_type_value,
    "identifier": token_value,
    "text": text_value,
    "in": text_value,
    "not-in": text_value,
}
_BY_TYPE: Final[Mapping[str, Callable[[str], Value]]] = {
    "number": number_value,
    "quantity": quantity_value,
    "token": token_value,
    "string": text_value,
    "uri": text_value,
    "special": near_value,
}
"""R4 has one parameter of the type special that is of a resource type: `near`."""


def value(text: str, parameter: Parameter, modifier: str, base: str, now: int) -> Value:
    """One value of a parameter with a modifier that goes with it (empty for none, or a type for references)."""
    if modifier in _BY_MODIFIER:
        return _BY_MODIFIER[modifier](text)
    if parameter.type == "date":
        return date_value(text, now)
    if parameter.type == "reference":
        return reference_value(text, base, modifier if modifier[:1].isupper() else "")
    if parameter.type == "composite":
        return composite_value(text, parameter, base, now)
    return _BY_TYPE[parameter.type](text)
