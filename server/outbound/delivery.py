"""PS3.4 annex B: instances to a peer by C-STORE, wherever they lie. Files and stored instances are both sent by this.

Their Data Sets go byte for byte as they are; what a peer does not take so, the source may have in another transfer syntax. While an
answer is awaited the next instance is made ready, and a peer that grants an asynchronous window gets several ahead.
"""

import ssl
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

from pydicom.uid import UID

from ihe.dimse import Command, CommandField
from ihe.pdu import ProposedContext
from server import association
from server.association import Accepted, Association, Ended, Limits
from server.errors import ImageShareError
from server.outbound.calling import end

MAX_CONTEXTS: Final = 128
WHOLE: Final = 4 << 20
"""Data Sets up to this length are read in one piece."""
WINDOW: Final = 16
"""PS3.7 annex D.3.3.3: the operations that we would invoke before the first of them is answered; a peer may grant fewer, or none."""

_MEDIUM: Final = 0

Payload = bytes | Iterable[bytes]


class Interrupted(Exception):
    """`Delivery.between` raised; what it raised is the cause."""


class Destination(Protocol):
    """Where a peer is called: `host` and `port`, and its AE title."""

    @property
    def ae_title(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...


class Sendable(Protocol):
    """An instance: its SOP Class and SOP Instance UIDs, and the transfer syntax that it is in."""

    @property
    def sop_class(self) -> str: ...
    @property
    def uid(self) -> str: ...
    @property
    def transfer_syntax(self) -> str: ...


Instance = TypeVar("Instance", bound=Sendable)
_Any_contra = TypeVar("_Any_contra", bound=Sendable, contravariant=True)


class Source(Protocol[_Any_contra]):
    """Where Data Sets come from. `otherwise` are transfer syntaxes that it may be able to turn an instance into."""

    @property
    def otherwise(self) -> tuple[str, ...]: ...

    def acceptable(self, instance: _Any_contra, wanted: Sequence[str]) -> str | None:
        """The one of `wanted` that this instance can be had in, None for none."""

    def payload(self, instance: _Any_contra, syntax: str) -> Payload:
        """The Data Set in that transfer syntax. It, and its pieces, raise `ImageShareError` or `OSError`."""


@dataclass(frozen=True, slots=True)
class Delivered(Generic[Instance]):
    """How it went with one instance. `status` is the peer's, None where it was not even sent; `reason` is in words."""

    instance: Instance
    status: int | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Delivery(Generic[Instance]):
    """What is needed besides the instances.

    `originator` is who asked for it by C-MOVE, AE title and Message ID (PS3.7 section 9.1.1.1). `between` is called now and then
    while a long Data Set is sent.
    """

    destination: Destination
    calling: str
    source: Source[Instance]
    originator: tuple[str, int] | None = None
    tls: ssl.SSLContext | None = None
    limits: Limits = field(default_factory=Limits)
    between: Callable[[], object] = lambda: None


def deliver(instances: Sequence[Instance], delivery: Delivery[Instance]) -> Generator[Delivered[Instance]]:
    """PS3.4 section B.2: sends instances in their order, and tells of each as soon as that is known; raises nothing of the
    peer's, only `Interrupted`.

    In as many associations as their presentation contexts take; after a loss in another one, as long as each achieves something.
    Closing the iterator releases the association.
    """
    for group in groups(instances, delivery.source.otherwise):
        waiting = deque(group)
        while waiting:
            before = len(waiting)
            try:
                opened = _opened(waiting, delivery)
            except Ended as error:
                yield from (Delivered(each, None, str(error)) for each in waiting)
                break
            try:
                yield from _Sender(opened, waiting, delivery).results()
            finally:
                end(opened)
            if len(waiting) == before:
                yield from (Delivered(each, None, "the peer ends the association") for each in waiting)
                break


def groups(instances: Iterable[Instance], otherwise: tuple[str, ...] = ()) -> list[list[Instance]]:
    """PS3.8 section 7.1.1.13: the instances in their order, cut where they would need more than 128 presentation contexts."""
    found: list[list[Instance]] = [[]]
    pairs: set[tuple[str, str]] = set()
    for each in instances:
        pair = (each.sop_class, each.transfer_syntax)
        if pair not in pairs:
            wanted = pairs | {pair}
            if len(wanted) + (len({sop_class for sop_class, _ in wanted}) if otherwise else 0) > MAX_CONTEXTS:
                found.append([])
                wanted = {pair}
            pairs = wanted
        found[-1].append(each)
    return found if found[0] else []


def proposed(instances: Iterable[Sendable], otherwise: tuple[str, ...] = ()) -> list[ProposedContext]:
    """Each pair of SOP Class and Transfer Syntax by itself, and each SOP Class in `otherwise`, for what must be transcoded."""
    pairs = dict.fromkeys((each.sop_class, each.transfer_syntax) for each in instances)
    wanted: list[tuple[str, tuple[str, ...]]] = [(sop_class, (syntax,)) for sop_class, syntax in pairs]
    if otherwise:
        wanted += [(sop_class, otherwise) for sop_class in dict.fromkeys(sop_class for sop_class, _ in pairs)]
    return [ProposedContext(2 * number + 1, *each) for number, each in enumerate(wanted)]


def request(instance: Sendable, message_id: int | None, originator: tuple[str, int] | None = None) -> Command:
    """PS3.7 section 9.3.1.1: the C-STORE-RQ of one instance."""
    title, asked = originator or ("", None)
    return Command(
        field=CommandField.C_STORE_RQ, message_id=message_id, priority=_MEDIUM, affected_sop_class_uid=instance.sop_class,
        affected_sop_instance_uid=instance.uid, has_data_set=True, move_originator=title, move_originator_message_id=asked,
    )  # fmt: skip


class Routes(Generic[Instance]):
    """Which accepted context an instance goes by: its own transfer syntax if there is one, else what it can be turned into."""

    def __init__(self, contexts: Iterable[Accepted], source: Source[Instance]) -> None:
        self._source = source
        self._contexts: dict[str, dict[str, int]] = {}
        for each in contexts:
            self._contexts.setdefault(each.abstract_syntax, {}).setdefault(each.transfer_syntax, each.id)

    def of(self, instance: Instance) -> tuple[int, str] | None:
        """Context id and Transfer Syntax; None where the peer takes the instance in no form that it can have."""
        accepted = self._contexts.get(instance.sop_class, {})
        syntax: str | None = instance.transfer_syntax
        if syntax not in accepted:
            syntax = self._source.acceptable(instance, tuple(accepted)) if accepted else None
        return None if syntax is None else (accepted[syntax], syntax)


def _opened(instances: Iterable[Instance], delivery: Delivery[Instance]) -> Association:
    to = delivery.destination
    return association.connect(
        to.host, to.port, calling=delivery.calling, called=to.ae_title, contexts=proposed(instances, delivery.source.otherwise),
        operations=(WINDOW, 1), tls=delivery.tls, limits=delivery.limits,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Ready(Generic[Instance]):
    """An instance whose Data Set is at hand, or why it is not."""

    instance: Instance
    context_id: int = 0
    payload: Payload = b""
    refusal: str = ""


class _Sender(Generic[Instance]):
    """One association's C-STORE operations. Takes out of `waiting` what is told of; what is left is for another association."""

    def __init__(self, opened: Association, waiting: deque[Instance], delivery: Delivery[Instance]) -> None:
        self._opened, self._waiting, self._delivery = opened, waiting, delivery
        self._routes = Routes(opened.contexts.values(), delivery.source)
        self._window = _granted(opened)
        self._unanswered: dict[int, Instance] = {}
        self._ready: _Ready[Instance] | None = None

    def results(self) -> Iterator[Delivered[Instance]]:
        """Until the association or the instances end."""
        try:
            while self._waiting or self._ready or self._unanswered:
                if self._ready is None and self._waiting:
                    self._ready = self._made_ready(self._waiting.popleft())
                if self._ready is None or len(self._unanswered) >= self._window:
                    yield self._answered()
                elif (told := self._sent()) is not None:
                    yield told
                if not self._opened.established:
                    break
        finally:
            self._left_over()

    def _made_ready(self, instance: Instance) -> _Ready[Instance]:
        route = self._routes.of(instance)
        if route is None:
            names = f"{UID(instance.sop_class).name} in {UID(instance.transfer_syntax).name}"
            return _Ready(instance, refusal=f"the peer does not take {names}")
        try:
            return _Ready(instance, route[0], self._delivery.source.payload(instance, route[1]))
        except (ImageShareError, OSError) as error:
            return _Ready(instance, refusal=_cannot(error))

    def _sent(self) -> Delivered[Instance] | None:
        """PS3.7 section 9.1.1: the request of what is ready. Tells of an instance that fails by that."""
        ready, self._ready = self._ready, None
        assert ready is not None
        if ready.refusal:
            return Delivered(ready.instance, None, ready.refusal)
        message_id = self._opened.next_message_id()
        self._unanswered[message_id] = ready.instance
        command = request(ready.instance, message_id, self._delivery.originator)
        try:
            self._opened.send(ready.context_id, command, _watched(ready.payload, self._delivery.between))
        except Ended as error:
            return self._lost(str(error))
        except (ImageShareError, OSError) as error:
            self._opened.abort()  # in the middle of a message there is no other way out
            return Delivered(self._unanswered.pop(message_id), None, _cannot(error))
        except BaseException:
            self._opened.abort()
            raise
        return None

    def _answered(self) -> Delivered[Instance]:
        try:
            answer = self._opened.receive().command
        except Ended as error:
            return self._lost(str(error))
        if answer.field != CommandField.C_STORE_RSP or answer.responded_to not in self._unanswered or answer.status is None:
            self._opened.abort()
            return self._lost("the peer answered something else")
        return Delivered(self._unanswered.pop(answer.responded_to), answer.status, answer.error_comment)

    def _lost(self, reason: str) -> Delivered[Instance]:
        """The oldest without an answer is what the peer has failed at; the others are sent again."""
        return Delivered(self._unanswered.pop(next(iter(self._unanswered))), None, reason)

    def _left_over(self) -> None:
        """What has no answer goes back in its place; an association that goes on is read to its last answer before its release."""
        left = [*self._unanswered.values(), *([self._ready.instance] if self._ready else [])]
        self._waiting.extendleft(reversed(left))
        while self._unanswered and self._opened.established:
            self._answered()


def _granted(opened: Association) -> int:
    """PS3.7 annex D.3.3.3.2: the operations that the peer lets us invoke; 1 where it says nothing, any number where it says 0."""
    operations = opened.peer.user.operations if opened.peer is not None else None
    return min((operations[0] or WINDOW) if operations else 1, WINDOW)


def _cannot(error: ImageShareError | OSError) -> str:
    if isinstance(error, ImageShareError):
        return error.detail
    return f"it cannot be read: {(error.strerror or type(error).__name__).lower()}"


def _watched(payload: Payload, between: Callable[[], object]) -> Payload:
    if isinstance(payload, bytes):
        return payload
    return _calling(payload, between)


def _calling(pieces: Iterable[bytes], between: Callable[[], object]) -> Iterator[bytes]:
    for piece in pieces:
        try:
            between()
        except Exception as error:
            raise Interrupted from error
        yield piece
