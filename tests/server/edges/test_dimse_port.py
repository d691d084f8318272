"""The DICOM port's connections, threads and limits, and what services see of an association: real sockets."""

import contextlib
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from peers.imageshare import node
from peers.scanner import instances, nothing_stored, store, stored_bytes, written
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from ihe import dimse
from ihe.dimse import RESPONSE, Command, CommandField
from ihe.pdu import Abort, AssociateRequest, ProposedContext, ReleaseRequest, ReleaseResponse, encode
from server.association import Aborted, Association, Ended, Limits, Rejected, connect
from server.edges.context import Node
from server.edges.dimse import DicomPort
from server.edges.dimse.service import Association as Served
from server.edges.dimse.service import Message, Service
from server.edges.dimse.services import BY_ABSTRACT_SYNTAX, VERIFICATION
from server.errors import NotSupported

ECHO_CLASS, TEST_CLASS = "1.2.840.10008.1.1", "1.2.840.10008.5.1.4.1.2.2.1"
SYNTAXES = (ExplicitVRLittleEndian,)
CONTEXTS = (
    ProposedContext(1, ECHO_CLASS, SYNTAXES),
    ProposedContext(3, CTImageStorage, SYNTAXES),
    ProposedContext(5, TEST_CLASS, SYNTAXES),
)
ECHO = Command(field=CommandField.C_ECHO_RQ, message_id=1, affected_sop_class_uid=ECHO_CLASS)
FIND = Command(field=CommandField.C_FIND_RQ, message_id=7, affected_sop_class_uid=TEST_CLASS)


@contextmanager
def port(opened: Node, *services: Service) -> Iterator[DicomPort]:
    table = {uid: each for each in services for uid in each.abstract_syntaxes}
    made = DicomPort(opened, ("127.0.0.1", 0), services={**BY_ABSTRACT_SYNTAX, **table})
    made.start()
    try:
        yield made
    finally:
        made.stop()


def associated(scp: DicomPort, calling: str = "SCANNER", **changes: object) -> Association:
    named: dict[str, object] = {"calling": calling, "called": "IMAGESHARE", "contexts": CONTEXTS, **changes}
    return connect(*scp.address, **named)  # type: ignore[arg-type]


def echoes(scp: DicomPort) -> bool:
    association = associated(scp)
    association.send(1, ECHO)
    status = association.receive().command.status
    association.release()
    return status == 0


def until(holds: Callable[[], bool]) -> bool:
    for _ in range(1000):
        if holds():
            return True
        time.sleep(0.01)
    return False


def associations() -> int:
    return sum(thread.name == "association" for thread in threading.enumerate())


def offering(handler: Callable[[Served, Message], None], **changes: object) -> Service:
    made = Service(
        name="test", permission="query", abstract_syntaxes=frozenset({TEST_CLASS}), commands={CommandField.C_FIND_RQ: handler}
    )
    return replace(made, **changes)  # type: ignore[arg-type]


# --- connections


def test_300_idle_connections_cost_no_thread_and_keep_nobody_out(tmp_path: Path, dcmtk: Callable[[str], Path]) -> None:
    (dataset,) = instances()
    dataset.save_as(tmp_path / "one.dcm", enforce_file_format=True)
    to, echoscu, storescu = ["-aec", "IMAGESHARE", "127.0.0.1"], dcmtk("echoscu"), dcmtk("storescu")
    with node(tmp_path / "data") as opened, port(opened) as scp:
        before = threading.active_count()
        idle = [socket.create_connection(scp.address) for _ in range(300)]
        number = str(scp.address[1])
        assert subprocess.run([echoscu, *to, number], check=False, timeout=60).returncode == 0
        assert subprocess.run([storescu, *to, number, tmp_path / "one.dcm"], check=False, timeout=60).returncode == 0
        assert until(lambda: associations() == 0)
        assert threading.active_count() <= before
        assert stored_bytes(opened, dataset.SOPInstanceUID) == written(dataset)
        for each in idle:
            each.close()


def test_the_oldest_connection_goes_where_there_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.edges.dimse.port._STRANGERS", 3)
    devices = [{"ae_title": "SCANNER", "address": "192.0.2.1"}]
    with node(tmp_path / "data", devices=devices) as opened, port(opened) as scp:
        strangers = [socket.create_connection(scp.address) for _ in range(4)]
        strangers[0].settimeout(30)
        assert strangers[0].recv(1) == b""
        strangers[3].settimeout(0.1)
        with pytest.raises(TimeoutError):
            strangers[3].recv(1)
        for each in strangers:
            each.close()


