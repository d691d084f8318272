"""Associations that we request, and both ends of one against each other: real sockets, dcmtk and pynetdicom as peers."""

import contextlib
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom.uid import JPEG2000, CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.presentation import build_role

from ihe.dimse import Command, CommandField
from ihe.pdu import (
    Abort,
    AnsweredContext,
    AssociateAccept,
    AssociateReject,
    AssociateRequest,
    ProposedContext,
    ReleaseRequest,
    Role,
    UserInformation,
    decode,
    encode,
)
from server.association import (
    Aborted,
    Accepted,
    Association,
    Ended,
    Limits,
    Lost,
    ProtocolError,
    Rejected,
    Released,
    TimedOut,
    Unreachable,
    connect,
)

VERIFICATION = "1.2.840.10008.1.1"
CONTEXTS = (
    ProposedContext(1, VERIFICATION, (ExplicitVRLittleEndian, "1.2.840.10008.1.2")),
    ProposedContext(3, CTImageStorage, (ExplicitVRLittleEndian,)),
    ProposedContext(5, CTImageStorage, (JPEG2000,)),
)
ECHO = Command(field=CommandField.C_ECHO_RQ, message_id=1, affected_sop_class_uid=VERIFICATION)
STORE = Command(
    field=CommandField.C_STORE_RQ, message_id=2, priority=0, affected_sop_class_uid=CTImageStorage,
    affected_sop_instance_uid="1.2.3",
)  # fmt: skip


def to(port: int, **changes: object) -> Association:
    named: dict[str, object] = {"calling": "US", "called": "THEM", "contexts": CONTEXTS, **changes}
    return connect("127.0.0.1", port, **named)  # type: ignore[arg-type]


def echoed(association: Association) -> int | None:
    association.send(1, ECHO)
    return association.receive().command.status


@contextmanager
def pynetdicom(*handlers: evt.EventHandlerType, **roles: bool) -> Iterator[int]:
    entity = AE("THEM")
    entity.require_called_aet = True
    entity.add_supported_context(VERIFICATION)
    entity.add_supported_context(CTImageStorage, ExplicitVRLittleEndian, **roles)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=list(handlers))
    assert server is not None
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()


