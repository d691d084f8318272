"""What a SOAP transaction is to its endpoint, and what it answers."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from lxml.etree import _Element
from starlette.requests import Request

from ihe.ebrs import RegistryError
from ihe.mtom import Attachment
from ihe.multipart import PartStart
from ihe.soap import Envelope
from profiles.audit_event import AuditedEntity, Kind, Subtype
from server.access.decisions import Decision
from server.edges.bodies import Piece
from server.errors import Busy, ImageShareError, StorageFull
from server.settings import Settings


def _nothing(_: Attachment) -> Iterable[Piece]:
    return ()


@dataclass(frozen=True, slots=True)
class Answer:
    """A payload, as an element or as it is sent, and its attachments, whose bytes `content` gives. `errors` are those in the payload, for the trail,
    `withheld` the patients (resource ids) whose data were asked for and not given.

    `close` is called when the answer was sent, or could not be.
    """

    body: _Element | bytes
    errors: tuple[RegistryError, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    content: Callable[[Attachment], Iterable[Piece]] = _nothing
    close: Callable[[], None] = lambda: None
    withheld: frozenset[str] = frozenset()


class Attachments(Protocol):
    """What takes the attachments of a message as they arrive, and answers it at its end. The methods block. The envelope is emptied once it is made.

    For each `begin`, any number of `take`, `end`; then `answer`, which may raise what `Transaction.answer` may. `abort` comes last, whatever
    happened, and leaves nothing of what was not answered.
    """

    def begin(self, part: PartStart) -> None: ...
    def take(self, data: memoryview) -> None: ...
    def end(self) -> None: ...
    def answer(self) -> Answer: ...
    def abort(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Transaction:
    """One transaction: its actions, how the trail calls it, whether it answers in MTOM.

    `answer` puts what it discloses into the trail itself; it may raise `RegistryRefusal` or `ImageShareError`, which `failed`
    makes a payload of. `asked` is what the trail keeps of a request that was refused. `actor` is in the error codes' names.
    `receive` is there where attachments are taken: what an MTOM message goes to as soon as its envelope is there.
    `submits` says that its envelope may be as large as a submission's.
    """

    action: str
    response_action: str
    subtype: Subtype
    kind: Kind
    actor: Literal["Registry", "Repository"]
    mtom: bool
    answer: Callable[[Request, Decision, Envelope], Answer]
    failed: Callable[[Sequence[RegistryError]], _Element | bytes]
    asked: Callable[[Envelope], tuple[AuditedEntity, ...]]
    receive: Callable[[Request, Decision, Envelope], Attachments] | None = None
    submits: bool = False

    def limit(self, settings: Settings) -> int:
        """Bytes that its envelope may have."""
        return settings.max_submission_bytes if self.submits else settings.max_message_bytes

    def error(self, error: ImageShareError) -> RegistryError:
        """ITI TF-3 table 4.2.4.1-2: `error` in ebRS terms."""
        match error:
            case Busy():
                return RegistryError(f"XDS{self.actor}Busy", error.detail)
            case StorageFull():
                return RegistryError(f"XDS{self.actor}OutOfResources", error.detail)
        return RegistryError(f"XDS{self.actor}Error", error.detail)
