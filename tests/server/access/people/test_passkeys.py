"""Passkeys, by a key in software: what was asked for, by this browser, once; and no copied key."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from peers.people import HERE, PASSWORD, Key, Town
from peers.together import together

from server.access.oauth import granting
from server.access.oauth.granting import Granted
from server.access.people import accounts, passkeys
from server.access.people.accounts import Account
from server.access.people.passkeys import Passkeys
from server.access.people.sessions import Session
from server.errors import NotFound, Refused, SignInRefused, StepUpNeeded
from server.settings import load
from server.store.db import micros

HOUR = 3_600_000_000


def signed_in(lively: Town, account: Account, assurance: int = 1, now: int | None = None) -> Session:
    return lively.people.sessions.open(account, ("password",), assurance, now)[0]


def with_key(lively: Town, key: Key | None = None) -> tuple[Account, Key]:
    anna, key = lively.account(password=PASSWORD), key or Key()
    session = signed_in(lively, anna)
    lively.people.passkeys.finish(session, key.create(lively.people.passkeys.begin(session)), "Phone")
    return anna, key


def enter(lively: Town, response: dict[str, Any], binding: str = "form") -> Account:
    return lively.people.sign_in.passkey(response, binding, HERE)


def test_a_key_is_added_and_signs_in(lively: Town) -> None:
    anna, key = with_key(lively)
    assert enter(lively, key.get(lively.people.passkeys.options("form"))) == anna
    with lively.database.read() as connection:
        (known,) = passkeys.of(connection, anna.id)
    assert known.name == "Phone"
    assert known.used > known.created


def test_one_without_a_counter_signs_in_again_and_again(lively: Town) -> None:
    anna, key = with_key(lively, Key(counts=False))
    for _ in range(3):
        assert enter(lively, key.get(lively.people.passkeys.options("form"))) == anna


def test_options_to_sign_in_name_nobody(lively: Town) -> None:
    with_key(lively)
    options = lively.people.sign_in.passkey_options("form", HERE)
    assert options["allowCredentials"] == []
    assert options["userVerification"] == "required"
    assert options["rpId"] == "images.example.org"
    assert options["challenge"] != lively.people.sign_in.passkey_options("form", HERE)["challenge"]


def test_an_account_has_several_and_none_twice(lively: Town) -> None:
    anna, first = with_key(lively)
    session, second = signed_in(lively, anna, 2), Key()
    options = lively.people.passkeys.begin(session)
    assert len(options["excludeCredentials"]) == 1
    lively.people.passkeys.finish(session, second.create(options))
    with pytest.raises(Refused, match="already"):
        lively.people.passkeys.finish(session, first.create(lively.people.passkeys.begin(session)))
    for key in (first, second):
        assert enter(lively, key.get(lively.people.passkeys.options("form"))) == anna
    lively.people.passkeys.remove(session, first.create(options)["id"])
    with pytest.raises(SignInRefused):
        enter(lively, first.get(lively.people.passkeys.options("form")))
    assert enter(lively, second.get(lively.people.passkeys.options("form"))) == anna


def test_who_began_before_there_was_a_key_adds_none_after(lively: Town) -> None:
    """Two who have the password: the first who has a key keeps the other out."""
    anna = lively.account(password=PASSWORD)
    one, other = signed_in(lively, anna), signed_in(lively, anna)
    options = lively.people.passkeys.begin(other)
    lively.people.passkeys.finish(one, Key().create(lively.people.passkeys.begin(one)))
    with pytest.raises(StepUpNeeded):
        lively.people.passkeys.finish(other, Key().create(options))


def test_an_account_has_so_many_keys(lively: Town) -> None:
    anna, _ = with_key(lively)
    session = signed_in(lively, anna, 2)
    for _ in range(19):
        lively.people.passkeys.finish(session, Key().create(lively.people.passkeys.begin(session)))
    with pytest.raises(Refused, match="20 passkeys at most"):
        lively.people.passkeys.finish(session, Key().create(lively.people.passkeys.begin(session)))


def test_a_key_of_somebody_else_is_not_taken_over(lively: Town) -> None:
    anna, key = with_key(lively)
    eve = lively.account("eve@example.org")
    session = signed_in(lively, eve)
    with pytest.raises(Refused):
        lively.people.passkeys.finish(session, key.create(lively.people.passkeys.begin(session)))
    with pytest.raises(NotFound):
        lively.people.passkeys.remove(session, key.create(lively.people.passkeys.begin(session))["id"])
    assert enter(lively, key.get(lively.people.passkeys.options("form"))) == anna


def test_removing_one_signs_out_all_others_and_ends_apps(lively: Town) -> None:
    anna, key = with_key(lively)
    here, cookie = lively.people.sessions.open(anna, ("passkey",), 2)
    _, elsewhere = lively.people.sessions.open(anna, ("passkey",), 2)
    with lively.database.write() as connection:
        app = granting.begin(connection, Granted("", "app", "openid", account=anna.id, expires=micros() + HOUR)).id
    lively.people.passkeys.remove(here, key.create({"challenge": "AAAA"})["id"], HERE)
    assert lively.people.sessions.find(cookie) is not None
    assert lively.people.sessions.find(elsewhere) is None
    with lively.database.read() as connection:
        found = granting.find(connection, app)
    assert found is None or not found.holds(micros())


def test_who_has_lost_every_key_is_let_in_by_an_administrator(lively: Town) -> None:
    anna, key = with_key(lively)
    once = lively.people.recovery.reset(anna, without_passkeys=True)
    with pytest.raises(SignInRefused):
        enter(lively, key.get(lively.people.passkeys.options("form")))
    assert lively.people.sign_in.password(anna.email, once, HERE) == anna
    session, fresh = signed_in(lively, anna), Key()
    lively.people.passkeys.finish(session, fresh.create(lively.people.passkeys.begin(session)))
    assert enter(lively, fresh.get(lively.people.passkeys.options("form"))) == anna


_FORGED: dict[str, Callable[[Town, Key], dict[str, Any]]] = {
    "another browser's challenge": lambda lively, key: key.get(lively.people.passkeys.options("other")),
    "no challenge of ours": lambda lively, key: key.get({"challenge": "A" * 43}),
    "a challenge that is over": lambda lively, key: key.get(lively.people.passkeys.options("form", micros() - HOUR)),
    "another page": lambda lively, key: _changed(key, origin="https://evil.example").get(lively.people.passkeys.options("form")),
    "another host": lambda lively, key: _changed(key, host="evil.example").get(lively.people.passkeys.options("form")),
    "nobody verified": lambda lively, key: _changed(key, verifies=False).get(lively.people.passkeys.options("form")),
    "another key's signature": lambda lively, key: _changed(key, private=Key().private).get(lively.people.passkeys.options("form")),
    "a key that nobody knows": lambda lively, key: Key().get(lively.people.passkeys.options("form")),
    "a registration": lambda lively, key: key.create(lively.people.passkeys.options("form")),
    "a counter that did not grow": lambda lively, key: _changed(key, count=0, counts=False).get(lively.people.passkeys.options("form")),
    "nothing": lambda lively, key: {},
    "no object": lambda lively, key: {"id": "x", "response": "y"},
    "far too much": lambda lively, key: {**key.get(lively.people.passkeys.options("form")), "extra": "x" * 100_000},
}  # fmt: skip


def _changed(key: Key, **given: Any) -> Key:
    return Key(**{**vars(key), **given})


@pytest.mark.parametrize("how", _FORGED)
def test_what_was_not_asked_for_does_not_sign_in(lively: Town, how: str) -> None:
    anna, key = with_key(lively)
    assert enter(lively, key.get(lively.people.passkeys.options("form"))) == anna
    with pytest.raises(SignInRefused):
        enter(lively, _FORGED[how](lively, key))
    assert enter(lively, key.get(lively.people.passkeys.options("form"))) == anna, "the key itself is as good as ever"


def test_an_answer_is_taken_once_also_of_many_at_once(lively: Town) -> None:
    _, key = with_key(lively, Key(counts=False))
    response, got = key.get(lively.people.passkeys.options("form")), []

    def replay() -> None:
        with suppress(SignInRefused):
            got.append(enter(lively, response))

    assert together(*[replay] * 30) == []
    assert len(got) == 1


def test_two_copies_of_a_key_at_the_same_count_do_not_both_get_in(lively: Town) -> None:
    _, key = with_key(lively)
    copy = _changed(key)
    answers = [each.get(lively.people.passkeys.options("form")) for each in (key, copy)]
    got = []

    def replay(response: dict[str, Any]) -> None:
        with suppress(SignInRefused):
            got.append(enter(lively, response))

    assert together(lambda: replay(answers[0]), lambda: replay(answers[1])) == []
    assert len(got) == 1


def test_a_disabled_account_does_not_sign_in(lively: Town) -> None:
    anna, key = with_key(lively)
    with lively.database.write() as connection:
        accounts.disable(connection, anna.id)
    with pytest.raises(SignInRefused):
        enter(lively, key.get(lively.people.passkeys.options("form")))


_REGISTERED: dict[str, Callable[[Town, Session, Key], dict[str, Any]]] = {
    "of another session": lambda lively, mine, key: key.create(lively.people.passkeys.begin(signed_in(lively, mine.account))),
    "to sign in": lambda lively, mine, key: key.create(lively.people.passkeys.options(mine.id)),
    "another page": lambda lively, mine, key: _changed(key, origin="https://evil.example").create(lively.people.passkeys.begin(mine)),
    "another host": lambda lively, mine, key: _changed(key, host="evil.example").create(lively.people.passkeys.begin(mine)),
    "nobody verified": lambda lively, mine, key: _changed(key, verifies=False).create(lively.people.passkeys.begin(mine)),
    "an answer to signing in": lambda lively, mine, key: key.get(lively.people.passkeys.begin(mine)),
    "nothing": lambda lively, mine, key: {},
}  # fmt: skip


@pytest.mark.parametrize("how", _REGISTERED)
def test_what_was_not_asked_for_adds_no_key(lively: Town, how: str) -> None:
    anna = lively.account()
    session = signed_in(lively, anna)
    with pytest.raises(Refused):
        lively.people.passkeys.finish(session, _REGISTERED[how](lively, session, Key()))
    with lively.database.read() as connection:
        assert passkeys.of(connection, anna.id) == []


def test_who_came_in_more_weakly_than_the_account_can_changes_no_key_and_no_password(lively: Town) -> None:
    """A stolen password does not take an account over that a passkey protects."""
    anna, key = with_key(lively)
    weak, stale = signed_in(lively, anna), signed_in(lively, anna, 2, micros() - HOUR)
    id_ = key.create({"challenge": "AAAA"})["id"]
    for session in (weak, stale):
        with pytest.raises(StepUpNeeded):
            lively.people.passkeys.begin(session)
        with pytest.raises(StepUpNeeded):
            lively.people.passkeys.remove(session, id_)
        with pytest.raises(StepUpNeeded):
            lively.people.recovery.change(session, PASSWORD, "another long password", HERE)
    assert enter(lively, key.get(lively.people.passkeys.options("form"))) == anna


@pytest.mark.parametrize(
    ("url", "host", "origin"),
    [
        ("https://images.example.org", "images.example.org", "https://images.example.org"),
        ("https://images.example.org:8443/", "images.example.org", "https://images.example.org:8443"),
        ("http://127.0.0.1:8080", "localhost", "http://localhost:8080"),
        ("http://[::1]:8080", "localhost", "http://localhost:8080"),
    ],
)
def test_what_keys_call_this_server(lively: Town, url: str, host: str, origin: str) -> None:
    known = Passkeys(lively.database, load(public_url=url), lively.people.events)
    session, key = signed_in(lively, lively.account()), Key(origin=origin, host=host)
    assert known.finish(session, key.create(known.begin(session))).name == "Passkey"


@pytest.mark.parametrize("id_", ["", "\0", "a\0b", "\ud800", "x" * 5000, "a b", "é"])
def test_an_id_that_is_none_is_refused_and_counted(lively: Town, id_: str) -> None:
    """Not even asked of the database, which could not read all of them."""
    said = {**Key().get(lively.people.sign_in.passkey_options("b", HERE)), "id": id_}
    with pytest.raises(SignInRefused):
        lively.people.sign_in.passkey(said, "b", HERE)
    assert not lively.people.throttles.is_spent(lively.people.sign_in.tries.of_address, HERE)
    (counted,) = lively.people.throttles._storage.found([lively.people.sign_in.tries.of_address.key_for(HERE)])
    assert counted[0] == 1
