"""Search results as a Bundle: the stored bytes, one after the other (FHIR R4 section 2.36)."""

import uuid
from collections.abc import Iterable
from urllib.parse import quote, urlencode

import orjson

from server.edges.fhir.negotiation import Pairs
from server.records.search import Match
from server.store.db import instant


def searchset(
    base: str,
    *,
    now: int,
    links: Iterable[tuple[str, str]],
    total: int | None = None,
    matches: Iterable[Match] = (),
    included: Iterable[Match] = (),
    outcome: bytes = b"",
) -> bytes:
    """A searchset as JSON. `links` are (relation, URL), `outcome` an OperationOutcome that tells of the search, or empty."""
    head = orjson.dumps(
        {
            "resourceType": "Bundle",
            "id": str(uuid.uuid4()),
            "meta": {"lastUpdated": instant(now)},
            "type": "searchset",
            **({} if total is None else {"total": total}),
            "link": [{"relation": relation, "url": url} for relation, url in links],
        }
    )
    entries = [_entry(base, match, b"match") for match in matches]
    entries += [_entry(base, match, b"include") for match in included]
    if outcome:
        entries.append(b'{"resource":' + outcome + b',"search":{"mode":"outcome"}}')
    if not entries:  # FHIR JSON has no empty arrays
        return head
    return b"".join((head[:-1], b',"entry":[', b",".join(entries), b"]}"))


def address(base: str, type_: str, parameters: Pairs, cursor: str = "") -> str:
    """The URL of a search, or of one of its pages."""
    given = [*parameters, ("_cursor", cursor)] if cursor else list(parameters)
    return f"{base}/{type_}" + (f"?{urlencode(given, safe='/:|,', quote_via=quote)}" if given else "")


def _entry(base: str, match: Match, mode: bytes) -> bytes:
    url = orjson.dumps(f"{base}/{match.type}/{match.id}")
    return b"".join((b'{"fullUrl":', url, b',"resource":', match.body, b',"search":{"mode":"', mode, b'"}}'))
