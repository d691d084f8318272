"""NIST SP 800-63B section 4.6: whoever's way in was changed is told, where the change holds."""

from collections.abc import Callable
from functools import partial

import pytest
from peers.people import HERE, PASSWORD, Key, Town

from server.access.people import accounts, passkeys
from server.access.people.hospital import link
from server.errors import StepUpNeeded
from server.store.db import micros

ON_BOTH_ENGINES = True


def _changes(lively: Town) -> list[tuple[str, Callable[[], object]]]:
    anna, people = lively.account(password=PASSWORD), lively.people
    session, _ = people.sessions.open(anna, ("passkey",), 2)

    def added() -> object:
        return people.passkeys.finish(session, Key().create(people.passkeys.begin(session)))

    def removed() -> None:
        with lively.database.read() as connection:
            known = passkeys.of(connection, anna.id)
        people.passkeys.remove(session, known[0].id)

    def recovered() -> object:
        people.recovery.send(anna.email, HERE)
        return people.recovery.recover(anna.email, lively.code(), "a long enough sentence", HERE)

    return [
        ("passkey was added", added),
        ("passkey was removed", removed),
        ("password was changed", partial(people.recovery.change, session, "", "a long enough sentence too", HERE)),
        ("new password was chosen", recovered),
        ("people who run this service", partial(people.recovery.reset, anna)),
    ]


def test_every_changed_way_in_is_told(lively: Town) -> None:
    for said, change in _changes(lively):
        change()
        lively.posted()
        to, subject, text = lively.mails[-1]
        assert (to, subject) == ("anna@example.org", "How you sign in was changed")
        assert said in text
        assert "ask for help at once" in text


def test_what_is_rolled_back_is_not_told_nor_what_is_no_way_in_nor_who_has_no_mailbox(lively: Town) -> None:
    anna, root = lively.account(), lively.account("administrator@localhost", kind="administrator")
    events = lively.people.events
    with pytest.raises(ZeroDivisionError), lively.database.write() as connection:
        events.changed(connection, anna.id, anna, "password changed", HERE)
        raise ZeroDivisionError
    with lively.database.write() as connection:
        events.changed(connection, anna.id, anna, "name changed", HERE)
        events.changed(connection, root.id, root, "password changed", HERE)
    lively.posted()
    assert lively.mails == []


def test_a_hospital_that_is_connected_is_told(lively: Town) -> None:
    anna = lively.account()
    with lively.database.write() as connection:
        link(connection, anna.id, "https://hospital.example.org", "s1")
        lively.people.events.changed(connection, anna.id, None, "sign-in through a hospital was linked", "")
    lively.posted()
    assert "A hospital was connected" in lively.mails[-1][2]


def test_who_has_the_password_alone_adds_no_first_passkey_to_an_address_that_is_read(lively: Town) -> None:
    anna, people = lively.account(password=PASSWORD), lively.people
    thief, _ = people.sessions.open(anna, ("password",), 1)
    early = Key().create(people.passkeys.begin(thief))
    with lively.database.write() as connection:
        accounts.verified(connection, anna.id, micros())
    with pytest.raises(StepUpNeeded) as refused:
        people.passkeys.begin(thief)
    assert refused.value.by == "code"
    owner, _ = people.sessions.open(anna, ("password", "code"), 1)
    with pytest.raises(StepUpNeeded):
        people.passkeys.finish(thief, early)
    people.passkeys.finish(owner, Key().create(people.passkeys.begin(owner)))


def test_an_address_that_nobody_has_read_yet_needs_no_code(lively: Town) -> None:
    session, _ = lively.people.sessions.open(lively.account(), ("password",), 1)
    made = lively.people.passkeys.finish(session, Key().create(lively.people.passkeys.begin(session)), "Phone")
    assert made.name == "Phone"
