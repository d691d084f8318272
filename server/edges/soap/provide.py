"""The Document Repository and the Document Recipient as they receive: Provide and Register Document Set-b (ITI-41), which is RAD-68 too."""

from collections.abc import Sequence

from lxml.etree import _Element
from sqlalchemy import Connection
from starlette.requests import Request

from ihe import ebrs, iti41
from ihe.ebrs import SUCCESS, RegistryError, RegistryRefusal, RegistryResponse
from ihe.ebxml import Reading
from ihe.mtom import MtomError
from ihe.multipart import PartStart
from ihe.soap import Envelope, SoapFault
from profiles.audit_event import ITI_41
from profiles.document import Submission
from server.access.decisions import Decision, Interaction
from server.edges import context
from server.edges.context import Note
from server.edges.soap.registering import asked_to_register
from server.edges.soap.transaction import Answer, Transaction
from server.errors import ImageShareError
from server.work import provide
from server.work.arriving_documents import ArrivingDocuments
from server.work.documents import DOCUMENT_TYPE
from server.work.foreign_registry import ForeignRegistry
from server.work.registry.register import Done

_STRANGE = 100
"""Parts that nothing leads to, of which the answer tells."""


class Providing:
    """One message whose envelope is there. What is wrong with it is told when its last part has been read (`Attachments`)."""

    def __init__(self, request: Request, decision: Decision, envelope: Envelope) -> None:
        self._request, self._decision, self._told = request, decision, asked_to_register(envelope)
        self._arrived = ArrivingDocuments(context.node(request).ingest)
        self._ids: dict[str, str] = {}
        """Of the documents, by the Content-IDs of their parts."""
        self._strange: list[str] = []
        self._refused: Exception | None = None
        self._submission = Submission()
        try:
            self._read(request, decision, envelope)
        except (RegistryRefusal, ImageShareError) as error:
            self._refused = error

    def _read(self, request: Request, decision: Decision, envelope: Envelope) -> None:
        decision.require(DOCUMENT_TYPE, Interaction.CREATE)
        reading = Reading()
        try:
            self._submission, documents = iti41.parse_request(envelope.body, reading)
        except MtomError as error:
            raise SoapFault("Sender", str(error)) from None
        provide.check(context.node(request).domain, self._submission, documents, reading)
        for each in documents:
            if each.content is None:
                self._ids[each.content_id] = each.id
            else:
                self._arrived.begin(each.id)
                self._arrived.take(each.content)
                self._arrived.end()

    def begin(self, part: PartStart) -> None:
        """ITI TF-2 appendix V.3.6: a part is known by its Content-ID."""
        id_ = self._ids.pop(part.content_id, "")
        if self._refused is None and id_:
            self._arrived.begin(id_)
        elif not id_ and len(self._strange) < _STRANGE:
            self._strange.append(part.content_id)

    def take(self, data: memoryview) -> None:
        """Of a part that nothing leads to, or of a message that is refused, nothing is kept."""
        self._arrived.take(data)

    def end(self) -> None:
        """The part is complete."""
        self._arrived.end()

    def answer(self) -> Answer:
        """ITI TF-2 section 3.41.4.1.3: all of it is kept and registered, or nothing."""
        if self._refused is not None:
            raise self._refused
        node = context.node(self._request)
        submission = provide.completed(self._submission, self._arrived.kept(), self._strange, node.installation.repository)

        def recorded(connection: Connection, patient: str) -> None:
            note = Note("create", ITI_41, self._told, frozenset([patient]))
            context.noted(self._request, [note], connection, rest=False)

        if node.settings.foreign_registry:
            registry = ForeignRegistry(node.settings, node.database, node.writes, node.trail)
            said = registry.provide(self._decision, submission, self._arrived, recorded)
            return Answer(ebrs.to_element(said), said.errors)

        def done(connection: Connection, registered: Done) -> None:
            recorded(connection, registered.patient)

        provide.provide(node.writes, node.domain, self._decision, submission, self._arrived, done)
        return Answer(ebrs.to_element(RegistryResponse(SUCCESS)))

    def abort(self) -> None:
        """Leaves nothing that is not registered."""
        self._arrived.discard()


def _without_mtom(request: Request, decision: Decision, envelope: Envelope) -> Answer:
    """ITI TF-2 section 3.41.4.1.2: the message is MTOM, also where a document stands in its envelope."""
    raise SoapFault(
        "Sender",
        "Provide and Register Document Set-b has to be sent as MTOM (ITI TF-2 section 3.41.4.1.2): "
        'multipart/related; type="application/xop+xml"; switch MTOM on in the Document Source',
    )


def _failed(errors: Sequence[RegistryError]) -> _Element:
    return ebrs.to_element(ebrs.response_to(errors, results=False))


PROVIDE_AND_REGISTER = Transaction(
    action=iti41.REQUEST_ACTION,
    response_action=iti41.RESPONSE_ACTION,
    subtype=ITI_41,
    kind="create",
    actor="Repository",
    mtom=True,
    answer=_without_mtom,
    failed=_failed,
    asked=asked_to_register,
    receive=Providing,
    submits=True,
)
