"""STOW-RS of metadata with bulk data apart: what is stored is what was described, and nothing more is read, written or fetched."""

import secrets
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import orjson
import pytest
import requests
from peers.dicomweb import Site, part10, site
from peers.generated import Made
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import generate_frames
from sqlalchemy import func, select

from profiles import dicom_xml
from profiles.phantom import phantom_study
from server.edges.dicomweb import store_metadata
from server.records import trail
from server.store.tables import METADATA

ON_BOTH_ENGINES = True
JSON, XML = "application/dicom+json", "application/dicom+xml"
Part = tuple[dict[str, str], bytes]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path / "data", max_instance_bytes=4 << 20) as made:
        yield made


def post(server: Site, parts: list[Part], type_: str = JSON, path: str = "/studies") -> requests.Response:
    boundary = secrets.token_hex(8)
    body = b"".join(
        f"--{boundary}\r\n".encode() + "".join(f"{k}: {v}\r\n" for k, v in headers.items()).encode() + b"\r\n" + data + b"\r\n"
        for headers, data in parts
    )
    return server.post(body + f"--{boundary}--\r\n".encode(), f'multipart/related; type="{type_}"; boundary={boundary}', path)


def metadata(*models: Mapping[str, object]) -> Part:
    return {"Content-Type": JSON}, orjson.dumps(list(models))


def bulk(location: str, data: bytes, type_: str = "application/octet-stream") -> Part:
    return {"Content-Type": type_, "Content-Location": location}, data


def model(number: int = 1, **changes: object) -> dict[str, Any]:
    """A small instance without pixels; `changes` are attributes by tag, as `x7FE00010`."""
    found = orjson.loads(Made(number=number).dataset().to_json())
    del found["7FE00010"]
    return {**found, **{name[1:]: value for name, value in changes.items()}}


PIXELS = {"vr": "OB", "BulkDataURI": "pixels"}


def files(server: Site) -> int:
    return len(list(server.node.blobs.list()))


def instances(server: Site) -> int:
    with server.node.database.read() as connection:
        return int(connection.execute(select(func.count()).select_from(METADATA.tables["instance"])).scalar_one())


def url(uid: str, server: Site) -> str:
    (found,) = server.get(f"/instances?SOPInstanceUID={uid}").json()
    return str(found["00081190"]["Value"][0]).removeprefix(server.url)


def stored(server: Site, uid: str) -> Any:
    server.publish()
    return dcmread(BytesIO(server.get(url(uid, server), "application/dicom; transfer-syntax=*").content))


def reasons(answer: requests.Response) -> list[int]:
    body = answer.json()
    return [item["00081197"]["Value"][0] for tag in ("00081198", "0008119A") for item in body.get(tag, {}).get("Value", [])]


@pytest.mark.parametrize("type_", [JSON, XML])
def test_what_was_retrieved_as_metadata_and_bulk_data_can_be_stored_as_such(tmp_path: Path, type_: str) -> None:
    with site(tmp_path / "from") as origin, site(tmp_path / "to") as target:
        sent = [part10(dataset) for dataset in phantom_study(1, 32)]
        assert origin.store(sent).status_code == 200
        origin.publish()
        study = str(dcmread(BytesIO(sent[0])).StudyInstanceUID)
        models = origin.get(f"/studies/{study}/metadata").json()
        parts = []
        for each in models:
            uri = each["7FE00010"]["BulkDataURI"]
            parts.append(bulk(uri, origin.get(uri.removeprefix(origin.url), "application/octet-stream").content))
        described = [metadata(*models)] if type_ == JSON else [({"Content-Type": XML}, dicom_xml.render(each)) for each in models]
        answer = post(target, [*described, *parts], type_, f"/studies/{study}")
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["00081199"]["Value"]) == len(sent)
        target.publish()
        again = target.get(f"/studies/{study}/metadata").json()
        assert [without_url(each) for each in again] == [without_url(each) for each in models]
        for data in sent:
            ours = dcmread(BytesIO(data))
            assert stored(target, ours.SOPInstanceUID).PixelData == ours.PixelData


def without_url(attributes: dict[str, Any]) -> dict[str, Any]:
    return {tag: value for tag, value in attributes.items() if tag != "7FE00010"}


