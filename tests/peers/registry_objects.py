"""Sharing metadata as a Document Source sends it, and as hypothesis makes it up."""

from dataclasses import replace
from typing import TypeVar

from hypothesis import strategies as st

from profiles.document import (
    APPROVED,
    DEPRECATED,
    HAS_MEMBER,
    OFFLINE,
    ON_DEMAND,
    ONLINE,
    RELATIONSHIPS,
    RPLC,
    STABLE,
    Association,
    Author,
    Code,
    DocumentEntry,
    Folder,
    Submission,
    SubmissionSet,
)

PATIENT = "6578946^^^&1.3.6.1.4.1.21367.2005.3.7&ISO"
REGISTERED = "urn:uuid:10b545ea-725c-446d-9b95-8aeb444eddf3"
"""The entryUUID of what a registry has already."""

text = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff"), max_size=20)
token = text.map(str.strip)
filled = token.filter(bool)
words = st.lists(filled, max_size=2).map(tuple)
uuids = st.uuids().map(lambda value: value.urn)
times = st.from_regex(r"20[0-9]{12}", fullmatch=True, alphabet="0123456789")
may_be_times = st.one_of(st.just(""), times)
codes = st.builds(Code, filled, token, text)
may_be_codes = st.one_of(st.none(), codes)
code_lists = st.lists(codes, max_size=3).map(tuple)
authors = st.lists(st.builds(Author, token, words, words, words, words), max_size=2).map(tuple)
statuses = st.sampled_from([APPROVED, DEPRECATED])
homes = st.sampled_from(["", "urn:oid:1.2.3"])
extras = st.dictionaries(
    filled.map("urn:example:{}".format), st.lists(filled, min_size=1, max_size=2).map(tuple), max_size=2
).map(lambda found: tuple(found.items()))
versions = st.one_of(st.just(("", 1)), st.tuples(uuids, st.integers(1, 10**9 - 1)))


Versioned = TypeVar("Versioned", DocumentEntry, Folder)


def _versioned(built: tuple[Versioned, tuple[str, int]]) -> Versioned:
    value, (logical_id, version) = built
    return replace(value, logical_id=logical_id, version=version)


entries = st.tuples(
    st.builds(
        DocumentEntry, entry_uuid=uuids, unique_id=token, patient_id=token, source_patient_id=token, class_code=may_be_codes,
        type_code=may_be_codes, format_code=may_be_codes, confidentiality=code_lists, facility_type=may_be_codes,
        practice_setting=may_be_codes, mime_type=st.sampled_from(["application/dicom", "text/xml"]), language=token,
        creation_time=may_be_times, hash=st.one_of(st.just(""), st.binary(min_size=20, max_size=20).map(bytes.hex)),
        size=st.one_of(st.none(), st.integers(0, 10**18 - 1)), repository_unique_id=token, home_community_id=homes, title=text,
        service_start=may_be_times, service_stop=may_be_times, event_codes=code_lists, reference_ids=words,
        source_patient_info=words, authors=authors, object_type=st.sampled_from([STABLE, ON_DEMAND]), status=statuses, comments=text,
        legal_authenticator=token, uri=token, availability=st.sampled_from(["", ONLINE, OFFLINE]), is_limited=st.booleans(),
        extra=extras,
    ),
    versions,
).map(_versioned)  # fmt: skip
submission_sets = st.builds(
    SubmissionSet, entry_uuid=uuids, unique_id=token, patient_id=token, source_id=token, submission_time=may_be_times,
    content_type=may_be_codes, title=text, authors=authors, status=statuses, comments=text, intended_recipients=words,
    home_community_id=homes, is_limited=st.booleans(), extra=extras,
)  # fmt: skip
folders = st.tuples(
    st.builds(
        Folder, entry_uuid=uuids, unique_id=token, patient_id=token, codes=code_lists, title=text, comments=text,
        last_update=may_be_times, status=statuses, home_community_id=homes, is_limited=st.booleans(), extra=extras,
    ),
    versions,
).map(_versioned)  # fmt: skip
associations = st.builds(
    Association, entry_uuid=uuids, type=st.sampled_from([HAS_MEMBER, *sorted(RELATIONSHIPS)]), source=uuids, target=uuids,
    submission_set_status=st.sampled_from(["", "Original", "Reference"]), status=statuses, documentation=may_be_codes,
    home_community_id=homes, previous_version=st.sampled_from(["", "1", "12"]), propagates=st.sampled_from([None, True, False]),
    original_status=st.sampled_from(["", APPROVED]), new_status=st.sampled_from(["", DEPRECATED]), extra=extras,
)  # fmt: skip
submissions = st.builds(
    Submission, submission_set=st.one_of(st.none(), submission_sets), documents=st.lists(entries, max_size=2).map(tuple),
    folders=st.lists(folders, max_size=2).map(tuple), associations=st.lists(associations, max_size=2).map(tuple),
    references=st.lists(uuids, max_size=2).map(tuple),
)  # fmt: skip


