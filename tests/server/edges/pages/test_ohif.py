"""OHIF, as npm has it, beside our own viewer: the same study, by `/dicomweb`, with the page's token and no other."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from peers import pixel_forms
from peers.browser import window
from peers.imageshare import publish_all
from peers.people import PASSWORD
from peers.visitor import Pages, pages
from playwright.sync_api import Browser, Request, expect
from sqlalchemy import text

from profiles.audit_event import INSTANCES_TRANSFERRED
from profiles.phantom import phantom_study
from server.access.people import accounts
from server.work import ohif
from server.work.ingest import Sender

pytestmark = pytest.mark.timeout(300)
SCREENS = Path(__file__).resolve().parents[4] / "build" / "screens"


@dataclass
class Installed:
    """A server with OHIF, and a study of the patient's."""

    town: Pages
    study: str
    """ImagingStudy id."""
    uid: str

    @property
    def base(self) -> str:
        return self.town.site.base


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package")
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    ended = subprocess.run(
        ["npm", "pack", ohif.PACKAGE, "--silent"], cwd=folder, capture_output=True, text=True, check=False, timeout=240
    )
    found = [*folder.glob("*.tgz")]
    if ended.returncode or not found:
        pytest.skip(f"npm does not reach {ohif.PACKAGE}")
    return found[0]


@pytest.fixture(scope="module")
def installed(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    with pages(tmp_path_factory.mktemp("ohif"), on_a_socket=True) as town:
        node = town.site.node
        batch = node.ingest.batch(Sender(INSTANCES_TRANSFERRED, "SCANNER", "127.0.0.1"))
        for made in phantom_study(8, 128):
            writer = batch.receive()
            writer.write(pixel_forms.encoded(made))
            batch.store(writer)
        publish_all(node)
        with node.database.write() as connection:
            study, uid, patient = connection.execute(
                text("select s.id, s.uid, p.id from study s join patient p on s.patient_pk = p.pk order by s.pk desc limit 1")
            ).one()
            accounts.own(connection, town.site.people["patient"].id, patient)
        command = [
            sys.executable,
            "-m",
            "server.cli",
            "viewer",
            "install",
            "--data",
            str(node.settings.data),
            "--from",
            str(package),
        ]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        assert "is served at /ohif" in said
        yield Installed(town, study, uid)


def signed_in(installed: Installed, page: Any) -> None:
    page.goto(f"{installed.base}/sign-in?next=/images")
    page.get_by_label("E-mail address").fill("patient@example.org")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.wait_for_url("**/images")


DRAWN = """() => [...document.querySelectorAll("canvas.cornerstone-canvas")].some(canvas => {
    const pixels = canvas.getContext("2d")?.getImageData(0, 0, canvas.width, canvas.height).data;
    return pixels && new Set(pixels.filter((_, n) => n % 4 === 0)).size > 8; })"""
"""Whether there are greys on the canvas."""


def test_the_same_study_in_ohif_with_the_token_of_the_page(installed: Installed, browser: Browser) -> None:
    with window(browser) as view:
        asked: list[Request] = []
        view.page.on("request", lambda request: asked.append(request))  # noqa: PLW0108 Playwright cannot wrap what is built in
        signed_in(installed, view.page)
        view.page.goto(f"{installed.base}/images/{installed.study}")
        view.page.get_by_role("link", name="Advanced viewer").click()
        view.page.wait_for_function(DRAWN, timeout=120_000)
        SCREENS.mkdir(parents=True, exist_ok=True)
        view.page.screenshot(path=str(SCREENS / "ohif.png"))
        dicomweb = [each for each in asked if "/dicomweb/" in each.url]
        assert any("/frames/" in each.url for each in dicomweb)
        assert all(each.header_value("authorization") for each in dicomweb)
        assert {each.url.split("/")[2] for each in asked if each.url.startswith("http")} == {installed.base.split("/")[2]}
        assert not [each.url for each in asked if "token=" in each.url or "ey" in each.url.partition("?")[2]]
        assert [each for each in view.wrongs if "Content Security Policy" in each] == []
        other = view.context.new_page()
        other.goto(f"{installed.base}/sign-out")
        other.get_by_role("button", name="Sign out").click()
        expect(other.get_by_role("heading", name="You are signed out")).to_be_visible()
        view.page.reload()
        expect(view.page.get_by_role("heading", name="See your images")).to_be_visible()


def test_nobody_else_sees_it(installed: Installed) -> None:
    for visitor, status in ((installed.town.signed_in("other"), 404), (installed.town.visitor(), 303)):
        answer = visitor.http.get(f"/ohif/viewer?StudyInstanceUIDs={installed.uid}")
        assert answer.status_code == status
        assert "ohif-config" not in answer.text


def test_its_files_and_no_others(installed: Installed) -> None:
    http = installed.town.visitor().http
    script = ohif.script(installed.town.site.node.settings)
    whole, packed = http.get(f"/ohif/{script}", headers={"Accept-Encoding": "identity"}), http.get(f"/ohif/{script}")
    assert whole.content == packed.content
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) < len(whole.content) / 3
    assert "immutable" in packed.headers["cache-control"]
    assert b'__webpack_require__.p = "/"' not in whole.content
    for name in ("imageshare.db", f"{script}.gz", "..%2Fimageshare.db", "sw.js", "app-config.js", "google.js"):
        assert http.get(f"/ohif/{name}").status_code == 404, name


def test_where_it_is_not_installed_nothing_speaks_of_it(town: Pages) -> None:
    assert ohif.page(town.site.node.settings, "1.2.3") == ""
    assert town.signed_in("patient").http.get("/ohif/viewer?StudyInstanceUIDs=1.2.3").status_code == 404


def test_another_package_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    other = tmp_path / "other.tgz"
    other.write_bytes(b"x")
    command = [sys.executable, "-m", "server.cli", "viewer", "install", "--data", str(tmp_path / "data"), "--from", str(other)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "SHA-512 is another" in ended.stderr
    assert not (tmp_path / "data").exists() or not [*(tmp_path / "data").iterdir()]
