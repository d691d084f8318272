"""What of a study is no stack of images, in the viewer: documents open, reports are read as text, and of the rest it is said that it cannot be shown."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from peers import pixel_forms
from peers.browser import Window, window
from peers.imageshare import publish_all
from peers.people import PASSWORD
from peers.visitor import Pages, pages
from playwright.sync_api import Browser, expect
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian
from sqlalchemy import text

from profiles.audit_event import INSTANCES_TRANSFERRED
from profiles.phantom import phantom_study
from server.access.people import accounts
from server.work.ingest import Sender

pytestmark = pytest.mark.peers
PDF = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj 2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
_STORAGE = "1.2.840.10008.5.1.4.1.1"


def of(study: Dataset, number: int, sop_class: str, modality: str, description: str) -> Dataset:
    """An instance without pixels, in a series of its own of the same study."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for name in (
        "PatientID",
        "PatientName",
        "PatientBirthDate",
        "PatientSex",
        "StudyInstanceUID",
        "StudyDate",
        "StudyTime",
        "StudyDescription",
    ):
        setattr(made, name, getattr(study, name))
    made.SOPClassUID, made.SOPInstanceUID, made.SeriesInstanceUID = sop_class, f"2.25.60{number}", f"2.25.61{number}"
    made.Modality, made.SeriesDescription, made.SeriesNumber, made.InstanceNumber = modality, description, 50 + number, 1
    return made


def instances() -> Iterator[Dataset]:
    stack = list(phantom_study(1, 32))
    yield from stack
    document = of(stack[0], 1, f"{_STORAGE}.104.1", "DOC", "A letter")
    document.DocumentTitle, document.MIMETypeOfEncapsulatedDocument = "Letter of 5 January", "application/pdf"
    document.EncapsulatedDocument, document.EncapsulatedDocumentLength = PDF + b"\0" * (len(PDF) % 2), len(PDF)
    yield document
    report = dcmread(str(get_testdata_file("reportsi.dcm")))
    made = of(stack[0], 2, str(report.SOPClassUID), "SR", "A structured report")
    made.ConceptNameCodeSequence, made.ContentSequence, made.ValueType = (
        report.ConceptNameCodeSequence,
        report.ContentSequence,
        report.ValueType,
    )
    yield made
    yield of(stack[0], 3, f"{_STORAGE}.66.5", "SEG", "Something else")
    film = of(stack[0], 4, f"{_STORAGE}.77.1.4.1", "XC", "A film")
    film.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"
    pixels = pixel_forms.made(805, pixel_forms.ramp(0, 255).astype("uint8"), "MONOCHROME2", 8)
    for name in (
        "Rows",
        "Columns",
        "SamplesPerPixel",
        "PhotometricInterpretation",
        "BitsAllocated",
        "BitsStored",
        "HighBit",
        "PixelRepresentation",
    ):
        setattr(film, name, getattr(pixels, name))
    film.NumberOfFrames = 2
    film.PixelData = encapsulate([b"the first half, and the others"], fragments_per_frame=2)
    yield film


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    with pages(tmp_path_factory.mktemp("others"), on_a_socket=True, sign_in_failures_per_address=0) as opened:
        node = opened.site.node
        batch = node.ingest.batch(Sender(INSTANCES_TRANSFERRED, "SCANNER", "127.0.0.1"))
        for made in instances():
            writer = batch.receive()
            writer.write(pixel_forms.encoded(made))
            batch.store(writer)
        publish_all(node)
        with node.database.write() as connection:
            (patient,) = connection.execute(text("select id from patient where value = 'PHANTOM-1'")).scalars()
            accounts.own(connection, opened.site.people["patient"].id, patient)
        yield opened


@pytest.fixture
def view(town: Pages, browser: Browser) -> Iterator[Window]:
    """The study's viewer."""
    with town.site.node.database.read() as connection:
        study = connection.execute(
            text("select s.id from study s join patient p on s.patient_pk = p.pk where p.value = 'PHANTOM-1'")
        ).scalar_one()
    with window(browser) as opened:
        opened.page.goto(f"{town.site.base}/sign-in?next=/images")
        opened.page.get_by_label("E-mail address").fill("patient@example.org")
        opened.page.get_by_label("Password").fill(PASSWORD)
        opened.page.get_by_role("button", name="Sign in", exact=True).click()
        opened.page.wait_for_url("**/images")
        opened.page.goto(f"{town.site.base}/images/{study}/view")
        yield opened


def test_a_document_opens(view: Window) -> None:
    view.page.get_by_role("button", name="A letter").click()
    link = view.page.get_by_role("link", name="Letter of 5 January")
    link.wait_for()
    content = view.page.evaluate(
        "async url => [...new Uint8Array(await (await fetch(url)).arrayBuffer())]", link.get_attribute("href")
    )
    assert bytes(content).rstrip(b"\0") == PDF
    assert view.barriers() == []


def test_a_structured_report_is_text(view: Window) -> None:
    view.page.get_by_role("button", name="A structured report").click()
    other = view.page.locator("#other")
    expect(other.locator("h2").first).not_to_be_empty()
    report = dcmread(io.BytesIO(Path(str(get_testdata_file("reportsi.dcm"))).read_bytes()))
    said = [str(each.TextValue).split("\n")[0].strip() for each in report.ContentSequence if each.ValueType == "TEXT"]
    assert said
    for words in said:
        assert words in other.inner_text()
    assert view.barriers() == []


@pytest.mark.parametrize("series", ["Something else", "A film"])
def test_of_what_cannot_be_shown_it_is_said(view: Window, series: str) -> None:
    view.page.get_by_role("button", name=series).click()
    expect(view.page.locator("#other")).to_contain_text("cannot be shown here", timeout=15_000)
    assert not view.page.locator("#problem").is_visible()
    assert view.barriers() == []


def test_a_film_is_put_together_of_its_fragments(view: Window) -> None:
    """Whether the browser knows its coding it says itself: here it does not, since this is none."""
    view.page.evaluate("""() => { const made = URL.createObjectURL; window.films = [];
        URL.createObjectURL = (blob) => { window.films.push(blob); return made(blob); }; }""")
    view.page.get_by_role("button", name="A film").click()
    expect(view.page.locator("#other")).to_contain_text("cannot be shown here", timeout=15_000)
    assert view.page.evaluate(
        "() => Promise.all(window.films.filter(each => each.type === 'video/mp4').map(each => each.text()))"
    ) == ["the first half, and the others"]
