"""The viewer's second stage: exact pixels, measures that are right, three planes, one beside another, and no barrier in any state of it."""

import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from peers.browser import DESKTOP, PHONE, Window
from peers.node_clients import NoNode
from peers.viewed import NAMES, Shown, look, meant
from playwright.sync_api import expect

SCREENS = Path(__file__).resolve().parents[4] / "build" / "screens"
MOST = 1_100_000
"""Bytes of the second stage over the wire, packed."""
pytestmark = pytest.mark.peers


def measure(view: Window, shown: Shown, name: str) -> None:
    look(view, shown, name)
    view.page.get_by_role("button", name="Measure and compare").click()
    view.page.wait_for_selector("#second .box[data-drawn='exact']", timeout=30_000)


def pixels(view: Window, rows: int, columns: int) -> NDArray[np.uint8]:
    """The pixels of the pane, one for each of the image: the pane is made as large as it is."""
    view.page.evaluate(
        "([rows, columns]) => { const box = document.querySelector('#second .box'); box.style.width = columns + 'px'; box.style.height = rows + 'px'; }",
        [rows, columns],
    )
    view.page.wait_for_function(
        "([rows, columns]) => { const canvas = document.querySelector('#second .box canvas'); return canvas.width === columns && canvas.height === rows; }",
        arg=[rows, columns],
    )
    view.page.wait_for_timeout(300)
    found = view.page.evaluate(
        """() => { const canvas = document.querySelector('#second .box canvas'), copy = new OffscreenCanvas(canvas.width, canvas.height);
        copy.getContext('2d').drawImage(canvas, 0, 0);
        const image = copy.getContext('2d').getImageData(0, 0, canvas.width, canvas.height); return [image.height, image.width, Array.from(image.data)]; }"""
    )
    return np.asarray(found[2], np.uint8).reshape(found[0], found[1], 4)[..., :3]


@pytest.mark.parametrize("name", NAMES)
def test_its_pixels_are_what_pydicom_shows(view: Window, shown: Shown, name: str) -> None:
    if name not in shown.forms:
        pytest.skip("../shared/testdata is not here")
    measure(view, shown, name)
    dataset = shown.forms[name]
    count = int(dataset.get("NumberOfFrames") or 1)
    said = view.page.locator("#second .place").first.text_content() or ""
    place = int(re.findall(r"\d+", said)[0]) - 1
    wanted = meant(dataset, place if count > 1 else 0)
    assert np.abs(pixels(view, dataset.Rows, dataset.Columns).astype(float) - wanted).max() <= 1


@pytest.fixture
def stack(view: Window, shown: Shown) -> Window:
    """Six axial slices of a phantom, in the second stage, with nothing measured yet."""
    measure(view, shown, "a stack")
    remove_all(view)
    return view


def remove_all(view: Window) -> None:
    button = view.page.get_by_role("button", name="Remove all")
    if button.is_enabled():
        button.click()


def box(view: Window) -> dict[str, float]:
    found = view.page.locator("#second .box").first.bounding_box()
    assert found is not None
    return dict(found)  # type: ignore[call-overload]


def drag(view: Window, *way: tuple[float, float]) -> None:
    """From the middle of the pane along `way`, in CSS pixels from there."""
    there = box(view)
    x, y = there["x"] + there["width"] / 2, there["y"] + there["height"] / 2
    view.page.mouse.move(x + way[0][0], y + way[0][1])
    view.page.mouse.down()
    for to in way[1:]:
        view.page.mouse.move(x + to[0], y + to[1], steps=8)
    view.page.wait_for_timeout(100)  # the button is let go once the pointer rests, as a hand does
    view.page.mouse.move(x + way[-1][0], y + way[-1][1])
    view.page.wait_for_timeout(100)
    view.page.mouse.up()


def said(view: Window) -> str:
    """The one measurement there is."""
    entries = view.page.locator("#measured li span")
    expect(entries).to_have_count(1)
    return entries.first.text_content() or ""


def spacing(shown: Shown) -> float:
    return float(shown.forms["a stack"].PixelSpacing[0])


def scale(view: Window, shown: Shown) -> float:
    """mm of a CSS pixel: the image fits into the lower side of its pane."""
    there, dataset = box(view), shown.forms["a stack"]
    return float(dataset.Rows) * spacing(shown) / min(there["height"], there["width"])


def test_lengths_are_in_millimetres(stack: Window, shown: Shown) -> None:
    stack.page.get_by_role("button", name="Length").click()
    drag(stack, (-100, 20), (100, 20))
    found = re.fullmatch(r"Length · ([0-9.,]+) mm", said(stack))
    assert found is not None
    assert float(found[1].replace(",", "")) == pytest.approx(200 * scale(stack, shown), rel=0.02)
    stack.page.get_by_role("button", name=re.compile("^Remove: Length")).click()
    expect(stack.page.locator("#measured li.none")).to_be_visible()


