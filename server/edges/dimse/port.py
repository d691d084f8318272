"""The DICOM port: connections that have no association yet, or none any more, in one thread; associations in a thread each.

A connection costs a few hundred bytes until its A-ASSOCIATE-RQ is whole, and ARTIM closes it if it never is. So peers that
connect and say nothing, or little, keep nobody out (PS3.8 section 9.1.5).
"""

import contextlib
import resource
import selectors
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Mapping
from struct import unpack

from ihe import pdu
from ihe.pdu import Abort, AssociateRequest, PduError
from ihe.upper_layer import MAX_PDU, PDU_EVENTS, Effect, Event, Machine
from server import association, bcp195, telemetry
from server.association import Limits
from server.edges.context import Node
from server.edges.dimse.negotiation import TOO_MANY
from server.edges.dimse.service import Service
from server.edges.dimse.services import BY_ABSTRACT_SYNTAX
from server.edges.dimse.serving import Serving
from server.errors import SettingsError
from server.settings import Settings, plain_address

ARTIM = 30.0
"""Seconds that a connection may take to request an association, and to be closed after one (PS3.8 section 9.1.5)."""

_STRANGERS = 64
_HANDICAP, _FULL = 0.001, 0.05
"""Seconds that a process leaves a new connection to others: for each association that it has, and when it may have no more."""
_SPARE_THREADS = 32
_HELD = 16 << 20
"""Bytes of incomplete requests, of all connections together."""

Address = tuple[str, int]


class DicomPort:
    """The port of one node. `listener` and `tls_listener` are bound TCP sockets, else they are made for `address` or the settings'.

    Several processes may be given the same sockets (`listening`): whoever is free accepts, and has its part of `max_associations`.
    """

    def __init__(
        self,
        node: Node,
        address: Address | None = None,
        listener: socket.socket | None = None,
        services: Mapping[str, Service] = BY_ABSTRACT_SYNTAX,
        tls_listener: socket.socket | None = None,
    ) -> None:
        self._node = node
        self._given = listener
        self._given_tls = tls_listener
        self._wanted = address or (node.settings.dicom_host, node.settings.dicom_port)
        self._services = services
        self._listener: _Listener | None = None

    @property
    def address(self) -> Address:
        """Host and port that it listens on, once it is started."""
        if self._listener is None:
            raise ValueError("the DICOM port is not open")
        return self._listener.addresses[0]

    @property
    def tls_address(self) -> Address | None:
        """As `address`, of the port that takes TLS, if there is one."""
        if self._listener is None:
            raise ValueError("the DICOM port is not open")
        return self._listener.addresses[1] if len(self._listener.addresses) > 1 else None

    def start(self) -> None:
        """Listens, in threads of its own. Raises `SettingsError` if a port cannot be had, or TLS cannot be set up."""
        settings = self._node.settings
        doors: list[tuple[socket.socket, ssl.SSLContext | None]] = []
        try:
            doors.append((self._given or _bound(self._wanted, "IMAGESHARE_DICOM_PORT"), None))
            if settings.dicom_tls_port is not None:
                secure = tls_context(settings)
                bound = self._given_tls or _bound((self._wanted[0], settings.dicom_tls_port), "IMAGESHARE_DICOM_TLS_PORT")
                doors.append((bound, secure))
        except SettingsError:
            for door, _ in doors:
                door.close()
            raise
        self._listener = _Listener(self._node, doors, self._services)
        self._listener.start()

    def stop(self, patience: float = 10.0) -> None:
        """Takes no more associations, answers what is being stored, aborts the rest; waits `patience` seconds at most."""
        if self._listener is not None:
            self._listener.end(time.monotonic() + patience)
            self._listener = None


def tls_context(settings: Settings) -> ssl.SSLContext:
    """PS3.15 annex B: the TLS of the port that takes it. Raises `SettingsError`."""
    if settings.dicom_tls_certificate is None:
        raise SettingsError("DICOM over TLS needs a certificate: set IMAGESHARE_DICOM_TLS_CERTIFICATE")
    return bcp195.server_context(
        settings.dicom_tls_profile, settings.dicom_tls_certificate, settings.dicom_tls_key, settings.dicom_tls_ca, "dicom_tls_"
    )


