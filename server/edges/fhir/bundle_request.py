"""Batch and transaction over HTTP: `POST [base]` with a Bundle (FHIR R4 section 3.1.0.11)."""

import uuid
from dataclasses import replace

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError
from starlette.requests import Request
from starlette.responses import Response

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
from server.edges import context
from server.edges.fhir.answers import caller
from server.edges.fhir.formats import response
from server.edges.fhir.negotiation import negotiate, only, pairs, parsed, preference
from server.edges.fhir.received import body
from server.errors import AccessError, Conflict, ImageShareError, Invalid
from server.store.db import instant
from server.work.fhir import bundles
from server.work.fhir.bundles import Entry, EntryFailed, Requests
from server.work.fhir.caller import Caller, Outcome
from server.work.fhir.getting import get
from server.work.fhir.transaction import single, transaction
from server.work.fhir.writes import savepoint

_TOGETHER = 200
"""So many writes of a batch are one transaction of the database, each behind a savepoint."""
_AUDITED: dict[str, tuple[Kind, Subtype]] = {
    "GET": ("read", REST_READ), "HEAD": ("read", REST_READ), "POST": ("create", REST_CREATE), "PUT": ("update", REST_UPDATE),
    "PATCH": ("update", REST_PATCH), "DELETE": ("delete", REST_DELETE),
}  # fmt: skip
_Done = Outcome | ImageShareError


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
    done = _transaction(request, asking, requests) if requests.kind == "transaction" else _batch(request, asking, requests)
    returned = preference(request, "return")
    told = (_told(asking, entry, each, returned) for entry, each in zip(requests.entries, done, strict=True))
    return response(request, bundles.answer(requests.kind, str(uuid.uuid4()), told), wanted)


# --- transaction


def _transaction(request: Request, asking: Caller, requests: Requests) -> list[Outcome]:
    node = context.node(request)

    def work(connection: Connection) -> list[Outcome]:
        done = transaction(
            connection, asking, requests, lambda entry: get(connection, asking, entry, key=node.installation.cursor_key)
        )
        context.recorded(request, connection, (audited for each in done for audited in each.audited))
        return done

    try:
        return node.writes.alone(work)
    except EntryFailed as failed:
        context.refused(request, failed.told, "update", REST_TRANSACTION)
        raise


# --- batch


def _batch(request: Request, asking: Caller, requests: Requests) -> list[_Done]:
    """Writes first, then reads: no entry depends on another."""
    done: dict[int, _Done] = {}
    writing = [entry for entry in requests.entries if entry.is_write]
    for first in range(0, len(writing), _TOGETHER):
        part = writing[first : first + _TOGETHER]
        done.update(zip((entry.place for entry in part), _written(request, asking, part), strict=True))
    for entry in requests.entries:
        if not entry.is_write:
            done[entry.place] = _read(request, asking, entry)
    for entry in requests.entries:
        error = done[entry.place]
        if isinstance(error, AccessError):
            context.refused(request, error, *_AUDITED[entry.method], entities=_asked(entry))
    return [done[entry.place] for entry in requests.entries]


def _written(request: Request, asking: Caller, entries: list[Entry]) -> list[_Done]:
    def work(connection: Connection) -> list[_Done]:
        done = [_alone(connection, asking, entry) for entry in entries]
        context.recorded(request, connection, (told for each in done if isinstance(each, Outcome) for told in each.audited))
        return done

    return context.node(request).writes.alone(work)


def _alone(connection: Connection, asking: Caller, entry: Entry) -> _Done:
    try:
        with savepoint(connection):
            return single(connection, asking, entry)
    except IntegrityError:
        return Conflict("another request writes the same; try again")
    except ImageShareError as error:
        return error


def _read(request: Request, asking: Caller, entry: Entry) -> _Done:
    node = context.node(request)
    try:
        with node.database.read() as connection:
            found = get(connection, asking, entry, key=node.installation.cursor_key)
    except ImageShareError as error:
        return error
    if found.audited:
        first = found.audited[0]
        patients = {each.patient for each in found.audited if each.patient}
        entity = AuditedEntity(reference=first.reference, query=first.query)
        context.told(request, first.kind, first.subtype, patients=patients, entities=(entity,))
    return found


def _asked(entry: Entry) -> tuple[AuditedEntity, ...]:
    return (AuditedEntity(reference=f"{entry.type}/{entry.id}"),) if entry.id else ()


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
