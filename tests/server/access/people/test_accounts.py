"""Accounts: one for an e-mail address, however it is written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers.people import Town
from peers.together import together

from server.access.people import accounts
from server.errors import Conflict, NotFound, Refused


@given(st.text())
def test_a_folded_address_is_folded(text: str) -> None:
    folded = accounts.fold(text)
    assert accounts.fold(folded) == folded
    assert accounts.fold(text.upper()) == accounts.fold(text.upper().lower().upper())


def test_of_many_at_once_with_one_address_one_is_added(lively: Town) -> None:
    def add(email: str) -> None:
        try:
            lively.account(email)
        except Conflict:
            refused.append(email)

    refused: list[str] = []
    ways = ["anna@example.org", "ANNA@example.org", "Anna@Example.Org", " anna@example.org"] * 5
    assert together(*[lambda email=email: add(email) for email in ways]) == []  # type: ignore[misc]
    assert len(refused) == len(ways) - 1
    with lively.database.read() as connection:
        assert len(accounts.every(connection)) == 1


@pytest.mark.parametrize(
    "email",
    ["", "anna", "@example.org", "anna@", "a@b@c", "a b@example.org", "a@example.org\r\nBcc: x@y.org", "a@x.org,b@x.org", "<a@x.org>", "a\0@x.org", "a@" + "x" * 250],
)  # fmt: skip
def test_what_is_no_address_is_refused(lively: Town, email: str) -> None:
    with pytest.raises(Refused, match="e-mail"):
        lively.account(email)


@pytest.mark.parametrize(
    "email", ["anna@example.org", "o'hara+images@example.org", "josé@exämple.org", "administrator@localhost"]
)
def test_addresses_that_people_have(lively: Town, email: str) -> None:
    made = lively.account(email)
    with lively.database.read() as connection:
        assert accounts.by_email(connection, email.upper()) == made
        assert accounts.find(connection, made.id) == made


@pytest.mark.parametrize(
    "given",
    [
        {"kind": "god"}, {"fhir_user": "Device/x"}, {"fhir_user": "https://evil.example/Practitioner/x"},
        {"kind": "patient", "fhir_user": "Practitioner/x"}, {"kind": "patient", "fhir_user": "PractitionerRole/x"},
    ],
)  # fmt: skip
def test_what_is_no_person_is_refused(lively: Town, given: dict[str, str]) -> None:
    with pytest.raises(Refused):
        lively.account(**given)


def test_own_records_come_and_go(lively: Town) -> None:
    made = lively.account(patients=["a"])
    with lively.database.write() as connection:
        accounts.own(connection, made.id, "b")
        accounts.own(connection, made.id, "b")
        assert accounts.own_patients(connection, made.id) == {"a", "b"}
        accounts.disown(connection, made.id, "a")
        assert accounts.reach(connection, made, 0)[0] == {"b"}


def test_nobody_is_disabled_who_is_not_there(lively: Town) -> None:
    for change in (accounts.disable, accounts.enable):
        with pytest.raises(NotFound), lively.database.write() as connection:
            change(connection, "nobody")
