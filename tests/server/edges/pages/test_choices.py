"""What a patient closes is closed at once to everybody else, at every door, with what belongs to it; and open again when she says so."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from peers.browser import DESKTOP, PHONE, window
from peers.node_clients import NoNode
from peers.people import PASSWORD
from peers.sharing import events, made, opened
from peers.visitor import Pages, Visitor, pages
from playwright.sync_api import Browser

from profiles.fhir.json import parse
from server.records import resources

SCREENS = Path(__file__).resolve().parents[4] / "build" / "screens"


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Pages]:
    with pages(tmp_path, sign_in_failures=1000, sign_in_failures_per_address=0) as there:
        yield there


def studies(visitor: Visitor) -> set[str]:
    visitor.get("/images")
    return {str(each).rpartition("/")[2] for each in visitor.tree.xpath("//h3/a/@href")}


def press(visitor: Visitor, what: str, study: str = "") -> None:
    visitor.get("/account/choices")
    csrf = str(visitor.tree.xpath("//input[@name='csrf']/@value")[0])
    origin = {"Origin": str(visitor.http.base_url).rstrip("/")}
    data = {"csrf": csrf, "study": study}
    visitor.page = visitor.http.post(f"/account/choices/{what}", data=data, headers=origin, follow_redirects=True)


def at_the_hospital(town: Pages) -> set[str]:
    """What a practitioner sees of the patient."""
    return studies(town.signed_in("practitioner"))


def test_one_examination_is_closed_and_opened_again(town: Pages) -> None:
    patient = town.signed_in("patient")
    mine, before = studies(patient), at_the_hospital(town)
    study = min(mine)
    assert study in before
    press(patient, "close", study)
    assert "It is closed" in patient.text
    assert at_the_hospital(town) == before - {study}
    assert studies(patient) == mine, "not to her"
    patient.get("/account/choices")
    assert "Closed: only you see it" in patient.text
    press(patient, "open", study)
    assert at_the_hospital(town) == before
    press(patient, "close", study)
    assert study not in at_the_hospital(town), "it is the next version of the same Consent"


def test_everything_is_closed(town: Pages) -> None:
    patient = town.signed_in("patient")
    mine = studies(patient)
    press(patient, "close")
    assert not mine & at_the_hospital(town)
    assert studies(patient) == mine
    press(patient, "open")
    assert mine <= at_the_hospital(town)


def test_a_link_that_is_shared_shows_nothing_of_it(town: Pages) -> None:
    patient, link, passcode = made(town, passcode=[])
    doctor = opened(town, link, passcode)
    assert doctor.tree.xpath("//canvas[@id='canvas']")
    press(patient, "close")
    assert doctor.get(f"/share/{link.partition('/share/')[2].partition('#')[0]}/view").status_code == 404


def test_it_is_a_consent_that_the_trail_tells_of(town: Pages) -> None:
    patient = town.signed_in("patient")
    study = min(studies(patient))
    press(patient, "close", study)
    (told,) = [each for each in events(town) if "Consent/" in str(each.get("entity", "")) and each["action"] == "U"]
    reference = next(each["what"]["reference"] for each in told["entity"] if "Consent/" in str(each.get("what", "")))
    with town.site.node.database.read() as connection:
        found = parse(resources.read(connection, "Consent", reference.partition("/")[2]).body)
    assert found["provision"]["data"][0]["reference"]["reference"] == f"ImagingStudy/{study}"


@pytest.mark.parametrize("who", ["other", "proxy", "practitioner", "staff"])
def test_nobody_else_closes_or_opens_it(town: Pages, who: str) -> None:
    patient = town.signed_in("patient")
    study, before = min(studies(patient)), at_the_hospital(town)
    stranger = town.signed_in(who)
    for what in ("close", "open"):
        stranger.get("/account")
        csrf = str(stranger.tree.xpath("//input[@name='csrf']/@value")[0])
        origin = {"Origin": str(stranger.http.base_url).rstrip("/")}
        assert (
            stranger.http.post(f"/account/choices/{what}", data={"csrf": csrf, "study": study}, headers=origin).status_code == 404
        )
    assert at_the_hospital(town) == before


@pytest.mark.peers
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_nothing_bars_the_way(browser: Browser, tmp_path: Path, size: dict[str, int]) -> None:
    with (
        pages(tmp_path / "site", on_a_socket=True, sign_in_failures_per_address=0) as town,
        window(browser, viewport=size) as view,
    ):
        view.page.goto(f"{town.site.base}/sign-in?next=/account/choices")
        view.page.get_by_label("E-mail address").fill("patient@example.org")
        view.page.get_by_label("Password").fill(PASSWORD)
        view.page.get_by_role("button", name="Sign in", exact=True).click()
        view.page.wait_for_url("**/account/choices")
        view.page.get_by_role("button", name="Close:").first.click()
        view.page.get_by_text("It is closed").wait_for()
        try:
            assert view.barriers() == []
        except NoNode as reason:
            pytest.skip(str(reason))
        assert not view.is_wider_than_screen()
        assert view.small_targets() == []
        SCREENS.mkdir(parents=True, exist_ok=True)
        view.page.screenshot(path=SCREENS / f"account-choices-{size['width']}.png", full_page=True)
