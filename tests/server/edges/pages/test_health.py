"""How the server is, for the staff: numbers, a plot, and nothing of a patient."""

import contextlib
from pathlib import Path

import pytest
from peers.browser import window
from peers.node_clients import NoNode
from peers.people import PASSWORD
from peers.visitor import Pages, pages
from playwright.sync_api import Browser

from server.store import jobs
from server.store.db import micros
from server.work.portal.health import Storage

SCREENS = Path(__file__).resolve().parents[4] / "build" / "screens"


def test_it_says_what_waits_and_what_failed(town: Pages) -> None:
    with town.site.node.database.write() as connection:
        jobs.enqueue(connection, "bring-in", "x", due=micros() - 3_600_000_000)
        jobs.enqueue(connection, "elsewhere", "y", due=micros() + 3_600_000_000)
    visitor = town.signed_in("staff", "/staff/health")
    rows = {
        row.xpath("string(th)"): [cell.text_content() for cell in row.xpath("td")] for row in visitor.tree.xpath("//tbody/tr")
    }
    assert rows["Images that somebody brings in"] == ["1", "1 late by 60 minutes", "0"]
    assert rows["elsewhere"] == ["1", "0", "0"]
    assert "GB are free" in visitor.text
    counted = sum(
        int(title.text.rpartition(": ")[2]) for title in visitor.tree.xpath("//*[local-name()='rect']/*[local-name()='title']")
    )
    assert counted == sum(len(each) for each in town.site.studies.values()), "all of them have come today"
    assert "Alba" not in visitor.page.text
    for job in (*jobs.claim(town.site.node.database, "bring-in"),):
        with town.site.node.database.write() as connection:
            jobs.done(connection, job)


@pytest.mark.parametrize("who", ["patient", "practitioner", "proxy"])
def test_it_is_for_staff(town: Pages, who: str) -> None:
    assert town.signed_in(who).http.get("/staff/health").status_code == 403


@pytest.mark.parametrize(("free", "is_short"), [(50, False), (9, True), (21, False), (0, True)])
def test_when_room_is_short(free: int, is_short: bool) -> None:
    assert Storage(free, 100, 5).is_short is is_short
    assert Storage(free, 100, 30).is_short is (free < 60)


def test_it_looks_right(tmp_path: Path, browser: Browser) -> None:
    with pages(tmp_path, on_a_socket=True) as town, window(browser) as view:
        view.page.goto(f"{town.site.base}/sign-in?next=/staff/health")
        view.page.get_by_label("E-mail address").fill("staff@example.org")
        view.page.get_by_label("Password").fill(PASSWORD)
        view.page.get_by_role("button", name="Sign in", exact=True).click()
        view.page.get_by_role("heading", name="How the server is").wait_for()
        for size in ({"width": 1280, "height": 800}, {"width": 390, "height": 844}):
            view.page.set_viewport_size(size)  # type: ignore[arg-type]
            SCREENS.mkdir(parents=True, exist_ok=True)
            view.page.screenshot(path=str(SCREENS / f"health-{size['width']}.png"), full_page=True)
            with contextlib.suppress(NoNode):
                assert view.barriers() == []
            assert not view.is_wider_than_screen()
        assert view.wrongs == []