@pytest.mark.parametrize(
    ("name", "type_", "syntax"),
    [
        ("JPEG2000.dcm", "image/jp2", None), ("SC_rgb_jpeg_dcmtk.dcm", "image/jpeg", None), ("MR_small_RLE.dcm", "image/dicom-rle", None),
        ("JPEGLSNearLossless_16.dcm", "image/jls", None), ("MR_small_jpeg_ls_lossless.dcm", "image/jls", None), ("693_J2KI.dcm", "image/jp2", "1.2.840.10008.1.2.4.91"), ("JPEG-lossy.dcm", "image/jpeg", None), ("SC_rgb_rle_2frame.dcm", "image/dicom-rle", None),
        ("JPEG2000.dcm", "application/octet-stream", "1.2.840.10008.1.2.4.91"),
    ],
)  # fmt: skip
def test_frames_get_the_transfer_syntax_that_they_are_in(server: Site, name: str, type_: str, syntax: str | None) -> None:
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip(f"{name} is not among pydicom's files here")
    original = dcmread(path)
    attributes = orjson.loads(original.to_json(bulk_data_threshold=1 << 30))
    attributes["7FE00010"] = PIXELS
    for tag in ("0020000D", "0020000E"):
        attributes.setdefault(tag, {"vr": "UI", "Value": ["1.2.3.4"]})
    frames = list(generate_frames(original.PixelData, number_of_frames=int(original.get("NumberOfFrames", 1))))
    told = f"{type_}; transfer-syntax={syntax}" if syntax else type_
    answer = post(server, [metadata(attributes), *(bulk("pixels", frame, told) for frame in frames)])
    assert answer.status_code == 200, answer.text
    found = stored(server, original.SOPInstanceUID)
    assert found.file_meta.TransferSyntaxUID == original.file_meta.TransferSyntaxUID
    assert list(generate_frames(found.PixelData, number_of_frames=len(frames))) == [f + b"\0" * (len(f) % 2) for f in frames]


@pytest.mark.parametrize("named", ["pixels", "pixels/frames/{}"])
def test_frames_of_one_instance_come_as_parts(server: Site, named: str) -> None:
    streams = [b"\xff\x4f\xff\x51" + bytes([n]) * 9 for n in range(3)]
    described = model(x7FE00010=PIXELS, x00280008={"vr": "IS", "Value": [3]})
    parts = [bulk(named.format(n + 1), stream, "image/jphc") for n, stream in enumerate(streams)]
    order = reversed(parts) if "{" in named else parts
    assert post(server, [metadata(described), *order]).status_code == 200
    found = stored(server, Made().uid)
    assert found.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.201"
    for number, stream in enumerate(streams, 1):
        assert server.get(f"{url(Made().uid, server)}/frames/{number}", "image/jphc; transfer-syntax=*").content == stream + b"\0"


def test_what_a_jpeg_says_of_itself_may_be_left_out(server: Site) -> None:
    path = get_testdata_file("SC_rgb_jpeg_dcmtk.dcm", download=False)
    if path is None:
        pytest.skip("pydicom's files are not here")
    original = dcmread(path)
    (frame,) = generate_frames(original.PixelData, number_of_frames=1)
    described = {tag: value for tag, value in model(x7FE00010=PIXELS).items() if not tag.startswith("0028")}
    assert post(server, [metadata(described), bulk("pixels", frame, "image/jpeg")]).status_code == 200
    found = stored(server, Made().uid)
    assert (found.Rows, found.Columns, found.SamplesPerPixel) == (original.Rows, original.Columns, 3)
    assert (found.BitsAllocated, found.BitsStored, found.HighBit) == (8, 8, 7)
    assert found.file_meta.TransferSyntaxUID == original.file_meta.TransferSyntaxUID


def test_values_in_place_need_no_bulk_data(server: Site) -> None:
    described = orjson.loads(Made().dataset().to_json())
    assert post(server, [metadata(described)]).status_code == 200
    assert stored(server, Made().uid).PixelData == Made().dataset().PixelData
    alone = server.post(orjson.dumps([orjson.loads(Made(number=2).dataset().to_json())]), JSON)
    assert alone.status_code == 200


def test_a_single_instance_needs_no_multipart(server: Site) -> None:
    assert server.post(Made().part10(), "application/dicom").status_code == 200
    server.publish()
    assert server.get(url(Made().uid, server), "application/dicom").content == Made().part10()
    assert server.post(b"", "application/dicom").status_code == 400
    assert server.post(b"x" * 300, "application/dicom").status_code == 409


# --- what is refused


