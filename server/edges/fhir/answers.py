"""Answers: what came of an interaction as an HTTP response (FHIR R4 sections 3.1.0.1.3 to 3.1.0.1.9)."""

from email.utils import parsedate_to_datetime
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from profiles.fhir.issues import outcome
from profiles.fhir.json import serialize
from server.edges import context
from server.edges.fhir.formats import response
from server.edges.fhir.negotiation import is_lenient, negotiate, pairs, preference
from server.records.resources import Stored
from server.store.db import moment
from server.work.fhir.caller import Caller, Outcome, Rules

_CACHED: Final = {"Cache-Control": "private, no-cache"}
_RETURNS: Final = frozenset({"minimal", "representation", "operationoutcome"})


def caller(request: Request) -> Caller:
    """Who asks. Raises `Unauthenticated`."""
    settings = context.node(request).settings
    return Caller(
        context.decision(request),
        f"{settings.base_url}/fhir",
        context.request_id(request),
        is_lenient(request),
        Rules(settings.fhir_update_creates, settings.fhir_references, settings.fhir_conditional_delete == "multiple"),
    )


def read_answer(request: Request, found: Outcome) -> Response:
    """FHIR R4 section 3.1.0.2: one version with ETag and Last-Modified, or 304 where the client has it (conditional read, section 3.1.0.2.1)."""
    wanted = negotiate(request, pairs(request.scope["query_string"]))
    headers = {**found.headers, **_CACHED}
    if found.stored is not None and is_held(request, found.stored):
        return Response(status_code=304, headers={**headers, "Vary": "Accept, Accept-Encoding, Authorization"})
    return response(request, found.body, wanted, status=found.status, headers=headers)


def answer(request: Request, found: Outcome) -> Response:
    """What came of a write, as the client prefers it (FHIR R4 section 3.1.0.1.7): the resource unless it says otherwise."""
    wanted = negotiate(request, pairs(request.scope["query_string"]))
    returned = preference(request, "return")
    headers = dict(found.headers)
    if returned in _RETURNS and (found.body or returned != "representation"):  # RFC 7240 section 3: of what was honoured
        headers["Preference-Applied"] = f"return={'OperationOutcome' if returned == 'operationoutcome' else returned}"
    if returned == "minimal" or (not found.body and returned != "operationoutcome"):
        # 204 is for what has no representation, 201 says by its Location where it is.
        return Response(status_code=found.status if found.status == 201 or found.body else 204, headers=headers)
    if returned == "operationoutcome":
        told = serialize(outcome(found.issues))
        return response(request, told, wanted, status=200 if found.status == 204 else found.status, headers=headers)
    return response(request, found.body, wanted, status=found.status, headers=headers)


def is_held(request: Request, stored: Stored) -> bool:
    """RFC 9110 sections 13.1.2 and 13.1.3: whether the client has this version, by If-None-Match, or If-Modified-Since where there is none."""
    if "if-none-match" in request.headers:
        held = [each.strip().removeprefix("W/") for each in request.headers["if-none-match"].split(",")]
        return stored.etag.removeprefix("W/") in held or "*" in held
    try:
        since = parsedate_to_datetime(request.headers.get("if-modified-since", ""))
    except ValueError:
        return False  # what is no date is as if it were not there
    return since.tzinfo is not None and moment(stored.updated).replace(microsecond=0) <= since
