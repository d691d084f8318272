"""Sessions: made by signing in only, known by a hash, over in time, closed for good."""

import contextlib

import pytest
from peers.people import HERE, PASSWORD, Key, Town
from peers.together import together
from sqlalchemy import select

from server.access import epoch
from server.access.oauth import granting
from server.access.oauth.granting import Granted
from server.access.people import accounts, passkeys, people, sessions
from server.access.people.sessions import SESSION, Session
from server.errors import Refused, SignInRefused, StepUpNeeded
from server.settings import load
from server.store.db import micros

HOUR = 3_600_000_000
NOW = 1_800_000_000_000_000


def test_a_session_is_found_by_its_cookie_which_is_stored_nowhere(lively: Town) -> None:
    anna = lively.account()
    session, cookie = lively.people.sessions.open(anna, ("password",), 1)
    assert lively.people.sessions.find(cookie) == session
    with lively.database.read() as connection:
        row = connection.execute(select(SESSION)).one()
    assert cookie not in str(tuple(row))
    assert session.csrf not in str(tuple(row))
    assert session.csrf not in cookie
    assert len(cookie) >= 43, "256 bits"


@pytest.mark.parametrize("cookie", ["", "x", "x" * 43, "x" * 10_000, "é" * 43])
def test_a_cookie_that_is_not_ours_makes_no_session(lively: Town, cookie: str) -> None:
    lively.people.sessions.open(lively.account(), ("password",), 1)
    assert lively.people.sessions.find(cookie) is None


def test_nobody_plants_a_cookie(lively: Town) -> None:
    """Session fixation: what a browser brought before signing in is worth nothing afterwards, nor is what it had before a step up."""
    anna = lively.account()
    planted = "planted" * 7
    session, cookie = lively.people.sessions.open(anna, ("password",), 1)
    assert lively.people.sessions.find(planted) is None
    rotated = lively.people.sessions.rotate(session, ("passkey",), 2)
    assert rotated is not None
    stepped, fresh = rotated
    assert fresh not in (cookie, planted)
    assert lively.people.sessions.find(cookie) is None
    assert lively.people.sessions.find(fresh) == stepped
    assert (stepped.id, stepped.assurance, stepped.methods) == (session.id, 2, ("password", "passkey"))
    assert stepped.csrf != session.csrf


def test_a_step_up_never_weakens(lively: Town) -> None:
    session, _ = lively.people.sessions.open(lively.account(), ("passkey",), 2)
    rotated = lively.people.sessions.rotate(session, ("code",), 1)
    assert rotated is not None
    assert rotated[0].assurance == 2


