"""Batch and transaction over HTTP: `POST [base]` with a Bundle (FHIR R4 section 3.1.0.11)."""

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError, OperationalError
from starlette.requests import Request
from starlette.responses import Response

from ihe import iti65
from profiles.audit_event import (
    REST_CREATE,
    REST_DELETE,
    REST_PATCH,
    REST_READ,
    REST_TRANSACTION,
    REST_UPDATE,
    AuditedEntity,
    Kind,
    Subtype,
)
from profiles.fhir.issues import Issue, outcome
from profiles.fhir.json import serialize
from profiles.fhir.validation import is_valid_id
from server.edges import context
from server.edges.context import Note
from server.edges.fhir.answers import caller
from server.edges.fhir.capability import statement
from server.edges.fhir.formats import response
from server.edges.fhir.negotiation import negotiate, only, pairs, parsed, preference
from server.edges.fhir.provide_bundle import provide_bundle
from server.edges.fhir.received import body
from server.errors import AccessError, Conflict, ImageShareError, Invalid
from server.records.fhir_search import TooCostly
from server.records.trail import Audited
from server.store.db import instant
from server.telemetry import failure, log
from server.work.fhir import bundles, conditional
from server.work.fhir.bundles import Entry, EntryFailed, Requests, Room
from server.work.fhir.caller import Caller, Outcome
from server.work.fhir.entry_writes import lock, prepared, single
from server.work.fhir.getting import called, get, told
from server.work.fhir.reading import Deleted
from server.work.fhir.transaction import transaction
from server.work.fhir.writes import savepoint

_TOGETHER = 200
"""So many writes of a batch are one transaction of the database, each behind a savepoint."""
_NOTED = 200
"""So many reads and refusals of a batch are one commit of the trail."""
_AUDITED: dict[str, tuple[Kind, Subtype]] = {
    "GET": ("read", REST_READ), "HEAD": ("read", REST_READ), "POST": ("create", REST_CREATE), "PUT": ("update", REST_UPDATE),
    "PATCH": ("update", REST_PATCH), "DELETE": ("delete", REST_DELETE),
}  # fmt: skip
_Done = Outcome | ImageShareError
_T = TypeVar("_T")


def bundle(request: Request) -> Response:
    """FHIR R4 section 3.1.0.11: all or nothing of a transaction, each for itself of a batch; the Bundle of what came of it.

    Resources are in it where the client prefers `return=representation`, OperationOutcomes where it prefers those.
    """
    asking = caller(request)
    parameters = pairs(request.scope["query_string"])
    wanted = negotiate(request, parameters)
    only(parameters)
    given = parsed(request, body(request))
    if given.get("resourceType") != "Bundle":
        why = "what is posted to the base URL is a Bundle; POST a resource to its type"
        raise Invalid([Issue("error", "invalid", "", why)])
    requests = bundles.read(given, asking.base)
    if iti65.is_request(given):
        return provide_bundle(request, asking, given, wanted)
    returned = preference(request, "return")
    room = partial(Room, tells_writes=returned == "representation", limit=bundles.MOST_TOLD)
    done = (
        _transaction(request, asking, requests, room)
        if requests.kind == "transaction"
        else _batch(request, asking, requests, room())
    )
    told = (_told(asking, entry, each, returned) for entry, each in zip(requests.entries, done, strict=True))
    return response(request, bundles.answer(requests.kind, str(uuid.uuid4()), told), wanted)


# --- transaction


def _transaction(request: Request, asking: Caller, requests: Requests, room: Callable[[], Room]) -> Sequence[_Done]:
    """One that only reads keeps nobody from writing."""
    node = context.node(request)

    def done(connection: Connection) -> list[Outcome]:
        return transaction(connection, asking, requests, partial(_got, request, asking, connection), room())

    def written(connection: Connection) -> list[Outcome]:
        found = done(connection)
        context.noted(request, (note for each in found for note in _notes(each.audited)), connection)
        return found

    try:
        if any(entry.is_write for entry in requests.entries):
            _try(request, asking, requests.entries)
            return node.writes.alone(written)
        with context.reading(request) as connection:
            found = done(connection)
        context.noted(request, [note for each in found for note in _notes(each.audited)])
        return found
    except EntryFailed as failed:
        context.refused(request, failed.told, "update", REST_TRANSACTION, entities=_asked(failed.entry))
        context.noted(request, _condition(request, asking, failed.entry, failed.told))
        raise


