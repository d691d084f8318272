"""What an entry of a Bundle asks for that writes nothing (FHIR R4 section 3.1.0.11): read, vread, search, history and operations, by its URL."""

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
from server.errors import NotSupported
from server.work.fhir import history, inputs, offered, operations, reading, searching
from server.work.fhir.bundles import Entry
from server.work.fhir.caller import Audited, Caller, Outcome
from server.work.fhir.listing import Listing
from server.work.fhir.operations import Call
from server.work.fhir.searching import Found, Place
from server.work.fhir.storing import matches


def get(connection: Connection, caller: Caller, entry: Entry, *, key: bytes) -> Outcome:
    """The answer to the entry, read in `connection`. `key` seals page links. Raises what the interaction raises."""
    parameters = entry.parameters
    if entry.operation:
        return _operation(connection, caller, entry, key)
    match entry.segments:
        case ("_history",):
            return _history(connection, caller, entry, "", "", key)
        case () | (_,) if entry.segments != ("metadata",):
            return _search(connection, caller, entry, Place(entry.type), key)
        case (type_, "_history"):
            return _history(connection, caller, entry, type_, "", key)
        case (type_, id_):
            return _unless_known(reading.read(connection, caller, type_, id_, parameters), entry)
        case (type_, id_, "_history"):
            return _history(connection, caller, entry, type_, id_, key)
        case (type_, id_, wanted):
            return _search(connection, caller, entry, Place("" if wanted == "*" else wanted, (offered.known(type_), id_)), key)
        case (type_, id_, "_history", version):
            return _unless_known(reading.vread(connection, caller, type_, id_, version, parameters), entry)
    raise NotSupported("a Bundle may read, search and ask for histories; this URL does nothing of these")


def _operation(connection: Connection, caller: Caller, entry: Entry, key: bytes) -> Outcome:
    """FHIR R4 section 3.2.0.1: one that changes nothing. What changes something is called by itself, in a transaction of its own."""
    if len(entry.segments) not in (2, 3):
        raise NotSupported("operations are called of a type or of a resource, such as Patient/7/$everything")
    type_, id_ = entry.type, entry.id if len(entry.segments) == 3 else ""
    operation = operations.find(entry.operation, type_, id_, method=entry.method)
    given = inputs.of_pairs([each for each in entry.parameters if each[0] not in reading.FORMATS])
    if entry.resource is not None:
        given = inputs.joined(given, inputs.of_body(entry.resource, operation.single))
    if operation.writes(given):
        raise NotSupported("an operation that writes is not offered within a Bundle; call it by itself")
    done = operation.run(connection, caller, Call(type_, id_, given, key))
    audited = done.audited or _queried(entry, REST_OPERATION, done.patients)
    if isinstance(done.body, Listing):
        return Outcome(200, listing=done.body, audited=audited)
    return Outcome(200, made=done.body, audited=audited)


def _unless_known(outcome: Outcome, entry: Entry) -> Outcome:
    """FHIR R4 section 3.1.0.1.5, conditional read: 304 for the version that the client has."""
    if entry.none_matches and outcome.stored is not None and matches(entry.none_matches, outcome.stored.version):
        return Outcome(304, audited=outcome.audited)
    return outcome


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
