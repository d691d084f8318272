"""QIDO-RS and WADO-RS over a real socket, with dicomweb-client and with plain requests."""

import base64
import gzip
import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import requests
from peers.dicomweb import Site, part10, parts, site
from peers.shows import shows
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from sqlalchemy import select

from profiles.dicom_xml import parse
from profiles.phantom import phantom_study
from server.records import trail
from server.records.results import METADATA

SHARED = Path(__file__).resolve().parents[3] / ".." / "shared" / "testdata"
NATIVE = "1.2.840.10008.1.2.1"
DICOM = 'multipart/related; type="application/dicom"'

# Every transfer syntax that pydicom ships: native, implicit, big-endian, deflated, RLE, JPEG, J2K, JPEG-LS; multi-frame; no pixels.
REAL = (
    "CT_small.dcm", "MR_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "image_dfl.dcm", "MR_small_RLE.dcm",
    "JPEG2000.dcm", "MR_small_jpeg_ls_lossless.dcm", "JPGExtended.dcm", "SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_rle_2frame.dcm", "rtdose.dcm",
    "examples_ybr_color.dcm", "examples_palette.dcm", "test-SR.dcm", "waveform_ecg.dcm", "liver_1frame.dcm",
)  # fmt: skip


def real(name: str) -> bytes:
    path = get_testdata_file(name)
    assert isinstance(path, str)
    data = Path(path).read_bytes()
    # One image in several transfer syntaxes has one UID there; here each is an instance of its own.
    same = b"1.3.6.1.4.1.5962.1.1.4.1.1.20040826185059."
    return data.replace(same + b"5457", same + b"%d" % (6000 + REAL.index(name))) if name in REAL else data


@pytest.fixture(scope="module")
def phantom() -> list[bytes]:
    return [part10(dataset) for dataset in phantom_study(3, 64)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, module_database_url: str, phantom: list[bytes]) -> Iterator[Site]:
    """A site with the phantom and the real files of pydicom, published."""
    with site(tmp_path_factory.mktemp("dicomweb") / "data", module_database_url) as made:
        answer = made.store([*phantom, *(real(name) for name in REAL)])
        assert answer.status_code == 200, answer.text
        made.publish()
        yield made


@pytest.fixture(scope="module")
def first(phantom: list[bytes]) -> dict[str, str]:
    dataset = dcmread(BytesIO(phantom[0]))
    return {
        "study": str(dataset.StudyInstanceUID),
        "series": str(dataset.SeriesInstanceUID),
        "instance": str(dataset.SOPInstanceUID),
    }


def instance_path(data: bytes) -> str:
    dataset = dcmread(BytesIO(data), stop_before_pixels=True)
    return f"/studies/{dataset.StudyInstanceUID}/series/{dataset.SeriesInstanceUID}/instances/{dataset.SOPInstanceUID}"


# --- with dicomweb-client


def test_dicomweb_client_finds_at_every_level(server: Site, first: dict[str, str]) -> None:
    client = server.client()
    (study,) = client.search_for_studies(search_filters={"PatientName": "phantom^th*", "StudyDate": "20260101-20260131"})
    assert study["0020000D"]["Value"] == [first["study"]]
    assert study["00080061"]["Value"] == ["CT"]
    assert study["00201206"]["Value"] == [3]
    assert study["00201208"]["Value"] == [12]
    assert study["00081190"]["Value"] == [f"{server.url}/studies/{first['study']}"]
    series = client.search_for_series(first["study"])
    assert [one["00200011"]["Value"][0] for one in series] == [1, 2, 3]
    assert [one["00201209"]["Value"][0] for one in series] == [3, 6, 3]
    instances = client.search_for_instances(first["study"], first["series"])
    assert [one["00200013"]["Value"][0] for one in instances] == [1, 2, 3]
    assert len(client.search_for_instances(first["study"])) == 12
    assert len(client.search_for_instances()) == 12 + len(REAL)
    assert len(client.search_for_series(search_filters={"Modality": "CT"})) >= 3
    assert client.search_for_studies(search_filters={"PatientID": "NOBODY"}) == []
    assert len(client.search_for_studies(limit=1, offset=1)) == 1


def test_dicomweb_client_retrieves_what_was_stored(server: Site, phantom: list[bytes], first: dict[str, str]) -> None:
    client = server.client()
    assert {part10(dataset) for dataset in client.retrieve_study(first["study"])} == set(phantom)
    assert len(client.retrieve_series(first["study"], first["series"])) == 3
    whole = client.retrieve_instance(*first.values())
    assert part10(whole) == phantom[0]
    metadata = client.retrieve_instance_metadata(*first.values())
    assert metadata["00080018"]["Value"] == [first["instance"]]
    assert len(client.retrieve_study_metadata(first["study"])) == 12
    frames = client.retrieve_instance_frames(*first.values(), frame_numbers=[1])
    assert frames == [whole.PixelData]
    (pixels,) = client.retrieve_bulkdata(metadata["7FE00010"]["BulkDataURI"])
    assert pixels == whole.PixelData
    rendered = client.retrieve_instance_rendered(*first.values(), media_types=("image/png",))
    assert rendered.startswith(b"\x89PNG")


