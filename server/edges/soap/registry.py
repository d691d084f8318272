"""The Document Registry: Registry Stored Query and Multi-Patient Stored Query."""

from collections.abc import Sequence
from dataclasses import replace

from starlette.requests import Request

from ihe import iti18, iti51
from ihe.ebrs import RegistryError
from ihe.iti18 import ObjectRef, StoredQuery
from ihe.soap import Envelope
from ihe.stored_queries import MULTI_PATIENT_QUERIES, STORED_QUERIES
from profiles.audit_event import ITI_18, ITI_51, AuditedEntity, Subtype
from profiles.document import RegistryObject
from profiles.vocabulary import URI_SYSTEM
from server.access.decisions import OTHER_PATIENT, Decision
from server.edges import context
from server.edges.soap import message
from server.edges.soap.transaction import Answer, Transaction
from server.errors import Forbidden
from server.work import stored_queries

_QUERY_IDS = STORED_QUERIES.keys() | MULTI_PATIENT_QUERIES.keys()


def _stored_query(request: Request, decision: Decision, envelope: Envelope) -> Answer:
    """ITI TF-2 section 3.18.4.1.3. Raises `RegistryError`, `MalformedQuery`."""
    return _answered(request, decision, envelope, iti18.parse_request(envelope.body), ITI_18)


def _multi_patient_query(request: Request, decision: Decision, envelope: Envelope) -> Answer:
    """ITI TF-2 section 3.51.4.1.3. Raises `RegistryError`, `MalformedQuery`."""
    return _answered(request, decision, envelope, iti51.parse_request(envelope.body), ITI_51)


def _answered(request: Request, decision: Decision, envelope: Envelope, query: StoredQuery, subtype: Subtype) -> Answer:
    """The answer, after it is in the trail: an event for each patient whom the query names or whose objects are found.

    A patient who is not known is not an error: nothing was found. Nor, to who asks, is one of whom they may see nothing: the trail has it as
    a refusal.
    """
    node = context.node(request)
    with node.database.read() as connection:
        found = stored_queries.answer(connection, decision, query, limit=node.settings.max_query_results)
    entities = _asked(envelope)
    if found.refused:
        context.refused(request, Forbidden(OTHER_PATIENT, found.refused), "query", subtype, entities=entities, rest=False)
    if (patients := found.patients | found.asked - found.refused) or not found.refused:
        context.told(request, "query", subtype, patients=patients, entities=entities, rest=False)
    home = f"urn:oid:{node.installation.home_community}"
    objects = tuple(_at(home, each) for each in found.objects) if query.home_community_id == home else found.objects
    return Answer(iti18.response(objects, query.return_type))


def _at(home: str, told: RegistryObject | ObjectRef) -> RegistryObject | ObjectRef:
    """ITI TF-2 section 3.18.4.1.2.3.8: who asks with a homeCommunityId gets it with everything."""
    return told if told.home_community_id else replace(told, home_community_id=home)


def _failed(errors: Sequence[RegistryError]) -> bytes:
    return iti18.response((), errors=errors)


def _asked(envelope: Envelope) -> tuple[AuditedEntity, ...]:
    """ITI TF-2 section 3.18.5.1.2: the query as it was asked, its encoding, and the id of the stored query where it is one's."""
    query_id = next((found.get("id", "").strip() for found in envelope.body.iterfind(".//{*}AdhocQuery")), "")
    entity = AuditedEntity(query=message.source(envelope), details=(("QueryEncoding", "UTF-8"),))
    return (replace(entity, system=URI_SYSTEM, identifier=query_id) if query_id in _QUERY_IDS else entity,)


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
MULTI_PATIENT_STORED_QUERY = Transaction(
    action=iti51.REQUEST_ACTION,
    response_action=iti51.RESPONSE_ACTION,
    subtype=ITI_51,
    kind="query",
    actor="Registry",
    mtom=False,
    answer=_multi_patient_query,
    failed=_failed,
    asked=_asked,
)
