"""What `imageshare verify --trail` says of each harm to the trail, and of none: kill -9, two processes at once, lost and changed events, an older copy.

What it cannot see is told in docs/security.md, and here as well.
"""

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, select, update

from profiles.audit_event import RAD_129, REST_READ, Agent
from server.records import seals
from server.records.seals import SEAL
from server.records.trail import EVENT, PATIENT, Trail
from server.store.db import Database
from server.work.sealing import Sealer, verify

ROOT = Path(__file__).resolve().parents[3]
WHO, SERVER = Agent(identifier="app", address="127.0.0.1"), Agent(identifier="urn:oid:1.2.3")
WRITES = """
import sys, threading
from profiles.audit_event import RAD_129, REST_READ, Agent
from server.records.trail import Trail
from server.store.db import Database
from server.work.sealing import Sealer
database = Database(sys.argv[1])
if sys.argv[2] == "seals":
    threading.Thread(target=Sealer(database).run, args=(threading.Event(), 0.002), daemon=True).start()
trail, who, said = Trail(database, Agent(identifier="urn:oid:1.2.3")), Agent(identifier="app"), threading.Lock()
def busy():
    while True:
        several = trail.action("query", RAD_129, who)
        trail.write(several, patients=["a", "b"])
        alone = trail.action("read", REST_READ, who, patient_id="p")
        trail.write(alone)
        with said:
            sys.stdout.write(f"durable {alone.id}\\n")  # in one piece: the log goes there too
            sys.stdout.flush()
for _ in range(4):
    threading.Thread(target=busy).start()
"""


def write(database: Database, count: int) -> None:
    trail = Trail(database, SERVER)
    for number in range(count):
        trail.write(trail.action("read", REST_READ, WHO, patient_id=f"p{number}"))
        trail.write(trail.action("query", RAD_129, WHO), patients=["a", "b"])


def faults(database: Database, logged: str = "") -> list[str]:
    return [str(each) for each in verify(database, logged=logged).breaks]


def newest(database: Database) -> str:
    with database.read() as connection:
        found = seals.newest(connection)
    assert found is not None
    return found.name


def _durable(process: "subprocess.Popen[bytes]", count: int | None = None) -> Iterator[str]:
    """The ids of the events that the process says are, the next ones or all; a line that was cut says nothing."""
    assert process.stdout is not None
    for line in itertools.islice((line for line in process.stdout if line.startswith(b"durable ")), count):
        if line.endswith(b"\n"):
            yield line.split()[1].decode()
    if count is None:
        process.stdout.close()


# --- no harm


def test_two_processes_that_write_and_seal_are_killed_and_every_event_that_was_durable_is_under_a_seal(
    database: Database,
) -> None:
    url = database.url.render_as_string(hide_password=False)
    told: set[str] = set()
    for _ in range(2):
        command = [sys.executable, "-c", WRITES, url]
        both = [
            subprocess.Popen([*command, mode], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            for mode in ("seals", "writes")
        ]
        told |= {event for each in both for event in _durable(each, 12)}
        for each in both:
            os.kill(each.pid, signal.SIGKILL)
        for each in both:
            told |= set(_durable(each))
            each.wait()
        assert faults(database) == [], "a chain that somebody was killed in the middle of is whole"
    Sealer(database).seal()
    found = verify(database)
    assert (found.breaks, found.waiting) == ((), 0)
    with database.read() as connection:
        kept = set(connection.execute(select(EVENT.c.id)).scalars())
        halves = select(EVENT.c.pk).where(EVENT.c.patient == "", ~EVENT.c.pk.in_(select(PATIENT.c.event)))
        assert connection.execute(halves).first() is None, "an event of several patients without its patients"
    assert told <= kept, "what was told to be durable is gone"
    assert found.events == len(kept)


# --- harm


def _gone(place: int) -> Callable[[Connection], None]:
    def harm(connection: Connection) -> None:
        numbers = connection.execute(select(EVENT.c.pk).order_by(EVENT.c.pk)).scalars().all()
        connection.execute(EVENT.delete().where(EVENT.c.pk == numbers[place]))

    return harm


def _one_byte(connection: Connection) -> None:
    body = bytearray(connection.execute(select(EVENT.c.body).where(EVENT.c.pk == 6)).scalar_one())
    body[len(body) // 2] ^= 1
    connection.execute(update(EVENT).where(EVENT.c.pk == 6).values(body=bytes(body)))


def _tail(connection: Connection) -> None:
    connection.execute(EVENT.delete().where(EVENT.c.pk > 9))


def _another_patient(connection: Connection) -> None:
    connection.execute(update(PATIENT).where(PATIENT.c.event == 6, PATIENT.c.patient == "a").values(patient="c"))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (_gone(0), "seal 1, events 1 to 4: it covers 4 events, and there are 3"),
        (_gone(5), "seal 2, events 5 to 8: it covers 4 events, and there are 3"),
        (_gone(-1), "seal 3, events 9 to 12: it covers 4 events, and there are 3"),
        (_one_byte, "seal 2, events 5 to 8: an event was changed, or its patients"),
        (_another_patient, "seal 2, events 5 to 8: an event was changed, or its patients"),
        (_tail, "seal 3, events 9 to 12: it covers 4 events, and there are 1"),
    ],
    ids=["first", "middle", "last", "byte", "patient", "tail"],
)
def test_it_says_under_which_seal(
    database: Database, monkeypatch: pytest.MonkeyPatch, harm: Callable[[Connection], None], said: str
) -> None:
    monkeypatch.setattr(seals, "MOST", 4)
    write(database, 6)
    Sealer(database).seal()
    assert faults(database) == []
    with database.write() as connection:
        harm(connection)
    assert faults(database) == [said]


def test_an_older_copy_shows_against_the_log_alone(database: Database) -> None:
    write(database, 2)
    Sealer(database).seal()
    with database.read() as connection:
        copy = {table: [dict(row._mapping) for row in connection.execute(select(table))] for table in (EVENT, PATIENT, SEAL)}
    before = newest(database)
    write(database, 2)
    Sealer(database).seal()
    logged = newest(database)
    with database.write() as connection:  # as a restored backup has it
        for table in (PATIENT, EVENT, SEAL):
            connection.execute(table.delete())
        for table, rows in copy.items():
            connection.execute(table.insert(), rows)
    assert faults(database) == [], "it holds in itself"
    assert faults(database, before) == []
    (said,) = faults(database, logged)
    assert "was logged, and is not there" in said


def test_what_has_no_seal_yet_can_go_unseen(database: Database) -> None:
    """Seconds, while the worker runs; as long as it does not. `verify` says how many events wait."""
    write(database, 2)
    Sealer(database).seal()
    write(database, 1)
    assert verify(database).waiting == 2
    with database.write() as connection:
        _gone(-1)(connection)
    found = verify(database)
    assert (found.breaks, found.waiting) == ((), 1)
