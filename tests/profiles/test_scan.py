"""`profiles.scan`: it agrees with the parser on every real file or gives up, and never takes what the parser refuses."""

import io
import random
import struct
from functools import lru_cache
from pathlib import Path

import pydicom
import pydicom.encaps
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from profiles import header, part10
from profiles.dicom_json import level_attributes
from profiles.header import HeaderError, PatientDomains
from profiles.identifiers import AssigningAuthority
from profiles.phantom import phantom_study
from profiles.scan import HEAD, Scanned, scan
from profiles.study import Study

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "testdata"
PYDICOM = Path(pydicom.__file__).parent / "data"
DOMAINS = PatientDomains("1.2.3", AssigningAuthority("1.2.3.1"), AssigningAuthority("1.2.3.2"))


def scanned(body: bytes, head: int = HEAD) -> Scanned | None:
    return scan(body[:head], len(body), lambda offset, count: body[offset : offset + count])


def parsed(body: bytes) -> part10.Part10 | None:
    try:
        return part10.parse(io.BytesIO(body))
    except HeaderError:
        return None


def projected(dataset: Dataset, syntax: str) -> Study | str:
    try:
        return header.extract(dataset, syntax, DOMAINS)
    except HeaderError as error:
        return str(error)


def agrees(body: bytes, head: int = HEAD) -> bool:
    """Whether the scan took the file; then all that ingest makes of it is what the parser's header gives."""
    found = scanned(body, head)
    if found is None:
        return False
    full = parsed(body)
    assert full is not None, "the scan took what the parser refuses"
    assert (found.transfer_syntax_uid, found.dataset_offset) == (full.transfer_syntax_uid, full.dataset_offset)
    assert found.elements.keys() | ({found.pixels} - {None}) == {int(tag) for tag in full.dataset._dict}
    syntax = full.transfer_syntax_uid
    study = projected(full.dataset, syntax)
    assert projected(found.dataset(header.TAGS), syntax) == study
    if isinstance(study, Study):
        instance = header.extract_instance(found.dataset(header.INSTANCE_TAGS), syntax)
        assert instance == study.series[0].instances[0]
    whole = found.dataset(sorted({*found.elements, found.pixels or 0x7FE00010}))
    for level in ("study", "series", "instance"):
        assert level_attributes(whole, level) == level_attributes(full.dataset, level)
    return True


@lru_cache
def real_files() -> tuple[Path, ...]:
    found = {path for path in PYDICOM.rglob("*") if path.is_file()}
    if SHARED.exists():
        found |= {path for path in SHARED.rglob("*") if path.is_file() and path.stat().st_size < 20 << 20}
    return tuple(sorted(path for path in found if _preamble(path)[128:] == b"DICM"))


