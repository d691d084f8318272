"""Who is kept out by whom: strangers do not keep the person out, and nobody guesses for ever."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from peers.people import HERE, PASSWORD, Town, town
from sqlalchemy import event

from server.access.people import accounts, passkeys, throttles
from server.access.people.browsers import SECONDS, Browser
from server.access.people.people import FIRST, first_administrator
from server.access.people.sign_in import RECOVER
from server.access.people.throttles import THROTTLE, counts
from server.access.people.tries import ALL_LETTERS, IN_A_ROW, NETWORKS
from server.errors import SignInRefused, TooManyAttempts
from server.settings import load
from server.store.db import micros

STRANGER = "203.0.113.9"
LOOPBACK = "127.0.0.1"


def guess(lively: Town, times: int, address: str | Callable[[int], str] = STRANGER, email: str = "anna@example.org") -> None:
    for number in range(times):
        with pytest.raises(SignInRefused):
            lively.people.sign_in.password(email, "wrong", address if isinstance(address, str) else address(number))


def known(lively: Town, account: accounts.Account) -> Browser:
    """A browser in which the person has signed in."""
    browsers = lively.people.browsers
    return browsers.known(browsers.cookie(Browser("f"), account.id), "f")


def test_a_stranger_far_away_keeps_nobody_out(lively: Town) -> None:
    anna = lively.account(password=PASSWORD)
    guess(lively, 30)
    for _ in range(5):
        lively.people.sign_in.send_code(anna.email, STRANGER)
    assert lively.people.sign_in.password(anna.email, PASSWORD, HERE) == anna
    lively.people.sign_in.send_code(anna.email, HERE)
    assert lively.people.sign_in.code(anna.email, lively.code(), HERE) == anna
    lively.people.recovery.send(anna.email, HERE)


def test_nor_do_strangers_in_many_places_where_the_person_was_before(tmp_path: Path, database_url: str) -> None:
    """A known browser has counters of its own, and passes those of the network and of the account."""
    with town(tmp_path, database_url, sign_in_failures_per_address=20) as lively:
        anna = lively.account(password=PASSWORD)
        mine = known(lively, anna)
        guess(lively, 60, lambda number: f"203.0.113.{number // 9}")
        guess(lively, 20, HERE, "somebody@example.org")
        for number in range(ALL_LETTERS):
            lively.people.sign_in.send_code(anna.email, f"203.0.113.{number}")
        with pytest.raises(TooManyAttempts):
            lively.people.sign_in.password(anna.email, PASSWORD, HERE)
        with pytest.raises(SignInRefused):
            lively.people.sign_in.password(anna.email, PASSWORD, "198.51.100.1")
        with pytest.raises(TooManyAttempts):
            lively.people.sign_in.send_code(anna.email, "198.51.100.1")
        lively.people.sign_in.require_place(HERE, mine)
        assert lively.people.sign_in.password(anna.email, PASSWORD, HERE, mine) == anna
        lively.people.sign_in.send_code(anna.email, HERE, browser=mine)
        assert lively.people.sign_in.code(anna.email, lively.code(), HERE, browser=mine) == anna
        lively.people.sign_in.passkey_options("binding", HERE, mine)


def test_a_known_browser_is_one_to_its_people_alone_and_is_counted(lively: Town) -> None:
    anna, bert = lively.account(password=PASSWORD), lively.account("bert@example.org", password=PASSWORD)
    mine = known(lively, anna)
    for email in (anna.email, bert.email):
        for _ in range(10):
            with pytest.raises(SignInRefused):
                lively.people.sign_in.password(email, "wrong", STRANGER, mine)
        with pytest.raises(SignInRefused):
            lively.people.sign_in.password(email, PASSWORD, STRANGER, mine)
    assert lively.people.sign_in.password(anna.email, PASSWORD, HERE) == anna, "and where it is another's, nobody else is held up"


def test_the_cookie_of_a_known_browser_is_sealed_and_ends(lively: Town) -> None:
    anna, bert = lively.account(), lively.account("bert@example.org")
    browsers = lively.people.browsers
    cookie = browsers.cookie(Browser("f"), anna.id, now=1)
    assert anna.id not in cookie
    mine = browsers.known(cookie, "f", now=2)
    assert (mine.form, mine.accounts) == ("f", (anna.id,))
    assert browsers.known(cookie, now=SECONDS * 1_000_000 + 1) == Browser()
    for wrong in ("", cookie[:-2], "x" * 200, cookie + "A"):
        assert browsers.known(wrong, "f", now=2) == Browser("f")
    both = browsers.known(browsers.cookie(mine, bert.id, now=2), now=3)
    assert (both.id, both.accounts) == (mine.id, (bert.id, anna.id))
    for number in range(20):
        both = browsers.known(browsers.cookie(both, f"a{number}", now=2), now=3)
    assert len(both.accounts) == 8


def test_a_code_is_for_the_browser_that_asked(lively: Town) -> None:
    """A stranger neither uses, nor spoils by trying or by asking, what is under way elsewhere."""
    anna = lively.account()
    mine, theirs = Browser("mine"), Browser("theirs")
    for purpose, enter in (
        ("sign-in", lambda code, browser: lively.people.sign_in.code(anna.email, code, HERE, browser=browser)),
        (RECOVER, lambda code, browser: lively.people.recovery.recover(anna.email, code, "another long password", HERE, browser)),
    ):
        lively.people.sign_in.send_code(anna.email, HERE, purpose, mine)
        code = lively.code()
        lively.people.sign_in.send_code(anna.email, STRANGER, purpose, theirs)
        lively.posted()
        for tried in (code, *["00000000"] * 5):
            with pytest.raises(SignInRefused):
                lively.people.sign_in.code(anna.email, tried, STRANGER, purpose, theirs)
        assert enter(code, mine).id == anna.id


def test_guessing_comes_to_an_end_however_slow_it_is(lively: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """NIST SP 800-63B-4 section 3.2.2: no more than 100 wrong ones in a row. The person is told, and opens it again by e-mail."""
    anna, now = lively.account(password=PASSWORD), [micros()]
    monkeypatch.setattr(throttles, "micros", lambda: now[0])
    looked: list[str | None] = []
    is_right = lively.people.passwords.is_right
    monkeypatch.setattr(
        lively.people.passwords, "is_right", lambda account, given: looked.append(account) or is_right(account, given)
    )  # type: ignore[func-returns-value]
    mine = known(lively, anna)
    for _ in range(13):
        now[0] += 901_000_000
        guess(lively, 10, HERE)
    assert len([each for each in looked if each]) == IN_A_ROW
    lively.posted()
    assert ["closed" in subject for _, subject, _ in lively.mails] == [True], "once"
    now[0] += 30 * 86_400_000_000
    with pytest.raises(SignInRefused):
        lively.people.sign_in.password(anna.email, PASSWORD, HERE)
    assert lively.people.sign_in.password(anna.email, PASSWORD, HERE, mine) == anna, "where she was before she still gets in"
    with pytest.raises(SignInRefused):
        lively.people.sign_in.password(anna.email, PASSWORD, HERE)
    lively.people.recovery.send(anna.email, HERE)
    lively.people.recovery.recover(anna.email, lively.code(), "another long password", HERE)
    assert lively.people.sign_in.password(anna.email, "another long password", HERE) == anna


def test_one_that_is_right_begins_anew(lively: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    anna, now = lively.account(password=PASSWORD), [micros()]
    monkeypatch.setattr(throttles, "micros", lambda: now[0])
    for _ in range(15):
        now[0] += 901_000_000
        guess(lively, 9, HERE)
        assert lively.people.sign_in.password(anna.email, PASSWORD, HERE) == anna


def test_all_networks_together_try_no_more_than_some(lively: Town) -> None:
    anna = lively.account(password=PASSWORD)
    guess(lively, 10 * NETWORKS, lambda number: f"203.0.113.{number}")
    with pytest.raises(SignInRefused):
        lively.people.sign_in.password(anna.email, PASSWORD, HERE)


# --- networks that are nobody's


def test_behind_a_proxy_that_is_not_named_nobody_keeps_everybody_out(lively: Town) -> None:
    anna = lively.account(password=PASSWORD)
    for number in range(100):
        with pytest.raises(SignInRefused):
            lively.people.sign_in.code(f"x{number}@example.net", "12345678", LOOPBACK)
    assert lively.people.sign_in.password(anna.email, PASSWORD, LOOPBACK) == anna


def test_where_no_network_is_counted_its_codes_are_not_either(tmp_path: Path, database_url: str) -> None:
    with town(tmp_path, database_url, sign_in_failures_per_address=0) as lively:
        lively.account()
        for number in range(31):
            lively.people.sign_in.send_code(f"x{number}@example.net", HERE)
        lively.people.sign_in.send_code("anna@example.org", HERE)
        lively.people.sign_in.passkey_options("binding", HERE)


@pytest.mark.parametrize(
    ("address", "public", "counted"),
    [
        (LOOPBACK, "https://images.example.org", False), ("::1", "https://images.example.org", False), (LOOPBACK, None, True),
        (HERE, "https://images.example.org", True), ("testclient", "https://images.example.org", True), (LOOPBACK, "http://localhost:8080", True),
    ],
)  # fmt: skip
def test_whose_address_counts(tmp_path: Path, address: str, public: str | None, counted: bool) -> None:
    assert counts(address, load(data=tmp_path, public_url=public)) is counted


# --- what it costs, and what that tells


def test_who_may_not_try_any_more_is_not_hashed_for(lively: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is who has a wrong code."""
    lively.account()
    monkeypatch.setattr(lively.people.passwords.hashing, "hash", lambda _: pytest.fail("it was hashed"))
    for number in range(100):
        with pytest.raises(SignInRefused):
            lively.people.recovery.recover(f"x{number}@example.net", "12345678", "another long password", STRANGER)
    with pytest.raises(TooManyAttempts):
        lively.people.recovery.recover("anna@example.org", "12345678", "another long password", STRANGER)


