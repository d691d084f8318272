"""What somebody has on her disk after a download: a page that shows images, documents and reports from its folder, in a real browser without any server."""

import base64
import contextlib
import io
import zipfile
from pathlib import Path

import pytest
from peers import pixel_forms
from peers.browser import DESKTOP, PHONE, Window, window
from peers.imageshare import publish_all
from peers.node_clients import NoNode
from peers.visitor import Pages, pages
from playwright.sync_api import Browser
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from sqlalchemy import text

from profiles.audit_event import INSTANCES_TRANSFERRED
from profiles.phantom import phantom_study
from server.access.people import accounts
from server.work.ingest import Sender

pytestmark = pytest.mark.peers
SCREENS = Path(__file__).resolve().parents[4] / "build" / "screens"
PDF = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj 2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
STUDY = next(iter(phantom_study(1, 16))).StudyInstanceUID


def beside(number: int, **attributes: object) -> Dataset:
    """Another instance of the study, in a series of its own."""
    made = pixel_forms.made(number, pixel_forms.ramp(0, 255).astype("uint8"), "MONOCHROME2", 8)
    made.StudyInstanceUID, made.PatientID, made.PatientName = STUDY, "PHANTOM-1", "Phantom^Thea"
    made.StudyDate, made.StudyTime, made.StudyDescription = "20260105", "093000", "Chest"
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def document() -> Dataset:
    made = beside(801, SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1", Modality="DOC", SeriesDescription="A letter")
    for name in (
        "PixelData",
        "Rows",
        "Columns",
        "BitsAllocated",
        "BitsStored",
        "HighBit",
        "PixelRepresentation",
        "SamplesPerPixel",
        "PhotometricInterpretation",
    ):
        delattr(made, name)
    made.MIMETypeOfEncapsulatedDocument, made.EncapsulatedDocument, made.EncapsulatedDocumentLength = (
        "application/pdf",
        PDF + b"\0" * (len(PDF) % 2),
        len(PDF),
    )
    return made


def undecodable() -> Dataset:
    """Pixels that say that they are JPEG 2000, and are not."""
    made = pixel_forms.in_syntax(
        beside(802, SeriesDescription="Broken <img src=x onerror=alert(1)>"), pixel_forms.JPEG2000Lossless
    )
    made.PixelData = encapsulate([b"no such picture."])
    return made


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the archive was unpacked into."""
    with pages(tmp_path_factory.mktemp("site"), sign_in_failures_per_address=0) as town:
        node, folder = town.site.node, tmp_path_factory.mktemp("home")
        batch = node.ingest.batch(Sender(INSTANCES_TRANSFERRED, "SCANNER", "127.0.0.1"))
        for made in (*phantom_study(5, 64), document(), undecodable()):
            writer = batch.receive()
            writer.write(pixel_forms.encoded(made))
            batch.store(writer)
        publish_all(node)
        with zipfile.ZipFile(io.BytesIO(taken(town))) as archive:
            assert archive.testzip() is None
            archive.extractall(folder)
    return folder


def taken(town: Pages) -> bytes:
    """The archive, by its patient, once her report is there."""
    site = town.site
    with site.node.database.write() as connection:
        found = connection.execute(
            text("select s.id, p.id from study s join patient p on s.patient_pk = p.pk where s.uid = :uid"), {"uid": STUDY}
        )
        study, patient = found.one()
        accounts.own(connection, site.people["patient"].id, patient)
    token = site.backend("system/*.cruds").json()["access_token"]
    report = {
        "resourceType": "DiagnosticReport", "status": "final", "code": {"text": "CT of the chest"}, "subject": {"reference": f"Patient/{patient}"},
        "imagingStudy": [{"reference": f"ImagingStudy/{study}"}], "conclusion": "Both lungs are clear.", "issued": "2026-01-05T12:00:00Z",
        "presentedForm": [{"contentType": "application/pdf", "title": "As printed", "data": base64.b64encode(PDF).decode()}],
    }  # fmt: skip
    assert site.http.post("/fhir/DiagnosticReport", json=report, headers={"Authorization": f"Bearer {token}"}).status_code == 201
    answer = town.signed_in("patient").http.get(f"/images/{study}/download")
    assert answer.status_code == 200
    return bytes(answer.content)


def test_the_files_are_those_of_media(home: Path) -> None:
    names = {str(each.relative_to(home)) for each in home.rglob("*") if each.is_file()}
    assert {
        "DICOMDIR",
        "INDEX.HTM",
        "README.TXT",
        "IHE_PDI/PAGE.CSS",
        "IHE_PDI/PAGE.JS",
        "IHE_PDI/S001/P0001.JPG",
        "IHE_PDI/S001/P0005.JPG",
    } <= names
    assert [name for name in names if not name.startswith(("IHE_PDI/", "DICOM", "INDEX", "README", "S"))] == []
    assert all(each.upper() == each and len(each.rpartition("/")[2]) <= 12 for each in names), (
        "names that any disc may have (ISO 9660 level 1)"
    )
    assert [each.read_bytes() for each in home.glob("IHE_PDI/*/D*.PDF")] == [PDF]
    assert [each.read_bytes() for each in home.glob("IHE_PDI/R*.PDF")] == [PDF]
    assert "INDEX.HTM" in (home / "README.TXT").read_text()


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_page_shows_them_without_a_server(home: Path, browser: Browser, size: dict[str, int]) -> None:
    with window(browser, viewport=size, offline=True) as view:
        asked = list[str]()
        view.page.on("request", lambda request: asked.append(request.url))
        view.page.goto((home / "INDEX.HTM").as_uri())
        stack = view.page.locator(".stack").first
        assert shown(view) == 5 + 10 + 5, "pictures of three series of the scanner"
        stack.get_by_role("slider").press("End")
        assert "Image 5 of 5" in stack.inner_text()
        assert view.page.evaluate(
            "async () => { const i = document.querySelector('.stack img'); await i.decode(); return [i.naturalWidth, i.src.endsWith('P0005.JPG')]; }"
        ) == [64, True]
        said = view.page.inner_text("body")
        for words in (
            "Thea Phantom",
            "Both lungs are clear.",
            "As printed",
            "Open the document",
            "cannot be shown here",
            "<img src=x",
        ):
            assert words in said, words
        assert [url for url in asked if not url.startswith("file:")] == []
        assert view.wrongs == []
        SCREENS.mkdir(parents=True, exist_ok=True)
        view.page.screenshot(path=str(SCREENS / f"taken-home-{size['width']}.png"), full_page=True)
        with contextlib.suppress(NoNode):
            assert view.barriers() == []
        assert not view.is_wider_than_screen()


def shown(view: Window) -> int:
    """How many pictures the page leads to; each of them is a picture."""
    count: int = view.page.evaluate(
        """async () => {
          const names = [...document.querySelectorAll('.stack')].flatMap(each => each.dataset.names.split(' '));
          await Promise.all(names.map(name => { const made = new Image(); made.src = name; return made.decode(); }));
          return names.length;
        }"""
    )
    return count


def test_without_script_there_is_a_picture_of_each_series(home: Path, browser: Browser) -> None:
    with window(browser, java_script_enabled=False, offline=True) as view:
        view.page.goto((home / "INDEX.HTM").as_uri())
        assert view.page.locator(".stack img").count() == 3
        assert view.page.locator(".stack label").first.is_hidden()
