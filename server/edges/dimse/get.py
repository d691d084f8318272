"""Retrieve over the requesting association (PS3.4 section C.4.3): C-GET, its C-STORE sub-operations with the roles changed."""

from typing import Final

from ihe.dimse import CommandField
from profiles.audit_event import INSTANCES_TRANSFERRED
from profiles.query_retrieve import MODELS, IdentifierRefused
from server.edges.dimse import inquiry, retrieval
from server.edges.dimse.retrieval import TRANSCODER, Progress
from server.edges.dimse.service import Association, Message, Service
from server.errors import ImageShareError
from server.outbound.delivery import Routes, request
from server.outbound.transfer import Stored
from server.records.catalogue import StoredInstance


def get(association: Association, message: Message) -> None:
    """PS3.4 section C.4.3.3: each instance is stored by the requestor before the next is sent; a cancel takes effect between two."""
    try:
        _, instances = retrieval.selected(association, message)
        retrieval.told(association, instances, association.calling)
    except (ImageShareError, IdentifierRefused) as error:
        inquiry.refuse(association, message, error, "read", INSTANCES_TRANSFERRED)
        return
    progress = Progress(association, message, len(instances))
    source = Stored(association.node.blobs, TRANSCODER)
    routes = Routes((each for each in association.contexts.values() if each.scp), source)
    for number, instance in enumerate(instances):
        if progress.cancelled:
            progress.finish(cancelled=True)
            return
        if number + 1 < len(instances):
            source.read_ahead(instances[number + 1])
        progress.settle(instance, *_stored(association, source, routes, instance))
    progress.finish()


def _stored(
    association: Association, source: Stored, routes: Routes[StoredInstance], instance: StoredInstance
) -> tuple[int | None, str]:
    """One sub-operation: the status of its response, or None and why there is none. Raises `Ended`."""
    route = routes.of(instance)
    if route is None:
        return None, "no context was agreed on in which it could be stored"
    try:
        payload = source.payload(instance, route[1])
    except ImageShareError as error:
        return None, error.short
    answer = association.perform(association.contexts[route[0]], request(instance, None), payload)
    return answer.status, answer.error_comment


SERVICE: Final = Service(
    name="Retrieve (C-GET)",
    permission="retrieve",
    abstract_syntaxes=frozenset(model.get for model in MODELS),
    commands={CommandField.C_GET_RQ: get},
    extended=inquiry.agreed_retrieval,
)