BAD: dict[str, tuple[list[Part], str]] = {
    "no part of that name": ([metadata(model(x7FE00010={"vr": "OB", "BulkDataURI": "http://127.0.0.1:1/x"}))], "Content-Location"),
    "referred to twice": (
        [metadata(model(x00091001={"vr": "OB", "BulkDataURI": "a"}, x00091002={"vr": "OB", "BulkDataURI": "a"})), bulk("a", b"xy")], "twice",
    ),
    "no SOP Instance UID": ([metadata({**model(), "00080018": {"vr": "UI"}})], "SOPInstanceUID"),
    "a path as UID": ([metadata({**model(), "00080018": {"vr": "UI", "Value": ["../../x"]}})], "SOPInstanceUID"),
    "not JSON": ([({"Content-Type": JSON}, b"[{")], "annex F"),
    "not XML": ([({"Content-Type": XML}, b"<x")], ""),
    "an entity": ([({"Content-Type": XML}, b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>')], ""),
    "a number": ([metadata(3)], "array"),  # type: ignore[arg-type]
    "wrong number of frames": ([metadata(model(x7FE00010=PIXELS)), bulk("pixels", b"a", "image/jp2"), bulk("pixels", b"b", "image/jp2")], "one part a frame"),
    "pixels as PDF": ([metadata(model(x7FE00010=PIXELS)), bulk("pixels", b"a", "application/pdf")], "table"),
    "big endian": ([metadata(model(x7FE00010=PIXELS)), bulk("pixels", b"a", "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.2")], "Explicit"),
    "another syntax": ([metadata(model(x7FE00010=PIXELS)), bulk("pixels", b"a", "image/jp2; transfer-syntax=1.2.840.10008.1.2.4.50")], "table"),
    "deep": ([({"Content-Type": JSON}, b'[{"00400275":{"vr":"SQ","Value":[' * 500 + b"]}}]" * 500)], ""),
    "very deep": ([({"Content-Type": JSON}, b"[" * 200_000)], "annex F"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_made_an_instance_is_refused_and_leaves_nothing(server: Site, name: str) -> None:
    parts, said = BAD[name]
    answer = post(server, parts)
    assert answer.status_code == 409, answer.text
    assert reasons(answer)[0] in (0xC000, 0xA900)
    assert files(server) == instances(server) == 0
    subtype, outcome, _ = server.trail()[-1]
    assert (subtype, outcome) == ("RAD-108", "4")
    with server.node.database.read() as connection:
        assert any(said in event.body.decode() for event in trail.events(connection, limit=2))
    # and the good one beside it is stored
    answer = post(server, [*parts, metadata(model(9))])
    assert answer.status_code == 202
    assert files(server) == instances(server) == 1


def test_bulk_data_that_nobody_names_are_told_of(server: Site) -> None:
    answer = post(server, [metadata(model()), bulk("a", b"xy"), ({"Content-Type": "image/jpeg"}, b"z")])
    assert answer.status_code == 202
    assert reasons(answer) == [0xC000, 0xC000]
    assert "00081198" not in answer.json()


def test_a_failure_is_named_by_its_metadata(server: Site) -> None:
    answer = post(server, [metadata(model(x00280010={"vr": "US", "Value": ["x"]}))])
    (failed,) = answer.json()["00081198"]["Value"]
    assert failed["00081155"]["Value"] == [Made().uid]
    assert "Rows" in failed["00000902"]["Value"][0]
    answer = post(server, [metadata(model())], path="/studies/1.2.3")
    assert reasons(answer) == [0xA900]
    # written, and only then found to be none
    answer = post(server, [metadata({**model(), "0020000D": {"vr": "UI", "Value": ["1.x"]}}, model(2))])
    (failed,) = answer.json()["00081198"]["Value"]
    assert (failed["00081155"]["Value"], failed["00081150"]["Value"]) == ([Made().uid], [model()["00080016"]["Value"][0]])
    assert "0008119A" not in answer.json()
    answer = post(server, [metadata({**model(), "0020000D": {"vr": "UI"}})])
    assert [item["00081155"]["Value"] for item in answer.json()["00081198"]["Value"]] == [[Made().uid]]


def test_a_request_that_is_too_large_ends_at_once(server: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = post(server, [metadata(model(x7FE00010=PIXELS)), bulk("pixels", b"\0" * (5 << 20))])
    assert answer.status_code == 413
    monkeypatch.setattr(store_metadata, "_LARGEST", 1000)
    assert post(server, [metadata(model(1), model(2), model(3))]).status_code == 413
    monkeypatch.setattr(store_metadata, "_MOST_PARTS", 10)
    answer = post(server, [bulk(str(n), b"") for n in range(11)])
    assert answer.status_code == 413
    assert files(server) == instances(server) == 0
    assert [event[:2] for event in server.trail()] == [("RAD-108", "4")] * 3


@pytest.mark.parametrize(
    ("type_", "data"), [(JSON, b"[" + b"0," * 200 + b"0]"), (XML, b"<a/>" * 101), (XML, b"<a " + b'b="" ' * 101)]
)
def test_a_part_of_metadata_with_too_many_values_is_refused_before_it_is_parsed(
    server: Site, monkeypatch: pytest.MonkeyPatch, type_: str, data: bytes
) -> None:
    monkeypatch.setattr(store_metadata, "_MOST_MARKS", 100)
    assert reasons(post(server, [({"Content-Type": type_}, data)], type_)) == [0xA700]


def test_metadata_that_leave_out_a_million_values_are_refused(server: Site) -> None:
    long = b'<DicomAttribute tag="00091001" vr="LO"><Value number="1048576">x</Value></DicomAttribute></NativeDicomModel>'
    document = dicom_xml.render(model()).replace(b"</NativeDicomModel>", long)
    assert reasons(post(server, [({"Content-Type": XML}, document)], XML)) == [0xC000]
    assert instances(server) == 0


def test_a_body_without_its_end_stores_nothing(server: Site) -> None:
    data = orjson.dumps([model()])
    answer = server.post(
        b"--b\r\nContent-Type: " + JSON.encode() + b"\r\n\r\n" + data + b"\r\n", f'multipart/related; type="{JSON}"; boundary=b'
    )
    assert answer.status_code == 400
    assert files(server) == instances(server) == 0


def test_a_full_disk_is_507(tmp_path: Path) -> None:
    with site(tmp_path / "data", min_free_bytes=1 << 60) as made:
        assert post(made, [metadata(model())]).status_code == 507
        assert files(made) == 0
