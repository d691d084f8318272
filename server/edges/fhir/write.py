"""Create, update, patch and delete, plain and conditional: one transaction each, with the trail's note of it."""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from ihe import iti65
from profiles.audit_event import AuditedEntity
from profiles.fhir.issues import Issue
from server.access.decisions import Interaction
from server.edges import context
from server.edges.fhir.answers import answer, caller
from server.edges.fhir.negotiation import media_type, negotiate, only, pairs, parsed
from server.edges.fhir.provide_bundle import simplified_publish
from server.edges.fhir.received import body
from server.errors import AccessError, ImageShareError, Invalid, NotSupported
from server.work.fhir import conditional, offered
from server.work.fhir.caller import Caller, Outcome
from server.work.fhir.create import create as created
from server.work.fhir.delete import conditional_delete as deleted_where
from server.work.fhir.delete import delete as deleted
from server.work.fhir.patch import Changed, Ready, work_out
from server.work.fhir.patch import conditional_patch as patched_where
from server.work.fhir.patch import patch as patched
from server.work.fhir.storing import checked
from server.work.fhir.update import conditional_update as updated_where
from server.work.fhir.update import update as updated

_FORMATS = ("_format", "_pretty")
_TRIES = 4


def create(request: Request) -> Response:
    """FHIR R4 section 3.1.0.8, create: `POST [base]/[type]`, with If-None-Exist conditional (3.1.0.8.1)."""
    asking = _asking(request)
    resource = _resource(request, asking, "create", Interaction.CREATE)
    unless = _if_none_exist(request)
    if iti65.is_simplified(resource) and not unless:
        return simplified_publish(request, asking, resource)
    with _searching(request, asking, _type(request), unless):
        _tried(request, asking, _type(request), unless)
        return _answered(request, lambda connection: created(connection, asking, resource, if_none_exist=unless, is_checked=True))


def _if_none_exist(request: Request) -> str:
    """Raises `Invalid` for a condition that is empty: everything would meet it, and nothing be kept from being there twice."""
    given = request.headers.get("if-none-exist")
    condition = (given or "").removeprefix("?")
    if given is not None and not condition:
        why = "If-None-Exist has no condition; name at least one search parameter, such as identifier"
        raise Invalid([Issue("error", "invalid", "", why)])
    return condition


def update(request: Request) -> Response:
    """FHIR R4 section 3.1.0.4, update: `PUT [base]/[type]/[id]`, with If-Match version-aware (3.1.0.5); with `If-None-Match: *` nothing is overwritten."""
    asking = _asking(request)
    resource, (type_, id_) = _resource(request, asking, "update", Interaction.UPDATE), _named(request)
    if_match, unless = _if_match(request), _if_none_match(request)
    return _answered(
        request,
        lambda connection: updated(
            connection, asking, type_, id_, resource, if_match=if_match, if_none_match=unless, is_checked=True
        ),
    )


def conditional_update(request: Request) -> Response:
    """FHIR R4 section 3.1.0.4.3, conditional update: `PUT [base]/[type]?...`."""
    asking, query = _asking(request, is_conditional=True), _condition(request)
    resource, type_ = _resource(request, asking, "update", Interaction.UPDATE), _type(request)
    if_match, unless = _if_match(request), _if_none_match(request)
    with _searching(request, asking, type_, query):
        _tried(request, asking, type_, query)
        return _answered(
            request,
            lambda connection: updated_where(
                connection, asking, type_, query, resource, if_match=if_match, if_none_match=unless, is_checked=True
            ),
        )


def patch(request: Request) -> Response:
    """FHIR R4 section 3.1.0.6, patch: `PATCH [base]/[type]/[id]`."""
    asking = _asking(request)
    return _patched(request, asking, *_named(request))


def conditional_patch(request: Request) -> Response:
    """FHIR R4 section 3.1.0.6, conditional patch: `PATCH [base]/[type]?...`."""
    asking, query = _asking(request, is_conditional=True), _condition(request)
    with _searching(request, asking, _type(request), query):
        return _patched(request, asking, _type(request), query=query)


