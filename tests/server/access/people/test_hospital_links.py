"""Which account a person of a hospital signs in to: one, whoever is quicker, on both engines."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

import pytest
from peers import imageshare
from peers.together import together

from server.access.people import accounts
from server.access.people.accounts import Account
from server.access.people.hospital import Identity
from server.edges.context import Node
from server.errors import Conflict, NotFound, SignInRefused

ON_BOTH_ENGINES = True
ISSUER: Final = "https://hospital.example.org"
ANNA: Final = Identity("general", ISSUER, "anna")


@pytest.fixture
def node(tmp_path: Path, database_url: str) -> Iterator[Node]:
    provider = {"id": "general", "title": "General Hospital", "client_id": "images", "issuer": ISSUER}
    with imageshare.node(tmp_path, database_url, hospital_sign_in=[provider]) as opened:
        yield opened


def _account(node: Node, name: str) -> Account:
    with node.database.write() as connection:
        return accounts.add(connection, kind="practitioner", email=f"{name}@example.org", name=name)


def test_an_identity_is_one_accounts(node: Node) -> None:
    hospital, anna, bert = node.hospital, _account(node, "anna"), _account(node, "bert")
    hospital.link(anna, ANNA, "")
    hospital.link(anna, ANNA, "")
    with pytest.raises(Conflict):
        hospital.link(bert, ANNA, "")
    with pytest.raises(NotFound):
        hospital.unlink(bert, ISSUER, "anna", "")
    assert hospital.account(ANNA) == anna
    assert hospital.linked(anna.id) == ((ISSUER, "anna"),)
    for other in (Identity("general", ISSUER, "Anna"), Identity("general", f"{ISSUER}/", "anna")):
        assert hospital.account(other) is None
    hospital.unlink(anna, ISSUER, "anna", "")
    hospital.link(bert, ANNA, "")
    assert hospital.account(ANNA) == bert


def test_of_many_who_link_it_at_once_one_has_it(node: Node) -> None:
    everybody = [_account(node, f"p{number}") for number in range(20)]
    refused = together(*(partial(node.hospital.link, each, ANNA, "") for each in everybody))
    assert [type(error) for error in refused] == [Conflict] * 19
    assert node.hospital.account(ANNA) in everybody


def test_a_disabled_account_does_not_sign_in(node: Node) -> None:
    anna = _account(node, "anna")
    node.hospital.link(anna, ANNA, "")
    with node.database.write() as connection:
        accounts.disable(connection, anna.id)
    with pytest.raises(SignInRefused):
        node.hospital.sign_in(ANNA, "192.0.2.1")
