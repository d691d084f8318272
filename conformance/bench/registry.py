"""The Document Registry over many documents: a feed of patients, registrations one by one and in bulk, then stored queries, beside the same rows bare.

Each patient has 50 documents, which are one submission; one patient more has thousands. One connection tells how long a request takes; several tell
how many the server does.
"""

import itertools
import socket
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson
import psycopg
from rich.progress import Progress

from conformance.bench import peers, registry_copies, targets, wire
from conformance.bench import registry_corpus as corpus
from conformance.bench.fhir import CONSTANT, measured
from conformance.bench.peers import Peer
from conformance.bench.report import Measurement
from conformance.bench.wire import Request
from ihe import iti18, iti42, iti51, mllp, soap
from ihe import stored_queries as queries
from ihe.criteria import TimeRange
from ihe.ebxml import Reading
from ihe.find_documents import FindDocuments, GetDocuments
from ihe.iti18 import ReturnType, StoredQuery
from ihe.metadata import By
from ihe.metadata_rules import check
from profiles.document import APPROVED

EACH: Final = targets.EACH
_PORT: Final = "IMAGESHARE_MLLP_PORT"
_CONNECTIONS: Final = {1: targets.ONE, 8: targets.MANY}
_FILLING: Final = 4
_BIG: Final = 40
"""Submissions of the patient who has more than all others, unless there are fewer patients."""
_STRIDE: Final = 7919
"""Between one patient who is asked for and the next."""
_SUCCESS_BYTES: Final = 1000
"""A RegistryResponse that says Success is shorter, one with errors longer."""
_ENTRY_BYTES, _REFERENCE_BYTES = 5000, 80
_CEILING: Final = 300


def settings() -> dict[str, object]:
    """Of the server: a port for the feed."""
    return {"mllp_port": peers.free_port()}


@dataclass
class Filled:
    """What is there: `patients` with `EACH` documents each, then one with `big` times as many. `new` are numbers that were not used before."""

    patients: int
    big: int = field(init=False)
    new: Iterator[int] = field(init=False)

    def __post_init__(self) -> None:
        self.big = min(_BIG, self.patients)
        self.new = itertools.count(self.count * EACH)

    @property
    def count(self) -> int:
        """Of submissions."""
        return self.patients + self.big

    def some(self, turn: int) -> int:
        """A patient, another one each turn."""
        return turn * _STRIDE % self.patients

    def submissions(self) -> Iterator[bytes]:
        """All of it."""
        for number in range(self.count):
            yield corpus.register(number, corpus.patient(min(number, self.patients)), range(number * EACH, (number + 1) * EACH))

    def registration(self, turn: int) -> Request:
        """One new document of a patient."""
        number = next(self.new)
        return _soap(corpus.register(number, corpus.patient(self.some(turn)), [number]))


