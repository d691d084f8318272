"""`$everything` of a patient or an encounter (OperationDefinition Patient-everything and Encounter-everything; FHIR R4 sections 8.1.10 and 8.11.9)."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection

from profiles.r4.search import compartment
from server.access.decisions import Interaction
from server.errors import NotFound
from server.records import compartments, fhir_search, resources
from server.records.compartments import Place, Seen, Wanted
from server.records.fhir_search.matches import PAGE_BYTES, Match
from server.store.db import instant, micros
from server.work.fhir import completeness, offered, permission, reading, sight
from server.work.fhir.caller import Caller
from server.work.fhir.inputs import Inputs
from server.work.fhir.listing import Entry, Listing, warned
from server.work.fhir.paging import seal, unseal
from server.work.fhir.refusals import ParameterError
from server.work.fhir.searching import DEFAULT_COUNT, MOST, Found, address

OF_PATIENT: Final = ("start", "end", "_since", "_type", "_count", "_cursor")
OF_ENCOUNTER: Final = ("_since", "_type", "_count", "_cursor")
_MOST_SUPPORTING: Final = 1000
_FIRST: Final[Place] = ("", 0, 0)


def everything(connection: Connection, caller: Caller, type_: str, id_: str, inputs: Inputs, *, key: bytes) -> Found:
    """OperationDefinition Patient-everything and Encounter-everything: one page of what is in the resource's compartment, with what that refers to.

    Without `id_` that of all patients whom the caller may see. The trail's AuditEvents are not in it. `key` seals page links. A resource that is
    changed while pages are asked for is on the last ones, as it is then. Raises `NotFound`, `Gone`, `Forbidden`, `ParameterError`.
    """
    asked = _Asked.read(connection, caller, type_, id_, inputs, key)
    focus = _focus(connection, caller, type_, id_) if id_ else asked.own_patient()
    warnings = completeness.warnings(connection, asked.looked_at(), lenient=caller.lenient)
    with fhir_search.limited(connection):
        matches, following = asked.page(focus)
        included = asked.supporting(matches)
    found = [each for each in (focus, *matches, *included) if each is not None and each.patient]
    listing = Listing(
        str(uuid.uuid4()), "searchset", instant(micros()), asked.links(following),
        tuple(asked.entry(each, "match") for each in matches) + tuple(asked.entry(each, "include") for each in included) + warned(warnings),
    )  # fmt: skip
    return Found(listing, frozenset(each.patient for each in found))


def _focus(connection: Connection, caller: Caller, type_: str, id_: str) -> Match:
    """The patient or encounter itself."""
    reading.current(connection, caller, type_, id_)
    found = compartments.one(connection, type_, id_)
    if found is None:
        raise NotFound(f"there is no {type_} with this id")
    return found


@dataclass(frozen=True, slots=True)
class _Asked:
    """One call. `types` are those that were asked for, of all that there are."""

    connection: Connection
    caller: Caller
    type: str
    id: str
    types: frozenset[str]
    wanted: Wanted
    count: int
    given: tuple[tuple[str, str], ...]
    after: Place | None
    began: int
    key: bytes

    @classmethod
    def read(cls, connection: Connection, caller: Caller, type_: str, id_: str, inputs: Inputs, key: bytes) -> "_Asked":
        inputs.only(OF_PATIENT if type_ == "Patient" else OF_ENCOUNTER)
        named = [each for text in inputs.texts("_type") for each in text.split(",")]
        for each in named:
            if each not in offered.types():
                raise ParameterError("_type", "_type has resource types of R4, joined by commas")
        start, end, since = inputs.moments("start"), inputs.moments("end"), inputs.moments("_since")
        wanted = Wanted(start[0] if start else None, end[1] if end else None, since[0] if since else None)
        given = tuple((name, text) for name in inputs.values if name != "_cursor" for text in inputs.texts(name))
        made = cls(
            connection, caller, type_, id_, frozenset(named or offered.types()), wanted,
            min(inputs.number("_count") or DEFAULT_COUNT, MOST), given, None, 0, key,
        )  # fmt: skip
        return made._continued(inputs.text("_cursor"))

    def _continued(self, cursor: str) -> "_Asked":
        if not cursor:
            return replace(self, began=resources.settled(self.connection, clocks=0))
        found: list[Any] = unseal(self.key, cursor, self.path, self.given, self.caller.decision)
        began, after = int(found[0]), (str(found[1]), int(found[2]), int(found[3]))
        return replace(self, began=began, after=after, wanted=replace(self.wanted, began=began))

    @property
    def own(self) -> str:
        """At type level the patient of a token that opens one alone: what is in his compartment is all that there can be."""
        made = self.caller.decision
        limits = [permission.confined(made, each) for each in (self.type, *compartment(self.type)) if each in self.types]
        alone = made.patient or ""
        return alone if not self.id and all(each is not None and each <= {alone} for each in limits) else ""

    @property
    def path(self) -> str:
        return f"{self.type}/{self.id}/$everything" if self.id else f"{self.type}/$everything"

    def own_patient(self) -> Match | None:
        """That patient, for the first page."""
        made = self.caller.decision
        is_open = self.own and permission.is_granted(made, self.type, Interaction.SEARCH)
        is_seen = is_open and made.sees(self.connection, self.type, Interaction.SEARCH, self.own)
        return compartments.one(self.connection, self.type, self.own) if is_seen else None

    def looked_at(self) -> frozenset[sight.Looked]:
        """Whose rows say what is in a compartment, and what that refers to."""
        return frozenset((each, sight.ROWS) for each in self.types & {self.type, *compartment(self.type)})

    def page(self, focus: Match | None) -> tuple[list[Match], Place | None]:
        """The matches of this page, `focus` first of all, and the place that the next one begins at."""
        matches = [focus] if focus is not None and self.after is None and self.type in self.types else []
        last, size = self.after or _FIRST, 0
        for place, match in self._found():
            size += len(match.body)
            if len(matches) >= self.count or (matches and size > PAGE_BYTES):
                return matches, last
            matches.append(match)
            last = place
        return matches, None

    def _found(self) -> Iterator[tuple[Place, Match]]:
        seen = self._seen(name for name in compartment(self.type) if name != "AuditEvent")
        if self.id or self.own:
            return compartments.members(self.connection, self.type, self.id or self.own, seen, self.wanted, after=self.after)
        return compartments.of_all(self.connection, self.type, seen, self.wanted, after=self.after)

    def supporting(self, matches: list[Match]) -> list[Match]:
        """What the matches refer to and is in no compartment of this kind: practitioners, organizations, endpoints, an encounter's patient."""
        within = compartment(self.type)
        seen = self._seen(name for name in offered.types() if name not in within and name not in ("AuditEvent", "Binary"))
        return compartments.supporting(self.connection, [each.pk for each in matches], seen, limit=_MOST_SUPPORTING)

    def _seen(self, types: Iterator[str]) -> Seen:
        made = self.caller.decision
        granted = (each for each in types if each in self.types and permission.is_granted(made, each, Interaction.SEARCH))
        return permission.together(made, granted)

    def entry(self, match: Match, mode: str) -> Entry:
        return Entry(match.body, {"search": {"mode": mode}}, f"{self.caller.base}/{match.type}/{match.id}")

    def links(self, following: Place | None) -> tuple[tuple[str, str], ...]:
        links = [("self", address(self.caller.base, self.path, self.given))]
        if following is not None:
            cursor = seal(self.key, (self.began, *following), self.path, self.given, self.caller.decision)
            links.append(("next", address(self.caller.base, self.path, self.given, cursor)))
        return tuple(links)
