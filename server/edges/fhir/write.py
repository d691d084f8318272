"""Create, update, patch and delete, plain and conditional: one transaction each, with the trail's note of it."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from server.access.decisions import Interaction
from server.edges import context
from server.edges.fhir.answers import answer, caller
from server.edges.fhir.negotiation import media_type, negotiate, only, pairs, parsed
from server.edges.fhir.received import body
from server.work.fhir import offered
from server.work.fhir.caller import Caller, Outcome
from server.work.fhir.create import create as created
from server.work.fhir.delete import conditional_delete as deleted_where
from server.work.fhir.delete import delete as deleted
from server.work.fhir.patch import conditional_patch as patched_where
from server.work.fhir.patch import patch as patched
from server.work.fhir.storing import checked
from server.work.fhir.update import conditional_update as updated_where
from server.work.fhir.update import update as updated

_FORMATS = ("_format", "_pretty")


def create(request: Request) -> Response:
    """FHIR R4 section 3.1.0.8, create: `POST [base]/[type]`, with If-None-Exist conditional (3.1.0.8.1)."""
    asking = _asking(request)
    resource = _resource(request, asking, "create", Interaction.CREATE)
    unless = request.headers.get("if-none-exist", "").removeprefix("?")
    return _answered(request, lambda connection: created(connection, asking, resource, if_none_exist=unless, is_checked=True))


def update(request: Request) -> Response:
    """FHIR R4 section 3.1.0.4, update: `PUT [base]/[type]/[id]`, with If-Match version-aware (3.1.0.5)."""
    asking = _asking(request)
    resource, (type_, id_) = _resource(request, asking, "update", Interaction.UPDATE), _named(request)
    return _answered(
        request,
        lambda connection: updated(connection, asking, type_, id_, resource, if_match=_if_match(request), is_checked=True),
    )


def conditional_update(request: Request) -> Response:
    """FHIR R4 section 3.1.0.4.3, conditional update: `PUT [base]/[type]?...`."""
    asking, query = _asking(request, is_conditional=True), _condition(request)
    resource, type_ = _resource(request, asking, "update", Interaction.UPDATE), _type(request)
    return _answered(
        request,
        lambda connection: updated_where(
            connection, asking, type_, query, resource, if_match=_if_match(request), is_checked=True
        ),
    )


def patch(request: Request) -> Response:
    """FHIR R4 section 3.1.0.6, patch: `PATCH [base]/[type]/[id]`."""
    asking = _asking(request)
    given, (type_, id_) = (body(request), media_type(request)), _named(request)
    return _answered(request, lambda connection: patched(connection, asking, type_, id_, given, if_match=_if_match(request)))


def conditional_patch(request: Request) -> Response:
    """FHIR R4 section 3.1.0.6, conditional patch: `PATCH [base]/[type]?...`."""
    asking, query = _asking(request, is_conditional=True), _condition(request)
    given, type_ = (body(request), media_type(request)), _type(request)
    return _answered(
        request, lambda connection: patched_where(connection, asking, type_, query, given, if_match=_if_match(request))
    )


def delete(request: Request) -> Response:
    """FHIR R4 section 3.1.0.7, delete: `DELETE [base]/[type]/[id]`."""
    asking = _asking(request)
    type_, id_ = _named(request)
    return _answered(request, lambda connection: deleted(connection, asking, type_, id_, if_match=_if_match(request)))


def conditional_delete(request: Request) -> Response:
    """FHIR R4 section 3.1.0.7.1, conditional delete: `DELETE [base]/[type]?...`."""
    asking, query, type_ = _asking(request, is_conditional=True), _condition(request), _type(request)
    return _answered(request, lambda connection: deleted_where(connection, asking, type_, query, if_match=_if_match(request)))


def _asking(request: Request, *, is_conditional: bool = False) -> Caller:
    """Who asks, with an answer in a form that there is: what can't be told is not done."""
    asking, parameters = caller(request), pairs(request.scope["query_string"])
    negotiate(request, parameters)
    if not is_conditional:
        only(parameters, _FORMATS)
    return asking


def _answered(request: Request, work: Callable[[Connection], Outcome]) -> Response:
    def recorded(connection: Connection) -> Outcome:
        outcome = work(connection)
        context.recorded(request, connection, outcome.audited)
        return outcome

    return answer(request, context.node(request).writes.run(recorded))


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


def _condition(request: Request) -> str:
    """The query without what is about the form of the answer."""
    raw = request.scope["query_string"].decode("ascii")
    return "&".join(each for each in raw.split("&") if each.partition("=")[0] not in _FORMATS)
