"""SMART on FHIR: what a token's check and Decision add to a request, how many tokens a second there are, and what a flood of sign-ins does to the rest."""

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import httpx2
import pydicom
from lxml import html
from rich.progress import Progress

from conformance.bench import targets, wire
from conformance.bench.corpus import ct_study
from conformance.bench.fhir import measured
from conformance.bench.images import post
from conformance.bench.peers import Peer
from conformance.bench.report import Measurement
from conformance.bench.smart_clients import FORM, Clients
from conformance.bench.wire import Request

SETTINGS: Final = {"sign_in_failures_per_address": 0, "sign_in_failures": 1_000_000}
"""As if each wrong password came from an address of its own."""
_IMAGES: Final = 4
_MANY: Final = 8
_FLOOD: Final = 32
_READERS: Final = 4
_NEW_TOKENS: Final = 150
_CODES: Final = 200
_OCTETS: Final = 'multipart/related; type="application/octet-stream"'
Work = Callable[[HTTPConnection, int], int | None]
"""One request over a connection, of the client of this number: the status of its answer; None where nothing is left to ask."""


def suite(peer: Peer, folder: Path, seconds: float, rounds: int, progress: Progress) -> Iterator[Measurement]:
    """Everything; each load for `seconds`, those that are compared in `rounds` that take turns."""
    study, frame, patient = _fill(peer, ct_study(folder / "ct", _IMAGES))
    with closing(Clients(peer, folder, patient)) as clients:
        for _ in progress.track(range(rounds), description=f"{peer.name}: requests with each kind of token"):
            yield from _with_each_token(peer, clients, study, frame, seconds)
        yield _new_tokens(peer, clients, study, seconds)
        task = progress.add_task(f"{peer.name}: tokens", total=len(targets.RESPONSES))
        for row in _responses(peer, clients, seconds):
            yield row
            progress.advance(task)
    progress.console.print(f"{peer.name}: a flood of sign-ins")
    yield from _flooded(peer, study, seconds)


def _fill(peer: Peer, files: list[Path]) -> tuple[str, str, str]:
    """Stores a CT. Path of its ImagingStudy, path of a frame, and the id of its patient."""
    if post(peer, [(path.stat().st_size, path) for path in files]) != 200:
        raise RuntimeError(f"STOW-RS to {peer.name} was refused")
    first = pydicom.dcmread(files[0], stop_before_pixels=True)
    peer.await_results("/dicomweb/studies", 1)
    peer.await_results(f"/dicomweb/studies/{first.StudyInstanceUID}/instances", len(files))
    found = httpx2.get(f"{peer.base}/fhir/ImagingStudy", headers=peer.headers, trust_env=False).json()["entry"][0]["resource"]
    instance = f"studies/{first.StudyInstanceUID}/series/{first.SeriesInstanceUID}/instances/{first.SOPInstanceUID}"
    patient = found["subject"]["reference"].removeprefix("Patient/")
    return f"/fhir/ImagingStudy/{found['id']}", f"/dicomweb/{instance}/frames/1", patient


# --- what a token adds


def _with_each_token(peer: Peer, clients: Clients, study: str, frame: str, seconds: float) -> Iterator[Measurement]:
    """A read and a frame with tokens of each kind, and a body that needs none, one connection."""
    of_app = clients.token(clients.by_code())["access_token"]
    calls = {
        targets.CALLS[0]: (Request("GET", study, {"Accept": "application/fhir+json"}), 500),
        targets.CALLS[1]: (Request("GET", frame, {"Accept": _OCTETS}), 500_000),
    }
    yield _repeated(peer, targets.CONSTANT, {}, Request("GET", "/livez"), 0, seconds)
    for call, (request, least) in calls.items():
        of_service = clients.token(clients.by_key())["access_token"]  # five minutes
        headers = [peer.headers, *({"Authorization": f"Bearer {token}"} for token in (of_service, of_app))]
        for who, authorization in zip((targets.COMMANDS, *targets.GRANTS), headers, strict=True):
            yield _repeated(peer, f"{call}, {who}", authorization, request, least, seconds)


def _repeated(
    peer: Peer, name: str, headers: dict[str, str], request: Request, least: int, seconds: float, connections: int = 1
) -> Measurement:
    def drive(for_: float = seconds) -> wire.Load:
        return wire.drive(peer.base, headers, lambda _: request, connections=connections, seconds=for_, least=least)

    drive(min(0.05, seconds))  # what is made once
    return measured(peer, name, drive, connections)


def _new_tokens(peer: Peer, clients: Clients, study: str, seconds: float) -> Measurement:
    """Each request has a token that the server was never shown: its Decision is made."""
    tokens = [clients.token(clients.by_key())["access_token"] for _ in range(_some(_NEW_TOKENS, seconds))]

    def work(connection: HTTPConnection, _: int) -> int | None:
        if not tokens:
            return None
        return _asked(connection, Request("GET", study, {"Authorization": f"Bearer {tokens.pop()}"}))[0]

    note = f"{len(tokens)} tokens"
    return measured(peer, targets.NEW_TOKEN, lambda: _each(peer, work, 1, seconds), 1, note)


# --- tokens


