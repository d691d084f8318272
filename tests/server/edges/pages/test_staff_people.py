"""Administrators add people, change roles, lock and unlock; nobody else does, nobody does it to themselves, and it holds at once."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from peers.browser import DESKTOP, PHONE, window
from peers.node_clients import NoNode
from peers.people import PASSWORD
from peers.sharing import events
from peers.together import together
from peers.visitor import Pages, Visitor, pages
from playwright.sync_api import Browser
from sqlalchemy import update

from server.access.people import accounts
from server.access.people.accounts import Account
from server.access.people.sessions import SESSION
from server.errors import Forbidden
from server.store.db import micros

SCREENS = Path(__file__).resolve().parents[4] / "build" / "screens"


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Pages]:
    with pages(tmp_path, sign_in_failures=1000, sign_in_failures_per_address=0) as opened:
        yield opened


def desk(town: Pages, who: str = "administrator") -> Visitor:
    visitor = town.signed_in(who)
    visitor.get("/staff/people")
    return visitor


def account(town: Pages, email: str) -> Account:
    with town.site.node.database.read() as connection:
        found = accounts.by_email(connection, email)
    assert found is not None
    return found


def changed(town: Pages, id_: str) -> list[str]:
    """What the trail says was changed about this account."""
    return [
        each["outcomeDesc"] if "outcomeDesc" in each else str(each) for each in events(town) if id_ in str(each.get("entity", ""))
    ]


def test_somebody_is_added_and_invited(town: Pages) -> None:
    admin = desk(town)
    admin.press("Add the person", **{"full-name": "Dr Ana Ruiz", "email": "ana@example.org", "role": "practitioner"})
    assert "is invited by e-mail" in admin.text
    assert "/sign-in" in town.letter()
    made = account(town, "ana@example.org")
    assert (made.kind, made.name) == ("practitioner", "Dr Ana Ruiz")
    assert "account added: practitioner" in "".join(changed(town, made.id))
    admin.get("/staff/people", search="ruiz")
    assert "ana@example.org" in admin.text
    assert "patient@example.org" not in admin.text


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"full-name": "", "email": "a@example.org", "role": "staff"}, "name"),
        ({"full-name": "A", "email": "no address", "role": "staff"}, "This is no e-mail address"),
        ({"full-name": "A", "email": "a@example.org", "role": "god"}, "Choose what the person is here"),
        (
            {"full-name": "A", "email": "PATIENT@example.org", "role": "staff"},
            "There is an account with this e-mail address already",
        ),
    ],
)
def test_what_is_wrong_with_somebody_new_is_said_at_its_field(town: Pages, fields: dict[str, str], said: str) -> None:
    admin = desk(town)
    admin.press("Add the person", **fields)
    assert admin.page.status_code in (400, 409)
    assert said in admin.text
    assert admin.tree.xpath("//*[@aria-invalid='true']")


def test_a_role_holds_from_the_next_request_on(town: Pages) -> None:
    other = town.signed_in("staff")
    assert other.get("/staff").status_code == 200
    admin = desk(town)
    admin.get(f"/staff/people/{town.site.people['staff'].id}")
    admin.press("Change the role", role="patient")
    assert "The role was changed" in admin.text
    assert other.get("/staff").url.path == "/sign-in", "what was open with the role of before has ended"
    again = town.signed_in("staff")
    assert again.get("/staff").status_code == 403


def test_who_is_locked_out_is_out_at_once_and_may_come_back(town: Pages) -> None:
    other = town.signed_in("staff")
    admin = desk(town)
    path = f"/staff/people/{town.site.people['staff'].id}"
    admin.get(path)
    admin.press("Lock the account")
    assert other.get("/staff").url.path == "/sign-in"
    admin.get(path)
    admin.press("Unlock the account")
    assert town.signed_in("staff").get("/staff").status_code == 200


def test_a_password_for_once_signs_in_once(town: Pages) -> None:
    admin = desk(town)
    admin.get(f"/staff/people/{town.site.people['staff'].id}")
    admin.press("Give a password for once")
    once = str(admin.tree.xpath("//p[@class='secret']/text()")[0])
    visitor = town.visitor()
    visitor.get("/sign-in", next="/staff")
    visitor.press("Sign in", email="staff@example.org", password=once)
    assert visitor.page.url.path != "/sign-in"
    admin.get(f"/staff/people/{town.site.people['staff'].id}")
    assert once not in admin.text


@pytest.mark.parametrize("who", ["staff", "practitioner", "patient"])
def test_it_is_for_administrators_alone(town: Pages, who: str) -> None:
    visitor = town.signed_in(who)
    other = town.site.people["other"].id
    for path in ("/staff/people", f"/staff/people/{other}", "/staff/audit", "/staff/audit/table"):
        assert visitor.get(path).status_code == 403, path
    visitor.get("/account")
    csrf = str(visitor.tree.xpath("//input[@name='csrf']/@value")[0])
    origin = {"Origin": str(visitor.http.base_url).rstrip("/")}
    for path in ("", f"/{other}/role", f"/{other}/lock", f"/{other}/unlock", f"/{other}/reset"):
        fields = {"csrf": csrf, "role": "administrator", "email": "x@example.org", "full-name": "X"}
        assert visitor.http.post(f"/staff/people{path}", data=fields, headers=origin).status_code == 403, path
    assert account(town, "other@example.org").kind == "patient"


def test_nobody_does_it_to_themselves(town: Pages) -> None:
    admin = desk(town)
    me = town.site.people["administrator"]
    admin.get(f"/staff/people/{me.id}")
    assert "This is you" in admin.text
    csrf = (
        str(admin.tree.xpath("//input[@name='csrf']/@value | //*[@name='csrf']/@value")[0])
        if admin.tree.xpath("//*[@name='csrf']")
        else ""
    )
    if not csrf:
        admin.get("/account")
        csrf = str(admin.tree.xpath("//input[@name='csrf']/@value")[0])
    origin = {"Origin": str(admin.http.base_url).rstrip("/")}
    for what in ("role", "lock", "reset"):
        sent = admin.http.post(f"/staff/people/{me.id}/{what}", data={"csrf": csrf, "role": "patient"}, headers=origin)
        assert sent.status_code == 400, what
    assert account(town, me.email).kind == "administrator"


def test_two_administrators_who_lock_each_other_out_leave_one(town: Pages) -> None:
    node = town.site.node
    with node.database.write() as connection:
        second = accounts.add(connection, kind="administrator", email="second@example.org", name="Second")
    sessions = [node.people.sessions.open(each, ("password",), 1)[0] for each in (town.site.people["administrator"], second)]

    one, other = sessions
    administering = node.people.administering
    (refused,) = together(
        lambda: administering.disable(one, other.account.id, ""), lambda: administering.disable(other, one.account.id, "")
    )
    assert isinstance(refused, Forbidden)
    with node.database.read() as connection:
        left = [each for each in accounts.every(connection) if each.kind == "administrator" and not each.disabled]
    assert len(left) == 1


def test_who_signed_in_long_ago_signs_in_again_first(town: Pages) -> None:
    visitor = desk(town)
    with town.site.node.database.write() as connection:
        connection.execute(update(SESSION).values(authenticated=micros() - 3_600_000_000))
    visitor.get(f"/staff/people/{town.site.people['staff'].id}")
    visitor.press("Lock the account")
    assert visitor.page.url.path == "/sign-in"
    assert not account(town, "staff@example.org").disabled


@pytest.mark.peers
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_nothing_bars_the_way(browser: Browser, tmp_path: Path, size: dict[str, int]) -> None:
    with (
        pages(tmp_path / "site", on_a_socket=True, sign_in_failures_per_address=0) as town,
        window(browser, viewport=size) as opened,
    ):
        opened.page.goto(f"{town.site.base}/sign-in?next=/staff")
        opened.page.get_by_label("E-mail address").fill("administrator@example.org")
        opened.page.get_by_label("Password").fill(PASSWORD)
        opened.page.get_by_role("button", name="Sign in", exact=True).click()
        opened.page.wait_for_url("**/staff")
        paths = {
            "worklist": "/staff", "people": "/staff/people", "person": f"/staff/people/{town.site.people['staff'].id}", "audit": "/staff/audit",
        }  # fmt: skip
        for name, path in paths.items():
            opened.page.goto(f"{town.site.base}{path}")
            try:
                assert opened.barriers() == [], name
            except NoNode as reason:
                pytest.skip(str(reason))
            assert not opened.is_wider_than_screen(), name
            assert opened.small_targets() == [], name
            SCREENS.mkdir(parents=True, exist_ok=True)
            opened.page.screenshot(path=SCREENS / f"staff-{name}-{size['width']}.png", full_page=True)
