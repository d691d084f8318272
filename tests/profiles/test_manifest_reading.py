"""Manifests of partners with small faults."""

from collections.abc import Callable
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from conformance.generated import studies
from profiles import manifest, manifest_reading
from profiles.identifiers import AssigningAuthority, PatientIdentifier
from profiles.manifest import NotAManifest, ReferencedInstance, ReferencedSeries
from profiles.manifest_reading import read
from profiles.study import Instance, Patient, Series, Study

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "testdata"
CT = "1.2.840.10008.5.1.4.1.1.2"
STUDY = Study(
    study_instance_uid="1.2.3",
    patient=Patient(PatientIdentifier("4711", AssigningAuthority("1.2.9")), "Müller^Jürgen", "19610704", "M"),
    accession_number="A-1",
    series=tuple(
        Series(f"1.2.3.{s}", "CT", s, instances=tuple(Instance(f"1.2.3.{s}.{n}", CT, "1.2.840.10008.1.2.1", frames=1) for n in (1, 2)))
        for s in (1, 2)
    ),
)  # fmt: skip


def built(study: Study = STUDY) -> bytes:
    return manifest.build(
        study, sop_instance_uid="1.2.3.99.1", series_instance_uid="1.2.3.99", created=datetime(2026, 1, 8, tzinfo=UTC), zone=UTC,
        retrieve_ae_title="AE", retrieve_location_uid="1.2.77", retrieve_url="https://images.example.org/dicomweb",
    )  # fmt: skip


def written(dataset: Dataset, *, implicit: bool = False, little: bool = True) -> bytes:
    """The data set alone, without anything before it."""
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = implicit, little
    write_dataset(buffer, dataset)
    return buffer.getvalue()


def changed(change: Callable[[Dataset], object]) -> bytes:
    dataset = dcmread(BytesIO(built()))
    change(dataset)
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def series_of(dataset: Dataset, number: int = 0) -> Dataset:
    item = dataset.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[number]
    assert isinstance(item, Dataset)
    return item


def other_evidence(dataset: Dataset) -> None:
    dataset.PertinentOtherEvidenceSequence = dataset.CurrentRequestedProcedureEvidenceSequence
    del dataset.CurrentRequestedProcedureEvidenceSequence


def names_nothing(dataset: Dataset) -> None:
    del dataset.ContentSequence, dataset.CurrentRequestedProcedureEvidenceSequence


def test_a_good_manifest_has_no_fault() -> None:
    made = read(built())
    assert (made.content, made.faults) == (manifest.read(built()), ())


@given(studies(max_series=3, max_instances=3))
@settings(deadline=None, max_examples=30)
def test_what_is_built_is_read_back_without_fault(study: Study) -> None:
    made = read(built(study))
    assert (made.content, made.faults) == (manifest.read(built(study)), ())


META = built()[128:].index(b"\x08\x00\x05\x00") + 128
"""Where the data set begins."""


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (built()[128:], "preamble"),
        (built()[132:], "preamble"),
        (built()[META:], "File Meta Information is missing"),
        (written(dcmread(BytesIO(built())), implicit=True), "File Meta Information is missing"),
        (written(dcmread(BytesIO(built())), little=False), "File Meta Information is missing"),
        (built()[:META] + written(dcmread(BytesIO(built())), implicit=True), ""),
        (built().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.2\0"), "Transfer Syntax UID"),
        (built().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2\0\0\0"), "Transfer Syntax UID"),
        (built().replace(b"1.2.840.10008.1.2.1\0", b" " * 20), "Transfer Syntax UID"),
        (built() + b"\r\n", "line ends"),
        (built() + b"\0\0\0\0", ""),
        (built() + b"\0" * 512, ""),
        (built() + b"\xfc\xff\xfc\xffOB\0\0\x04\0\0\0\0\0\0\0", ""),
        (built().replace(b"ISO_IR 192", b"UTF_LATIN1"), ""),
    ],
    ids=[
        "DICM", "meta", "bare", "bare implicit", "bare big endian", "implicit, not said", "little, said big", "explicit, said implicit",
        "no transfer syntax", "line end", "padded", "padded much", "padding element", "unknown character set",
    ],
)  # fmt: skip
def test_a_wrong_beginning_or_end_is_seen_past(data: bytes, fault: str) -> None:
    made = read(data)
    assert made.content == manifest.read(built())
    assert fault in " ".join(made.faults)
    assert bool(made.faults) == bool(fault)