def serve(node: Node, address: Address | None = None, listener: socket.socket | None = None) -> DicomPort:
    """A started `DicomPort`."""
    port = DicomPort(node, address, listener)
    port.start()
    return port


def listening(settings: Settings) -> tuple[socket.socket, ...]:
    """The sockets of the settings' ports, the second for TLS if there is one: for processes that are forked afterwards to share.

    Raises `SettingsError` if a port cannot be had.
    """
    plain = _bound((settings.dicom_host, settings.dicom_port), "IMAGESHARE_DICOM_PORT")
    if settings.dicom_tls_port is None:
        return (plain,)
    try:
        return plain, _bound((settings.dicom_host, settings.dicom_tls_port), "IMAGESHARE_DICOM_TLS_PORT")
    except SettingsError:
        plain.close()
        raise


def _bound(address: Address, setting: str) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(1024)
    except OSError as error:
        made.close()
        raise SettingsError(f"the DICOM port {address[1]} cannot be opened: {error.strerror}; set {setting}") from error
    return made


class _Connection:
    """A connection without an association: one that has yet to request it, or that has only to be closed."""

    __slots__ = ("address", "body", "deadline", "handshaking", "header", "known", "machine", "over", "socket")

    def __init__(self, connection: socket.socket, address: str, deadline: float, *, known: bool, over: bool = False) -> None:
        self.socket = connection
        self.address = address
        self.deadline = deadline
        self.known = known
        self.over = over
        """State 13: what still arrives is not looked at."""
        self.handshaking = isinstance(connection, ssl.SSLSocket) and not over
        self.header = b""
        self.body = bytearray()
        self.machine = Machine(requestor=False)
        if not over:
            self.machine.step(Event.CONNECTION_INDICATION)

    def advance(self) -> AssociateRequest | None:
        """Receives what is there, but nothing behind the request, which is the association's. The request once it is whole.

        Raises `PduError` for anything else, `OSError` when the connection is gone; BlockingIOError and ssl.SSLWant... to be called again.
        """
        if self.handshaking:
            assert isinstance(self.socket, ssl.SSLSocket)
            self.socket.do_handshake()
            self.handshaking = False
        while len(self.header) < 6:
            self.header += self._received(6 - len(self.header))
        kind, length = unpack(">BxL", self.header)
        if kind != pdu.ASSOCIATE_RQ or length > MAX_PDU:
            raise PduError("no A-ASSOCIATE-RQ, or one that is too long (PS3.8 section 9.3.2)")
        while len(self.body) < length:
            self.body += self._received(min(length - len(self.body), 1 << 16))
        request = pdu.decode(kind, bytes(self.body))
        assert isinstance(request, AssociateRequest)
        return request

    @property
    def event(self) -> Event:
        """What has come instead of a request, for table 9-10."""
        kind = self.header[0] if self.header else 0
        return Event.INVALID_PDU if kind == pdu.ASSOCIATE_RQ else PDU_EVENTS.get(kind, Event.INVALID_PDU)

    def _received(self, count: int) -> bytes:
        data = self.socket.recv(count)
        if not data:
            raise ConnectionResetError
        return data


