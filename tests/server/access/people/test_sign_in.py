"""Every way in, and all the ways in which one does not get in: counted, alike, and the same after a restart."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import orjson
import pytest
from peers.people import HERE, PASSWORD, Key, Town, town
from peers.together import together

from server.access.people import accounts
from server.access.people.one_time_codes import CODE, TRIES
from server.access.people.passwords import Passwords
from server.access.people.throttles import Throttles
from server.errors import Busy, Refused, SignInRefused, TooManyAttempts
from server.records.trail import events
from server.store.db import Database, micros

MINUTE = 60_000_000


def told(database: Database) -> list[tuple[str, str, str]]:
    """Subtype, outcome and what is said of each event, oldest first."""
    with database.read() as connection:
        bodies = [orjson.loads(each.body) for each in events(connection, limit=1000)]
    return [(each["subtype"][0]["display"], each["outcome"], each.get("outcomeDesc", "")) for each in reversed(bodies)]


# --- passwords


@pytest.mark.parametrize("email", ["anna@example.org", "Anna@Example.ORG", "  ANNA@example.org ", "ａnna@example.org"])
def test_signing_in_by_however_the_address_is_written(lively: Town, email: str) -> None:
    anna = lively.account(password=PASSWORD)
    assert lively.people.sign_in.password(email, PASSWORD, HERE) == anna
    assert told(lively.database) == [("Login", "0", "signed in by password")]


def test_unknown_wrong_disabled_without_password_and_locked_are_told_the_same(lively: Town) -> None:
    lively.account(password=PASSWORD)
    lively.account("none@example.org")
    disabled = lively.account("disabled@example.org", password=PASSWORD)
    locked = lively.account("locked@example.org", password=PASSWORD)
    with lively.database.write() as connection:
        accounts.disable(connection, disabled.id)
    for _ in range(10):
        with pytest.raises(SignInRefused):
            lively.people.sign_in.password(locked.email, "wrong", HERE)
    words = set()
    for email, password in (
        ("unknown@example.org", PASSWORD), ("anna@example.org", "wrong"), ("anna@example.org", ""), ("none@example.org", PASSWORD),
        ("disabled@example.org", PASSWORD), (locked.email, PASSWORD), (locked.email, "wrong"), ("", ""), ("no address", "x"),
    ):  # fmt: skip
        with pytest.raises(SignInRefused) as refused:
            lively.people.sign_in.password(email, password, HERE)
        words.add((type(refused.value), refused.value.detail, refused.value.http_status, str(refused.value)))
    assert len(words) == 1


def test_the_work_is_the_same_for_nobody(lively: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever measures how long a refusal takes learns nothing: one comparison of the same cost, whatever is wrong."""
    lively.account(password=PASSWORD)
    compared: list[str | None] = []
    hashing = lively.people.passwords.hashing
    verify = hashing._hasher.verify_and_update
    monkeypatch.setattr(
        hashing._hasher, "verify_and_update", lambda given, stored: compared.append(stored.rpartition("$")[0][:30]) or verify(given, stored)
    )  # fmt: skip
    for email in ("unknown@example.org", "anna@example.org"):
        with pytest.raises(SignInRefused):
            lively.people.sign_in.password(email, "wrong", HERE)
    assert len(compared) == 2
    assert compared[0] is not None
    assert compared[0].rpartition("$")[0] == str(compared[1]).rpartition("$")[0]


def test_ways_to_write_an_address_share_one_counter(lively: Town) -> None:
    lively.account(password=PASSWORD)
    for number in range(10):
        with pytest.raises(SignInRefused):
            lively.people.sign_in.password("anna@example.org" if number % 2 else "ANNA@Example.org", "wrong", HERE)
    with pytest.raises(SignInRefused):
        lively.people.sign_in.password("aNNa@example.org", PASSWORD, HERE)


