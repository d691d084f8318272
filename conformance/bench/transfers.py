"""A large study over IHE's transactions: ITI-41 in, ITI-43 and RAD-69 out, beside what disk and socket do with the same bytes in the same run.

Its instances are one CT image of 525 kB under many UIDs. `first byte` is the time from the request's last byte until the answer's first.
"""

import contextlib
import json
import os
import shutil
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, Final, Self

import psutil
import pydicom
from pydicom.uid import UID

from conformance.bench import images, targets
from conformance.bench.corpus import ct_study
from conformance.bench.peers import Peer
from conformance.bench.report import Measurement
from conformance.bench.wire import Connection, Request
from ihe import iti18, iti41, iti43, mtom, rad69, soap
from ihe.find_documents import FindDocuments
from ihe.iti41 import Provided
from ihe.iti43 import DocumentRequest
from ihe.mtom import Attachment
from ihe.rad69 import SeriesRequest, StudyRequest
from profiles.document import APPROVED, HAS_MEMBER, Association, Code, DocumentEntry, Submission, SubmissionSet

SETTINGS: Final = {"max_submission_bytes": 256 << 20}
"""For the submission that has everything in one envelope; the others are of at most `TOGETHER` documents, as the default allows."""
TOGETHER: Final = 1000
AT_ONCE: Final = 4
LARGE: Final = 8
"""Documents of the submission that has few of them."""
_SOURCE, _REPOSITORY, _REGISTRY = "/xds/imaging-source", "/xds/repository", "/xds/registry"
_BOUNDARY: Final = "of-the-bench"
_PROVIDING: Final = mtom.content_type(_BOUNDARY, iti41.REQUEST_ACTION)
_SYNCING: Final = 8
_BLOCK: Final = 1 << 20
_DROP: Final = Path("/proc/sys/vm/drop_caches")
_CALM: Final = 0.1
_UID: Final = "2.25.11112222333344445555666670000000"
_DIGITS: Final = 7
_CODE: Final = Code("c", "2.999.1", "Bench")


@dataclass(frozen=True)
class Study:
    """`count` instances of one series, as Part 10 files made of one."""

    template: bytes
    study_uid: str
    series_uid: str
    count: int

    @property
    def size(self) -> int:
        return self.count * len(self.template)

    def uid(self, number: int) -> str:
        return f"{_UID[:-_DIGITS]}{number:0{_DIGITS}}"

    def file(self, number: int) -> bytes:
        return self.template.replace(_UID.encode(), self.uid(number).encode())


def study(folder: Path, gigabytes: float) -> Study:
    """About that many GB."""
    image = pydicom.dcmread(ct_study(folder, 1)[0])
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = UID(_UID)
    written = BytesIO()
    image.save_as(written, enforce_file_format=True)
    count = max(LARGE, round(gigabytes * 1e9 / len(written.getvalue())))
    return Study(written.getvalue(), str(image.StudyInstanceUID), str(image.SeriesInstanceUID), count)


