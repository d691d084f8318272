"""The two units of work: what holds on both engines, and the pragmas that make SQLite durable."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import sqlalchemy
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Column, Integer, MetaData, Table, select, text

from server.errors import Busy, SettingsError, StorageFull, Unavailable
from server.store import db
from server.store.db import Database, instant, micros, moment, ping

THINGS = Table("things", MetaData(), Column("pk", Integer, primary_key=True))


@pytest.fixture
def database(bare_database_url: str) -> Iterator[Database]:
    opened = Database(bare_database_url)
    with opened.write() as connection:
        THINGS.create(connection)
    yield opened
    opened.close()


def _stored(database: Database) -> list[int]:
    with database.read() as connection:
        return sorted(connection.execute(select(THINGS.c.pk)).scalars())


def test_write_keeps_all(database: Database) -> None:
    with database.write() as connection:
        connection.execute(THINGS.insert(), [{"pk": 1}, {"pk": 2}])
    other = Database(database.url.render_as_string(hide_password=False))
    assert _stored(other) == [1, 2]
    other.close()


def test_write_keeps_nothing_of_a_block_that_raises(database: Database) -> None:
    with pytest.raises(RuntimeError), database.write() as connection:
        connection.execute(THINGS.insert(), {"pk": 1})
        raise RuntimeError
    assert _stored(database) == []


def test_read_keeps_nothing(database: Database) -> None:
    with database.read() as connection:
        if database.is_sqlite:
            connection.execute(THINGS.insert(), {"pk": 1})
        else:
            with pytest.raises(sqlalchemy.exc.DBAPIError, match="read-only"):
                connection.execute(THINGS.insert(), {"pk": 1})
    assert _stored(database) == []


def test_read_is_one_view(database: Database) -> None:
    """What others commit while a read runs does not show in it."""
    with database.read() as connection:
        assert list(connection.execute(select(THINGS.c.pk)).scalars()) == []
        with database.write() as writer:
            writer.execute(THINGS.insert(), {"pk": 1})
        assert list(connection.execute(select(THINGS.c.pk)).scalars()) == []
    assert _stored(database) == [1]


def test_pragmas_are_in_force_on_every_connection(tmp_path: object) -> None:
    database = Database(f"sqlite:///{tmp_path}/database")
    with database.read() as one, database.read() as other:
        for connection in (one, other):
            told = {
                name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            }
            assert told == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30000}
    database.close()


def test_a_full_sqlite_database_is_storage_full(tmp_path: object) -> None:
    database = Database(f"sqlite:///{tmp_path}/database", pool_size=1)
    with database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE filler (body BLOB)")
    with database.read() as connection:  # the limit belongs to the connection, and the pool has one
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StorageFull), database.write() as connection:
        connection.exec_driver_sql("INSERT INTO filler VALUES (zeroblob(1000000))")
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM filler").scalar() == 0
    database.close()


@pytest.mark.parametrize("url", ["sqlite:///{}/no/such/folder/database", "postgresql+psycopg://u:s3cret@127.0.0.1:1/full"])
def test_an_engine_that_is_away_is_unavailable_for_readers_and_writers(tmp_path: object, url: str) -> None:
    """503 or 0xA700: a sender tries again later. Its name is no reason to take it for full."""
    database = Database(url.format(tmp_path))
    with pytest.raises(Unavailable) as reading:
        ping(database)
    with pytest.raises(Unavailable) as writing, database.write():
        pass
    for caught in (reading, writing):
        assert type(caught.value) is Unavailable
        assert "s3cret" not in str(caught.value)
    database.close()


def test_a_connection_that_is_lost_in_the_middle_is_unavailable(postgresql_database: str) -> None:
    database = Database(postgresql_database)
    with pytest.raises(Unavailable), database.read() as connection:
        own = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        with database.read() as other:
            other.exec_driver_sql(f"SELECT pg_terminate_backend({own})")
        connection.exec_driver_sql("SELECT 1")
    ping(database)
    database.close()


def test_a_writer_does_not_wait_for_ever_behind_one_of_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db, "_TURN_SECONDS", 0.05)
    database = Database(f"sqlite:///{tmp_path}/busy.db")
    with database.write(), pytest.raises(Busy), database.write():
        pass
    with database.write() as connection:  # and the turn has been given back
        connection.execute(text("CREATE TABLE after (a INTEGER)"))
    assert (tmp_path / "busy.db-turn").exists()
    database.close()


_WRITES = """
import os, sys
from sqlalchemy import text
from server.store.db import Database
if os.getuid() == 0:  # whom no permission holds back
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    open(f"{sys.argv[1]}-turn", "a")
except PermissionError:
    database = Database(f"sqlite:///{sys.argv[1]}")
    with database.write() as connection:
        connection.execute(text("CREATE TABLE things (pk INTEGER)"))
    database.close()
    print("written")
"""


def test_a_turn_that_is_another_users_file_is_taken_by_reading_it() -> None:
    """Who began made it; the others may not write in it, and need not."""
    with TemporaryDirectory() as folder:  # that of pytest is for its user alone
        Path(folder).chmod(0o777)
        turn = Path(folder, "shared.db-turn")
        turn.touch()
        turn.chmod(0o444)
        command = [sys.executable, "-c", _WRITES, f"{folder}/shared.db"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "written\n", done.stderr


def test_who_may_not_even_read_the_turn_is_told_so(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/shared.db")
    (tmp_path / "shared.db-turn").symlink_to(tmp_path / "nowhere" / "turn")
    with pytest.raises(Unavailable), database.write():
        pass
    database.close()


def test_a_database_in_memory_has_no_file_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    database = Database("sqlite:///:memory:")
    with database.write():
        pass
    database.close()
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_statement_stays_a_bug(database: Database) -> None:
    for unit in (database.read, database.write):
        with pytest.raises(sqlalchemy.exc.DBAPIError, match="nothing_like_it"), unit() as connection:
            connection.exec_driver_sql("SELECT * FROM nothing_like_it")


@pytest.mark.parametrize("url", ["nonsense s3cret", "foo+bar://user:s3cret@host/db", "postgresql+pg9000://u:s3cret@h/d"])
def test_a_url_that_is_none_is_a_settings_error_without_the_password(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Database(url)
    assert "IMAGESHARE_DATABASE_URL" in caught.value.detail
    assert "s3cret" not in caught.value.detail


@given(st.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC)))
def test_moments_survive(when: datetime) -> None:
    stored = micros(when)
    assert abs((moment(stored) - when).total_seconds()) < 2e-6
    assert instant(stored)[:19] == moment(stored).isoformat()[:19]


def test_a_database_that_waits_for_no_disk(database_url: str) -> None:
    database = Database(database_url, durable=False)
    with database.write() as connection:
        connection.execute(text("CREATE TABLE careless (a INTEGER)"))
        connection.execute(text("INSERT INTO careless VALUES (7)"))
    with database.read() as connection:
        assert connection.execute(text("SELECT a FROM careless")).scalar_one() == 7
        asked = "PRAGMA synchronous" if database.is_sqlite else "SHOW synchronous_commit"
        assert str(connection.execute(text(asked)).scalar_one()) in ("0", "off")
    database.close()