def test_dicomweb_client_stores(tmp_path: Path, phantom: list[bytes]) -> None:
    with site(tmp_path / "data") as made:
        client = made.client()
        result = client.store_instances([dcmread(BytesIO(data)) for data in phantom[:3]])
        assert len(result.ReferencedSOPSequence) == 3
        assert client.search_for_studies() == []  # not yet published
        made.publish()
        assert len(client.search_for_studies()) == 1


# --- byte by byte


@pytest.mark.parametrize("name", REAL)
@shows("transaction", "RAD-107 Imaging Document Source")
def test_an_instance_comes_out_as_it_went_in(server: Site, name: str) -> None:
    data = bytes(128) + real(name)[128:]  # a preamble may be a program, and is not sent
    answer = server.get(instance_path(data))
    ((content_type, sent),) = parts(answer)
    assert sent == data
    assert int(answer.headers["Content-Length"]) == len(answer.content)
    syntax = dcmread(BytesIO(data), stop_before_pixels=True).file_meta.TransferSyntaxUID
    assert content_type == f"application/dicom; transfer-syntax={syntax}"
    assert server.get(instance_path(data), "application/dicom; transfer-syntax=*").content == data
    head = server.session.head(
        server.url + instance_path(data), headers={"Authorization": f"Bearer {server.token()}", "Accept": "*/*"}
    )
    assert int(head.headers["Content-Length"]) > len(data)
    assert server.get(instance_path(data), f"{DICOM}; transfer-syntax={syntax}").status_code == 200
    assert server.get(instance_path(data), f"{DICOM}; transfer-syntax=1.2.840.10008.1.2.4.100").status_code == 406


@pytest.mark.skipif(not SHARED.exists(), reason="../shared/testdata is not here")
def test_studies_of_others_come_out_as_they_went_in(tmp_path: Path) -> None:
    files: dict[str, bytes] = {}
    for path in sorted((SHARED / "nist" / "ImageCache" / "std").rglob("*.dcm")):
        data = path.read_bytes()
        files.setdefault(str(dcmread(BytesIO(data), specific_tags=["SOPInstanceUID"]).SOPInstanceUID), data)
    with site(tmp_path / "data") as made:
        answer = made.store(files.values())
        stored = {item["00081155"]["Value"][0] for item in answer.json()["00081199"]["Value"]}
        assert answer.status_code == 200, answer.json().get("00081198")
        made.publish()
        studies = {study["0020000D"]["Value"][0] for study in made.get("/studies").json()}
        sent = [data for study in studies for _, data in parts(made.get(f"/studies/{study}"))]
    assert stored == files.keys()
    assert sorted(sent) == sorted(bytes(128) + data[128:] for data in files.values())


@pytest.mark.parametrize(
    ("name", "media_type"),
    [("SC_rgb_rle_2frame.dcm", "image/dicom-rle"), ("JPEG2000.dcm", "image/jp2"), ("MR_small_jpeg_ls_lossless.dcm", "image/jls")],
)
def test_compressed_frames_are_sent_as_they_are_and_say_so(server: Site, name: str, media_type: str) -> None:
    from pydicom.encaps import generate_frames

    dataset = dcmread(BytesIO(real(name)))
    count = int(dataset.get("NumberOfFrames", 1))
    path = instance_path(real(name)) + "/frames/" + ",".join(str(number + 1) for number in range(count))
    expected = list(generate_frames(dataset.PixelData, number_of_frames=count))
    for accept, told in (
        (f'multipart/related; type="{media_type}"', media_type),
        ("*/*", media_type),
        ('multipart/related; type="image/*"', media_type),
        ('multipart/related; type="application/octet-stream"; transfer-syntax=*', "application/octet-stream"),
    ):
        found = parts(server.get(path, accept))
        assert [type_ for type_, _ in found] == [f"{told}; transfer-syntax={dataset.file_meta.TransferSyntaxUID}"] * count
        # The end of a fragment may be padded, or not.
        assert [data.rstrip(b"\0") for _, data in found] == [data.rstrip(b"\0") for data in expected]
    metadata = server.get(instance_path(real(name)) + "/metadata").json()[0]
    uri = metadata["7FE00010"]["BulkDataURI"].removeprefix(server.url)
    assert len(parts(server.get(uri))) == count


