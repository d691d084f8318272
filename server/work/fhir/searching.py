"""Searches of a type, of the whole system and of a compartment, and what of them is told (FHIR R4 section 3.1.1)."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import quote, urlencode

import orjson
from sqlalchemy import Connection

from profiles.fhir import search_request
from profiles.fhir.issues import Issue
from profiles.fhir.query import Search
from profiles.fhir.search_request import SearchRefused
from server.access.decisions import Decision, Interaction
from server.errors import Forbidden, Refused
from server.records import fhir_search, parameters
from server.records.fhir_search import Allowed, Match, Page, Position
from server.records.parameters import Active
from server.records.trail import as_patients_see
from server.store.db import instant, micros
from server.work.fhir import arriving, completeness, offered, sight
from server.work.fhir.caller import Caller
from server.work.fhir.listing import Entry, Listing, warned
from server.work.fhir.paging import seal, unseal
from server.work.fhir.permission import allowed, confined, is_by_patient, is_granted, is_limited, require, require_patients
from server.work.fhir.refusals import ParameterError, of_search, told_name
from server.work.fhir.shape import Shape
from server.work.fhir.shape import of_search as shape_of_search

DEFAULT_COUNT: Final = 50
MOST: Final = 1000
Parameters = Sequence[tuple[str, str]]
_Before = list[list[Any]]
"""Where pages ended that lie behind: sort keys, row and number of each, nothing for the beginning of the first."""
_OF_PATIENT: Final = frozenset({"patient", "patient:Patient", "subject", "subject:Patient"})
_MOST_REMEMBERED: Final = 512
"""Bytes of them in a cursor, about fifteen pages: a URL has to stay short."""


@dataclass(frozen=True, slots=True)
class Place:
    """What the path of a search names: `type`, empty for all types; `compartment`, the type and id of the resource whose it is, or None."""

    type: str = ""
    compartment: tuple[str, str] | None = None

    @property
    def path(self) -> str:
        """Below the base URL: `ImagingStudy`, `Patient/7/ImagingStudy`, `Patient/7/*` or nothing."""
        if self.compartment is None:
            return self.type
        return f"{self.compartment[0]}/{self.compartment[1]}/{self.type or '*'}"


@dataclass(frozen=True, slots=True)
class Found:
    """The Bundle, and the ids of the patients that the trail is to name: those whose resources are in it, and those searched for."""

    listing: Listing
    patients: frozenset[str]


def search(connection: Connection, caller: Caller, place: Place, given: Parameters, *, key: bytes) -> Found:
    """FHIR R4 sections 3.1.0.9 and 3.1.1: one page of what is searched, by the parameters of query and form together.

    `key` seals page links. Raises `Invalid` and `ParameterError` (400), `Forbidden`, `NotOffered`.
    """
    place, given = _as_known_here(caller.decision, place, given)
    types = _types(caller.decision, place, given)
    now = micros()
    custom = parameters.active(connection)
    try:
        asked = _read(caller, place, types, given, now, custom)
    except Refused:
        for type_ in types if place.type else ():
            require(caller.decision, type_, Interaction.SEARCH)  # who may not search at all is told so first
        raise
    named = sight.patients(asked)
    for type_ in asked.types:
        require_patients(caller.decision, type_, named)
    shape = shape_of_search(asked)
    asked = sight.granted(caller.decision, asked)
    warnings = completeness.warnings(connection, sight.looked_at(asked), lenient=caller.lenient)
    with fhir_search.limited(connection):  # page, total and what is included share it
        found = _Searching(connection, caller.decision, caller.base, place, asked, shape, key, now, warnings).found(named)
    if arriving.is_asked_for(place.type, found=bool(found.listing.entries or found.listing.total)):
        arriving.require_all_arrived(connection, caller.decision, given)
    return found


def _as_known_here(made: Decision, place: Place, given: Parameters) -> tuple[Place, Parameters]:
    """The same with our own id of the token's patient, where its issuer calls them something else: that one value, and nobody else's.

    Such a token reaches this patient alone, so that nobody whom it may see has the other id here.
    """
    if not made.known_as or made.patient is None:
        return place, given
    meant = {before + made.known_as: before + made.patient for before in ("", "Patient/")}
    if place.compartment == ("Patient", made.known_as):
        place = Place(place.type, ("Patient", made.patient))
    return place, [(name, meant.get(value, value) if name in _OF_PATIENT else value) for name, value in given]


def _types(made: Decision, place: Place, given: Parameters) -> tuple[str, ...]:
    """The type, or at system level all that the caller may search; the trail is searched by itself. Those of `_type` are to be among them."""
    if place.type:
        offered.require(place.type, "search-type")
        return (place.type,)
    named = {each for name, value in given if name == "_type" for each in value.split(",")}
    if "AuditEvent" in named:
        raise ParameterError("_type", "AuditEvents are searched by themselves, at [base]/AuditEvent", "not-supported")
    for each in sorted(named.intersection(offered.searched())):
        require(made, each, Interaction.SEARCH)
    found = tuple(each for each in offered.searched() if each != "AuditEvent" and is_granted(made, each, Interaction.SEARCH))
    if not found:
        raise Forbidden("the token grants no scope that includes 's' for any type")
    return found


def _read(
    caller: Caller,
    place: Place,
    types: tuple[str, ...],
    given: Parameters,
    now: int,
    custom: Active,
) -> Search:
    try:
        found = search_request.read(types, given, base=caller.base, now=now, lenient=caller.lenient, custom=custom)
        found = search_request.in_compartment(found, *place.compartment) if place.compartment else found
    except SearchRefused as refused:
        raise of_search(refused) from None
    if found.contained in ("true", "both") or found.contained_type:
        why = "contained resources are not searched by themselves; leave out _contained and _containedType"
        raise ParameterError("_contained", why, "not-supported")
    for each in found.includes:
        if "AuditEvent" in (each.source, *found.types):
            why = "nothing is included with AuditEvents, nor are they with others; search for them by themselves"
            raise ParameterError("_revinclude" if each.reverse else "_include", why, "not-supported")
    return found


@dataclass(frozen=True, slots=True)
class _Searching:
    """One search that is allowed."""

    connection: Connection
    made: Decision
    base: str
    place: Place
    asked: Search
    shape: Shape
    key: bytes
    now: int
    warnings: tuple[Issue, ...]

    def found(self, named: frozenset[str]) -> Found:
        asked, (after, before) = self.asked, self._opened()
        began = after.began if after else self.now
        page, included, issues = Page((), None), tuple[Match, ...](), list(self.warnings)
        total: int | None = None
        counts = asked.summary == "count" or asked.count == 0
        if not counts:
            page = self._page(began, after)
            included, more = self._included(page)
            issues += more
        if counts or asked.total in ("accurate", "estimate"):
            total = fhir_search.total(self.connection, asked, decision_where=self._where, confined=self._is_confined, began=began)
        elif page.next is None and after is None and asked.total != "none":
            total = len(page.matches)  # all of them are on this page
        listing = Listing(
            str(uuid.uuid4()),
            "searchset",
            instant(self.now),
            self._links(page.next, after, before),
            self._entries(page.matches, included, issues),
            total,
        )
        seen = {match.patient for match in (*page.matches, *included) if match.patient}
        return Found(listing, named | seen)

    def _page(self, began: int, after: Position | None) -> Page:
        count = min(self.asked.count or DEFAULT_COUNT, MOST)
        page = fhir_search.page(
            self.connection,
            self.asked,
            decision_where=self._where,
            confined=self._is_confined,
            only=self._only,
            count=count,
            began=began,
            after=after,
        )
        if self.asked.types == ("AuditEvent",) and is_limited(self.made, "AuditEvent"):
            seen = (replace(event, body=as_patients_see(event.body, event.patient)) for event in page.matches)
            page = replace(page, matches=tuple(seen))
        return page

    def _included(self, page: Page) -> tuple[tuple[Match, ...], list[Issue]]:
        """What comes along; a warning where not all of it can."""
        if not self.asked.includes or not page.matches:
            return (), []
        found = fhir_search.included(self.connection, page.matches, self.asked.includes, decision_where=self._where)
        return tuple(found.matches), [Issue("warning", "too-costly", "", each) for each in found.warnings]

    def _entries(self, matches: Sequence[Match], included: Sequence[Match], issues: list[Issue]) -> tuple[Entry, ...]:
        whole = Shape(self.shape.summary)
        entries = [self._entry(each, self.shape, "match") for each in matches]
        entries += [self._entry(each, whole, "include") for each in included]
        if self.asked.ignored:
            names = ", ".join(sorted({told for name in self.asked.ignored if (told := told_name(name))})) or "a parameter"
            issues.append(Issue("warning", "not-supported", "", f"not offered, so not looked at: {names}"))
        return (*entries, *warned(issues))

    def _entry(self, match: Match, shape: Shape, mode: str) -> Entry:
        body = match.body if match.summary and shape.is_summary else shape.of(match.body)
        return Entry(body, {"search": {"mode": mode}}, f"{self.base}/{match.type}/{match.id}")

    @property
    def _where(self) -> Allowed:
        return allowed(self.made)

    @property
    def _only(self) -> frozenset[str] | None:
        if not is_by_patient(self.made, self.asked.types[0]):
            return None
        seen = confined(self.made, self.asked.types[0])
        if seen is None:
            return frozenset()
        return seen if len(seen) == 1 else None

    @property
    def _is_confined(self) -> bool:
        return all(confined(self.made, each) is not None for each in self.asked.types)

    def _opened(self) -> tuple[Position | None, _Before]:
        """What the cursor says: where the page before this one ended, and where those before that did; of the first page nothing."""
        if not self.asked.cursor:
            return None, []
        given = unseal(self.key, self.asked.cursor, self.place.path, self.asked.understood, self.made)
        return Position.from_plain(given[:4]), given[4] if len(given) > 4 else []

    def _links(self, following: Position | None, after: Position | None, before: _Before) -> tuple[tuple[str, str], ...]:
        """FHIR R4 section 3.1.1.5.4: this page, the first, the one before and the next; a search by POST has links for GET.

        The page before is asked for again by its own cursor, so that it is the same one; so far as cursors remember it.
        """
        understood, path = self.asked.understood, self.place.path
        links = [("self", address(self.base, path, understood, self.asked.cursor))]
        if after is not None:
            links.append(("first", address(self.base, path, understood)))
            if before:
                cursor = self._cursor([after.began, *before[-1]], before[:-1]) if before[-1] else ""
                links.append(("previous", address(self.base, path, understood, cursor)))
        if following is not None:
            passed = [*before, after.plain()[1:] if after is not None else []]
            links.append(("next", address(self.base, path, understood, self._cursor(following.plain(), passed))))
        return tuple(links)

    def _cursor(self, place: Sequence[Any], before: _Before) -> str:
        while len(orjson.dumps(before)) > _MOST_REMEMBERED:
            before = before[1:]
        return seal(self.key, [*place, before], self.place.path, self.asked.understood, self.made)


def address(base: str, path: str, given: Parameters, cursor: str = "") -> str:
    """The URL of a search or history, or of one of its pages."""
    pairs = [*given, ("_cursor", cursor)] if cursor else list(given)
    url = f"{base}/{path}" if path else base
    return url + (f"?{urlencode(pairs, safe='/:|,*', quote_via=quote)}" if pairs else "")
