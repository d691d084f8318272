"""Name and e-mail address, changed by the person: who reads the new address, who is told, and who is not told anything."""

from functools import partial

import pytest
from peers.people import HERE, PASSWORD, Key, Town
from peers.together import together

from server.access.people import accounts
from server.access.people.accounts import Account
from server.access.people.one_time_codes import CODE
from server.access.people.sessions import FRESH, Session
from server.errors import Conflict, Refused, SignInRefused, StepUpNeeded, TooManyAttempts
from server.records.trail import events
from server.store.db import micros

ON_BOTH_ENGINES = True
NEW = "anna@new.example.org"


def signed_in(lively: Town, account: Account, assurance: int = 1, now: int | None = None) -> Session:
    return lively.people.sessions.open(account, ("password",), assurance, now)[0]


def found(lively: Town, id_: str) -> Account:
    with lively.database.read() as connection:
        known = accounts.find(connection, id_)
    assert known is not None
    return known


def trailed(lively: Town) -> str:
    with lively.database.read() as connection:
        return "\n".join(each.body.decode() for each in events(connection, limit=50))


def test_a_new_address_counts_when_its_code_is_typed_and_the_former_one_is_told(lively: Town) -> None:
    anna, people = lively.account(password=PASSWORD), lively.people
    session, other = signed_in(lively, anna), people.sessions.open(anna, ("password",), 1)[1]
    assert people.profile.ask(session, f"  {NEW} ", HERE) == NEW
    code = lively.code()
    assert [to for to, *_ in lively.mails] == [NEW]
    assert found(lively, anna.id).email == anna.email
    people.profile.confirm(session, NEW, code, HERE)
    lively.posted()
    assert found(lively, anna.id).email == NEW
    to, subject, text = lively.mails[-1]
    assert to == anna.email
    assert NEW not in subject + text, "who reads the former address need not learn the new one"
    assert people.sign_in.password(NEW, PASSWORD, HERE).id == anna.id
    with pytest.raises(SignInRefused):
        people.sign_in.password(anna.email, PASSWORD, HERE)
    assert people.sessions.find(other) is not None, "other browsers stay signed in"
    told = trailed(lively)
    assert "e-mail address changed" in told
    assert NEW not in told
    assert anna.email not in told


def test_a_code_is_for_one_address_one_account_and_once(lively: Town) -> None:
    anna, bert = lively.account(), lively.account("bert@example.org")
    hers, his = signed_in(lively, anna), signed_in(lively, bert)
    lively.people.profile.ask(hers, NEW, HERE)
    code = lively.code()
    for session, email in ((hers, "other@new.example.org"), (hers, anna.email), (his, NEW)):
        with pytest.raises(SignInRefused):
            lively.people.profile.confirm(session, email, code, HERE)
    lively.people.profile.confirm(hers, NEW, code, HERE)
    with pytest.raises(SignInRefused):
        lively.people.profile.confirm(hers, NEW, code, HERE)
    assert found(lively, bert.id).email == bert.email


def test_it_is_no_code_to_sign_in_with_and_one_to_sign_in_with_changes_nothing(lively: Town) -> None:
    anna = lively.account()
    session = signed_in(lively, anna)
    lively.people.sign_in.send_code(anna.email, HERE)
    to_sign_in = lively.code()
    with pytest.raises(SignInRefused):
        lively.people.profile.confirm(session, NEW, to_sign_in, HERE)
    lively.people.profile.ask(session, NEW, HERE)
    with pytest.raises(SignInRefused):
        lively.people.sign_in.code(anna.email, lively.code(), HERE)


def test_a_code_that_went_to_the_former_address_signs_nobody_in_any_more(lively: Town) -> None:
    anna = lively.account()
    session = signed_in(lively, anna)
    lively.people.sign_in.send_code(anna.email, HERE)
    former = lively.code()
    lively.people.profile.ask(session, NEW, HERE)
    lively.people.profile.confirm(session, NEW, lively.code(), HERE)
    with pytest.raises(SignInRefused):
        lively.people.sign_in.code(NEW, former, HERE)


@pytest.mark.parametrize("spelt", ["bert@example.org", "BERT@example.org", "\uff42ert@example.org"])
def test_whether_an_address_has_an_account_is_told_to_its_owner_alone(lively: Town, spelt: str) -> None:
    anna, bert = lively.account(), lively.account("bert@example.org")
    session = signed_in(lively, anna)
    lively.people.profile.ask(session, spelt, HERE)
    lively.posted()
    (to, _, text), *more = lively.mails
    assert (accounts.fold(to), more) == (bert.email, [])
    assert "another account" in text
    assert not any(mark.isdecimal() for mark in text)
    with lively.database.read() as connection:
        assert connection.execute(CODE.select()).first() is None