@pytest.mark.parametrize("name", ["SC_rgb_rle_2frame.dcm", "rtdose.dcm", "JPEG2000.dcm"])
@pytest.mark.parametrize("kind", ["instance", "frame"])
@pytest.mark.parametrize("multipart", [True, False])
def test_one_rule_for_transfer_syntaxes(server: Site, name: str, kind: str, multipart: bool) -> None:
    """As stored with `*` and where that is named; else what is named, or Explicit VR Little Endian, by transcoding; else 406."""
    path = instance_path(real(name)) + ("" if kind == "instance" else "/frames/1")
    syntax = dcmread(BytesIO(real(name)), stop_before_pixels=True).file_meta.TransferSyntaxUID
    type_ = "application/dicom" if kind == "instance" else "application/octet-stream"
    wanted = f'multipart/related; type="{type_}"' if multipart else type_

    def sent(parameter: str) -> tuple[str, bytes]:
        answer = server.get(path, wanted + parameter)
        assert answer.status_code == 200, answer.text
        ((header, body),) = parts(answer) if multipart else [(answer.headers["Content-Type"], answer.content)]
        return header, body

    # What native frames are labelled with: pixels have no VR.
    told = ExplicitVRLittleEndian if kind == "frame" and syntax == ImplicitVRLittleEndian else syntax
    as_stored = {
        sent(parameter) for parameter in ("; transfer-syntax=*", f"; transfer-syntax={syntax}", f'; transfer-syntax="{syntax}"')
    }
    assert {header for header, _ in as_stored} == {f"{type_}; transfer-syntax={told}"}
    assert len(as_stored) == 1
    plain = {sent(parameter) for parameter in ("", f"; transfer-syntax={NATIVE}")}
    ((header, body),) = plain
    assert header == f"{type_}; transfer-syntax={NATIVE}"
    if kind == "instance":
        assert np.array_equal(dcmread(BytesIO(body)).pixel_array, dcmread(BytesIO(real(name))).pixel_array)
    for other in ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.2", "1.2.3", "nonsense"):
        assert server.get(path, f"{wanted}; transfer-syntax={other}").status_code == 406


def test_the_most_wanted_is_sent_also_where_it_must_be_transcoded(server: Site) -> None:
    path = instance_path(real("JPEG2000.dcm")) + "/frames/1"
    for accept, type_ in (
        (
            'multipart/related; type="application/octet-stream"; transfer-syntax=1.2.840.10008.1.2.1, image/jp2; q=0.1',
            "multipart/related",
        ),
        ('multipart/related; type="application/octet-stream"; transfer-syntax=1.2.840.10008.1.2.1, image/jp2', "image/jp2"),
        ("image/jls", "image/jls"),
        ("image/jphc; q=0.9, image/dicom-rle; q=0.5", "image/jphc"),
        ("image/dicom-rle; transfer-syntax=1.2.840.10008.1.2.5", "image/dicom-rle"),
    ):
        answer = server.get(path, accept)
        assert (answer.status_code, answer.headers["Content-Type"].split(";")[0]) == (200, type_)
    assert server.get(path, "image/jpeg").status_code == 406


def test_a_study_is_transcoded_part_by_part(server: Site, first: dict[str, str], phantom: list[bytes]) -> None:
    path, before = f"/studies/{first['study']}", {}
    for data in phantom:
        dataset = dcmread(BytesIO(data))
        before[dataset.SOPInstanceUID] = dataset.pixel_array
    for syntax in ("1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.90"):
        found = parts(server.get(path, f"{DICOM}; transfer-syntax={syntax}"))
        assert {header for header, _ in found} == {f"application/dicom; transfer-syntax={syntax}"}
        assert len(found) == len(before)
        for _, data in found:
            dataset = dcmread(BytesIO(data))
            assert np.array_equal(dataset.pixel_array, before[dataset.SOPInstanceUID])
    client = server.client()
    for syntax in ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.1"):
        got = client.retrieve_instance(*first.values(), media_types=(("application/dicom", syntax),))
        assert got.file_meta.TransferSyntaxUID == syntax


def test_deflated_instances_have_frames(server: Site) -> None:
    dataset = dcmread(BytesIO(real("image_dfl.dcm")))
    ((header, data),) = parts(server.get(instance_path(real("image_dfl.dcm")) + "/frames/1"))
    assert header == f"application/octet-stream; transfer-syntax={NATIVE}"
    assert data.ljust(len(dataset.PixelData), b"\0") == dataset.PixelData


