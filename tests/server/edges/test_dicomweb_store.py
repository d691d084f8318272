"""STOW-RS: what is stored, what is refused and why, and that a refusal leaves neither a row nor a blob."""

import socket
import struct
import time
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

import orjson
import pytest
from lxml import etree
from peers.dicomweb import Site, multipart, part10, site
from peers.imageshare import publish_all
from pydicom import dcmread
from sqlalchemy import func, select

from profiles.phantom import phantom_study
from server.records import catalogue, trail
from server.store.tables import METADATA

TYPE = 'multipart/related; type="application/dicom"; boundary=b'
EXPLICIT = b"1.2.840.10008.1.2.1\0"


@pytest.fixture(scope="module")
def files() -> list[bytes]:
    return [part10(dataset) for dataset in phantom_study(2, 32)]


@pytest.fixture
def server(tmp_path: Path, database_url: str) -> Iterator[Site]:
    with site(tmp_path / "data", database_url, max_instance_bytes=1 << 20) as made:
        yield made


def held(server: Site) -> dict[str, int]:
    """Rows of the catalogue and files of the blob store, unfinished ones too."""
    with server.node.database.read() as connection:
        rows = {name: int(connection.execute(select(func.count()).select_from(METADATA.tables[name])).scalar_one())
                for name in ("patient", "study", "series", "instance", "blob", "job")}  # fmt: skip
    return {**rows, "files": len(list(server.node.blobs.list()))}


NOTHING = dict.fromkeys(("patient", "study", "series", "instance", "blob", "job", "files"), 0)


def reasons(response: object) -> list[int]:
    body = response.json()  # type: ignore[attr-defined]
    return [item["00081197"]["Value"][0] for tag in ("00081198", "0008119A") for item in body.get(tag, {}).get("Value", [])]


def changed(data: bytes, **attributes: object) -> bytes:
    dataset = dcmread(BytesIO(data))
    for name, value in attributes.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    return part10(dataset)


def test_every_instance_has_its_result(server: Site, files: list[bytes]) -> None:
    answer = server.store(files)
    assert answer.status_code == 200
    body = answer.json()
    study = str(dcmread(BytesIO(files[0])).StudyInstanceUID)
    assert body["00081190"]["Value"] == [f"{server.url}/studies/{study}"]
    assert [item["00081155"]["Value"][0] for item in body["00081199"]["Value"]] == [
        str(dcmread(BytesIO(data)).SOPInstanceUID) for data in files
    ]
    assert "00081198" not in body
    url = body["00081199"]["Value"][0]["00081190"]["Value"][0].removeprefix(server.url)
    assert server.get(url, "application/dicom").status_code == 404  # not before its study is published
    publish_all(server.node)
    assert server.get(url, "application/dicom").content == files[0]