def test_requests_that_are_begun_and_not_ended_do_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.edges.dimse.port._HELD", 1 << 20)
    with node(tmp_path / "data") as opened, port(opened) as scp:
        begun = [socket.create_connection(scp.address) for _ in range(8)]
        for each in begun:
            with contextlib.suppress(OSError):
                each.sendall(struct.pack(">BxL", 1, 1 << 20) + bytes(400_000))
        closed = 0
        for each in begun:
            each.settimeout(0.3)
            try:
                closed += each.recv(1) == b""
            except TimeoutError:
                pass
            except OSError:
                closed += 1
        assert closed >= 5
        assert echoes(scp)
        for each in begun:
            each.close()


@pytest.mark.parametrize(
    "said",
    [b"GET / HTTP/1.1\r\n\r\n", struct.pack(">BxL", 1, 0xFFFFFFFF), struct.pack(">BxL", 4, 6) + bytes(6),
     struct.pack(">BxL", 1, 68) + bytes(68)[:67] + b"\x20", encode(ReleaseRequest()), struct.pack(">BxL", 1, 10) + bytes(10)],
)  # fmt: skip
def test_what_is_no_request_is_aborted(tmp_path: Path, said: bytes) -> None:
    with node(tmp_path / "data") as opened, port(opened) as scp:
        with socket.create_connection(scp.address) as connection:
            connection.settimeout(30)
            connection.sendall(said)
            answer = connection.recv(10, socket.MSG_WAITALL)
            # 68 zero bytes are a request: of protocol version 0, which is rejected.
            assert answer[0] in (7, 3)
            assert answer[0] == 3 or answer == encode(Abort(0))
        assert echoes(scp)


def test_an_abort_instead_of_a_request_is_not_answered(tmp_path: Path) -> None:
    with node(tmp_path / "data") as opened, port(opened) as scp, socket.create_connection(scp.address) as connection:
        connection.settimeout(30)
        connection.sendall(encode(Abort()))
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""


def _spoken(dataset: object) -> bytes:
    """All that a device says in an association: request, echo, store, release."""
    request = AssociateRequest(called="IMAGESHARE", calling="SCANNER", contexts=CONTEXTS[:2])
    data = written(dataset)  # type: ignore[arg-type]
    announced = Command(
        field=CommandField.C_STORE_RQ, message_id=2, affected_sop_class_uid=CTImageStorage,
        affected_sop_instance_uid=str(dataset.SOPInstanceUID), has_data_set=True,  # type: ignore[attr-defined]
    )  # fmt: skip

    def p_data(context: int, control: int, value: bytes) -> bytes:
        return struct.pack(">BxLLBB", 4, len(value) + 6, len(value) + 2, context, control) + value

    return b"".join(
        (
            encode(request), p_data(1, 3, dimse.encode(ECHO)), p_data(3, 3, dimse.encode(announced)),
            p_data(3, 0, data[:500]), p_data(3, 2, data[500:]), encode(ReleaseRequest()),
        )
    )  # fmt: skip


def _hear_out(connection: socket.socket) -> bytes:
    heard = b""
    connection.settimeout(30)
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(4096):
            heard += piece
            if heard.endswith((encode(ReleaseResponse()), encode(Abort(2, 1)), encode(Abort(2, 2)))):
                break
    return heard


@pytest.mark.parametrize("ending", ["close", "reset", "abort"])
def test_an_association_cut_at_every_byte(tmp_path: Path, ending: str) -> None:
    """Neither a thread, a connection nor a part of an instance is left, and the port goes on."""
    (dataset,) = instances()
    spoken = _spoken(dataset)
    whole = len(spoken) - 10
    cuts = [*range(0, 640, 1 if ending == "close" else 7), *range(640, whole, 131), whole - 1]
    with node(tmp_path / "data") as opened, port(opened) as scp:
        for cut in cuts:
            with socket.create_connection(scp.address) as connection:
                connection.sendall(spoken[:cut])
                if ending == "reset":
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                elif ending == "abort":
                    connection.sendall(encode(Abort()))
        assert until(lambda: associations() == 0)
        assert until(lambda: not scp._listener._connections)  # type: ignore[union-attr]
        assert nothing_stored(opened)
        with socket.create_connection(scp.address) as connection:
            connection.sendall(spoken)
            heard = _hear_out(connection)
        assert heard.endswith(encode(ReleaseResponse()))
        assert stored_bytes(opened, dataset.SOPInstanceUID) == written(dataset)


