"""The epoch: another number with every change, seen with its commit and not before."""

from peers.together import together

from server.access import epoch
from server.store.db import Database


def test_each_change_is_another_number_and_is_seen_with_its_commit(database: Database) -> None:
    with database.read() as before:
        assert epoch.current(before) == 0
        with database.write() as connection:
            epoch.raise_(connection)
            assert epoch.current(connection) == 1
            with database.read() as another:
                assert epoch.current(another) == 0
        assert epoch.current(before) == 0
        with database.read() as after:
            assert epoch.current(after) == 1


def test_what_is_rolled_back_raises_nothing(database: Database) -> None:
    try:
        with database.write() as connection:
            epoch.raise_(connection)
            raise LookupError
    except LookupError:
        pass
    with database.read() as connection:
        assert epoch.current(connection) == 0


def test_changes_at_the_same_time_have_a_number_each(database: Database) -> None:
    """Two that shared one would hide the second from who has decided after the first."""
    seen: list[int] = []

    def change() -> None:
        with database.write() as connection:
            epoch.raise_(connection)
            seen.append(epoch.current(connection))

    assert together(*[change] * 20) == []
    assert sorted(seen) == list(range(1, 21))