@contextmanager
def talking(answer: Callable[[socket.socket], object]) -> Iterator[int]:
    """A peer of one connection that does what `answer` says."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(30)


def whole(connection: socket.socket) -> tuple[int, bytes]:
    header = connection.recv(6, socket.MSG_WAITALL)
    kind, length = struct.unpack(">BxL", header)
    return kind, connection.recv(length, socket.MSG_WAITALL) if length else b""


def accepted(connection: socket.socket, max_length: int = 0) -> None:
    request = decode(*whole(connection))
    assert isinstance(request, AssociateRequest)
    contexts = tuple(AnsweredContext(each.id, 0, each.transfer_syntaxes[0]) for each in request.contexts)
    connection.sendall(
        encode(AssociateAccept(called="THEM", calling="US", contexts=contexts, user=UserInformation(max_length=max_length)))
    )


@contextmanager
def pair(**limits: float) -> Iterator[tuple[Association, Association]]:
    """Requestor and acceptor, both ours, over a socket pair."""
    ours, theirs = socket.create_server(("127.0.0.1", 0)), None
    with ours:
        made: list[Association] = []

        def request() -> None:
            made.append(to(ours.getsockname()[1], limits=Limits(**limits) if limits else None))  # type: ignore[arg-type]

        thread = threading.Thread(target=request)
        thread.start()
        theirs, _ = ours.accept()
        asked = decode(*whole(theirs))
        assert isinstance(asked, AssociateRequest)
        acceptor = Association.requested(theirs, asked, Limits(**limits))  # type: ignore[arg-type]
        answers = tuple(AnsweredContext(each.id, 0, each.transfer_syntaxes[0]) for each in asked.contexts)
        acceptor.accept(
            AssociateAccept(called="THEM", calling="US", contexts=answers),
            [Accepted(each.id, each.abstract_syntax, each.transfer_syntaxes[0]) for each in asked.contexts],
        )
        thread.join()
    try:
        yield made[0], acceptor
    finally:
        made[0].close()
        acceptor.close()


def test_pynetdicom_answers_an_echo() -> None:
    with pynetdicom() as port:
        association = to(port)
        assert association.contexts == {
            1: Accepted(1, VERIFICATION, "1.2.840.10008.1.2"),
            3: Accepted(3, CTImageStorage, ExplicitVRLittleEndian),
        }
        assert [echoed(association) for _ in range(3)] == [0, 0, 0]
        assert association.established
        association.release()
        assert not association.established
        with pytest.raises(Lost):
            association.send(1, ECHO)


def test_storescp_stores_what_is_sent_in_pieces(tmp_path: Path, dcmtk: Callable[[str], Path], free_port: int) -> None:
    data = b"\x08\x00\x16\x00UI\x1a\x00" + CTImageStorage.encode().ljust(26, b"\0") + b"\x08\x00\x18\x00UI\x06\x001.2.3\0"
    data += b"\xe0\x7f\x10\x00OB\x00\x00" + struct.pack("<L", 1 << 20) + bytes(range(256)) * 4096
    command = [dcmtk("storescp"), "-aet", "THEM", "-od", tmp_path, "+B", "-uf", str(free_port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as scp:
        for _ in range(200):
            with contextlib.suppress(Unreachable):
                association = to(free_port)
                break
            time.sleep(0.05)
        chunks = [data[:10], b"", data[10:100_000], memoryview(data)[100_000:]]
        for pieces in (data, iter(chunks)):
            association.send(3, STORE, pieces)  # type: ignore[arg-type]
            answer = association.receive().command
            assert (answer.field, answer.status, answer.responded_to) == (CommandField.C_STORE_RSP, 0, 2)
        association.release()
        scp.terminate()
    (stored,) = tmp_path.iterdir()
    assert stored.read_bytes().endswith(data)


def test_roles_as_pynetdicom_answers_them() -> None:
    with pynetdicom(scu_role=False, scp_role=True) as port:
        association = to(port, roles=(Role(CTImageStorage, scu=True, scp=True),))
        assert association.contexts[3] == Accepted(3, CTImageStorage, ExplicitVRLittleEndian, scu=False, scp=True)
        association.release()
    assert build_role(CTImageStorage, scp_role=True).scp_role


def test_a_rejection_says_why() -> None:
    with pynetdicom() as port, pytest.raises(Rejected, match="called AE title not recognized") as caught:
        to(port, called="NOBODY")
    assert (caught.value.rejection.source, caught.value.rejection.reason) == (1, 7)


def test_an_abort_says_who() -> None:
    with pynetdicom((evt.EVT_C_ECHO, lambda event: event.assoc.abort() or 0)) as port:
        association = to(port)
        with pytest.raises(Aborted):
            echoed(association)


def test_nobody_there(free_port: int) -> None:
    with pytest.raises(Unreachable, match="refused"):
        to(free_port)
    with pytest.raises(Unreachable):
        connect("no.such.host.invalid", 104, calling="US", called="THEM", contexts=CONTEXTS)


def test_a_peer_that_never_answers() -> None:
    ended = threading.Event()
    with talking(lambda connection: (whole(connection), ended.wait(30))) as port:
        with pytest.raises(TimedOut):
            to(port, limits=Limits(artim=0.2))
        ended.set()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"", Lost),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", ProtocolError),
        (encode(AssociateReject(1, 2, 1)), Rejected),
        (encode(Abort(2, 0)), Aborted),
        (encode(ReleaseRequest()), ProtocolError),
        (struct.pack(">BxL", 2, 0xFFFFFFFF), ProtocolError),
        (struct.pack(">BxL", 2, 10) + bytes(10), ProtocolError),
        (struct.pack(">BxLLBB", 4, 6, 2, 1, 3), ProtocolError),
    ],
)
def test_an_answer_that_is_no_acceptance(answer: bytes, kind: type[Ended]) -> None:
    with talking(lambda connection: (whole(connection), connection.sendall(answer))) as port, pytest.raises(kind):
        to(port)


@pytest.mark.parametrize("longest", [0, 7, 14, 16384, 1 << 24])
def test_no_pdu_is_longer_than_the_peer_takes(longest: int) -> None:
    seen: list[int] = []
    data = bytes(range(256)) * 300

    def answer(connection: socket.socket) -> None:
        accepted(connection, longest)
        left = len(data)
        while left > 0:
            kind, body = whole(connection)
            assert kind == 4
            seen.append(len(body))
            if not body[5] & 1:
                left -= len(body) - 6
        connection.sendall(encode(Abort()))

    with talking(answer) as port:
        association = to(port)
        association.send(3, STORE, data)
        with pytest.raises(Aborted):
            association.receive()
    assert max(seen) <= max(14, min(longest or 1 << 18, 1 << 18))


def test_both_ends_exchange_messages() -> None:
    with pair() as (requestor, acceptor):
        collected = bytearray()
        requestor.send(3, STORE, bytes(300_000))
        found = acceptor.receive(collected.extend)
        assert (found.context_id, found.command.affected_sop_instance_uid, len(collected)) == (3, "1.2.3", 300_000)
        acceptor.send(3, Command(field=CommandField.C_STORE_RSP, responded_to=2, status=0), b"some identifier.")
        assert requestor.receive().data_set == b"some identifier."
        assert acceptor.arrived_command() is None
        requestor.send(1, Command(field=CommandField.C_CANCEL_RQ, responded_to=7))
        for _ in range(500):
            if (cancel := acceptor.arrived_command()) is not None:
                break
            time.sleep(0.01)
        assert cancel == (1, Command(field=CommandField.C_CANCEL_RQ, responded_to=7))


def test_a_release_that_is_asked_for() -> None:
    with pair() as (requestor, acceptor):
        thread = threading.Thread(target=requestor.release)
        thread.start()
        with pytest.raises(Released):
            acceptor.receive()
        acceptor.linger(5)
        thread.join(10)
        assert not thread.is_alive()


def test_a_release_that_both_ask_for() -> None:
    """PS3.8 section 7.2.2.3: the requestor of the association answers first."""
    with pair() as (requestor, acceptor):
        threads = [threading.Thread(target=side.release) for side in (requestor, acceptor)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert not any(thread.is_alive() for thread in threads)


def test_a_message_that_trickles_in_is_not_waited_for() -> None:
    """Each byte comes soon after the last; the message as a whole takes too long."""
    with pair(silence=0.6) as (requestor, acceptor):
        stop = threading.Event()

        def trickle() -> None:
            wire = requestor._socket
            with contextlib.suppress(OSError):
                wire.sendall(struct.pack(">BxLLBB", 4, 5006, 5002, 1, 1))
                while not stop.wait(0.05):
                    wire.sendall(b"\0")

        thread = threading.Thread(target=trickle)
        thread.start()
        with pytest.raises(TimedOut):
            acceptor.receive()
        stop.set()
        thread.join()


def test_an_association_as_a_whole_has_its_time() -> None:
    with pair(silence=30, total=0.4) as (requestor, acceptor):
        stop = threading.Event()

        def talk() -> None:
            with contextlib.suppress(Ended):
                while not stop.wait(0.02):
                    requestor.send(1, ECHO)

        thread = threading.Thread(target=talk)
        thread.start()
        with pytest.raises(TimedOut):
            while True:
                acceptor.receive()
        stop.set()
        thread.join()


def test_a_peer_that_does_not_read_is_not_waited_for() -> None:
    with pair(silence=0.3) as (requestor, _), pytest.raises(TimedOut):
        requestor.send(3, STORE, (bytes(1 << 20) for _ in range(1000)))
