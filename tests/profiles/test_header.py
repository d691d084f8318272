"""`profiles.part10` and `profiles.header`: real files agree with pydicom, dirty ones are understood, hostile ones refused."""

import contextlib
import io
import struct
import tracemalloc
import warnings
import zlib
from pathlib import Path

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

from profiles import part10
from profiles.header import HeaderError, PatientDomains, extract, read
from profiles.identifiers import AssigningAuthority

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "testdata"
PYDICOM = Path(pydicom.__file__).parent / "data"
CORPUS = sorted(path for path in PYDICOM.rglob("*") if path.is_file())
DOMAINS = PatientDomains(
    root="1.2.3",
    default=AssigningAuthority("1.2.3.1"),
    unidentified=AssigningAuthority("1.2.3.2"),
    named={"WEST": AssigningAuthority("1.2.3.9", "WEST")},
)
UIDS = {0x00080016: "1.2.840.10008.5.1.4.1.1.7", 0x00080018: "1.2.3.4.1", 0x0020000D: "1.2.3.4.2", 0x0020000E: "1.2.3.4.3"}


def short(tag: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def long(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    return struct.pack("<HH2s2xI", tag >> 16, tag & 0xFFFF, vr, len(value) if length is None else length) + value


def item(value: bytes, length: int | None = None) -> bytes:
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(value) if length is None else length) + value


def padded(text: str) -> bytes:
    raw = text.encode()
    return raw + b"\0" * (len(raw) % 2)


def part10_file(body: bytes, syntax: str = "1.2.840.10008.1.2.1") -> io.BytesIO:
    return io.BytesIO(bytes(128) + b"DICM" + short(0x00020010, b"UI", padded(syntax)) + body)


def header_bytes(**changed: bytes) -> bytes:
    """A smallest header: the four UIDs, and elements of `changed` by tag (`t00100010=...` whole elements)."""
    elements = {tag: short(tag, b"UI", padded(value)) for tag, value in UIDS.items()}
    elements.update({int(name[1:], 16): element for name, element in changed.items()})
    return b"".join(elements[tag] for tag in sorted(elements))


def dataset(**values: object) -> Dataset:
    result = Dataset()
    for tag, value in UIDS.items():
        result.add_new(tag, "UI", value)
    for keyword, value in values.items():
        setattr(result, keyword, value)
    return result


def same(theirs: Dataset, ours: Dataset, where: str) -> None:
    assert set(theirs.keys()) == set(ours.keys()), where
    for tag in theirs.keys():  # noqa: SIM118 - iterating a Dataset gives elements, and converts them
        raw = part10.stored(ours, tag)
        if raw is not None and raw.value is None:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                expected = theirs[tag]
            except (ValueError, NotImplementedError):
                continue
            found = ours[tag]
        assert found.VR == expected.VR, where
        if found.VR == "SQ":
            assert len(found.value) == len(expected.value), where
            for a, b in zip(expected.value, found.value, strict=True):
                same(a, b, where)
        else:
            assert found.value == expected.value or not (found.value or expected.value), (where, tag)


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_every_file_of_pydicom_reads_as_pydicom_reads_it_or_is_refused_with_the_reason(path: Path) -> None:
    refused = {
        "MR_truncated.dcm": "truncated",
        "rtplan_truncated.dcm": "truncated",
        "DICOMDIR-nooffset": "truncated",
        "meta_missing_tsyntax.dcm": "TransferSyntaxUID",
    }
    with path.open("rb") as file:
        preamble = file.read(132)
        if path.name in refused or preamble[128:] != b"DICM":
            with pytest.raises(HeaderError, match=refused.get(path.name, "letters DICM")):
                read(file)
            return
        ours, syntax, offset = read(file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = pydicom.dcmread(path)
    assert syntax == theirs.file_meta.TransferSyntaxUID
    assert offset > 132
    same(theirs, ours, path.name)


@pytest.mark.skipif(not SHARED.exists(), reason="../shared/testdata is not here")
def test_every_image_of_the_shared_corpus_becomes_a_study() -> None:
    count = 0
    for path in sorted((SHARED / "nist" / "ImageCache").rglob("*.dcm")):
        with path.open("rb") as file:
            study = extract(*read(file)[:2], DOMAINS)
        theirs = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["StudyInstanceUID", "PatientID", "InstanceNumber"])
        assert study.study_instance_uid == theirs.StudyInstanceUID
        assert study.patient.identifier.value == theirs.PatientID
        assert study.series[0].instances[0].number == theirs.InstanceNumber
        count += 1
    assert count > 100


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("chrArab", "قباني^لنزار"),
        ("chrFrenMulti", "Buc^Jérôme"),
        ("chrGreek", "Διονυσιος"),
        ("chrH31", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("chrH32", "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"),
        ("chrI2", "Hong^Gildong=洪^吉洞=홍^길동"),
        ("chrX1", "Wang^XiaoDong=王^小東="),
        ("chrX2", "Wang^XiaoDong=王^小东="),
    ],
)
def test_a_patient_name_is_decoded_with_its_character_set(name: str, expected: str) -> None:
    with (PYDICOM / "charset_files" / f"{name}.dcm").open("rb") as file:
        assert extract(*read(file)[:2], DOMAINS).patient.name == expected


