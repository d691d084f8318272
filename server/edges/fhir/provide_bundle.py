"""IHE MHD over HTTP: Provide Document Bundle (ITI-65), a transaction; Simplified Publish (ITI-105), the create of a DocumentReference;
Generate Metadata (ITI-106), an operation.
"""

import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from ihe import iti65, iti106
from profiles.audit_event import ITI_65, ITI_105, ITI_106, AuditedEntity, Subtype
from profiles.fhir.json import serialize
from profiles.timestamps import dtm
from server.edges import context
from server.edges.context import Note
from server.edges.fhir.answers import answer, caller
from server.edges.fhir.formats import Format, response
from server.edges.fhir.negotiation import negotiate, only, pairs, parsed, preference
from server.edges.fhir.received import body
from server.store.db import instant, micros, moment
from server.work.fhir import bundles
from server.work.fhir.caller import Caller, Outcome
from server.work.fhir.inputs import of_body
from server.work.fhir.refusals import ParameterError
from server.work.fhir.storing import checked
from server.work.provide_bundle import Published, Publisher, publish, read
from server.work.registry.register import Done
from server.work.registry.standing import resource_id

Json = dict[str, Any]


def provide_bundle(request: Request, asking: Caller, given: Json, wanted: Format) -> Response:
    """IHE MHD section 2:3.65.4.1.3: the Bundle of responses, in the order of the entries. `given` is a valid transaction."""
    done = _published(request, asking, ITI_65, partial(iti65.parse_bundle, given))
    whole = preference(request, "return") == "representation"
    told = _told(asking, given, done, whole=whole)
    return response(request, bundles.answer("transaction", str(uuid.uuid4()), told), wanted)


def simplified_publish(request: Request, asking: Caller, given: Json) -> Response:
    """IHE MHD section 2:3.105.4.1.3: as a create of the DocumentReference. `given` is a valid one."""
    done = _published(request, asking, ITI_105, partial(iti65.parse_document, given, now=dtm(moment(micros()))))
    stored = done.resources[0]
    return answer(request, Outcome(201, stored, location=f"{asking.base}/{stored.type}/{stored.id}/_history/{stored.version}"))


def generate_metadata(request: Request) -> Response:
    """FHIR R4 section 3.2.0.1: `POST [base]/DocumentReference/$generate-metadata` with a document (IHE MHD section 2:3.106.4.1.3).

    The answer is a reference to the DocumentReference that was made of it, and registered.
    """
    asking, parameters = caller(request), pairs(request.scope["query_string"])
    wanted = negotiate(request, parameters)
    only(parameters)
    given = of_body(parsed(request, body(request)), "document").part("document")
    if given is None:
        raise ParameterError("document", "document is missing: a Bundle of type document, or a Binary", "required")
    checked(given, str(given.get("resourceType")))

    def parse(reading: iti65.Reading) -> iti65.Request:
        made = iti106.document_reference(given, serialized=serialize(given))
        return iti65.parse_document(made, reading, now=dtm(moment(micros())))

    stored = _published(request, asking, ITI_106, parse).resources[0]
    told = {"name": "DocumentReference", "valueReference": {"reference": f"{stored.type}/{stored.id}"}}
    return response(request, serialize({"resourceType": "Parameters", "parameter": [told]}), wanted)


def _published(request: Request, asking: Caller, subtype: Subtype, parse: Callable[[iti65.Reading], iti65.Request]) -> Published:
    node = context.node(request)

    def recorded(connection: Connection, done: Done) -> None:
        assert done.submission.submission_set is not None
        named = AuditedEntity(reference=f"List/{resource_id(done.submission.submission_set.entry_uuid)}")
        context.noted(request, [Note("create", subtype, (named,), frozenset([done.patient]))], connection)

    with context.reading(request) as connection:
        provided = read(connection, asking, parse)
    publisher = Publisher(node.writes, node.domain, node.ingest, node.installation.repository)
    return publish(publisher, asking.decision, provided, recorded)


def _told(asking: Caller, given: Json, done: Published, *, whole: bool) -> Iterator[bundles.Response]:
    for place, entry in enumerate(given["entry"]):
        stored = done.resources.get(place)
        if stored is not None:
            version = f"{stored.type}/{stored.id}/_history/{stored.version}"
            yield bundles.Response(
                201 if entry["request"]["method"] == "POST" else 200,
                version,
                stored.etag,
                instant(stored.updated),
                stored.body if whole else b"",
                f"{asking.base}/{stored.type}/{stored.id}",
            )
        elif place in done.documents:
            yield bundles.Response(201, f"Binary/{done.documents[place]}")
        elif entry["resource"]["resourceType"] == "Patient":
            yield bundles.Response(200, f"Patient/{done.patient}")
        else:  # what told of an author: it is in the metadata
            yield bundles.Response(200)
