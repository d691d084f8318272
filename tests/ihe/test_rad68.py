"""What an Imaging Document Source submits, held against RAD TF-2 section 4.68.4.1.2 and the rules that any repository has."""

import hashlib
import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from io import BytesIO
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree
from peers.xds import check_schema, needs_shared
from pydicom import Dataset, dcmread

from conformance.generated import studies
from ihe import iti41, iti57, metadata_rules, rad68, xml
from ihe.ebxml import Reading
from ihe.iti41 import Provided
from ihe.metadata import By
from profiles import manifest
from profiles.document import APPROVED, DEPRECATED, HAS_MEMBER, RPLC, Code, DocumentEntry, Submission
from profiles.identifiers import AssigningAuthority, PatientIdentifier
from profiles.manifest_entry import manifest_entry
from profiles.study import Instance, Patient, Series, Study

FORMER = "urn:uuid:5d5e29a1-0a5a-4d6c-9b2e-0a4c1f3a9a11"
ENTRY = "urn:uuid:0a0a0a0a-0000-4000-8000-000000000007"
HERS = "G1^^^&1.2.100&ISO"
CT = "1.2.840.10008.5.1.4.1.1.2"
STUDY = Study(
    study_instance_uid="1.2.3", patient=Patient(PatientIdentifier("4711", AssigningAuthority("1.2.9")), "Adams^John", "19610704", "M"),
    accession_number="A1", accession_authority="1.2.8", date="20260707", time="101112", description="CT of the chest",
    series=(
        Series("1.2.3.1", "CT", 1, body_part="CHEST", instances=(Instance("1.2.3.1.1", CT, "1.2.840.10008.1.2.1", frames=1),)),
        Series("1.2.3.2", "CT", 2, body_part="CHEST", instances=(Instance("1.2.3.2.1", CT, "1.2.840.10008.1.2.1", frames=1),)),
    ),
)  # fmt: skip


class Sent(NamedTuple):
    """A submission with the bytes of its document."""

    submission: Submission
    document: bytes
    dataset: Dataset

    @property
    def entry(self) -> DocumentEntry:
        (entry,) = self.submission.documents
        return entry


def sent(study: Study = STUDY, codes: rad68.Codes = {}, replaces: str = FORMER) -> Sent:  # noqa: B006 it is only read
    document = manifest.build(
        study, sop_instance_uid="1.2.3.99.1", series_instance_uid="1.2.3.99", created=datetime(2026, 7, 8, tzinfo=UTC), zone=UTC,
        retrieve_ae_title="IMAGESHARE", retrieve_location_uid="1.2.77", retrieve_url="https://images.example.org/dicomweb",
    )  # fmt: skip
    own = manifest_entry(
        study, entry_uuid=uuid.uuid4().urn, unique_id="1.2.3.99.1", sha1=hashlib.sha1(document).hexdigest(), size=len(document),
        created="20260708000000", repository_unique_id="1.2.55", home_community_id="urn:oid:1.2.56", zone=UTC,
    )  # fmt: skip
    entry = rad68.entry_for(own, entry_uuid=ENTRY, patient_id=HERS, codes=codes)
    submission = rad68.provided(entry, source_id="1.2.5", submission_time="20260708000001", codes=codes, replaces=replaces)
    return Sent(submission, document, dcmread(BytesIO(document)))


def series(found: Sent) -> list[Dataset]:
    return list(found.dataset.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence)


