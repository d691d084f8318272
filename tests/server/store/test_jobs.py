"""Durable jobs: once each, never lost, run again when asked for again."""

import pytest
from peers.together import together
from sqlalchemy import select, update

from server.store import jobs
from server.store.db import Database, micros
from server.store.tables import Job

JOB = Job.__table__  # type: ignore[attr-defined]


def _enqueue(database: Database, key: str, *, due: int = 0) -> None:
    with database.write() as connection:
        jobs.enqueue(connection, "k", key, due=due)


def _done(database: Database, job: jobs.Job) -> None:
    with database.write() as connection:
        jobs.done(connection, job)


def _pending(database: Database) -> int:
    with database.read() as connection:
        return jobs.pending(connection)


def claim(database: Database, kind: str, **options: float) -> jobs.Job | None:
    found = jobs.claim(database, kind, **options)  # type: ignore[arg-type]
    return found[0] if found else None


def test_several_are_claimed_together_and_each_once(database: Database) -> None:
    for key in ("a", "b", "c"):
        _enqueue(database, key)
    assert len(jobs.claim(database, "k", limit=2)) == 2
    assert len(jobs.claim(database, "k", limit=2)) == 1
    assert jobs.claim(database, "k", limit=2) == []


def _claim(database: Database, **options: float) -> jobs.Job:
    job = claim(database, "k", **options)
    assert job is not None
    return job


def test_only_what_is_due_and_of_a_known_kind_is_claimed(database: Database) -> None:
    _enqueue(database, "later", due=micros() + 60_000_000)
    assert claim(database, "k") is None
    _enqueue(database, "now")
    assert claim(database, "other") is None
    assert _claim(database).key == "now"
    assert claim(database, "k") is None


def test_the_longest_due_comes_first(database: Database) -> None:
    for key, due in (("b", 2), ("a", 1), ("c", 3)):
        _enqueue(database, key, due=due)
    assert [_claim(database).key for _ in range(3)] == ["a", "b", "c"]


def test_a_job_that_is_asked_for_in_a_failed_transaction_does_not_exist(database: Database) -> None:
    with pytest.raises(RuntimeError), database.write() as connection:
        jobs.enqueue(connection, "k", "x", due=0)
        raise RuntimeError
    assert _pending(database) == 0


def test_each_job_is_claimed_once_by_eight_threads(database: Database) -> None:
    for number in range(40):
        _enqueue(database, str(number))
    claimed: list[str] = []

    def work() -> None:
        while job := claim(database, "k"):
            claimed.append(job.key)
            _done(database, job)

    assert together(*[work] * 8) == []
    # On PostgreSQL a claimer that finds all rows locked ends early; what it left is there for the others.
    while job := claim(database, "k"):
        claimed.append(job.key)
        _done(database, job)
    assert sorted(claimed, key=int) == [str(number) for number in range(40)]
    assert _pending(database) == 0


def test_a_lease_that_ran_out_is_taken_over_and_its_first_holder_has_no_say(database: Database) -> None:
    _enqueue(database, "x")
    dead = _claim(database, lease_seconds=-1)
    heir = _claim(database)
    assert (heir.pk, heir.attempts) == (dead.pk, 2)
    _done(database, dead)
    jobs.failed(database, dead, "Late 1")
    assert claim(database, "k") is None, "the heir still has it"
    _done(database, heir)
    assert _pending(database) == 0


def test_what_is_asked_for_again_while_it_runs_runs_once_more(database: Database) -> None:
    _enqueue(database, "x")
    first = _claim(database)
    _enqueue(database, "x")
    assert claim(database, "k") is None, "not two at a time"
    _done(database, first)
    second = _claim(database)
    assert second.generation == first.generation + 1
    _done(database, second)
    assert _pending(database) == 0


def test_asking_again_moves_the_deadline(database: Database) -> None:
    _enqueue(database, "x")
    _enqueue(database, "x", due=micros() + 60_000_000)
    assert claim(database, "k") is None
    assert _pending(database) == 1


def test_failures_wait_longer_each_time(database: Database) -> None:
    _enqueue(database, "x")
    delays = []
    for _ in range(8):
        job = _claim(database)
        before = micros()
        delays.append(jobs.failed(database, job, "Failure 1"))
        assert claim(database, "k") is None
        with database.write() as connection:
            row = connection.execute(select(JOB.c.due, JOB.c.error, JOB.c.leased_until)).one()
            assert row.due >= before + delays[-1] * 1_000_000
            assert (row.error, row.leased_until) == ("Failure 1", 0)
            connection.execute(update(JOB).values(due=0))
    assert delays == [1, 5, 30, 120, 600, 3600, 3600, 3600]