def _try(request: Request, asking: Caller, entries: Sequence[Entry]) -> None:
    """Conditions that take too long are refused before others wait for them; what else is wrong with one is said when its turn comes."""
    conditions = [condition for entry in entries if (condition := entry.condition) is not None]
    if not conditions:
        return
    with context.reading(request) as connection:
        try:
            conditional.tried(connection, asking, conditions)
        except TooCostly:
            raise
        except ImageShareError:
            return


# --- batch


def _batch(request: Request, asking: Caller, requests: Requests, room: Room) -> Sequence[_Done]:
    """Writes first, then reads: no entry depends on another."""
    done: dict[int, _Done] = {entry.place: entry.error for entry in requests.entries if entry.error is not None}
    asked = [entry for entry in requests.entries if entry.error is None]
    for part in _parts([entry for entry in asked if entry.is_write], _TOGETHER):
        for entry, each in zip(part, _written(request, asking, part), strict=True):
            done[entry.place] = room.taken(entry, each) if isinstance(each, Outcome) else each
    reads = [entry for entry in asked if not entry.is_write]
    for entry in reads:
        done[entry.place] = _alone(request, partial(_read, request, asking, entry, room))
    _note(request, asking, reads, done)
    failed = [entry for entry in asked if entry.is_write and not isinstance(done[entry.place], Outcome)]
    _note(request, asking, failed, done)
    return [done[entry.place] for entry in requests.entries]


def _written(request: Request, asking: Caller, entries: Sequence[Entry]) -> list[_Done]:
    """What is checked, and what patches make, before the transaction begins: others would wait for it."""
    node = context.node(request)
    ready = [_alone(request, partial(prepared, node.database, asking, entry)) for entry in entries]
    well = [entry for entry, each in zip(entries, ready, strict=True) if not isinstance(each, ImageShareError)]

    def work(connection: Connection) -> list[_Done]:
        lock(connection, well)
        done = [
            each
            if isinstance(each, ImageShareError)
            else _saved(request, connection, partial(single, connection, asking, entry, each))
            for entry, each in zip(entries, ready, strict=True)
        ]
        context.noted(request, (note for each in done if isinstance(each, Outcome) for note in _notes(each.audited)), connection)
        return done

    done = _alone(request, partial(node.writes.alone, work))
    return [done] * len(entries) if isinstance(done, ImageShareError) else done


def _saved(request: Request, connection: Connection, work: Callable[[], Outcome]) -> _Done:
    """One write of several in a transaction: what goes wrong with it is taken back alone, unless it is the database's."""
    try:
        with savepoint(connection):
            return work()
    except OperationalError:
        raise
    except IntegrityError:
        return Conflict("another request writes the same; try again")
    except Exception as error:  # noqa: BLE001 it is this one's alone
        return _told_of(request, error)


