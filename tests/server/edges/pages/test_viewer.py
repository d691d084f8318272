"""The viewer's first stage: whole when it arrives, exact when it has loaded, usable by keyboard, and empty once its right has ended."""

import base64
from typing import Any

import numpy as np
import orjson
import pytest
from lxml import html
from numpy.typing import NDArray
from peers.browser import DESKTOP, PHONE, Window, window
from peers.node_clients import NoNode
from peers.viewed import NAMES, Shown, look, meant
from peers.visitor import Visitor
from PIL import Image
from playwright.sync_api import Browser, expect
from sqlalchemy import text

from server.access import codes
from server.edges.pages.viewer import escaped
from server.store.db import micros

DAY = 86_400_000_000


def on_canvas(view: Window) -> NDArray[np.uint8]:
    """The pixels of the frame that is shown, RGB."""
    found = view.page.evaluate(
        """() => { const image = document.getElementById("canvas").shownPixels();
        let text = ""; for (const each of image.data) text += String.fromCharCode(each);
        return [image.height, image.width, btoa(text)]; }"""
    )
    return np.frombuffer(base64.b64decode(found[2]), np.uint8).reshape(found[0], found[1], 4)[..., :3]


@pytest.mark.peers
@pytest.mark.parametrize("name", NAMES)
def test_what_is_on_the_canvas_is_what_pydicom_shows(view: Window, shown: Shown, name: str) -> None:
    if name not in shown.forms:
        pytest.skip("../shared/testdata is not here")
    look(view, shown, name)
    dataset = shown.forms[name]
    count = int(dataset.get("NumberOfFrames") or 1)
    place = int(str(view.page.input_value("#slider")))
    wanted = meant(dataset, place if count > 1 else 0)
    assert np.abs(on_canvas(view).astype(float) - wanted).max() <= 1


def test_the_page_is_whole_when_it_arrives(shown: Shown) -> None:
    visitor = shown.town.signed_in("patient")
    visitor.get(f"/images/{shown.studies['a stack']}/view")
    first = visitor.tree.xpath("//img[@id='first']/@src")[0]
    assert first.startswith("data:image/jpeg;base64,/9j/")
    policy = visitor.page.headers["content-security-policy"]
    assert "script-src 'self' 'wasm-unsafe-eval'" in policy
    assert "frame-ancestors 'none'" in policy
    assert visitor.page.headers["cache-control"] == "no-store"
    config = configuration(visitor)
    assert config["token"] not in str(visitor.page.url)
    assert {"image"} == {each["kind"] for each in config["studies"][0]["series"]}


def configuration(visitor: Visitor) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(
        str(html.document_fromstring(visitor.page.content).xpath("//script[@id='viewer-config']/text()")[0])
    )
    return found


def test_tokens_go_on_until_somebody_signs_out(shown: Shown) -> None:
    visitor = shown.town.signed_in("patient")
    visitor.get(f"/images/{shown.studies['a stack']}/view")
    config = configuration(visitor)
    stranger = shown.town.visitor().http
    told = stranger.post("/viewer/token", data={"handle": config["handle"]})
    assert told.status_code == 200
    study = f"/dicomweb/studies/{config['studies'][0]['uid']}/metadata"
    assert stranger.get(study, headers={"Authorization": f"Bearer {told.json()['token']}"}).status_code == 200
    for wrong in ("", "x", config["token"]):
        assert stranger.post("/viewer/token", data={"handle": wrong}).status_code == 401
    visitor.get("/sign-out")
    visitor.press("Sign out")
    assert stranger.post("/viewer/token", data={"handle": told.json()["handle"]}).status_code == 401
    assert stranger.get(study, headers={"Authorization": f"Bearer {told.json()['token']}"}).status_code == 401


def test_names_cannot_end_the_block_of_data() -> None:
    assert "<" not in escaped({"title": "</script><script>alert(1)</script>"})


@pytest.mark.peers
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_keys_go_through_the_stack_and_nothing_bars_the_way(view: Window, shown: Shown, size: dict[str, int]) -> None:
    page = view.page
    page.set_viewport_size(size)  # type: ignore[arg-type]
    look(view, shown, "a stack")
    try:
        assert view.barriers() == []
    except NoNode as reason:
        pytest.skip(str(reason))
    page.focus("#canvas")
    status = page.locator("#status")
    for key, place in (("Home", 1), ("ArrowDown", 2), ("PageDown", 6), ("ArrowUp", 5), ("End", 6)):
        page.keyboard.press(key)
        expect(status).to_have_text(f"Image {place} of 6")
    page.locator("#slider").fill("2")
    expect(status).to_have_text("Image 3 of 6")
    page.select_option("#presets", "lung")
    expect(page.locator("#levels")).to_have_text("W 1500 L -600")
    page.get_by_role("button", name="Reset").click()
    expect(page.locator("#levels")).to_have_text("W 400 L 40")
    assert not view.is_wider_than_screen()
    assert view.small_targets() == []
    page.set_viewport_size(DESKTOP)  # type: ignore[arg-type]


