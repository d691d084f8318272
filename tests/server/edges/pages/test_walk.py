"""The whole way, in a real browser: staff issue a code, the patient sees her images, keeps and shares them; a physician opens them on a phone; it is stopped.

Pictures of each step are left in `build/screens`.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from peers.browser import DESKTOP, PHONE, Window, window
from peers.imageshare import publish_all
from peers.node_clients import NoNode
from peers.people import PASSWORD
from peers.pixel_forms import encoded
from peers.visitor import Pages, pages
from playwright.sync_api import Browser, Page, expect

from profiles.audit_event import INSTANCES_TRANSFERRED
from profiles.phantom import phantom_study
from server.work.ingest import Sender

pytestmark = pytest.mark.peers
SCREENS = Path(__file__).resolve().parents[4] / "build" / "screens"


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """A site with a CT of somebody who has no account yet."""
    with pages(tmp_path_factory.mktemp("walk"), on_a_socket=True, sign_in_failures_per_address=0) as opened:
        node = opened.site.node
        batch = node.ingest.batch(Sender(INSTANCES_TRANSFERRED, "SCANNER", "127.0.0.1"))
        for made in phantom_study(6, 256):
            writer = batch.receive()
            writer.write(encoded(made))
            batch.store(writer)
        publish_all(node)
        yield opened


def step(view: Window, name: str) -> None:
    """A picture; and nothing on the page bars anybody's way."""
    SCREENS.mkdir(parents=True, exist_ok=True)
    size = view.page.viewport_size or DESKTOP
    view.page.screenshot(path=str(SCREENS / f"{name}-{size['width']}.png"), full_page=True)
    with contextlib.suppress(NoNode):
        assert view.barriers() == [], name
    assert not view.is_wider_than_screen(), name


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def test_from_the_code_to_the_end_of_sharing(town: Pages, browser: Browser) -> None:
    base = town.site.base
    with window(browser) as staff:
        staff.page.goto(f"{base}/sign-in?next=/staff")
        staff.page.get_by_label("E-mail address").fill("staff@example.org")
        staff.page.get_by_label("Password").fill(PASSWORD)
        press(staff.page, "Sign in")
        staff.page.get_by_label("Name, patient number").fill("Phantom")
        press(staff.page, "Search")
        step(staff, "1-worklist")
        staff.page.get_by_role("link", name="Access codes of Thea Phantom").first.click()
        press(staff.page, "Issue the code")
        step(staff, "2-access-code")
        code = staff.page.locator(".secret").inner_text()
    with window(browser) as patient, window(browser, viewport=PHONE) as doctor:
        page = patient.page
        page.goto(f"{base}/claim#{code}")
        assert code not in page.url, "the address keeps nothing of it"
        step(patient, "3-claim")
        for label, value in (("Day", "29"), ("Month", "2"), ("Year", "1960")):  # inputs 1 to 3: the code came by its QR code
            page.get_by_label(label, exact=True).fill(value)
        press(page, "Show my images")  # 4
        step(patient, "4-images")
        page.get_by_role("link", name="CT scan of the chest").click()  # 5
        step(patient, "5-study")
        page.get_by_role("link", name="Open the images").click()  # 6: the first image
        page.wait_for_selector("#canvas[data-drawn='exact']")
        step(patient, "6-viewer")
        page.goto(f"{base}/claim/account")
        page.get_by_label("E-mail address").fill("thea@example.org")
        press(page, "Send me the code")
        page.get_by_label("Code").fill(town.code())
        press(page, "Sign in")
        press(page, "Keep them here")
        expect(page.get_by_role("status")).to_contain_text("in your account now")
        page.goto(f"{base}/share/new")
        page.get_by_role("checkbox", name="CT scan of the chest").check()
        page.get_by_label("Who is it for?").fill("Dr Berg")
        step(patient, "7-share")
        press(page, "Make the link")
        step(patient, "8-link")
        link, passcode = page.get_by_label("Link", exact=True).input_value(), page.locator(".secret").inner_text()
        doctor.page.goto(link)
        assert "#" not in doctor.page.url
        step(doctor, "9-open")
        doctor.page.get_by_label("Passcode").fill(passcode)
        press(doctor.page, "Open the images")
        doctor.page.wait_for_selector("#canvas[data-drawn='exact']")
        step(doctor, "10-viewer")
        page.goto(f"{base}/share")
        expect(page.get_by_text("on Linux")).to_be_visible()
        step(patient, "11-who-looked")
        page.get_by_role("button", name="Stop sharing with Dr Berg").click()
        doctor.page.reload()
        expect(doctor.page.locator("canvas")).to_have_count(0)
        step(doctor, "12-stopped")
        assert [each for each in (*patient.wrongs, *doctor.wrongs) if "status of 4" not in each] == []
