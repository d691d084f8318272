"""PS3.4 annex B: sending files by C-STORE, their Data Sets byte for byte as they are."""

import logging
import queue
import socket
import ssl
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydicom.uid import UID
from pynetdicom import _config, evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE, DimsePrimitiveType, DimseServiceType
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import build_context
from pynetdicom.status import code_to_category
from pynetdicom.transport import T_CONNECT, AddressInformation, AssociationSocket

from profiles.vocabulary import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from server.outbound.files import Outgoing, Sent, meaning, sorted_out

MAX_CONTEXTS = 128
MAX_FRAGMENT = 1 << 18

# A path given to `send_c_store` is sent as it stands in the file; otherwise pynetdicom decodes and encodes it anew.
_config.STORE_SEND_CHUNKED_DATASET = True


def send(
    paths: Iterable[Path], host: str, port: int, *, called: str, calling: str = "IMAGESHARE", timeout: float = 120.0
) -> Iterator[Sent]:
    """PS3.4 section B.2: sends files to the AE `called` at `host:port`, and tells of each as soon as it is answered.

    Proposes what the files need, one presentation context for each pair of SOP Class and Transfer Syntax, in as many associations
    as that takes. Whatever fails is in the result of the file: nothing is raised. `timeout` in seconds is for each answer.
    """
    if logging.getLogger("pynetdicom").level == logging.NOTSET:
        logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)  # what it has to say is in the results
    files, skipped = sorted_out(paths)
    yield from skipped
    peer = _Peer(host, port, called, calling, timeout)
    for group in _groups(files):
        yield from peer.transfer(group)


def _groups(files: list[Outgoing]) -> list[list[Outgoing]]:
    """PS3.8 section 7.1.1.13: files in groups that need at most 128 presentation contexts each."""
    numbers: dict[tuple[str, str], int] = {}
    groups: list[list[Outgoing]] = []
    for file in files:
        number = numbers.setdefault(_pair(file), len(numbers)) // MAX_CONTEXTS
        if number == len(groups):
            groups.append([])
        groups[number].append(file)
    return groups


def _pair(file: Outgoing) -> tuple[str, str]:
    return file.sop_class_uid, file.transfer_syntax_uid


class _Peer:
    def __init__(self, host: str, port: int, called: str, calling: str, timeout: float) -> None:
        self._host, self._port, self._called = host, port, called
        self._entity = _Entity(calling)
        self._entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        self._entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        self._entity.acse_timeout = self._entity.connection_timeout = 30.0
        self._entity.dimse_timeout = self._entity.network_timeout = timeout

    def transfer(self, files: list[Outgoing]) -> Iterator[Sent]:
        """One association; after a loss another one for the rest, as long as the peer grants it."""
        waiting = deque(files)
        while waiting:
            try:
                association = self._associate(waiting)
                reason = "" if association.is_established else _why_not(association)
            except OSError:
                reason = "no association: there is no such host"
            if reason:
                yield from (Sent(file.path, 0, ok=False, reason=reason) for file in waiting)
                return
            try:
                accepted = {(str(each.abstract_syntax), str(each.transfer_syntax[0])) for each in association.accepted_contexts}
                number = 0
                while waiting and association.is_established:
                    number = number % 65535 + 1
                    yield _store(association, waiting.popleft(), number, accepted)
            finally:
                if association.is_established:
                    association.release()

    def _associate(self, files: Iterable[Outgoing]) -> Association:
        contexts = [build_context(*pair) for pair in dict.fromkeys(map(_pair, files))]
        handlers: list[evt.EventHandlerType] = [(evt.EVT_REQUESTED, _requested)]
        return self._entity.associate(self._host, self._port, contexts, ae_title=self._called, evt_handlers=handlers)


def _store(association: Association, file: Outgoing, number: int, accepted: set[tuple[str, str]]) -> Sent:
    """PS3.7 section 9.1.1: one C-STORE operation."""
    if _pair(file) not in accepted:
        names = f"{UID(file.sop_class_uid).name} in {UID(file.transfer_syntax_uid).name}"
        return Sent(file.path, 0, ok=False, reason=f"the peer does not take {names}")
    try:
        answer = association.send_c_store(file.path, number)
    except (OSError, ValueError, RuntimeError, AttributeError) as error:
        return Sent(file.path, 0, ok=False, reason=f"it cannot be sent: {type(error).__name__}")
    status = answer.get("Status")
    if status is None:
        return Sent(file.path, 0, ok=False, reason="the association ended before the answer")
    if code_to_category(status) in ("Success", "Warning"):
        return Sent(file.path, file.size, ok=True, status=status)
    comment = str(answer.get("ErrorComment", ""))
    return Sent(
        file.path, file.size, ok=False, status=status, reason=f"{meaning(status)}: {comment}" if comment else meaning(status)
    )


def _why_not(association: Association) -> str:
    answer = association.acceptor.primitive
    if association.is_rejected and isinstance(answer, A_ASSOCIATE):
        return f"association rejected: {answer.reason_str}"
    if isinstance(answer, A_ASSOCIATE) and answer.result == 0:
        return "the peer takes none of these SOP Classes in their transfer syntaxes"
    return "no association: there is no answer at this address"


def _requested(event: evt.Event) -> None:
    event.assoc.dimse = _Sender(event.assoc)


class _Entity(ApplicationEntity):
    def _create_socket(
        self, assoc: Association, address: AddressInformation, tls_args: tuple[ssl.SSLContext, str] | None
    ) -> AssociationSocket:
        made = _Socket(assoc, address=address)
        made.tls_args = tls_args
        return made


class _Socket(AssociationSocket):
    def connect(self, primitive: T_CONNECT) -> None:
        """Sends the short end of a message at once, whatever Nagle's algorithm would have it wait for."""
        if self.socket is not None:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().connect(primitive)

    def _shutdown_socket(self) -> None:
        """Closes also what was never connected."""
        connection = self.socket
        super()._shutdown_socket()
        if connection is not None:
            connection.close()


class _Sender(DIMSEServiceProvider):
    """Sends fragments of at most `MAX_FRAGMENT` bytes, and reads no further ahead than a few of them."""

    @property
    def maximum_pdu_size(self) -> int:
        return min(super().maximum_pdu_size or MAX_FRAGMENT, MAX_FRAGMENT)

    def get_msg(self, block: bool = False) -> tuple[int, DimseServiceType] | tuple[None, None]:
        """The next answer; none as soon as the connection is gone, which pynetdicom would wait out until its timeout."""
        deadline = time.monotonic() + (self.dimse_timeout or float("inf"))
        while True:
            try:
                return self.msg_queue.get(block=block, timeout=0.1)
            except queue.Empty:
                if not block or not self.dul.is_alive() or time.monotonic() > deadline:
                    return None, None

    def send_msg(self, primitive: DimsePrimitiveType, context_id: int) -> None:
        if not isinstance(primitive, C_STORE) or primitive.MessageIDBeingRespondedTo is not None:
            super().send_msg(primitive, context_id)
            return
        message = C_STORE_RQ()
        message.primitive_to_message(primitive)
        for fragment in message.encode_msg(context_id, self.maximum_pdu_size):
            while self.dul.to_provider_queue.qsize() > 4 and self.dul.is_alive():
                time.sleep(0.0005)
            self.dul.send_pdu(fragment)