def delete(request: Request) -> Response:
    """FHIR R4 section 3.1.0.7, delete: `DELETE [base]/[type]/[id]`."""
    asking = _asking(request)
    type_, id_ = _named(request)
    return _answered(request, lambda connection: deleted(connection, asking, type_, id_, if_match=_if_match(request)))


def conditional_delete(request: Request) -> Response:
    """FHIR R4 section 3.1.0.7.1, conditional delete: `DELETE [base]/[type]?...`."""
    asking, query, type_ = _asking(request, is_conditional=True), _condition(request), _type(request)
    offered.require(type_, "delete")
    asking.require(type_, Interaction.DELETE)
    with _searching(request, asking, type_, query):
        _tried(request, asking, type_, query)
        return _answered(request, lambda connection: deleted_where(connection, asking, type_, query, if_match=_if_match(request)))


def _asking(request: Request, *, is_conditional: bool = False) -> Caller:
    """Who asks, with an answer in a form that there is: what can't be told is not done."""
    asking, parameters = caller(request), pairs(request.scope["query_string"])
    negotiate(request, parameters)
    if request.method in ("PATCH", "DELETE") and "if-none-match" in request.headers:
        raise NotSupported("If-None-Match is for reads and updates here; If-Match says what is to be there")
    if not is_conditional:
        only(parameters, _FORMATS)
    return asking


@contextlib.contextmanager
def _searching(request: Request, asking: Caller, type_: str, query: str) -> Iterator[None]:
    """Where a conditional interaction ends in an error, that tells whether its condition is met: the trail has it as a search."""
    try:
        yield
    except AccessError:
        raise  # which the trail has
    except ImageShareError as error:
        if query and error.http_status < 500:
            with context.reading(request) as connection:
                events = conditional.audited(connection, asking, type_, query)
            for event in events[:1]:
                entity = AuditedEntity(query=event.query)
                context.told(
                    request,
                    event.kind,
                    event.subtype,
                    patients=[each.patient for each in events if each.patient],
                    entities=(entity,),
                )
        raise


def _tried(request: Request, asking: Caller, type_: str, query: str) -> None:
    """A condition is searched by before others have to wait for what comes of it."""
    if query:
        with context.reading(request) as connection:
            conditional.tried(connection, asking, [(type_, query)])


def _answered(request: Request, work: Callable[[Connection], Outcome]) -> Response:
    def recorded(connection: Connection) -> Outcome:
        outcome = work(connection)
        context.recorded(request, connection, outcome.audited)
        return outcome

    return answer(request, context.node(request).writes.run(recorded))


def _patched(request: Request, asking: Caller, type_: str, id_: str = "", *, query: str = "") -> Response:
    """A patch is worked out before its transaction, and anew where somebody else was faster; after some times of that while others wait."""
    given, if_match = (body(request), media_type(request)), _if_match(request)

    def write(ready: Ready | None, connection: Connection) -> Outcome:
        if query:
            return patched_where(connection, asking, type_, query, given, if_match=if_match, ready=ready)
        return patched(connection, asking, type_, id_, given, if_match=if_match, ready=ready)

    for _ in range(_TRIES):
        ready = work_out(context.node(request).database, asking, type_, given, id_=id_, query=query, if_match=if_match)
        with contextlib.suppress(Changed):
            return _answered(request, partial(write, ready))
    return _answered(request, partial(write, None))


def _resource(request: Request, asking: Caller, name: str, interaction: Interaction) -> dict[str, Any]:
    """The resource in the body, checked before a transaction begins: others would wait for it. Who may not write at all is told so first."""
    type_ = _type(request)
    offered.require(type_, name)
    asking.require(type_, interaction)
    resource = parsed(request, body(request))
    checked(resource, type_)
    return resource


def _type(request: Request) -> str:
    return offered.known(request.path_params["type"])


def _named(request: Request) -> tuple[str, str]:
    return _type(request), request.path_params["id"]


def _if_match(request: Request) -> str:
    return request.headers.get("if-match", "")


def _if_none_match(request: Request) -> str:
    return request.headers.get("if-none-match", "")


def _condition(request: Request) -> str:
    """The query without what is about the form of the answer."""
    raw = request.scope["query_string"].decode("ascii")
    return "&".join(each for each in raw.split("&") if each.partition("=")[0] not in _FORMATS)