def test_a_session_is_over_when_idle_and_when_old(lively: Town) -> None:
    _, cookie = lively.people.sessions.open(lively.account(), ("password",), 1, now=NOW)
    assert lively.people.sessions.find(cookie, NOW + HOUR // 2) is None, "half an hour without a request"
    now = NOW
    while now + HOUR // 3 < NOW + 12 * HOUR:
        now += HOUR // 3
        assert lively.people.sessions.find(cookie, now) is not None
    assert lively.people.sessions.find(cookie, NOW + 12 * HOUR - 1) is not None
    assert lively.people.sessions.find(cookie, NOW + 12 * HOUR) is None


def test_of_a_disabled_account_none_is_left(lively: Town) -> None:
    anna = lively.account()
    _, cookie = lively.people.sessions.open(anna, ("password",), 1)
    with lively.database.write() as connection:
        accounts.disable(connection, anna.id)
    assert lively.people.sessions.find(cookie) is None
    with lively.database.write() as connection:
        accounts.enable(connection, anna.id)
    assert lively.people.sessions.find(cookie) is None


def _granted(lively: Town, account: str, session: str | None = None) -> str:
    with lively.database.write() as connection:
        expires = micros() + HOUR
        return granting.begin(connection, Granted("", "app", "openid", account=account, session=session, expires=expires)).id


def _holds(lively: Town, grant: str) -> bool:
    with lively.database.read() as connection:
        found = granting.find(connection, grant)
    return found is not None and found.holds(micros())


def test_signing_out_ends_what_was_granted_for_as_long_as_the_session_lasts(lively: Town) -> None:
    anna = lively.account()
    session, cookie = lively.people.sessions.open(anna, ("password",), 1)
    online, offline = _granted(lively, anna.id, session.id), _granted(lively, anna.id)
    with lively.database.read() as connection:
        before = epoch.current(connection)
    lively.people.sign_out(session, HERE)
    assert lively.people.sessions.find(cookie) is None
    assert (_holds(lively, online), _holds(lively, offline)) == (False, True)
    with lively.database.read() as connection:
        assert epoch.current(connection) > before
    assert lively.people.sessions.rotate(session, ("passkey",), 2) is None, "a session that was closed does not come back"


def test_closing_one_and_all_others(lively: Town) -> None:
    anna, other = lively.account(), lively.account("other@example.org")
    opened = [lively.people.sessions.open(anna, ("password",), 1) for _ in range(4)]
    theirs, their_cookie = lively.people.sessions.open(other, ("password",), 1)
    lively.people.sessions.close_one(anna.id, opened[0][0].id)
    lively.people.sessions.close_one(anna.id, theirs.id)
    assert lively.people.sessions.find(their_cookie) is not None, "nobody closes another's"
    assert len(lively.people.sessions.of(anna.id)) == 3
    lively.people.sessions.close_all(anna.id, but=opened[3][0].id)
    assert [lively.people.sessions.find(cookie) is not None for _, cookie in opened] == [False, False, False, True]
    lively.people.sessions.close_all(anna.id)
    assert lively.people.sessions.of(anna.id) == []
    assert lively.people.sessions.find(their_cookie) is not None


def test_signing_out_at_once_and_stepping_up_leave_nothing_open(lively: Town) -> None:
    anna = lively.account()
    for _ in range(5):
        session, cookie = lively.people.sessions.open(anna, ("password",), 1)
        cookies = [cookie]

        def step(session: Session = session, cookies: list[str] = cookies) -> None:
            if (rotated := lively.people.sessions.rotate(session, ("passkey",), 2)) is not None:
                cookies.append(rotated[1])

        def out(session: Session = session) -> None:
            lively.people.sign_out(session, HERE)

        assert together(step, out, step, out, step, out) == []
        assert [lively.people.sessions.find(each) for each in cookies] == [None] * len(cookies)


def test_what_is_over_is_forgotten(lively: Town) -> None:
    anna = lively.account()
    lively.people.sessions.open(anna, ("password",), 1, now=NOW)
    lively.people.passkeys.options("form", now=NOW)
    with lively.database.write() as connection:
        lively.people.codes.make(connection, anna.id, "sign-in", now=NOW)
    with lively.database.write() as connection:
        people.forget(connection, NOW + 24 * HOUR)
        for table in ("session", "passkey_challenge", "one_time_code", "throttle"):
            assert connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar() == 0


def test_the_name_of_the_cookie() -> None:
    assert sessions.cookie(load(public_url="https://images.example.org")) == ("__Host-imageshare", True)
    assert sessions.cookie(load(public_url="http://localhost:8080")) == ("imageshare-session", False)


# --- changing a password


def test_another_password_signs_out_all_others_and_ends_apps(lively: Town) -> None:
    anna = lively.account(password=PASSWORD)
    here, cookie = lively.people.sessions.open(anna, ("password",), 1)
    _, elsewhere = lively.people.sessions.open(anna, ("password",), 1)
    app = _granted(lively, anna.id)
    with pytest.raises(SignInRefused):
        lively.people.recovery.change(here, "wrong", "another long password", HERE)
    with pytest.raises(Refused, match="characters"):
        lively.people.recovery.change(here, PASSWORD, "short", HERE)
    assert _holds(lively, app)
    lively.people.recovery.change(here, PASSWORD, "another long password", HERE)
    assert lively.people.sessions.find(cookie) is not None
    assert lively.people.sessions.find(elsewhere) is None
    assert not _holds(lively, app)
    assert lively.people.sign_in.password(anna.email, "another long password", HERE) == anna
    with pytest.raises(SignInRefused):
        lively.people.sign_in.password(anna.email, PASSWORD, HERE)


def test_guessing_the_present_password_is_counted_as_any_guess(lively: Town) -> None:
    anna = lively.account(password=PASSWORD)
    here, _ = lively.people.sessions.open(anna, ("password",), 1)
    for _ in range(10):
        with pytest.raises(SignInRefused):
            lively.people.recovery.change(here, "wrong", "another long password", HERE)
    with pytest.raises(SignInRefused):
        lively.people.recovery.change(here, PASSWORD, "another long password", HERE)


def test_a_session_that_is_not_fresh_changes_no_password(lively: Town) -> None:
    anna = lively.account(password=PASSWORD)
    stale, _ = lively.people.sessions.open(anna, ("password",), 1, now=micros() - HOUR)
    with pytest.raises(StepUpNeeded):
        lively.people.recovery.change(stale, PASSWORD, "another long password", HERE)


def test_who_came_with_a_password_for_once_chooses_one(lively: Town) -> None:
    anna = lively.account(password=PASSWORD)
    _, elsewhere = lively.people.sessions.open(anna, ("password",), 1)
    once = lively.people.recovery.reset(anna)
    assert lively.people.sessions.find(elsewhere) is None
    with pytest.raises(SignInRefused):
        lively.people.sign_in.password(anna.email, PASSWORD, HERE)
    assert lively.people.sign_in.password(anna.email, once, HERE) == anna
    session, _ = lively.people.sessions.open(anna, ("password",), 1)
    lively.people.recovery.change(session, "", "another long password", HERE)
    assert lively.people.sign_in.password(anna.email, "another long password", HERE) == anna


def test_an_administrator_gives_nobody_a_password_that_others_would_try(lively: Town) -> None:
    anna = lively.account(password=PASSWORD)
    with pytest.raises(Refused):
        lively.people.recovery.reset(anna, "password1234")
    assert lively.people.sign_in.password(anna.email, PASSWORD, HERE) == anna


def test_a_forgotten_password(lively: Town) -> None:
    anna = lively.account(password=PASSWORD)
    _, elsewhere = lively.people.sessions.open(anna, ("password",), 1)
    app = _granted(lively, anna.id)
    lively.people.recovery.send(anna.email, HERE)
    code = lively.code()
    with pytest.raises(Refused):
        lively.people.recovery.recover(anna.email, code, "short", HERE)
    assert lively.people.recovery.recover(anna.email, code, "another long password", HERE) == anna
    assert lively.people.sessions.find(elsewhere) is None
    assert not _holds(lively, app)
    with pytest.raises(SignInRefused):
        lively.people.recovery.recover(anna.email, code, "yet another password", HERE)
    assert lively.people.sign_in.password(anna.email, "another long password", HERE) == anna


# --- who is about to sign in


@pytest.mark.parametrize("how", ["changed", "recovered", "disabled", "disabled and enabled", "key removed"])
def test_who_was_about_to_sign_in_while_everybody_is_signed_out_does_not(lively: Town, how: str) -> None:
    """The old password was right a moment ago; the session would be one that nobody can see coming."""
    anna = lively.account(password=PASSWORD)
    key = Key()
    mine, _ = lively.people.sessions.open(anna, ("password",), 1)
    lively.people.passkeys.finish(mine, key.create(lively.people.passkeys.begin(mine)))
    mine, _ = lively.people.sessions.open(anna, ("passkey",), 2)
    known = lively.people.sign_in.password(anna.email, PASSWORD, HERE)
    if how == "changed":
        lively.people.recovery.change(mine, PASSWORD, "another long password", HERE)
    elif how == "recovered":
        lively.people.recovery.reset(anna, "another long password")
    elif how == "key removed":
        known = lively.people.sign_in.passkey(key.get(lively.people.sign_in.passkey_options("b", HERE)), "b", HERE)
        with lively.database.read() as connection:
            (held,) = passkeys.of(connection, anna.id)
        lively.people.passkeys.remove(mine, held.id)
    else:
        with lively.database.write() as connection:
            accounts.disable(connection, anna.id)
            if how.endswith("enabled"):
                accounts.enable(connection, anna.id)
    with pytest.raises(SignInRefused):
        lively.people.sessions.open(known, ("password",), 1)
    assert len(lively.people.sessions.of(anna.id)) == (0 if how.startswith(("disabled", "recovered")) else 1)


def test_of_many_at_once_none_is_left_open_after_the_password_was_changed(lively: Town) -> None:
    anna = lively.account(password=PASSWORD)
    mine, _ = lively.people.sessions.open(anna, ("password",), 1)
    known = lively.people.sign_in.password(anna.email, PASSWORD, HERE)

    def enter() -> None:
        with contextlib.suppress(SignInRefused):
            lively.people.sessions.open(known, ("password",), 1)

    assert (
        together(*[enter] * 8, lambda: lively.people.recovery.change(mine, PASSWORD, "another long password", HERE), *[enter] * 8)
        == []
    )
    assert [each.id for each in lively.people.sessions.of(anna.id)] == [mine.id]
