"""Retrieve over the requesting association (PS3.4 section C.4.3): C-GET, its C-STORE sub-operations with the roles changed."""

from dataclasses import dataclass
from typing import Final

from ihe.dimse import CommandField
from profiles.audit_event import INSTANCES_TRANSFERRED
from profiles.query_retrieve import MODELS, IdentifierRefused
from server.edges.dimse import inquiry, retrieval
from server.edges.dimse.retrieval import TRANSCODER, Progress
from server.edges.dimse.service import Association, Message, Service
from server.errors import ImageShareError
from server.outbound.delivery import Payload, Routes, request
from server.outbound.transfer import Stored
from server.records.catalogue import StoredInstance


def get(association: Association, message: Message) -> None:
    """PS3.4 section C.4.3.3: each instance is stored by the requestor before the next is sent; a cancel takes effect between two.

    While the requestor stores one the next is read, so that it has not to wait for us.
    """
    try:
        _, instances = retrieval.selected(association, message)
        retrieval.told(association, instances, association.calling)
    except (ImageShareError, IdentifierRefused) as error:
        inquiry.refuse(association, message, error, "read", INSTANCES_TRANSFERRED)
        return
    progress = Progress(association, message, len(instances))
    source = Stored(association.node.blobs, TRANSCODER)
    routes = Routes((each for each in association.contexts.values() if each.scp), source)
    waiting = iter(instances)
    ready = _made_ready(source, routes, next(waiting, None))
    while ready is not None:
        if progress.cancelled:
            progress.finish(cancelled=True)
            return
        here, number = ready, None
        if here.context_id is not None:
            number = association.invoke(association.contexts[here.context_id], request(here.instance, None), here.payload)
        try:
            ready = _made_ready(source, routes, next(waiting, None))
        except BaseException:
            if number is not None:
                association.answer(number)  # nothing else may be said before it
            raise
        if number is None:
            progress.settle(here.instance, None, here.refusal)
        else:
            answer = association.answer(number)
            progress.settle(here.instance, answer.status, answer.error_comment)
    progress.finish()


@dataclass(frozen=True, slots=True)
class _Ready:
    """An instance whose Data Set is at hand, or why it is not: `context_id` is None then."""

    instance: StoredInstance
    context_id: int | None = None
    payload: Payload = b""
    refusal: str = ""


def _made_ready(source: Stored, routes: Routes[StoredInstance], instance: StoredInstance | None) -> _Ready | None:
    if instance is None:
        return None
    route = routes.of(instance)
    if route is None:
        return _Ready(instance, refusal="no context was agreed on in which it could be stored")
    try:
        return _Ready(instance, route[0], source.payload(instance, route[1]))
    except ImageShareError as error:
        return _Ready(instance, refusal=error.short)
    except OSError as error:
        return _Ready(instance, refusal=f"it cannot be read: {(error.strerror or type(error).__name__).lower()}")


SERVICE: Final = Service(
    name="Retrieve (C-GET)",
    permission="retrieve",
    abstract_syntaxes=frozenset(model.get for model in MODELS),
    commands={CommandField.C_GET_RQ: get},
    extended=inquiry.agreed_retrieval,
)
