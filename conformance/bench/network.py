"""The DICOM network by dcmtk's clients: C-STORE in every way that is worth comparing, C-ECHO, C-FIND, C-GET, C-MOVE."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pydicom

from conformance.bench.peers import Peer
from conformance.bench.report import Measurement

CLIENT = "BENCH"


def store(peer: Peer, files: Sequence[Path], associations: int = 1, *, nodelay: bool = True, work: str = "") -> Measurement:
    """storescu in `associations` processes, each with its share of the files, to the last acknowledgement."""
    name = work or f"C-STORE CT, {associations} association{'s' if associations > 1 else ''}"
    shares = [list(map(str, files[each::associations])) for each in range(associations)]
    before, began = peer.cpu_seconds(), time.perf_counter()
    clients = [
        subprocess.Popen(
            [*_client("storescu", peer), "-R", *share],
            env=_environment(nodelay),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for share in shares
        if share
    ]
    for client in clients:
        _, told = client.communicate()
        if client.returncode:
            raise RuntimeError(f"storescu to {peer.name}: {told.decode(errors='replace')[-300:]}")
    elapsed = time.perf_counter() - began
    return _measured(name, peer, len(files), elapsed, before, sum(path.stat().st_size for path in files))


def ask(peer: Peer, files: Sequence[Path]) -> list[Measurement]:
    """C-ECHO 200 times over one association; C-GET and C-MOVE of the study of `files`."""
    uid = str(pydicom.dcmread(files[0], stop_before_pixels=True, specific_tags=["StudyInstanceUID"]).StudyInstanceUID)
    size = sum(path.stat().st_size for path in files)
    study = ["-k", "0008,0052=STUDY", "-k", f"0020,000d={uid}"]
    measured = [_timed("C-ECHO", peer, 200, [*_client("echoscu", peer)[:-2], "--repeat", "200", *_client("echoscu", peer)[-2:]])]
    with tempfile.TemporaryDirectory(prefix="imageshare-bench-get-") as folder:
        command = [*_client("getscu", peer), "-S", "+B", "-od", folder, *study]
        measured.append(_timed("C-GET of a CT study", peer, len(files), command, size, Path(folder)))
    with _receiver(peer) as folder:
        command = [*_client("movescu", peer), "-S", "-aem", CLIENT, *study]
        measured.append(_timed("C-MOVE of a CT study", peer, len(files), command, size, folder))
    return measured


def find(peer: Peer) -> list[Measurement]:
    """C-FIND 40 times over one association: of every study, and of one patient's."""
    tags = ("0008,0020", "0010,0010", "0020,000d", "0008,0050", "0008,1030", "0020,1208")
    keys = [word for tag in tags for word in ("-k", tag)]
    asked = (("C-FIND of all studies", "0010,0020"), ("C-FIND by Patient ID", "0010,0020=ARC-00007"))
    return [
        _timed(work, peer, 40, [*_client("findscu", peer), "--repeat", "40", "-S", "-k", "0008,0052=STUDY", "-k", patient, *keys])
        for work, patient in asked
    ]


@contextmanager
def _receiver(peer: Peer) -> Iterator[Path]:
    """dcmtk's storescp where `peer` takes the AE title `CLIENT` to be."""
    with tempfile.TemporaryDirectory(prefix="imageshare-bench-move-") as folder:
        process = subprocess.Popen(
            [_program("storescp"), "-aet", CLIENT, "+B", "-od", folder, str(peer.client_port)],
            env=_environment(True), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            time.sleep(0.5)
            yield Path(folder)
        finally:
            process.terminate()
            process.wait()


def _timed(work: str, peer: Peer, count: int, command: Sequence[str], size: int = 0, folder: Path | None = None) -> Measurement:
    before, began = peer.cpu_seconds(), time.perf_counter()
    done = subprocess.run(command, env=_environment(True), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    elapsed = time.perf_counter() - began
    if done.returncode or (folder is not None and len(list(folder.iterdir())) < count):
        raise RuntimeError(f"{work} with {peer.name}: {done.stderr.decode(errors='replace')[-300:]}")
    return _measured(work, peer, count, elapsed, before, size)


def _measured(work: str, peer: Peer, count: int, elapsed: float, cpu_before: float, size: int) -> Measurement:
    cpu = 1000 * (peer.cpu_seconds() - cpu_before) / count
    unit = "files/s" if size else "requests/s"
    return Measurement(work, peer.name, count / elapsed, unit, size / elapsed / 1e6, cpu, peer.peak_memory())


def _client(name: str, peer: Peer) -> list[str]:
    return [_program(name), "-aec", peer.ae_title, "-aet", CLIENT, "127.0.0.1", str(peer.dicom_port)]


def _environment(nodelay: bool) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "TCP_NODELAY"}
    return {**kept, "TCP_NODELAY": "1"} if nodelay else kept


def _program(name: str) -> str:
    # pynetdicom installs scripts of the same names.
    program = shutil.which(name, path="/usr/bin:/usr/local/bin")
    if program is None:
        raise RuntimeError(f"dcmtk's {name} is not installed")
    return program