def _responses(peer: Peer, clients: Clients, seconds: float) -> Iterator[Measurement]:
    """Token responses to eight clients at a time; what they send was signed, or allowed by the patient, before."""
    made = iter([clients.by_key() for _ in range(_some(600, seconds))])
    yield measured(peer, targets.RESPONSES[0], lambda: _each(peer, _posting(made), _MANY, seconds), _MANY)

    held = [str(clients.token(clients.by_code())["refresh_token"]) for _ in range(_MANY)]

    def refresh(connection: HTTPConnection, number: int) -> int | None:
        status, body = _asked(connection, Request("POST", "/oauth/token", FORM, clients.by_refresh_token(held[number])))
        if status == 200:
            held[number] = json.loads(body)["refresh_token"]
        return status

    yield measured(peer, targets.RESPONSES[1], lambda: _each(peer, refresh, _MANY, seconds), _MANY)

    codes = iter([clients.by_code() for _ in range(_some(_CODES, seconds))])
    yield measured(peer, targets.RESPONSES[2], lambda: _each(peer, _posting(codes), _MANY, seconds), _MANY)


def _posting(bodies: Iterator[bytes]) -> Work:
    """Sends one body after the other to the token endpoint."""
    lock = threading.Lock()

    def work(connection: HTTPConnection, _: int) -> int | None:
        with lock:
            body = next(bodies, None)
        return None if body is None else _asked(connection, Request("POST", "/oauth/token", FORM, body))[0]

    return work


def _some(most: int, seconds: float) -> int:
    """So many that they last for that long, on a machine that does not do much more than what is meant."""
    return max(2, int(most * min(1.0, seconds)))


# --- a flood


def _flooded(peer: Peer, study: str, seconds: float) -> Iterator[Measurement]:
    """Reads of data while wrong passwords for many accounts come over 32 connections."""
    floods: list[wire.Load] = []
    over = threading.Event()
    pages = [_SignIn(peer) for _ in range(_FLOOD)]
    flood = threading.Thread(target=lambda: floods.append(_each(peer, lambda c, n: pages[n].wrong(c), _FLOOD, 0, over)))
    flood.start()
    try:
        time.sleep(min(1.0, seconds))
        request = Request("GET", study, {"Accept": "application/fhir+json"})
        yield _repeated(peer, targets.FLOODED, peer.headers, request, 500, 3 * seconds, _READERS)
    finally:
        over.set()
        flood.join()
    (load,) = floods
    statuses = sorted({status for page in pages for status in page.answered})
    note = f"answered {', '.join(map(str, statuses))}"
    yield Measurement(
        f"wrong passwords, {_FLOOD} connections", peer.name, load.rate, "requests/s", p50=load.percentile(0.5),
        p95=load.percentile(0.95), p99=load.percentile(0.99), client_ms=1000 * load.client_seconds / max(1, len(load.latencies)), note=note,
    )  # fmt: skip


class _SignIn:
    """The page of that name, as one browser has it: its cookie, and what its form holds."""

    _people = itertools.count()

    def __init__(self, peer: Peer) -> None:
        answer = httpx2.get(f"{peer.base}/sign-in", headers={"Accept": "text/html"}, trust_env=False)
        page: Any = html.document_fromstring(answer.content)
        form = next(each for each in page.forms if "password" in each.fields)
        self.answered: set[int] = set()
        self._values = dict(form.form_values())
        self._headers = {**FORM, "Origin": peer.base, "Cookie": "; ".join(f"{k}={v}" for k, v in answer.cookies.items())}

    def wrong(self, connection: HTTPConnection) -> int:
        """A wrong password for somebody whom nobody has tried before. What it is answered is no failure of the server's."""
        fields = {**self._values, "email": f"nobody-{next(self._people)}@example.org", "password": "wrong password, 20 letters"}
        status, _ = _asked(connection, Request("POST", "/sign-in", self._headers, urlencode(fields).encode()))
        self.answered.add(status)
        return status if status >= 500 and status != 503 else 200


# --- clients that read what they are answered


def _each(peer: Peer, work: Work, connections: int, seconds: float, over: threading.Event | None = None) -> wire.Load:
    """`work` over and over on each connection: until `over`, else for `seconds`, or until nothing is left."""
    load, lock, began = wire.Load(), threading.Lock(), time.perf_counter()

    def client(number: int) -> None:
        mine: list[float] = []
        failed: list[int] = []
        with _connection(peer) as connection:
            while not over.is_set() if over else not mine or time.perf_counter() - began < seconds:
                start = time.perf_counter()
                try:
                    status = work(connection, number)
                except (OSError, HTTPException):
                    failed.append(0)
                    break
                if status is None:
                    break
                mine.append(time.perf_counter() - start)
                failed += [status] if status >= 400 else []
        with lock:
            load.latencies += mine
            load.failed += len(failed)
            load.refused = next(iter(failed), load.refused)
            load.client_seconds += time.thread_time()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    load.elapsed = time.perf_counter() - began
    return load


@contextmanager
def _connection(peer: Peer) -> Iterator[HTTPConnection]:
    parts = urlsplit(peer.base)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=120)
    try:
        yield connection
    finally:
        connection.close()


def _asked(connection: HTTPConnection, request: Request) -> tuple[int, Any]:
    connection.request(request.method, request.path, request.body or None, dict(request.headers))
    with connection.getresponse() as answer:
        return answer.status, answer.read()
