"""Taking in and giving back a CT study over DICOMweb: STOW-RS and WADO-RS, beside Orthanc and a bare socket."""

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pydicom

from conformance.bench.peers import Peer, free_port
from conformance.bench.report import Measurement
from conformance.bench.wire import Connection


def stow(peer: Peer, files: Sequence[Path]) -> Measurement:
    """One STOW-RS request with all instances, streamed from disk."""
    before, began = peer.cpu_seconds(), time.perf_counter()
    status = post(peer, [(path.stat().st_size, path) for path in files])
    if status != 200:
        raise RuntimeError(f"STOW-RS to {peer.name} answered {status}")
    return _measured("STOW-RS to acknowledgement", peer, files, time.perf_counter() - began, before)


def post(peer: Peer, parts: Sequence[tuple[int, Path | bytes]]) -> int:
    """STOW-RS of files or bytes; returns the HTTP status."""
    head, tail = b"\r\n--bench\r\nContent-Type: application/dicom\r\n\r\n", b"\r\n--bench--\r\n"

    def body() -> Iterator[bytes]:
        for _, part in parts:
            yield head
            yield part if isinstance(part, bytes) else part.read_bytes()
        yield tail

    length = sum(len(head) + size for size, _ in parts) + len(tail)
    connection = Connection(peer.dicomweb, peer.headers)
    status, _ = connection.post(
        f"{_path(peer)}/studies",
        'multipart/related; type="application/dicom"; boundary=bench',
        length,
        body(),
        "application/dicom+json",
    )
    connection.close()
    return status


def retrieve(peer: Peer, files: Sequence[Path]) -> Measurement:
    """WADO-RS of the whole study, over a new connection."""
    uid = str(pydicom.dcmread(files[0], stop_before_pixels=True, specific_tags=["StudyInstanceUID"]).StudyInstanceUID)
    expected = sum(path.stat().st_size for path in files)
    before = peer.cpu_seconds()
    connection = Connection(peer.dicomweb, peer.headers)
    began = time.perf_counter()
    status, size = connection.get(
        f"{_path(peer)}/studies/{uid}", 'multipart/related; type="application/dicom"; transfer-syntax=*'
    )
    elapsed = time.perf_counter() - began
    connection.close()
    if status != 200 or size < 0.99 * expected:
        raise RuntimeError(f"WADO-RS from {peer.name} answered {status} with {size} of {expected} bytes")
    return _measured("WADO-RS, whole study", peer, files, elapsed, before)


def ceiling(files: Sequence[Path]) -> Measurement:
    """The same bytes from the same files through a bare socket: what the machine can do."""
    port, size = free_port(), sum(path.stat().st_size for path in files)
    listener = socket.create_server(("127.0.0.1", port))

    def serve() -> None:
        peer, _ = listener.accept()
        with peer:
            for path in files:
                with path.open("rb") as file:
                    peer.sendfile(file)

    thread = threading.Thread(target=serve)
    thread.start()
    began, have, buffer = time.perf_counter(), 0, bytearray(1 << 20)
    with socket.create_connection(("127.0.0.1", port)) as client:
        while got := client.recv_into(buffer):
            have += got
    elapsed = time.perf_counter() - began
    thread.join()
    listener.close()
    if have != size:
        raise RuntimeError("the ceiling lost bytes")
    return Measurement("WADO-RS, whole study", "bare socket", len(files) / elapsed, "files/s", size / elapsed / 1e6)


def until_visible(peer: Peer, uid: str, files: Sequence[Path], seconds: float = 300) -> Measurement:
    """From the last acknowledgement until QIDO-RS lists every instance: what a server still does afterwards, its waiting included."""
    connection = Connection(peer.dicomweb, peer.headers)
    before, began = peer.cpu_seconds(), time.perf_counter()
    while time.perf_counter() - began < seconds:
        status, size = connection.get(f"{_path(peer)}/studies/{uid}/instances?limit={len(files)}", "application/dicom+json")
        if status == 200 and size > 200 * len(files):
            connection.close()
            return _measured("until visible, after STOW-RS", peer, files, time.perf_counter() - began, before)
        time.sleep(0.2)
    raise RuntimeError(f"{peer.name} did not publish the study in {seconds:.0f} s")


def _path(peer: Peer) -> str:
    return "/" + peer.dicomweb.split("/", 3)[3]


def _measured(work: str, peer: Peer, files: Sequence[Path], elapsed: float, cpu_before: float) -> Measurement:
    size = sum(path.stat().st_size for path in files)
    cpu = 1000 * (peer.cpu_seconds() - cpu_before) / len(files)
    return Measurement(work, peer.name, len(files) / elapsed, "files/s", size / elapsed / 1e6, cpu, peer.peak_memory())