def test_who_is_not_fresh_or_has_not_used_the_passkey_changes_nothing(lively: Town) -> None:
    anna, people = lively.account(password=PASSWORD), lively.people
    stale = signed_in(lively, anna, now=micros() - FRESH - 1)
    key = Key()
    fresh = signed_in(lively, anna)
    people.passkeys.finish(fresh, key.create(people.passkeys.begin(fresh)), "Phone")
    lively.posted()
    lively.mails.clear()
    for session in (stale, fresh):
        for attempt in (
            partial(people.profile.rename, session, "Eve", HERE),
            partial(people.profile.ask, session, NEW, HERE),
            partial(people.profile.confirm, session, NEW, "12345678", HERE),
        ):
            with pytest.raises(StepUpNeeded):
                attempt()
    lively.posted()
    assert lively.mails == []
    assert found(lively, anna.id) == anna
    people.profile.rename(signed_in(lively, anna, assurance=2), "Anna Alba", HERE)
    assert found(lively, anna.id).name == "Anna Alba"


@pytest.mark.parametrize(
    "email", ["", "anna", "a@b@c", "a b@example.org", "anna@example.org\nBcc: x@example.org", "x" * 70 + "@example.org"]
)
def test_what_is_no_address_is_refused(lively: Town, email: str) -> None:
    session = signed_in(lively, lively.account())
    with pytest.raises(Refused):
        lively.people.profile.ask(session, email, HERE)
    with pytest.raises(Refused):
        lively.people.profile.confirm(session, email, "12345678", HERE)


def test_ones_own_address_is_no_new_one(lively: Town) -> None:
    anna = lively.account()
    session = lively.people.sessions.open(anna, ("code",), 1)[0]
    with pytest.raises(Refused, match="already"):
        lively.people.profile.ask(session, anna.email, HERE)


def test_a_name_is_one_line_of_letters(lively: Town) -> None:
    anna = lively.account()
    session = signed_in(lively, anna)
    for name in ("", " ", "x" * 201, "An\0na", "An\u202ena"):
        with pytest.raises(Refused):
            lively.people.profile.rename(session, name, HERE)
    lively.people.profile.rename(session, "  Anna  \n Alba ", HERE)
    assert found(lively, anna.id).name == "Anna Alba"
    told = trailed(lively)
    assert "name changed" in told
    assert "Alba" not in told


def test_strangers_are_not_mailed_without_end(lively: Town) -> None:
    """However many accounts ask for one address, and however many addresses one account asks for."""
    session = signed_in(lively, lively.account())
    asked = 0
    with pytest.raises(TooManyAttempts):
        for asked in range(100):
            lively.people.profile.ask(session, f"n{asked}@new.example.org", HERE)
    assert 0 < asked <= 5
    with pytest.raises(TooManyAttempts):
        for number in range(100):
            other = signed_in(lively, lively.account(f"a{number}@example.org"))
            lively.people.profile.ask(other, NEW, HERE)


def test_a_code_is_guessed_five_times(lively: Town) -> None:
    session = signed_in(lively, lively.account())
    lively.people.profile.ask(session, NEW, HERE)
    code = lively.code()
    wrong = "1" * 8 if code != "1111 1111" else "2" * 8
    for _ in range(5):
        with pytest.raises(SignInRefused):
            lively.people.profile.confirm(session, NEW, wrong, HERE)
    with pytest.raises(SignInRefused):
        lively.people.profile.confirm(session, NEW, code, HERE)


def test_of_two_who_take_an_address_at_once_one_has_it(lively: Town) -> None:
    """Both were sent a code before either had it, as happens where one address is asked for twice."""
    sessions = [signed_in(lively, lively.account(f"{name}@example.org")) for name in ("anna", "bert")]
    codes = []
    for session in sessions:
        lively.people.profile.ask(session, NEW, HERE)
        codes.append(lively.code())

    def take(number: int) -> None:
        lively.people.profile.confirm(sessions[number], NEW, codes[number], HERE)

    (refused,) = together(partial(take, 0), partial(take, 1))
    assert isinstance(refused, Conflict)
    with lively.database.read() as connection:
        assert sorted(each.email == NEW for each in accounts.every(connection)) == [False, True]
