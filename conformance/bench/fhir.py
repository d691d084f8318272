"""The FHIR server over many studies: Bundles in, then reads, searches and writes, beside a constant body from the same server.

A tenth of the studies is stored first and the searches are measured over it, then the rest is stored in Bundles of three sizes, and everything
is measured. One connection tells how long a request takes; several tell how many the server does.
"""

import http.client
import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote, urlsplit

import psutil
from rich.progress import Progress

from conformance.bench import fhir_corpus as corpus
from conformance.bench import peers, postgresql, targets, wire
from conformance.bench.peers import Peer
from conformance.bench.report import Measurement
from conformance.bench.wire import Request

DATABASES: Final = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
BROKEN: Final = (RuntimeError, OSError, http.client.HTTPException, psutil.Error)
"""A server that refuses what the suite needs, or is gone."""
CONSTANT: Final = targets.CONSTANT
LARGE: Final = "bench-large"
_JSON: Final = {"Content-Type": "application/fhir+json"}
_CONNECTIONS: Final = {1: targets.ONE, 8: targets.MANY}
_MANY: Final = max(_CONNECTIONS)
_STRIDE: Final = 7919
"""Between one study that is asked for and the next: no page of the database is asked for twice in a row."""
_PAGE: Final = 500
_SEARCH_BYTES: Final = 600
"""A searchset with a match is longer, one without is shorter."""
_FILL: Final = 500
_SETTLES: Final = 10.0


@contextmanager
def server(folder: Path, database: str, settings: Mapping[str, object] = {}) -> Iterator[Peer]:
    """This project over an empty database, `sqlite` or `postgresql`, as its own process, with its defaults but for `settings`. Raises `NoPostgresql`."""
    if database == "sqlite":
        with peers.imageshare(folder / "data", settings=settings) as peer:
            peer.name = DATABASES[database]
            yield peer
        return
    with postgresql.running(durable=True) as url, peers.imageshare(folder / "data", database_url=url, settings=settings) as peer:
        peer.name, peer.database = DATABASES[database], postgresql.process(url)
        yield peer