RULES: list[tuple[str, Callable[[Sent], object], object]] = [
    # The document: PS3.3 A.35.4 and C.17.6, RAD TF-3 section 4.68
    ("a Key Object Selection", lambda s: s.dataset.SOPClassUID, "1.2.840.10008.5.1.4.1.1.88.59"),
    ("titled Manifest", lambda s: s.dataset.ConceptNameCodeSequence[0].CodeValue, "113030"),
    ("of modality KO", lambda s: s.dataset.Modality, "KO"),
    ("in a series of its own", lambda s: s.dataset.SeriesInstanceUID in {each.SeriesInstanceUID for each in series(s)}, False),
    ("in the study that it lists", lambda s: s.dataset.StudyInstanceUID, "1.2.3"),
    ("with Retrieve AE Title in each series", lambda s: {each.RetrieveAETitle for each in series(s)}, {"IMAGESHARE"}),
    ("with Retrieve Location UID in each series", lambda s: {each.RetrieveLocationUID for each in series(s)}, {"1.2.77"}),
    ("with the order's accession number", lambda s: s.dataset.ReferencedRequestSequence[0].AccessionNumber, "A1"),
    (
        "and who assigned it",
        lambda s: s.dataset.ReferencedRequestSequence[0].IssuerOfAccessionNumberSequence[0].UniversalEntityID,
        "1.2.8",
    ),
    ("with the patient id of the images", lambda s: s.dataset.PatientID, "4711"),
    # Its Document Entry: RAD TF-2 section 4.68.4.1.2.3
    ("uniqueId is the SOP Instance UID", lambda s: s.entry.unique_id == s.dataset.SOPInstanceUID, True),
    ("mimeType", lambda s: s.entry.mime_type, "application/dicom"),
    ("formatCode", lambda s: s.entry.format_code and s.entry.format_code.code, "1.2.840.10008.5.1.4.1.1.88.59"),
    ("formatCode's scheme", lambda s: s.entry.format_code and s.entry.format_code.scheme, "1.2.840.10008.2.6.1"),
    ("patientId is the affinity domain's", lambda s: s.entry.patient_id, HERS),
    ("sourcePatientId is the images'", lambda s: s.entry.source_patient_id, "4711^^^&1.2.9&ISO"),
    ("sourcePatientInfo", lambda s: s.entry.source_patient_info[1:], ("PID-5|Adams^John", "PID-7|19610704", "PID-8|M")),
    ("eventCodeList has each modality (CID 29) once", lambda s: s.entry.event_codes[0], Code("CT", "1.2.840.10008.2.16.4", "Computed Tomography")),
    ("eventCodeList has the anatomic region", lambda s: [each.scheme for each in s.entry.event_codes[1:]], ["2.16.840.1.113883.6.96"]),
    (
        "referenceIdList has accession number and study",
        lambda s: s.entry.reference_ids,
        ("A1^^^&1.2.8&ISO^urn:ihe:iti:xds:2013:accession", "1.2.3^^^^urn:ihe:iti:xds:2016:studyInstanceUID"),
    ),
    ("serviceStartTime is that of the study", lambda s: s.entry.service_start, "20260707101112"),
    ("title", lambda s: s.entry.title, "CT of the chest"),
    ("typeCode is there", lambda s: s.entry.type_code is not None, True),
    ("practiceSettingCode is there", lambda s: s.entry.practice_setting is not None, True),
    ("hash is of the bytes", lambda s: s.entry.hash == hashlib.sha1(s.document).hexdigest(), True),
    ("size is of the bytes", lambda s: s.entry.size == len(s.document), True),
    # The submission: ITI TF-2 section 3.41.4.1.2, ITI TF-3 section 4.2.2
    ("the repository says where it is", lambda s: (s.entry.repository_unique_id, s.entry.home_community_id), ("", "")),
    ("real ids", lambda s: all(re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", each.entry_uuid) for each in s.submission.objects()), True),
    ("the patient of the set", lambda s: s.submission.submission_set and s.submission.submission_set.patient_id, HERS),
    (
        "original member, replacing the former",
        lambda s: [(each.type, each.submission_set_status, each.target) for each in s.submission.associations],
        [(HAS_MEMBER, "Original", ENTRY), (RPLC, "", FORMER)],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("of", "expected"), [row[1:] for row in RULES], ids=[row[0] for row in RULES])
def test_what_is_submitted(of: Callable[[Sent], object], expected: object) -> None:
    found = of(sent())
    assert found == expected


def test_a_repeat_is_the_same_message() -> None:
    assert sent().submission == sent().submission


def test_an_affinity_domain_may_have_other_codes() -> None:
    other = Code("IMG", "1.2.3", "Images")
    codes = dict.fromkeys(
        ("class_code", "type_code", "format_code", "facility_type", "practice_setting", "confidentiality", "content_type"), other
    )
    found = sent(codes=codes)
    assert found.submission.submission_set is not None
    assert found.submission.submission_set.content_type == other
    assert found.entry.confidentiality == (other,)
    assert {getattr(found.entry, name) for name in codes if name not in ("content_type", "confidentiality")} == {other}


def _read(request: etree._Element, by: By, parse: Callable[[etree._Element, Reading], Submission]) -> Submission:
    reading = Reading()
    submission = parse(xml.parse(etree.tostring(request), limit=1 << 20), reading)
    assert metadata_rules.check(submission, by, reading) == ()
    return submission


@needs_shared
@given(study=studies(max_series=2, max_instances=2), replaces=st.sampled_from(["", FORMER]))
@settings(deadline=None, max_examples=20)
def test_any_study_makes_a_submission_by_all_rules(study: Study, replaces: str) -> None:
    made = sent(study, replaces=replaces).submission
    request = iti41.request(made, [Provided(ENTRY, content_id="1@here")])
    check_schema(request)
    assert _read(request, By.PROVIDE, lambda body, reading: iti41.parse_request(body, reading)[0]) == made


@needs_shared
def test_an_entry_is_withdrawn_by_its_status_alone() -> None:
    withdraw = partial(rad68.withdrawn, source_id="1.2.5", submission_time="20260708000001", codes={})
    made = withdraw(DocumentEntry(ENTRY, "1.2.3.99.1", HERS))
    assert made.submission_set is not None
    (change,) = made.associations
    assert (change.source, change.target) == (made.submission_set.entry_uuid, ENTRY)
    assert (change.original_status, change.new_status) == (APPROVED, DEPRECATED)
    assert made.submission_set.unique_id != sent().submission.submission_set.unique_id  # type: ignore[union-attr]
    request = iti57.request(made)
    check_schema(request)
    assert _read(request, By.UPDATE, iti57.parse_request) == made
