"""The value grammar of stored query parameters (ITI TF-2 section 3.18.4.1.2.3.5).

A Value is `'text'`, a bare number, or a list `('a','b')`; a quote inside text is doubled. Codes are `code^^scheme`.
"""

import re
from collections.abc import Iterable

from ihe.ebrs import RegistryError
from profiles.document import Code

# The two branches inside the quotes exclude each other, so matching is linear.
_ITEM = re.compile(r"\s*(?:'((?:[^']|'')*)'|([^\s'(),]+))\s*")


def read_values(text: str, parameter: str) -> list[str]:
    """The values of one Value element, unquoted. Raises `RegistryError` where the grammar is broken."""
    text = text.strip()
    listed = text.startswith("(") and text.endswith(")")
    if listed:
        text = text[1:-1]
    values: list[str] = []
    at = 0
    while True:
        item = _ITEM.match(text, at)
        if item is None:
            raise _malformed(parameter)
        values.append(item[2] if item[1] is None else item[1].replace("''", "'"))
        at = item.end()
        if at == len(text):
            return values
        if not listed or text[at] != ",":
            raise _malformed(parameter)
        at += 1


def write_text(value: str, *, listed: bool) -> str:
    """`value` in quotes; `listed` puts it in parentheses, as a parameter with several values wants it."""
    quoted = "'" + value.replace("'", "''") + "'"
    return f"({quoted})" if listed else quoted


def read_code(value: str, parameter: str) -> Code:
    """`code^^scheme` as a Code without display. Raises `RegistryError` if the scheme is missing."""
    code, _, scheme = value.partition("^^")
    if not code or not scheme or "^" in scheme:
        raise RegistryError("XDSRegistryError", f"a value of {parameter} must have the form code^^codingScheme")
    return Code(code, scheme)


def write_code(code: Code) -> str:
    """`code^^scheme`."""
    return f"{code.code}^^{code.scheme}"


def matches_like(pattern: str, text: str) -> bool:
    """SQL LIKE over the whole of `text`: `%` is any characters, `_` is one. Case counts. Linear in the pattern's pieces."""
    first, *rest = [re.compile(_piece(piece), re.DOTALL) for piece in pattern.split("%")]
    if not rest:
        return first.fullmatch(text) is not None
    start = first.match(text)
    if start is None:
        return False
    at = start.end()
    # Between two `%` the leftmost match is always the best one, so nothing is ever tried twice.
    for piece in rest[:-1]:
        found = piece.search(text, at)
        if found is None:
            return False
        at = found.end()
    ending = len(text) - len(pattern.rpartition("%")[2])
    return ending >= at and rest[-1].fullmatch(text, ending) is not None


def any_matches_like(patterns: Iterable[str], texts: Iterable[str]) -> bool:
    """Whether any of `texts` matches any of `patterns`."""
    candidates = tuple(texts)
    return any(matches_like(pattern, text) for pattern in patterns for text in candidates)


def _piece(text: str) -> str:
    return "".join("." if character == "_" else re.escape(character) for character in text)


def _malformed(parameter: str) -> RegistryError:
    return RegistryError("XDSRegistryError", f"a value of {parameter} must be 'text', a number or a list ('a','b')")
