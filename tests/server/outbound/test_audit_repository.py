"""Syslog over TLS to a repository: what counts as taken, and what does not."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from peers.audit_receiver import Receiver, receiving
from peers.authority import Authority

from server.errors import SettingsError, Unavailable
from server.outbound.audit_repository import AuditRepository
from server.settings import Settings, load

MANY = [b"<85>1 " + b"x" * 3000] * 300


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("authority"))
    for name, host in (("ours", ""), ("repository", ""), ("elsewhere", "elsewhere.example.org")):
        made.issue(name, host=host)
    return made


def named(authority: Authority, name: str) -> tuple[Path, Path]:
    return authority.folder / f"{name}.pem", authority.folder / f"{name}.key"


def sending(folder: Path, authority: Authority, port: int, **changed: Any) -> Settings:
    certificate, key = named(authority, "ours")
    given = {"audit_repository_certificate": certificate, "audit_repository_key": key, **changed}
    return load(data=folder, audit_repository=f"syslog-tls://127.0.0.1:{port}", audit_repository_ca=authority.path, **given)


@contextmanager
def behaving(authority: Authority, behave: Callable[[ssl.SSLSocket], object]) -> Iterator[int]:
    """The port of a repository that takes one session and does with it what it is told."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*named(authority, "repository"))

    def listen(server: socket.socket) -> None:
        connection, _ = server.accept()
        with suppress(OSError), connection, context.wrap_socket(connection, server_side=True) as channel:
            behave(channel)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=listen, args=(server,))
        thread.start()
        yield server.getsockname()[1]
        thread.join()


def _everything(channel: ssl.SSLSocket) -> None:
    while channel.recv(65_536):
        pass


def _and_goodbye(channel: ssl.SSLSocket) -> None:
    _everything(channel)
    channel.unwrap()


def _a_little(channel: ssl.SSLSocket) -> None:
    channel.recv(100)


def _a_little_and_goodbye(channel: ssl.SSLSocket) -> None:
    channel.recv(100)
    channel.setblocking(False)
    channel.unwrap()


def _nothing(channel: ssl.SSLSocket) -> None:
    return


@pytest.mark.parametrize(
    ("behave", "is_taken"),
    [(_and_goodbye, True), (_everything, True), (_a_little, False), (_a_little_and_goodbye, False), (_nothing, False)],
)
@pytest.mark.parametrize("messages", [MANY, MANY[:1]], ids=["many", "one"])
def test_what_counts_as_taken(
    tmp_path: Path, authority: Authority, behave: Callable[[ssl.SSLSocket], object], is_taken: bool, messages: list[bytes]
) -> None:
    """A repository that closes after it has read everything, in order or without a word; not one that has something unread."""
    with behaving(authority, behave) as port:
        repository = AuditRepository(sending(tmp_path, authority, port))
        if is_taken:
            repository.send(messages)
            return
        with pytest.raises(Unavailable):
            repository.send(messages)


def test_who_has_closed_in_order_has_to_do_so_again(tmp_path: Path, authority: Authority, free_port: int) -> None:
    """It was killed between reading and storing: nobody can tell that from an end without a word."""
    repository = AuditRepository(sending(tmp_path, authority, free_port))
    with receiving(Receiver(tmp_path, named(authority, "repository"), authority.path, free_port)):
        repository.send([b"one"])
    with receiving(Receiver(tmp_path, named(authority, "repository"), authority.path, free_port, orderly=False)):
        with pytest.raises(Unavailable):
            repository.send([b"two"])


def test_whose_certificate_is_not_for_the_host_gets_nothing_unless_that_is_allowed(
    tmp_path: Path, authority: Authority, free_port: int
) -> None:
    with receiving(Receiver(tmp_path, named(authority, "elsewhere"), authority.path, free_port)) as receiver:
        settings = sending(tmp_path, authority, free_port)
        with pytest.raises(Unavailable, match="its certificate is not one that is trusted here"):
            AuditRepository(settings).send([b"x"])
        AuditRepository(settings.model_copy(update={"audit_repository_verify_name": False})).send([b"x"])
        assert receiver.messages == [b"x"]


def test_who_shows_no_certificate_is_told_so_by_tls(tmp_path: Path, authority: Authority, free_port: int) -> None:
    """TLS 1.3 refuses a client only after it has sent: that must not count as taken, whenever the refusal comes."""
    with receiving(Receiver(tmp_path, named(authority, "repository"), authority.path, free_port)) as receiver:
        settings = sending(tmp_path, authority, free_port, audit_repository_certificate=None, audit_repository_key=None)
        for _ in range(20):
            with pytest.raises(Unavailable):
                AuditRepository(settings).send([b"x"])
        assert receiver.messages == []


def test_over_udp_each_is_a_datagram(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(10)
        settings = load(data=tmp_path, audit_repository=f"syslog-udp://127.0.0.1:{listener.getsockname()[1]}")
        AuditRepository(settings).send([b"<85>1 one", b"<85>1 two"])
        assert [listener.recv(100), listener.recv(100)] == [b"<85>1 one", b"<85>1 two"]


def test_settings_that_are_none(tmp_path: Path) -> None:
    for wrong in ("http://x", "syslog-tls://", "syslog-tls://h/path", "h:6514", "syslog-tls://h:x"):
        with pytest.raises(SettingsError, match="audit_repository"):
            load(data=tmp_path, audit_repository=wrong)
    with pytest.raises(SettingsError, match=r"audit_repository_ca: .* no such file"):
        AuditRepository(load(data=tmp_path, audit_repository="syslog-tls://h", audit_repository_ca=tmp_path / "none"))