def test_one_range_of_a_bulk_value(server: Site, phantom: list[bytes]) -> None:
    """RFC 9110 section 14."""
    dataset, path = dcmread(BytesIO(phantom[0])), instance_path(phantom[0]) + "/bulkdata/7FE00010"
    whole, type_ = dataset.PixelData, "application/octet-stream"
    answer = server.get(path, type_)
    assert (answer.content, answer.headers["Accept-Ranges"]) == (whole, "bytes")
    etag = answer.headers["ETag"]
    for asked, start, end in (("0-0", 0, 1), ("100-", 100, None), ("-100", -100, None), ("10-99999999", 10, None)):
        part = server.get(path, type_, Range=f"bytes={asked}")
        assert (part.status_code, part.content) == (206, whole[start:end])
        first_byte = start % len(whole)
        assert part.headers["Content-Range"] == f"bytes {first_byte}-{first_byte + len(part.content) - 1}/{len(whole)}"
    assert server.get(path, type_, Range="bytes=0-9", If_Range=etag).status_code == 206
    assert server.get(path, type_, Range="bytes=0-9", If_Range='"other"').content == whole
    for ignored in ("bytes=0-1,5-6", "bytes=-", "lines=1-2"):
        assert server.get(path, type_, Range=ignored).content == whole
    for wrong in (f"bytes={len(whole)}-", "bytes=-0", "bytes=9-3"):
        answer = server.get(path, type_, Range=wrong)
        assert (answer.status_code, answer.headers["Content-Range"]) == (416, f"bytes */{len(whole)}")
    assert server.get(path, type_, If_None_Match=etag).status_code == 304


def test_frames_of_a_multiframe_instance_by_number(server: Site) -> None:
    dataset = dcmread(BytesIO(real("rtdose.dcm")))
    path = instance_path(real("rtdose.dcm"))
    length = len(dataset.PixelData) // dataset.NumberOfFrames
    found = parts(server.get(f"{path}/frames/15,1"))
    assert [data for _, data in found] == [dataset.PixelData[14 * length : 15 * length], dataset.PixelData[:length]]
    single = server.get(f"{path}/frames/2", "application/octet-stream")
    assert single.content == dataset.PixelData[length : 2 * length]
    assert single.headers["Content-Type"].startswith("application/octet-stream")
    assert server.get(f"{path}/frames/16").status_code == 404
    for wrong in ("0", "1,", "a", "1,,2", "-1"):
        assert server.get(f"{path}/frames/{wrong}").status_code == 400


@shows("transaction", "RAD-107 Imaging Document Source")
def test_bulk_data_of_every_uri_in_metadata_is_there(server: Site) -> None:
    def uris(attributes: dict[str, dict[str, object]]) -> Iterator[str]:
        for value in attributes.values():
            if uri := value.get("BulkDataURI"):
                yield str(uri)
            for item in value.get("Value", []) if value["vr"] == "SQ" else []:  # type: ignore[attr-defined]
                yield from uris(item)

    seen = 0
    for study in server.get("/studies").json():
        for instance in server.get(f"/studies/{study['0020000D']['Value'][0]}/metadata").json():
            for uri in uris(instance):
                assert uri.startswith(server.url)
                answer = server.get(uri.removeprefix(server.url))
                assert answer.status_code == 200
                assert all(data for _, data in parts(answer))
                seen += 1
    assert seen >= len(REAL)
    ecg = instance_path(real("waveform_ecg.dcm"))
    waveform = dcmread(BytesIO(real("waveform_ecg.dcm"))).WaveformSequence[0].WaveformData
    assert server.get(f"{ecg}/bulkdata/54000100/1/54001010", "application/octet-stream").content == waveform
    deflated = dcmread(BytesIO(real("image_dfl.dcm")))
    found = server.get(instance_path(real("image_dfl.dcm")) + "/bulkdata/7FE00010", "application/octet-stream")
    assert found.content == deflated.PixelData
    for missing in ("54000100/9/54001010", "00091001", "54000100"):
        assert server.get(f"{ecg}/bulkdata/{missing}").status_code == 404
    assert server.get(f"{ecg}/bulkdata/..%2F..%2Fetc").status_code == 400


# --- metadata


@shows("transaction", "RAD-107 Imaging Document Source")
def test_metadata_is_revalidated_and_compressed(server: Site, first: dict[str, str]) -> None:
    path = f"/studies/{first['study']}/metadata"
    plain = server.get(path, Accept_Encoding="identity")
    packed = server.get(path, Accept_Encoding="gzip")
    assert packed.headers["Content-Encoding"] == "gzip"
    assert packed.json() == plain.json()
    assert plain.headers["Content-Type"] == "application/dicom+json"
    again = server.get(path, If_None_Match=plain.headers["ETag"])
    assert (again.status_code, again.content) == (304, b"")
    as_xml = server.get(path, 'multipart/related; type="application/dicom+xml"', If_None_Match=plain.headers["ETag"])
    assert as_xml.status_code == 200
    assert as_xml.headers["ETag"] != plain.headers["ETag"]
    with pytest.raises(gzip.BadGzipFile):
        gzip.decompress(plain.content)