def _alone(request: Request, work: Callable[[], _T]) -> _T | ImageShareError:
    """What goes wrong with one entry is that one's: the client has to be told what was done with the others."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001 it is this one's alone
        return _told_of(request, error)


def _told_of(request: Request, error: Exception) -> ImageShareError:
    """What may be told of an error: of one that nobody expected where it is in the log."""
    if isinstance(error, ImageShareError):
        return error
    log().error("fhir", request_id=context.request_id(request), **failure(error))
    return ImageShareError(f"the server failed; request {context.request_id(request)}")


def _parts(entries: Sequence[Entry], size: int) -> Iterator[Sequence[Entry]]:
    return (entries[first : first + size] for first in range(0, len(entries), size))


def _read(request: Request, asking: Caller, entry: Entry, room: Room) -> Outcome:
    if entry.operation:
        return room.taken(entry, _operated(request, asking, entry))
    with context.reading(request) as connection:
        return room.taken(entry, _got(request, asking, connection, entry))


def _operated(request: Request, asking: Caller, entry: Entry) -> Outcome:
    """An operation as if it had come alone: what changes something is in the trail in the same transaction."""
    node = context.node(request)
    operation, call = called(entry, node.installation.cursor_key)

    def written(connection: Connection) -> Outcome:
        found = told(entry, operation.run(connection, asking, call))
        context.noted(request, _notes(found.audited), connection)
        return replace(found, audited=())

    if operation.affects_state:
        return node.writes.run(written)
    with context.reading(request) as connection:
        done = operation.run(connection, asking, call)
    return told(entry, done if done.trial is None else node.writes.run(done.trial))


def _got(request: Request, asking: Caller, connection: Connection, entry: Entry) -> Outcome:
    node = context.node(request)
    if entry.segments == ("metadata",) and not entry.is_write:
        return Outcome(200, made=statement(node.settings, connection))
    return get(connection, asking, entry, key=node.installation.cursor_key)


# --- the trail


def _note(request: Request, asking: Caller, entries: Sequence[Entry], done: Mapping[int, _Done]) -> None:
    """What was read, and what access was refused to, in few commits."""
    for part in _parts(entries, _NOTED):
        context.noted(request, [note for entry in part for note in _notes_of(request, asking, entry, done[entry.place])])


def _notes_of(request: Request, asking: Caller, entry: Entry, done: _Done) -> Iterator[Note]:
    if isinstance(done, Outcome):
        yield from _notes(done.audited)
    elif isinstance(done, AccessError | Deleted):
        kind, subtype = _AUDITED[entry.method]
        yield Note(kind, subtype, _asked(entry), getattr(done, "patients", frozenset()), done)
    else:
        yield from _condition(request, asking, entry, done)


def _condition(request: Request, asking: Caller, entry: Entry, error: ImageShareError) -> Iterator[Note]:
    """The search that a conditional interaction was which failed: that tells whether its condition is met."""
    if entry.condition is not None and error.http_status < 500 and not isinstance(error, AccessError):
        with context.reading(request) as connection:
            yield from _notes(conditional.audited(connection, asking, *entry.condition))


def _notes(audited: Iterable[Audited]) -> Iterator[Note]:
    """A search is one, of all patients of whom it told."""
    found: dict[Audited, set[str]] = {}
    for each in audited:
        found.setdefault(replace(each, patient=""), set()).add(each.patient)
    for each, patients in found.items():
        asked = (AuditedEntity(reference=each.reference, query=each.query),)
        yield Note(each.kind, each.subtype, asked, frozenset(patients), each.error)


def _asked(entry: Entry) -> tuple[AuditedEntity, ...]:
    return (AuditedEntity(reference=f"{entry.type}/{entry.id}"),) if is_valid_id(entry.id) else ()


# --- what is told of an entry


def _told(asking: Caller, entry: Entry, done: _Done, returned: str) -> bundles.Response:
    if isinstance(done, ImageShareError):
        found = EntryFailed(entry, done)
        return bundles.Response(done.http_status, outcome=serialize(outcome(found.issues)))
    told = bundles.Response(done.status, outcome=serialize(outcome(done.issues)) if returned == "operationoutcome" else b"")
    if done.stored is not None:
        told = replace(
            told,
            location=done.location.removeprefix(f"{asking.base}/"),
            etag=done.stored.etag,
            modified=instant(done.stored.updated),
            full_url=f"{asking.base}/{done.stored.type}/{done.stored.id}",
        )
    if (not entry.is_write or returned == "representation") and entry.method != "HEAD":
        told = replace(told, resource=done.body)
    return told
