"""argon2 in processes of its own: what it says, that it stands back, and that one that has ended is no loss."""

import os
import sys

import psutil
import pytest
from peers.people import PASSWORD
from peers.together import together
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from server.access.people import apart
from server.access.people.apart import Apart
from server.access.people.passwords import Hashing
from server.errors import Unavailable

CHEAP = PasswordHash((Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1),))


def test_it_makes_and_checks_hashes_of_the_recommended_profile() -> None:
    hashing, recommended = Apart(), PasswordHash.recommended()
    try:
        stored = hashing.hash(PASSWORD)
        assert recommended.verify(PASSWORD, stored)
        assert hashing.verify_and_update(PASSWORD, stored) == (True, None)
        assert hashing.verify_and_update("Zürich\n\0 im Regen", recommended.hash("Zürich\n\0 im Regen")) == (True, None)
        assert hashing.verify_and_update("wrong", stored) == (False, None)
        right, better = hashing.verify_and_update(PASSWORD, CHEAP.hash(PASSWORD))
        assert right
        assert better is not None
        assert better.rpartition("p=")[0] == stored.rpartition("p=")[0]
    finally:
        hashing.close()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no nice")
def test_hashing_stands_back_behind_all_else_and_ends_with_its_owner() -> None:
    """A flood of sign-ins leaves the processors to who is signed in; who asks keeps its priority."""
    hashing, before, own = Hashing(), set(psutil.Process().children()), os.getpriority(os.PRIO_PROCESS, 0)
    stored, right = hashing.hash(PASSWORD), list[tuple[bool, str]]()
    assert together(*[lambda: right.append(hashing.verify(PASSWORD, stored))] * 2) == []
    assert right == [(True, "")] * 2
    children = set(psutil.Process().children()) - before
    assert 1 <= len(children) <= 2
    assert {child.nice() for child in children} == {max(own, 10)}
    assert os.getpriority(os.PRIO_PROCESS, 0) == own
    hashing.close()
    assert not any(child.is_running() for child in children)


def test_one_that_was_killed_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    hashing, before = Apart(), set(psutil.Process().children())
    stored = CHEAP.hash(PASSWORD)
    try:
        assert hashing.verify_and_update(PASSWORD, stored)[0]
        (child,) = set(psutil.Process().children()) - before
        child.kill()
        child.wait()
        assert hashing.verify_and_update(PASSWORD, stored)[0]
        monkeypatch.setattr(apart, "_answer", lambda *_: b"")
        with pytest.raises(Unavailable):
            hashing.verify_and_update(PASSWORD, stored)
    finally:
        hashing.close()
    assert not set(psutil.Process().children()) - before
