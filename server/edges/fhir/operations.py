"""Operations by GET and by POST: `$everything`, `$docref`, `$validate`, `$meta` ... (`server.work.fhir.operations` has the table)."""

from typing import Any
from urllib.parse import urlencode

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from profiles.audit_event import REST_OPERATION, AuditedEntity
from server.edges import context
from server.edges.fhir.answers import caller
from server.edges.fhir.formats import response
from server.edges.fhir.negotiation import media_type, negotiate, pairs, parsed
from server.edges.fhir.received import body
from server.edges.fhir.search import FORM
from server.errors import TooLarge
from server.work.fhir.inputs import Inputs, joined, of_body, of_pairs
from server.work.fhir.operations import Call, Done, Operation, find

_FORMATS = ("_format", "_pretty")


def operate(request: Request) -> Response:
    """FHIR R4 section 3.2.0.1: `POST [base]/$name`, `[base]/[type]/$name` and `[base]/[type]/[id]/$name`, or GET for what changes nothing."""
    asking, query = caller(request), pairs(request.scope["query_string"])
    path = request.path_params
    type_, id_ = path.get("type", ""), path.get("id", "")
    operation = find(path["operation"], type_, id_, method=request.method)
    inputs, wanted_by = _inputs(request, operation, query)
    wanted = negotiate(request, (*query, *wanted_by))
    node = context.node(request)
    call = Call(type_, id_, inputs, node.installation.cursor_key)
    if operation.affects_state:
        done = node.writes.run(lambda connection: _run(request, connection, operation, call))
    else:
        with context.reading(request) as connection:
            done = operation.run(connection, asking, call)
        if done.trial is not None:
            done = node.writes.run(done.trial)
        _told(request, done)
    return response(request, done.body, wanted)


def asked_operation(request: Request) -> tuple[AuditedEntity, ...]:
    """What was called, for the trail: the path, query and form as the client wrote them, and the values of Parameters as a query would have them."""
    path = "/".join(
        part
        for part in (
            request.path_params.get("type", ""),
            request.path_params.get("id", ""),
            "$" + request.path_params["operation"],
        )
        if part
    )
    query = b"&".join(part for part in (request.scope["query_string"], getattr(request.state, "called_with", b"")) if part)
    return (AuditedEntity(query=path.encode() + (b"?" + query if query else b"")),)


def _run(request: Request, connection: Connection, operation: Operation, call: Call) -> Done:
    """What changes something is in the trail in the same transaction."""
    done = operation.run(connection, caller(request), call)
    context.recorded(request, connection, done.audited)
    return done


def _told(request: Request, done: Done) -> None:
    """In the trail before the first byte: a resource that was read, or a query with the patients whose data it gives."""
    for each in done.audited:
        entity = AuditedEntity(reference=each.reference)
        context.told(request, each.kind, each.subtype, patients=[each.patient] if each.patient else (), entities=(entity,))
    if not done.audited:
        context.told(request, "query", REST_OPERATION, patients=done.patients, entities=asked_operation(request))


def _inputs(
    request: Request, operation: Operation, query: tuple[tuple[str, str], ...]
) -> tuple[Inputs, tuple[tuple[str, str], ...]]:
    """What it is called with, and what of a form is about the form of the answer."""
    plain = of_pairs([each for each in query if each[0] not in _FORMATS])
    if request.method != "POST" or not body(request):
        return plain, ()
    if media_type(request) == FORM:
        form = pairs(body(request))
        _note(request, body(request))
        return joined(plain, of_pairs([each for each in form if each[0] not in _FORMATS])), tuple(
            e for e in form if e[0] in _FORMATS
        )
    resource: dict[str, Any] = parsed(request, body(request))
    found = of_body(resource, operation.single)
    texts = [(name, each) for name, values in found.values.items() for each in values if isinstance(each, str)]
    _note(request, urlencode(texts).encode())
    return joined(plain, found), ()


def _note(request: Request, called_with: bytes) -> None:
    """For the trail. Raises `TooLarge` for what is beyond any call."""
    limit = context.node(request).settings.max_message_bytes
    if len(called_with) > limit:
        raise TooLarge(f"the parameters of an operation may have at most {limit} bytes here")
    request.state.called_with = called_with
