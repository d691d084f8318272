"""Identifiers of queries: pydicom is the oracle, both ways; character sets; what is refused."""

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

from profiles import character_sets
from profiles.part10 import HeaderError
from profiles.query_identifier import MAX_KEYS, Identifier, Key, Projection, read
from profiles.vocabulary import EXPLICIT_VR_BIG_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN

SYNTAXES = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN)


def encoded(dataset: Dataset, syntax: str) -> bytes:
    """By pydicom."""
    buffer = DicomBytesIO()
    buffer.is_little_endian = syntax != EXPLICIT_VR_BIG_ENDIAN
    buffer.is_implicit_VR = syntax == IMPLICIT_VR_LITTLE_ENDIAN
    dataset.set_original_encoding(buffer.is_implicit_VR, buffer.is_little_endian)
    write_dataset(buffer, dataset)
    return buffer.getvalue()


def decoded(data: bytes, syntax: str) -> Dataset:
    """By pydicom."""
    return read_dataset(BytesIO(data), syntax == IMPLICIT_VR_LITTLE_ENDIAN, syntax != EXPLICIT_VR_BIG_ENDIAN)


def query(**values: object) -> Dataset:
    made = Dataset()
    for name, value in values.items():
        setattr(made, name, value)
    return made


# --- what is asked


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_values_are_read_as_text(syntax: str) -> None:
    step = query(Modality="CT", ScheduledProcedureStepStartDate="20260101-20260131", ScheduledStationAETitle="")
    asked = query(
        QueryRetrieveLevel="STUDY", StudyDate="20260101-", StudyTime="-1200", PatientName="Doe^J*", StudyInstanceUID=["1.2", "1.3"],
        ModalitiesInStudy=["CT", "MR"], PatientID="", Rows=512, ScheduledProcedureStepSequence=Sequence([step]), ReferencedStudySequence=[],
    )  # fmt: skip
    found = read(encoded(asked, syntax), syntax)
    assert found.value("00080052") == "STUDY"
    assert found.matching() == {
        ("00080020",): "20260101-",
        ("00080030",): "-1200",
        ("00080052",): "STUDY",
        ("00080061",): "CT\\MR",
        ("00100010",): "Doe^J*",
        ("0020000D",): "1.2\\1.3",
        ("00280010",): "512",
        ("00400100", "00080060"): "CT",
        ("00400100", "00400002"): "20260101-20260131",
    }
    assert "00100020" in found
    assert found.value("00100020") == ""
    assert [key.items for key in found.keys if key.tag == "00081110"] == [()]


