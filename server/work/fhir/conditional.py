"""Conditions in place of an id: what a conditional interaction of FHIR R4 section 3.1.0 is about (sections 3.1.0.4.3, 3.1.0.7.1, 3.1.0.8.1).

The search is part of the write's transaction. SQLite has one writer; on PostgreSQL those that ask the same wait for each other, so that of
fifty that create what is not there yet, one does.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import parse_qsl

from sqlalchemy import Connection, func, select

from profiles.fhir import search_request
from profiles.fhir.issues import Issue
from profiles.fhir.query import Search
from profiles.fhir.search_request import SearchRefused
from server.access.decisions import Interaction
from server.errors import Invalid, PreconditionFailed
from server.records import fhir_search, parameters
from server.store.db import micros
from server.work.fhir import permission, sight
from server.work.fhir.caller import Caller
from server.work.fhir.refusals import of_search

_MOST_PARAMETERS: Final = 100
_SPACE: Final = "imageshare/fhir/conditional"


def criteria(connection: Connection, caller: Caller, type_: str, query: str) -> Search:
    """The search that a condition is: `query` is what stands behind the `?`. Raises `Invalid`; unknown parameters are never passed over here."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=_MOST_PARAMETERS)
    except ValueError:
        raise _wrong("the condition is no query of percent-encoded UTF-8 with at most 100 parameters") from None
    if any("\0" in text for pair in pairs for text in pair):
        raise _wrong("the condition has a NUL character")
    try:
        found = search_request.read((type_,), pairs, base=caller.base, now=micros(), custom=parameters.active(connection))
    except SearchRefused as refused:
        raise of_search(refused) from None
    if not found.condition.conditions:
        raise _wrong(
            "a conditional interaction needs at least one search parameter that tells resources apart, such as identifier"
        )
    return found


def only(connection: Connection, caller: Caller, type_: str, query: str) -> str:
    """The id of the one resource that meets the condition, of those that the caller may search; empty if none does.

    Raises `PreconditionFailed` if several do, `Forbidden` without a scope to search.
    """
    caller.require(type_, Interaction.SEARCH)
    search = sight.granted(caller.decision, criteria(connection, caller, type_, query))
    permission.require_patients(caller.decision, type_, sight.patients(search))
    lock(connection, [(type_, query)])
    found = fhir_search.ids(
        connection, search, decision_where=lambda of, column: permission.allowed(caller.decision, of)(column), limit=2
    )
    if len(found) > 1:
        raise PreconditionFailed(
            f"the condition is met by several resources of the type {type_}; add parameters until it is met by one",
            "multiple-matches",
        )
    return found[0] if found else ""


def lock(connection: Connection, conditions: Iterable[tuple[str, str]]) -> None:
    """Holds (type, query) for this transaction: always in the same order, so that no two transactions wait for each other."""
    if connection.dialect.name != "postgresql":
        return
    for number in sorted({_number(type_, query) for type_, query in conditions}):
        connection.execute(select(func.pg_advisory_xact_lock(number)))


def _number(type_: str, query: str) -> int:
    """The order in which parameters stand makes no other condition."""
    pairs: Sequence[tuple[str, str]] = sorted(parse_qsl(query, keep_blank_values=True))
    text = "\x1f".join((_SPACE, type_, *(part for pair in pairs for part in pair)))
    return int.from_bytes(hashlib.blake2b(text.encode(errors="replace"), digest_size=8).digest(), "big", signed=True)


def _wrong(why: str) -> Invalid:
    return Invalid([Issue("error", "invalid", "", why)])