def test_signing_in_clears_the_counter_and_the_lock_ends_with_its_window(lively: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    anna = lively.account(password=PASSWORD)
    for _ in range(3):
        for _ in range(9):
            with pytest.raises(SignInRefused):
                lively.people.sign_in.password(anna.email, "wrong", HERE)
        assert lively.people.sign_in.password(anna.email, PASSWORD, HERE) == anna
    for _ in range(10):
        with pytest.raises(SignInRefused):
            lively.people.sign_in.password(anna.email, "wrong", HERE)
    with pytest.raises(SignInRefused):
        lively.people.sign_in.password(anna.email, PASSWORD, HERE)
    over = micros() + 16 * MINUTE
    monkeypatch.setattr("server.access.people.throttles.micros", lambda: over)
    assert lively.people.sign_in.password(anna.email, PASSWORD, HERE) == anna


def test_of_200_wrong_passwords_at_once_no_more_than_ten_are_looked_at_and_a_restart_forgets_none(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    is_right = Passwords.is_right

    def noted(self: Passwords, account: str | None, password: str) -> bool:
        looked.extend([account] if account else [])
        return is_right(self, account, password)

    monkeypatch.setattr(Passwords, "is_right", noted)
    with town(tmp_path, database_url, sign_in_failures_per_address=0) as lively:
        lively.account(password=PASSWORD)

        def guess() -> None:
            with pytest.raises((SignInRefused, TooManyAttempts)):
                lively.people.sign_in.password("anna@example.org", "wrong", HERE)

        for _ in range(5):
            assert together(*[guess] * 40) == []
        assert len(looked) <= 10 + 150, "those who were told to come back were not looked at either"
        lively.people.events.settled()
        refused = [each for each in told(lively.database) if each[1] == "4"]
        assert refused
    looked.clear()
    with town(tmp_path, database_url, sign_in_failures_per_address=0) as lively:
        for _ in range(10):
            with pytest.raises(SignInRefused):
                lively.people.sign_in.password("anna@example.org", PASSWORD, HERE)
    assert len(looked) <= 10


def test_one_network_that_guesses_is_told_to_wait_whoever_it_guesses(tmp_path: Path, database_url: str) -> None:
    with town(tmp_path, database_url, sign_in_failures_per_address=5) as lively:
        anna = lively.account(password=PASSWORD)
        for number in range(5):
            with pytest.raises(SignInRefused):
                lively.people.sign_in.password(f"someone{number}@example.org", "wrong", f"2001:db8::{number}")
        with pytest.raises(TooManyAttempts) as told_:
            lively.people.sign_in.password(anna.email, PASSWORD, "2001:db8::77")
        assert 1 <= told_.value.retry_after <= 901
        assert lively.people.sign_in.password(anna.email, PASSWORD, "2001:db8:0:1::77") == anna, "another network"
        with pytest.raises(TooManyAttempts):
            lively.people.sign_in.passkey_options("form", "2001:db8::78")


def test_who_signs_in_does_not_use_the_network_up(tmp_path: Path, database_url: str) -> None:
    with town(tmp_path, database_url, sign_in_failures_per_address=3) as lively:
        anna = lively.account(password=PASSWORD)
        for _ in range(8):
            assert lively.people.sign_in.password(anna.email, PASSWORD, HERE) == anna


def test_what_fails_of_another_reason_does_not_count(lively: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    anna = lively.account(password=PASSWORD)

    def busy(*_: object) -> bool:
        raise Busy("later")

    with monkeypatch.context() as patched:
        patched.setattr(Passwords, "is_right", busy)
        for _ in range(30):
            with pytest.raises(Busy):
                lively.people.sign_in.password(anna.email, PASSWORD, HERE)
    assert lively.people.sign_in.password(anna.email, PASSWORD, HERE) == anna


def test_what_fails_of_another_reason_unlocks_nobody(lively: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    anna = lively.account(password=PASSWORD)
    for _ in range(lively.people.sign_in.tries.of_network.amount):
        with pytest.raises(SignInRefused):
            lively.people.sign_in.password(anna.email, "wrong", HERE)
    with monkeypatch.context() as patched:
        patched.setattr(lively.people.passwords, "is_right", lambda *_: (_ for _ in ()).throw(Busy("busy")))
        for _ in range(3):
            with pytest.raises(Busy):
                lively.people.sign_in.password(anna.email, PASSWORD, HERE)
    with pytest.raises(SignInRefused):
        lively.people.sign_in.password(anna.email, PASSWORD, HERE)


def test_whom_a_flood_keeps_out_is_not_even_counted(lively: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting writes: a flood would have everybody else wait for the database."""
    anna = lively.account(password=PASSWORD)
    hashing = lively.people.passwords.hashing
    with ExitStack() as full, monkeypatch.context() as patched:
        for _ in range(18):
            full.enter_context(hashing._place())
        patched.setattr(Throttles, "take", lambda *_: pytest.fail("it was counted"))
        with pytest.raises(TooManyAttempts):
            lively.people.sign_in.password(anna.email, PASSWORD, HERE)
    assert lively.people.sign_in.password(anna.email, PASSWORD, HERE) == anna


def test_the_trail_names_accounts_but_no_address_name_or_secret(lively: Town) -> None:
    anna = lively.account(name="Anna Muster", password=PASSWORD, patients=["a"])
    lively.people.sign_in.password(anna.email, PASSWORD, HERE)
    for email in (anna.email, "unknown@example.org"):
        with pytest.raises(SignInRefused):
            lively.people.sign_in.password(email, "wrong secret", HERE)
    session, _ = lively.people.sessions.open(anna, ("password",), 1)
    lively.people.sign_out(session, HERE)
    lively.people.events.settled()
    with lively.database.read() as connection:
        bodies = [orjson.loads(each.body) for each in reversed(list(events(connection, limit=10)))]
    assert [(each["type"]["code"], each["subtype"][0]["code"], each["outcome"]) for each in bodies] == [
        ("110114", "110122", "0"), ("110114", "110122", "4"), ("110114", "110122", "4"), ("110114", "110123", "0"),
    ]  # fmt: skip
    people = [[agent["who"] for agent in each["agent"] if agent["requestor"]] for each in bodies]
    me = [{"reference": "Patient/a", "identifier": {"value": anna.id}}]
    assert [people[0], people[1], people[3]] == [me, me, me]
    text = orjson.dumps(bodies).decode()
    assert not [word for word in ("@example.org", "Muster", "wrong", PASSWORD, "anna", "unknown") if word in text]
    assert all(HERE in orjson.dumps(each).decode() for each in bodies)


# --- codes


def test_a_code_signs_in_once(lively: Town) -> None:
    anna = lively.account()
    lively.people.sign_in.send_code("ANNA@example.org", HERE)
    code = lively.code()
    to, subject, _ = lively.mails[-1]
    assert to == anna.email
    assert not any(digit in subject for digit in "0123456789")
    assert lively.people.sign_in.code(anna.email, code, HERE) == anna
    with pytest.raises(SignInRefused):
        lively.people.sign_in.code(anna.email, code, HERE)


def test_a_code_is_stored_as_a_hash_and_a_new_one_voids_it(lively: Town) -> None:
    anna = lively.account()
    lively.people.sign_in.send_code(anna.email, HERE)
    first = lively.code()
    with lively.database.read() as connection:
        row = connection.execute(CODE.select()).one()
    assert first.replace(" ", "") not in str(tuple(row))
    lively.people.sign_in.send_code(anna.email, HERE)
    second = lively.code()
    if first != second:
        with pytest.raises(SignInRefused):
            lively.people.sign_in.code(anna.email, first, HERE)
    assert lively.people.sign_in.code(anna.email, second, HERE) == anna


def test_a_code_lives_ten_minutes(lively: Town) -> None:
    anna = lively.account()
    for later, right in ((10 * MINUTE, False), (10 * MINUTE - 1, True)):
        with lively.database.write() as connection:
            code = lively.people.codes.make(connection, anna.id, "sign-in", now=1_000)
        assert lively.people.codes.claim(anna.id, "sign-in", code, now=1_000 + later) is right


def test_a_code_is_for_its_account_and_its_purpose(lively: Town) -> None:
    anna, other = lively.account(), lively.account("other@example.org")
    lively.people.recovery.send(anna.email, HERE)
    code = lively.code()
    for email in (anna.email, other.email, "unknown@example.org"):
        with pytest.raises(SignInRefused):
            lively.people.sign_in.code(email, code, HERE)


def _wrong(code: str) -> str:
    return f"{(int(code.replace(' ', '')) + 1) % 10**8:08d}"


def test_five_tries_also_when_200_are_made_at_once_and_after_a_restart(tmp_path: Path, database_url: str) -> None:
    with town(tmp_path, database_url) as lively:
        anna = lively.account()
        with lively.database.write() as connection:
            code = lively.people.codes.make(connection, anna.id, "sign-in")
        wrong = _wrong(code)
        right: list[bool] = []

        def guess() -> None:
            right.append(lively.people.codes.claim(anna.id, "sign-in", wrong))

        for _ in range(5):
            assert together(*[guess] * 40) == []
        assert right == [False] * 200
        with lively.database.read() as connection:
            assert connection.execute(CODE.select()).one().tries == TRIES
    with town(tmp_path, database_url) as lively:
        assert not lively.people.codes.claim(anna.id, "sign-in", code), "it is used up, also for who has it"


def test_of_many_with_the_right_code_one_gets_in(lively: Town) -> None:
    anna = lively.account()
    with lively.database.write() as connection:
        code = lively.people.codes.make(connection, anna.id, "sign-in")
    got: list[bool] = []

    def enter() -> None:
        got.append(lively.people.codes.claim(anna.id, "sign-in", code))

    assert together(*[enter] * 50) == []
    assert got.count(True) == 1


def test_nothing_is_sent_to_nobody_and_the_caller_cannot_tell(lively: Town) -> None:
    disabled = lively.account("disabled@example.org")
    with lively.database.write() as connection:
        accounts.disable(connection, disabled.id)
    for email in ("unknown@example.org", disabled.email, "no address", "a@b.org\r\nBcc: x@y.org"):
        assert lively.people.sign_in.send_code(email, HERE) is None  # type: ignore[func-returns-value]
    lively.posted()
    assert lively.mails == []


@pytest.mark.parametrize("email", ["anna@example.org", "unknown@example.org"])
def test_codes_are_sent_five_times_an_hour(lively: Town, email: str) -> None:
    """To whom one network asks; to whom several do, twenty times."""
    lively.account()
    for _ in range(5):
        lively.people.sign_in.send_code(email, HERE)
    with pytest.raises(TooManyAttempts):
        lively.people.sign_in.send_code(email.upper(), HERE)
    for number in range(15):
        lively.people.sign_in.send_code(email, f"198.51.100.{number // 5}")
    with pytest.raises(TooManyAttempts):
        lively.people.sign_in.send_code(email.upper(), "198.51.100.7")
    lively.posted()
    assert len(lively.mails) == (20 if email.startswith("anna") else 0)


def test_a_mail_server_that_is_away_is_nobodys_affair(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with town(tmp_path, database_url) as lively:

        def away(*_: str) -> None:
            raise OSError("anna@example.org")

        monkeypatch.setattr(lively.people.sign_in, "_mail", away)
        lively.account()
        lively.people.sign_in.send_code("anna@example.org", HERE)
        lively.posted()


# --- an account that a passkey protects


def protected(lively: Town, **given: str) -> tuple[accounts.Account, Key]:
    anna, key = lively.account(**given), Key()
    session, _ = lively.people.sessions.open(anna, ("code",), 1)
    lively.people.passkeys.finish(session, key.create(lively.people.passkeys.begin(session)))
    return anna, key


def test_e_mail_alone_does_not_open_what_a_passkey_protects(lively: Town) -> None:
    anna, _ = protected(lively)
    for send in (lively.people.sign_in.send_code, lively.people.recovery.send):
        send(anna.email, HERE)
        lively.posted()
        assert "passkey" in lively.mails[-1][2]
    with lively.database.read() as connection:
        assert connection.execute(CODE.select()).all() == []


@pytest.mark.parametrize("purpose", ["sign-in", "recover"])
def test_nor_does_a_code_that_was_sent_before_there_was_one(lively: Town, purpose: str) -> None:
    anna = lively.account(password=PASSWORD)
    with lively.database.write() as connection:
        code = lively.people.codes.make(connection, anna.id, purpose)
    session, _ = lively.people.sessions.open(anna, ("password",), 1)
    key = Key()
    lively.people.passkeys.finish(session, key.create(lively.people.passkeys.begin(session)))
    attempts: dict[str, Callable[[], object]] = {
        "sign-in": lambda: lively.people.sign_in.code(anna.email, code, HERE),
        "recover": lambda: lively.people.recovery.recover(anna.email, code, "another long password", HERE),
    }
    with pytest.raises(SignInRefused):
        attempts[purpose]()
    assert lively.people.passwords.is_right(anna.id, PASSWORD)


def test_nobody_is_invited_at_an_address_of_this_machine(lively: Town) -> None:
    with pytest.raises(Refused, match="this machine"):
        lively.people.sign_in.invite(lively.account("administrator@localhost"))
    assert lively.mails == []
