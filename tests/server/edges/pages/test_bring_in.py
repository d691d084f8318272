"""Images of a CD, a folder or a ZIP file from the browser: in pieces, apart from the archive until it is known whose they are, and whatever else may be in them."""

import contextlib
import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from httpx2 import Response
from peers import pixel_forms
from peers.browser import Window, window
from peers.imageshare import publish_all
from peers.node_clients import NoNode
from peers.people import PASSWORD
from peers.visitor import Pages, pages
from playwright.sync_api import Browser, Page, expect
from pydicom.dataset import Dataset
from sqlalchemy import text

from profiles.audit_event import INSTANCES_TRANSFERRED
from profiles.phantom import phantom_study
from server.access.people import accounts
from server.errors import StorageFull
from server.work.bringing.taking import Taking
from server.work.ingest import Sender

SCREENS = Path(__file__).resolve().parents[4] / "build" / "screens"
_numbers = iter(range(1, 1000))


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """A patient, Thea Phantom, of whom a hospital's CT is here."""
    with pages(
        tmp_path_factory.mktemp("site"), on_a_socket=True, sign_in_failures_per_address=0, bring_in_max_bytes=64 << 20
    ) as opened:
        node = opened.site.node
        batch = node.ingest.batch(Sender(INSTANCES_TRANSFERRED, "SCANNER", "127.0.0.1"))
        for made in phantom_study(1, 32):
            writer = batch.receive()
            writer.write(pixel_forms.encoded(made))
            batch.store(writer)
        publish_all(node)
        with node.database.write() as connection:
            accounts.own(connection, opened.site.people["patient"].id, thea(opened, connection))
        yield opened


def thea(town: Pages, connection: Any = None) -> str:
    with contextlib.nullcontext(connection) if connection is not None else town.site.node.database.read() as opened:
        return str(opened.execute(text("select id from patient where value = 'PHANTOM-1'")).scalar_one())


def study(name: str = "Phantom^Thea", born: str = "19600229", patient_id: str = "OTHER-HOSPITAL-9", **more: Any) -> list[Dataset]:
    """A CT that another hospital has made: its UIDs are in nobody's archive."""
    return list(
        phantom_study(
            1,
            32,
            uid_root=f"2.25.99{next(_numbers)}",
            patient_name=name,
            birth_date=born,
            patient_id=patient_id,
            date="20240102",
            **more,
        )
    )