def _written(lively: Town, act: Callable[[], object]) -> list[str]:
    """What is written of an action before it answers, each transaction a line, as the tables that it changes."""
    said: list[str] = []

    def heard(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        verb, _, _rest = statement.partition(" ")
        if verb in ("INSERT", "UPDATE", "DELETE"):
            said.append(verb)

    def committed(_: object) -> None:
        said.append("COMMIT")

    lively.people.events.settled()
    event.listen(lively.database.engine, "before_cursor_execute", heard)
    event.listen(lively.database.engine, "commit", committed)
    try:
        with pytest.raises(SignInRefused):
            act()
    finally:
        event.remove(lively.database.engine, "before_cursor_execute", heard)
        event.remove(lively.database.engine, "commit", committed)
    return said


@pytest.mark.parametrize("way", ["password", "code", "recover"])
def test_as_much_is_written_whether_or_not_there_is_an_account(lively: Town, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """A commit waits for the disk: one more or less tells who has an account. The trail is written after the answer."""
    lively.account(password=PASSWORD)
    bert = lively.account("bert@example.org", password=PASSWORD)
    for purpose in ("sign-in", RECOVER):
        with lively.database.write() as connection:
            lively.people.codes.make(connection, bert.id, purpose)
    monkeypatch.setattr(lively.people.events, "failed", lambda *_: None)
    ways: dict[str, Callable[[str], object]] = {
        "password": lambda email: lively.people.sign_in.password(email, "wrong", HERE),
        "code": lambda email: lively.people.sign_in.code(email, "00000000", HERE),
        "recover": lambda email: lively.people.recovery.recover(email, "00000000", "another long password", HERE),
    }
    anna, bert_, nobody = (_written(lively, partial(ways[way], f"{who}@example.org")) for who in ("anna", "bert", "unknown"))
    assert anna == nobody
    assert [each for each in nobody if each == "COMMIT"] == [each for each in bert_ if each == "COMMIT"]
    assert "INSERT" in nobody


def test_challenges_of_nobody_do_not_fill_the_database(lively: Town) -> None:
    with pytest.raises(TooManyAttempts):
        for number in range(1000):
            lively.people.sign_in.passkey_options(f"b{number}", HERE)
    with lively.database.write() as connection:
        connection.execute(passkeys.CHALLENGE.update().values(expires=1))
    lively.people.sign_in.passkey_options("b", STRANGER)
    with lively.database.read() as connection:
        assert len(connection.execute(passkeys.CHALLENGE.select()).all()) == 1


def test_the_administrator_of_a_new_server_gets_no_e_mail(lively: Town) -> None:
    """At the mail server `administrator@localhost` is somebody else."""
    first_administrator(lively.database)
    for purpose in ("sign-in", RECOVER):
        lively.people.sign_in.send_code(FIRST, HERE, purpose)
    lively.posted()
    assert lively.mails == []


@pytest.mark.parametrize(
    ("email", "reached"),
    [("a@localhost", False), ("a@LOCALHOST.", False), ("a@x.localhost", False), ("a@localhost.localdomain", False), ("a@127.0.0.1", False), ("a@example.org", True), ("a@hospital", True)],
)  # fmt: skip
def test_whom_e_mails_reach(email: str, reached: bool) -> None:
    assert accounts.is_reachable(email) is reached


def test_counters_of_who_signs_in_go(lively: Town) -> None:
    anna = lively.account(password=PASSWORD)
    guess(lively, 3, HERE)
    lively.people.sign_in.password(anna.email, PASSWORD, HERE)
    with lively.database.read() as connection:
        left = [each.count for each in connection.execute(THROTTLE.select())]
    assert sorted(left) == [3, 3], "of the network and of all networks, whose failures somebody else's may have been"


@pytest.mark.parametrize("email", ["\0@x.org", "a" * 100_000 + "@x.org", "\u202e@x", "\u0660@x.org"])
def test_an_address_that_is_none_is_nobody(lively: Town, email: str) -> None:
    for way in (
        lambda: lively.people.sign_in.password(email, "x" * 100_000, HERE),
        lambda: lively.people.sign_in.code(email, "\u0660\u0661\u0662" * 100, HERE),
    ):
        with pytest.raises(SignInRefused):
            way()
    lively.people.sign_in.send_code(email, HERE)
    lively.posted()
    assert lively.mails == []