def test_a_device_that_leaves_one_end_open_keeps_no_place(tmp_path: Path) -> None:
    """Half-open: the device has closed its side after the release, or never closes at all."""
    (dataset,) = instances()
    with node(tmp_path / "data", max_associations=1) as opened, port(opened) as scp:
        left = []
        for half in (True, False):
            connection = socket.create_connection(scp.address)
            left.append(connection)
            connection.sendall(_spoken(dataset))
            if half:
                connection.shutdown(socket.SHUT_WR)
            assert _hear_out(connection).endswith(encode(ReleaseResponse()))
            assert until(lambda: associations() == 0)
        assert echoes(scp)
        for connection in left:
            connection.close()


def test_so_many_associations_of_one_device_and_no_more(tmp_path: Path) -> None:
    with node(tmp_path / "data", max_associations_per_device=2) as opened, port(opened) as scp:
        first, second = associated(scp), associated(scp)
        with pytest.raises(Rejected, match="local limit exceeded") as caught:
            associated(scp)
        assert caught.value.rejection.result == 2
        other = associated(scp, calling="OTHER")
        first.release()
        assert until(lambda: associations() == 2)
        third = associated(scp)
        for each in (second, third, other):
            each.abort()


def test_an_association_that_is_too_old_is_aborted(tmp_path: Path) -> None:
    with node(tmp_path / "data", association_seconds=0.5) as opened, port(opened) as scp:
        association = associated(scp)
        with pytest.raises(Ended) as caught:
            while True:
                association.send(1, ECHO)
                association.receive()
        assert isinstance(caught.value, Aborted)