def test_bytes_that_do_not_decode_become_replacement_characters() -> None:
    body = header_bytes(t00080005=short(0x00080005, b"CS", b"ISO_IR 192"), t00100010=short(0x00100010, b"PN", b"M\xfcller"))
    assert extract(*read(part10_file(body))[:2], DOMAINS).patient.name == "M\ufffdller"


@pytest.mark.parametrize("tag", UIDS)
@pytest.mark.parametrize("value", [b"", b"  ", b"1.2.x3", b"../../etc/passwd", b"1.2\\1.3", b"1." * 40 + b"1 "])
def test_a_missing_or_malformed_uid_is_refused_by_name_and_without_its_value(tag: int, value: bytes) -> None:
    body = header_bytes(**{f"t{tag:08X}": short(tag, b"UI", value)})
    with pytest.raises(HeaderError) as caught:
        extract(*read(part10_file(body))[:2], DOMAINS)
    assert caught.value.tag == tag
    assert part10.keyword(tag) in str(caught.value)
    assert "passwd" not in str(caught.value)


def test_a_dirty_header_is_still_a_study() -> None:
    body = header_bytes(
        t00080020=short(0x00080020, b"DA", b"2024.02.30"),
        t00080030=short(0x00080030, b"TM", b"12:34:56"),
        t00080060=short(0x00080060, b"CS", b"not a modality!!"),
        t00080201=short(0x00080201, b"SH", b"+2500 "),
        t0008103E=short(0x0008103E, b"LO", b"T" * 900),
        t00100030=short(0x00100030, b"DA", b"1970.01.02"),
        t00100040=short(0x00100040, b"CS", b"w "),
        t00200011=short(0x00200011, b"IS", b"12.0"),
        t00200013=short(0x00200013, b"IS", b"4\\5 "),
        t00280008=short(0x00280008, b"IS", b"1A"),
        t00280010=short(0x00280010, b"US", b"\x07"),
        t00281199=b"",
    )
    study = extract(*read(part10_file(body))[:2], DOMAINS)
    assert (study.date, study.time, study.timezone) == ("", "123456", "")
    assert (study.patient.birth_date, study.patient.sex) == ("19700102", "")
    series = study.series[0]
    assert (series.modality, series.number, len(series.description)) == ("OT", 12, 900)
    assert (series.instances[0].number, series.instances[0].rows, series.instances[0].frames) == (4, 0, 0)


@pytest.mark.parametrize(
    ("values", "frames"),
    [({}, 0), ({"Rows": 2, "Columns": 2}, 1), ({"Rows": 2, "Columns": 2, "NumberOfFrames": 7}, 7), ({"NumberOfFrames": 7}, 0)],
)
def test_frames_are_counted_only_where_there_are_pixels(values: dict[str, int], frames: int) -> None:
    assert extract(dataset(**values), ExplicitVRLittleEndian, DOMAINS).series[0].instances[0].frames == frames


def test_studies_without_patient_id_are_kept_apart() -> None:
    one = extract(dataset(PatientID=""), ExplicitVRLittleEndian, DOMAINS)
    two = extract(dataset(StudyInstanceUID="1.2.3.5"), ExplicitVRLittleEndian, DOMAINS)
    assert one.patient.identifier != two.patient.identifier
    assert one.patient.identifier.authority == DOMAINS.unidentified