class _Listener:
    """Accepts, waits for requests and for closes; starts a thread for each association."""

    def __init__(
        self, node: Node, doors: list[tuple[socket.socket, ssl.SSLContext | None]], services: Mapping[str, Service]
    ) -> None:
        self._node = node
        self._services = services
        self._limits = Limits(
            artim=min(ARTIM, node.settings.association_idle),
            silence=node.settings.association_idle,
            total=node.settings.association_seconds,
        )
        self._most_associations = -(-node.settings.max_associations // node.settings.dicom_processes)
        self._is_shared = node.settings.dicom_processes > 1
        self._doors = doors
        self.addresses = [(str(door.getsockname()[0]), int(door.getsockname()[1])) for door, _ in doors]
        self._selector = selectors.DefaultSelector()
        self._connections: dict[_Connection, None] = {}  # the oldest first, and so the first whose time is over
        self._most = max(64, min(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2))
        self._lock = threading.Lock()
        self._serving: set[Serving] = set()
        self._admitted: dict[Serving, tuple[str, str]] = {}
        self._left: list[tuple[socket.socket, str]] = []
        self._ended = False
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="dicom", daemon=True)

    def start(self) -> None:
        for door, _ in self._doors:
            door.setblocking(False)
            door.listen(1024)
            self._selector.register(door, selectors.EVENT_READ)
        self._woken.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread.start()

    def end(self, deadline: float) -> None:
        self._ended = True
        self._rouse()
        self._thread.join()
        with self._lock:
            serving = list(self._serving)
        for each in serving:
            each.end()
        for each in serving:
            if each.thread is not None:
                each.thread.join(max(0.0, deadline - time.monotonic()))
        left = sum(each.thread is not None and each.thread.is_alive() for each in serving)
        if left:
            telemetry.log().warning("associations_left", door="dimse", count=left)
        with self._lock:
            for connection, _ in self._left:
                connection.close()
        self._wake.close()

    # --- the listener's own thread

    def _run(self) -> None:
        contexts = dict(self._doors)
        try:
            while not self._ended:
                for key, _ in self._selector.select(self._patience()):
                    self._happened(key, contexts)
                self._expire()
        finally:
            for door, _ in self._doors:
                door.close()
            for connection in list(self._connections):
                self._drop(connection)
            self._selector.close()
            self._woken.close()

    def _happened(self, key: selectors.SelectorKey, contexts: Mapping[socket.socket, ssl.SSLContext | None]) -> None:
        """Whatever goes wrong with one connection, the port goes on."""
        try:
            if isinstance(key.data, _Connection):
                self._advance(key.data)
            elif key.fileobj is self._woken:
                self._take_back()
            else:
                assert isinstance(key.fileobj, socket.socket)
                self._accept(key.fileobj, contexts[key.fileobj])
        except Exception as error:  # noqa: BLE001
            telemetry.log().error("connection_failed", door="dimse", **telemetry.failure(error))
            if isinstance(key.data, _Connection):
                self._drop(key.data)

    def _patience(self) -> float | None:
        oldest = next(iter(self._connections), None)
        return None if oldest is None else max(0.0, oldest.deadline - time.monotonic())

    def _expire(self) -> None:
        """PS3.8 table 9-10, event 18: ARTIM is over."""
        now = time.monotonic()
        for connection in list(self._connections):
            if connection.deadline > now:
                return
            self._drop(connection)

    def _accept(self, door: socket.socket, secure: ssl.SSLContext | None) -> None:
        if self._is_shared:  # with other processes: who has less to do shall be first
            full = len(self._admitted) >= self._most_associations
            time.sleep(_FULL if full else min(len(self._serving) * _HANDICAP, _FULL))
        for _ in range(1 if self._is_shared else 64):
            try:
                connection, (host, *_) = door.accept()
            except OSError as error:
                if not isinstance(error, BlockingIOError):
                    telemetry.log().warning("accept_failed", door="dimse", **telemetry.failure(error))
                    time.sleep(0.05)  # out of descriptors: those of others must end first
                return
            connection.setblocking(False)
            if secure is not None:
                connection = secure.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
            self._keep(connection, str(host))

    def _keep(self, connection: socket.socket, address: str, *, over: bool = False) -> None:
        """One more connection; where there are too many the oldest goes, which has had the longest to say something.

        Strangers, whose only answer can be a reject, have a few places of their own, so that they cannot take the devices'.
        """
        known = self._node.peers.may_associate(address)
        most = self._most if known else _STRANGERS
        alike = [each for each in self._connections if each.known == known] if len(self._connections) >= _STRANGERS else []
        if len(alike) >= most:
            self._drop(alike[0])
        kept = _Connection(connection, address, time.monotonic() + self._limits.artim, known=known, over=over)
        self._connections[kept] = None
        self._selector.register(connection, selectors.EVENT_READ, kept)

    def _drop(self, connection: _Connection) -> None:
        if connection in self._connections:
            del self._connections[connection]
            self._selector.unregister(connection.socket)
        connection.socket.close()

    def _advance(self, connection: _Connection) -> None:
        try:
            if connection.over:
                self._drain(connection)
                return
            request = connection.advance()
        except ssl.SSLWantWriteError:
            self._selector.modify(connection.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, connection)
        except (BlockingIOError, ssl.SSLWantReadError):
            self._selector.modify(connection.socket, selectors.EVENT_READ, connection)
            if sum(len(each.body) for each in self._connections) > _HELD:
                self._drop(max(self._connections, key=lambda each: len(each.body)))
        except PduError as error:
            telemetry.log().warning("association_aborted", door="dimse", address=connection.address, **telemetry.failure(error))
            self._refuse(connection)
        except OSError:
            self._drop(connection)
        else:
            del self._connections[connection]
            self._selector.unregister(connection.socket)
            if request is not None:
                self._serve(connection, request)

    def _refuse(self, connection: _Connection) -> None:
        """PS3.8 table 9-10, state 2: what is no request is answered by A-ABORT, or not at all."""
        effects = connection.machine.step(connection.event)
        if Effect.SEND_USER_ABORT not in effects:
            self._drop(connection)
            return
        with contextlib.suppress(OSError):
            connection.socket.send(pdu.encode(Abort(0)))
        connection.over = True

    def _drain(self, connection: _Connection) -> None:
        with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            if not connection.socket.recv(1 << 16):
                raise ConnectionResetError

    def _take_back(self) -> None:
        """Connections whose association is over, and whose peers have yet to close them."""
        with contextlib.suppress(OSError):
            self._woken.recv(4096)
        with self._lock:
            left, self._left = self._left, []
        for connection, address in left:
            connection.setblocking(False)
            self._keep(connection, address, over=True)

    # --- associations

    def _serve(self, connection: _Connection, request: AssociateRequest) -> None:
        address = str(plain_address(connection.address))
        with self._lock:
            full = len(self._serving) >= self._most_associations + _SPARE_THREADS
        if full:
            # Not even a thread to judge it in: told without an entry in the trail, as a flood would fill it.
            with contextlib.suppress(OSError):
                connection.socket.send(pdu.encode(TOO_MANY.answer))
            self._keep(connection.socket, connection.address, over=True)
            return
        connection.socket.setblocking(True)
        peer = association.Association.requested(connection.socket, request, self._limits)
        secure = isinstance(connection.socket, ssl.SSLSocket)
        serving = Serving(self._node, peer, request, address, self._services, secure=secure)
        serving.thread = threading.Thread(
            target=self._run_serving, args=(serving, peer, connection.address), name="association", daemon=True
        )
        with self._lock:
            self._serving.add(serving)
        serving.thread.start()

    def _run_serving(self, serving: Serving, peer: association.Association, address: str) -> None:
        serving.run(self._room)
        connection = peer.detach()
        with self._lock:
            self._serving.discard(serving)
            self._admitted.pop(serving, None)
            if connection is not None and not self._ended:
                self._left.append((connection, address))
                connection = None
        if connection is not None:
            connection.close()
        self._rouse()

    def _rouse(self) -> None:
        """Makes the listener's thread look at what was left to it; it may have ended meanwhile."""
        with contextlib.suppress(OSError):
            self._wake.send(b"\0")

    def _room(self, serving: Serving, calling: str, address: str) -> bool:
        """Admits an association if the limits allow: one for all, one for each AE title at each address."""
        settings = self._node.settings
        with self._lock:
            mine = Counter(self._admitted.values())[calling, address]
            if len(self._admitted) >= self._most_associations or mine >= settings.max_associations_per_device:
                return False
            self._admitted[serving] = calling, address
            return True
