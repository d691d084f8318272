"""WADO-URI: one instance by parameters, as DICOM and as a picture."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
import requests
from peers.dicomweb import Site, part10, site
from peers.generated import Made
from peers.shows import shows
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.uid import UID

from profiles.phantom import phantom_study


@pytest.fixture(scope="module")
def data() -> bytes:
    return part10(next(iter(phantom_study(1, 64))))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("wado") / "data") as made:
        assert made.store([data, Made().part10()]).status_code == 200
        made.publish()
        yield made


def wado(server: Site, data: bytes, accept: str = "*/*", token: str | None = None, **parameters: object) -> requests.Response:
    headers = {"Authorization": f"Bearer {token or server.token()}", "Accept": accept}
    return asked(server, data, headers, **parameters)


def asked(server: Site, data: bytes, headers: dict[str, str], **parameters: object) -> requests.Response:
    found = dcmread(io.BytesIO(data))
    named = {
        "requestType": "WADO",
        "studyUID": found.StudyInstanceUID,
        "seriesUID": found.SeriesInstanceUID,
        "objectUID": found.SOPInstanceUID,
    }
    query = urlencode({key: value for key, value in {**named, **parameters}.items() if value is not None})
    return server.session.get(f"{server.url.removesuffix('/dicomweb')}/wado?{query}", headers=headers, timeout=60)


def picture(answer: requests.Response) -> Image.Image:
    assert answer.status_code == 200, answer.text
    return Image.open(io.BytesIO(answer.content))


@shows("transaction", "RAD-55 Imaging Document Source")
def test_an_instance_as_it_is_stored_and_transcoded(server: Site, data: bytes) -> None:
    answer = wado(server, data, contentType="application/dicom")
    assert answer.content == data
    assert answer.headers["Content-Type"] == "application/dicom; transfer-syntax=1.2.840.10008.1.2.1"
    assert answer.headers["Cache-Control"] == "no-store"
    assert wado(server, data, "application/dicom").content == data
    other = wado(server, data, contentType="application/dicom", transferSyntax="1.2.840.10008.1.2.4.80")
    found = dcmread(io.BytesIO(other.content))
    assert found.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.80"
    assert np.array_equal(found.pixel_array, dcmread(io.BytesIO(data)).pixel_array)
    assert wado(server, data, contentType="application/dicom", transferSyntax="1.2.840.10008.1.2.4.100").status_code == 406


@pytest.mark.parametrize("name", ["MR_small_implicit.dcm", "SC_rgb_rle.dcm", "image_dfl.dcm", "test-SR.dcm"])
def test_explicit_little_endian_is_the_default(server: Site, name: str) -> None:
    """PS3.18 section 9.4.2.4."""
    syntax = "1.2.840.10008.1.2.1"
    path = get_testdata_file(name)
    assert isinstance(path, str)
    content = Path(path).read_bytes()
    assert server.store([content]).status_code == 200
    server.publish()
    answer = wado(server, content, contentType="application/dicom")
    assert answer.headers["Content-Type"] == f"application/dicom; transfer-syntax={syntax}"
    assert dcmread(io.BytesIO(answer.content)).file_meta.TransferSyntaxUID == syntax


def test_what_cannot_be_decoded_is_sent_as_stored(server: Site) -> None:
    """Video, and a compressed frame that is damaged; where the syntax is named, that is 406."""
    video, damaged = Made(study=8).dataset(), Made(study=9).dataset()
    video.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.100")
    damaged.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.80")
    for dataset in (video, damaged):
        dataset.PixelData = encapsulate([b"no pixels at all"])
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
        content = part10(dataset)
        assert server.store([content]).status_code == 200
        server.publish()
        answer = wado(server, content, contentType="application/dicom")
        assert answer.status_code == 200, answer.text
        assert answer.content == content
        assert answer.headers["Content-Type"] == f"application/dicom; transfer-syntax={dataset.file_meta.TransferSyntaxUID}"
        named = wado(server, content, contentType="application/dicom", transferSyntax="1.2.840.10008.1.2.1")
        assert named.status_code == 406


def test_a_picture_is_the_default(server: Site, data: bytes) -> None:
    assert picture(wado(server, data)).format == "JPEG"
    assert picture(wado(server, data)).size == (64, 64)
    assert picture(wado(server, data, contentType="image/png,image/jpeg")).format == "PNG"
    assert picture(wado(server, data, contentType="image/gif")).format == "GIF"
    assert picture(wado(server, data, contentType="text/html,image/png")).format == "PNG"
    assert wado(server, data, contentType="text/html").status_code == 406


def test_sizes_regions_and_windows(server: Site, data: bytes) -> None:
    assert picture(wado(server, data, rows=32)).size == (32, 32)
    assert picture(wado(server, data, columns=16, rows=32)).size == (16, 16)
    whole = np.asarray(picture(wado(server, data, contentType="image/png")))
    part = np.asarray(picture(wado(server, data, contentType="image/png", region="0.5,0.25,1,0.75")))
    assert np.array_equal(part, whole[16:48, 32:])
    wide = np.asarray(picture(wado(server, data, contentType="image/png", windowCenter=0, windowWidth="4e3")))
    narrow = np.asarray(picture(wado(server, data, contentType="image/png", windowCenter=40, windowWidth=1)))
    assert set(np.unique(narrow)) <= {0, 255}
    assert not np.array_equal(wide, narrow)
    assert len(wado(server, data, imageQuality=5).content) < len(wado(server, data, imageQuality=95).content)
    assert wado(server, data, annotation="patient,technique").content != wado(server, data).content


@pytest.mark.parametrize(
    "parameters",
    [
        {"requestType": None}, {"requestType": "X"}, {"studyUID": None}, {"objectUID": "../x"}, {"seriesUID": ""}, {"anonymize": "yes"},
        {"rows": 0}, {"rows": "x"}, {"columns": 9000}, {"region": "0,0,1"}, {"region": "0.5,0,0.5,1"}, {"region": "0,0,2,1"}, {"region": "a,0,1,1"},
        {"windowCenter": 1}, {"windowWidth": 5}, {"windowCenter": 1, "windowWidth": 0}, {"windowCenter": "nan", "windowWidth": 1},
        {"imageQuality": 101}, {"imageQuality": 0}, {"annotation": "x"}, {"presentationUID": "1.2"}, {"frameNumber": 0},
        {"contentType": "application/dicom", "rows": 5},
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said(server: Site, data: bytes, parameters: dict[str, Any]) -> None:
    answer = wado(server, data, **parameters)
    assert answer.status_code == 400, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"


@shows("transaction", "RAD-55 Imaging Document Source")
def test_what_is_not_there(server: Site, data: bytes) -> None:
    assert wado(server, data, frameNumber=2).status_code == 404
    assert wado(server, data, objectUID="1.2.3").status_code == 404
    assert wado(server, data, seriesUID="1.2.3").status_code == 404
    assert wado(server, data, unknown="x").status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Authorization": "Bearer forged"}, 401),
        ({"X-Forwarded-For": "192.0.2.1"}, 401),
        ({"Host": "images.example.org"}, 401),
        ({"Sec-Fetch-Site": "cross-site"}, 401),
        ({"Origin": "null"}, 401),
        ({"Referer": "https://elsewhere.example.org/"}, 401),
        ({"Cookie": "session=1"}, 401),
    ],
)
def test_a_program_on_this_machine_needs_no_token_and_a_browser_there_does(
    server: Site, data: bytes, headers: dict[str, str], status: int
) -> None:
    """As at the SOAP addresses. Any page may have a browser ask, from where the browser stands."""
    assert asked(server, data, headers, contentType="application/dicom").status_code == status


def test_who_may_and_what_is_told(server: Site, data: bytes) -> None:
    mine, other = server.patient("PHANTOM-1"), server.patient("P1")
    assert wado(server, data, token="forged").status_code == 401
    assert wado(server, data, token=server.token("patient/*.rs", other)).status_code == 403
    assert wado(server, data, token=server.token("patient/*.rs", mine)).status_code == 200
    assert wado(server, data, token=server.token("patient/*.rs", mine)).status_code == 200  # kept; told again
    assert wado(server, data, contentType="application/dicom").status_code == 200
    assert [event[:2] for event in server.trail()[-5:]] == [("RAD-55", "4")] * 2 + [("RAD-55", "0")] * 3
    assert {event[2] for event in server.trail()[-3:]} == {mine}