@pytest.mark.parametrize(
    ("terms", "name"),
    [
        ("ISO_IR 100", "Müller^Åsa*"),
        ("ISO_IR 144", "Люкceмбypг"),
        ("ISO_IR 192", "Wang^XiaoDong=王^小东"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["ISO 2022 IR 13", "ISO 2022 IR 87"], "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
    ],
)
def test_a_query_is_decoded_by_its_own_character_set(terms: str | list[str], name: str) -> None:
    data = encoded(query(SpecificCharacterSet=terms, PatientName=name), EXPLICIT_VR_LITTLE_ENDIAN)
    found = read(data, EXPLICIT_VR_LITTLE_ENDIAN)
    assert found.value("00100010") == name
    assert found.character_set == ((terms,) if isinstance(terms, str) else tuple(terms))
    assert "00080005" not in found


def test_what_is_no_identifier_is_refused() -> None:
    whole = encoded(query(PatientName="Doe^Jane", PatientID="1"), EXPLICIT_VR_LITTLE_ENDIAN)
    two = encoded(
        query(ScheduledProcedureStepSequence=Sequence([query(Modality="CT"), query(Modality="MR")])), EXPLICIT_VR_LITTLE_ENDIAN
    )
    many = query()
    for number in range(MAX_KEYS + 1):
        many.add_new(0x00090010 if not number else 0x00091000 + number, "LO", "A")
    for data in (whole[:-3], b"\xff" * 20, two, encoded(many, EXPLICIT_VR_LITTLE_ENDIAN)):
        with pytest.raises(HeaderError):
            read(data, EXPLICIT_VR_LITTLE_ENDIAN)


@given(data=st.binary(max_size=200), syntax=st.sampled_from(SYNTAXES))
def test_any_bytes_are_an_identifier_or_refused(data: bytes, syntax: str) -> None:
    try:
        found = read(data, syntax)
    except HeaderError:
        return
    assert isinstance(found, Identifier)


# --- results

_TEXT = st.text(
    st.characters(codec="utf-8", exclude_characters="\\^=\0 ", exclude_categories=("Cc", "Cs")), min_size=1, max_size=12
)
_RESULT = st.fixed_dictionaries(
    {},
    optional={
        "00080020": st.just({"vr": "DA", "Value": ["20260105"]}),
        "00080061": st.lists(st.sampled_from(["CT", "MR", "SR"]), min_size=1, max_size=3).map(lambda v: {"vr": "CS", "Value": v}),
        "00081030": st.lists(_TEXT, min_size=1, max_size=2).map(lambda v: {"vr": "LO", "Value": v}),
        "00100010": st.fixed_dictionaries({"Alphabetic": _TEXT}, optional={"Ideographic": _TEXT, "Phonetic": _TEXT}).map(
            lambda v: {"vr": "PN", "Value": [v]}
        ),
        "00101030": st.floats(1e-6, 1e9).map(lambda v: {"vr": "DS", "Value": [v]}),
        "0020000D": st.just({"vr": "UI", "Value": ["1.2.3"]}),
        "00201208": st.integers(0, 10**6).map(lambda v: {"vr": "IS", "Value": [v]}),
        "00280010": st.integers(0, 65535).map(lambda v: {"vr": "US", "Value": [v]}),
        "00081110": _TEXT.map(lambda v: {"vr": "SQ", "Value": [{"00081150": {"vr": "UI", "Value": ["1.2"]}, "00081030": {"vr": "LO", "Value": [v]}}]}),
    },
)  # fmt: skip
_ASKED = (
    Key("00080020", "DA"), Key("00080061", "CS"), Key("00081030", "LO"), Key("00081110", "SQ"), Key("00100010", "PN"), Key("00101030", "DS"),
    Key("0020000D", "UI"), Key("00201208", "IS"), Key("00280010", "US"),
)  # fmt: skip


@given(
    result=_RESULT,
    syntax=st.sampled_from(SYNTAXES),
    terms=st.sampled_from([(), ("ISO_IR 100",), ("ISO_IR 192",), ("", "ISO 2022 IR 87")]),
)
def test_results_are_what_pydicom_reads(result: dict[str, dict[str, object]], syntax: str, terms: tuple[str, ...]) -> None:
    found = decoded(Projection(_ASKED, terms, syntax).write(result), syntax)
    assert [f"{element.tag:08X}" for element in found if element.tag != 0x00080005] == [key.tag for key in _ASKED]
    for key in _ASKED:
        values = result.get(key.tag, {}).get("Value", [])
        element = found[int(key.tag, 16)]
        if not values:
            assert not element.value
        elif key.vr == "PN":
            (name,) = values  # type: ignore[misc]
            groups = [name.get(group, "") for group in ("Alphabetic", "Ideographic", "Phonetic")]
            assert str(element.value) == "=".join(groups).rstrip("=")
        elif key.vr == "SQ":
            assert element.value[0].ReferencedSOPClassUID == "1.2"
            assert element.value[0].StudyDescription == values[0]["00081030"]["Value"][0]  # type: ignore[index]
        elif key.vr == "DS":
            assert float(element.value) == pytest.approx(values[0])  # type: ignore[index]
        else:
            assert (list(element.value) if element.VM > 1 else [element.value]) == values


def test_only_what_was_asked_for_within_sequences() -> None:
    item = {"00081150": {"vr": "UI", "Value": ["1.2"]}, "00081155": {"vr": "UI", "Value": ["1.3"]}}
    asked = (Key("00081110", "SQ", items=(Key("00081155", "UI"),)),)
    found = decoded(Projection(asked, (), SYNTAXES[0]).write({"00081110": {"vr": "SQ", "Value": [item]}}), SYNTAXES[0])
    assert [element.keyword for element in found.ReferencedStudySequence[0]] == ["ReferencedSOPInstanceUID"]


@pytest.mark.parametrize(
    ("terms", "name", "answered"),
    [
        ((), "Doe^Jane", None),
        ((), "Müller^Åsa", "ISO_IR 192"),
        (("ISO_IR 100",), "Müller^Åsa", "ISO_IR 100"),
        (("ISO_IR 100",), "山田", "ISO_IR 192"),
        (("GB18030",), "王^小东", "GB18030"),
        (("", "ISO 2022 IR 87"), "Yamada=山田", ["", "ISO 2022 IR 87"]),
        (("", "ISO 2022 IR 87"), "Müller", "ISO_IR 192"),
        (("NO SUCH SET",), "Müller", "ISO_IR 192"),
    ],
)
def test_answers_in_the_requestors_set_or_utf8(terms: tuple[str, ...], name: str, answered: object) -> None:
    groups = dict(zip(("Alphabetic", "Ideographic"), name.split("="), strict=False))
    data = Projection((Key("00100010", "PN"),), terms, SYNTAXES[0]).write({"00100010": {"vr": "PN", "Value": [groups]}})
    found = decoded(data, SYNTAXES[0])
    assert str(found.PatientName) == name
    assert found.get("SpecificCharacterSet") == answered


# --- character sets, PS3.5 section 6.1.2.5


@pytest.mark.parametrize(
    ("terms", "text"),
    [
        ("\\ISO 2022 IR 87", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("\\ISO 2022 IR 87", "Yama山b^c"),
        ("ISO 2022 IR 13\\ISO 2022 IR 87", "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"),
        ("\\ISO 2022 IR 87\\ISO 2022 IR 159", "=丂^x"),
        ("\\ISO 2022 IR 149", "Hong^Gildong=洪^吉洞=홍^길동"),
        ("\\ISO 2022 IR 58", "Zhang^XiaoDong=张^小东"),
        ("\\ISO 2022 IR 100\\ISO 2022 IR 144", "Müller^Люк"),
        ("GBK", "王^小东"),
        ("ISO_IR 166", "นามสกุล"),
    ],
)
def test_character_sets_round_trip(terms: str, text: str) -> None:
    codecs = character_sets.encodings(terms.encode())
    data = character_sets.encode(text, codecs, person_name=True)
    assert data is not None
    assert character_sets.decode(data, codecs, person_name=True) == text
    made = Dataset()
    made.SpecificCharacterSet = terms.split("\\")
    made.add_new(0x00100010, "PN", b"")
    if "58" not in terms:  # pydicom leaves the escape sequence of IR 58 in the text
        raw = Projection((Key("00100010", "PN"),), tuple(terms.split("\\")), SYNTAXES[0]).write(
            {
                "00100010": {
                    "vr": "PN",
                    "Value": [dict(zip(("Alphabetic", "Ideographic", "Phonetic"), text.split("="), strict=False))],
                }
            }
        )
        assert str(decoded(raw, SYNTAXES[0]).PatientName) == text


@given(
    text=st.text(max_size=20),
    terms=st.sampled_from(
        [(), ("ISO_IR 100",), ("ISO_IR 13",), ("GB18030",), ("", "ISO 2022 IR 87", "ISO 2022 IR 159"), ("", "ISO 2022 IR 149")]
    ),
)
def test_text_is_encoded_so_that_it_comes_back_or_not_at_all(text: str, terms: tuple[str, ...]) -> None:
    codecs = character_sets.of_terms(terms)
    data = character_sets.encode(text, codecs)
    assert data is None or text.isascii() or character_sets.decode(data, codecs) == text.rstrip(" \0")
