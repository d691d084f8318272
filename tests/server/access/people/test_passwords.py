"""Passwords: few at once, the same work for nobody, once means once."""

import threading
from contextlib import ExitStack

import pytest
from peers.people import PASSWORD, Town, quick_hashing
from peers.together import together
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from sqlalchemy import select

from server.access.people import passwords
from server.access.people.passwords import PASSWORD as TABLE
from server.access.people.passwords import Hashing
from server.errors import Refused, TooManyAttempts


def test_what_stands_for_nobody_costs_what_the_recommended_profile_costs() -> None:
    recommended = PasswordHash.recommended()
    assert not recommended.current_hasher.check_needs_rehash(passwords._NOBODYS)
    assert recommended.hash("x" * 12).rpartition("p=")[0] == passwords._NOBODYS.rpartition("p=")[0]


class _Slow(Argon2Hasher):
    """Notes how many work at once."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.now = self.most = 0
        self.lock = threading.Lock()
        self.two, self.go = threading.Event(), threading.Event()

    def verify(self, password: str | bytes, hash: str | bytes) -> bool:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
            if self.most == 2:
                self.two.set()
        self.go.wait(30)
        with self.lock:
            self.now -= 1
        return super().verify(password, hash)


def test_two_are_hashed_at_once_sixteen_wait_and_the_rest_is_told_to_come_back() -> None:
    slow = _Slow()
    hashing = Hashing(PasswordHash((slow,)))
    stored = hashing.hash(PASSWORD)
    answers: list[object] = []

    def guess() -> None:
        try:
            answers.append(hashing.verify(PASSWORD, stored))
        except TooManyAttempts as error:
            answers.append(error.retry_after)
            if answers.count(error.retry_after) == 32:
                slow.two.wait(30)  # threads that stand back may begin after all who were told to come back
                slow.go.set()

    assert together(*[guess] * 50) == []
    assert slow.most == 2
    assert sorted(map(str, answers)) == sorted(["(True, '')"] * 18 + ["5"] * 32)
    assert hashing.verify(PASSWORD, stored) == (True, ""), "the places are free again"


def test_a_place_that_is_kept_is_the_hashs() -> None:
    """Who finds one has it until the password was looked at: nobody is counted and turned away then."""
    hashing = quick_hashing()
    with ExitStack() as full:
        full.enter_context(hashing.place())
        for _ in range(17):
            full.enter_context(hashing._place())
        with pytest.raises(TooManyAttempts):
            hashing.require_place()
        assert hashing.verify(PASSWORD, None) == (False, "")
    with ExitStack() as full:
        for _ in range(18):
            full.enter_context(hashing._place())
        with pytest.raises(TooManyAttempts):
            hashing.verify(PASSWORD, None)


@pytest.mark.parametrize("given", ["", "x", PASSWORD + "x", PASSWORD.upper(), "x" * 100_000])
def test_a_wrong_password_is_wrong(given: str) -> None:
    hashing = quick_hashing()
    assert hashing.verify(given, hashing.hash(PASSWORD)) == (False, "")


def test_what_looks_the_same_is_the_same() -> None:
    hashing = quick_hashing()
    assert hashing.verify("Zu\u0308rich im Regen", hashing.hash("Z\u00fcrich im Regen")) == (True, "")


def test_an_account_without_a_password_and_nobody_have_none_that_is_right(lively: Town) -> None:
    made = lively.account()
    assert not lively.people.passwords.is_right(made.id, "")
    assert not lively.people.passwords.is_right(None, PASSWORD)
    assert not lively.people.passwords.is_right("unknown", PASSWORD)


def test_a_hash_of_a_cheaper_profile_is_replaced_when_it_is_used(lively: Town) -> None:
    made = lively.account()
    old = PasswordHash((Argon2Hasher(time_cost=2, memory_cost=8, parallelism=1),)).hash(PASSWORD)
    with lively.database.write() as connection:
        passwords.store(connection, made.id, old)
    assert not lively.people.passwords.is_right(made.id, "wrong password")
    assert lively.people.passwords.is_right(made.id, PASSWORD)
    with lively.database.read() as connection:
        assert connection.execute(select(TABLE.c.hash)).scalar_one() != old
    assert lively.people.passwords.is_right(made.id, PASSWORD)


def test_a_password_for_once_works_once_also_for_many_at_once(lively: Town) -> None:
    made = lively.account()
    with lively.database.write() as connection:
        once = passwords.for_once(connection, made.id)
        stored: str = connection.execute(select(TABLE.c.hash)).scalar_one()
    assert once not in stored
    assert len(once.replace("-", "")) == 26
    assert not lively.people.passwords.has_one(made.id)
    right: list[bool] = []

    def enter() -> None:
        try:
            right.append(lively.people.passwords.is_right(made.id, once.lower().replace("-", " ")))
        except TooManyAttempts:
            right.append(False)

    assert together(*[enter] * 16) == []
    assert right.count(True) == 1
    assert not lively.people.passwords.is_right(made.id, once)


@pytest.mark.parametrize(
    ("given", "fits"),
    [
        ("correct horse battery", True), ("ñandú sobre la mesa", True), ("x" * 257, False), ("elevenchars", False), ("aaaaaaaaaaaa", False),
        ("121212121212", False), ("anna.muster@example.org", False), ("gro.elpmaxe@retsum.anna", False), ("Anna.Muster.", False),
        ("Anna Maria Muster", False), ("password1234", False), ("123456789012", False), ("qwertyuiop12", False), ("iloveyou1234", False),
        ("letmeinletmein", False), ("axbyyabxaybxyaab", False), ("passwordpassword", False), ("sunshine sunshine", False), ("P@$$w0rd2026!", False),
        ("Riverside2026!", False), ("imageshare1234", False), ("another long password", True), ("anna likes green apples", True),
    ],
)  # fmt: skip
def test_which_passwords_are_taken(given: str, fits: bool) -> None:
    """NIST SP 800-63B-4 section 3.1.1.2: none of those that are commonly used, and no word of the place or the person, or what is made of it."""
    if fits:
        passwords.require_fit(given, "anna.muster@example.org", "Anna Maria Muster", "Riverside Hospital")
    else:
        with pytest.raises(Refused) as refused:
            passwords.require_fit(given, "anna.muster@example.org", "Anna Maria Muster", "Riverside Hospital")
        assert given not in refused.value.detail
