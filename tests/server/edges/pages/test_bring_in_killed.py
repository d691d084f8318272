"""kill -9 of the server while a disc is sent, and while it is taken in: what was acknowledged is there, the rest is asked for again, and nothing is there twice."""

import io
import json
import time
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest
from lxml import html
from peers import pixel_forms
from peers.imageshare import Running, running
from peers.people import PASSWORD, quick_hashing
from sqlalchemy import text

from profiles.phantom import phantom_study
from server.access.people import accounts, passwords
from server.settings import load
from server.store.db import Database

pytestmark = pytest.mark.timeout(300)
_EMAIL, _PIECE = "thea@example.org", 200_000


class Portal:
    """The patient's browser: signed in anew after each start, as a cookie of before is good too."""

    def __init__(self, server: Running, patient: str) -> None:
        self.http = httpx2.Client(base_url=server.http, timeout=60, follow_redirects=True, headers={"Origin": server.http})
        self.patient = patient
        page = html.document_fromstring(self.http.get("/sign-in?next=/bring-in").content)
        form = page.xpath("//form[.//input[@name='password']]")[0]
        fields = {**dict(form.form_values()), "email": _EMAIL, "password": PASSWORD}
        page = html.document_fromstring(self.http.post("/sign-in", data=fields).content)
        self.csrf = str(page.xpath("//form[@id='bring-in']/@data-csrf")[0])

    def close(self) -> None:
        self.http.close()

    def begin(self, size: int) -> dict[str, Any]:
        asked = {"patient": self.patient, "files": [{"name": "CD/disc.zip", "size": size}], "left_out": 0}
        return dict(self._post("/bring-in/begin", json.dumps(asked).encode()).json())

    def send(self, id_: str, content: bytes, offset: int, until: int | None = None) -> int:
        """Pieces from this offset on; how far the server has acknowledged them."""
        while offset < (len(content) if until is None else until):
            piece = content[offset : offset + _PIECE]
            offset = self._post(f"/bring-in/{id_}/bytes", piece, {"Upload-Offset": str(offset)}).json()["offset"]
        return offset

    def state(self, id_: str) -> dict[str, Any]:
        return dict(self.http.get(f"/bring-in/{id_}/state").json())

    def _post(self, path: str, body: bytes, headers: dict[str, str] = {}) -> httpx2.Response:  # noqa: B006 it is only read
        answer = self.http.post(path, content=body, headers={"X-CSRF-Token": self.csrf, **headers})
        assert answer.status_code == 200, answer.text
        return answer


@pytest.fixture(scope="module")
def disc() -> tuple[bytes, int]:
    """A ZIP file of a study of another hospital, and how many images it has."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        made = [*phantom_study(80, 64, uid_root="2.25.7001", patient_id="OTHER-9")]
        for number, each in enumerate(made):
            archive.writestr(f"IM{number}", pixel_forms.encoded(each))
    return packed.getvalue(), len(made)


def test_a_disc_whose_server_is_killed_twice(tmp_path: Path, disc: tuple[bytes, int]) -> None:
    data, (content, count) = tmp_path / "data", disc
    patient = _prepared(data)
    with running(data) as server, closing(Portal(server, patient)) as portal:
        id_ = portal.begin(len(content))["id"]
        acknowledged = portal.send(id_, content, 0, until=len(content) // 2)
        server.kill()
    with running(data) as server, closing(Portal(server, patient)) as portal:
        again = portal.begin(len(content))
        assert again["id"] == id_, "the same files go on"
        assert again["offset"] >= acknowledged, "what was acknowledged is here"
        portal.send(id_, content, again["offset"])
        _await(lambda: _instances(data) > 0, "that something is taken in")
        server.kill()
        there = _instances(data)
    assert there < count, "it was killed in the middle"
    database = Database(load(data=data).database)
    with database.write() as connection:  # as time does: a lease runs out
        connection.execute(text("update job set due = 0, leased_until = 0"))
    database.close()
    with running(data) as server, closing(Portal(server, patient)) as portal:
        _await(lambda: portal.state(id_)["state"] == "done", "that all is taken in")
    assert _instances(data) == count
    assert not any(path.is_file() for path in (data / "brought-in").rglob("*")), "nothing stays in quarantine"


def _prepared(data: Path) -> str:
    """A data folder with an image of Thea Phantom, and her account; her resource id."""
    with running(data) as server:
        token = server.token()
        first = pixel_forms.encoded(next(iter(phantom_study(1, 32))))
        body = b"--cut\r\nContent-Type: application/dicom\r\n\r\n" + first + b"\r\n--cut--"
        headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": 'multipart/related; type="application/dicom"; boundary=cut',
            "Accept": "application/dicom+json",
        }
        assert httpx2.post(f"{server.http}/dicomweb/studies", content=body, headers=headers).status_code == 200
        bearer = {"Authorization": f"Bearer {token}"}
        _await(lambda: httpx2.get(f"{server.http}/fhir/Patient", headers=bearer).json().get("entry"), "a Patient")
        patient = str(httpx2.get(f"{server.http}/fhir/Patient", headers=bearer).json()["entry"][0]["resource"]["id"])
    database = Database(load(data=data).database)
    with database.write() as connection:
        account = accounts.add(connection, kind="patient", email=_EMAIL, name="Thea Phantom", patients=[patient])
        passwords.store(connection, account.id, quick_hashing().hash(PASSWORD))
    database.close()
    return patient


def _instances(data: Path) -> int:
    """How many images of the disc are in the archive."""
    database = Database(load(data=data).database)
    try:
        with database.read() as connection:
            asked = "select count(*) from instance i join series e on i.series_pk = e.pk join study s on e.study_pk = s.pk where s.uid like '2.25.7001%'"
            return int(connection.execute(text(asked)).scalar_one())
    finally:
        database.close()


def _await(holds: Any, what: str, seconds: float = 120) -> None:
    ends = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends, f"waited for {what}"
        time.sleep(0.02)