def _preamble(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(132)


def test_every_real_file_is_read_as_the_parser_reads_it_or_left_to_it() -> None:
    bodies = [path.read_bytes() for path in real_files()]
    taken = sum(agrees(body) for body in bodies)
    assert len(bodies) > 100
    assert taken > len(bodies) // 2, "it is there for the usual files"


def test_the_generated_study_is_taken() -> None:
    for dataset in phantom_study(1, 64):
        assert agrees(_file(dataset))


def _file(dataset: Dataset) -> bytes:
    made = io.BytesIO()
    pydicom.dcmwrite(made, dataset, enforce_file_format=True)
    return made.getvalue()


def made(syntax: str = ExplicitVRLittleEndian, **changed: object) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3.4")
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientID, dataset.PatientName, dataset.StudyInstanceUID, dataset.SeriesInstanceUID = (
        "P",
        "Møller^Åse",
        "1.2.3",
        "1.2.3.1",
    )
    dataset.Rows = dataset.Columns = 4
    dataset.BitsAllocated, dataset.SamplesPerPixel = 8, 1
    issuer = Dataset()
    issuer.UniversalEntityID, issuer.UniversalEntityIDType = "1.2.40.7", "ISO"
    dataset.IssuerOfPatientIDQualifiersSequence = Sequence([issuer])
    deep = Dataset()
    deep.ReferencedSOPInstanceUID, deep.PurposeOfReferenceCodeSequence = "1.2", Sequence([issuer, Dataset()])
    dataset.ReferencedImageSequence = Sequence([deep, deep])
    for keyword, value in changed.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_sequences_of_either_form_are_walked_through(syntax: str, undefined: bool) -> None:
    dataset = made(syntax)
    dataset.add_new(0x7FE00010, "OW", bytes(16))
    for element in dataset:
        if element.VR == "SQ":
            element.is_undefined_length = undefined
            for item in element.value:
                item.is_undefined_length_sequence_item = undefined
    body = _file(dataset)
    assert agrees(body)
    found = scanned(body)
    assert found is not None
    study = header.extract(found.dataset(header.TAGS), syntax, DOMAINS)
    assert study.patient.identifier.authority.oid == "1.2.40.7"
    assert study.patient.name == "Møller^Åse"


def test_fragments_are_walked_through_beyond_the_head() -> None:
    dataset = made(RLELossless)
    dataset.PixelData = pydicom.encaps.encapsulate([bytes(HEAD), bytes(HEAD)])
    dataset["PixelData"].is_undefined_length = True
    body = _file(dataset)
    assert agrees(body)
    for cut in (body[:-2], body[:-8], body + b"\0\0", body[: -HEAD // 2]):
        assert scanned(cut) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body[:128] + b"DICX" + body[132:],
        lambda body: body[:-1],
        lambda body: body + b"\0",
        lambda body: body + bytes(8),
        lambda body: body.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.2\0"),
        lambda body: body.replace(b"\x10\x00\x20\x00LO", b"\x10\x00\x20\x00ZZ"),
        lambda body: body.replace(b"\x10\x00\x20\x00LO", b"\x08\x00\x20\x00LO"),
    ],
    ids=["preamble", "cut", "padded", "one more", "big endian", "unknown VR", "out of order"],
)
def test_what_is_unusual_is_the_parsers(change: object) -> None:
    dataset = made()
    dataset.add_new(0x7FE00010, "OB", bytes(16))
    body = _file(dataset)
    assert agrees(body)
    assert scanned(change(body)) is None  # type: ignore[operator]


def test_a_header_longer_than_what_is_at_hand_is_the_parsers() -> None:
    dataset = made(ImageComments="x" * 5000)
    dataset.add_new(0x7FE00010, "OB", bytes(16))
    body = _file(dataset)
    assert agrees(body)
    assert scanned(body, 4096) is None


def _nested(depth: int) -> bytes:
    inner = b""
    for _ in range(depth):
        item = struct.pack("<HHI", 0xFFFE, 0xE000, len(inner)) + inner
        inner = struct.pack("<HH2s2xI", 0x0008, 0x1140, b"SQ", len(item)) + item
    return inner


def test_depth_is_limited_as_the_parser_limits_it() -> None:
    meta = bytes(128) + b"DICM" + struct.pack("<HH2sH", 2, 0x10, b"UI", 20) + b"1.2.840.10008.1.2.1\0"
    for depth in (1, 63, 64, 65, 66, 500):
        assert (scanned(meta + _nested(depth)) is None) == (parsed(meta + _nested(depth)) is None)


def test_equal_identity_bytes_mean_equal_identifiers() -> None:
    """What a batch remembers by: over all real files, never two places under one key."""
    places: dict[object, object] = {}
    for path in real_files():
        found = scanned(path.read_bytes())
        study = projected(found.dataset(header.TAGS), found.transfer_syntax_uid) if found else ""
        if found is None or not isinstance(study, Study):
            continue
        place = (study.patient.identifier, study.study_instance_uid, study.series[0].series_instance_uid)
        assert places.setdefault((found.transfer_syntax_uid, *found.raw(header.IDENTITY_TAGS)), place) == place


def test_no_identifier_comes_from_an_element_that_is_not_in_the_key() -> None:
    base = made()
    changed = made(PatientName="X", StudyID="7", AccessionNumber="A", InstanceNumber=3, SOPInstanceUID="1.9")
    raw = [found.raw(header.IDENTITY_TAGS) for each in (base, changed) if (found := scanned(_file(each)))]
    assert raw[0] == raw[1]
    for keyword, value in (("PatientID", "Q"), ("IssuerOfPatientID", "I"), ("StudyInstanceUID", "1.7"), ("SeriesInstanceUID", "1.8"),
                           ("SpecificCharacterSet", "ISO_IR 100"), ("IssuerOfPatientIDQualifiersSequence", Sequence())):  # fmt: skip
        other = scanned(_file(made(ExplicitVRLittleEndian, **{keyword: value})))
        assert other is not None
        assert other.raw(header.IDENTITY_TAGS) != raw[0], keyword


@lru_cache
def seeds() -> tuple[bytes, ...]:
    explicit, implicit = made(), made(ImplicitVRLittleEndian)
    for dataset in (explicit, implicit):
        dataset.add_new(0x7FE00010, "OW", bytes(16))
    encapsulated = made(RLELossless)
    encapsulated.PixelData = pydicom.encaps.encapsulate([b"abcd", b"efgh"])
    encapsulated["PixelData"].is_undefined_length = True
    delimited = made()
    for element in delimited:
        if element.VR == "SQ":
            element.is_undefined_length = True
            for item in element.value:
                item.is_undefined_length_sequence_item = True
    generated = tuple(_file(dataset) for dataset in (explicit, implicit, encapsulated, delimited))
    small = [path.read_bytes() for path in real_files() if path.stat().st_size < 12_000 and path.is_relative_to(PYDICOM)]
    return generated + tuple(body for body in small if scanned(body))


@given(st.integers(0, 10_000), st.integers(0, 1 << 32), st.sampled_from(["flip", "cut", "drop", "double", "length", "splice"]))
@example(0, 0, "cut")
def test_no_change_makes_it_take_what_the_parser_refuses(which: int, seed: int, how: str) -> None:
    """Thirty changes of one kind to one file; what is still taken is still agreed on."""
    bodies = seeds()
    body, chance = bodies[which % len(bodies)], random.Random(seed)
    for _ in range(30):
        agrees(_mutated(body, bodies, how, chance))


def _mutated(body: bytes, bodies: tuple[bytes, ...], how: str, chance: random.Random) -> bytes:
    at = chance.randrange(len(body))
    near = at + chance.randrange(1, 24)
    match how:
        case "flip":
            changed = bytearray(body)
            for _ in range(chance.randrange(1, 4)):
                changed[chance.randrange(len(changed))] = chance.choice(
                    (0, 1, 2, 8, 0x7F, 0xFF, 0xFE, 0xE0, chance.randrange(256))
                )
            return bytes(changed)
        case "cut":
            return body[:at]
        case "drop":
            return body[:at] + body[near:]
        case "double":
            return body[:near] + body[at:]
        case "length":
            word = struct.pack("<I", chance.choice((0, 2, 8, 0xFFFFFFFF, 0xFFFFFFFE, len(body), len(body) - at)))
            return body[:at] + word + body[at + 4 :]
        case _:
            other = chance.choice(bodies)
            return body[:at] + other[chance.randrange(len(other)) :]
