"""The DICOM JSON Model as bytes: what our reader makes of them is the model again, and pydicom reads the same."""

import base64
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread

from profiles import part10
from profiles.data_set_writer import Bulk, Extent, ModelError, encode, part10_head, size
from profiles.dicom_json import metadata

NAMES = {"00080016": {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.2"]}, "00080018": {"vr": "UI", "Value": ["1.2.3"]}}
HEAD = part10_head("1.2.840.10008.5.1.4.1.1.2", "1.2.3", "1.2.840.10008.1.2.1")


def written(model: dict[str, Any], bulk: dict[str, Bulk] | None = None, data: bytes = b"") -> bytes:
    pieces = encode(model, bulk or {})
    body = b"".join(p if isinstance(p, bytes) else data[p.offset : p.offset + p.length] for p in pieces)
    assert len(body) == size(pieces)
    return body


def read(body: bytes) -> dict[str, Any]:
    return metadata(part10.parse(BytesIO(HEAD + body)).dataset, lambda path: path, threshold=1 << 20)


words = st.text(st.characters(exclude_characters="\\", exclude_categories=("C", "Z")), min_size=1, max_size=8)
ascii_words = st.text(st.sampled_from("ABCDEF0123456789_"), min_size=1, max_size=16)
inline = st.binary(min_size=2, max_size=30).filter(lambda b: len(b) % 2 == 0)
names = st.dictionaries(
    st.sampled_from(["Alphabetic", "Ideographic", "Phonetic"]), words.filter(lambda w: "=" not in w and "^" not in w), min_size=1
)
VALUES = {
    "00080060": ("CS", ascii_words), "00081030": ("LO", words), "00100010": ("PN", names), "00204000": ("LT", words),
    "00280010": ("US", st.integers(0, 65535)), "00189219": ("SS", st.integers(-32768, 32767)), "00186020": ("SL", st.integers(-(2**31), 2**31 - 1)),
    "00186018": ("UL", st.integers(0, 2**32 - 1)), "00189087": ("FD", st.floats(allow_nan=False, allow_infinity=False)),
    "00200013": ("IS", st.integers(-(2**31), 2**31 - 1)), "00280009": ("AT", st.from_regex(r"[0-9A-F]{8}", fullmatch=True)),
    "0040A124": ("UI", st.just("1.2.840.113619")), "00091001": ("UN", None), "00091002": ("OB", None), "00291003": ("OW", None),
    "00180050": ("DS", st.integers(-999, 999).map(lambda n: n / 8)), "00080008": ("CS", ascii_words),
}  # fmt: skip
SINGLE = {"LT"}


@st.composite
def attribute(draw: Any, tag: str) -> dict[str, Any]:
    vr, values = VALUES[tag]
    if values is None:
        return {"vr": vr, "InlineBinary": base64.b64encode(draw(inline)).decode()}
    return {"vr": vr, "Value": draw(st.lists(values, min_size=1, max_size=1 if vr in SINGLE else 3))}


def models(depth: int) -> st.SearchStrategy[dict[str, Any]]:
    flat = st.fixed_dictionaries({}, optional={tag: attribute(tag) for tag in VALUES})
    if not depth:
        return flat
    sequence = st.lists(models(depth - 1), max_size=2).map(lambda items: {"vr": "SQ", "Value": items} if items else {"vr": "SQ"})
    return st.tuples(flat, st.none() | sequence).map(lambda pair: pair[0] | ({"00400275": pair[1]} if pair[1] else {}))


@given(models(2))
def test_a_model_that_is_written_is_read_again(model: dict[str, Any]) -> None:
    whole = {**NAMES, **model}
    found = read(written(whole))
    found.pop("00080005", None)
    assert found == dict(sorted(whole.items()))


@given(models(1))
def test_pydicom_reads_the_same(model: dict[str, Any]) -> None:
    dataset = dcmread(BytesIO(HEAD + written({**NAMES, **model})))
    assert {f"{element.tag:08X}" for element in dataset} - {"00080005"} == set(NAMES) | set(model)
    if "00280010" in model:
        assert dataset["Rows"].value == (
            model["00280010"]["Value"][0] if len(model["00280010"]["Value"]) == 1 else model["00280010"]["Value"]
        )


def test_text_is_utf_8_and_says_so() -> None:
    found = dcmread(BytesIO(HEAD + written({**NAMES, "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Buc^Jérôme"}]}})))
    assert found.SpecificCharacterSet == "ISO_IR 192"
    assert str(found.PatientName) == "Buc^Jérôme"
    latin = {**NAMES, "00080005": {"vr": "CS", "Value": ["ISO_IR 100"]}}
    assert dcmread(BytesIO(HEAD + written(latin))).SpecificCharacterSet == "ISO_IR 192"
    assert "00080005" not in read(written(NAMES))


