"""Search results and histories as a Bundle, in parts: the stored bytes of one resource after the other (FHIR R4 section 2.36).

As JSON the bytes are joined; as XML each entry is made by itself, so that no model of a whole Bundle is ever built.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from profiles.fhir.issues import Issue, outcome
from profiles.fhir.json import parse, serialize
from profiles.fhir.xml import to_xml, write


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. `body` is the resource as JSON, empty for a deletion; `after` what stands behind it: `search`, or `request` and `response`."""

    body: bytes
    after: Mapping[str, Any]
    full_url: str = ""

    def json(self) -> bytes:
        """As JSON, with the resource's bytes as they are."""
        parts = [b'"fullUrl":' + orjson.dumps(self.full_url)] if self.full_url else []
        if self.body:
            parts.append(b'"resource":' + self.body)
        return b"".join((b"{", b",".join((*parts, orjson.dumps(self.after)[1:-1])), b"}"))

    def xml(self, out: list[bytes]) -> None:
        """Adds its element to `out`: that of a Bundle without resources, with the resource in its place."""
        beside = {"fullUrl": self.full_url, **self.after} if self.full_url else dict(self.after)
        document = to_xml({"resourceType": "Bundle", "entry": [beside]})
        entry = document[document.index(b"<entry>") : -len(b"</Bundle>")]
        place = entry.index(b"/>") + 2 if self.full_url else len(b"<entry>")
        out.append(entry[:place])
        if self.body:
            out.append(b"<resource>")
            write(parse(self.body, limit=len(self.body)), out)
            out.append(b"</resource>")
        out.append(entry[place:])


def warned(issues: Sequence[Issue]) -> tuple[Entry, ...]:
    """FHIR R4 section 3.1.1.3, search.mode outcome: the entry with what a client has to know of a search, none where there is nothing."""
    return (Entry(serialize(outcome(issues, id="warnings")), {"search": {"mode": "outcome"}}),) if issues else ()


@dataclass(frozen=True, slots=True)
class Listing:
    """A Bundle of type `searchset` or `history`. `links` are (relation, URL); `now` is a FHIR instant, or empty where none is told."""

    id: str
    type: Literal["searchset", "history"]
    now: str
    links: tuple[tuple[str, str], ...]
    entries: tuple[Entry, ...] = ()
    total: int | None = None

    @property
    def size(self) -> int:
        """Bytes of the resources in it."""
        return sum(len(each.body) for each in self.entries)

    def json(self) -> bytes:
        """FHIR R4 section 2.24: in JSON. An empty array is none."""
        head = orjson.dumps(self._head())
        if not self.entries:
            return head
        return b"".join((head[:-1], b',"entry":[', b",".join(each.json() for each in self.entries), b"]}"))

    def xml(self) -> bytes:
        """FHIR R4 section 2.25: in XML."""
        document = to_xml(self._head())
        out = [document.removesuffix(b"</Bundle>")]
        for each in self.entries:
            each.xml(out)
        return b"".join((*out, b"</Bundle>"))

    def _head(self) -> dict[str, Any]:
        return {
            "resourceType": "Bundle",
            "id": self.id,
            **({"meta": {"lastUpdated": self.now}} if self.now else {}),
            "type": self.type,
            **({} if self.total is None else {"total": self.total}),
            "link": [{"relation": relation, "url": url} for relation, url in self.links],
        }
