"""What the rows of searches are found by: `index_rows` writes them with these, searches look for them with these.

Hashes are 64 bits, signed. Text that is walked is cut to what both engines' indexes take, with a digest at its end, so that whole texts still
differ; who looks for a part of a text finds it in the first 167 characters.
"""

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from profiles.fhir.search_values import folded

FOLDED: Final = 200
EXACT: Final = 400
"""Characters. PostgreSQL's index takes 2,704 bytes for a row."""
_DIGEST: Final = 16
_POSITIVE: Final = 2**63 - 1

CODE: Final = ":code"
"""After a token parameter's name: its codes as `text_value`, for `_sort` and `:missing`."""
TEXT: Final = ":text"
"""After a token parameter's name: what `:text` looks at."""
LISTED: Final = ":listed"
"""After `_tag` and `_security`: their codings as `system|code`, to tell which there are."""
OF_TYPE: Final = ":of-type"
IDENTIFIER: Final = ":identifier"
"""After a reference parameter's name: its logical identifiers as tokens."""
ONLY: Final = 0
"""`token.exact` where `token.hash` says all."""
PRESENT: Final = ":present"
"""After any parameter's name: the element is there without a value that could be compared. `:missing` looks at this too."""


def _hash(*parts: str) -> int:
    """Each part with its length, so that none can look like two."""
    text = "".join([f"{len(part)}:{part}" for part in parts])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)


@lru_cache(maxsize=8192)
def parameter_hash(type_: str, code: str) -> int:
    """Of a parameter of a type; `code` may have one of the endings above."""
    return _hash(type_, code)


def token_hash(type_: str, parameter: str, system: str | None, code: str | None) -> int:
    """Of one token value. `system` or `code` None: any."""
    return _hash(type_, parameter, "*" if system is None else f"={system}", "*" if code is None else f"={code}")


def exact_token(type_: str, parameter: str, system: str, code: str) -> int:
    """`token.exact` of a token: never negative."""
    return token_hash(type_, parameter, system, code) & _POSITIVE


@lru_cache(maxsize=16384)
def token_hashes(type_: str, parameter: str, system: str, code: str) -> tuple[int, int, int]:
    """Of all forms by which a token is looked for: `code`, `system|code` (`exact_token`), `system|`."""
    of_code, of_system = (token_hash(type_, parameter, *form) for form in ((None, code), (system, None)))
    return of_code, exact_token(type_, parameter, system, code), of_system


def of_type_hash(type_: str, parameter: str, system: str, code: str, value: str) -> int:
    """`:of-type`: an identifier by the coding of its type and its value."""
    return token_hash(type_, parameter + OF_TYPE, f"{system}|{code}", value)


@lru_cache(maxsize=8192)
def unit_hash(type_: str, parameter: str, form: str) -> int:
    """`quantity_value.unit`; `form` is what `profiles.fhir.units` gives, empty for any unit and for numbers."""
    return _hash(type_, parameter, "unit", form)


def token_form(system: str | None, code: str | None) -> str:
    """One form of a token in `composite_hash`."""
    return f"{'*' if system is None else f'{len(system)}={system}'}{'*' if code is None else f'={code}'}"


def reference_form(type_: str, id_: str) -> str:
    """One form of a reference in `composite_hash`: of any type where that is empty; what is elsewhere has the type `url` and its URL."""
    return f"{type_ or '*'}/{id_}"


def composite_hash(type_: str, parameter: str, forms: Iterable[str]) -> int:
    """Of a composite: a form for each of its components, in their order.

    Tokens have a `token_form`, references a `reference_form`, quantities and numbers what `profiles.fhir.units` gives, dates and strings none (empty).
    """
    return _hash(type_, parameter, *forms)


def folded_key(text: str) -> str:
    """`text_value.folded` of a string."""
    return clipped(folded(text), FOLDED)


def exact_key(text: str) -> str:
    """`text_value.exact` of a string or URI."""
    return clipped(text, EXACT)


def uri_key(text: str) -> str:
    """`text_value.folded` of a URI, and `reference_value.target_id` of what is elsewhere: as it is."""
    return clipped(text, FOLDED)


def clipped(text: str, limit: int) -> str:
    """At most `limit` characters: of a longer one the beginning and a digest. PostgreSQL has no place for NUL."""
    if len(text) > limit:
        digest = hashlib.blake2b(text.encode(), digest_size=_DIGEST).hexdigest()
        text = f"{text[: limit - 2 * _DIGEST - 1]}~{digest}"
    return text.replace("\0", "") if "\0" in text else text
