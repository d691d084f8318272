"""Who deletes their account: everything of it ends at once, the hospital keeps its records, and the trail keeps what was."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from peers.sharing import events, made, opened, share_of
from peers.visitor import Pages, Visitor, pages
from sqlalchemy import select, text, update

from server.access.people import accounts, proxies
from server.access.people.sessions import SESSION
from server.store.db import micros


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Pages]:
    with pages(tmp_path, sign_in_failures=1000, sign_in_failures_per_address=0) as there:
        yield there


def leave(visitor: Visitor) -> None:
    visitor.get("/account/leave")
    visitor.press("Delete my account", sure=["yes"])


def test_everything_of_it_ends_at_once(town: Pages) -> None:
    patient, link, passcode = made(town, passcode=[])
    doctor = opened(town, link, passcode)
    other = town.signed_in("patient")
    proxy = town.signed_in("proxy")
    assert len(seen(proxy)) > 0
    account = town.site.people["patient"]
    patient.get("/account/leave")
    assert "1 link that you share" in patient.text
    leave(patient)
    assert "Your account is deleted" in patient.text
    assert "Your account is deleted" in town.letter()
    for visitor in (patient, other):
        assert visitor.get("/account").url.path == "/sign-in"
    assert doctor.get(urlsplit(link).path + "/images").status_code == 404
    assert share_of(town, link).ended_why == "account closed"
    assert seen(proxy) == [], "who acted for her"
    again = town.visitor()
    again.get("/sign-in")
    again.sign_in("patient@example.org")
    assert again.page.url.path != "/account"
    with town.site.node.database.read() as connection:
        assert accounts.find(connection, account.id) is None
        for table in ("password", "passkey", "session", "external_identity", "one_time_code", "account_patient"):
            assert (
                connection.execute(text(f"select count(*) from {table} where account = :id"), {"id": account.id}).scalar_one()
                == 0
            ), table
        assert [each for each in proxies.of_patient(connection, town.site.patients["A"]) if not each.ended] == []
    told = [each for each in events(town) if "account deleted" in str(each)]
    assert told
    assert "patient@example.org" not in str(told), "by its id alone"


def seen(visitor: Visitor) -> list[str]:
    visitor.get("/images")
    return [str(each) for each in visitor.tree.xpath("//h3/a/@href")]


def test_the_records_stay_with_the_hospital(town: Pages) -> None:
    leave(town.signed_in("patient"))
    staff = town.signed_in("staff")
    staff.get("/staff", search="alba")
    assert len(staff.tree.xpath("//tbody/tr")) == 2


def test_it_has_to_be_meant(town: Pages) -> None:
    patient = town.signed_in("patient")
    patient.get("/account/leave")
    patient.press("Delete my account")
    assert patient.page.status_code == 400
    assert "Tick the box" in patient.text
    with town.site.node.database.write() as connection:
        connection.execute(update(SESSION).values(authenticated=micros() - 3_600_000_000))
    leave(patient)
    assert patient.page.url.path == "/sign-in", "who has not signed in just before does so first"
    with town.site.node.database.read() as connection:
        assert accounts.by_email(connection, "patient@example.org") is not None


@pytest.mark.parametrize("who", ["staff", "practitioner", "administrator"])
def test_who_works_here_is_not_gone_by_a_button(town: Pages, who: str) -> None:
    visitor = town.signed_in(who)
    visitor.get("/account")
    assert "Delete my account" not in visitor.text
    assert visitor.get("/account/leave").status_code == 400
    with town.site.node.database.read() as connection:
        assert connection.execute(select(accounts.ACCOUNT.c.id).where(accounts.ACCOUNT.c.kind == who)).first() is not None
