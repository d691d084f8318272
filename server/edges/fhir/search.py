"""Type search by GET and by POST."""

import re
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response

from profiles.audit_event import REST_SEARCH, AuditedEntity
from profiles.vocabulary import FHIR_JSON
from server.access.decisions import Decision, Interaction
from server.edges import context
from server.edges.fhir.bundle import address, searchset
from server.edges.fhir.cursor import seal, unseal
from server.edges.fhir.negotiation import is_lenient, negotiate, pairs, prettied
from server.edges.fhir.outcome import ParameterError, outcome
from server.edges.fhir.permission import allowed, confined, require, require_patients
from server.edges.fhir.query import Search, read_search
from server.edges.fhir.read import known_type
from server.records import search as records
from server.records.search import Match, Page, Position
from server.records.trail import without_queries
from server.store.db import micros

# As orjson writes a reference; within a JSON string every quote is escaped, so this is never somebody's text.
_ENDPOINTS = re.compile(rb'"reference":"Endpoint/([A-Za-z0-9.-]{1,64})"')


def search(request: Request) -> Response:
    """FHIR R4 section 3.1.0.9, search: `GET [base]/[type]?...`, or `POST [base]/[type]/_search` with the same as a form."""
    made = context.decision(request)
    type_ = known_type(request)
    parameters = pairs(request.scope["query_string"]) + pairs(_form(request))
    pretty = negotiate(request, parameters)
    base = f"{context.node(request).settings.base_url}/fhir"
    try:
        asked = read_search(type_, parameters, base=base, lenient=is_lenient(request))
    except ParameterError:
        require(made, type_, Interaction.SEARCH)  # who may not search at all is told so first
        raise
    require_patients(made, type_, asked.patients)
    body, patients = _answer(request, made, asked, base)
    context.told(request, "query", REST_SEARCH, patients=patients | asked.patients, entities=asked_query(request))
    return Response(prettied(body) if pretty else body, media_type=FHIR_JSON)


def asked_query(request: Request) -> tuple[AuditedEntity, ...]:
    """What was searched, for the trail, as the client wrote it: type, query string and form."""
    query = b"&".join(part for part in (request.scope["query_string"], _form(request)) if part)
    return (AuditedEntity(query=request.path_params["type"].encode() + (b"?" + query if query else b"")),)


def _form(request: Request) -> bytes:
    found: bytes = getattr(request.state, "form", b"")
    return found


def _answer(request: Request, made: Decision, asked: Search, base: str) -> tuple[bytes, frozenset[str]]:
    """The Bundle and the patients whose resources are in it."""
    node = context.node(request)
    key, query = node.installation.cursor_key, asked.query
    after = unseal(key, asked.cursor, asked, made) if asked.cursor else None
    began = after.began if after else micros()
    may = allowed(made, query.type)
    few = confined(made, query.type) is not None
    found = Page((), None)
    included: list[Match] = []
    total: int | None = None
    with node.database.read() as connection:
        if not asked.counts_only:
            found = records.page(connection, query, allowed=may, confined=few, count=asked.count, began=began, after=after)
            if few and query.type == "AuditEvent":
                found = replace(found, matches=tuple(replace(event, body=without_queries(event.body)) for event in found.matches))
            if asked.includes:
                named = {id_.decode("ascii") for match in found.matches for id_ in _ENDPOINTS.findall(match.body)}
                included = records.named(connection, "Endpoint", sorted(named))
        if asked.counts_only or asked.total == "accurate":
            total = records.total(connection, query, allowed=may, confined=few, began=began)
        elif found.next is None and after is None and asked.total != "none":
            total = len(found.matches)  # all of them are on this page
    body = searchset(
        base,
        now=micros(),
        links=_links(base, asked, found.next, key, made),
        total=total,
        matches=found.matches,
        included=included,
        outcome=_of_ignored(asked),
    )
    return body, frozenset(match.patient for match in found.matches if match.patient)


def _links(base: str, asked: Search, following: Position | None, key: bytes, made: Decision) -> list[tuple[str, str]]:
    links = [("self", address(base, asked.query.type, asked.understood, asked.cursor))]
    if following is not None:
        links.append(("next", address(base, asked.query.type, asked.understood, seal(key, following, asked, made))))
    return links


def _of_ignored(asked: Search) -> bytes:
    """FHIR R4 section 3.1.1.3: what a lenient search did not look at is told in its Bundle."""
    if not asked.ignored:
        return b""
    names = ", ".join(sorted({name for name in asked.ignored if name})) or "a parameter"
    return outcome("not-supported", f"not offered, so not looked at: {names}", severity="warning", id_="ignored")
