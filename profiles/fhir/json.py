"""FHIR's JSON format (FHIR R4 section 2.24) to plain objects and back, exactly: what was read is written with the same digits and order.

The standard library's decoder sees each pair of each object, so that a name that comes twice is found; orjson would keep the last
without a word, and lose the zeros of 1.00. For output orjson takes numbers as they were written.
"""

import json
import re
from decimal import Decimal, InvalidOperation
from typing import Any, Final, NoReturn, Self

import orjson

from profiles.fhir.issues import Issue

MOST_BYTES: Final = 64 * 1024 * 1024
DEEPEST: Final = 64
"""No resource of R4 needs more levels of objects and arrays; what walks a resource by recursion is safe with it."""
_GREATEST_EXPONENT: Final = 400
"""Beyond it no double goes, and a computation could fill the memory: 1e999999999 is ten characters."""
_BOM: Final = b"\xef\xbb\xbf"
_NAME: Final = re.compile(r"_?[A-Za-z][A-Za-z0-9_]{0,63}")


class Malformed(ValueError):
    """A body that is no JSON object as FHIR wants it. `issue` says what is wrong and where, never the content."""

    def __init__(self, issue: Issue) -> None:
        super().__init__(issue.diagnostics)
        self.issue: Final = issue


class Written(Decimal):
    """A number whose digits `Decimal` would write another way, such as 1e3 or 0.0000001: as text it is what was read."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> Self:
        """The number that `text` is."""
        made = super().__new__(cls, text)
        made.text = text
        return made

    def __str__(self) -> str:
        return self.text

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.text,)


def parse(body: bytes, *, limit: int = MOST_BYTES) -> dict[str, Any]:
    """FHIR R4 section 2.24, JSON: the object that `body` is, of at most `limit` bytes.

    Numbers with a fraction or exponent are `Decimal` and keep their form. A byte order mark before the text is passed over, as RFC 8259
    section 8.1 allows a reader. Raises `Malformed` for what is no JSON object in UTF-8, names that come twice in an object, NaN and
    Infinity, numbers beyond any measure, and more than 64 levels.
    """
    if len(body) > limit:
        raise Malformed(Issue("fatal", "too-long", "", f"the body has {len(body)} bytes, the limit is {limit}"))
    text = _decoded(body)
    try:
        parsed = _decoder.decode(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise _malformed(f"the body is no JSON: {error.msg.rstrip(':')} at {where}") from None
    except RecursionError:
        raise _malformed(f"objects and arrays are nested more than {DEEPEST} deep") from None
    except _Twice:
        raise _twice(text) from None
    except ValueError as error:
        # Of the decoder's own: an integer of thousands of digits (its text does not quote them).
        raise _malformed(str(error) if isinstance(error, _NoNumber) else "a number has too many digits") from None
    if type(parsed) is not dict:
        raise _malformed("the body is no JSON object: a resource is one (FHIR R4 section 2.24)")
    if text.count("{") + text.count("[") > DEEPEST and _is_deep(parsed):
        raise _malformed(f"objects and arrays are nested more than {DEEPEST} deep")
    return parsed


def serialize(resource: Any, *, pretty: bool = False) -> bytes:
    """FHIR R4 section 2.24: a resource, or a part of one, as JSON in UTF-8, in the order it has. Raises `TypeError` for what JSON has no form of."""
    option = orjson.OPT_INDENT_2 if pretty else 0
    try:
        return orjson.dumps(resource, default=_number, option=option)
    except orjson.JSONEncodeError:
        # orjson writes integers of at most 64 bits: those beyond are put in as they are.
        return orjson.dumps(_with_great_integers(resource), default=_number, option=option)


class _Twice(ValueError):
    """A name comes twice in an object."""


class _NoNumber(ValueError):
    """NaN, Infinity, or beyond any measure. The message may be told."""


def _malformed(diagnostics: str, expression: str = "") -> Malformed:
    return Malformed(Issue("fatal", "structure", expression, diagnostics))


def _decoded(body: bytes) -> str:
    try:
        text = str(body.removeprefix(_BOM), "utf-8")
    except UnicodeDecodeError as error:
        raise _malformed(f"the body is not UTF-8 (FHIR R4 section 2.24): byte {error.start} is not") from None
    if "\\ud" in text or "\\uD" in text:
        _refuse_half_pairs(text)
    return text


def _refuse_half_pairs(text: str) -> None:
    """An escape of half a surrogate pair is no character: it could not be written again."""
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if "surrogate" in error.msg:
            raise _malformed(f"an escaped character at line {error.lineno}, column {error.colno} is half of a pair") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise _Twice
    return made


def _decimal(text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise _NoNumber("a number is beyond what can be stored") from None
    if abs(number.adjusted()) > _GREATEST_EXPONENT:
        raise _NoNumber(f"a number's exponent is beyond {_GREATEST_EXPONENT}")
    return number if str(number) == text else Written(text)


def _no_constant(name: str) -> NoReturn:
    raise _NoNumber(f"{name} is no number of JSON (RFC 8259 section 6)")


_decoder: Final = json.JSONDecoder(object_pairs_hook=_object, parse_float=_decimal, parse_constant=_no_constant)


def _is_deep(root: dict[str, Any]) -> bool:
    """Whether objects and arrays are nested more than 64 deep, level by level."""
    level: list[Any] = [root]
    for _ in range(DEEPEST):
        level = [
            each
            for container in level
            for each in (container.values() if type(container) is dict else container)
            if type(each) is dict or type(each) is list
        ]
        if not level:
            return False
    return True


class _Pairs(list[tuple[str, Any]]):
    """An object as its pairs."""


def _twice(text: str) -> Malformed:
    """Where the first name is that comes twice. Reads the text again: only a refusal has to know."""
    try:
        found = _path_twice(json.JSONDecoder(object_pairs_hook=_Pairs, parse_float=len).decode(text), 0) or ""
    except (ValueError, RecursionError):  # what follows the second name is broken besides
        found = ""
    return _malformed("an object has the same name twice", found.lstrip("."))


def _path_twice(value: Any, depth: int) -> str | None:
    """The path to the first such name, from this value on. It is put together on the way back: only where there is one."""
    if depth > DEEPEST:
        return ""
    found: str | None
    if isinstance(value, _Pairs):
        seen: set[str] = set()
        for name, each in value:
            found = "" if name in seen else _path_twice(each, depth + 1)
            if found is not None:
                return f"{'' if depth else _type_of(value)}.{name if _NAME.fullmatch(name) else '?'}{found}"
            seen.add(name)
    elif isinstance(value, list):
        for place, each in enumerate(value):
            if (found := _path_twice(each, depth + 1)) is not None:
                return f"[{place}]{found}"
    return None


def _type_of(pairs: _Pairs) -> str:
    named = next((each for name, each in pairs if name == "resourceType" and isinstance(each, str)), "")
    return named if _NAME.fullmatch(named) else ""


def _number(value: object) -> orjson.Fragment:
    if isinstance(value, Decimal) and value.is_finite():
        return orjson.Fragment(str(value))
    raise TypeError(f"JSON has no form of {type(value).__name__}")


def _with_great_integers(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_great_integers(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_with_great_integers(each) for each in value]
    if type(value) is int and not -(2**63) <= value < 2**64:
        return orjson.Fragment(str(value))
    return value
