"""What is addressed to somebody opens without the link to who signs in with that e-mail address; whoever shares sees what they see."""

from pathlib import Path
from urllib.parse import urlsplit

import orjson
import pytest
from peers.browser import DESKTOP, PHONE, window
from peers.node_clients import NoNode
from peers.people import PASSWORD
from peers.sharing import events, made, share_of
from peers.visitor import Pages, Visitor, pages
from playwright.sync_api import Browser
from sqlalchemy import update

from server.access.people import accounts
from server.access.shares import TRIES

SCREENS = Path(__file__).resolve().parents[4] / "build" / "screens"
DOCTOR = "practitioner@example.org"


def send(visitor: Visitor, path: str, **fields: str) -> None:
    """Posts to `path` as a form of theirs would."""
    visitor.get("/account")
    csrf = str(visitor.tree.xpath("//input[@name='csrf']/@value")[0])
    origin = {"Origin": str(visitor.http.base_url).rstrip("/")}
    visitor.page = visitor.http.post(path, data={"csrf": csrf, **fields}, headers=origin, follow_redirects=True)


def test_a_physician_with_an_account_needs_no_link(town: Pages) -> None:
    patient, link, _ = made(town, passcode=[], email=DOCTOR.upper(), message="As we said")
    doctor = town.signed_in("practitioner")
    doctor.get("/shared")
    assert "As we said" in doctor.text
    doctor.press("Open the images")
    assert doctor.tree.xpath("//canvas[@id='canvas']")
    config = orjson.loads(str(doctor.tree.xpath("//script[@id='viewer-config']/text()")[0]))
    assert [each["uid"] for each in config["studies"]] == list(share_of(town, link).studies)
    doctor.get("/shared")
    doctor.press("Open the images")
    assert share_of(town, link).openings == 1, "what a browser has opened it opens no second time"
    patient.get("/share")
    account = town.site.people["practitioner"]
    assert (account.name or account.email) in patient.text, "it is known who that is"
    assert any("disclose" in str(each.get("subtype")) and share_of(town, link).id in str(each) for each in events(town)), (
        "it stands in the trail as every opening"
    )
    patient.press("Stop sharing")
    doctor.get("/shared")
    assert "As we said" not in doctor.text


def test_the_passcode_holds_there_too(town: Pages) -> None:
    _, link, passcode = made(town, email=DOCTOR, message="With a code")
    doctor = town.signed_in("practitioner")
    doctor.get("/shared")
    path = f"/shared/{share_of(town, link).id}/open"
    send(doctor, path, passcode="000000" if not passcode.startswith("000") else "111111")
    assert doctor.page.status_code == 403
    assert "This passcode is not right" in doctor.text
    assert share_of(town, link).tries == 1 < TRIES
    send(doctor, path, passcode=passcode)
    assert doctor.tree.xpath("//canvas[@id='canvas']")


@pytest.mark.parametrize("who", ["patient", "another", "nobody has shown to read it"])
def test_it_opens_to_nobody_else(town: Pages, who: str) -> None:
    _, link, _ = made(town, passcode=[], email=DOCTOR, message=f"Not for {who}")
    account = town.site.people["practitioner"]
    visitor = town.signed_in({"patient": "patient", "another": "staff"}.get(who, "practitioner"))
    if who.startswith("nobody"):
        with town.site.node.database.write() as connection:
            connection.execute(
                update(accounts.ACCOUNT).where(accounts.ACCOUNT.c.id == account.id).values(assurance=accounts.NOBODY)
            )
    try:
        visitor.get("/shared")
        assert f"Not for {who}" not in visitor.text
        send(visitor, f"/shared/{share_of(town, link).id}/open", passcode="")
        assert visitor.page.status_code == 404
        assert share_of(town, link).openings == 0
    finally:
        with town.site.node.database.write() as connection:
            connection.execute(
                update(accounts.ACCOUNT).where(accounts.ACCOUNT.c.id == account.id).values(assurance=account.assurance)
            )


def test_whoever_shares_sees_what_they_see(town: Pages) -> None:
    patient, link, _ = made(town, passcode=[], message="For you", download=[])
    path = urlsplit(link).path
    patient.get(f"{path}/preview")
    assert "This is what they see" in patient.text
    assert "For you" in patient.text
    assert "Download" not in patient.text
    assert not patient.tree.xpath("//form[contains(@action, '/note')]")
    patient.get(f"{path}/preview/view")
    config = orjson.loads(str(patient.tree.xpath("//script[@id='viewer-config']/text()")[0]))
    assert [each["uid"] for each in config["studies"]] == list(share_of(town, link).studies)
    assert share_of(town, link).openings == 0
    other = town.signed_in("staff")
    for each in ("", "/view"):
        assert other.get(f"{path}/preview{each}").status_code == 404


@pytest.mark.peers
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_nothing_bars_the_way(browser: Browser, tmp_path_factory: pytest.TempPathFactory, size: dict[str, int]) -> None:
    with pages(tmp_path_factory.mktemp("addressed"), on_a_socket=True, sign_in_failures_per_address=0) as town:
        _, link, _ = made(town, email=DOCTOR, message="As we said")
        made(town, email=DOCTOR)
        for who, paths in (("practitioner", ["/shared"]), ("patient", [f"{urlsplit(link).path}/preview", "/share"])):
            with window(browser, viewport=size) as opened:
                opened.page.goto(f"{town.site.base}/sign-in?next={paths[0]}")
                opened.page.get_by_label("E-mail address").fill(town.site.people[who].email)
                opened.page.get_by_label("Password").fill(PASSWORD)
                opened.page.get_by_role("button", name="Sign in", exact=True).click()
                for path in paths:
                    opened.page.goto(f"{town.site.base}{path}")
                    try:
                        assert opened.barriers() == []
                    except NoNode as reason:
                        pytest.skip(str(reason))
                    assert not opened.is_wider_than_screen()
                    SCREENS.mkdir(parents=True, exist_ok=True)
                    opened.page.screenshot(
                        path=SCREENS / f"addressed-{who}-{paths.index(path)}-{size['width']}.png", full_page=True
                    )