def suite(peer: Peer, entries: int, seconds: float, progress: Progress, *, copies: bool = False) -> Iterator[Measurement]:
    """Everything, over about that many Document Entries; each load for `seconds`. With `copies` one submission comes by the wire (`registry_copies`)."""
    filled = Filled(max(2, entries // EACH))
    yield _fed(peer, 1 if copies else filled.patients + 1, progress)
    if copies:
        with closing(_database(peer)) as database:
            registry_copies.patients(database, filled.patients)
    yield _ceiling(peer)
    yield _registered(peer, filled, targets.ALMOST_EMPTY, 8, seconds)
    yield _filled(peer, filled, progress, 1 if copies else filled.count)
    if copies:
        _copied(peer, filled, progress)
    for connections in _CONNECTIONS:
        yield _registered(peer, filled, targets.REGISTER, connections, seconds)
    asks = list(_asks(filled, copies=copies))
    for ask in progress.track(asks, description=f"{peer.name}: queries over {entries:,} documents"):
        for connections in _CONNECTIONS if ask.many else (1,):
            yield _asked(peer, ask, connections, seconds)


def _copied(peer: Peer, filled: Filled, progress: Progress) -> None:
    task = progress.add_task(f"{peer.name}: copies of a submission", total=filled.count)
    with closing(_database(peer)) as database:
        for done in registry_copies.submissions(database, 0, filled.count, filled.patients, EACH):
            progress.update(task, completed=done)


# --- what is stored


def _fed(peer: Peer, patients: int, progress: Progress) -> Measurement:
    """ITI-8: every patient, over eight connections."""
    task = progress.add_task(f"{peer.name}: a feed of patients", total=patients)

    def client(blocks: Iterator[bytes], took: list[float]) -> None:
        with socket.create_connection(("127.0.0.1", int(peer.environment[_PORT])), 60) as connection:
            answers = mllp.Blocks(1 << 16)
            for block in blocks:
                began = time.perf_counter()
                connection.sendall(block)
                while not (told := list(answers.receive(connection.recv(1 << 16)))):
                    pass
                if b"MSA|AA" not in told[0].content:
                    raise RuntimeError(f"{peer.name} does not take a patient by ITI-8")
                took.append(time.perf_counter() - began)
                progress.advance(task)

    return _all(peer, targets.FEED, map(corpus.registration, range(patients)), client, max(_CONNECTIONS))


def _filled(peer: Peer, filled: Filled, progress: Progress, count: int) -> Measurement:
    """ITI-42: the documents of one patient after the other."""
    task = progress.add_task(f"{peer.name}: {targets.BULK}", total=count)

    def client(bodies: Iterator[bytes], took: list[float]) -> None:
        with closing(wire.Connection(peer.base, peer.headers)) as connection:
            for body in bodies:
                began = time.perf_counter()
                status, size = connection.send(_soap(body))
                if status != 200 or size > _SUCCESS_BYTES:
                    raise RuntimeError(f"{peer.name} does not register the documents of a patient: {status}, {size} bytes")
                took.append(time.perf_counter() - began)
                progress.advance(task)

    return _all(peer, targets.BULK, itertools.islice(filled.submissions(), count), client, _FILLING)


def _all(
    peer: Peer, work: str, items: Iterator[bytes], client: Callable[[Iterator[bytes], list[float]], None], connections: int
) -> Measurement:
    """All `items` over that many connections, of which each takes the next. Raises what a client raises."""
    lock, took, errors = threading.Lock(), list[float](), list[BaseException]()

    def shared() -> Iterator[bytes]:
        while not errors:
            with lock:
                item = next(items, None)
            if item is None:
                return
            yield item

    def run() -> None:
        try:
            client(shared(), took)
        except BaseException as error:  # noqa: BLE001 it is raised where the run ends
            errors.append(error)

    def drive() -> wire.Load:
        began = time.perf_counter()
        threads = [threading.Thread(target=run) for _ in range(connections)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        return wire.Load(took, time.perf_counter() - began)

    return measured(peer, work, drive, connections)


def _registered(peer: Peer, filled: Filled, work: str, connections: int, seconds: float) -> Measurement:
    def drive(for_: float = seconds) -> wire.Load:
        return wire.drive(
            peer.base, peer.headers, filled.registration, connections=connections, seconds=for_, most=_SUCCESS_BYTES
        )  # fmt: skip

    drive(min(0.05, seconds))  # what is made once
    return measured(peer, work, drive, connections)


# --- the ceiling


def _ceiling(peer: Peer) -> Measurement:
    """One program that reads the same message by the same rules and commits what it says, object by object and value by value, and no more."""
    took = []
    with closing(_opened(peer)) as database:
        for number in range(_CEILING):
            body = corpus.register(number, corpus.patient(0), [number])
            began = time.perf_counter()
            objects, values = _rows(body)
            cursor = database.cursor()
            cursor.executemany(_bare("INSERT INTO bare_object VALUES (?, ?)", peer), objects)
            cursor.executemany(_bare("INSERT INTO bare_value VALUES (?, ?, ?)", peer), values)
            database.commit()
            took.append(time.perf_counter() - began)
    load = wire.Load(took, sum(took))
    return Measurement(targets.BARE, peer.name, load.rate, "requests/s", p50=load.percentile(0.5), p95=load.percentile(0.95))


def _rows(body: bytes) -> tuple[list[tuple[str, bytes]], list[tuple[str, str, str]]]:
    """What ITI-42 is to register, checked: objects as JSON, and each value of each of them."""
    reading = Reading()
    submission = iti42.parse_request(soap.parse(body).body, reading)
    assert not check(submission, By.REGISTER, reading)
    objects, values = list[tuple[str, bytes]](), list[tuple[str, str, str]]()
    for each in submission.objects():
        id_, said = str(uuid.uuid4()), orjson.dumps(each)
        objects.append((id_, said))
        values += [(name, str(value), id_) for name, value in orjson.loads(said).items() if value]
    return objects, values


def _opened(peer: Peer) -> Any:
    """A database of the same kind on the same disk, with two tables; commits reach the disk."""
    database = _database(peer, "bare.db")
    if not peer.database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
    binary = "bytea" if peer.database else "blob"
    database.execute(f"CREATE TABLE bare_object (id text PRIMARY KEY, body {binary})")
    database.execute("CREATE TABLE bare_value (name text, value text, id text)")
    database.execute("CREATE INDEX bare_index ON bare_value (name, value, id)")
    database.commit()
    return database


def _database(peer: Peer, file: str = "imageshare.db") -> Any:
    """The server's own database; of SQLite the one in this file of its folder."""
    if url := peer.environment.get("IMAGESHARE_DATABASE_URL"):
        return psycopg.connect(url.replace("+psycopg", ""))
    return sqlite3.connect(Path(peer.environment["IMAGESHARE_DATA"]) / file, timeout=60)


def _bare(statement: str, peer: Peer) -> str:
    return statement.replace("?", "%s") if peer.database else statement


# --- what is asked


@dataclass(frozen=True, slots=True)
class _Ask:
    """One kind of request: `least` bytes that an answer must have; `many`: over several connections too."""

    name: str
    request: Callable[[int], Request]
    least: int
    many: bool = False


def _asks(filled: Filled, *, copies: bool) -> Iterator[_Ask]:
    def patient(turn: int) -> str:
        return corpus.patient(filled.some(turn))

    def document(turn: int) -> int:
        return filled.some(turn) * EACH + turn % EACH

    def class_and_year(turn: int) -> FindDocuments:
        year = int(corpus.created(document(turn))[:4])
        return FindDocuments(
            patient(turn), class_codes=(corpus.code("class", document(turn)),), creation=TimeRange(str(year), str(year + 1))
        )

    def of_all(turn: int) -> StoredQuery:
        month = f"{2006 + turn % 20}{1 + turn % 12:02}"
        code = corpus.code("event", turn)
        return _query(
            queries.FIND_DOCUMENTS_FOR_MULTIPLE_PATIENTS, ReturnType.OBJECT_REF, XDSDocumentEntryStatus=APPROVED,
            XDSDocumentEntryEventCodeList=f"{code.code}^^{code.scheme}", XDSDocumentEntryCreationTimeFrom=f"{month}01",
            XDSDocumentEntryCreationTimeTo=f"{month}03",
        )  # fmt: skip

    def of_patient(id_: str, return_type: ReturnType) -> StoredQuery:
        statuses = {f"{each}Status": APPROVED for each in ("XDSDocumentEntry", "XDSSubmissionSet", "XDSFolder")}
        return _query(queries.GET_ALL, return_type, patientId=id_, **statuses)

    def contents(turn: int) -> StoredQuery:
        unique_id = corpus.submission_id(filled.some(turn))
        return _query(queries.GET_SUBMISSION_SET_AND_CONTENTS, XDSSubmissionSetUniqueId=unique_id)

    def sets(turn: int) -> StoredQuery:
        statuses = {"XDSSubmissionSetPatientId": patient(turn), "XDSSubmissionSetStatus": APPROVED}
        return _query(queries.FIND_SUBMISSION_SETS, **statuses)

    references, big = ReturnType.OBJECT_REF, corpus.patient(filled.patients)
    whole, ids = EACH * _ENTRY_BYTES, EACH * _REFERENCE_BYTES
    yield _Ask(CONSTANT, lambda turn: Request("GET", "/livez"), 0, many=True)
    yield _stored(targets.FIND, lambda turn: FindDocuments(patient(turn)).query(), whole, many=True)
    yield _stored(f"FindDocuments, {EACH} ids", lambda turn: FindDocuments(patient(turn)).query(references), ids, many=True)
    yield _stored("FindDocuments, a class of a year", lambda turn: class_and_year(turn).query(), _ENTRY_BYTES, many=True)
    yield _stored(
        "FindDocumentsByReferenceId",
        lambda turn: FindDocuments(patient(turn), reference_ids=((corpus.reference_id(document(turn)),),)).query(),
        _ENTRY_BYTES,
    )
    yield _stored(
        "GetDocuments, one",
        lambda turn: GetDocuments(unique_ids=(corpus.unique_id(document(turn)),)).query(),
        _ENTRY_BYTES,
        many=True,
    )
    yield _stored("FindSubmissionSets", sets, _ENTRY_BYTES // 2)
    yield _stored(f"GetSubmissionSetAndContents, {EACH} documents", contents, whole)
    yield _stored(f"GetAll, {EACH} documents", lambda turn: of_patient(patient(turn), ReturnType.LEAF_CLASS), whole)
    yield _stored("GetAll, ids, the largest patient", lambda turn: of_patient(big, references), filled.big * ids)
    yield _Ask("MPQ, a common code and two days", lambda turn: _soap(_message(of_all(turn), iti51.REQUEST_ACTION)), 0)
    if copies:  # of which there are no resources
        return
    yield _Ask(
        f"FHIR: {EACH} DocumentReferences of a patient", lambda turn: Request("GET", _fhir(filled.some(turn))), EACH * 1000
    )


def _fhir(patient: int) -> str:
    value = corpus.patient(patient).partition("^")[0]
    return f"/fhir/DocumentReference?patient.identifier=urn:oid:{corpus.AUTHORITY}%7C{value}&_count={EACH}"


def _stored(name: str, query: Callable[[int], StoredQuery], least: int, *, many: bool = False) -> _Ask:
    return _Ask(name, lambda turn: _soap(_message(query(turn), iti18.REQUEST_ACTION)), least, many)


def _query(id_: str, return_type: ReturnType = ReturnType.LEAF_CLASS, /, **values: str) -> StoredQuery:
    return StoredQuery(id_, return_type, {f"${name}": ((value,),) for name, value in values.items()})


def _message(query: StoredQuery, action: str) -> bytes:
    return soap.render_request(action, iti18.request(query), uuid.uuid4().urn, "http://bench/xds/registry")


def _soap(body: bytes) -> Request:
    return Request("POST", "/xds/registry", {"Content-Type": "application/soap+xml; charset=UTF-8"}, body)


def _asked(peer: Peer, ask: _Ask, connections: int, seconds: float) -> Measurement:
    def drive(for_: float = seconds) -> wire.Load:
        return wire.drive(peer.base, peer.headers, ask.request, connections=connections, seconds=for_, least=ask.least)

    drive(min(0.05, seconds))  # what is made once
    return measured(peer, ask.name, drive, connections)