def test_bulk_data_are_named_and_not_held() -> None:
    model = {**NAMES, "00420011": {"vr": "OB", "BulkDataURI": "a"}, "7FE00010": {"vr": "OW", "BulkDataURI": "b"}}
    bulk = {"a": Bulk((Extent(0, 3),)), "b": Bulk((Extent(3, 4), Extent(7, 2)))}
    found = dcmread(BytesIO(HEAD + written(model, bulk, b"abc012345")))
    assert found.EncapsulatedDocument == b"abc\0"
    assert found.PixelData == b"012345"


def test_frames_are_fragments_behind_an_offset_table() -> None:
    model = {**NAMES, "00280008": {"vr": "IS", "Value": [2]}, "7FE00010": {"vr": "OB", "BulkDataURI": "b"}}
    body = written(model, {"b": Bulk((Extent(0, 3), Extent(3, 4)), encapsulated=True)}, b"abc0123")
    assert body.endswith(
        b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff" b"\xfe\xff\x00\xe0\x08\0\0\0\0\0\0\0\x0c\0\0\0"
        b"\xfe\xff\x00\xe0\x04\0\0\0abc\0" b"\xfe\xff\x00\xe0\x04\0\0\x000123" b"\xfe\xff\xdd\xe0\0\0\0\0"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("tag", "attribute", "said"),
    [
        ("0010001", {"vr": "LO"}, "eight"), ("00100020", "x", "object"), ("00100020", {}, "vr"), ("00100020", {"vr": "XX"}, "vr"),
        ("00100020", {"vr": "LO", "Value": "x"}, "array"), ("00100020", {"vr": "LO", "Value": [{}]}, "VR LO"), ("00100020", {"vr": ["LO"]}, "vr"),
        ("00280010", {"vr": "US", "Value": [70000]}, "VR US"), ("00280010", {"vr": "US", "Value": ["1"]}, "VR US"),
        ("00280010", {"vr": "US", "Value": [True]}, "VR US"), ("7FE00010", {"vr": "OW", "Value": [1]}, "InlineBinary"),
        ("7FE00010", {"vr": "OW", "InlineBinary": "="}, "base64"), ("7FE00010", {"vr": "OW", "InlineBinary": 3}, "base64"),
        ("7FE00010", {"vr": "OW", "BulkDataURI": "http://127.0.0.1/"}, "Content-Location"), ("7FE00010", {"vr": "OW", "BulkDataURI": []}, "Content-Location"),
        ("7FE00010", {"vr": "OW", "BulkDataURI": "b", "InlineBinary": "AAAA"}, "more than one"), ("FFFEE000", {"vr": "UN"}, "group"),
        ("00400275", {"vr": "SQ", "Value": [1]}, "item"), ("00400275", {"vr": "SQ", "Value": {}}, "array"), ("00400275", {"vr": "SQ", "InlineBinary": "AAAA"}, "array"),
        ("00280009", {"vr": "AT", "Value": ["0010"]}, "VR AT"), ("00100010", {"vr": "PN", "Value": [{"Alphabetic": 1}]}, "VR PN"),
        ("00100020", {"vr": "LO", "Value": ["\ud800"]}, "Unicode"), ("00189087", {"vr": "FD", "Value": ["1"]}, "VR FD"),
    ],
)  # fmt: skip
def test_what_is_no_model_is_refused_by_its_rule(tag: str, attribute: Any, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        encode({**NAMES, tag: attribute}, {})


def test_depth_and_doubles() -> None:
    deep: dict[str, Any] = {}
    for _ in range(70):
        deep = {"00400275": {"vr": "SQ", "Value": [deep]}}
    with pytest.raises(ModelError, match="deeper"):
        encode(deep, {})
    with pytest.raises(ModelError, match="twice"):
        encode({"0008103e": {"vr": "LO"}, "0008103E": {"vr": "LO"}}, {})


def test_a_value_too_long_for_its_vr_is_unknown() -> None:
    found = dcmread(BytesIO(HEAD + written({**NAMES, "00204000": {"vr": "LT", "Value": ["x" * 70_001]}})))
    assert len(found.ImageComments) >= 70_001
