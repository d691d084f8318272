"""FHIR read and search over many studies, beside a constant body from the same server."""

import json
import time
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any

from rich.progress import Progress

from conformance.bench import wire
from conformance.bench.corpus import small_studies
from conformance.bench.images import post
from conformance.bench.peers import Peer
from conformance.bench.report import Measurement

_PER_REQUEST = 200
_CONSTANT = "constant body (/livez)"


def fill(peer: Peer, studies: int, progress: Progress) -> float:
    """Stores `studies` by STOW-RS and waits until all are published. Returns the seconds that took."""
    began = time.perf_counter()
    sent, seen = progress.add_task("store studies", total=studies), progress.add_task("published", total=studies)
    batch: list[tuple[int, bytes]] = []
    for number, data in enumerate(small_studies(studies), 1):
        batch.append((len(data), data))
        if len(batch) == _PER_REQUEST or number == studies:
            status = post(peer, batch)
            if status != 200:
                raise RuntimeError(f"STOW-RS answered {status}")
            progress.update(sent, completed=number)
            batch = []
    while (found := _total(peer)) < studies:
        progress.update(seen, completed=found)
        time.sleep(2)
    progress.update(seen, completed=studies)
    return time.perf_counter() - began


def measure(peer: Peer, seconds: float, connections: Sequence[int] = (1, 8)) -> list[Measurement]:
    """Requests per second, p50 and p95 in ms, with one and with several connections."""
    page = _get(peer, "/fhir/ImagingStudy?_count=200")
    entries = [entry["resource"] for entry in page["entry"] if entry["resource"]["resourceType"] == "ImagingStudy"]
    studies = [entry["id"] for entry in entries]
    patients = [entry["subject"]["reference"] for entry in entries]
    identifiers = [entry["identifier"][0]["value"] for entry in entries]
    asked: dict[str, Callable[[int], str]] = {
        _CONSTANT: lambda n: "/livez",
        "read ImagingStudy": lambda n: f"/fhir/ImagingStudy/{studies[n % len(studies)]}",
        "search by identifier": lambda n: f"/fhir/ImagingStudy?identifier=urn:dicom:uid%7C{identifiers[n % len(identifiers)]}",
        "search by patient, _include": lambda n: (
            f"/fhir/ImagingStudy?patient={patients[n % len(patients)]}&_include=ImagingStudy:endpoint"
        ),
        "newest 20 CT of all patients": lambda n: "/fhir/ImagingStudy?modality=CT&_sort=-started&_count=20",
        "one month, newest 20": lambda n: (
            f"/fhir/ImagingStudy?started=ge{2006 + n % 20}-03&started=lt{2006 + n % 20}-04&_count=20"
        ),
    }
    measured = []
    for name, path in asked.items():
        for count in connections:
            load = wire.run(peer.base, peer.headers, path, connections=count, seconds=seconds)
            if load.failed:
                raise RuntimeError(f"{name}: {load.failed} of {len(load.latencies)} requests failed")
            with_ = f", {count} connection{'s' if count > 1 else ''}"
            measured.append(
                Measurement(
                    name + with_, peer.name, load.rate, "requests/s", p50=load.percentile(0.5), p95=load.percentile(0.95),
                    memory=peer.peak_memory(), ceiling="" if name == _CONSTANT else _CONSTANT + with_,
                )
            )  # fmt: skip
    return measured


def _total(peer: Peer) -> int:
    return int(_get(peer, "/fhir/ImagingStudy?_summary=count")["total"])


def _get(peer: Peer, path: str) -> dict[str, Any]:
    request = urllib.request.Request(peer.base + path, headers=peer.headers)  # noqa: S310 our own loopback URL
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        found: dict[str, Any] = json.load(answer)
    return found
