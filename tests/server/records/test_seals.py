"""The trail is sealed: whatever is changed, deleted or put in later shows; on both engines, with many at once."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peers.together import together
from sqlalchemy import Connection, Table, select, update

from profiles.audit_event import RAD_129, REST_READ, Agent
from server.records import seals
from server.records.packing import packed
from server.records.seals import SEAL
from server.records.trail import EVENT, PATIENT, Trail
from server.store.db import Database, micros
from server.work import sealing
from server.work.sealing import Sealer, verify

WHO = Agent(identifier="app", address="127.0.0.1")
SERVER = Agent(identifier="urn:oid:1.2.3")


@pytest.fixture
def trail(database: Database) -> Trail:
    return Trail(database, SERVER)


def write(trail: Trail, count: int = 1) -> None:
    for number in range(count):
        trail.write(trail.action("read", REST_READ, WHO, patient_id=f"p{number}"))
        trail.write(trail.action("query", RAD_129, WHO), patients=["a", "b", "c"])


def faults(database: Database) -> list[str]:
    return [str(each) for each in verify(database).breaks]


def test_what_is_written_is_sealed_once_and_holds(database: Database, trail: Trail) -> None:
    sealer = Sealer(database)
    assert sealer.seal() is None
    write(trail, 3)
    first = sealer.seal()
    assert first is not None
    assert (first.number, first.count) == (1, 6)
    assert sealer.seal() == first, "nothing is new"
    write(trail)
    second = Sealer(database).seal()
    assert second is not None
    assert (second.number, second.count, second.last) == (2, 2, 8)
    write(trail)
    found = verify(database)
    assert (found.newest, found.events, found.waiting, found.breaks) == (second, 8, 2, ())


def test_a_seal_covers_no_more_than_so_many_events(database: Database, trail: Trail, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seals, "MOST", 4)
    write(trail, 5)
    newest = Sealer(database).seal()
    assert newest is not None
    assert (newest.number, newest.count, newest.last) == (3, 2, 10)
    steps: list[tuple[int, int]] = []
    assert verify(database, lambda done, total: steps.append((done, total))).breaks == ()
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_an_event_that_is_not_committed_yet_is_waited_for(database: Database, trail: Trail) -> None:
    """PostgreSQL gives numbers before the commit: a seal made meanwhile would leave the late event out, and then tell of it as put in."""
    if database.is_sqlite:
        pytest.skip("SQLite has one writer at a time")
    sealer = Sealer(database)
    with database.engine.connect() as late, late.begin():
        trail.record(late, trail.action("read", REST_READ, WHO, patient_id="late"))
        write(trail)
        assert sealer.seal() is None
        with database.engine.connect() as later, later.begin():  # who comes now has a higher number, and is not waited for
            trail.record(later, trail.action("read", REST_READ, WHO))
            late.commit()
            sealed = sealer.seal()
            assert sealed is not None
            assert sealed.count == 3
    sealer.seal()
    found = verify(database)
    assert (found.events, found.waiting, found.breaks) == (4, 0, ())


def test_many_writers_and_several_sealers_leave_a_whole_chain(database: Database, trail: Trail) -> None:
    stop = threading.Event()
    other = Database(database.url.render_as_string(hide_password=False))
    workers = [Sealer(database), Sealer(other), Sealer(database)]
    threads = [threading.Thread(target=each.run, args=(stop, 0.005)) for each in workers]
    for each in threads:
        each.start()

    def busy() -> None:
        for _ in range(8):
            with database.write() as connection:
                trail.record(connection, trail.action("read", REST_READ, WHO))
                trail.note([(trail.action("query", RAD_129, WHO), ["a", "b"])], connection)

    assert together(*[busy] * 8) == []
    stop.set()
    for each in threads:
        each.join()
    Sealer(database).seal()
    found = verify(database)
    other.close()
    assert (found.events, found.waiting, found.breaks) == (128, 0, ())
    assert found.newest is not None
    assert found.newest.number > 1


def test_a_worker_that_is_killed_leaves_a_chain_that_goes_on(database: Database, trail: Trail) -> None:
    code = (
        "import sys, threading; from server.store.db import Database; from server.work.sealing import Sealer; "
        "print('runs', flush=True); Sealer(Database(sys.argv[1])).run(threading.Event(), 0.001)"
    )
    url = database.url.render_as_string(hide_password=False)
    for _ in range(3):
        root = Path(__file__).resolve().parents[3]
        killed = subprocess.Popen([sys.executable, "-c", code, url], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert killed.stdout is not None
        assert killed.stdout.readline() == b"runs\n"
        write(trail, 4)
        begun = time.monotonic()
        while seals_of(database) == 0 and time.monotonic() - begun < 60:
            time.sleep(0.01)
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
        killed.stdout.close()
    Sealer(database).seal()
    found = verify(database)
    assert (found.events, found.waiting, found.breaks) == (24, 0, ())


def seals_of(database: Database) -> int:
    with database.read() as connection:
        newest = seals.newest(connection)
    return newest.number if newest else 0


# --- whatever is changed


@pytest.fixture(scope="module")
def sealed(databases: Callable[[], AbstractContextManager[str]]) -> Iterator[Database]:
    """Four seals over sixteen events."""
    with databases() as url:
        database = Database(url)
        trail, before = Trail(database, SERVER), seals.MOST
        seals.MOST = 4  # type: ignore[misc]
        write(trail, 8)
        Sealer(database).seal()
        seals.MOST = before  # type: ignore[misc]
        yield database
        database.close()


Change = Callable[[Connection], None]


def _column(table: Table, name: str, which: int) -> Change:
    """One value of one row is another one."""

    def change(connection: Connection) -> None:
        keys = list(table.primary_key)
        rows = connection.execute(select(*keys, table.c[name]).order_by(*keys)).all()
        row = rows[which % len(rows)]
        old = row[-1]
        new = old + 1_000 if isinstance(old, int) else bytes(old) + b"x" if isinstance(old, bytes | memoryview) else f"{old}x"
        where = [key == value for key, value in zip(keys, row[:-1], strict=True)]
        connection.execute(update(table).where(*where).values({name: new}))

    return change


def _deleted(table: Table, which: int) -> Change:
    def change(connection: Connection) -> None:
        keys = list(table.primary_key)
        rows = connection.execute(select(*keys).order_by(*keys)).all()
        last = len(rows) - 1 if table is SEAL else len(rows)  # that the newest seal is gone the log alone can show
        row = rows[which % last]
        connection.execute(table.delete().where(*(key == value for key, value in zip(keys, row, strict=True))))

    return change


def _added(pk: int) -> Change:
    def change(connection: Connection) -> None:
        row = {"id": "new", "recorded": 1, "patient": "p", "subtype": "read", "outcome": "0", "body": b""}
        if connection.execute(select(EVENT.c.pk).where(EVENT.c.pk == pk)).first() is not None:
            connection.execute(EVENT.delete().where(EVENT.c.pk == pk))
        connection.execute(EVENT.insert().values(pk=pk, **row))

    return change


def _member(event: int, number: int) -> Change:
    def change(connection: Connection) -> None:
        connection.execute(PATIENT.insert().values(event=event, number=number, patient="somebody", recorded=1))

    return change


_SOME = st.integers(0, 40)
_CHANGES = st.one_of(
    st.builds(_column, st.just(EVENT), st.sampled_from(["id", "recorded", "patient", "subtype", "outcome", "body"]), _SOME),
    st.builds(_column, st.just(PATIENT), st.sampled_from(["number", "patient", "recorded"]), _SOME),
    st.builds(_column, st.just(SEAL), st.sampled_from(["number", "last", "count", "made", "digest", "hash"]), _SOME),
    st.builds(_deleted, st.sampled_from([EVENT, PATIENT, SEAL]), _SOME),
    st.builds(_added, st.integers(-5, 16)),
    st.builds(_added, st.just(-(1 << 63))),
    st.builds(_member, st.integers(1, 16), st.integers(1 << 40, 1 << 41)),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(change=_CHANGES)
def test_any_single_change_is_found(sealed: Database, change: Change) -> None:
    assert faults(sealed) == []
    kept = _kept(sealed)
    with sealed.write() as connection:
        change(connection)
    try:
        assert faults(sealed), "nothing was found"
    finally:
        _restored(sealed, kept)


Kept = dict[Table, list[dict[str, object]]]


def _kept(database: Database) -> Kept:
    with database.read() as connection:
        return {table: [dict(row._mapping) for row in connection.execute(select(table))] for table in (EVENT, PATIENT, SEAL)}


def _restored(database: Database, kept: Kept) -> None:
    with database.write() as connection:
        for table in (PATIENT, EVENT, SEAL):
            connection.execute(table.delete())
        for table, rows in kept.items():
            connection.execute(table.insert(), rows)


def test_a_break_says_which_events_and_the_others_hold(sealed: Database) -> None:
    kept = _kept(sealed)
    with sealed.write() as connection:
        _column(EVENT, "outcome", 5)(connection)
    try:
        (found,) = verify(sealed).breaks
        assert (found.seal, found.first, found.last) == (2, 5, 8)
        assert "changed" in found.fault
    finally:
        _restored(sealed, kept)


def test_a_chain_that_was_cut_short_or_made_anew_shows_against_the_log(sealed: Database) -> None:
    kept = _kept(sealed)
    with sealed.read() as connection:
        logged = seals.newest(connection)
    assert logged is not None
    assert verify(sealed, logged=logged.name).breaks == ()
    try:
        with sealed.write() as connection:
            connection.execute(SEAL.delete().where(SEAL.c.number == logged.number))
            connection.execute(EVENT.delete().where(EVENT.c.pk > 12))
        assert faults(sealed) == []
        assert "is not there" in str(verify(sealed, logged=logged.name).breaks[0])
        with sealed.write() as connection:  # by somebody who knows this program
            _column(EVENT, "outcome", 0)(connection)
            connection.execute(SEAL.delete())
        Sealer(sealed).seal()
        assert faults(sealed) == []
        first = f"1:{bytes(next(row['hash'] for row in kept[SEAL] if row['number'] == 1)).hex()}"  # type: ignore[call-overload]
        assert "not the one that was logged" in str(verify(sealed, logged=first).breaks[0])
    finally:
        _restored(sealed, kept)


# --- erased


def test_events_whose_time_is_over_are_erased_and_their_seals_say_so(database: Database, trail: Trail) -> None:
    for _ in range(3):
        write(trail)
        Sealer(database).seal()
    by = Agent(identifier="imageshare trail erase", user=Agent(identifier="ada"))
    assert sealing.erase(database, trail, before=micros() + 1, by=by, why="ten years") == 2
    Sealer(database).seal()
    found = verify(database)
    assert (found.erased, found.breaks, found.waiting) == (2, (), 0)
    with database.read() as connection:
        left = list(connection.execute(select(EVENT.c.pk).order_by(EVENT.c.pk)).scalars())
        assert left == [5, 6, 7]
        assert connection.execute(select(PATIENT.c.event).distinct()).scalars().all() == [6]
    assert sealing.erase(database, trail, before=micros() + 1, by=by, why="ten years") == 1, "but the newest one"
    Sealer(database).seal()
    assert faults(database) == []


def test_what_is_gone_without_an_event_of_its_erasure_is_a_break(database: Database, trail: Trail) -> None:
    for _ in range(2):
        write(trail)
        Sealer(database).seal()
    with database.write() as connection:
        connection.execute(EVENT.delete().where(EVENT.c.pk <= 2))
        connection.execute(update(SEAL).where(SEAL.c.number == 1).values(erased=micros()))
    assert "by whom" in faults(database)[0]


def test_an_erased_seal_covers_nothing_that_came_later(database: Database, trail: Trail) -> None:
    for _ in range(2):
        write(trail)
        Sealer(database).seal()
    sealing.erase(database, trail, before=micros() + 1, by=WHO, why="test")
    with database.write() as connection:
        _added(1)(connection)
    assert "again" in faults(database)[0]


@pytest.mark.parametrize("body", [b"", b"x", packed(b"{"), packed(b'{"entity":[{"detail":[{"type":"seals"}]}]}'), packed(b"[]")])
def test_an_event_of_erasure_that_was_changed_is_a_break_and_no_fault(database: Database, trail: Trail, body: bytes) -> None:
    for _ in range(2):
        write(trail)
        Sealer(database).seal()
    sealing.erase(database, trail, before=micros() + 1, by=WHO, why="test")
    Sealer(database).seal()
    assert faults(database) == []
    with database.write() as connection:
        connection.execute(update(EVENT).where(EVENT.c.subtype == "destroy").values(body=body))
    broken = faults(database)
    assert "by whom" in broken[0]
    assert "changed" in broken[-1]
