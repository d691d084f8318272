"""The viewer's first stage: whole when it arrives, exact when it has loaded, usable by keyboard, and empty once its right has ended."""

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from lxml import html
from numpy.typing import NDArray
from peers import pixel_forms
from peers.browser import DESKTOP, PHONE, Window, window
from peers.imageshare import publish_all
from peers.node_clients import NoNode
from peers.people import PASSWORD
from peers.visitor import Pages, Visitor, pages
from PIL import Image
from playwright.sync_api import Browser, expect
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut
from sqlalchemy import text

from profiles.audit_event import INSTANCES_TRANSFERRED
from profiles.phantom import phantom_study
from server.access import codes
from server.access.people import accounts
from server.edges.pages.viewer import escaped
from server.store.db import micros
from server.work.ingest import Sender

SHARED = Path(__file__).resolve().parents[4] / ".." / "shared" / "testdata" / "dicom" / "pydicom_data"
DAY = 86_400_000_000


@dataclass
class Shown:
    """A server with images of every form, one study each, and somebody whose they all are."""

    town: Pages
    forms: dict[str, Dataset] = field(default_factory=dict)
    studies: dict[str, str] = field(default_factory=dict)
    """ImagingStudy ids by form."""

    @property
    def base(self) -> str:
        return self.town.site.base


def files() -> Iterator[tuple[str, bytes]]:
    number = 0
    for name, make in pixel_forms.forms():
        number += 1
        yield name, pixel_forms.encoded(make(number))
    _, plain = next(pixel_forms.forms())
    for syntax in (*pixel_forms.WRITTEN[1:], *pixel_forms.COMPRESSED):
        number += 1
        yield syntax.name, pixel_forms.encoded(pixel_forms.in_syntax(plain(number), syntax))
    others = {name: Path(str(get_testdata_file(file))) for name, file in pixel_forms.OF_OTHERS.items()}
    others |= {name: SHARED / file for name, file in pixel_forms.OF_SHARED.items() if SHARED.exists()}
    for name, path in others.items():
        number += 1
        yield name, pixel_forms.encoded(pixel_forms.renamed(dcmread(path), number))
    for made in phantom_study(6, 64):
        yield "a stack", pixel_forms.encoded(made)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    with pages(tmp_path_factory.mktemp("viewer"), on_a_socket=True, sign_in_failures_per_address=0) as town:
        made, node = Shown(town), town.site.node
        batch = node.ingest.batch(Sender(INSTANCES_TRANSFERRED, "SCANNER", "127.0.0.1"))
        for name, content in files():
            made.forms.setdefault(name, dcmread(io.BytesIO(content)))
            writer = batch.receive()
            writer.write(content)
            batch.store(writer)
        publish_all(node)
        with node.database.write() as connection:
            for name, dataset in made.forms.items():
                wanted = {"uid": str(dataset.StudyInstanceUID)}
                made.studies[name] = connection.execute(text("select id from study where uid = :uid"), wanted).scalar_one()
            for patient in (
                connection.execute(text("select distinct p.id from patient p join study s on s.patient_pk = p.pk"))
                .scalars()
                .all()
            ):
                accounts.own(connection, town.site.people["patient"].id, patient)
        yield made


@pytest.fixture(scope="module")
def view(shown: Shown, browser: Browser) -> Iterator[Window]:
    """A window of somebody who is signed in; nothing in it may have gone wrong at the end."""
    with window(browser) as opened:
        opened.page.goto(f"{shown.base}/sign-in?next=/images")
        opened.page.get_by_label("E-mail address").fill("patient@example.org")
        opened.page.get_by_label("Password").fill(PASSWORD)
        opened.page.get_by_role("button", name="Sign in", exact=True).click()
        opened.page.wait_for_url("**/images")
        yield opened
        assert [each for each in opened.wrongs if "status of 401" not in each] == []


def look(view: Window, shown: Shown, name: str) -> None:
    """Opens the study, and waits until what is on the canvas is exact."""
    view.page.goto(f"{shown.base}/images/{shown.studies[name]}/view")
    view.page.wait_for_selector("#canvas[data-drawn='exact']", timeout=20_000)


def on_canvas(view: Window) -> NDArray[np.uint8]:
    """The pixels of the frame that is shown, RGB."""
    found = view.page.evaluate(
        """() => { const image = document.getElementById("canvas").shownPixels();
        let text = ""; for (const each of image.data) text += String.fromCharCode(each);
        return [image.height, image.width, btoa(text)]; }"""
    )
    return np.frombuffer(base64.b64decode(found[2]), np.uint8).reshape(found[0], found[1], 4)[..., :3]


def meant(dataset: Dataset, frame: int = 0) -> NDArray[Any]:
    """What pydicom shows for it, as 8 bits of each colour."""
    pixels = dataset.pixel_array[frame] if int(dataset.get("NumberOfFrames") or 1) > 1 else dataset.pixel_array
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        return np.asarray(apply_color_lut(pixels, dataset)) >> 8
    if dataset.SamplesPerPixel == 3:
        return np.asarray(pixels) >> (int(dataset.BitsStored) - 8)
    values = np.asarray(apply_modality_lut(pixels, dataset), float)
    if "VOILUTSequence" in dataset:
        grey = (
            np.asarray(apply_voi_lut(values.astype(int), dataset), float)
            * 255
            / ((1 << int(dataset.VOILUTSequence[0].LUTDescriptor[2])) - 1)
        )
    elif "WindowCenter" in dataset:
        top = (1 << int(dataset.BitsStored)) - 1
        windowed = np.asarray(apply_voi_lut(values, dataset), float)
        least, most = _range(dataset, top)
        grey = (windowed - least) / (most - least) * 255
    else:
        seen = values[pixels != dataset.PixelPaddingValue] if "PixelPaddingValue" in dataset else values
        grey = np.clip((values - seen.min()) / max(float(np.ptp(seen)), 1e-9), 0, 1) * 255
    grey = 255 - grey if dataset.PhotometricInterpretation == "MONOCHROME1" else grey
    return np.repeat(np.rint(grey)[..., None], 3, -1)


def _range(dataset: Dataset, top: int) -> tuple[float, float]:
    """Between what pydicom's window spreads grey: all values that there could be, rescaled."""
    low, high = (-(top + 1) // 2, top // 2) if dataset.PixelRepresentation else (0, top)
    slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
    return low * slope + intercept, high * slope + intercept


NAMES = [name for name, _ in pixel_forms.forms()] + [
    each.name for each in (*pixel_forms.WRITTEN[1:], *pixel_forms.COMPRESSED)
] + [*pixel_forms.OF_OTHERS, *pixel_forms.OF_SHARED]  # fmt: skip


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
def test_a_page_that_is_left_open_shows_nothing_once_its_right_has_ended(browser: Browser, shown: Shown) -> None:
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
        with site.node.database.write() as connection:
            codes.end(connection, code.id, "ended by staff")
        page.focus("#canvas")
        page.keyboard.press("Home")
        expect(page.get_by_role("alert")).to_contain_text("This page has ended")
        assert page.locator("#canvas").count() == 0, "nothing of the images is left"
        page.reload()
        expect(page).to_have_url(f"{shown.base}/claim")


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
