"""Names and values of a query string, wherever it stands: in a URL, a form, a condition, or the URL of a Bundle's entry."""

from typing import Final
from urllib.parse import parse_qsl

from server.errors import MalformedQuery

Pairs = tuple[tuple[str, str], ...]
_MOST_PARAMETERS: Final = 100


def pairs(query: str) -> Pairs:
    """RFC 3986 section 2.1 and the form of HTML: percent-encoded UTF-8, in its order. Raises `MalformedQuery`.

    NUL is refused: no text of FHIR has it, and PostgreSQL keeps none.
    """
    try:
        found = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=_MOST_PARAMETERS)
    except UnicodeError:
        raise MalformedQuery("a query is percent-encoded UTF-8") from None
    except ValueError:
        raise MalformedQuery(f"a query has at most {_MOST_PARAMETERS} parameters") from None
    if any("\0" in text for pair in found for text in pair):
        raise MalformedQuery("a query has no NUL characters")
    return tuple(found)