@pytest.mark.peers
def test_all_pictures_come_with_few_requests(view: Window, shown: Shown) -> None:
    asked: list[str] = []
    view.page.on("request", lambda request: asked.append(request.url))
    look(view, shown, "a stack")
    view.page.wait_for_selector("#canvas[data-loaded='6']")
    assert len([each for each in asked if each.startswith("http")]) <= 15
    assert not [each for each in asked if "token" in each]


@pytest.mark.peers
@pytest.mark.parametrize("stage", ["simple", "measuring"])
def test_a_page_that_is_left_open_shows_nothing_once_its_right_has_ended(browser: Browser, shown: Shown, stage: str) -> None:
    site = shown.town.site
    with site.node.database.write() as connection:
        patient = connection.execute(
            text("select p.id from patient p join study s on s.patient_pk = p.pk where s.id = :id"),
            {"id": shown.studies["a stack"]},
        ).scalar_one()
        code, written = codes.issue(
            connection, site.node.installation.cursor_key, patient=patient, studies=None, creator="x", expires=micros() + DAY
        )
    with window(browser) as opened:
        page = opened.page
        page.goto(f"{shown.base}/claim#{written}")
        for name, value in (("Day", "29"), ("Month", "2"), ("Year", "1960")):
            page.get_by_label(name).fill(value)
        page.get_by_role("button", name="Show my images").click()
        page.wait_for_url("**/images")
        look(opened, shown, "a stack")
        if stage == "measuring":
            page.get_by_role("button", name="Measure and compare").click()
            page.wait_for_selector("#second .box[data-drawn='exact']")
        with site.node.database.write() as connection:
            codes.end(connection, code.id, "ended by staff")
        page.focus("#canvas" if stage == "simple" else "#second .box")
        page.keyboard.press("Home")
        expect(page.get_by_role("alert")).to_contain_text("This page has ended")
        assert page.locator("canvas").count() == 0, "nothing of the images is left"
        page.reload()
        expect(page).to_have_url(f"{shown.base}/claim")


@pytest.mark.peers
def test_a_connection_that_is_lost_and_comes_back(view: Window, shown: Shown) -> None:
    """In the middle of a series: it is said, and what is missing comes by itself."""
    page = view.page
    page.route("**/rendered?quality=*", lambda route: route.abort("connectionreset"))
    look(view, shown, "a stack")
    expect(page.get_by_role("alert")).to_contain_text("The connection is lost")
    page.context.set_offline(True)
    page.focus("#canvas")
    page.keyboard.press("Home")
    expect(page.locator("#status")).to_have_text("Image 1 of 6")
    page.unroute("**/rendered?quality=*")
    page.context.set_offline(False)
    page.wait_for_selector("#canvas[data-loaded='6'][data-drawn='exact']")
    expect(page.locator("#problem")).to_be_hidden()
    view.wrongs[:] = [each for each in view.wrongs if "net::ERR_" not in each]


def test_the_picture_is_saved_as_it_is_shown(shown: Shown, view: Window) -> None:
    look(view, shown, "a stack")
    pixels = on_canvas(view)
    with view.page.expect_download() as download:
        view.page.get_by_role("button", name="Save picture").click()
    assert download.value.suggested_filename.endswith(".png")
    with Image.open(download.value.path()) as saved:
        assert np.array_equal(np.asarray(saved.convert("RGB")), pixels)


def test_series_have_small_pictures(shown: Shown, view: Window) -> None:
    look(view, shown, "a stack")
    view.page.wait_for_function(
        "() => [...document.querySelectorAll('[data-thumbnail]')].every(each => each.src.startsWith('blob:') && each.naturalWidth > 0)",
        timeout=20_000,
    )
    assert view.page.locator("[data-thumbnail]").count() >= 3
    asked = view.page.evaluate(
        "performance.getEntriesByType('resource').map(each => each.name).filter(each => each.includes('/thumbnail'))"
    )
    assert len(asked) == view.page.locator("[data-thumbnail]").count()
