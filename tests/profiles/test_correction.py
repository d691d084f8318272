"""Correcting a file: what is corrected reads as corrected, every other byte stays."""

import io
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers.generated import Made
from pydicom import dcmread, dcmwrite
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from profiles import header, part10
from profiles.correction import CannotCorrect, checked, corrected, json_corrected, patient_attributes, text
from profiles.dicom_json import metadata
from profiles.header import PatientDomains
from profiles.identifiers import AssigningAuthority, PatientIdentifier
from profiles.study import Patient

DOMAINS = PatientDomains("2.25.9", AssigningAuthority("2.25.9.1"), AssigningAuthority("2.25.9.6"))
FOLDERS = [Path(pydicom.__file__).parent / "data", Path(__file__).parents[2].parent / "shared" / "testdata"]
SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]


def _patient(name: str = "New^Name", authority: str = "2.25.9.1", value: str = "RIGHT") -> Patient:
    return Patient(PatientIdentifier(value, AssigningAuthority(authority)), name, "19700101", "M")


def _corrected(body: bytes, patient: Patient, **more: dict[str, object]) -> bytes:
    attributes = {**patient_attributes(patient, "2.25.9.1"), **{tag[1:]: value for tag, value in more.items()}}
    return b"".join(corrected(io.BytesIO(body), checked(attributes)))


def _read(body: bytes) -> tuple[Patient, str]:
    dataset, syntax, _ = header.read(io.BytesIO(body))
    study = header.extract(dataset, syntax, DOMAINS)
    return study.patient, study.study_instance_uid


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("authority", ["2.25.9.1", "1.2.3.4"])
def test_a_corrected_file_says_who_it_is_of(syntax: str, authority: str) -> None:
    dataset = Made(patient="WRONG").dataset()
    del dataset.PatientSex, dataset.AccessionNumber
    dataset.IssuerOfPatientID = "SOMEBODY"
    if syntax == ExplicitVRBigEndian:
        dataset["PixelData"].VR = "OW"
    output = io.BytesIO()
    dataset.file_meta.TransferSyntaxUID = syntax
    dcmwrite(output, dataset, enforce_file_format=True)
    body = output.getvalue()
    after = _corrected(body, _patient(authority=authority), _00080050={"vr": "SH", "Value": ["ACC"]})
    patient, uid = _read(after)
    assert (patient, uid) == (_patient(authority=authority), dataset.StudyInstanceUID)
    again, before = dcmread(io.BytesIO(after)), dcmread(io.BytesIO(body))
    assert (again.AccessionNumber, again.PixelData) == ("ACC", before.PixelData)
    changed = {element.tag for element in again} ^ {element.tag for element in before}
    assert changed <= {0x00080050, 0x00100021, 0x00100040}
    assert all(again[e.tag] == e for e in before if e.tag >> 16 != 0x0010 and e.tag != 0x00080050)


def test_every_real_file_is_corrected_or_refused_with_a_reason() -> None:
    done, refused = 0, []
    for path in _files():
        body = path.read_bytes()
        try:
            parsed = part10.parse(io.BytesIO(body))
            header.extract(parsed.dataset, parsed.transfer_syntax_uid, DOMAINS)
        except part10.HeaderError:
            continue
        try:
            after = _corrected(body, _patient())
        except CannotCorrect as error:
            refused.append((path.name, str(error)))
            continue
        done += 1
        again = part10.parse(io.BytesIO(after))
        assert header.extract(again.dataset, again.transfer_syntax_uid, DOMAINS).patient == _patient(), path
        before, now = (metadata(each.dataset, lambda p: p) for each in (parsed, again))
        want = json_corrected(before, patient_attributes(_patient(), "2.25.9.1"))
        assert {tag: v for tag, v in now.items() if tag != "00080005"} == {t: v for t, v in want.items() if t != "00080005"}, path
        if parsed.pixels is not None and again.pixels is not None:
            assert _pixels(after, again) == _pixels(body, parsed), path
    assert done > 60
    assert refused == []


def _files() -> Iterator[Path]:
    for folder in FOLDERS:
        yield from (
            path
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.suffix != ".zip" and path.stat().st_size < 4 << 20
        )


def _pixels(body: bytes, parsed: part10.Part10) -> bytes:
    assert parsed.pixels is not None
    return body[parsed.pixels.offset : parsed.pixels.offset + parsed.pixels.length]


def test_a_name_beyond_the_character_set_makes_an_ascii_file_utf8() -> None:
    dataset = Made(name="Plain^Text").dataset()
    del dataset.SpecificCharacterSet
    output = io.BytesIO()
    dcmwrite(output, dataset, enforce_file_format=True)
    after = dcmread(io.BytesIO(_corrected(output.getvalue(), _patient("Müller^Änne=山田^花子"))))
    assert (after.SpecificCharacterSet, str(after.PatientName)) == ("ISO_IR 192", "Müller^Änne=山田^花子")


def test_a_name_that_a_file_cannot_say_is_refused_and_not_garbled() -> None:
    dataset = Made(name="Grün^Uwe").dataset()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.StudyDescription = "Schädel"
    output = io.BytesIO()
    dcmwrite(output, dataset, enforce_file_format=True)
    assert _read(_corrected(output.getvalue(), _patient("Jürg^X")))[0].name == "Jürg^X"
    with pytest.raises(CannotCorrect, match="character set"):
        _corrected(output.getvalue(), _patient("山田^花子"))


@given(
    st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters="\\^="), min_size=1, max_size=40),
    st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=64),
)
def test_any_name_and_id_comes_out_as_it_went_in(name: str, value: str) -> None:
    want = _patient(name, value=value)
    got = _read(_corrected(Made().part10(), want))[0]
    assert (got.name, got.identifier.value) == (name, value)


@pytest.mark.parametrize(
    "attributes",
    [
        {}, [], {"00080018": {"vr": "UI", "Value": ["1.2"]}}, {"00100010": {"vr": "LO", "Value": ["x"]}},
        {"00100020": {"vr": "LO", "Value": ["a", "b"]}}, {"00100020": {"vr": "LO", "Value": ["a\\b"]}},
        {"00100020": {"vr": "LO", "Value": ["a" * 65]}}, {"00100024": {"vr": "SQ", "Value": [{}]}}, {"00100020": "x"},
    ],
)  # fmt: skip
def test_what_is_no_correction_is_refused(attributes: object) -> None:
    with pytest.raises(CannotCorrect):
        checked(attributes)


def test_text_of_an_attribute() -> None:
    assert text({"vr": "PN", "Value": [{"Alphabetic": "A^B", "Phonetic": "C"}]}) == "A^B==C"
    assert text({"vr": "LO"}) == ""