def suite(peer: Peer, studies: int, patients: int, seconds: float, progress: Progress) -> Iterator[Measurement]:
    """Everything, over `studies` of `patients`; each load for `seconds`. What goes wrong on the way is one of `BROKEN`."""
    stored, tenth = Stored(studies, patients), max(1, studies // 10)
    with _Client(peer, progress) as client:
        client.put_patients(0, stored.patients_of(tenth))
        client.post_studies(stored, tenth, _FILL)
        client.put_large(stored)
        _settled(peer)
        asked = _searches(client, stored)
    for ask in progress.track(asked, description=f"{peer.name}: searches over {tenth:,} studies"):
        yield _measured(peer, ask, f"{ask.name}, {targets.TENTH}", 1, seconds)
    with _Client(peer, progress) as client:
        yield client.put_patients(stored.patients_of(tenth), patients)
        for place, size in enumerate(targets.BUNDLES, 1):
            end = tenth + (studies - tenth) * place // len(targets.BUNDLES)
            yield client.post_studies(stored, end, size)
        _settled(peer)
        asked = [*_reads(stored), *_searches(client, stored), *_pages(client), *_writes(stored)]
    for ask in progress.track(asked, description=f"{peer.name}: requests over {studies:,} studies"):
        for count in _CONNECTIONS:
            yield _measured(peer, ask, ask.name, count, seconds)


def _settled(peer: Peer) -> None:
    """Gives the database time to count what is new, as autovacuum does."""
    if peer.database:
        time.sleep(_SETTLES)


@dataclass
class Stored:
    """What is there: `ids[n]` is the id of study n, `large` are the studies of 188 kB. `new` and `values` are numbers that were not used before."""

    studies: int
    patients: int
    ids: list[str] = field(default_factory=list)
    large: list[bytes] = field(init=False)
    new: Iterator[int] = field(init=False)
    values: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.new = itertools.count(max(self.studies, self.patients))
        subject = f"Patient/{corpus.patient_id(0)}"
        self.large = [corpus.large_study(self.large_id(turn), subject) for turn in range(_MANY)]

    def patient_of(self, study: int) -> int:
        """Studies of one patient follow each other."""
        return study * self.patients // self.studies if study < self.studies else study % self.patients

    def patients_of(self, studies: int) -> int:
        """How many patients the first of the studies have."""
        return self.patient_of(studies - 1) + 1

    def study(self, number: int) -> corpus.Json:
        return corpus.study(number, f"Patient/{corpus.patient_id(self.patient_of(number))}")

    def some(self, turn: int) -> int:
        """The number of a study, another one each turn."""
        return turn * _STRIDE % len(self.ids)

    def id(self, turn: int) -> str:
        return self.ids[self.some(turn)]

    def large_id(self, turn: int) -> str:
        """Connections that ask at the same time have different ones."""
        return f"{LARGE}-{turn % _MANY}"

    def large_update(self, turn: int) -> Request:
        """Each is another version."""
        body = corpus.varied(self.large[turn % _MANY], next(self.values))
        return Request("PUT", f"/fhir/ImagingStudy/{self.large_id(turn)}", _JSON, body)


class _Client:
    """A client that reads what it is answered, over one connection. The server closes that where it rests for some seconds."""

    def __init__(self, peer: Peer, progress: Progress) -> None:
        parts = urlsplit(peer.base)
        self._peer, self._progress = peer, progress
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=1800)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def ask(self, method: str, path: str, body: bytes = b"") -> corpus.Json:
        """What is answered. Raises `RuntimeError` where that is an error."""
        self._connection.request(method, path, body, {**self._peer.headers, **(_JSON if body else {})})
        with self._connection.getresponse() as answer:
            told = answer.read()
            if answer.status >= 400:
                why = told[:500].decode(errors="replace")
                raise RuntimeError(f"{self._peer.name}: {method} {path} answered {answer.status}: {why}")
        found: corpus.Json = json.loads(told)
        return found

    def put_patients(self, first: int, end: int) -> Measurement:
        """Stores Patients, with ids of this client's choice."""
        entries = (corpus.entry("PUT", f"Patient/{corpus.patient_id(n)}", corpus.patient(n)) for n in range(first, end))
        work = f"transaction of {_FILL} Patients"
        measured, _ = self._transactions(work, "patients/s", entries, end - first, _FILL)
        return measured

    def post_studies(self, stored: Stored, end: int, size: int) -> Measurement:
        """Stores the studies that follow those that are there, until there are `end`."""
        first = len(stored.ids)
        entries = (corpus.entry("POST", "ImagingStudy", stored.study(n)) for n in range(first, end))
        measured, locations = self._transactions(targets.bundle(size), "studies/s", entries, end - first, size)
        stored.ids += [each.split("/")[1] for each in locations]
        return measured

    def put_large(self, stored: Stored) -> None:
        for turn in range(_MANY):
            request = stored.large_update(turn)
            self.ask(request.method, request.path, request.body)

    def _transactions(
        self, work: str, unit: str, entries: Iterator[corpus.Json], count: int, size: int
    ) -> tuple[Measurement, list[str]]:
        """`entries` in transactions of `size`; the time that making the Bundles takes is not counted. And where each entry's resource is."""
        task = self._progress.add_task(f"{self._peer.name}: {work}", total=count)
        self._peer.forget_peak()
        cpu, database = self._peer.cpu_seconds(), self._peer.database_seconds()
        took, client, locations = [], 0.0, []
        while part := list(itertools.islice(entries, size)):
            body = corpus.transaction(part)
            began, worked = time.perf_counter(), time.thread_time()
            answer = self.ask("POST", "/fhir", body)
            took.append(time.perf_counter() - began)
            client += time.thread_time() - worked
            locations += [str(each["response"]["location"]) for each in answer["entry"]]
            self._progress.advance(task, len(part))
        load = wire.Load(took, sum(took))
        per = 1000 / max(1, count)
        measured = Measurement(
            work, self._peer.name, count / load.elapsed if took else 0.0, unit, cpu_ms=per * (self._peer.cpu_seconds() - cpu),
            memory=self._peer.peak_memory(), p50=load.percentile(0.5), p95=load.percentile(0.95),
            database_ms=per * (self._peer.database_seconds() - database), client_ms=per * client,
            note=f"ms are of a whole Bundle, of which there were {len(took):,}",
        )  # fmt: skip
        return measured, locations


# --- what is asked


@dataclass(frozen=True, slots=True)
class _Ask:
    """One kind of request: `least` bytes that an answer must have."""

    name: str
    request: Callable[[int], Request]
    least: int = 0
    note: str = ""


def _get(name: str, path: Callable[[int], str], least: int = 0, note: str = "") -> _Ask:
    return _Ask(name, lambda turn: Request("GET", path(turn)), least, note)


def _reads(stored: Stored) -> list[_Ask]:
    def study(turn: int) -> str:
        return f"/fhir/ImagingStudy/{stored.id(turn)}"

    return [
        _get(CONSTANT, lambda turn: "/livez"),
        _get(targets.READ, study, 500),
        _get("vread", lambda turn: f"{study(turn)}/_history/1", 500),
        _Ask("conditional read, 304", lambda turn: Request("GET", study(turn), {"If-None-Match": 'W/"1"'})),
        _get("read of a 188 kB study", lambda turn: f"/fhir/ImagingStudy/{stored.large_id(turn)}", 150_000),
        _get("_summary=true of a 188 kB study", lambda turn: f"/fhir/ImagingStudy/{stored.large_id(turn)}?_summary=true", 500),
    ]


