"""What is sent ahead of its answers, and what becomes of it: PS3.7 annex D.3.3.3 with our own port and a peer that breaks off."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from peers.generated import Made
from peers.imageshare import node
from peers.scanner import listening, stored_bytes

from ihe.dimse import Command, CommandField
from ihe.pdu import ACCEPTANCE, AnsweredContext, AssociateAccept, AssociateRequest, UserInformation, decode
from server.association import Accepted, Association, Ended, Limits
from server.outbound import cstore, delivery

MADE = [Made(number=number, pixel=number) for number in range(1, 41)]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "files"
    folder.mkdir()
    made = [folder / f"{each.number:03}.dcm" for each in MADE]
    for path, each in zip(made, MADE, strict=True):
        path.write_bytes(each.part10())
    return made


Talk = Callable[[Association, int], None]


@contextmanager
def peer(talk: Talk, window: tuple[int, int] | None) -> Iterator[tuple[str, int]]:
    """A storage SCP on our own association; `talk` gets each one and its number, from 1 on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            number = 0
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                number += 1
                header = connection.recv(6, socket.MSG_WAITALL)
                request = decode(header[0], connection.recv(int.from_bytes(header[2:], "big"), socket.MSG_WAITALL))
                assert isinstance(request, AssociateRequest)
                assert request.user.operations == (delivery.WINDOW, 1)
                made = Association.requested(connection, request, Limits())
                contexts = [Accepted(each.id, each.abstract_syntax, each.transfer_syntaxes[0]) for each in request.contexts]
                answered = tuple(AnsweredContext(each.id, ACCEPTANCE, each.transfer_syntax) for each in contexts)
                user = UserInformation(max_length=1 << 14, implementation_class_uid="1.2.3", operations=window)
                made.accept(AssociateAccept(called="PEER", calling="US", contexts=answered, user=user), contexts)
                try:
                    talk(made, number)
                except Ended:
                    made.linger(1.0)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def answer(association: Association, context_id: int, command: Command, status: int = 0) -> None:
    told = Command(field=CommandField.C_STORE_RSP, responded_to=command.message_id, status=status)
    association.send(context_id, told)


def taken(association: Association) -> tuple[int, Command]:
    received = association.receive()
    return received.context_id, received.command


@pytest.mark.parametrize(("window", "ahead"), [(None, 1), ((1, 1), 1), ((4, 1), 4), ((0, 0), 16), ((100, 1), 16)])
def test_as_many_are_sent_ahead_as_the_peer_grants(files: list[Path], window: tuple[int, int] | None, ahead: int) -> None:
    """The peer answers none until `ahead` requests are there, and then all of them in the opposite order."""

    def talk(association: Association, number: int) -> None:
        left = len(files)
        while left:
            requests = [taken(association) for _ in range(min(ahead, left))]
            left -= len(requests)
            for context_id, command in reversed(requests):
                answer(association, context_id, command)
        taken(association)

    with peer(talk, window) as address:
        results = list(cstore.send(files, *address, called="PEER"))
    assert all(each.ok for each in results)
    assert sorted(each.path for each in results) == files


@pytest.mark.parametrize("window", [None, (8, 1)])
def test_after_a_loss_only_the_oldest_without_an_answer_has_failed(files: list[Path], window: tuple[int, int] | None) -> None:
    seen: list[str] = []

    def talk(association: Association, number: int) -> None:
        for count in range(1000):
            context_id, command = taken(association)
            if number == 1 and count == 5:
                association.abort()
                return
            seen.append(command.affected_sop_instance_uid)
            answer(association, context_id, command)

    with peer(talk, window) as address:
        results = list(cstore.send(files, *address, called="PEER"))
    failed = [each for each in results if not each.ok]
    assert len(failed) == 1
    assert failed[0].path == files[5]
    assert "aborted the association" in failed[0].reason or "the connection is gone" in failed[0].reason
    assert {each.path for each in results} == set(files)
    assert set(seen) == {each.uid for each in MADE} - {MADE[5].uid}


def test_a_peer_that_answers_something_else(files: list[Path]) -> None:
    def talk(association: Association, number: int) -> None:
        context_id, command = taken(association)
        association.send(
            context_id, Command(field=CommandField.C_STORE_RSP, responded_to=(command.message_id or 0) + 7, status=0)
        )
        taken(association)

    with peer(talk, None) as address:
        results = list(cstore.send(files[:3], *address, called="PEER"))
    assert [each.reason for each in results] == ["the peer answered something else"] * 3


def test_whoever_stops_reading_results_ends_in_order(files: list[Path], tmp_path: Path) -> None:
    """What was sent ahead is answered and stored; the association is released, not aborted."""
    with node(tmp_path / "data") as opened, listening(opened) as scp:
        results = cstore.send(files, *scp.address, called="IMAGESHARE")
        assert next(results).ok
        results.close()  # type: ignore[attr-defined]
        stored = [each.number for each in MADE if stored_bytes(opened, each.uid)]
    assert stored == list(range(1, len(stored) + 1))
    assert 1 <= len(stored) <= delivery.WINDOW + 1


def test_a_file_that_goes_while_it_is_sent(files: list[Path], tmp_path: Path) -> None:
    with node(tmp_path / "data") as opened, listening(opened) as scp:
        results = cstore.send(files, *scp.address, called="IMAGESHARE")
        told = [next(results)]
        files[-1].unlink()
        told += results
    assert [each.ok for each in told if each.path != files[-1]] == [True] * 39
    (gone,) = [each for each in told if each.path == files[-1]]
    assert gone.reason == "it cannot be read: no such file or directory"


def test_a_file_longer_than_is_read_at_once(tmp_path: Path) -> None:
    made = Made(size=3000)
    path = tmp_path / "long.dcm"
    path.write_bytes(made.part10())
    assert path.stat().st_size > delivery.WHOLE
    with node(tmp_path / "data") as opened, listening(opened) as scp:
        assert all(each.ok for each in cstore.send([path], *scp.address, called="IMAGESHARE"))
        stored = stored_bytes(opened, made.uid)
    assert stored
    assert path.read_bytes().endswith(stored)