def test_a_flood_of_associations_is_told_no(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.edges.dimse.port._SPARE_THREADS", -1)
    with node(tmp_path / "data", max_associations=1) as opened, port(opened) as scp:
        with pytest.raises(Rejected, match="local limit exceeded"):
            associated(scp)


# --- services


def test_a_service_answers_and_its_errors_are_statuses(tmp_path: Path) -> None:
    def handler(association: Served, message: Message) -> None:
        assert (association.calling, association.called, association.address) == ("SCANNER", "IMAGESHARE", "127.0.0.1")
        if message.data_set == b"slip":
            raise ZeroDivisionError
        if message.data_set == b"refused!":
            raise NotSupported("this is not supported here; ask for something else")
        response = Command(field=CommandField.C_FIND_RSP, responded_to=message.command.message_id, status=0xFF00)
        association.respond(message.context, response, [message.data_set, b"!!"])
        association.respond(message.context, replace(response, status=0))

    with node(tmp_path / "data") as opened, port(opened, offering(handler)) as scp:
        association = associated(scp)
        association.send(5, FIND, b"asking")
        assert (first := association.receive()).data_set == b"asking!!"
        assert first.command.status == 0xFF00
        assert association.receive().command.status == 0
        for data, status in ((b"slip", 0x0110), (b"refused!", 0x0122)):
            association.send(5, FIND, data)
            told = association.receive().command
            assert (told.field, told.responded_to, told.status) == (FIND.field | RESPONSE, 7, status)
        assert told.error_comment == "this is not supported here; ask for something else"
        association.send(5, replace(FIND, field=CommandField.C_MOVE_RQ))
        assert association.receive().command.status == 0x0211
        association.release()


def test_a_request_can_be_cancelled_while_it_is_served(tmp_path: Path) -> None:
    def handler(association: Served, message: Message) -> None:
        response = Command(field=CommandField.C_FIND_RSP, responded_to=message.command.message_id, status=0xFF00)
        number = message.command.message_id or 0
        while not association.cancelled(number):
            assert not association.cancelled(number + 1)
            association.respond(message.context, response)
        association.respond(message.context, replace(response, status=0xFE00))

    with node(tmp_path / "data") as opened, port(opened, offering(handler)) as scp:
        association = associated(scp)
        for _ in range(2):  # the second is not cancelled by what cancelled the first
            association.send(5, FIND)
            assert association.receive().command.status == 0xFF00
            association.send(5, Command(field=CommandField.C_CANCEL_RQ, responded_to=7))
            while (status := association.receive().command.status) == 0xFF00:
                pass
            assert status == 0xFE00
        association.send(5, Command(field=CommandField.C_CANCEL_RQ, responded_to=7))  # of nothing that is under way
        association.send(1, ECHO)
        assert association.receive().command.status == 0
        association.release()


def test_a_service_asks_over_the_same_association(tmp_path: Path) -> None:
    """As C-GET does; a C-CANCEL and a request in between are not lost."""

    def handler(association: Served, message: Message) -> None:
        asked = Command(field=CommandField.C_STORE_RQ, affected_sop_class_uid=CTImageStorage, affected_sop_instance_uid="1.2")
        statuses = [association.perform(association.contexts[3], asked, [b"abc", b"def"]).status for _ in range(2)]
        assert association.cancelled(7)
        done = Command(field=CommandField.C_FIND_RSP, responded_to=7, status=statuses[1])
        association.respond(message.context, done)

    with node(tmp_path / "data") as opened, port(opened, offering(handler)) as scp:
        association = associated(scp)
        association.send(5, FIND)
        for status in (0, 0xB000):
            found = association.receive()
            assert (found.context_id, found.data_set) == (3, b"abcdef")
            if not status:
                association.send(5, Command(field=CommandField.C_CANCEL_RQ, responded_to=7))
                association.send(1, ECHO)
            answer = Command(field=CommandField.C_STORE_RSP, responded_to=found.command.message_id, status=status)
            association.send(3, answer)
        assert association.receive().command.status == 0xB000
        assert association.receive().command.field == CommandField.C_ECHO_RSP
        association.release()


def test_requests_that_are_sent_ahead_are_answered_each_in_its_order(tmp_path: Path) -> None:
    made = instances(40)
    with node(tmp_path / "data") as opened, port(opened) as scp:
        association = associated(scp, operations=(0, 1))
        assert association.peer is not None
        assert association.peer.user.operations == (16, 1)
        for number, dataset in enumerate(made):
            uid = "1.2.3.4" if number == 20 else dataset.SOPInstanceUID
            request = Command(
                field=CommandField.C_STORE_RQ, message_id=number, affected_sop_class_uid=CTImageStorage,
                affected_sop_instance_uid=uid,
            )  # fmt: skip
            association.send(3, request, written(dataset))
        association.send(1, replace(ECHO, message_id=99))
        answers = [association.receive().command for _ in range(41)]
        assert [each.responded_to for each in answers] == [*range(40), 99]
        assert [each.status for each in answers] == [0] * 20 + [0xA900] + [0] * 20
        association.release()
        for number, dataset in enumerate(made):
            assert (stored_bytes(opened, dataset.SOPInstanceUID) is None) == (number == 20)


def test_what_was_sent_whole_before_the_end_is_stored(tmp_path: Path) -> None:
    first, second = instances(2)
    with node(tmp_path / "data") as opened, port(opened) as scp:
        association = associated(scp)
        for number, dataset in enumerate((first, second)):
            request = Command(
                field=CommandField.C_STORE_RQ, message_id=number, affected_sop_class_uid=CTImageStorage,
                affected_sop_instance_uid=dataset.SOPInstanceUID,
            )  # fmt: skip
            association.send(3, request, written(dataset))
        association._socket.shutdown(socket.SHUT_WR)
        assert [association.receive().command.status for _ in range(2)] == [0, 0]
        association.close()
        assert until(lambda: associations() == 0)
        assert stored_bytes(opened, second.SOPInstanceUID) == written(second)


def test_a_device_may_do_what_it_is_allowed_to(tmp_path: Path) -> None:
    devices = [{"ae_title": "SCANNER", "address": "127.0.0.1", "permissions": ["query"]}]
    with node(tmp_path / "data", devices=devices) as opened, port(opened, offering(lambda *_: None)) as scp:
        association = associated(scp)
        assert sorted(association.contexts) == [1, 5]
        association.release()
    devices = [{"ae_title": "SCANNER", "address": "127.0.0.1"}]
    with node(tmp_path / "data", devices=devices) as opened, port(opened, offering(lambda *_: None)) as scp:
        association = associated(scp)
        assert sorted(association.contexts) == [1, 3]
        association.release()


def test_verification_is_for_everybody() -> None:
    assert VERIFICATION.permission == ""


def test_a_peer_that_reads_no_answers_is_ended(tmp_path: Path) -> None:
    def handler(association: Served, message: Message) -> None:
        response = Command(field=CommandField.C_FIND_RSP, responded_to=7, status=0xFF00)
        while True:
            association.respond(message.context, response, bytes(1 << 20))

    with node(tmp_path / "data", association_idle=0.3) as opened, port(opened, offering(handler)) as scp:
        association = associated(scp, limits=Limits())
        association.send(5, FIND)
        assert until(lambda: associations() == 0)
        association.close()


def test_what_is_left_open_does_not_leak_descriptors(tmp_path: Path) -> None:
    with node(tmp_path / "data") as opened, port(opened) as scp:
        assert store(scp, *instances()) == [(0, "")]
        before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(50):
            assert echoes(scp)
        assert until(lambda: len(list(Path("/proc/self/fd").iterdir())) <= before + 2)
