"""Conditions in place of an id: what a conditional interaction of FHIR R4 section 3.1.0 is about (sections 3.1.0.4.3, 3.1.0.7.1, 3.1.0.8.1).

The search is part of the write's transaction. SQLite has one writer; on PostgreSQL those that ask the same wait for each other, so that of
fifty that create what is not there yet, one does.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Final
from urllib.parse import parse_qsl

from sqlalchemy import Connection

from profiles.audit_event import REST_SEARCH
from profiles.fhir import search_request
from profiles.fhir.issues import Issue
from profiles.fhir.query import Search
from profiles.fhir.search_request import SearchRefused
from server.access.decisions import Interaction
from server.errors import ImageShareError, Invalid, PreconditionFailed
from server.records import fhir_search, parameters, resources
from server.records.trail import Audited
from server.store import locks
from server.store.db import micros
from server.work.fhir import completeness, permission, sight
from server.work.fhir.caller import Caller
from server.work.fhir.query_string import pairs
from server.work.fhir.refusals import of_search

SECONDS: Final = 0.5
"""How long the search of a condition may take, while others wait to write."""
_EACH: Final = 0.02
"""What each of many conditions in a Bundle adds to that."""
_SPENT: Final = "imageshare.fhir.conditional"
"""In `Connection.info`: the request whose conditions were searched by last, how many they were, and what of its time they took."""
_SPACE: Final = "imageshare/fhir/conditional"


def criteria(connection: Connection, caller: Caller, type_: str, query: str) -> Search:
    """The search that a condition is: `query` is what stands behind the `?`. Unknown parameters are never passed over here.

    Raises `Invalid` and `MalformedQuery`.
    """
    try:
        found = search_request.read((type_,), pairs(query), base=caller.base, now=micros(), custom=parameters.active(connection))
    except SearchRefused as refused:
        raise of_search(refused) from None
    if not found.condition.conditions:
        raise _wrong(
            "a conditional interaction needs at least one search parameter that tells resources apart, such as identifier"
        )
    return found


def only(connection: Connection, caller: Caller, type_: str, query: str) -> str:
    """The id of the one resource that meets the condition, of those that the caller may search; empty if none does.

    Raises `PreconditionFailed` if several do, `Forbidden` without a scope to search, `Unavailable` while what it looks at is being indexed,
    `TooCostly` beyond `SECONDS`, for which others may wait.
    """
    found = several(connection, caller, type_, query, limit=2)
    if len(found) > 1:
        raise PreconditionFailed(
            f"the condition is met by several resources of the type {type_}; add parameters until it is met by one",
            "multiple-matches",
        )
    return found[0] if found else ""


def several(connection: Connection, caller: Caller, type_: str, query: str, *, limit: int) -> list[str]:
    """The ids of at most `limit` resources that meet the condition. Raises as `only`, but for how many these are."""
    search = _search(connection, caller, type_, query)
    lock(connection, [(type_, query)])
    with _allowance(connection, caller):
        return _met(connection, caller, search, limit)


@contextlib.contextmanager
def _allowance(connection: Connection, caller: Caller) -> Iterator[None]:
    """All conditions of a request have `SECONDS` together, and a little more for each: a Bundle may have many."""
    of, count, spent = connection.info.get(_SPENT, (None, 0, 0.0))
    if of is not caller.request:
        count, spent = 0, 0.0
    began = fhir_search.spent(connection)
    try:
        with fhir_search.limited(connection, max(0.0, SECONDS + count * _EACH - spent)):
            yield
    finally:
        connection.info[_SPENT] = (caller.request, count + 1, spent + fhir_search.spent(connection) - began)


def tried(connection: Connection, caller: Caller, conditions: Iterable[tuple[str, str]]) -> None:
    """Searches by each (type, query) once, in a transaction that reads only: what takes too long is refused before anybody has waited for it.

    Raises what `only` raises, but for what is found; all of them together have one limit.
    """
    for type_, query in conditions:
        search = _search(connection, caller, type_, query)
        with _allowance(connection, caller):
            _met(connection, caller, search)


def audited(connection: Connection, caller: Caller, type_: str, query: str) -> tuple[Audited, ...]:
    """What the trail is to have of a condition where nothing was written: the client has been told all the same whether it is met.

    As of a search, an event of each patient whom it names or meets, or one; none where it could not be searched by.
    """
    try:
        search = _search(connection, caller, type_, query)
        with fhir_search.limited(connection, SECONDS):
            found = _met(connection, caller, search)
    except ImageShareError:
        return ()
    met = {resources.patient_of(connection, type_, id_) or "" for id_ in found}
    patients = sorted((sight.patients(search) | met) - {""})
    return tuple(Audited("query", REST_SEARCH, "", each, f"{type_}?{query}".encode()) for each in patients or [""])


def _search(connection: Connection, caller: Caller, type_: str, query: str) -> Search:
    caller.require(type_, Interaction.SEARCH)
    search = sight.granted(caller.decision, criteria(connection, caller, type_, query))
    permission.require_patients(caller.decision, type_, sight.patients(search))
    completeness.require(connection, sight.looked_at(search))
    return search


def _met(connection: Connection, caller: Caller, search: Search, limit: int = 2) -> list[str]:
    return fhir_search.ids(connection, search, decision_where=permission.allowed(caller.decision), limit=limit)


def lock(connection: Connection, conditions: Iterable[tuple[str, str]]) -> None:
    """Holds (type, query) for this transaction; ask for all at once (`locks.hold`)."""
    locks.hold(connection, _SPACE, (_name(*each) for each in conditions))


def key(type_: str, id_: str) -> tuple[str, str]:
    """What to `lock` so that nobody else makes the resource with this id."""
    return type_, f"_id={id_}"


def _name(type_: str, query: str) -> str:
    """The order in which parameters stand makes no other condition."""
    pairs: Sequence[tuple[str, str]] = sorted(parse_qsl(query, keep_blank_values=True))
    return "\x1f".join((type_, *(part for pair in pairs for part in pair)))


def _wrong(why: str) -> Invalid:
    return Invalid([Issue("error", "invalid", "", why)])