# --- searches


def test_results_have_what_the_url_does_not_say(server: Site, first: dict[str, str]) -> None:
    (one,) = server.get(f"/series?SeriesInstanceUID={first['series']}").json()
    assert one["00100020"]["Value"] == ["PHANTOM-1"]
    assert one["00081190"]["Value"] == [f"{server.url}/studies/{first['study']}/series/{first['series']}"]
    within = server.get(f"/studies/{first['study']}/series").json()[0]
    assert "00100020" not in within
    (instance,) = server.get(f"/instances?00080018={first['instance']}").json()
    assert instance["00100020"]["Value"] == ["PHANTOM-1"]
    assert instance["00080060"]["Value"] == ["CT"]
    assert instance["00081190"]["Value"][0].endswith(first["instance"])


def test_attributes_are_added_by_name_and_all_at_once(server: Site, first: dict[str, str]) -> None:
    instance = f"/studies/{first['study']}/series/{first['series']}/instances"
    usual = server.get(f"{instance}?limit=1").json()[0]
    whole = server.get(f"{instance}/{usual['00080018']['Value'][0]}/metadata").json()[0]
    everything = server.get(f"{instance}?limit=1&includefield=all").json()[0]
    assert everything == whole | usual
    assert list(everything) == sorted(everything)
    assert everything["7FE00010"]["BulkDataURI"] == whole["7FE00010"]["BulkDataURI"]
    tag = next(tag for tag in whole if tag not in usual)
    assert server.get(f"{instance}?limit=1&includefield={tag}").json()[0] == dict(sorted({**usual, tag: whole[tag]}.items()))
    study = server.get(f"/studies?StudyInstanceUID={first['study']}&includefield=SOPClassesInStudy,PatientComments").json()[0]
    assert study["00080062"]["Value"] == sorted(
        {one["00080016"]["Value"][0] for one in server.get(f"/studies/{first['study']}/instances").json()}
    )
    ecg = dcmread(BytesIO(real("waveform_ecg.dcm")))
    path = f"/studies/{ecg.StudyInstanceUID}/instances?includefield=AcquisitionContextSequence.ConceptNameCodeSequence.CodeValue&includefield=all"
    assert server.get(path).status_code == 200


def test_a_part_of_a_sequence_is_added_alone(server: Site) -> None:
    """AcquisitionContextSequence, or whichever sequence of sequences the file has."""
    sr = dcmread(BytesIO(real("test-SR.dcm")))
    name = "ContentSequence.ConceptNameCodeSequence.CodeMeaning"
    (one,) = server.get(f"/studies/{sr.StudyInstanceUID}/instances?SOPInstanceUID={sr.SOPInstanceUID}&includefield={name}").json()
    items = one["0040A730"]["Value"]
    assert len(items) == len(sr.ContentSequence)
    meanings = [item["0040A043"]["Value"][0]["00080104"]["Value"][0] for item in items if item]
    assert meanings == [i.ConceptNameCodeSequence[0].CodeMeaning for i in sr.ContentSequence if "ConceptNameCodeSequence" in i]
    assert {tag for item in items for tag in item} == {"0040A043"}


@pytest.mark.parametrize(
    "path", ["/studies?PatientID=PHANTOM-1", "/studies/{study}/series", "/studies/{study}/instances", "/studies/{study}/metadata"]
)
def test_xml_says_what_json_says(server: Site, first: dict[str, str], path: str) -> None:
    found = [
        parse(data) for type_, data in parts(server.get(path.format(**first), 'multipart/related; type="application/dicom+xml"'))
    ]
    assert found == server.get(path.format(**first)).json()
    assert server.get("/studies?PatientID=NOBODY", 'multipart/related; type="application/dicom+xml"').status_code == 204


def test_fuzzy_names_are_found_by_beginning_and_by_sound(server: Site) -> None:
    name = server.get("/studies?PatientID=PHANTOM-1").json()[0]["00100010"]["Value"][0]["Alphabetic"]
    family, given = name.split("^")[:2]
    for asked in (family[:3], f"{given} {family}".lower(), f"{family}^{given[:1]}"):
        found = server.get(f"/studies?PatientName={asked}&fuzzymatching=true")
        assert "PHANTOM-1" in [one["00100020"].get("Value", [""])[0] for one in found.json()]
        assert server.get(f"/studies?PatientName={asked}").status_code == 204


