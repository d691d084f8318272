"""Images of every form on a server with its pages, somebody whose they all are in a browser, and what pydicom shows for each."""

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from peers import pixel_forms
from peers.browser import Window, window
from peers.imageshare import publish_all
from peers.people import PASSWORD
from peers.visitor import Pages, pages
from playwright.sync_api import Browser
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut
from sqlalchemy import text

from profiles.audit_event import INSTANCES_TRANSFERRED
from profiles.phantom import phantom_study
from server.access.people import accounts
from server.work.ingest import Sender

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "testdata" / "dicom" / "pydicom_data"


@dataclass
class Shown:
    """A server with images of every form, one study each, and somebody whose they all are."""

    town: Pages
    forms: dict[str, Dataset] = field(default_factory=dict)
    slices: list[Dataset] = field(default_factory=list)
    """The first series of "a stack", in the order of its Instance Numbers."""
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
            dataset = dcmread(io.BytesIO(content))
            if made.forms.setdefault(name, dataset).SeriesInstanceUID == dataset.SeriesInstanceUID and name == "a stack":
                made.slices.append(dataset)
            writer = batch.receive()
            writer.write(content)
            batch.store(writer)
        made.slices.sort(key=lambda each: int(each.InstanceNumber))
        publish_all(node)
        with node.database.write() as connection:
            for name, form in made.forms.items():
                wanted = {"uid": str(form.StudyInstanceUID)}
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
        expected = ("status of 401", "vtkDataArray.newInstance")  # a right that ended; what vtk.js says of its own defaults
        assert [each for each in opened.wrongs if not any(known in each for known in expected)] == []


def look(view: Window, shown: Shown, name: str) -> None:
    """Opens the study, and waits until what is on the canvas is exact."""
    view.page.goto(f"{shown.base}/images/{shown.studies[name]}/view")
    view.page.wait_for_selector("#canvas[data-drawn='exact']", timeout=20_000)


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
