"""The listener of the DICOM port: sockets, threads and limits."""

import logging
import socket
import socketserver
import threading
import time
from typing import Any

from pynetdicom import _config
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from profiles.vocabulary import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from server import telemetry
from server.edges.context import Node
from server.edges.dimse.negotiation import Admission
from server.edges.dimse.reception import Reception
from server.edges.dimse.upper_layer import UpperLayer
from server.errors import SettingsError

ARTIM = 30.0
"""Seconds that a connection may take to request an association (PS3.8 section 9.1.5)."""

_SPARE_CONNECTIONS = 64
_STRANGERS = 8

Address = tuple[str, int]


class StorageScp:
    """A Storage and Verification SCP for one node. `listener` is a bound TCP socket, else one is made for `address` or the settings'."""

    def __init__(self, node: Node, address: Address | None = None, listener: socket.socket | None = None) -> None:
        self._node = node
        self._given = listener
        self._wanted = address or (node.settings.dicom_host, node.settings.dicom_port)
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def address(self) -> Address:
        """Host and port that it listens on, once it is started."""
        if self._server is None:
            raise ValueError("the DICOM port is not open")
        host, port = self._server.server_address[:2]
        return str(host), int(port)

    def start(self) -> None:
        """Listens, in threads of its own. Raises `SettingsError` if the port cannot be had."""
        _quieten()
        try:
            self._server = _Server(self._node, self._wanted, self._given)
        except OSError as error:
            raise SettingsError(
                f"the DICOM port {self._wanted[1]} cannot be opened: {error.strerror}; set IMAGESHARE_DICOM_PORT"
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="dicom", daemon=True)
        self._thread.start()

    def stop(self, patience: float = 10.0) -> None:
        """Takes no more associations, answers what is being stored, aborts the rest; waits `patience` seconds at most."""
        if self._server is None or self._thread is None:
            return
        socketserver.BaseServer.shutdown(self._server)
        self._thread.join()
        self._server.server_close()
        self._server.end(time.monotonic() + patience)
        self._server = None


def serve(node: Node, address: Address | None = None, listener: socket.socket | None = None) -> StorageScp:
    """A started `StorageScp`."""
    scp = StorageScp(node, address, listener)
    scp.start()
    return scp


def _quieten() -> None:
    """pynetdicom's handlers describe each message, data sets and all; its loggers may tell of errors only."""
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = _config.LOG_RESPONSE_IDENTIFIERS = False
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)


def _entity(node: Node) -> ApplicationEntity:
    entity = ApplicationEntity(node.settings.ae_title)
    entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    entity.maximum_pdu_size = 0
    entity.acse_timeout = min(ARTIM, node.settings.association_idle)
    entity.dimse_timeout = entity.network_timeout = node.settings.association_idle
    # Counted by `_Server`: pynetdicom also counts connections that have not asked for an association.
    entity.maximum_associations = 1 << 20
    return entity


class _Server(ThreadedAssociationServer):
    """Keeps count of connections and associations."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, node: Node, address: Address, listener: socket.socket | None) -> None:
        self.node = node
        self._listener = listener
        self._lock = threading.Lock()
        self._associations: dict[Association, bool] = {}
        self._admitted: set[Association] = set()
        super().__init__(_entity(node), address, node.settings.ae_title, [build_context(Verification)], request_handler=_Handler)

    def server_bind(self) -> None:
        if self._listener is None:
            super().server_bind()
            return
        assert self.socket is not None
        self.socket.close()
        self.socket = self._listener
        self.server_address = self.socket.getsockname()

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether one more connection is taken at all: those that ask for nothing go when ARTIM runs out.

        Strangers, whose only answer can be a reject, have a few places of their own, so that they cannot take the devices'.
        """
        known = self.node.settings.may_associate(str(client_address[0]))
        with self._lock:
            self._associations = {each: at for each, at in self._associations.items() if each.is_alive() or each.dul.is_alive()}
            taken = sum(at == known for at in self._associations.values())
            return taken < (self.node.settings.max_associations + _SPARE_CONNECTIONS if known else _STRANGERS)

    def opened(self, association: Association, address: str) -> None:
        with self._lock:
            self._associations[association] = self.node.settings.may_associate(address)

    def room(self, association: Association) -> bool:
        """Admits an association if the limit allows."""
        with self._lock:
            self._admitted = {each for each in self._admitted if each.is_alive() and not (each.is_released or each.is_aborted)}
            if len(self._admitted) >= self.node.settings.max_associations:
                return False
            self._admitted.add(association)
            return True

    def end(self, deadline: float) -> None:
        with self._lock:
            associations = list(self._associations)
        for association in associations:
            if isinstance(association.dul, UpperLayer):
                association.dul.end()
        for association in associations:
            for thread in (association, association.dul):
                if thread.is_alive():
                    thread.join(max(0.0, deadline - time.monotonic()))
        left = sum(each.dul.is_alive() for each in associations)
        if left:
            telemetry.log().warning("associations_left", door="dimse", count=left)


class _Handler(RequestHandler):
    """Puts together the parts of one association."""

    server: _Server

    def _create_association(self) -> Association:
        connection = self.request
        assert isinstance(connection, socket.socket)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(self.server.node.settings.association_idle)
        association = super()._create_association()
        reception = Reception(association, self.server.node.ingest)
        association.dimse = reception
        association.acse = Admission(association, self.server.node, self.server.room)
        association.dul = UpperLayer(association, reception)
        association.dul.daemon = True
        association.set_socket(AssociationSocket(association, client_socket=connection))
        # These set the timers of the upper layer, which is a new one.
        association.acse_timeout = association.acse_timeout
        association.network_timeout = association.network_timeout
        self.server.opened(association, str(self.client_address[0]))
        return association