def test_a_patient_id_with_a_backslash_is_not_cut_to_one_that_others_share() -> None:
    ids = {extract(dataset(PatientID=["WARD", n]), ExplicitVRLittleEndian, DOMAINS).patient.identifier.value for n in "12"}
    assert ids == {"WARD\\1", "WARD\\2"}


@pytest.mark.parametrize(
    ("namespace", "universal", "kind", "oid"),
    [
        ("", "", "", "1.2.3.1"),
        ("WEST", "", "", "1.2.3.9"),
        ("WEST", "1.2.40.7", "ISO", "1.2.40.7"),
        ("1.2.40.8", "", "", "1.2.40.8"),
        ("", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "UUID", "2.25.329800735698586629295641978511506172918"),
        ("WEST", "hospital.example", "DNS", "1.2.3.9"),
        ("WEST", "not an oid", "ISO", "1.2.3.9"),
    ],
)
def test_the_issuer_of_a_patient_id_is_found_in_the_order_of_the_standard(
    namespace: str, universal: str, kind: str, oid: str
) -> None:
    assert DOMAINS.authority(namespace, universal, kind).oid == oid
    header = dataset(PatientID="7", IssuerOfPatientID=namespace)
    if universal:
        qualifiers = Dataset()
        qualifiers.UniversalEntityID, qualifiers.UniversalEntityIDType = universal, kind
        header.IssuerOfPatientIDQualifiersSequence = Sequence([qualifiers])
    assert extract(header, ExplicitVRLittleEndian, DOMAINS).patient.identifier.authority.oid == oid


def test_an_unknown_issuer_has_an_authority_of_its_own_that_stays() -> None:
    east = DOMAINS.authority("EAST", "", "")
    assert east == DOMAINS.authority("EAST", "", "")
    assert east.oid not in {DOMAINS.default.oid, DOMAINS.authority("NORTH", "", "").oid}


def test_the_issuer_of_the_accession_number_is_its_oid() -> None:
    issuer = Dataset()
    issuer.UniversalEntityID, issuer.UniversalEntityIDType = "1.2.40.9", "ISO"
    study = extract(dataset(AccessionNumber="A1", IssuerOfAccessionNumberSequence=[issuer]), ExplicitVRLittleEndian, DOMAINS)
    assert (study.accession_number, study.accession_authority) == ("A1", "1.2.40.9")


# Hostile files. Each is refused, and none costs more memory than it brought.


def nested(depth: int, *, defined: bool, implicit: bool = False) -> bytes:
    inner = b""
    if defined:
        for _ in range(depth):
            body = item(inner)
            inner = struct.pack("<HHI", 0x0008, 0x1140, len(body)) + body if implicit else long(0x00081140, b"SQ", body)
        return inner
    opened = struct.pack("<HHI", 0x0008, 0x1140, 0xFFFFFFFF) if implicit else long(0x00081140, b"SQ", b"", 0xFFFFFFFF)
    return (opened + item(b"", 0xFFFFFFFF)) * depth


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize(("depth", "defined"), [(20_000, False), (500, True)])
def test_deeply_nested_sequences_are_refused(depth: int, defined: bool, implicit: bool) -> None:
    syntax = "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1"
    with pytest.raises(HeaderError, match="deeper than 64"):
        read(part10_file(nested(depth, defined=defined, implicit=implicit), syntax))


def test_nesting_as_real_files_have_it_is_read() -> None:
    found, _, _ = read(part10_file(nested(20, defined=True)))
    for _ in range(20):
        found = found[0x00081140].value[0]
    assert len(found) == 0