def test_prepared_metadata_is_what_is_made_from_each_instance(server: Site, first: dict[str, str]) -> None:
    for path in (f"/studies/{first['study']}", f"/studies/{first['study']}/series/{first['series']}"):
        packed = server.get(f"{path}/metadata", Accept_Encoding="gzip")
        assert int(packed.headers["Content-Length"]) < 100_000, "prepared: its length is known"
        each = [
            server.get(f"{path}/instances/{one['00080018']['Value'][0]}/metadata").json()[0]
            if "series" in path
            else server.get(
                f"{path}/series/{one['0020000E']['Value'][0]}/instances/{one['00080018']['Value'][0]}/metadata"
            ).json()[0]
            for one in server.get(f"{path}/instances").json()
        ]
        assert packed.json() == each == server.get(f"{path}/metadata", Accept_Encoding="identity").json()
    with server.node.database.write() as connection:
        connection.execute(METADATA.update().values(base="https://elsewhere"))
    assert server.get(f"{path}/metadata").json() == each, "what was prepared for another base URL is made anew"
    server.publish()
    with server.node.database.read() as connection:
        assert server.url in connection.execute(select(METADATA.c.base)).scalars().all()


def test_more_results_are_told_in_a_warning(server: Site) -> None:
    answer = server.get("/instances?limit=2&fuzzymatching=true&includefield=all&includefield=StudyDescription,00081030")
    assert len(answer.json()) == 2
    assert "additional results" in answer.headers["Warning"]
    assert "Warning" not in server.get("/instances?fuzzymatching=false").headers
    assert server.get("/studies?PatientID=NOBODY").status_code == 204


@pytest.mark.parametrize(
    "query",
    [
        "nonsense=1",
        "limit=-1",
        "limit=x",
        "offset=",
        "fuzzymatching=perhaps",
        "includefield=nonsense",
        "StudyDate=2020",
        "PatientID=1&PatientID=2",
    ],
)
def test_a_query_that_cannot_be_understood_is_400(server: Site, query: str) -> None:
    answer = server.get(f"/studies?{query}")
    assert answer.status_code == 400
    assert answer.headers["Content-Type"] == "application/problem+json"
    body = answer.json()
    assert body["requestId"] == answer.headers["X-Request-Id"]
    assert body["status"] == 400
    assert body["title"] == "Bad Request"
    assert body["detail"]


# --- who may


def last_event(server: Site) -> dict[str, Any]:
    with server.node.database.read() as connection:
        (event,) = trail.events(connection, limit=1)
    return dict(orjson.loads(event.body))


PATHS = ("/studies/{study}/series", "/studies/{study}", "/studies/{study}/metadata", "/studies/{study}/series/{series}/instances/{instance}/frames/1",
         "/studies/{study}/series/{series}/instances/{instance}/rendered", "/studies/{study}/thumbnail",
         "/studies/{study}/series/{series}/instances/{instance}/bulkdata/7FE00010")  # fmt: skip


MALFORMED = ("/studies/{study}/series/{series}/instances/{instance}/frames/x", "/studies/{study}/series/{series}/instances/{instance}/bulkdata/x",
             "/studies/{study}/series/{series}/instances/{instance}/rendered?x=1", "/studies?x=1", "/studies/abc")  # fmt: skip


@pytest.mark.parametrize("path", [*PATHS, "/studies", *MALFORMED])
def test_without_a_good_token_401(server: Site, first: dict[str, str], path: str) -> None:
    for headers in ({}, {"Authorization": "Bearer forged"}, {"Authorization": "Basic eDp5"}):
        server.node.strangers.flush()  # what follows is the first refusal of its minute
        before = len(server.trail())
        answer = requests.get(server.url + path.format(**first), headers=headers, timeout=20)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert [outcome for _, outcome, _ in server.trail()[before:]] == ["4"]
    expired = server.node.tokens.issue(client="late", scope="system/*.cruds", seconds=-60)
    assert server.get(path.format(**first), token=expired).status_code == 401


