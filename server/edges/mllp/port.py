"""The MLLP port (HL7 2.5 appendix C.4): one thread accepts, and each connection has one, in which its messages are done one after the other."""

import contextlib
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from typing import Final

from ihe.mllp import VT, Blocks, framed
from profiles.audit_event import ITI_8, REFUSED, Agent
from server import bcp195, telemetry
from server.edges.context import Node
from server.edges.mllp.exchange import Exchange
from server.edges.mllp.senders import Senders
from server.errors import SettingsError
from server.settings import Settings, plain_address

PORT: Final = 2575
"""IANA's service `hl7`."""
HANDSHAKE_SECONDS: Final = 10.0
MESSAGE_SECONDS: Final = 60.0
"""How long a message may take to arrive once it has begun, and its answer to leave."""
_STRAY: Final = 1 << 16
"""Bytes outside of any block, after which a peer speaks another protocol."""
_SHAKING: Final = 16
"""Connections at once of which TLS has yet to say whose they are."""
_SHAKING_OF_ONE: Final = 8
"""Of one address: the others find room."""
_CHUNK: Final = 1 << 16

Address = tuple[str, int]


class MllpPort:
    """The port of one node. `listener` and `tls_listener` are bound TCP sockets, else they are made for the settings."""

    def __init__(self, node: Node, listener: socket.socket | None = None, tls_listener: socket.socket | None = None) -> None:
        self._node = node
        self._given = listener, tls_listener
        self._accepting: _Accepting | None = None

    @property
    def address(self) -> Address:
        """Host and port that it listens on, once it is started."""
        return self._started.addresses[0]

    @property
    def tls_address(self) -> Address | None:
        """As `address`, of the port that takes TLS, if there is one."""
        found = self._started.addresses
        return found[1] if len(found) > 1 else None

    @property
    def _started(self) -> "_Accepting":
        if self._accepting is None:
            raise ValueError("the MLLP port is not open")
        return self._accepting

    def start(self) -> None:
        """Listens, in threads of its own. Raises `SettingsError` if a port cannot be had, or TLS cannot be set up."""
        settings, (plain, secure) = self._node.settings, self._given
        senders, context, exchange = Senders(settings), tls_context(settings), Exchange(self._node)
        bound = listening(settings) if plain is None else tuple(each for each in (plain, secure) if each is not None)
        self._accepting = _Accepting(self._node, dict(zip(bound, (None, context), strict=False)), senders, exchange)
        self._accepting.start()

    def stop(self, patience: float = 10.0) -> None:
        """Takes no more messages; those that are being done are answered, for which it waits `patience` seconds at most."""
        if self._accepting is not None:
            self._accepting.end(time.monotonic() + patience)
            self._accepting = None


def listening(settings: Settings) -> tuple[socket.socket, ...]:
    """The sockets of the settings' ports, the second for TLS if there is one. Raises `SettingsError` if a port cannot be had."""
    try:
        plain = _bound(settings.mllp_host, PORT if settings.mllp_port is None else settings.mllp_port, "IMAGESHARE_MLLP_PORT")
    except SettingsError:
        if settings.mllp_port is not None:
            raise
        plain = _bound(settings.mllp_host, 0, "IMAGESHARE_MLLP_PORT")
        telemetry.log().warning("mllp_port_taken", port=PORT)
    if settings.mllp_tls_port is None:
        return (plain,)
    try:
        return plain, _bound(settings.mllp_host, settings.mllp_tls_port, "IMAGESHARE_MLLP_TLS_PORT")
    except SettingsError:
        plain.close()
        raise


def _bound(host: str, port: int, setting: str) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(128)
    except OSError as error:
        made.close()
        raise SettingsError(f"the MLLP port {port} cannot be opened: {error.strerror}; set {setting}") from error
    return made


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """ITI TF-2 section 3.19.6: TLS as BCP 195 has it; None where there is no such port. Raises `SettingsError`."""
    if settings.mllp_tls_port is None:
        return None
    if settings.mllp_tls_certificate is None:
        raise SettingsError("MLLP over TLS needs a certificate: set IMAGESHARE_MLLP_TLS_CERTIFICATE")
    if settings.mllp_tls_ca is None and any(peer.certificates for peer in settings.hl7_peers):
        raise SettingsError("senders that are known by certificates need who signs these: set IMAGESHARE_MLLP_TLS_CA")
    return bcp195.server_context(
        "bcp195", settings.mllp_tls_certificate, settings.mllp_tls_key, settings.mllp_tls_ca, "mllp_tls_"
    )


