"""Retrieve to a third party (PS3.4 section C.4.2): C-MOVE, its C-STORE sub-operations over an association of our own."""

from contextlib import closing
from typing import Final

from ihe.dimse import CommandField
from profiles.audit_event import INSTANCES_TRANSFERRED
from profiles.query_retrieve import MODELS, IdentifierRefused
from server.association import Limits
from server.edges.dimse import inquiry, retrieval
from server.edges.dimse.retrieval import TRANSCODER, Progress
from server.edges.dimse.service import Association, Message, Service
from server.errors import ImageShareError
from server.outbound.calling import tls_context
from server.outbound.delivery import Delivery, Interrupted, deliver
from server.outbound.transfer import Stored
from server.records.catalogue import StoredInstance
from server.records.peers import Peer


def move(association: Association, message: Message) -> None:
    """PS3.4 section C.4.2.3: sends what is named to the Move Destination, which must be a known peer (else 0xA801)."""
    node = association.node
    title = message.command.move_destination
    try:
        _, instances = retrieval.selected(association, message)
        destination = node.peers.destination(title)
        if destination is None:
            _unknown(association, message)
            return
        retrieval.told(association, instances, destination.ae_title)
    except (ImageShareError, IdentifierRefused) as error:
        inquiry.refuse(association, message, error, "read", INSTANCES_TRANSFERRED)
        return
    progress = Progress(association, message, len(instances))
    delivery = _delivery(association, message, destination, progress)
    try:
        with closing(deliver(instances, delivery)) as results:
            for result in results:
                progress.settle(result.instance, result.status, result.reason)
                if progress.remaining and progress.cancelled:
                    progress.finish(cancelled=True)
                    return
    except Interrupted as error:
        raise error.__cause__ or error from None
    progress.finish()


def _delivery(association: Association, message: Message, destination: Peer, progress: Progress) -> Delivery[StoredInstance]:
    node = association.node
    return Delivery(
        destination, node.settings.ae_title, Stored(node.blobs, TRANSCODER), (association.calling, message.command.message_id or 0),
        tls=tls_context(destination, node.settings), limits=Limits(silence=node.settings.association_idle), between=progress.pend,
    )  # fmt: skip


def _unknown(association: Association, message: Message) -> None:
    """PS3.4 table C.4-2: nobody is called at a place that only the request names."""
    reason = "the Move Destination is not a peer that can be called"
    inquiry.denied(association, "read", INSTANCES_TRANSFERRED, reason, inquiry.asked(message))
    told = inquiry.response(message, inquiry.DESTINATION_UNKNOWN, comment=reason)
    association.respond(message.context, told)


SERVICE: Final = Service(
    name="Retrieve (C-MOVE)",
    permission="retrieve",
    abstract_syntaxes=frozenset(model.move for model in MODELS),
    commands={CommandField.C_MOVE_RQ: move},
    extended=inquiry.agreed_retrieval,
)
