"""The four roles of a server, each a process: HTTP, DICOM, MLLP, worker. Each says when it listens and ends on SIGTERM or SIGINT."""

import contextlib
import gc
import resource
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import uvicorn

from profiles.audit_event import APPLICATION_START, APPLICATION_STOP, Agent, Subtype
from server import bcp195, telemetry
from server.app import create_app
from server.composition import close_node, open_node
from server.edges.context import Node
from server.edges.dimse import DicomPort
from server.edges.mllp import PORT, MllpPort
from server.errors import SettingsError
from server.http_sharing import Sharing, SharingServer
from server.settings import HIDDEN, Settings
from server.worker import Worker
from server.zero_copy import ZeroCopyProtocol

ROLES = ("http", "dicom", "mllp", "worker")
_MOST_REQUESTS = 512
"""At once, in all HTTP processes together."""
_FILES_EACH = 3
"""Descriptors of a request whose body is a stored file: the connection, its duplicate, the file."""
_OTHER_FILES = 256
"""Of a process, besides those of its requests: databases, decoders, parts of requests that arrive."""
Ready = Callable[[], None]


def run(
    role: str,
    settings: Settings,
    ready: Ready,
    listening: Sequence[socket.socket] = (),
    sharing: Sharing | None = None,
    place: int = 0,
) -> None:
    """Runs one of `ROLES` until it is told to end. `listening` are its sockets if somebody opened them already: HTTP; DICOM, or MLLP, and that over TLS.

    `sharing` is what it has in common with other HTTP processes, of which it is that at `place`.
    Raises `SettingsError` if a port is taken or the schema is of another version.
    """
    telemetry.configure(role, settings.log_level)
    _allow_files()
    with contextlib.suppress(OSError):  # what `ps` and `top` show; Linux only
        Path("/proc/self/comm").write_text(f"imageshare {role}"[:15])
    if role == "http":
        if not listening:  # a port of its own is shared with nobody
            listening = (listening_socket(settings.http_host, settings.http_port),)
        _http(settings, ready, listening[0], sharing or Sharing(1), place)
        return
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if role == "dicom":
        _dicom(settings, ready, stop, listening)
    elif role == "mllp":
        _mllp(settings, ready, stop, listening)
    else:
        _worker(settings, ready, stop)


def listening_socket(host: str, port: int) -> socket.socket:
    """A bound, listening TCP socket. Raises `SettingsError` if the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
    except OSError as error:
        made.close()
        reason = (error.strerror or type(error).__name__).lower()
        raise SettingsError(f"cannot listen on {host} port {port}: {reason}") from None
    made.listen(1024)
    return made


def _allow_files() -> int:
    """Raises the number of files that this process may have open as far as the system lets it. Returns it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if soft == resource.RLIM_INFINITY else soft


def _most_requests(processes: int) -> int:
    """At once, of one of so many HTTP processes: no more than it may have files for."""
    return max(16, min(-(-_MOST_REQUESTS // processes), (_allow_files() - _OTHER_FILES) // _FILES_EACH))


def _http(settings: Settings, ready: Ready, listening: socket.socket, shared: Sharing, place: int) -> None:
    def started() -> None:
        gc.collect()
        gc.freeze()  # what is loaded stays: looking through it held a request up for 30 to 50 ms now and then
        ready()

    if shared.metrics is not None:
        telemetry.share(shared.metrics)
    if settings.hides_callers and place == 0:
        telemetry.log().warning(HIDDEN)
    config = uvicorn.Config(
        create_app(open_node(settings), shared.first), log_config=None, access_log=False, server_header=False,
        timeout_graceful_shutdown=10, timeout_keep_alive=30, limit_concurrency=_most_requests(len(shared.connections)),
        proxy_headers=False, ws_max_size=1 << 16, http=ZeroCopyProtocol,
        ssl_context_factory=(lambda *_: https_context(settings)) if settings.http_tls_certificate else None,
    )  # fmt: skip
    SharingServer(config, started, shared, place).run(sockets=[listening])


def https_context(settings: Settings) -> ssl.SSLContext:
    """ITI TF-2 section 3.19.6: TLS as BCP 195 has it; a client shows a certificate if it has one, or has to. Raises `SettingsError`."""
    assert settings.http_tls_certificate is not None
    context = bcp195.server_context(
        "bcp195", settings.http_tls_certificate, settings.http_tls_key, settings.http_tls_ca, "http_tls_"
    )
    if settings.http_tls_ca is not None and not settings.http_tls_require:
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def _dicom(settings: Settings, ready: Ready, stop: threading.Event, listening: Sequence[socket.socket]) -> None:
    if not listening:  # a port of its own is shared with nobody
        settings = settings.model_copy(update={"dicom_processes": 1})
    node = open_node(settings)
    plain, secure = (*listening, None, None)[:2]
    scp = DicomPort(node, listener=plain, tls_listener=secure)
    scp.start()
    ready()
    stop.wait()
    scp.stop()
    close_node(node)


def _mllp(settings: Settings, ready: Ready, stop: threading.Event, listening: Sequence[socket.socket]) -> None:
    if not listening and settings.mllp_port is None:  # whoever starts it alone wants it there
        settings = settings.model_copy(update={"mllp_port": PORT})
    node = open_node(settings)
    port = MllpPort(node, *listening)
    port.start()
    ready()
    stop.wait()
    port.stop()
    close_node(node)


def _worker(settings: Settings, ready: Ready, stop: threading.Event) -> None:
    node = open_node(settings)
    worker = Worker(node)
    worker.begin()
    active(node, APPLICATION_START)
    ready()
    worker.run(stop)
    active(node, APPLICATION_STOP)
    close_node(node)


def active(node: Node, subtype: Subtype) -> None:
    """ITI TF-2 table 3.20.4.1.1.1-1, Actor-start-stop: the trail has when the server began and ended. A worker tells it: every installation has one."""
    launcher = Agent(identifier="imageshare serve")
    node.trail.write(node.trail.action("activity", subtype, launcher, rest=False))
