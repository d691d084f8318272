"""`profiles.dicom_json`: what dcmtk's dcm2json says of real files, and what must hold for dirty ones."""

import io
import json
import math
import shutil
import subprocess
from pathlib import Path

import orjson
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from profiles import part10
from profiles.dicom_json import level_attributes, metadata, query_result
from profiles.identifiers import AssigningAuthority, PatientIdentifier
from profiles.query_attributes import MORE, OPTIONAL, REQUIRED, Level
from profiles.study import Instance, Patient, Series, Study

PYDICOM = Path(pydicom.__file__).parent / "data"
CORPUS = sorted(path for path in PYDICOM.rglob("*") if path.is_file() and path.suffix in (".dcm", ""))
# dcm2json writes no UTF-8 for one, passes a number that is none on as a string, and cannot read implicit inside explicit VR.
ODD = {"chrSQEncoding.dcm", "badVR.dcm", "SC_rgb_jpeg.dcm"}
LEVELS: tuple[Level, ...] = ("study", "series", "instance")


def parsed(path: Path) -> Dataset | None:
    with path.open("rb") as file:
        try:
            return part10.parse(file).dataset
        except part10.HeaderError:
            return None


def value(attribute: object) -> dict[str, list[object]]:
    assert isinstance(attribute, dict)
    return attribute


def close(one: object, other: object) -> bool:
    if isinstance(one, float | int) and isinstance(other, float | int):
        return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-12)
    if isinstance(one, dict) and isinstance(other, dict):  # a person name: dcm2json drops trailing delimiters
        return {group: text.rstrip("^") for group, text in one.items() if text.strip("^")} == {
            group: text.rstrip("^") for group, text in other.items()
        }
    return one == other


def agree(ours: dict[str, dict[str, object]], theirs: dict[str, dict[str, object]]) -> None:
    assert list(ours) == sorted(theirs)
    for tag, mine in ours.items():
        other = theirs[tag]
        assert mine["vr"] == other["vr"], tag
        if tag == "00080005" or "BulkDataURI" in mine:
            continue
        if mine["vr"] == "SQ":
            for one, two in zip(value(mine).get("Value", []), value(other).get("Value", []), strict=True):
                assert isinstance(one, dict)
                assert isinstance(two, dict)
                agree(one, two)
        elif mine["vr"] == "UN":
            assert str(mine.get("InlineBinary", ""))[:8] == str(other.get("InlineBinary", ""))[:8]
        elif "Value" in other or mine["vr"] != "PN":
            assert mine.get("InlineBinary") == other.get("InlineBinary"), tag
            pairs = zip(value(mine).get("Value", []), value(other).get("Value", []), strict=True)
            assert all(close(one, two) for one, two in pairs), tag


@pytest.mark.skipif(shutil.which("dcm2json") is None, reason="dcmtk's dcm2json is not installed")
@pytest.mark.parametrize(
    "path", [path for path in CORPUS if path.name not in ODD and "TINY" not in str(path)], ids=lambda path: path.name
)
def test_metadata_is_what_dcm2json_says(path: Path) -> None:
    dataset = parsed(path)
    run = subprocess.run(["dcm2json", str(path)], capture_output=True, check=False)
    if dataset is None or run.returncode:
        # What dcm2json has no JSON for; the test below reads these files too.
        assert dataset is None or b"UTF-8" in run.stderr or b"pixel data" in run.stderr
        return
    ours = metadata(dataset, lambda where: where, 1 << 20)
    agree(json.loads(orjson.dumps(ours)), json.loads(run.stdout))


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_any_file_has_json_at_every_level(path: Path) -> None:
    dataset = parsed(path)
    if dataset is None:
        return
    everything = metadata(dataset, lambda where: f"bulk/{where}")
    assert list(everything) == sorted(everything)
    assert not [tag for tag in everything if tag.endswith("0000") and tag != "00000000"]
    orjson.dumps(everything)
    for level in LEVELS:
        some = level_attributes(dataset, level)
        assert set(some) == set(everything) & {*REQUIRED[level], *OPTIONAL[level], *MORE[level]}
        orjson.dumps(some)


def dataset_of(body: bytes, syntax: str = "1.2.840.10008.1.2.1") -> Dataset:
    raw = syntax.encode() + b"\0" * (len(syntax) % 2)
    meta = b"\x02\x00\x10\x00UI" + len(raw).to_bytes(2, "little") + raw
    return part10.parse(io.BytesIO(bytes(128) + b"DICM" + meta + body)).dataset


def test_a_dirty_value_keeps_its_vr_and_loses_its_value() -> None:
    body = b"\x20\x00\x11\x00IS\x04\x00abc " + b"\x20\x00\x32\x00DS\x08\x00nan\\1\\2 " + b"\x28\x00\x10\x00US\x01\x00\x07"
    assert metadata(dataset_of(body), str) == {
        "00200011": {"vr": "IS"},
        "00200032": {"vr": "DS", "Value": [None, 1.0, 2.0]},
        "00280010": {"vr": "US"},
    }


def test_binary_values_go_in_line_or_by_reference_and_pixels_always_by_reference() -> None:
    body = b"\x09\x00\x10\x00LO\x04\x00ACME"
    body += b"\x09\x00\x01\x10OB\x00\x00\x04\x00\x00\x00\x01\x02\x03\x04"
    body += b"\x09\x00\x02\x10OB\x00\x00\x08\x00\x00\x00" + bytes(8)
    body += b"\x09\x00\x03\x10OB\x00\x00" + (8192).to_bytes(4, "little") + bytes(8192)
    body += b"\xe0\x7f\x10\x00OW\x00\x00\x02\x00\x00\x00\x01\x02"
    found = metadata(dataset_of(body), lambda where: f"bulk/{where}", threshold=4)
    assert found["00091001"] == {"vr": "OB", "InlineBinary": "AQIDBA=="}
    assert found["00091002"] == {"vr": "OB", "BulkDataURI": "bulk/00091002"}
    assert found["00091003"] == {"vr": "OB", "BulkDataURI": "bulk/00091003"}
    assert found["7FE00010"] == {"vr": "OW", "BulkDataURI": "bulk/7FE00010"}


