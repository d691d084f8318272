"""The value grammar of stored query parameters (ITI TF-2 section 3.18.4.1.2.3.5).

A Value is `'text'`, a bare number, or a list `('a','b')`; a quote inside text is doubled. Codes are `code^^scheme`.
"""

import re

from ihe.ebrs import RegistryError
from profiles.document import Code

# The two branches inside the quotes exclude each other, so matching is linear. A sample of the standard (3.18.4.1.3.1) has double quotes.
_ITEM = re.compile(r"""\s*(?:'((?:[^']|'')*)'|"([^"]*)"|([^\s'"(),]+))\s*""")


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
        values.append(item[1].replace("''", "'") if item[1] is not None else item[2] if item[2] is not None else item[3])
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


def _malformed(parameter: str) -> RegistryError:
    return RegistryError("XDSRegistryError", f"a value of {parameter} must be 'text', a number or a list ('a','b')")