def test_what_is_corrected_on_arrival_is_told(server: Site, files: list[bytes]) -> None:
    """PS3.4 section B.4.1.3, PS3.18 table 10.5.3-2: coercion of data elements, of the study that was corrected and no other."""
    assert server.store(files[:1]).status_code == 200
    server.publish()
    first = dcmread(BytesIO(files[0]))
    headers = {"Authorization": f"Bearer {server.token('system/*.cruds')}"}
    path = f"{server.url}/studies/{first.StudyInstanceUID}"
    body = {"00080050": {"vr": "SH", "Value": ["A2"]}}
    assert server.session.patch(path, json=body, headers=headers, timeout=60).status_code == 204
    other = changed(files[0], StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.1", SOPInstanceUID="1.2.3.1.1")
    answer = server.store([files[1], other])
    assert answer.status_code == 202
    corrected, plain = answer.json()["00081199"]["Value"]
    assert corrected["00081196"] == {"vr": "US", "Value": [0xB000]}
    assert "00081196" not in plain
    assert "00081198" not in answer.json()
    server.publish()
    uid = dcmread(BytesIO(files[1])).SOPInstanceUID
    (found,) = server.get(f"/instances?SOPInstanceUID={uid}&includefield=AccessionNumber").json()
    assert found["00080050"]["Value"] == ["A2"]
    assert server.store([other]).status_code == 200


def test_the_same_again_changes_nothing_and_other_content_is_refused(server: Site, files: list[bytes]) -> None:
    assert server.store(files[:2]).status_code == 200
    before = held(server)
    assert server.store(files[:2]).status_code == 200
    assert held(server) == before
    answer = server.store([changed(files[0], ImageComments="other"), files[2]])
    assert answer.status_code == 202
    (failed,) = answer.json()["00081198"]["Value"]
    assert failed["00081155"]["Value"] == [str(dcmread(BytesIO(files[0])).SOPInstanceUID)]
    assert failed["00081197"]["Value"] == [0x0111]
    assert held(server)["instance"] == 3
    assert held(server)["files"] == 3
    assert any(subtype == "RAD-108" and outcome != "0" for subtype, outcome, _ in server.trail())
    assert server.store([changed(files[0], ImageComments="other")]).status_code == 409
    with server.node.database.read() as connection:
        (event,) = trail.events(connection, limit=1)
    first = dcmread(BytesIO(files[0]))
    named = [each["what"]["identifier"]["value"] for each in orjson.loads(event.body)["entity"]][:2]
    assert named == [f"urn:oid:{first.StudyInstanceUID}", f"urn:oid:{first.SOPInstanceUID}"]


def test_a_study_in_the_url_must_be_that_of_the_instances(server: Site, files: list[bytes]) -> None:
    study = dcmread(BytesIO(files[0])).StudyInstanceUID
    answer = server.store(files[:1], "/studies/1.2.3")
    assert (answer.status_code, reasons(answer)) == (409, [0xA900])
    assert held(server) == NOTHING
    assert server.store(files[:1], f"/studies/{study}").status_code == 200
    assert server.store(files[:1], "/studies/x").status_code == 400


def test_the_result_may_be_xml(server: Site, files: list[bytes]) -> None:
    answer = server.store([files[0], b"nothing"], accept="application/dicom+xml")
    assert answer.status_code == 202
    assert answer.headers["Content-Type"] == "application/dicom+xml"
    root = etree.fromstring(answer.content)
    names = {"n": "http://dicom.nema.org/PS3.19/models/NativeDICOM"}
    found = root.xpath("//n:DicomAttribute[@keyword='ReferencedSOPInstanceUID']/n:Value/text()", namespaces=names)
    assert found == [str(dcmread(BytesIO(files[0])).SOPInstanceUID)]
    assert server.store(files[:1], accept="text/html").status_code == 406


def test_parts_may_arrive_in_any_pieces(server: Site, files: list[bytes]) -> None:
    body = multipart(files, "b")
    for size in (1009, 100_003):
        answer = server.post((body[at : at + size] for at in range(0, len(body), size)), TYPE)
        assert answer.status_code == 200
    assert held(server)["instance"] == len(files)


# --- bad input


def big_length(data: bytes) -> bytes:
    """The length of Pixel Data says 2 GiB."""
    at = data.rindex(struct.pack("<HH", 0x7FE0, 0x0010) + b"OW\0\0") + 8
    return data[:at] + struct.pack("<I", 0x7FFFFFFE) + data[at + 4 :]


def deflated_bomb(data: bytes) -> bytes:
    """Less than a megabyte that inflates to more than is allowed, in one private element."""
    dataset = dcmread(BytesIO(data))
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    whole = part10(dataset)
    start = 144 + dcmread(BytesIO(whole)).file_meta.FileMetaInformationGroupLength
    compressor = zlib.compressobj(9, wbits=-15)
    head = struct.pack("<HH2sHI", 0x0009, 0x1001, b"OB", 0, 0x7FFFFFF0)
    body = compressor.compress(head) + b"".join(compressor.compress(b"\0" * (1 << 20)) for _ in range(800)) + compressor.flush()
    return whole[:start] + body


BAD = {
    "truncated": lambda data: data[: len(data) - 100],
    "truncated in the header": lambda data: data[:400],
    "no preamble": lambda data: data[132:],
    "empty": lambda data: b"",
    "garbage": lambda data: b"\xff" * 5000,
    "no study UID": lambda data: changed(data, StudyInstanceUID=None),
    "wrong study UID": lambda data: changed(data, StudyInstanceUID="1.2.zz"),
    "path as UID": lambda data: changed(data, SOPInstanceUID="../../etc/passwd"),
    "2 GiB length": big_length,
    "deflated bomb": deflated_bomb,
    "unknown transfer syntax": lambda data: data.replace(EXPLICIT, b"1.2.840.10008.1.1\0\0\0", 1),
    "too large": lambda data: data + b"\0" * (1 << 20),
}


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_with_a_reason_and_leaves_nothing(server: Site, files: list[bytes], name: str) -> None:
    answer = server.store([BAD[name](files[0])])
    assert answer.status_code == 409, answer.text
    (reason,) = reasons(answer)
    assert reason in (0xC000, 0xA700, 0xA900)
    assert held(server) == NOTHING
    assert server.trail()[-1][:2] == ("RAD-108", "4")
    # and the good ones beside it are stored
    answer = server.store([files[1], BAD[name](files[0]), files[2]])
    assert answer.status_code == 202
    assert len(answer.json()["00081199"]["Value"]) == 2
    assert held(server)["files"] == 2


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/pdf", 415), ('multipart/related; type="application/pdf"; boundary=b', 415), ("multipart/form-data; boundary=b", 415),
        ('multipart/related; type="application/dicom"', 400), ('multipart/related; type="application/dicom"; boundary=other', 400), ("", 415),
    ],
)  # fmt: skip
def test_a_body_that_is_not_multipart_of_dicom_is_refused(
    server: Site, files: list[bytes], content_type: str, status: int
) -> None:
    answer = server.post(multipart(files[:1], "b"), content_type)
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert held(server) == NOTHING