def test_values_of_odd_length_are_read() -> None:
    odd = built()[META:].replace(b"UI\x06\x001.2.3\0", b"UI\x05\x001.2.3", 1)
    assert len(odd) % 2 == 1
    assert read(odd).content == manifest.read(built())


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda d: setattr(series_of(d), "SeriesInstanceUID", " 1.2.3.1 "), ""),
        (lambda d: setattr(series_of(d), "RetrieveAETitle", ["AE", "OTHER"]), ""),
        (
            lambda d: series_of(d).ReferencedSOPSequence.append(series_of(d).ReferencedSOPSequence[0]),
            "more than once in its series",
        ),
        (
            lambda d: d.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence.append(series_of(d)),
            "a series stands in the evidence more than once",
        ),
        (lambda d: series_of(d).ReferencedSOPSequence.append(Dataset()), "a Referenced SOP Instance UID (0008,1155) is missing"),
        (lambda d: delattr(d, "SOPClassUID"), "SOP Class UID (0008,0016) is missing"),
        (other_evidence, "(0040,A375) names no instance"),
        (
            lambda d: delattr(d.CurrentRequestedProcedureEvidenceSequence[0], "StudyInstanceUID"),
            "a Study Instance UID of the evidence is missing",
        ),
    ],
)
def test_slips_in_the_evidence_change_nothing(change: Callable[[Dataset], object], fault: str) -> None:
    made = read(changed(change))
    assert made.content == manifest.read(built())
    assert fault in " ".join(made.faults)
    assert bool(made.faults) == bool(fault)


@pytest.mark.parametrize("place", ["instance", "study", "document"])
def test_places_may_stand_elsewhere_than_in_the_series(place: str) -> None:
    def move(dataset: Dataset) -> None:
        study = dataset.CurrentRequestedProcedureEvidenceSequence[0]
        for item in study.ReferencedSeriesSequence:
            location = item.RetrieveLocationUID
            del item.RetrieveLocationUID
            target = {"instance": item.ReferencedSOPSequence[0], "study": study, "document": dataset}[place]
            target.RetrieveLocationUID = location

    assert [each.retrieve_location_uid for each in read(changed(move)).content.series] == ["1.2.77", "1.2.77"]


def test_a_series_without_place_is_named_all_the_same() -> None:
    def empty(dataset: Dataset) -> None:
        series_of(dataset).RetrieveAETitle = ""
        series_of(dataset).RetrieveLocationUID = "none"
        series_of(dataset).RetrieveURL = "ftp://images.example.org"
        series_of(dataset, 1).RetrieveAETitle = None
        del series_of(dataset, 1).RetrieveLocationUID

    made = read(changed(empty))
    first, second = made.content.series
    assert (first.retrieve_ae_title, first.retrieve_location_uid, first.retrieve_url) == ("", "", "")
    assert (second.retrieve_ae_title, second.retrieve_location_uid) == ("", "")
    assert second.retrieve_url.endswith("/series/1.2.3.2")
    assert made.faults == (
        "a Retrieve Location UID (0040,E011) is no UID (PS3.5 section 9.1)",
        "a Retrieve URL (0008,1190) is no URL of http or https",
        "a series has neither Retrieve Location UID nor Retrieve URL (RAD TF-3 section 4.68.4.1.2)",
    )