def _searches(client: _Client, stored: Stored) -> list[_Ask]:
    """Those of `targets.SEARCHES`, over what is stored by now. Each was asked once: it must have a match."""

    def patient(turn: int) -> str:
        return f"patient=Patient/{corpus.patient_id(stored.patient_of(stored.some(turn)))}"

    def family(turn: int) -> str:
        return corpus.family(stored.patient_of(stored.some(turn)))

    paths: Sequence[Callable[[int], str]] = (
        lambda turn: f"ImagingStudy?{patient(turn)}&started=ge{corpus.started(stored.some(turn))[:10]}",
        lambda turn: f"ImagingStudy?identifier={_token('urn:dicom:uid', corpus.study_identifier(stored.some(turn)))}",
        lambda turn: _newest(),
        lambda turn: f"ImagingStudy?{patient(turn)}&_include=ImagingStudy:patient",
        lambda turn: f"ImagingStudy?patient.name={family(turn)}&_count=20",
        lambda turn: f"Patient?_has:ImagingStudy:patient:modality={corpus.modality(stored.some(turn))}&_count=20",
        lambda turn: f"Patient?name={family(turn)}&_has:ImagingStudy:patient:modality={corpus.modality(stored.some(turn))}",
    )
    for path in paths:
        _matches(client, f"/fhir/{path(1)}")
    # `path` is bound now: a lambda would have the last one.
    return [
        _get(name, lambda turn, path=path: f"/fhir/{path(turn)}", _SEARCH_BYTES)  # type: ignore[misc]
        for name, path in zip(targets.SEARCHES, paths, strict=True)
    ]


def _pages(client: _Client) -> list[_Ask]:
    """Page 500, as one comes to it by the links; of fewer the last."""
    path, number = f"/fhir/{_newest()}", 1
    while number < _PAGE and (following := _next(_matches(client, path))):
        path, number = following, number + 1
    note = "" if number == _PAGE else f"it is page {number}, the last"
    return [_get(targets.PAGE, lambda turn: path, _SEARCH_BYTES, note)]


def _writes(stored: Stored) -> list[_Ask]:
    def create(turn: int) -> Request:
        return Request("POST", "/fhir/ImagingStudy", _JSON, json.dumps(stored.study(next(stored.new))).encode())

    def patch(turn: int) -> Request:
        change = [{"op": "replace", "path": "/description", "value": f"Examination, changed {next(stored.values)}"}]
        headers = {"Content-Type": "application/json-patch+json"}
        return Request("PATCH", f"/fhir/ImagingStudy/{stored.id(turn)}", headers, json.dumps(change).encode())

    def transaction(turn: int) -> Request:
        return Request("POST", "/fhir", _JSON, corpus.family_of_studies([next(stored.new) for _ in range(20)]))

    return [
        _Ask("create, durable", create),
        _Ask("update of a 188 kB study", stored.large_update),
        _Ask("patch", patch),
        _Ask("transaction of 20 entries", transaction),
    ]


def _token(system: str, value: str) -> str:
    return quote(f"{system}|{value}", safe=":")


def _newest() -> str:
    return f"ImagingStudy?modality={corpus.MODALITIES[0]}&_sort=-started&_count=20"


def _matches(client: _Client, path: str) -> corpus.Json:
    """A searchset that has one. Raises `RuntimeError` where it has none: its time would be that of another question."""
    found = client.ask("GET", path)
    if not any(each.get("search", {}).get("mode") == "match" for each in found.get("entry", [])):
        raise RuntimeError(f"{path} has no match")
    return found


def _next(found: dict[str, Any]) -> str:
    """Path and query of the next page; empty where there is none."""
    url = next((str(each["url"]) for each in found["link"] if each["relation"] == "next"), "")
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}" if url else ""


# --- how it is measured


def _measured(peer: Peer, ask: _Ask, name: str, connections: int, seconds: float) -> Measurement:
    """Requests that fail are counted and told: an hour of filling is not thrown away for them."""
    wire.drive(peer.base, peer.headers, ask.request, connections=1, seconds=min(0.05, seconds))  # what is made once

    def load() -> wire.Load:
        return wire.drive(peer.base, peer.headers, ask.request, connections=connections, seconds=seconds, least=ask.least)

    return measured(peer, name, load, connections, ask.note)


def measured(peer: Peer, name: str, drive: Callable[[], wire.Load], connections: int, note: str = "") -> Measurement:
    """What `drive` did over that many connections, with the CPU that it cost."""
    peer.forget_peak()
    cpu, database = peer.cpu_seconds(), peer.database_seconds()
    load = drive()
    per = 1000 / max(1, len(load.latencies))
    failed = f"{load.failed} of {len(load.latencies)} failed, such as with {load.refused}" if load.failed else ""
    with_ = f", {connections} connection{'s' if connections > 1 else ''}"
    return Measurement(
        name + with_, peer.name, load.rate, "requests/s", cpu_ms=per * (peer.cpu_seconds() - cpu), memory=peer.peak_memory(),
        p50=load.percentile(0.5), p95=load.percentile(0.95), p99=load.percentile(0.99), ceiling="" if name == CONSTANT else CONSTANT + with_,
        database_ms=per * (peer.database_seconds() - database), client_ms=per * load.client_seconds,
        note="; ".join(filter(None, [failed, note])),
    )  # fmt: skip