def test_a_part_of_another_type_is_refused(server: Site) -> None:
    answer = server.post(multipart([b"{}"], "b", "application/json"), TYPE)
    assert answer.status_code == 409
    assert held(server) == NOTHING


def test_a_body_without_its_end_keeps_only_whole_parts(server: Site, files: list[bytes]) -> None:
    body = multipart(files[:2], "b")
    answer = server.post(body[:-200], TYPE)
    assert answer.status_code == 400
    assert "cut off" in answer.json()["detail"]
    assert "1 complete instance" in answer.json()["detail"]
    assert held(server)["instance"] == held(server)["files"] == 1
    assert server.post(b"--b--\r\n", TYPE).status_code == 400


def test_a_connection_that_breaks_leaves_nothing_of_the_open_part(server: Site, files: list[bytes]) -> None:
    host = urlsplit(server.url)
    body = multipart(files[:1], "b")
    with socket.create_connection((host.hostname or "", host.port or 0)) as connection:
        head = f"POST /dicomweb/studies HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token()}\r\nContent-Type: {TYPE}\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body[: len(body) // 2])
    for _ in range(200):
        if any(subtype == "RAD-108" for subtype, _, _ in server.trail()):
            break
        time.sleep(0.02)
    assert server.trail()[-1][:2] == ("RAD-108", "4")
    assert held(server) == NOTHING


def test_a_full_disk_is_507_and_leaves_nothing(tmp_path: Path, database_url: str, files: list[bytes]) -> None:
    with site(tmp_path / "data", database_url, min_free_bytes=1 << 60) as made:
        answer = made.store(files)
        assert answer.status_code == 507
        assert answer.headers["Retry-After"]
        assert held(made) == NOTHING


# --- who may


def test_storing_takes_a_scope_to_create_for_every_patient(server: Site, files: list[bytes]) -> None:
    body = multipart(files[:1], "b")
    assert server.post(body, TYPE, token="forged").status_code == 401
    assert server.post(body, TYPE, token=server.token("system/*.rs")).status_code == 403
    assert server.post(body, TYPE, token=server.token("patient/*.cruds", "p")).status_code == 403
    assert [event[:2] for event in server.trail()] == [("RAD-108", "4")] * 3
    assert held(server) == NOTHING
    assert server.post(body, TYPE, token=server.token("system/ImagingStudy.c")).status_code == 200
    assert server.trail()[-1][:2] == ("RAD-108", "0")


def test_both_engines_store_and_find_alike(database_url: str, tmp_path: Path, files: list[bytes]) -> None:
    with site(tmp_path / "data", database_url) as made:
        assert made.store([*files, *files]).status_code == 200
        made.publish()
        with made.node.database.read() as connection:
            assert catalogue.counts(connection) == {"studies": 1, "instances": len(files), "pending": 0}
        (study,) = made.get("/studies?PatientName=Phantom*&StudyTime=0900-1000").json()
        assert study["00201208"]["Value"] == [len(files)]
        assert len(made.get(f"/studies/{study['0020000D']['Value'][0]}/metadata").json()) == len(files)


def test_a_flood_of_parts_that_are_nothing_is_cut_short(server: Site) -> None:
    flood = b"\r\n--b\r\nContent-Type: application/dicom\r\n\r\n" * 5000 + b"\r\n--b--\r\n"
    answer = server.post(flood, TYPE)
    assert answer.status_code == 400
    assert "more than 100 parts are no instances" in answer.json()["detail"]
    with server.node.database.read() as connection:
        assert 100 < len(list(trail.events(connection, limit=1000))) < 130
    assert held(server) == NOTHING