def test_content_items_alone_name_instances_without_their_series() -> None:
    made = read(changed(lambda d: delattr(d, "CurrentRequestedProcedureEvidenceSequence")))
    instances = tuple(ReferencedInstance(CT, f"1.2.3.{s}.{n}") for s in (1, 2) for n in (1, 2))
    assert made.content.series == (ReferencedSeries("1.2.3", "", instances),)
    assert any("content items" in fault for fault in made.faults)


def test_content_items_are_found_in_containers_but_not_without_end() -> None:
    def nest(dataset: Dataset, levels: int) -> None:
        del dataset.CurrentRequestedProcedureEvidenceSequence
        for _ in range(levels):
            outer = Dataset()
            outer.ContentSequence = dataset.ContentSequence
            dataset.ContentSequence = Sequence([outer])

    assert len(read(changed(lambda d: nest(d, 3))).content.series[0].instances) == 4
    with pytest.raises(NotAManifest):
        read(changed(lambda d: nest(d, manifest_reading.MOST_DEEP)))


def test_several_studies_are_told_apart() -> None:
    def second(dataset: Dataset) -> None:
        other = Dataset()
        other.StudyInstanceUID = "1.2.4"
        other.ReferencedSeriesSequence = Sequence([series_of(dataset, 1)])
        del dataset.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[1]
        dataset.CurrentRequestedProcedureEvidenceSequence.append(other)

    assert read(changed(second)).content.studies == ("1.2.3", "1.2.4")


def title(dataset: Dataset, code: str) -> None:
    dataset.ConceptNameCodeSequence[0].CodeValue = code


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "begins with 128 bytes"),
        (b"<xml/>", "begins with 128 bytes"),
        (b"%PDF-1.7", "begins with 128 bytes"),
        (bytes(600), "."),
        (built()[:-20], "truncated"),
        (built()[META:-20], "truncated"),
        (changed(lambda d: setattr(d, "SOPClassUID", CT)), "is not Key Object Selection"),
        (changed(lambda d: title(d, "113001")), "rejection note"),
        (changed(lambda d: title(d, "113039")), "rejection note"),
        (changed(names_nothing), "names no instance"),
        (b"\0" * (manifest_reading.MOST_BYTES + 1), "more than 64 MiB"),
    ],
)
def test_what_is_no_manifest_is_refused_with_the_reason(data: bytes, why: str) -> None:
    with pytest.raises(NotAManifest, match=why):
        read(data)


@given(st.integers(0, 4000), st.binary(min_size=1, max_size=4))
@settings(deadline=None)
def test_damaged_bytes_are_refused_or_read(position: int, damage: bytes) -> None:
    whole = built()
    at = position % len(whole)
    for broken in (whole[:at], whole[:at] + damage + whole[at + len(damage) :], whole[at:]):
        try:
            made = read(broken)
        except NotAManifest:  # any other exception fails the test
            continue
        assert made.content.series


@pytest.mark.skipif(not SHARED.exists(), reason="../shared/testdata is not here")
def test_manifests_of_others_are_read() -> None:
    """Of NIST's toolkit and of IHE's MADO, all of them; two name an instance twice."""
    files = [*(SHARED / "ihe-rad-mado").glob("*.dcm"), *(SHARED / "nist").rglob("kos*.dcm")]
    assert len(files) > 50
    made = {file: read(file.read_bytes()) for file in files}
    assert sum(bool(each.faults) for each in made.values()) <= 2
    for file, each in made.items():
        assert each.content.studies == manifest.read(file.read_bytes()).studies
        assert all(series.retrieve_location_uid and series.instances for series in each.content.series)


def test_the_syntaxes_that_are_tried_are_those_of_the_standard() -> None:
    meta = FileMetaDataset()
    for syntax in (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian):
        dataset = dcmread(BytesIO(built()))
        meta.TransferSyntaxUID = syntax
        dataset.file_meta = meta
        buffer = BytesIO()
        dcmwrite(
            buffer, dataset, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian, enforce_file_format=True
        )
        assert read(buffer.getvalue()).content == manifest.read(built())