class _Accepting:
    """Accepts, and starts a thread for each connection that may come."""

    def __init__(
        self, node: Node, doors: Mapping[socket.socket, ssl.SSLContext | None], senders: Senders, exchange: Exchange
    ) -> None:
        self._node = node
        self._doors = doors
        self._senders = senders
        self._exchange = exchange
        self.addresses = [(str(door.getsockname()[0]), int(door.getsockname()[1])) for door in doors]
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        self._serving: dict[_Connection, threading.Thread] = {}
        self._wake, self._woken = socket.socketpair()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="mllp", daemon=True)

    def start(self) -> None:
        for door in self._doors:
            door.setblocking(False)
            self._selector.register(door, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread.start()

    def end(self, deadline: float) -> None:
        self._ended = True
        self._wake.send(b"\0")
        self._thread.join()
        with self._lock:
            serving = dict(self._serving)
        for connection in serving:
            connection.end()
        for thread in serving.values():
            thread.join(max(0.0, deadline - time.monotonic()))
        for each in (self._wake, self._woken):
            each.close()

    def _run(self) -> None:
        try:
            while not self._ended:
                for key, _ in self._selector.select():
                    if isinstance(key.fileobj, socket.socket) and key.fileobj in self._doors:
                        self._happened(key.fileobj)
        finally:
            self._selector.close()
            for door in self._doors:
                door.close()

    def _happened(self, door: socket.socket) -> None:
        """Whatever goes wrong with one connection, the port goes on."""
        try:
            self._accept(door)
        except Exception as error:  # noqa: BLE001
            telemetry.log().error("connection_failed", door="mllp", **telemetry.failure(error))

    def _accept(self, door: socket.socket) -> None:
        try:
            accepted, (host, *_) = door.accept()
        except OSError as error:
            if not isinstance(error, BlockingIOError):
                telemetry.log().warning("accept_failed", door="mllp", **telemetry.failure(error))
                time.sleep(0.05)  # out of descriptors: those of others must end first
            return
        context, address = self._doors[door], str(plain_address(str(host)))
        if not self._senders.may_come(address, secure=context is not None):
            with accepted:
                refused(self._node, address)
            return
        connection = _Connection(self._node, accepted, address, context, self._senders, self._exchange)
        with self._lock:
            shaking = sum(each.is_shaking for each in self._serving)
            of_address = sum(each.is_shaking and each.address == address for each in self._serving)
            most = self._node.settings.mllp_connections
            is_full = len(self._serving) >= most or sum(each.address == address for each in self._serving) >= max(
                most * 3 // 4, 2
            )
            is_full |= context is not None and (shaking >= _SHAKING or of_address >= _SHAKING_OF_ONE)
            if not is_full:
                thread = threading.Thread(target=self._serve, args=(connection,), name="mllp connection", daemon=True)
                self._serving[connection] = thread
        if is_full:
            accepted.close()
            telemetry.log().warning("connection_refused", door="mllp", address=address, count=len(self._serving))
            return
        try:
            thread.start()
        except RuntimeError:  # no more threads
            accepted.close()
            with self._lock:
                self._serving.pop(connection)
            raise

    def _serve(self, connection: "_Connection") -> None:
        try:
            connection.run()
        except OSError as error:  # gone, silent for too long, or no TLS
            telemetry.log().info("connection_ended", door="mllp", address=connection.address, **telemetry.failure(error))
        except Exception as error:  # noqa: BLE001 (whatever it was, this connection has come to its end, and only this)
            telemetry.log().error("connection_failed", door="mllp", address=connection.address, **telemetry.failure(error))
        finally:
            connection.close()
            with self._lock:
                self._serving.pop(connection, None)


class _Connection:
    """One connection, in its thread."""

    def __init__(
        self,
        node: Node,
        accepted: socket.socket,
        address: str,
        context: ssl.SSLContext | None,
        senders: Senders,
        exchange: Exchange,
    ) -> None:
        self._node = node
        self._socket = accepted
        self._context = context
        self._senders = senders
        self._exchange = exchange
        self._ended = False
        self.address = address
        self.is_shaking = context is not None

    def run(self) -> None:
        """Until the peer closes it, says nothing for too long, or `end`. Raises OSError."""
        self._socket.setblocking(True)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        certificate = self._secured()
        sender = self._senders.name(self.address, certificate)
        if sender is None:
            refused(self._node, self.address)
            return
        blocks, begun, spoken = Blocks(self._node.settings.max_message_bytes), 0.0, False
        while not self._ended:
            idle = self._node.settings.mllp_idle
            left = begun + MESSAGE_SECONDS - time.monotonic() if blocks.is_open else idle
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)
            if not (data := self._socket.recv(_CHUNK)):
                return
            if not spoken and not (spoken := data.startswith(VT)):
                self._no_mllp(len(data))
                return
            was_open = blocks.is_open
            found = blocks.receive(data)
            if blocks.is_open and (found or not was_open):
                begun = time.monotonic()
            for block in found:
                answer = framed(self._exchange.answer(block, sender, self.address))
                self._socket.settimeout(MESSAGE_SECONDS)
                self._socket.sendall(answer)
            if blocks.stray > _STRAY:
                self._no_mllp(blocks.stray)
                return

    def _no_mllp(self, count: int) -> None:
        """Another protocol. What begins with it is not looked into: a web page can have a browser on this machine send any bytes behind HTTP's own."""
        telemetry.log().warning("no_mllp", door="mllp", address=self.address, bytes=count)

    def end(self) -> None:
        """Called from another thread: nothing more is received, what is being done is answered."""
        self._ended = True
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_RD)  # that of an SSLSocket would send what is left without TLS

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.close()

    def _secured(self) -> bytes | None:
        """The handshake, where there is one. Returns the certificate that the peer has shown, in DER."""
        if self._context is None:
            return None
        self._socket.settimeout(HANDSHAKE_SECONDS)
        secure = self._context.wrap_socket(self._socket, server_side=True)
        self._socket, self.is_shaking = secure, False
        return secure.getpeercert(binary_form=True)


def refused(node: Node, address: str) -> None:
    """Somebody who may not send anything: in the trail, and nothing is read of what they would say."""
    why = "HL7 v2 messages are taken of `hl7_peers` only, or of programs on this machine where there are none"
    client = Agent(identifier="unknown", address=address)
    node.strangers.refused(node.trail.action("create", ITI_8, client, rest=False, outcome=REFUSED, outcome_desc=why))