def suite(peer: Peer, folder: Path, what: Study) -> Iterator[Measurement]:
    """Everything, over a server that has nothing yet; `folder` is on its disk."""
    blobs = folder / "data"
    before = _files(blobs)
    _take_in(peer, what)
    stored = _files(blobs, before)
    source = _Source(peer, what)
    yield from _given_back(targets.RAD_69, source.images, stored, peer, what)
    before = _files(blobs)
    yield _synced(folder / "each", what)
    yield source.provide(targets.ITI_41, what.count, TOGETHER, 1)
    kept = _files(blobs, before)
    yield from _given_back(targets.ITI_43, source.documents, kept, peer, what)
    for path in kept:
        path.unlink()  # the disk need not hold everything at once
    yield _synced_stream(folder / "one", what)
    yield source.provide(targets.ITI_41_LARGE, LARGE, LARGE, -(-what.count // LARGE))
    yield source.provide(targets.ITI_41_ONE, what.count, what.count, 1)


# --- ceilings


def _synced(folder: Path, what: Study) -> Measurement:
    """What the disk takes: the same files, each synced, as many at once as ours."""
    folder.mkdir()
    os.sync()

    def write(number: int) -> None:
        _write(folder / f"{number}", [what.template])

    with ThreadPoolExecutor(_SYNCING) as pool:
        began = time.perf_counter()
        list(pool.map(write, range(what.count)))
        _sync_folder(folder)
        elapsed = time.perf_counter() - began
    shutil.rmtree(folder)
    return _rate(targets.SYNCED, what.size, elapsed)


def _synced_stream(path: Path, what: Study) -> Measurement:
    """The same as one file."""
    os.sync()
    began = time.perf_counter()
    _write(path, (what.template for _ in range(what.count)))
    elapsed = time.perf_counter() - began
    path.unlink()
    return _rate(targets.SYNCED_STREAM, what.size, elapsed)


def _write(path: Path, pieces: Sequence[bytes] | Iterator[bytes]) -> None:
    with path.open("xb", buffering=0) as file:
        for piece in pieces:
            file.write(piece)
        os.fdatasync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(descriptor)
    os.close(descriptor)


def _forgotten(files: Sequence[Path]) -> None:
    """None of these is in the page cache after this; all caches are dropped where that is allowed."""
    os.sync()
    with contextlib.suppress(OSError):
        _DROP.write_text("3\n")
        return
    for path in files:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _read(files: Sequence[Path]) -> float:
    """Seconds to read them one after the other, as cat does."""
    began, buffer = time.perf_counter(), bytearray(_BLOCK)
    for path in files:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    return time.perf_counter() - began


def _files(folder: Path, known: Sequence[Path] = ()) -> list[Path]:
    """The large files below `folder` that were not known, in the order in which they were written."""
    before = set(known)
    found = [path for path in folder.rglob("*") if path not in before and path.is_file() and path.stat().st_size > _BLOCK // 4]
    return sorted((path for path in found if "imageshare.db" not in path.name), key=lambda path: path.stat().st_mtime_ns)


# --- in


def _take_in(peer: Peer, what: Study) -> None:
    """By STOW-RS, 500 a request, until every one is to be seen."""
    for start in range(0, what.count, 500):
        numbers = range(start, min(what.count, start + 500))
        status = images.post(peer, [(len(what.template), what.file(number)) for number in numbers])
        if status != 200:
            raise RuntimeError(f"STOW-RS answered {status}")
    for _ in range(1200):
        shown = peer.results(f"/dicomweb/studies?StudyInstanceUID={what.study_uid}&includefield=NumberOfStudyRelatedInstances")
        if shown and shown[0]["00201208"]["Value"] == [what.count]:
            return
        time.sleep(0.5)
    raise RuntimeError("the study was not shown whole within ten minutes")


class _Source:
    """A Document Source and Consumer of the study's patient."""

    def __init__(self, peer: Peer, what: Study) -> None:
        self._peer, self._what = peer, what
        with contextlib.closing(Connection(peer.base, peer.headers)) as connection:
            _, found = connection.fetch("/fhir/Patient", "application/fhir+json")
        identifier = json.loads(found)["entry"][0]["resource"]["identifier"][0]
        self._patient = f"{identifier['value']}^^^&{identifier['system'].removeprefix('urn:oid:')}&ISO"
        manifest = self._manifest()
        self._repository = manifest.repository_unique_id
        request = DocumentRequest(self._repository, manifest.unique_id)
        answer = self._called(_REPOSITORY, iti43.REQUEST_ACTION, iti43.request([request]))
        kos = pydicom.dcmread(BytesIO(answer[answer.index(b"\0" * 128 + b"DICM") :]), force=True)
        evidence = kos.CurrentRequestedProcedureEvidenceSequence[0]
        self._imaging_source = str(evidence.ReferencedSeriesSequence[0].RetrieveLocationUID)
        self._number = 0
        self._provided: list[str] = []

    def _manifest(self) -> DocumentEntry:
        """The study's own, which is registered a moment after the study is shown."""
        query = FindDocuments(self._patient, (APPROVED,)).query()
        for _ in range(600):
            answer = self._called(_REGISTRY, iti18.REQUEST_ACTION, iti18.request(query))
            if found := iti18.parse_response(soap.response_of(soap.parse(answer))).entries:
                return found[0]
            time.sleep(0.5)
        raise RuntimeError("the study's manifest was not registered within five minutes")

    def _called(self, path: str, action: str, body: Any) -> bytes:
        """The answer's body."""
        request = _request(path, action, body)
        connection = socket.create_connection(_address(self._peer), 300)
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n" + "".join(
            f"{name}: {value}\r\n" for name, value in {**self._peer.headers, **request.headers, "Connection": "close"}.items()
        )
        with connection:
            connection.sendall(f"{head}Content-Length: {len(request.body)}\r\n\r\n".encode() + request.body)
            return b"".join(iter(lambda: connection.recv(_BLOCK), b"")).partition(b"\r\n\r\n")[2]

    def images(self) -> Request:
        """RAD-69 of the whole study."""
        documents = tuple(DocumentRequest(self._imaging_source, self._what.uid(number)) for number in range(self._what.count))
        asked = StudyRequest(self._what.study_uid, (SeriesRequest(self._what.series_uid, documents),))
        return _request(_SOURCE, rad69.REQUEST_ACTION, rad69.request([asked], ["1.2.840.10008.1.2.1"]))

    def documents(self) -> Request:
        """ITI-43 of the documents that were provided last."""
        asked = [DocumentRequest(self._repository, unique_id) for unique_id in self._provided]
        return _request(_REPOSITORY, iti43.REQUEST_ACTION, iti43.request(asked))

    def provide(self, work: str, count: int, together: int, images_each: int) -> Measurement:
        """ITI-41 of `count` documents, so many in a submission, each as large as so many images."""
        sent = [self._submission(range(start, min(count, start + together))) for start in range(0, count, together)]
        self._provided = [entry.unique_id for each in sent for entry in each.documents]
        size, length = images_each * len(self._what.template), 0
        before, connection = self._peer.cpu_seconds(), Connection(self._peer.base, self._peer.headers)
        elapsed = 0.0
        os.sync()
        with contextlib.closing(connection), _Memory(self._peer) as memory:
            for submission in sent:
                root, attachments = self._message(submission, size)
                pieces = mtom.chunks(root, attachments, lambda _: (self._what.template for _ in range(images_each)), _BOUNDARY)
                all_of_it = mtom.content_length(root, attachments, _BOUNDARY)
                began = time.perf_counter()
                status, answered = connection.post(_REPOSITORY, _PROVIDING, all_of_it, pieces)
                elapsed += time.perf_counter() - began
                length += all_of_it
                if status != 200 or answered > 2000:
                    raise RuntimeError(f"{work} answered {status} with {answered} bytes: it was refused")
        cpu = 1000 * (self._peer.cpu_seconds() - before) / count
        note = f"{count:,} documents, {min(count, together):,} in a submission, the last envelope of {len(root) / 1e6:.1f} MB"
        return _rate(work, length, elapsed, cpu_ms=cpu, memory=memory.most, note=note)

    def _message(self, submission: Submission, size: int) -> tuple[bytes, list[Attachment]]:
        body = iti41.request(submission, [Provided(each.entry_uuid, content_id=each.entry_uuid) for each in submission.documents])
        root = soap.render_request(iti41.REQUEST_ACTION, body, "urn:uuid:0a0a0a0a-0000-4000-8000-000000000001", self._peer.base)
        return root, [Attachment(each.entry_uuid, "application/pdf", size) for each in submission.documents]

    def _submission(self, numbers: Iterable[int]) -> Submission:
        """As little metadata as ITI TF-3 table 4.3.1-3 lets a source say."""
        self._number += 1
        first = DocumentEntry(
            "Document0", "", self._patient, self._patient, _CODE, _CODE, _CODE, (_CODE,), _CODE, _CODE, "application/pdf", "en-US", "20260105"
        )  # fmt: skip
        entries = tuple(
            replace(first, entry_uuid=f"Document{number}", unique_id=f"2.999.{self._number}.{number}") for number in numbers
        )
        members = tuple(Association(f"Of{each.entry_uuid}", HAS_MEMBER, "Set", each.entry_uuid, "Original") for each in entries)
        return Submission(
            SubmissionSet("Set", f"2.999.0.{self._number}", self._patient, "2.999.8", "20260105", _CODE), entries, (), members
        )


def _request(path: str, action: str, body: Any) -> Request:
    message = soap.render_request(action, body, "urn:uuid:0a0a0a0a-0000-4000-8000-000000000001", f"http://127.0.0.1{path}")
    return Request("POST", path, {"Content-Type": soap.content_type(action)}, message)


# --- out


def _given_back(name: str, make: Callable[[], Request], files: Sequence[Path], peer: Peer, what: Study) -> Iterator[Measurement]:
    """Cold and warm, beside reading and sending the same files; then several at once."""
    request = make()
    _forgotten(files)
    yield _rate(targets.cold_ceiling(name), what.size, _read(files))
    _forgotten(files)
    yield _asked(targets.cold(name), request, peer, what)
    _read(files)
    bare = images.ceiling(files)
    yield _rate(targets.warm_ceiling(name), what.size, what.size / (bare.megabytes * 1e6))
    rounds = [_asked(targets.warm(name), request, peer, what) for _ in range(3)]
    yield replace(max(rounds, key=lambda row: row.rate), p50=statistics.median(row.p50 for row in rounds))
    with _Memory(peer) as memory, ThreadPoolExecutor(AT_ONCE) as pool:
        began = time.perf_counter()
        found = list(pool.map(lambda _: _transfer(peer, request), range(AT_ONCE)))
        elapsed = time.perf_counter() - began
    first = max(first for first, _ in found)
    yield _rate(targets.at_once(name), sum(size for _, size in found), elapsed, p50=1000 * first, memory=memory.most)


def _asked(work: str, request: Request, peer: Peer, what: Study) -> Measurement:
    before = peer.cpu_seconds()
    with _Memory(peer) as memory:
        began = time.perf_counter()
        first, size = _transfer(peer, request)
        elapsed = time.perf_counter() - began
    if size < what.size:
        raise RuntimeError(f"{work}: {size} of {what.size} bytes came")
    cpu = 1000 * (peer.cpu_seconds() - before) / what.count
    return _rate(work, size, elapsed, p50=1000 * first, cpu_ms=cpu, memory=memory.most)


def _transfer(peer: Peer, request: Request) -> tuple[float, int]:
    """Seconds until the first byte, and how many bytes came."""
    fields = {**peer.headers, **request.headers, "Content-Length": str(len(request.body)), "Connection": "close"}
    head = f"POST {request.path} HTTP/1.1\r\nHost: 127.0.0.1\r\n" + "".join(
        f"{name}: {value}\r\n" for name, value in fields.items()
    )
    buffer, size = bytearray(_BLOCK), 0
    with socket.create_connection(_address(peer), 300) as connection:
        connection.sendall(f"{head}\r\n".encode() + request.body)
        sent = time.perf_counter()
        size = connection.recv_into(buffer)
        first = time.perf_counter() - sent
        if not bytes(buffer[:12]) == b"HTTP/1.1 200":
            raise RuntimeError(f"{request.path} answered {bytes(buffer[:12])!r}")
        while got := connection.recv_into(buffer):
            size += got
    return first, size


def _address(peer: Peer) -> tuple[str, int]:
    return "127.0.0.1", int(peer.base.rpartition(":")[2])


class _Memory:
    """The most MB that the largest process of a server has had meanwhile (PSS: what it shares with others counts for its part)."""

    def __init__(self, peer: Peer) -> None:
        self._root = psutil.Process(peer.process.pid)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self.most = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ended.wait(_CALM):
            for process in self._root.children(recursive=True):
                with contextlib.suppress(OSError, psutil.Error):
                    rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
                    (line,) = [line for line in rollup.splitlines() if line.startswith("Pss:")]
                    self.most = max(self.most, int(line.split()[1]) * 1024 / 1e6)


def _rate(work: str, size: int, elapsed: float, **more: Any) -> Measurement:
    return Measurement(work, "imageshare", size / elapsed / 1e6, "MB/s", size / elapsed / 1e6, **more)
