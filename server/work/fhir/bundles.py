"""A Bundle of requests, read into entries, and the Bundle of their responses (FHIR R4 sections 2.36 and 3.1.0.11)."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, Final, Literal
from urllib.parse import unquote

import orjson

from profiles.fhir.issues import Issue
from profiles.fhir.validation import check, is_valid_id
from server.errors import ImageShareError, Invalid, MalformedQuery, TooLarge
from server.work.fhir import query_string
from server.work.fhir.caller import Outcome

MOST_ENTRIES: Final = 10_000
MOST_TOLD: Final = 64 << 20
"""Bytes of the resources in one answer."""
_KINDS: Final = ("batch", "transaction")
_WITH_RESOURCE: Final = ("PUT", "PATCH")
_ABSOLUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:")
_OF_ENTRY: Final = re.compile(r"Bundle\.entry\[(\d+)\]")

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """One request. `segments` is its path below the base URL, `query` what stands behind the `?`; `place` is its number in the Bundle.

    `matches`, `none_matches`, `none_exist` and `modified_since` are what the headers If-Match, If-None-Match, If-None-Exist and
    If-Modified-Since would say.
    """

    place: int
    method: str
    segments: tuple[str, ...]
    query: str
    resource: Json | None = None
    full_url: str = ""
    matches: str = ""
    none_matches: str = ""
    none_exist: str = ""
    modified_since: str = ""
    error: Invalid | None = None
    """Why an entry of a batch is no request at all; it has nothing else then."""

    @property
    def path(self) -> str:
        """As FHIRPath."""
        return f"Bundle.entry[{self.place}]"

    @property
    def type(self) -> str:
        return self.segments[0] if self.segments else ""

    @property
    def id(self) -> str:
        return self.segments[1] if len(self.segments) > 1 else ""

    @property
    def operation(self) -> str:
        """The name of the operation that is called, without `$`; empty for another interaction."""
        last = self.segments[-1] if self.segments else ""
        return last[1:] if last.startswith("$") else ""

    @property
    def is_search(self) -> bool:
        """Whether it is a search by POST (FHIR R4 section 3.1.1.1)."""
        return self.method == "POST" and self.segments[-1:] == ("_search",)

    @property
    def is_write(self) -> bool:
        """Whether it is done before what only reads."""
        return self.method not in ("GET", "HEAD") and not self.operation and not self.is_search

    @property
    def condition(self) -> tuple[str, str] | None:
        """The type and query by which it is to be searched which resource the entry writes; None where it says so, or that it is new."""
        if not self.is_write:
            return None
        query = self.none_exist or ("" if self.method == "POST" else self.query)
        return (self.type, query) if query else None

    @property
    def parameters(self) -> list[tuple[str, str]]:
        """The query as names and values. Raises `Invalid`."""
        try:
            return list(query_string.pairs(self.query))
        except MalformedQuery as error:
            raise self.wrong(".request.url", error.detail) from None

    def wrong(self, below: str, why: str, code: str = "invalid", status: int = 400) -> Invalid:
        """That something of this entry is wrong."""
        return Invalid([Issue("error", code, self.path + below, why)], status)


@dataclass(frozen=True, slots=True)
class Requests:
    """All of them."""

    kind: Literal["batch", "transaction"]
    entries: tuple[Entry, ...]


class EntryFailed(ImageShareError):
    """Why a transaction is refused: what was wrong with one of its entries, with paths from the Bundle on."""

    number = 2403

    def __init__(self, entry: Entry, error: ImageShareError) -> None:
        super().__init__(error.detail)
        self.told, self.entry = error, entry
        """As the trail has it."""
        self.http_status = error.http_status
        self.fhir_code = error.fhir_code
        self.issues = tuple(_moved(entry, each) for each in issues(error))


class TooMuch(TooLarge):
    """Beyond what one Bundle may be answered with, or may keep others waiting for."""

    fhir_code = "too-costly"


class Room:
    """How many bytes of resources one answer has room for. `tells_writes` is whether it has those that were written, too."""

    def __init__(self, *, tells_writes: bool, limit: int) -> None:
        self._tells_writes = tells_writes
        self._left = limit
        self._limit = limit

    def taken(self, entry: Entry, outcome: Outcome) -> Outcome:
        """`outcome` with what is told of it. Raises `TooMuch` where there is no room for what was asked for; of what was written the resource is left out."""
        body = b"" if entry.method == "HEAD" or (entry.is_write and not self._tells_writes) else outcome.body
        if len(body) > self._left:
            if not entry.is_write:
                raise TooMuch(f"the answers to one Bundle have at most {self._limit} bytes here; ask for this in another")
            body = b""
        self._left -= len(body)
        return replace(
            outcome, stored=outcome.stored and replace(outcome.stored, body=b"", summary=None), listing=None, made=body
        )


def issues(error: ImageShareError) -> tuple[Issue, ...]:
    """What an error says of itself."""
    found: tuple[Issue, ...] = getattr(error, "issues", ())
    return found or (Issue("error", error.fhir_code, str(getattr(error, "expression", "")), error.detail),)


def read(bundle: Json, base: str) -> Requests:
    """FHIR R4 section 3.1.0.11: the requests of a batch or transaction. `base` is our base URL, which a URL may begin with.

    The resources of a transaction are checked with it, those of a batch each when its turn comes; an entry of a batch that is no request has its
    error (section 3.1.0.11.1: entries stand alone). Raises `Invalid` and `TooLarge`.
    """
    entries = bundle.get("entry", [])
    if isinstance(entries, list) and len(entries) > MOST_ENTRIES:
        raise TooLarge(f"a Bundle may have {MOST_ENTRIES} requests here; send it in parts")
    stands_alone = bundle.get("type") == "batch" and isinstance(entries, list) and entries
    found = check({**bundle, "entry": [_bare(each) for each in entries]} if stands_alone else bundle, type_="Bundle")
    broken = _of_entries(found) if stands_alone else {}
    if found and not broken:
        raise Invalid(found)
    kind = bundle["type"]
    if kind not in _KINDS:
        why = "what is posted to the base URL is a batch or a transaction; POST other Bundles to Bundle, to store them"
        raise Invalid([Issue("error", "invalid", "Bundle.type", why)])
    if kind == "transaction":
        return Requests(kind, tuple(_entry(place, each, base) for place, each in enumerate(entries)))
    return Requests(kind, tuple(_standing(place, each, base, broken.get(place)) for place, each in enumerate(entries)))


def _of_entries(found: Sequence[Issue]) -> dict[int, Invalid]:
    """What is wrong with which entry; nothing where something is wrong with the Bundle itself."""
    by_place: dict[int, list[Issue]] = {}
    for each in found:
        named = _OF_ENTRY.match(each.expression)
        if named is None:
            return {}
        by_place.setdefault(int(named[1]), []).append(each)
    return {place: Invalid(each) for place, each in by_place.items()}


def _standing(place: int, given: Json, base: str, error: Invalid | None) -> Entry:
    """An entry of a batch."""
    try:
        return _entry(place, given, base) if error is None else Entry(place, "", (), "", error=error)
    except Invalid as wrong:
        return Entry(place, "", (), "", error=wrong)


def _bare(entry: Any) -> Any:
    """An entry without its resource. What is left is something, or an empty one would be told to be wrong of."""
    if not isinstance(entry, dict) or not isinstance(entry.get("resource"), dict):
        return entry
    return {name: each for name, each in entry.items() if name != "resource"} or entry


def _entry(place: int, given: Json, base: str) -> Entry:
    request = given.get("request")
    bare = Entry(place, "", (), "")
    if not isinstance(request, dict):
        raise bare.wrong("", "each entry of a batch or transaction has a request (bdl-3)", "required")
    method, url, resource = request["method"], request["url"], given.get("resource")
    if resource is None and (method in _WITH_RESOURCE):
        raise bare.wrong("", f"a {method} has a resource", "required")
    if resource is not None and method in ("GET", "HEAD", "DELETE"):
        raise bare.wrong(".resource", f"a {method} has no resource")
    segments, query = _split(url, base, bare)
    made = Entry(
        place, method, segments, query, resource, given.get("fullUrl", ""), request.get("ifMatch", ""), request.get("ifNoneMatch", ""),
        request.get("ifNoneExist", "").removeprefix("?"), request.get("ifModifiedSince", ""),
    )  # fmt: skip
    if "ifNoneExist" in request and not made.none_exist:
        raise made.wrong(
            ".request.ifNoneExist",
            "ifNoneExist has no condition, so everything would meet it; name a parameter, such as identifier",
        )
    if made.none_exist and method != "POST":
        raise made.wrong(".request.ifNoneExist", "ifNoneExist is for POST (section 3.1.0.8.1)")
    return made


def _split(url: str, base: str, entry: Entry) -> tuple[tuple[str, ...], str]:
    """The path below the base URL, and the query."""
    local = url.removeprefix(base) if url == base or url.startswith((f"{base}/", f"{base}?")) else url
    if _ABSOLUTE.match(local) or local.startswith("//"):
        raise entry.wrong(".request.url", "the URL is relative to this server's base URL, such as Patient/7")
    path, _, query = local.partition("?")
    segments = tuple(unquote(each) for each in path.strip("/").split("/")) if path.strip("/") else ()
    if segments[1:] and not segments[1].startswith(("_", "$")) and not is_valid_id(segments[1]):
        raise entry.wrong(".request.url", "behind the type stands the id of a resource: letters, digits, - and ., at most 64")
    return segments, query


def _moved(entry: Entry, issue: Issue) -> Issue:
    """An issue of a resource with its path from the Bundle on."""
    head, dot, rest = issue.expression.partition(".")
    if head == "Bundle" and rest.startswith("entry["):
        return issue
    if entry.resource is not None and head and head == entry.resource.get("resourceType"):
        path = f"{entry.path}.resource{dot}{rest}"
    else:
        path = f"{entry.path}.request"
    return replace(issue, expression=path)


# --- responses


@dataclass(frozen=True, slots=True)
class Response:
    """What came of an entry: `resource` and `outcome` are JSON, empty for none; `modified` is a FHIR instant."""

    status: int
    location: str = ""
    etag: str = ""
    modified: str = ""
    resource: bytes = b""
    full_url: str = ""
    outcome: bytes = b""

    def json(self) -> bytes:
        told: dict[str, Any] = {"status": f"{self.status} {HTTPStatus(self.status).phrase}"}
        headers = {"location": self.location, "etag": self.etag, "lastModified": self.modified}
        told |= {name: value for name, value in headers.items() if value}
        if self.outcome:
            told["outcome"] = orjson.Fragment(self.outcome)
        entry: dict[str, Any] = {"fullUrl": self.full_url} if self.full_url and self.resource else {}
        if self.resource:
            entry["resource"] = orjson.Fragment(self.resource)
        return orjson.dumps({**entry, "response": told})


def answer(kind: str, id_: str, responses: Sequence[Response] | Iterable[Response]) -> bytes:
    """FHIR R4 section 3.1.0.11.2: the Bundle of responses, in the order of the requests, as JSON."""
    head: Mapping[str, str] = {"resourceType": "Bundle", "id": id_, "type": f"{kind}-response"}
    entries = b",".join(each.json() for each in responses)
    whole = orjson.dumps(head)
    return b"".join((whole[:-1], b',"entry":[', entries, b"]}")) if entries else whole