def test_the_path_of_a_nested_value_names_its_items() -> None:
    inner = Dataset()
    inner.add_new(0x54001010, "OW", bytes(4000))
    outer = Dataset()
    outer.add_new(0x54000100, "SQ", Sequence([Dataset(), inner]))
    sequence = value(metadata(outer, lambda where: where)["54000100"])["Value"]
    assert sequence == [{}, {"54001010": {"vr": "OW", "BulkDataURI": "54000100/2/54001010"}}]


def test_big_endian_words_are_little_endian_in_json() -> None:
    body = b"\x00\x28\x11\x01OW\x00\x00\x00\x00\x00\x02\x12\x34" + b"\x00\x28\x12\x01US\x00\x02\x00\x05"
    found = metadata(dataset_of(body, "1.2.840.10008.1.2.2"), str)
    assert found == {"00281101": {"vr": "OW", "InlineBinary": "NBI="}, "00281201": {"vr": "US", "Value": [5]}}


def test_text_is_utf8_and_says_so() -> None:
    body = b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100" + b"\x10\x00\x10\x00PN\x0e\x00Buc^J\xe9r\xf4me=A=B"[:-2] + b"=B"
    found = metadata(dataset_of(body), str)
    assert found["00080005"] == {"vr": "CS", "Value": ["ISO_IR 192"]}
    assert found["00100010"] == {"vr": "PN", "Value": [{"Alphabetic": "Buc^Jérôme", "Ideographic": "A", "Phonetic": "B"}]}


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([0x00080020, 0x00080060, 0x00100010, 0x00200013, 0x00280010, 0x00280030, 0x00091001, 0x0040A160]),
        st.tuples(
            st.sampled_from(["DA", "CS", "PN", "IS", "US", "DS", "FD", "AT", "UT", "UN", "FL", "SV"]), st.binary(max_size=40)
        ),
    )
)
def test_no_bytes_in_any_vr_raise(elements: dict[int, tuple[str, bytes]]) -> None:
    body = b""
    for tag, (vr, raw) in sorted(elements.items()):
        head = (tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little") + vr.encode()
        wide = vr in ("UT", "UN", "SV")
        body += head + (b"\0\0" + len(raw).to_bytes(4, "little") if wide else len(raw).to_bytes(2, "little")) + raw
    orjson.dumps(metadata(dataset_of(body), str))


STUDY = Study(
    study_instance_uid="1.2.3",
    patient=Patient(PatientIdentifier("P1", AssigningAuthority("1.2.9")), "Roe^Ann=Ａ^Ｂ", "19700101", "F"),
    accession_number="A1",
    date="20240102",
    series=(
        Series(
            "1.2.3.1",
            "CT",
            1,
            "one",
            instances=(Instance("1.2.3.1.1", "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1", 1, 4, 5, 1),),
        ),
        Series("1.2.3.2", "SR", 2, instances=(Instance("1.2.3.2.1", "1.2.840.10008.5.1.4.1.1.88.33", "1.2.840.10008.1.2.1"),)),
    ),
)


def test_a_study_result_has_every_required_attribute_and_the_counts() -> None:
    stored: dict[str, dict[str, object]] = {
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Before^Correction"}]},
        "00101010": {"vr": "AS", "Value": ["054Y"]},
    }
    found = query_result("study", STUDY, None, None, stored, "https://x/studies/1.2.3")
    assert set(REQUIRED["study"]) <= set(found)
    assert list(found) == sorted(found)
    assert found["00080061"] == {"vr": "CS", "Value": ["CT", "SR"]}
    assert (found["00201206"], found["00201208"]) == ({"vr": "IS", "Value": [2]}, {"vr": "IS", "Value": [2]})
    assert found["00081190"] == {"vr": "UR", "Value": ["https://x/studies/1.2.3"]}
    assert found["00080056"] == {"vr": "CS", "Value": ["ONLINE"]}
    assert found["00100010"] == {"vr": "PN", "Value": [{"Alphabetic": "Roe^Ann", "Ideographic": "Ａ^Ｂ"}]}
    assert found["00101010"] == {"vr": "AS", "Value": ["054Y"]}
    assert found["00200010"] == {"vr": "SH"}


def test_series_and_instance_results_name_their_parents() -> None:
    series, instance = STUDY.series[0], STUDY.series[0].instances[0]
    one = query_result("series", STUDY, series, None, {}, "u")
    assert (one["0020000D"]["Value"], one["0020000E"]["Value"], one["00201209"]["Value"]) == (["1.2.3"], ["1.2.3.1"], [1])
    two = query_result("instance", STUDY, series, instance, {}, "u")
    assert two["0020000E"]["Value"] == ["1.2.3.1"]
    assert two["00080018"]["Value"] == ["1.2.3.1.1"]
    assert two["00083002"]["Value"] == ["1.2.840.10008.1.2.1"]
    assert (two["00280010"]["Value"], two["00280011"]["Value"], two["00280008"]["Value"]) == ([4], [5], [1])
    assert set(REQUIRED["instance"]) <= set(two)


def test_a_study_without_patient_id_does_not_show_its_own_uid_as_one() -> None:
    nobody = Study("1.2.3", Patient(PatientIdentifier("1.2.3", AssigningAuthority("1.2.9"))))
    assert query_result("study", nobody, None, None, {}, "u")["00100020"] == {"vr": "LO"}