@pytest.mark.parametrize("path", PATHS)
def test_another_patients_study_403(server: Site, first: dict[str, str], path: str) -> None:
    other = server.patient("1CT1")
    token = server.token("patient/*.cruds", other)
    answer = server.get(path.format(**first), token=token)
    assert answer.status_code == 403
    assert "PHANTOM" not in answer.text
    subtype, outcome, patient = server.trail()[-1]
    assert (subtype, outcome, patient) == ("RAD-129" if path.endswith("/series") else "RAD-107", "4", server.patient("PHANTOM-1"))
    asked = [f"urn:oid:{first[name]}" for name in ("study", "series", "instance") if f"{{{name}}}" in path]
    (entity, *more) = last_event(server)["entity"]
    if "query" in entity:
        assert base64.b64decode(entity["query"]).decode() == path.format(**first) + "?"
    else:
        found = [each["what"]["identifier"]["value"] for each in (entity, *more) if "detail" in each]
        assert found == asked
    narrow = server.token("patient/Patient.rs", other)
    assert server.get(path.format(**first), token=narrow).status_code == 403
    assert server.trail()[-1] == (subtype, "4", server.patient("PHANTOM-1")), "an app without any right to images as well"
    own = server.token("patient/ImagingStudy.rs", server.patient("PHANTOM-1"))
    assert server.get(path.format(**first), token=own).status_code == 200


def test_a_refused_search_is_in_the_trail_of_the_patient_that_it_names(server: Site) -> None:
    token = server.token("patient/ImagingStudy.rs", server.patient("PHANTOM-1"))
    for name, patients in (("1CT1", [server.patient("1CT1")]), ("NOBODY", [""])):
        before = len(server.trail())
        answer = server.get(f"/studies?PatientID={name}&limit=1", token=token)
        assert answer.status_code == 403
        assert not any(patient and patient in answer.text for patient in patients)
        assert server.trail()[before:] == [("RAD-129", "4", patient) for patient in patients]
        assert base64.b64decode(last_event(server)["entity"][0]["query"]).decode() == f"/studies?PatientID={name}&limit=1"


def test_a_refusal_names_only_what_is_a_uid(server: Site) -> None:
    answer = requests.get(f"{server.url}/studies/1.2.3/series/Doe%5EJane/metadata", headers={}, timeout=20)
    assert answer.status_code in (400, 401)
    server.node.strangers.flush()
    assert requests.get(f"{server.url}/studies/1.2.3", headers={}, timeout=20).status_code == 401
    found = [each["what"]["identifier"]["value"] for each in last_event(server)["entity"]]
    assert found[0] == "urn:oid:1.2.3"
    assert "Doe" not in str(found)


def test_a_patients_token_finds_that_patient_only(server: Site) -> None:
    token = server.token("patient/ImagingStudy.rs", server.patient("PHANTOM-1"))
    for path in ("/studies", "/series", "/instances"):
        found = server.get(path, token=token).json()
        assert {one["00100020"]["Value"][0] for one in found} == {"PHANTOM-1"}
    assert server.get("/studies?PatientID=PHANTOM-1", token=token).status_code == 200
    assert server.get("/studies?PatientID=1CT1", token=token).status_code == 403
    assert server.get("/studies?PatientID=NOBODY", token=token).status_code == 403
    assert server.get("/studies", token=server.token("patient/Patient.rs", "x")).status_code == 403
    assert server.get("/studies", token=server.token("patient/ImagingStudy.rs")).status_code == 403


@pytest.mark.parametrize(
    "path", ["/studies/1.2.3", "/studies/1.2.3/metadata", "/studies/1.2.3/series", "/studies/{study}/series/1.2.3"]
)
def test_who_is_confined_to_a_patient_cannot_tell_a_strangers_study_from_none(
    server: Site, first: dict[str, str], path: str
) -> None:
    stranger = server.token("patient/*.rs", server.patient("1CT1"))
    assert server.get(path.format(**first), token=stranger).status_code == 403
    assert server.get(path.format(**first)).status_code == 404
    own = server.token("patient/*.rs", server.patient("PHANTOM-1"))
    assert server.get(f"/studies/{first['study']}/series/1.2.3", token=own).status_code == 404


@pytest.mark.parametrize(
    ("asked", "packed"),
    [("gzip", True), ("br, GZIP;q=0.5", True), ("*", True), ("gzip;q=0", False), ("gzip; q=0.000", False), ("br", False)],
)
def test_metadata_is_packed_for_who_takes_it(server: Site, first: dict[str, str], asked: str, packed: bool) -> None:
    answer = server.get(f"/studies/{first['study']}/metadata", Accept_Encoding=asked)
    assert (answer.headers.get("Content-Encoding") == "gzip") == packed
    assert len(answer.json()) == 12


