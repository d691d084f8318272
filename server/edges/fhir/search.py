"""Searches of a type, of the whole system and of a compartment, by GET and by POST."""

from collections.abc import Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from profiles.audit_event import REST_SEARCH, REST_SEARCH_SYSTEM, AuditedEntity
from server.edges import context
from server.edges.fhir.addresses import own
from server.edges.fhir.answers import caller
from server.edges.fhir.formats import response
from server.edges.fhir.negotiation import media_type, negotiate, pairs
from server.edges.fhir.received import body
from server.edges.turns import view
from server.errors import ImageShareError, TooLarge, UnsupportedMediaType
from server.work.fhir import offered, searching
from server.work.fhir.own_addresses import of_listing
from server.work.fhir.searching import Place

FORM: Final = "application/x-www-form-urlencoded"


def search(request: Request) -> Response:
    """FHIR R4 sections 3.1.0.9 and 3.1.1.1, search: `GET [base]/[type]?...`, `GET [base]?...`, `GET [base]/[compartment]/[id]/[type]?...`.

    By POST with `/_search` at the end of the path the parameters are those of the form, and of the query as well.
    """
    asking, place = caller(request), _place(request.path_params)
    if place.compartment:
        offered.known(place.compartment[0])
    parameters = pairs(request.scope["query_string"]) + pairs(_form(request))
    wanted = negotiate(request, parameters)
    node = context.node(request)
    with view(request, context.reading) as connection:
        found = searching.search(connection, asking, place, parameters, key=node.installation.cursor_key)
    address, listing = own(request), found.listing
    listing = of_listing(listing, address) if address else listing
    subtype = REST_SEARCH if place.type else REST_SEARCH_SYSTEM
    context.told(request, "query", subtype, patients=found.patients, entities=asked_query(request))
    return response(request, listing, wanted)


def asked_query(request: Request) -> tuple[AuditedEntity, ...]:
    """What was searched, for the trail, as the client wrote it: path, query string and form."""
    try:
        form = _form(request)
    except ImageShareError:  # what is refused for its form is refused for that as well
        form = b""
    query = b"&".join(part for part in (request.scope["query_string"], form) if part)
    path = _place(request.path_params).path.encode()
    return (AuditedEntity(query=(path + (b"?" + query if query else b"")) or b"/"),)


def _place(path: Mapping[str, str]) -> Place:
    """`type` alone is a type; with `compartment` and `id` what is in that one, of all types where it is `*`."""
    type_ = path.get("type", "")
    if "compartment" not in path:
        return Place(type_)
    return Place("" if type_ == "*" else type_, (path["compartment"], path["id"]))


def _form(request: Request) -> bytes:
    """The form of a search by POST. Raises `TooLarge`, `UnsupportedMediaType`."""
    if request.method != "POST":
        return b""
    limit = context.node(request).settings.max_message_bytes
    form = body(request)
    if len(form) > limit:
        raise TooLarge(f"a search form may have at most {limit} bytes here")
    if form and media_type(request) != FORM:
        raise UnsupportedMediaType(f"a search is posted as {FORM}")
    return form
