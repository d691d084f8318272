"""The Document Registry: Registry Stored Query."""

from collections.abc import Sequence
from dataclasses import replace

from lxml.etree import _Element
from starlette.requests import Request

from ihe import iti18
from ihe.ebrs import RegistryError
from ihe.find_documents import FindDocuments, typed
from ihe.iti18 import ReturnType
from ihe.soap import Envelope
from ihe.stored_queries import STORED_QUERIES
from profiles.audit_event import ITI_18, AuditedEntity
from profiles.vocabulary import URI_SYSTEM
from server.access.decisions import Decision
from server.edges import context
from server.edges.soap import message
from server.edges.soap.transaction import Answer, Transaction
from server.records import documents as records
from server.work import documents


def _stored_query(request: Request, decision: Decision, envelope: Envelope) -> Answer:
    """ITI TF-2 section 3.18.4.1.3: FindDocuments, FindDocumentsByReferenceId and GetDocuments; of others it says that it knows none.

    A patient who is not known is not an error: nothing was found. Raises `RegistryError`, `MalformedQuery`.
    """
    asked = iti18.parse_request(envelope.body)
    query = typed(asked)
    with context.node(request).database.read() as connection:
        if isinstance(query, FindDocuments):
            found = documents.find(connection, decision, query)
            patient = records.patient_of(connection, documents.patient_cx(query.patient_id))
        else:
            found = documents.get(connection, decision, query)
            patient = None
    patients = {each.patient for each in found}
    if len(patients) > 1 and asked.return_type is ReturnType.LEAF_CLASS:
        raise RegistryError("XDSResultNotSinglePatient", "the documents belong to several patients: ask for them one by one")
    if patient is not None:
        patients.add(patient)
    context.told(request, "query", ITI_18, patients=patients, entities=_asked(envelope), rest=False)
    return Answer(iti18.response([each.entry for each in found], asked.return_type))


def _failed(errors: Sequence[RegistryError]) -> _Element:
    return iti18.response((), errors=errors)


def _asked(envelope: Envelope) -> tuple[AuditedEntity, ...]:
    """ITI TF-2 section 3.18.5.1.2: the query as it was asked, its encoding, and the id of the stored query where it is one's."""
    query_id = next((found.get("id", "") for found in envelope.body.iterfind(".//{*}AdhocQuery")), "")
    entity = AuditedEntity(query=message.source(envelope), details=(("QueryEncoding", "UTF-8"),))
    return (replace(entity, system=URI_SYSTEM, identifier=query_id) if query_id in STORED_QUERIES else entity,)


REGISTRY_STORED_QUERY = Transaction(
    action=iti18.REQUEST_ACTION,
    response_action=iti18.RESPONSE_ACTION,
    subtype=ITI_18,
    kind="query",
    actor="Registry",
    mtom=False,
    answer=_stored_query,
    failed=_failed,
    asked=_asked,
)
