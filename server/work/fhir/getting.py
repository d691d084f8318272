"""What an entry of a Bundle asks for that writes nothing (FHIR R4 section 3.1.0.11): read, vread, search, history and operations, by its URL."""

import base64
from dataclasses import replace
from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from profiles.audit_event import (
    REST_HISTORY_INSTANCE,
    REST_HISTORY_SYSTEM,
    REST_HISTORY_TYPE,
    REST_OPERATION,
    REST_SEARCH,
    REST_SEARCH_SYSTEM,
    Subtype,
)
from server.errors import NotFound, NotSupported
from server.records.trail import Audited
from server.store.db import micros
from server.work.fhir import binary, history, inputs, offered, operations, reading, searching
from server.work.fhir.bundles import Entry
from server.work.fhir.caller import Caller, Outcome
from server.work.fhir.listing import Listing
from server.work.fhir.operations import Call, Done, Operation
from server.work.fhir.searching import Found, Place
from server.work.fhir.storing import matches

_FORM: Final = "application/x-www-form-urlencoded"


def get(connection: Connection, caller: Caller, entry: Entry, *, key: bytes) -> Outcome:
    """The answer to the entry, read in `connection`. `key` seals page links. Raises what the interaction raises."""
    parameters = entry.parameters
    if entry.operation:
        return _operation(connection, caller, entry, key)
    if entry.is_search:
        return _searched(connection, caller, entry, key)
    match entry.segments:
        case ("_history",):
            return _history(connection, caller, entry, "", "", key)
        case () | (_,):
            return _search(connection, caller, entry, Place(entry.type), key)
        case (type_, "_history"):
            return _history(connection, caller, entry, type_, "", key)
        case ("Binary", id_):
            return _unless_known(binary.as_resource(connection, caller, id_), entry)
        case ("Binary", id_, "_history", version):
            return _unless_known(binary.as_resource(connection, caller, id_, version), entry)
        case (type_, id_):
            return _unless_known(reading.read(connection, caller, type_, id_, parameters), entry)
        case (type_, id_, "_history"):
            return _history(connection, caller, entry, type_, id_, key)
        case (type_, id_, wanted):
            return _search(connection, caller, entry, Place("" if wanted == "*" else wanted, (offered.known(type_), id_)), key)
        case (type_, id_, "_history", version):
            return _unless_known(reading.vread(connection, caller, type_, id_, version, parameters), entry)
    raise NotSupported("a Bundle may read, search, ask for histories and call operations; this URL does nothing of these")


def _operation(connection: Connection, caller: Caller, entry: Entry, key: bytes) -> Outcome:
    """One that changes nothing: section 3.1.0.11.2 has no place in its order for what does."""
    operation, call = called(entry, key)
    if operation.affects_state:
        raise _writing()
    done = operation.run(connection, caller, call)
    if done.trial is not None:
        raise _writing()
    return told(entry, done)


def _writing() -> NotSupported:
    return NotSupported(
        "an operation that writes, or tries to, is not offered within a transaction; call it by itself, or in a batch"
    )


def called(entry: Entry, key: bytes) -> tuple[Operation, Call]:
    """FHIR R4 section 3.2.0.1: the operation that an entry calls, and with what. Raises what a call does."""
    if len(entry.segments) > 3:
        raise NotSupported("operations are called of the system, a type or a resource, such as Patient/7/$everything")
    type_, id_ = (*entry.segments[:-1], "", "")[:2]
    operation = operations.find(entry.operation, type_, id_, method=entry.method)
    given = inputs.of_pairs([each for each in entry.parameters if each[0] not in reading.FORMATS])
    if entry.resource is not None:
        given = inputs.joined(given, inputs.of_body(entry.resource, operation.single))
    return operation, Call(type_, id_, given, key)


def told(entry: Entry, done: Done) -> Outcome:
    """What came of the operation that an entry called."""
    audited = done.audited or _queried(entry, REST_OPERATION, done.patients)
    if isinstance(done.body, Listing):
        return Outcome(200, listing=done.body, audited=audited)
    return Outcome(200, made=done.body, audited=audited)


def _unless_known(outcome: Outcome, entry: Entry) -> Outcome:
    """FHIR R4 section 3.1.0.2.1, conditional read: 304 for what the client has, by ifNoneMatch, and by ifModifiedSince where there is none."""
    stored = outcome.stored
    if stored is None:
        return outcome
    if entry.none_matches:
        is_held = matches(entry.none_matches, stored.version)
    else:
        is_held = bool(entry.modified_since) and not _is_after(stored.updated, entry.modified_since)
    return Outcome(304, audited=outcome.audited) if is_held else outcome


def _is_after(updated: int, since: str) -> bool:
    """By the milliseconds that a resource's lastUpdated has. What is no moment, such as 23:59:60, is before everything."""
    try:
        return updated // 1000 > micros(datetime.fromisoformat(since)) // 1000
    except ValueError:
        return True


def _searched(connection: Connection, caller: Caller, entry: Entry, key: bytes) -> Outcome:
    """FHIR R4 section 3.1.1.1, search by POST: by the parameters of the URL, and of a form that is the content of a Binary."""
    found = replace(
        entry, method="GET", segments=entry.segments[:-1], query="&".join(each for each in (entry.query, _form(entry)) if each)
    )
    if len(found.segments) not in (0, 1, 3):
        raise NotFound("there is nothing to search here; a search by POST is [type]/_search")
    return get(connection, caller, found, key=key)


def _form(entry: Entry) -> str:
    given = entry.resource or {}
    if not given:
        return ""
    if given.get("resourceType") != "Binary" or str(given.get("contentType", "")).partition(";")[0].strip().lower() != _FORM:
        raise entry.wrong(".resource", f"a search has no resource but a Binary, whose content is its form ({_FORM})")
    try:
        return base64.b64decode(str(given.get("data", "")), validate=True).decode("ascii")
    except ValueError:
        raise entry.wrong(".resource.data", "the data of a Binary are base64, and a form is ASCII", "value") from None


def _search(connection: Connection, caller: Caller, entry: Entry, place: Place, key: bytes) -> Outcome:
    subtype = REST_SEARCH if place.path else REST_SEARCH_SYSTEM
    return _listed(searching.search(connection, caller, place, entry.parameters, key=key), entry, subtype)


def _history(connection: Connection, caller: Caller, entry: Entry, type_: str, id_: str, key: bytes) -> Outcome:
    subtype = REST_HISTORY_INSTANCE if id_ else REST_HISTORY_TYPE if type_ else REST_HISTORY_SYSTEM
    return _listed(history.history(connection, caller, type_, id_, entry.parameters, key=key), entry, subtype)


def _listed(found: Found, entry: Entry, subtype: Subtype) -> Outcome:
    return Outcome(200, listing=found.listing, audited=_queried(entry, subtype, found.patients))


def _queried(entry: Entry, subtype: Subtype, patients: frozenset[str]) -> tuple[Audited, ...]:
    """For the trail: an event of each patient of whom it told, or one."""
    query = "?".join(part for part in ("/".join(entry.segments), entry.query) if part).encode() or b"/"
    return tuple(Audited("query", subtype, "", patient, query) for patient in sorted(patients) or [""])