def code(value: str = "c") -> Code:
    return Code(value, "1.2.3", "Display")


def entry(id_: str = "Document01", unique_id: str = "1.2.3.4", **changed: object) -> DocumentEntry:
    """A Document Entry as a repository registers it."""
    given: dict[str, object] = {
        "entry_uuid": id_, "unique_id": unique_id, "patient_id": PATIENT, "source_patient_id": "j98789^^^&1.2.3.4.343.1&ISO",
        "class_code": code("class"), "type_code": code("type"), "format_code": code("format"), "confidentiality": (code("N"),),
        "facility_type": code("facility"), "practice_setting": code("practice"), "mime_type": "application/dicom",
        "language": "en-US", "creation_time": "20041225212010", "hash": "e543712c0e10501972de13a5bfcbe826c49feb75", "size": 3654,
        "repository_unique_id": "1.3.6.1.4.5", "title": "Example", "service_start": "200412252120", "service_stop": "2004122521",
        "event_codes": (code("MR"),), "reference_ids": ("2013001^^^&1.2.3.4.5.6&ISO^urn:ihe:iti:xds:2013:accession",),
        "source_patient_info": ("PID-3|ID1^^^&1.3.6&ISO~ID2^^^&1.3.11&ISO", "PID-5|DOE^JANE", "PID-5|D^J", "PID-7|19650120", "PID-8|F"),
        "authors": (author(),), "legal_authenticator": "^Welby^Marcus^^^Dr^MD", "uri": "DOC001.XML", "availability": ONLINE,
        "comments": "a comment", "extra": (("urn:example:extra", ("data",)),),
    }  # fmt: skip
    return DocumentEntry(**{**given, **changed})  # type: ignore[arg-type]


def author(**changed: object) -> Author:
    given: dict[str, object] = {
        "person": "11375^Welby^Marcus^J^Jr. MD^Dr^^^&2.999.6.197&ISO",
        "institutions": ("Some Hospital", "Some Hospital^^^^^^^^^2.999.1.2", "Some Hospital^^^^^&2.999.1&ISO^^^^45"),
        "roles": ("PRF^^^&2.16.840.1.113883.5.90&ISO",), "specialties": ("Cardiology",),
        "telecoms": ("^^Internet^welby@example.org", "^PRS^PH^^31^^(042) 1123 4567"),
    }  # fmt: skip
    return Author(**{**given, **changed})  # type: ignore[arg-type]


def submission_set(**changed: object) -> SubmissionSet:
    given: dict[str, object] = {
        "entry_uuid": "SubmissionSet01", "unique_id": "1.2.3.4.5", "patient_id": PATIENT, "source_id": "1.3.6.1.4.1.21367",
        "submission_time": "20041225212010", "content_type": code("content"), "title": "A submission", "authors": (author(),),
        "intended_recipients": ("Some Hospital^^^^^^^^^1.2.3.9|^Wel^Marcus|^^Internet^m@example.org", "||^^Internet^d@example.org"),
    }  # fmt: skip
    return SubmissionSet(**{**given, **changed})  # type: ignore[arg-type]


def folder(**changed: object) -> Folder:
    given: dict[str, object] = {
        "entry_uuid": "Folder01", "unique_id": "1.2.3.4.6", "patient_id": PATIENT, "codes": (code("folder"),), "title": "Stroke",
    }  # fmt: skip
    return Folder(**{**given, **changed})  # type: ignore[arg-type]


def association(id_: str, source: str, target: str, type_: str = HAS_MEMBER, status: str = "", **changed: object) -> Association:
    return Association(id_, type_, source, target, status, **changed)  # type: ignore[arg-type]


def submission() -> Submission:
    """Two entries, of which one replaces a registered one, and a Folder with the other and a registered one; nothing is wrong with it."""
    return Submission(
        submission_set(),
        (entry(), entry("Document02", "1.2.3.5", hash="da39a3ee5e6b4b0d3255bfef95601890afd80709", size=0)),
        (folder(),),
        (
            association("has1", "SubmissionSet01", "Document01", status="Original"),
            association("has2", "SubmissionSet01", "Document02", status="Original"),
            association("has3", "SubmissionSet01", "Folder01"),
            association("has4", "SubmissionSet01", "filed1"),
            association("has5", "SubmissionSet01", "filed2"),
            association("has6", "SubmissionSet01", REGISTERED, status="Reference"),
            association("filed1", "Folder01", "Document01"),
            association("filed2", "Folder01", REGISTERED),
            association("replaces", "Document02", REGISTERED, RPLC, documentation=code("reason")),
        ),
        (REGISTERED,),
    )
