"""QIDO-RS, metadata, frames, rendered images and ZIP over an archive of small studies, one CT, one radiograph and one deep multi-frame."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import pydicom
from rich.progress import Progress

from conformance.bench import corpus, wire
from conformance.bench.images import post
from conformance.bench.peers import Peer
from conformance.bench.report import Measurement

_PER_REQUEST = 100
_JSON = "application/dicom+json"
_OCTETS = 'multipart/related; type="application/octet-stream"'


@dataclass(frozen=True, slots=True)
class Stored:
    """UIDs of what `fill` has stored: (study, series, instance) of the CT's first image, the radiograph, the multi-frame."""

    ct: tuple[str, str, str]
    ct_instances: int
    radiograph: tuple[str, str, str]
    deep: tuple[str, str, str]
    studies: int


def fill(peer: Peer, ct: Sequence[Path], studies: int, progress: Progress) -> Stored:
    """Stores the same objects into each peer by STOW-RS and waits until all can be found."""
    series, instances = 5, 2
    singles = [corpus.radiograph(), corpus.deep()]
    total = len(ct) + len(singles) + studies * series * instances
    task = progress.add_task(f"fill {peer.name}", total=total)

    def everything() -> Iterator[bytes]:
        yield from singles
        yield from (path.read_bytes() for path in ct)
        yield from corpus.archive(studies, series, instances)

    source = everything()
    while batch := list(islice(source, _PER_REQUEST)):
        status = post(peer, [(len(data), data) for data in batch])
        if status != 200:
            raise RuntimeError(f"STOW-RS to {peer.name} answered {status}")
        progress.advance(task, len(batch))
    kept = [_uids(data) for data in (ct[0].read_bytes(), *singles)]
    found = Stored(kept[0], len(ct), kept[1], kept[2], studies + 3)
    _await(peer, found)
    return found


def measure(peer: Peer, stored: Stored, seconds: float, connections: Sequence[int] = (1, 8)) -> list[Measurement]:
    """Every request of the suite, with one connection (latency) and with several (requests/s), server CPU beside both."""
    measured = []
    for ask in _asked(peer, stored):
        for count in connections:
            if count > 1 and not ask.many:
                continue
            headers = {**peer.headers, **({"Accept-Encoding": "gzip"} if ask.gzip else {})}
            wire.run(
                peer.base, headers, ask.path, connections=1, seconds=0.05, accept=ask.accept, least=ask.least
            )  # what is made once
            before = peer.cpu_seconds()
            load = wire.run(peer.base, headers, ask.path, connections=count, seconds=seconds, accept=ask.accept, least=ask.least)
            if load.failed:
                raise RuntimeError(f"{peer.name}: {ask.name}: {load.failed} of {len(load.latencies)} requests failed")
            cpu = 1000 * (peer.cpu_seconds() - before) / len(load.latencies)
            with_ = f", {count} connection{'s' if count > 1 else ''}"
            measured.append(
                Measurement(
                    ask.name + with_, peer.name, load.rate, "requests/s", load.rate * load.bytes / 1e6, cpu, peer.peak_memory(),
                    load.percentile(0.5), load.percentile(0.95),
                )
            )  # fmt: skip
    return measured


@dataclass(frozen=True, slots=True)
class _Ask:
    """One kind of request: `least` bytes that an answer must have, `many` whether it is also asked over several connections."""

    name: str
    path: Callable[[int], str]
    accept: str = _JSON
    least: int = 2
    gzip: bool = False
    many: bool = True


def _asked(peer: Peer, stored: Stored) -> list[_Ask]:
    root = "/" + peer.dicomweb.split("/", 3)[3]
    ct_series = f"{root}/studies/{stored.ct[0]}/series/{stored.ct[1]}"
    image, plain, many = (_instance(root, each) for each in (stored.ct, stored.radiograph, stored.deep))
    metadata = _Ask("metadata of a CT series", lambda n: f"{ct_series}/metadata", least=1000, many=False)
    zipped = f"{root}/studies/{stored.ct[0]}?accept=application/zip"
    if peer.name == "Orthanc":
        zipped = f"/studies/{peer.study_id(stored.ct[0])}/archive"
    return [
        _Ask("QIDO all studies", lambda n: f"{root}/studies", least=200 * stored.studies),
        _Ask("QIDO by PatientID", lambda n: f"{root}/studies?PatientID=ARC-{n % 100:05}", least=200),
        _Ask("QIDO by date range", lambda n: f"{root}/studies?StudyDate=20200301-20200331", least=200),
        _Ask("QIDO by name with wildcard", lambda n: f"{root}/studies?PatientName=Archive{n % 10}*", least=200),
        _Ask("QIDO page of 25 at 100", lambda n: f"{root}/studies?limit=25&offset=100", least=200),
        _Ask("QIDO series of a study", lambda n: f"{root}/studies/{stored.ct[0]}/series", least=200),
        _Ask("QIDO instances of a series", lambda n: f"{ct_series}/instances", least=1000),
        metadata,
        replace(metadata, name="metadata of a CT series, gzip", gzip=True),
        _Ask("frame, CT", lambda n: f"{image}/frames/1", _OCTETS, 500_000),
        _Ask("frame of a deep multi-frame", lambda n: f"{many}/frames/{1 + n % 200}", _OCTETS, 500_000),
        _Ask("rendered CT", lambda n: f"{image}/rendered?window={n % 997},400,linear", "image/jpeg", 1000),
        _Ask("rendered radiograph", lambda n: f"{plain}/rendered?window={2000 + n % 997},4000,linear", "image/jpeg", 1000),
        _Ask("ZIP of a CT study", lambda n: zipped, "application/zip", 1000, many=False),
    ]


def _instance(root: str, uids: tuple[str, str, str]) -> str:
    study, series, instance = uids
    return f"{root}/studies/{study}/series/{series}/instances/{instance}"


def _uids(data: bytes) -> tuple[str, str, str]:
    found = pydicom.dcmread(pydicom.filebase.DicomBytesIO(data), stop_before_pixels=True)
    return str(found.StudyInstanceUID), str(found.SeriesInstanceUID), str(found.SOPInstanceUID)


def _await(peer: Peer, stored: Stored) -> None:
    """Until every study, and every instance of the CT, is listed."""
    root = "/" + peer.dicomweb.split("/", 3)[3]
    wanted = ((f"{root}/studies?limit=1000", stored.studies), (f"{root}/studies/{stored.ct[0]}/instances", stored.ct_instances))
    for path, count in wanted:
        peer.await_results(path, count)