def test_an_image_that_does_not_say_how_large_it_is_is_measured_in_pixels(view: Window, shown: Shown) -> None:
    measure(view, shown, "8 bits, no window")
    remove_all(view)
    view.page.get_by_role("button", name="Length").click()
    drag(view, (-50, 0), (50, 0))
    assert re.fullmatch(r"Length · [0-9.,]+ px", said(view))


def test_angles_are_in_degrees(stack: Window) -> None:
    stack.page.get_by_role("button", name="Angle").click()
    drag(stack, (-80, 0), (0, 0))
    there = box(stack)
    x, y = there["x"] + there["width"] / 2, there["y"] + there["height"] / 2
    stack.page.mouse.move(x, y + 80, steps=5)
    stack.page.mouse.down()
    stack.page.mouse.up()
    found = re.fullmatch(r"Angle · ([0-9.]+)°", said(stack))
    assert found is not None
    assert float(found[1]) == pytest.approx(90, abs=1)


def test_a_region_says_its_area_and_what_its_values_are(stack: Window, shown: Shown) -> None:
    stack.page.get_by_role("button", name="Region").click()
    drag(stack, (0, 0), (60, 90))
    told = said(stack)
    found = re.fullmatch(
        r"Region · Area ([0-9.,]+) mm² · Mean (-?[0-9.,]+) HU, spread ([0-9.,]+) · From (-?[0-9.,]+) HU to (-?[0-9.,]+) HU", told
    )
    assert found is not None, told
    area, mean, spread, least, most = (float(each.replace(",", "")) for each in found.groups())
    assert area == pytest.approx(np.pi * 60 * 90 * scale(stack, shown) ** 2, rel=0.03)
    place = int(re.findall(r"\d+", stack.page.locator("#second .place").first.text_content() or "")[0])
    dataset = shown.slices[place - 1]
    values = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    rows, columns = np.indices(values.shape)
    middle, (a, b) = (np.array(values.shape) - 1) / 2, np.array([60, 90]) * scale(stack, shown) / spacing(shown)
    inside = values[((columns - middle[1]) / a) ** 2 + ((rows - middle[0]) / b) ** 2 <= 1]
    assert mean == pytest.approx(inside.mean(), abs=0.1 * inside.std() + 2)
    assert spread == pytest.approx(inside.std(), rel=0.1, abs=2)
    assert values.min() <= least <= inside.min() + inside.std()
    assert inside.max() - inside.std() <= most <= values.max()


def test_key_images_are_a_list_to_go_by(stack: Window) -> None:
    page = stack.page
    page.locator("#second .box").focus()
    page.keyboard.press("Home")
    expect(page.locator("#second .place")).to_have_text("Image 1 of 6")
    page.get_by_role("button", name="Key image").click()
    page.locator("#second .box").focus()
    page.keyboard.press("End")
    expect(page.get_by_role("button", name="Key image", exact=True)).to_have_attribute("aria-pressed", "false")
    page.locator("#keys button").click()
    expect(page.locator("#second .place")).to_have_text("Image 1 of 6")
    expect(page.get_by_role("button", name="Key image", exact=True)).to_have_attribute("aria-pressed", "true")


def test_three_planes_are_made_of_slices_that_lie_evenly(stack: Window, shown: Shown) -> None:
    page = stack.page
    page.select_option("#layout", "planes")
    expect(page.locator("#second .box[data-drawn='exact']")).to_have_count(3, timeout=20_000)
    for place, (name, count) in enumerate((("From below", 6), ("From the side", 64), ("From the front", 64))):
        expect(page.locator("#second .place").nth(place)).to_have_text(re.compile(f"^{name} · Image [0-9]+ of {count}$"))
    page.get_by_role("button", name="Cross lines").click()
    expect(page.get_by_role("button", name="Cross lines")).to_have_attribute("aria-pressed", "true")
    page.wait_for_timeout(500)
    SCREENS.mkdir(parents=True, exist_ok=True)
    stack.page.screenshot(path=SCREENS / "measuring-planes.png")
    page.get_by_role("button", name="Scroll", exact=True).click()
    place = int(re.findall(r"\d+", page.locator("#second .place").first.text_content() or "")[0])
    drawn = pixels(stack, 64, 64).astype(float)
    far = [np.percentile(np.abs(drawn - meant(shown.slices[each])), 95) for each in (place - 1, 6 - place)]
    assert min(far) <= 2, "a plane through the slices shows a slice as it is"
    page.locator("#second .box").nth(1).focus()
    page.keyboard.press("Home")
    expect(page.locator("#second .place").nth(1)).to_have_text("From the side · Image 1 of 64")
    page.keyboard.press("ArrowDown")
    expect(page.locator("#second .place").nth(1)).to_have_text("From the side · Image 2 of 64")


