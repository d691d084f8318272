"""kill -9 in the middle of a patient identity feed: whoever was acknowledged is known, and what is sent again is done once."""

import threading
from contextlib import closing
from pathlib import Path

import pytest
from peers.hl7_sender import DOMAIN, adt, code, mrg, pid, sending
from peers.imageshare import Running, running
from pydantic import SecretStr

from server.records import patients
from server.settings import load
from server.store.db import Database

pytestmark = pytest.mark.timeout(300)
ENOUGH = 20


def _messages(number: int) -> list[bytes]:
    """A patient, another one, and the merge of the first into that."""
    first, second = f"A{number}", f"B{number}"
    return [adt("A01", pid(first)), adt("A04", pid(second)), adt("A40", pid(second), mrg(first), control=f"M{number}")]


def _until_killed(server: Running, done: list[int]) -> None:
    """Sends as a device does: what was not acknowledged goes again."""
    enough = threading.Event()

    def send() -> None:
        try:
            with sending(("127.0.0.1", server.mllp_port)) as sender:
                while True:
                    number = len(done)
                    for message in _messages(number):
                        assert code(sender.send(message)) == "AA"
                    done.append(number)
                    if len(done) % ENOUGH == 0:
                        enough.set()
        except (OSError, EOFError):
            return

    thread = threading.Thread(target=send)
    thread.start()
    assert enough.wait(120)
    server.kill()
    thread.join()


def _whole(database: Database, done: list[int]) -> None:
    with database.read() as connection:
        for number in done:
            first, second = (patients.is_known(connection, f"{each}{number}^^^&{DOMAIN}&ISO") for each in "AB")
            assert (first, second is not None) == (None, True), number


def test_kill_9_in_the_middle_of_a_feed(tmp_path: Path, database_url: str) -> None:
    data, done = tmp_path / "data", list[int]()
    for _ in range(2):
        with running(data, database_url) as server:
            _until_killed(server, done)
        with closing(Database(load(data=data, database_url=SecretStr(database_url)).database)) as database:
            _whole(database, done)
    assert len(done) >= 2 * ENOUGH