def zipped(made: Sequence[Dataset], **others: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, each in enumerate(made):
            archive.writestr(f"IM{number}", pixel_forms.encoded(each))
        for name, content in others.items():
            archive.writestr(name, content)
    return packed.getvalue()


class Bringing:
    """Somebody's browser that does what the page's script does."""

    def __init__(self, town: Pages, who: str = "patient") -> None:
        self.town, self.visitor = town, town.signed_in(who, "/bring-in")
        self.visitor.get("/bring-in")
        self.csrf = str(self.visitor.tree.xpath("//form[@id='bring-in']/@data-csrf")[0])
        self.patient = "" if who == "staff" else thea(town)

    def post(self, path: str, body: bytes, **headers: str) -> Response:
        given = {"X-CSRF-Token": self.csrf, "Origin": self.town.site.base, **headers}
        return self.visitor.http.post(path, content=body, headers=given)

    def begin(self, *sizes: int, **changed: Any) -> Response:
        asked = {
            "patient": self.patient,
            "files": [{"name": f"CD/{size}", "size": size} for size in sizes],
            "left_out": 0,
            **changed,
        }
        return self.post("/bring-in/begin", json.dumps(asked).encode())

    def piece(self, id_: str, offset: int, body: bytes) -> Response:
        return self.post(f"/bring-in/{id_}/bytes", body, **{"Upload-Offset": str(offset)})

    def all_of(self, *files: bytes) -> str:
        """Everything in one piece, and what the worker makes of it."""
        begun = self.begin(*map(len, files))
        assert begun.status_code == 200, begun.text
        id_ = str(begun.json()["id"])
        assert self.piece(id_, 0, b"".join(files)).status_code == 200
        publish_all(self.town.site.node)
        self.visitor.get(f"/bring-in/{id_}")
        return id_

    def state(self, id_: str) -> dict[str, Any]:
        found: dict[str, Any] = self.visitor.http.get(f"/bring-in/{id_}/state").json()
        return found


def held(town: Pages) -> list[Path]:
    """What is in quarantine."""
    folder = town.site.node.settings.data / "brought-in"
    return sorted(folder.iterdir()) if folder.exists() else []


def whose(town: Pages, made: Sequence[Dataset]) -> str | None:
    """The patient under whom the study is in the archive, after merges."""
    with town.site.node.database.read() as connection:
        asked = "select coalesce(t.id, p.id) from study s join patient p on s.patient_pk = p.pk left join patient_merge m on m.source_pk = p.pk left join patient t on t.pk = m.target_pk where s.uid = :uid"
        found = connection.execute(text(asked), {"uid": str(made[0].StudyInstanceUID)}).scalar_one_or_none()
    return None if found is None else str(found)


# --- whose it is


def test_what_is_hers_is_with_her_other_images(town: Pages) -> None:
    bringing, made = Bringing(town), study()
    bringing.all_of(zipped(made, **{"README.TXT": b"read me", "AUTORUN.EXE": b"MZ"}))
    assert "Done" in bringing.visitor.text
    assert f"{len(made)} images are with your others" in bringing.visitor.text
    assert "2 files: no medical images" in bringing.visitor.text
    assert whose(town, made) == thea(town)
    assert held(town) == []
    bringing.visitor.get("/images")
    assert "2 January 2024" in bringing.visitor.text


@pytest.mark.parametrize(("name", "born"), [("Other^Olga", "19600229"), ("Phantom^Thea", "19610229"), ("Phantom^Thea", "")])
def test_somebody_elses_waits_for_the_hospital(town: Pages, name: str, born: str) -> None:
    bringing, made = Bringing(town), study(name, born)
    id_ = bringing.all_of(*map(pixel_forms.encoded, made))
    assert "Another name or date of birth stands on these" in bringing.visitor.text
    assert whose(town, made) is None
    assert len(held(town)) == 1
    bringing.visitor.press("Cancel")
    assert bringing.state(id_)["state"] == "refused"
    assert held(town) == []


def test_a_number_of_the_hospitals_patient_leads_to_nobody(town: Pages) -> None:
    """Who makes a file may write any patient number into it."""
    bringing, made = Bringing(town), study(patient_id="A", issuer="")
    bringing.all_of(zipped(made))
    assert whose(town, made) == thea(town)
    with town.site.node.database.read() as connection:
        assert town.site.patients["A"] != thea(town, connection)
    other = town.signed_in("other")
    other.get("/images")
    assert "2 January 2024" not in other.text


def test_staff_decide(town: Pages) -> None:
    bringing, olga, nora = Bringing(town), study("Other^Olga"), study("Nobody^Nora")
    id_ = bringing.all_of(zipped([*olga, *nora]))
    staff = town.signed_in("staff", "/staff/bring-in")
    assert "Olga Other" in staff.text
    assert "Thea Phantom" in staff.text
    accept, refuse = {"number": "0", "answer": "accept"}, {"number": "0", "answer": "refuse"}
    csrf = str(staff.tree.xpath("//input[@name='csrf']/@value")[0])
    origin = {"Origin": town.site.base}
    patient = town.signed_in("patient")
    assert patient.http.post(f"/staff/bring-in/{id_}", data={"csrf": "x", **accept}, headers=origin).status_code == 403
    unknown = staff.http.post(
        f"/staff/bring-in/{id_}", data={"csrf": csrf, **accept, "patient_number": "no such number"}, headers=origin
    )
    assert unknown.status_code == 400
    assert staff.http.post(f"/staff/bring-in/{id_}", data={"csrf": csrf, **accept}, headers=origin).status_code == 303
    publish_all(town.site.node)
    assert {whose(town, olga), whose(town, nora)} == {thea(town), None}, "the first of them"
    assert staff.http.post(f"/staff/bring-in/{id_}", data={"csrf": csrf, **refuse}, headers=origin).status_code == 303
    assert held(town) == []
    assert staff.http.post(f"/staff/bring-in/{id_}", data={"csrf": csrf, **refuse}, headers=origin).status_code == 404


def test_a_study_of_the_hospital_is_not_added_to(town: Pages) -> None:
    bringing = Bringing(town)
    made = list(phantom_study(1, 32))
    made[0].SOPInstanceUID = made[0].file_meta.MediaStorageSOPInstanceUID = "2.25.4711"
    bringing.all_of(zipped(made))
    assert "The hospital has these images already" in bringing.visitor.text
    with town.site.node.database.read() as connection:
        assert connection.execute(text("select count(*) from instance where uid = '2.25.4711'")).scalar_one() == 0


# --- in pieces


def test_pieces_go_on_where_they_broke_off(town: Pages) -> None:
    bringing, made = Bringing(town), study()
    content = zipped(made)
    id_ = bringing.begin(len(content)).json()["id"]
    assert bringing.piece(id_, 0, content[:1000]).json() == {"offset": 1000}
    assert bringing.piece(id_, 0, content[:1000]).status_code == 409
    assert bringing.piece(id_, 2000, content[2000:]).status_code == 409
    again = bringing.begin(len(content)).json()
    assert (again["id"], again["offset"], again["size"]) == (id_, 1000, len(content)), "after a reload, with the same files"
    assert bringing.state(id_)["offset"] == 1000
    assert bringing.piece(id_, 1000, content[1000:] + b"more").status_code == 413
    assert bringing.piece(id_, 1000, content[1000:]).status_code == 200
    publish_all(town.site.node)
    assert bringing.state(id_)["state"] == "done"
    assert whose(town, made) == thea(town)


def test_taking_in_that_breaks_off_is_done_again(town: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle, and from the beginning: nothing is there twice, and nothing is missing."""
    bringing, made = Bringing(town), study()
    content = zipped(made)
    id_ = bringing.begin(len(content)).json()["id"]
    bringing.piece(id_, 0, content)
    take, calls = Taking.take, iter(range(100))

    def breaks(self: Taking, *args: Any) -> int:
        if next(calls) == 2:
            raise StorageFull("no room")
        return take(self, *args)

    monkeypatch.setattr(Taking, "take", breaks)
    publish_all(town.site.node)
    assert bringing.state(id_)["state"] == "taking"
    with town.site.node.database.write() as connection:  # as time does: a lease runs out
        connection.execute(text("update job set due = 0, leased_until = 0"))
    publish_all(town.site.node)
    assert bringing.state(id_)["state"] == "done"
    with town.site.node.database.read() as connection:
        count = "select count(*) from instance i join series e on i.series_pk = e.pk join study s on e.study_pk = s.pk where s.uid = :uid"
        assert connection.execute(text(count), {"uid": str(made[0].StudyInstanceUID)}).scalar_one() == len(made)


def test_another_account_sees_and_sends_nothing(town: Pages) -> None:
    bringing = Bringing(town)
    id_ = bringing.begin(100).json()["id"]
    other = Bringing(town, "staff")
    assert other.piece(id_, 0, b"x" * 100).status_code == 404
    for path in (f"/bring-in/{id_}", f"/bring-in/{id_}/state"):
        assert other.visitor.http.get(path).status_code == 404
    assert other.begin(100, patient=thea(town)).status_code == 404, "staff find out whose they are"
    assert town.visitor().http.post(f"/bring-in/{id_}/bytes", content=b"x").status_code == 401
    wrong = bringing.post(f"/bring-in/{id_}/bytes", b"x", **{"X-CSRF-Token": "x", "Upload-Offset": "0"})
    assert wrong.status_code == 403
    assert (
        bringing.post(f"/bring-in/{id_}/bytes", b"x", **{"Origin": "https://evil.example", "Upload-Offset": "0"}).status_code
        == 403
    )
    bringing.visitor.get(f"/bring-in/{id_}")
    bringing.visitor.press("Cancel")


# --- whatever else it is


def bomb() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("IM1", b"\0" * 128 + b"DICM" + b"\0" * (300 << 20))
    return packed.getvalue()


def encrypted() -> bytes:
    """A ZIP file whose member says that it is encrypted (APPNOTE section 4.4.4)."""
    content = bytearray(zipped(study()[:1]))
    for mark, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(mark) + place] |= 1
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (bomb, "far larger than it may be"),
        (encrypted, "no images were found"),
        (lambda: zipped([], **{"INNER.ZIP": zipped(study())}), "no images were found"),
        (lambda: b"hello", "no images were found"),
        (lambda: b"PK\3\4 no ZIP file", "no images were found"),
        (lambda: b"\0" * 128 + b"DICM" + b"no data set", "no images were found"),
        (lambda: zipped(study())[:-100], "no images were found"),
    ],
)
def test_what_is_nothing_to_take_in(town: Pages, content: Any, words: str) -> None:
    bringing = Bringing(town)
    bringing.all_of(content())
    assert "This did not work" in bringing.visitor.text
    assert words in bringing.visitor.text.lower()
    assert held(town) == []


def test_hostile_names_are_only_names(town: Pages) -> None:
    bringing, made = Bringing(town), study()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number, each in enumerate(made):
            archive.writestr(f"../../../../tmp/slip{number}<script>", pixel_forms.encoded(each))
    content = packed.getvalue()
    before = set(Path("/tmp").iterdir())
    id_ = bringing.begin(len(content), files=[{"name": "../../../etc/passwd\0", "size": len(content)}]).json()["id"]
    bringing.piece(id_, 0, content)
    publish_all(town.site.node)
    assert bringing.state(id_)["state"] == "done"
    assert not {each.name for each in set(Path("/tmp").iterdir()) - before if "slip" in each.name}


@pytest.mark.parametrize(
    "changed",
    [
        {"files": []},
        {"files": "x"},
        {"files": [{"name": "x"}]},
        {"files": [{"size": -1}]},
        {"files": [{"size": 1 << 40}]},
        {"files": [{"size": True}]},
        {"left_out": "x"},
    ],
)
def test_lists_that_are_none(town: Pages, changed: dict[str, Any]) -> None:
    assert Bringing(town).begin(1, **changed).status_code in (400, 413)


# --- the page


def step(view: Window, name: str) -> None:
    SCREENS.mkdir(parents=True, exist_ok=True)
    view.page.screenshot(path=str(SCREENS / f"{name}-{(view.page.viewport_size or {}).get('width')}.png"), full_page=True)
    with contextlib.suppress(NoNode):
        assert view.barriers() == [], name
    assert not view.is_wider_than_screen(), name


def signed_in(page: Page, town: Pages) -> None:
    page.goto(f"{town.site.base}/sign-in?next=/bring-in")
    page.get_by_label("E-mail address").fill("patient@example.org")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.wait_for_url("**/bring-in")


@pytest.mark.peers
@pytest.mark.parametrize("size", [{"width": 1280, "height": 800}, {"width": 390, "height": 844}], ids=["desktop", "phone"])
def test_a_disc_in_a_browser_with_the_network_lost(town: Pages, browser: Browser, tmp_path: Path, size: dict[str, int]) -> None:
    made = study()
    for number, each in enumerate(made):
        (tmp_path / f"IM{number}").write_bytes(pixel_forms.encoded(each))
    (tmp_path / "VIEWER.EXE").write_bytes(b"MZ")
    with window(browser, viewport=size) as view:
        signed_in(view.page, town)
        step(view, "bring-in")
        lost = iter([True, False, True, True])
        view.page.route("**/bytes", lambda route: route.abort("connectionreset") if next(lost, False) else route.continue_())
        view.page.get_by_label("Whose images?").select_option(label="Thea Phantom")
        view.page.locator("#files").set_input_files([str(each) for each in sorted(tmp_path.iterdir())])
        view.page.get_by_role("button", name="Bring them in").click()
        view.page.wait_for_url("**/bring-in/*-*", timeout=60_000)
        publish_all(town.site.node)
        expect(view.page.locator("h1")).to_have_text("Done", timeout=20_000)
        step(view, "brought-in")
        assert f"{len(made)} images are with your others" in view.page.inner_text("main")
        assert "1 file: not sent" in view.page.inner_text("main")
    assert whose(town, made) == thea(town)


def test_the_staff_page_in_a_browser(town: Pages, browser: Browser) -> None:
    bringing = Bringing(town)
    bringing.all_of(zipped(study("Other^Olga")))
    with window(browser) as view:
        view.page.goto(f"{town.site.base}/sign-in?next=/staff/bring-in")
        view.page.get_by_label("E-mail address").fill("staff@example.org")
        view.page.get_by_label("Password").fill(PASSWORD)
        view.page.get_by_role("button", name="Sign in", exact=True).click()
        view.page.get_by_role("button", name="Accept them").first.wait_for()
        step(view, "brought-in-staff")