def test_what_is_no_volume_says_so(view: Window, shown: Shown) -> None:
    measure(view, shown, "RGB")
    view.page.select_option("#layout", "planes")
    expect(view.page.locator("#second .said")).to_contain_text("cannot be shown in three planes")
    expect(view.page.locator("#second .box")).to_have_count(1)


def test_two_series_go_together(stack: Window) -> None:
    page = stack.page
    page.select_option("#layout", "beside")
    expect(page.locator("#second .box[data-drawn='exact']")).to_have_count(2, timeout=20_000)
    expect(page.locator("#second .pane select").nth(1)).not_to_have_value("")
    page.get_by_label("Series 2").select_option(index=0)
    places = page.locator("#second .place")
    expect(places.nth(1)).to_have_text("Image 1 of 6")
    page.locator("#second .box").first.focus()
    page.keyboard.press("Home")
    expect(places.nth(1)).to_have_text("Image 1 of 6")
    page.get_by_label("Scroll together").uncheck()
    page.locator("#second .box").first.focus()
    page.keyboard.press("ArrowDown")
    expect(places.first).to_have_text("Image 2 of 6")
    expect(places.nth(1)).to_have_text("Image 1 of 6")
    page.get_by_label("Scroll together").check()
    page.locator("#second .box").first.focus()
    page.keyboard.press("ArrowDown")
    expect(places.first).to_have_text("Image 3 of 6")
    expect(places.nth(1)).to_have_text("Image 2 of 6")


def test_a_page_may_begin_beside_another_study(view: Window, shown: Shown) -> None:
    view.page.goto(f"{shown.base}/images/{shown.studies['RGB']}")
    link = view.page.get_by_role("link", name=re.compile("^Compare with"))
    other = (link.get_attribute("href") or "").partition("?beside=")[2]
    name = next(name for name, id_ in shown.studies.items() if id_ == other)
    link.click()
    expect(view.page.locator("#second .box[data-drawn='exact']")).to_have_count(2, timeout=20_000)
    chosen = view.page.get_by_label("Series 2").input_value()
    title = view.page.locator(f"[data-series='{chosen}'] b").text_content()
    assert title == shown.forms[name].SeriesDescription


def test_it_gives_the_page_back(stack: Window) -> None:
    page = stack.page
    page.locator("#second .box").focus()
    page.keyboard.press("End")
    expect(page.locator("#second .place")).to_have_text("Image 6 of 6")
    page.get_by_role("button", name="Back to the simple view").click()
    expect(page.locator("#status")).to_have_text("Image 6 of 6")
    page.wait_for_selector("#canvas[data-drawn='exact']")
    expect(page.locator("#second")).to_be_hidden()


def test_another_series_opens_in_it(stack: Window) -> None:
    stack.page.locator("[data-series]").nth(1).click()
    expect(stack.page.locator("#second .place")).to_have_text(re.compile("of 12$"))


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("layout", ["one", "beside", "planes"])
def test_nothing_bars_the_way_in_any_state(stack: Window, size: dict[str, int], layout: str) -> None:
    page = stack.page
    page.set_viewport_size(size)  # type: ignore[arg-type]
    page.select_option("#layout", layout)
    count = {"one": 1, "beside": 2, "planes": 3}[layout]
    expect(page.locator("#second .box[data-drawn='exact']")).to_have_count(count, timeout=20_000)
    if layout == "one":
        page.get_by_role("button", name="Length").click()
        drag(stack, (-40, 10), (60, 30))
        page.get_by_role("button", name="Key image").click()
    try:
        assert stack.barriers() == []
    except NoNode as reason:
        pytest.skip(str(reason))
    assert not stack.is_wider_than_screen()
    assert [each for each in stack.small_targets() if "checkbox" not in each] == []
    SCREENS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENS / f"measuring-{layout}-{size['width']}.png")
    page.set_viewport_size(DESKTOP)  # type: ignore[arg-type]


def test_all_of_it_is_small_and_comes_from_here(view: Window, shown: Shown) -> None:
    look(view, shown, "a stack")
    asked: list[str] = []
    view.page.on("request", lambda request: asked.append(request.url))
    measured = view.context.new_cdp_session(view.page)
    measured.send("Network.enable")
    sizes: dict[str, float] = {}
    scripts: dict[str, str] = {}
    measured.on("Network.responseReceived", lambda told: scripts.setdefault(told["requestId"], told["response"]["url"]))
    measured.on("Network.loadingFinished", lambda told: sizes.setdefault(told["requestId"], told["encodedDataLength"]))
    measured.send("Network.setCacheDisabled", {"cacheDisabled": True})
    view.page.get_by_role("button", name="Measure and compare").click()
    view.page.wait_for_selector("#second .box[data-drawn='exact']", timeout=30_000)
    view.page.wait_for_timeout(500)
    assert 0 < sum(size for id_, size in sizes.items() if scripts.get(id_, "").endswith(".js")) <= MOST
    assert {each.split("/")[2] for each in asked if each.startswith("http")} == {shown.base.split("/")[2]}
    measured.detach()
