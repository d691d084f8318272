"""Carers whom a patient names: they see her records at once, are told, and see nothing from the moment on that either ends it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from peers.browser import DESKTOP, PHONE, window
from peers.node_clients import NoNode
from peers.people import PASSWORD
from peers.visitor import Pages, Visitor, pages
from playwright.sync_api import Browser
from sqlalchemy import update

from server.access.people import accounts, proxies
from server.access.people.sessions import SESSION
from server.store.db import micros

SCREENS = Path(__file__).resolve().parents[4] / "build" / "screens"


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Pages]:
    with pages(tmp_path, sign_in_failures=1000, sign_in_failures_per_address=0) as opened:
        yield opened


def at(town: Pages, who: str = "patient") -> Visitor:
    visitor = town.signed_in(who)
    visitor.get("/account/people")
    return visitor


def named(town: Pages, email: str = "other@example.org", days: str = "30") -> Visitor:
    patient = at(town)
    patient.press("Name the carer", **{"carer-name": "Uncle Ole", "email": email, "days": days})
    assert "Your carer may see your records" in patient.text
    return patient


def sees(visitor: Visitor) -> bool:
    visitor.get("/images")
    return "Anna Alba" in visitor.text or len(visitor.tree.xpath("//h3/a")) > 1


def test_a_carer_with_an_account_sees_the_records_until_it_ends(town: Pages) -> None:
    patient = named(town)
    assert "Somebody has named you as a carer" in town.letter()
    carer = town.signed_in("other")
    carer.get("/account/people")
    assert "Anna Alba" in carer.text
    studies = [each.get("href") for each in carer_studies(carer)]
    assert len(studies) > 1
    patient.get("/account/people")
    assert "other@example.org" in patient.text
    patient.press("End it")
    assert "This has ended" in patient.text
    assert len(carer_studies(carer)) < len(studies), "from the next request on"


def carer_studies(visitor: Visitor) -> list:  # type: ignore[type-arg]
    visitor.get("/images")
    found: list = visitor.tree.xpath("//h3/a")  # type: ignore[type-arg]
    return found


def test_who_has_no_account_is_invited_to_one(town: Pages) -> None:
    named(town, "ole@example.org", "0")
    assert "/sign-in" in town.letter()
    with town.site.node.database.read() as connection:
        made = accounts.by_email(connection, "ole@example.org")
        assert made is not None
        assert (made.kind, made.name) == ("proxy", "Uncle Ole")
        (held,) = proxies.of_account(connection, made.id)
    assert (held.patient, held.relation, held.ends) == (town.site.patients["A"], "carer", 0)


def test_the_page_is_the_same_whether_there_is_an_account(town: Pages) -> None:
    told = []
    for email in ("other@example.org", "nobody@example.org"):
        patient = named(town, email)
        patient.get("/account/people")
        told.append(patient.text.replace(email, "").replace("Other", ""))
        patient.press("End it")
    assert told[0] == told[1]
    assert "Other" not in patient.text, "what they are called is theirs to say"


def test_a_carer_may_stop(town: Pages) -> None:
    named(town)
    carer = at(town, "other")
    carer.press("Stop acting")
    assert "This has ended" in carer.text
    assert "Anna Alba" not in carer.text


def test_parents_are_not_ended_by_a_button_nor_by_its_request(town: Pages) -> None:
    patient = at(town)
    assert "(your parent)" in patient.text
    assert not patient.tree.xpath("//button[normalize-space()='End it']")
    with town.site.node.database.read() as connection:
        (held,) = proxies.of_patient(connection, town.site.patients["A"])
    csrf = str(patient.tree.xpath("//input[@name='csrf']/@value")[0])
    origin = {"Origin": str(patient.http.base_url).rstrip("/")}
    assert patient.http.post("/account/people/end", data={"csrf": csrf, "proxy": held.id}, headers=origin).status_code == 404


def test_another_patients_carer_is_nobodys_to_end(town: Pages) -> None:
    named(town, "staff@example.org")
    with town.site.node.database.read() as connection:
        held = next(each for each in proxies.of_patient(connection, town.site.patients["A"]) if each.relation == "carer")
    stranger = at(town, "other")
    csrf = str(stranger.tree.xpath("//input[@name='csrf']/@value")[0])
    origin = {"Origin": str(stranger.http.base_url).rstrip("/")}
    assert stranger.http.post("/account/people/end", data={"csrf": csrf, "proxy": held.id}, headers=origin).status_code == 404


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"email": "no address", "days": "30"}, "This is no e-mail address"),
        ({"email": "patient@example.org", "days": "30"}, "This is your own address"),
        ({"email": "a@example.org", "days": "31"}, "Choose for how long"),
    ],
)
def test_what_is_wrong_is_said(town: Pages, fields: dict[str, str], said: str) -> None:
    patient = at(town)
    patient.press("Name the carer", **fields)
    assert patient.page.status_code == 400
    assert said in patient.text


def test_it_takes_a_fresh_sign_in_and_has_a_bound(town: Pages) -> None:
    patient = at(town)
    with town.site.node.database.write() as connection:
        connection.execute(update(SESSION).values(authenticated=micros() - 3_600_000_000))
    patient.press("Name the carer", email="a@example.org", days="30")
    assert patient.page.url.path == "/sign-in"
    again = at(town)
    codes = []
    for number in range(11):
        again.get("/account/people")
        again.press("Name the carer", email=f"a{number}@example.org", days="30")
        codes.append(again.page.status_code)
    assert codes[0] == 200
    assert codes[-1] == 429


@pytest.mark.peers
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_nothing_bars_the_way(browser: Browser, tmp_path: Path, size: dict[str, int]) -> None:
    with (
        pages(tmp_path / "site", on_a_socket=True, sign_in_failures_per_address=0) as town,
        window(browser, viewport=size) as opened,
    ):
        opened.page.goto(f"{town.site.base}/sign-in?next=/account/people")
        opened.page.get_by_label("E-mail address").fill("patient@example.org")
        opened.page.get_by_label("Password").fill(PASSWORD)
        opened.page.get_by_role("button", name="Sign in", exact=True).click()
        opened.page.wait_for_url("**/account/people")
        for name in ("people", "leave"):
            opened.page.goto(f"{town.site.base}/account/{name}")
            try:
                assert opened.barriers() == [], name
            except NoNode as reason:
                pytest.skip(str(reason))
            assert not opened.is_wider_than_screen(), name
            assert opened.small_targets() == [], name
            SCREENS.mkdir(parents=True, exist_ok=True)
            opened.page.screenshot(path=SCREENS / f"account-{name}-{size['width']}.png", full_page=True)