def test_every_disclosure_is_in_the_trail_before_the_answer(server: Site, first: dict[str, str]) -> None:
    patient = server.patient("PHANTOM-1")
    study = f"/studies/{first['study']}"
    instance = f"{study}/series/{first['series']}/instances/{first['instance']}"
    for path, subtype in (
        ("/studies?PatientID=PHANTOM-1", "RAD-129"), (f"{study}/series", "RAD-129"), (study, "RAD-107"), (f"{study}/metadata", "RAD-107"),
        (f"{instance}/frames/1", "RAD-107"), (f"{instance}/rendered", "RAD-107"), (f"{instance}/bulkdata/7FE00010", "RAD-107"),
    ):  # fmt: skip
        before = len(server.trail())
        assert server.get(path).status_code == 200
        assert server.trail()[before:] == [(subtype, "0", patient)]
    before = len(server.trail())
    assert server.get(instance_path(real("JPEG2000.dcm")) + "/bulkdata/7FE00010").status_code == 200
    assert [told[:2] for told in server.trail()[before:]] == [("RAD-107", "0")], "what is encapsulated goes another way"


@pytest.mark.parametrize("below", ["", "/series/{series}", "/series/{series}/instances/{instance}"])
@shows("transaction", "RAD-107 Imaging Document Source")
def test_rad_107_is_answered_in_all_four_message_pairs(server: Site, first: dict[str, str], below: str) -> None:
    """RAD TF-2 section 4.107: instances, metadata, bulk data, rendered instances; the actors of XDS-I.b have to have all of them."""
    path = f"/studies/{first['study']}{below.format(**first)}"
    metadata = server.get(f"{path}/metadata", "application/dicom+json")
    bulk = metadata.json()[0]["7FE00010"]["BulkDataURI"].partition("/dicomweb")[2]
    patient, before = server.patient("PHANTOM-1"), len(server.trail())
    for asked, accept in (
        (path, 'multipart/related; type="application/dicom"; transfer-syntax=*'),
        (f"{path}/metadata", "application/dicom+json"),
        (f"{path}/metadata", 'multipart/related; type="application/dicom+xml"'),
        (bulk, 'multipart/related; type="application/octet-stream"'),
        (f"{path}/rendered", 'multipart/related; type="image/jpeg"'),
    ):
        answer = server.get(asked, accept)
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].split(";")[0] == accept.split(";")[0]
    assert server.trail()[before:] == [("RAD-107", "0", patient)] * 5


def test_what_is_not_there_is_404_and_bad_uids_are_400(server: Site, first: dict[str, str]) -> None:
    for path in (
        "/studies/1.2.3.4",
        "/studies/1.2.3.4/series",
        "/studies/1.2.3.4/metadata",
        f"/studies/{first['study']}/series/1.2.3",
    ):
        assert server.get(path).status_code == 404
    for path in ("/studies/abc", "/studies/1..2/series", "/studies/%2e%2e/metadata", "/studies/" + "1." * 40 + "1"):
        answer = server.get(path)
        assert answer.status_code in (400, 404)
        assert "Traceback" not in answer.text
    assert server.get("/studies/abc").status_code == 400


def test_answers_carry_the_request_id_and_are_not_kept(server: Site, first: dict[str, str]) -> None:
    for path in ("/studies", f"/studies/{first['study']}", "/studies/1.2.3.4"):
        answer = server.get(path, X_Request_Id="req-42")
        assert answer.headers["X-Request-Id"] == "req-42"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
    assert server.get("/studies", X_Request_Id="a b").headers["X-Request-Id"] != "a b"


def test_an_answer_that_nobody_takes_is_406(server: Site, first: dict[str, str]) -> None:
    assert server.get("/studies", "text/html").status_code == 406
    assert server.get("/studies", "application/dicom+json;q=0").status_code == 406
    assert server.get("/studies", "text/html, application/json;q=0.1").headers["Content-Type"] == "application/json"
    assert server.get("/studies?accept=application/dicom%2Bjson", "text/html").status_code == 200
    assert server.get(f"/studies/{first['study']}", "application/pdf").status_code == 406
    assert server.get(f"/studies/{first['study']}", "application/dicom").status_code == 406


def test_qido_and_metadata_agree_on_what_they_both_tell(server: Site) -> None:
    metadata = {
        one["00080018"]["Value"][0]: one
        for study in server.get("/studies").json()
        for one in server.get(f"/studies/{study['0020000D']['Value'][0]}/metadata").json()
    }
    for found in server.get("/instances").json():
        whole = metadata.pop(found["00080018"]["Value"][0])
        for tag in ("0020000D", "0020000E", "00080016", "00280010", "00280011"):
            assert found[tag] == whole.get(tag, {"vr": found[tag]["vr"]}), json.dumps(found[tag])
    assert not metadata


def test_pixels_of_frames_are_those_that_pydicom_reads(server: Site, phantom: list[bytes]) -> None:
    dataset = dcmread(BytesIO(phantom[5]))
    ((_, data),) = parts(server.get(instance_path(phantom[5]) + "/frames/1"))
    assert np.array_equal(np.frombuffer(data, "<u2").reshape(dataset.Rows, dataset.Columns), dataset.pixel_array)