@pytest.mark.parametrize(
    "body",
    [
        long(0x00091001, b"OB", b"few", 0x7FFFFFFE),
        long(0x7FE00010, b"OW", b"few", 0xFFFFFFFE),
        long(0x00081140, b"SQ", item(b"", 8), 0x7FFFFFF0),
        long(0x00081140, b"SQ", item(b"", 0x7FFFFFF0), 0xFFFFFFFF),
        long(0x7FE00010, b"OB", item(b"") + item(b"abcd"), 0xFFFFFFFF),
        long(0x7FE00010, b"OB", item(b"") + item(b"abcd", 0x10000000), 0xFFFFFFFF),
        long(0x00081140, b"SQ", item(short(0x00080060, b"CS", b"CT"), 0xFFFFFFFF), 0xFFFFFFFF),
        short(0x00100010, b"PN", b"abcdef")[:-2],
        b"\x10\x00\x10",
    ],
)
def test_lengths_beyond_the_file_are_truncation(body: bytes) -> None:
    file = part10_file(body)
    tracemalloc.start()
    try:
        with pytest.raises(HeaderError, match="truncated"):
            read(file)
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (long(0x00081140, b"SQ", item(short(0x00080060, b"CS", b"CT") * 2, 12)), "longer than the item"),
        (long(0x00081140, b"SQ", item(b"") + b"\x08\x00\x60\x00CS\x02\x00CT"), "something else than items"),
        (long(0x7FE00010, b"OB", item(b"") + short(0x00080060, b"CS", b"CT"), 0xFFFFFFFF), "something else than items"),
        (item(b""), "where a data element belongs"),
    ],
)
def test_broken_structure_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(HeaderError, match=reason):
        read(part10_file(body))


def deflated(body: bytes) -> io.BytesIO:
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return part10_file(squeeze.compress(body) + squeeze.flush(), "1.2.840.10008.1.2.1.99")


def test_a_deflated_header_is_read() -> None:
    body = header_bytes(t7FE00010=long(0x7FE00010, b"OW", bytes(200_000)))
    assert extract(*read(deflated(body))[:2], DOMAINS).study_instance_uid == "1.2.3.4.2"


def test_a_deflated_bomb_is_refused_without_inflating_it() -> None:
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = squeeze.compress(long(0x00091001, b"OB", b"", 0x18000000))
    bomb += b"".join(squeeze.compress(bytes(1 << 20)) for _ in range(80)) + squeeze.flush()
    tracemalloc.start()
    try:
        with pytest.raises(HeaderError, match="64 MiB"):
            read(part10_file(bomb, "1.2.840.10008.1.2.1.99"))
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_a_deflated_file_that_is_cut_or_damaged_is_refused() -> None:
    whole = deflated(header_bytes(t7FE00010=long(0x7FE00010, b"OW", bytes(range(256)) * 100))).getvalue()
    for data in (whole[:-20], whole[:200] + b"\xff\xff\xff\xff" + whole[204:]):
        with pytest.raises(HeaderError):
            read(io.BytesIO(data))


def test_very_many_items_are_refused() -> None:
    with pytest.raises(HeaderError, match="this many"):
        read(part10_file(long(0x00081140, b"SQ", item(b"") * 260_000)))


def test_long_binary_values_stay_in_the_file() -> None:
    body = header_bytes(t00091001=long(0x00091001, b"OB", bytes(1 << 16)), t7FE00010=long(0x7FE00010, b"OW", bytes(64)))
    found, _, _ = read(part10_file(body))
    for tag, length in ((0x00091001, 1 << 16), (0x7FE00010, 64)):
        raw = part10.stored(found, tag)
        assert isinstance(raw, pydicom.dataelem.RawDataElement)
        assert (raw.value, raw.length) == (None, length)


@pytest.mark.parametrize("syntax", ["1.3.6.1.4.1.99999.1", "1.2.840.10008.1.2.4.112"])
def test_an_unknown_transfer_syntax_is_taken_if_its_header_is_explicit_little_endian(syntax: str) -> None:
    assert read(part10_file(header_bytes(), syntax))[1] == syntax
    with pytest.raises(HeaderError):
        read(part10_file(b"garbage that is no element", syntax))


@pytest.mark.parametrize("syntax", ["", "1.2.840.10008.5.1.4.1.1.2", "not a uid"])
def test_what_is_no_transfer_syntax_is_refused(syntax: str) -> None:
    with pytest.raises(HeaderError, match="TransferSyntaxUID"):
        read(part10_file(header_bytes(), syntax))


WHOLE = (PYDICOM / "test_files" / "rtplan.dcm").read_bytes()


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(WHOLE) - 1), st.binary(min_size=1, max_size=6), st.booleans())
def test_no_change_to_a_file_raises_anything_but_header_error(at: int, junk: bytes, cut: bool) -> None:
    data = WHOLE[:at] + junk + (b"" if cut else WHOLE[at + len(junk) :])
    with contextlib.suppress(HeaderError):
        found, syntax, _ = read(io.BytesIO(data))
        extract(found, syntax, DOMAINS)
