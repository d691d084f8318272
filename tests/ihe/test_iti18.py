from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from lxml.etree import _Element
from peers import query_oracle, registry_objects

from ihe import iti18, iti51, query_values, xml
from ihe.criteria import (
    CURRENT,
    Coded,
    Criterion,
    During,
    Like,
    OneOf,
    TimeRange,
    association_statuses,
    criteria,
    key,
    level,
    patient_ids,
)
from ihe.ebrs import FAILURE, PARTIAL_SUCCESS, SUCCESS, RegistryError
from ihe.find_documents import FindDocuments, GetDocuments
from ihe.iti18 import ReturnType, StoredQuery
from ihe.stored_queries import (
    FIND_DOCUMENTS,
    FIND_DOCUMENTS_BY_REFERENCE_ID,
    FIND_DOCUMENTS_FOR_MULTIPLE_PATIENTS,
    GET_ASSOCIATIONS,
    GET_DOCUMENTS,
    MULTI_PATIENT_QUERIES,
    STORED_QUERIES,
)
from profiles.document import APPROVED, DEPRECATED, STABLE, Author, Code, DocumentEntry, Folder, RegistryObject, SubmissionSet

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "testdata"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="../shared/testdata is not here")

PID = "P1^^^&1.2.3&ISO"
CT, MR = Code("CT", "1.2.840.10008.2.16.4", "Computed Tomography"), Code("MR", "1.2.840.10008.2.16.4")
CHEST = Code("51185008", "2.16.840.1.113883.6.96")
NORMAL, RESTRICTED = Code("N", "2.16.840.1.113883.5.25"), Code("R", "2.16.840.1.113883.5.25")
KOS = Code("1.2.840.10008.5.1.4.1.1.88.59", "1.2.840.10008.2.6.1")
A, B = Code("a", "1.1"), Code("b", "1.1")

ENTRY = DocumentEntry(
    entry_uuid="urn:uuid:00000000-0000-4000-8000-000000000001",
    unique_id="1.2.3.4",
    patient_id=PID,
    source_patient_id=PID,
    class_code=A,
    type_code=A,
    format_code=KOS,
    confidentiality=(NORMAL,),
    facility_type=A,
    practice_setting=A,
    mime_type="application/dicom",
    language="en-US",
    creation_time="20200515103000",
    hash="00" * 20,
    size=1,
    repository_unique_id="1.2.3",
    service_start="2020",
    event_codes=(CT, CHEST),
    reference_ids=("A1^^^&1.2&ISO^urn:ihe:iti:xds:2013:accession",),
    authors=(Author("1^Ford^Henry"), Author("2^Dopplemeyer^Sherry")),
)


def body(query_id: str, *slots: tuple[str, str], return_type: str = "LeafClass") -> _Element:
    made = xml.element(xml.QUERY, "AdhocQueryRequest")
    xml.child(made, xml.QUERY, "ResponseOption", returnType=return_type)
    adhoc = xml.child(made, xml.RIM, "AdhocQuery", id=query_id)
    for name, value in slots:
        xml.child(xml.child(xml.child(adhoc, xml.RIM, "Slot", name=name), xml.RIM, "ValueList"), xml.RIM, "Value", value)
    return made


STATUS = ("$XDSDocumentEntryStatus", f"('{APPROVED}')")
PATIENT = ("$XDSDocumentEntryPatientId", f"'{PID}'")


# The value grammar


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("'a'", ["a"]),
        ("('a')", ["a"]),
        ("('a','b')", ["a", "b"]),
        ("\n ( 'a' ,\n 'b' ) ", ["a", "b"]),
        ("'it''s'", ["it's"]),
        ("''", [""]),
        ("''''", ["'"]),
        ("20041224", ["20041224"]),
        ("('a,b', '(c)')", ["a,b", "(c)"]),
        ('("a","b")', ["a", "b"]),
        ("'a\"b'", ['a"b']),
    ],
)
def test_values_are_read(text: str, values: list[str]) -> None:
    assert query_values.read_values(text, "$x") == values


@pytest.mark.parametrize(
    "text", ["", "()", "'a", "'a''", "'a' or 1=1 --", "'a','b'", "('a'", "('a','b'", "('a',)", "('a' 'b')", "a b", "(a(b))"]
)
def test_broken_values_are_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(RegistryError, match="a value of \\$x must be") as raised:
        query_values.read_values(text, "$x")
    assert raised.value.code == "XDSRegistryError"


@given(st.text(max_size=30), st.booleans())
def test_values_round_trip(value: str, listed: bool) -> None:
    assert query_values.read_values(query_values.write_text(value, listed=listed), "$x") == [value]


@given(st.text("'(), a", max_size=40))
def test_any_value_is_read_or_refused(text: str) -> None:
    with suppress(RegistryError):
        query_values.read_values(text, "$x")


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("%Ford%", "1^Ford^Henry", True),
        ("Ford%", "1^Ford^Henry", False),
        ("1^F_rd^%", "1^Ford^Henry", True),
        ("%Henry", "1^Ford^Henry", True),
        ("1^Ford^Henry", "1^Ford^Henry", True),
        ("%ford%", "1^Ford^Henry", False),
        ("%", "", True),
        ("", "", True),
        ("", "a", False),
        ("_", "ab", False),
        ("a%a", "a", False),
        ("%a%b%", "xbxa", False),
        (".*", "anything", False),
    ],
)
def test_like(pattern: str, text: str, matches: bool) -> None:
    assert query_oracle.matches_like(pattern, text) is matches


@given(st.text("ab%_", max_size=8), st.text("ab", max_size=8))
def test_like_is_what_its_definition_says(pattern: str, text: str) -> None:
    def like(pattern: str, text: str) -> bool:
        if not pattern:
            return not text
        if pattern[0] == "%":
            return like(pattern[1:], text) or (bool(text) and like(pattern, text[1:]))
        return bool(text) and pattern[0] in ("_", text[0]) and like(pattern[1:], text[1:])

    assert query_oracle.matches_like(pattern, text) == like(pattern, text)


# The table and its checks


def test_the_table_has_the_fourteen_queries_and_one_more() -> None:
    assert len(STORED_QUERIES) == 15
    assert {definition.name for definition in STORED_QUERIES.values()} >= {"FindDocuments", "GetAll", "GetRelatedDocuments"}


@pytest.mark.parametrize(
    ("query", "code"),
    [
        (body("urn:uuid:00000000-0000-4000-8000-000000000000"), "XDSUnknownStoredQuery"),
        (body(FIND_DOCUMENTS, STATUS), "XDSStoredQueryMissingParam"),
        (body(FIND_DOCUMENTS, PATIENT), "XDSStoredQueryMissingParam"),
        (body(FIND_DOCUMENTS, STATUS, PATIENT, PATIENT), "XDSStoredQueryParamNumber"),
        (body(FIND_DOCUMENTS, STATUS, ("$XDSDocumentEntryPatientId", "('a','b')")), "XDSStoredQueryParamNumber"),
        (body(FIND_DOCUMENTS, STATUS, PATIENT, ("$XDSDocumentEntryClassCode", "('no scheme')")), "XDSRegistryError"),
        (body(FIND_DOCUMENTS, STATUS, PATIENT, ("$XDSDocumentEntryClassCode", "('a^^')")), "XDSRegistryError"),
        (body(FIND_DOCUMENTS, STATUS, PATIENT, ("$XDSDocumentEntryCreationTimeFrom", "yesterday")), "XDSRegistryError"),
        (body(FIND_DOCUMENTS_BY_REFERENCE_ID, STATUS, PATIENT), "XDSStoredQueryMissingParam"),
        (body(GET_DOCUMENTS), "XDSStoredQueryMissingParam"),
        (
            body(GET_DOCUMENTS, ("$XDSDocumentEntryUniqueId", "('1')"), ("$XDSDocumentEntryEntryUUID", "('2')")),
            "XDSStoredQueryParamNumber",
        ),
        (body(FIND_DOCUMENTS, STATUS, PATIENT, return_type="RegistryObject"), "XDSRegistryError"),
        (etree.Element("x"), "XDSRegistryError"),
    ],
)
def test_wrong_queries_are_refused(query: _Element, code: str) -> None:
    with pytest.raises(RegistryError) as raised:
        iti18.parse_request(query)
    assert raised.value.code == code


def test_parameters_that_are_not_known_are_ignored() -> None:
    query = iti18.parse_request(body(FIND_DOCUMENTS, STATUS, PATIENT, ("$XDSFolderStatus", "x"), ("$Other", "(((")))
    assert query.parameters.keys() == {"$XDSDocumentEntryPatientId", "$XDSDocumentEntryStatus"}


def test_every_attribute_of_the_table_is_one_of_the_metadata() -> None:
    has = {
        "document": registry_objects.entry(),
        "submission": registry_objects.submission_set(),
        "folder": registry_objects.folder(),
    }
    prefixes = {"$XDSDocumentEntry": "document", "$XDSSubmissionSet": "submission", "$XDSFolder": "folder"}
    for definition in (*STORED_QUERIES.values(), *MULTI_PATIENT_QUERIES.values()):
        for parameter in definition.parameters:
            if parameter.attribute and parameter.name != "$patientId":
                (subject,) = [subject for prefix, subject in prefixes.items() if parameter.name.startswith(prefix)]
                assert hasattr(has[subject], parameter.attribute), parameter


def test_a_status_that_is_not_understood_is_as_if_it_were_not_there() -> None:
    """ITI TF-2 section 3.18.4.1.2.3.6."""
    both = iti18.parse_request(body(FIND_DOCUMENTS, PATIENT, ("$XDSDocumentEntryStatus", f"('{APPROVED}','urn:x:Archived')")))
    assert both.values("$XDSDocumentEntryStatus") == (APPROVED,)
    with pytest.raises(RegistryError) as raised:
        iti18.parse_request(body(FIND_DOCUMENTS, PATIENT, ("$XDSDocumentEntryStatus", "('urn:x:Archived')")))
    assert raised.value.code == "XDSStoredQueryMissingParam"


def test_the_id_of_a_query_may_have_blanks_around_it() -> None:
    """As in the sample of ITI TF-2 section 3.18.4.1.2.7.1.1."""
    assert iti18.parse_request(body(f" {FIND_DOCUMENTS} ", STATUS, PATIENT)).query_id == FIND_DOCUMENTS


@pytest.mark.parametrize(
    "wrong",
    [
        ("$MetadataLevel", "3"),
        ("$MetadataLevel", "one"),
        ("$XDSDocumentEntryAuthorPerson", "('" + "%a" * 501 + "')"),
        ("$XDSDocumentEntryClassCode", "(" + ",".join(f"'{number}^^1.2'" for number in range(1001)) + ")"),
    ],
)
def test_values_that_no_registry_would_search_are_refused(wrong: tuple[str, str]) -> None:
    with pytest.raises(RegistryError) as raised:
        iti18.parse_request(body(FIND_DOCUMENTS, STATUS, PATIENT, wrong))
    assert raised.value.code == "XDSRegistryError"


# Queries of several patients


def test_each_transaction_knows_its_own_queries() -> None:
    several = body(FIND_DOCUMENTS_FOR_MULTIPLE_PATIENTS, STATUS, ("$XDSDocumentEntryPatientId", f"('{PID}','P2^^^&1.2&ISO')"))
    assert patient_ids(iti51.parse_request(several)) == (PID, "P2^^^&1.2&ISO")
    for parse, wrong in ((iti18.parse_request, several), (iti51.parse_request, body(FIND_DOCUMENTS, STATUS, PATIENT))):
        with pytest.raises(RegistryError) as raised:
            parse(wrong)
        assert raised.value.code == "XDSUnknownStoredQuery"


def test_a_query_of_all_patients_is_by_class_event_or_facility() -> None:
    """ITI TF-2 section 3.51.4.1.2.1.1."""
    for name in ("ClassCode", "EventCodeList", "HealthcareFacilityTypeCode"):
        made = body(FIND_DOCUMENTS_FOR_MULTIPLE_PATIENTS, STATUS, (f"$XDSDocumentEntry{name}", "('a^^1.1')"))
        assert patient_ids(iti51.parse_request(made)) == ()
    with pytest.raises(RegistryError) as raised:
        iti51.parse_request(body(FIND_DOCUMENTS_FOR_MULTIPLE_PATIENTS, STATUS, ("$XDSDocumentEntryTypeCode", "('a^^1.1')")))
    assert raised.value.code == "XDSStoredQueryMissingParam"


# What a query selects by


def test_keys_are_one_of_three() -> None:
    assert key(GetDocuments(unique_ids=("1.2", "1.3")).query()) == OneOf("unique_id", ("1.2", "1.3"))
    assert key(GetDocuments(entry_uuids=("urn:uuid:1",)).query()) == OneOf("entry_uuid", ("urn:uuid:1",))
    by_logical = iti18.parse_request(body(GET_DOCUMENTS, ("$XDSDocumentEntryLogicalID", "('urn:uuid:1')")))
    assert key(by_logical) == OneOf("logical_id", ("urn:uuid:1",))
    assert criteria(by_logical, "document") == ()


@pytest.mark.parametrize(
    ("slots", "statuses"),
    [
        ((), (APPROVED,)),
        ((("$XDSAssociationStatus", f"('{DEPRECATED}')"),), ()),
        ((("$MetadataLevel", "2"),), (APPROVED,)),
        ((("$MetadataLevel", "2"), ("$XDSAssociationStatus", f"('{DEPRECATED}','{APPROVED}')")), (DEPRECATED, APPROVED)),
    ],
)
def test_deprecated_associations_are_for_level_2(slots: tuple[tuple[str, str], ...], statuses: tuple[str, ...]) -> None:
    query = iti18.parse_request(body(GET_ASSOCIATIONS, ("$uuid", "('urn:uuid:1')"), *slots))
    assert association_statuses(query) == statuses
    assert level(query) == (2 if ("$MetadataLevel", "2") in slots else CURRENT)


@needs_shared
def test_the_toolkits_queries_are_read() -> None:
    refused = {}
    count = 0
    for path in sorted((SHARED / "nist/testkit/tests").rglob("*.xml")):
        data = path.read_bytes()
        if b"AdhocQueryRequest" not in data or b"<TestPlan" in data or b"$returnType$" in data:
            continue
        root = xml.parse(data, 1_000_000)
        if root.tag != f"{{{xml.QUERY}}}AdhocQueryRequest":
            continue
        count += 1
        try:
            iti18.parse_request(root, STORED_QUERIES | MULTI_PATIENT_QUERIES)
        except RegistryError as error:
            refused[str(path.relative_to(SHARED / "nist/testkit/tests"))] = error.code
    assert count > 100
    # What is left are queries whose expected status is Failure.
    assert refused == {
        "11897/classcode_scheme_mismatch/query.xml": "XDSRegistryError",
        "11897/old_scheme/query.xml": "XDSRegistryError",
        "12364/nothing/query.xml": "XDSStoredQueryMissingParam",
    }


@needs_shared
def test_a_peers_injection_sample_is_refused() -> None:
    with pytest.raises(RegistryError) as raised:
        iti18.parse_request(xml.parse((SHARED / "ipf/xds-test/iti18request.xml").read_bytes(), 100_000))
    assert "1=1" not in str(raised.value)


# FindDocuments and GetDocuments


@pytest.mark.parametrize(
    ("change", "matches"),
    [
        ({}, True),
        ({"statuses": (DEPRECATED,)}, False),
        ({"statuses": (DEPRECATED, APPROVED)}, True),
        ({"object_types": ("urn:uuid:34268e47-fdf5-41a6-ba33-82133c465248",)}, False),
        ({"class_codes": (B,)}, False),
        ({"class_codes": (A, B)}, True),
        ({"class_codes": (Code("a", "1.2"),)}, False),
        ({"type_codes": (B,)}, False),
        ({"format_codes": (KOS,)}, True),
        ({"format_codes": (B,)}, False),
        ({"facility_types": (B,)}, False),
        ({"practice_settings": (B,)}, False),
        ({"event_codes": ((CT,),)}, True),
        ({"event_codes": ((CT, MR),)}, True),
        ({"event_codes": ((CT,), (MR,))}, False),
        ({"event_codes": ((CT,), (CHEST,))}, True),
        ({"confidentiality": ((RESTRICTED,),)}, False),
        ({"confidentiality": ((RESTRICTED, NORMAL),)}, True),
        ({"creation": TimeRange("20200515", "20200516")}, True),
        ({"creation": TimeRange("20200515103000", "")}, True),
        ({"creation": TimeRange("", "20200515103000")}, False),
        ({"creation": TimeRange("20200516", "")}, False),
        ({"service_start": TimeRange("2020", "2021")}, True),
        ({"service_start": TimeRange("2019", "2020")}, False),
        ({"service_stop": TimeRange("2019", "")}, True),
        ({"authors": ("%Ford%",)}, True),
        ({"authors": ("%Smith%", "%Dopple_eyer^%")}, True),
        ({"authors": ("%Smith%",)}, False),
        ({"reference_ids": (("A1^^^&1.2&ISO^urn:ihe:iti:xds:2013:accession", "x"),)}, True),
        ({"reference_ids": (("A1^^^&1.2&ISO^urn:ihe:iti:xds:2013:accession",), ("x",))}, False),
    ],
)
def test_what_find_documents_selects(change: dict[str, object], matches: bool) -> None:
    """The criteria, by the oracle that they are held against in SQL: tests/server/records/test_registry_queries.py."""
    query = FindDocuments(**({"patient_id": PID} | change)).query()  # type: ignore[arg-type]
    assert all(query_oracle.matches(each, ENTRY) for each in criteria(query, "document")) is matches
    assert criteria(query, "folder") == ()


query_codes = st.builds(Code, st.text("ab'(,)é", min_size=1, max_size=5), st.sampled_from(["1.2.3", "DCM"]))
code_tuples = st.lists(query_codes, max_size=2).map(tuple)
alternatives = st.lists(st.lists(query_codes, min_size=1, max_size=2).map(tuple), max_size=2).map(tuple)
time_ranges = st.builds(TimeRange, st.sampled_from(["", "2020", "20200101"]), st.sampled_from(["", "2021", "20210101120000"]))
find_document_queries = st.builds(
    FindDocuments,
    patient_id=st.sampled_from([PID, "O'Neill^^^&1.2&ISO"]),
    statuses=st.sampled_from([(APPROVED,), (APPROVED, DEPRECATED)]),
    class_codes=code_tuples,
    type_codes=code_tuples,
    format_codes=code_tuples,
    facility_types=code_tuples,
    practice_settings=code_tuples,
    event_codes=alternatives,
    confidentiality=alternatives,
    creation=time_ranges,
    service_start=time_ranges,
    service_stop=time_ranges,
    authors=st.lists(st.text("%_a'", min_size=1, max_size=4), max_size=2).map(tuple),
    object_types=st.just((STABLE,)),
    reference_ids=st.lists(st.lists(st.text("a^&'", min_size=1), min_size=1, max_size=2).map(tuple), max_size=2).map(tuple),
)


@given(find_document_queries, st.sampled_from(ReturnType))
def test_find_documents_round_trip(validate: Callable[[_Element], None], query: FindDocuments, return_type: ReturnType) -> None:
    written = iti18.request(query.query(return_type))
    validate(written)
    read = iti18.parse_request(xml.parse(etree.tostring(written), 100_000))
    assert read == query.query(return_type)
    assert set(criteria(read, "document")) == set(_criteria(query))


def _criteria(query: FindDocuments) -> list[Criterion]:
    """As the dataclass says them."""
    one = {"class_code": query.class_codes, "type_code": query.type_codes, "format_code": query.format_codes,
           "facility_type": query.facility_types, "practice_setting": query.practice_settings}  # fmt: skip
    several = {"event_codes": query.event_codes, "confidentiality": query.confidentiality}
    times = {"creation_time": query.creation, "service_start": query.service_start, "service_stop": query.service_stop}
    return [
        OneOf("status", query.statuses), OneOf("object_type", query.object_types),
        *(Coded(name, codes) for name, codes in one.items() if codes),
        *(Coded(name, codes) for name, slots in several.items() for codes in slots),
        *(During(name, range_) for name, range_ in times.items() if range_ != TimeRange()),
        *([Like("authors", query.authors)] if query.authors else []),
        *(Like("reference_ids", values) for values in query.reference_ids),
    ]  # fmt: skip


def test_get_documents_round_trip() -> None:
    for query in (
        GetDocuments(entry_uuids=(ENTRY.entry_uuid, "urn:uuid:2")).query(),
        GetDocuments(unique_ids=("1.2.3.4",)).query(),
    ):
        assert iti18.parse_request(iti18.request(query)) == query


def test_the_home_community_goes_along() -> None:
    query = StoredQuery(GET_DOCUMENTS, ReturnType.OBJECT_REF, {"$XDSDocumentEntryUniqueId": [["1.2"]]}, "urn:oid:1.2.3")
    assert iti18.parse_request(iti18.request(query)).home_community_id == "urn:oid:1.2.3"


# The response

SUBMISSION = SubmissionSet("urn:uuid:00000000-0000-4000-8000-000000000002", "1.2.5", PID, "1.2.6", "20200515", A)
FOLDER = Folder("urn:uuid:00000000-0000-4000-8000-000000000003", "1.2.7", PID, (A,), "Stroke", home_community_id="urn:oid:1.2.3")
ERROR = RegistryError("XDSRegistryError", "part of the registry is away", "urn:oid:1.2.3")


@pytest.mark.parametrize(
    ("objects", "errors", "status"),
    [
        ((), (), SUCCESS),
        ((ENTRY,), (), SUCCESS),
        ((ENTRY, SUBMISSION, FOLDER), (ERROR,), PARTIAL_SUCCESS),
        ((), (ERROR,), FAILURE),
    ],
)
def test_response_round_trip(
    validate: Callable[[_Element], None],
    objects: tuple[RegistryObject, ...],
    errors: tuple[RegistryError, ...],
    status: str,
) -> None:
    written = etree.fromstring(iti18.response(objects, errors=errors))
    validate(written)
    read = iti18.parse_response(xml.parse(etree.tostring(written), 100_000))
    assert (read.status, read.errors) == (status, errors)
    assert (*read.entries, *read.submission_sets, *read.folders) == objects


def test_object_refs(validate: Callable[[_Element], None]) -> None:
    written = etree.fromstring(iti18.response((ENTRY, SUBMISSION, FOLDER), ReturnType.OBJECT_REF))
    validate(written)
    read = iti18.parse_response(written)
    assert read.object_refs == (ENTRY.entry_uuid, SUBMISSION.entry_uuid, FOLDER.entry_uuid)
    assert [found.get("home") for found in written.iter(f"{{{xml.RIM}}}ObjectRef")][2] == "urn:oid:1.2.3"
    assert read.entries == ()


def test_another_message_is_no_response() -> None:
    with pytest.raises(RegistryError):
        iti18.parse_response(etree.Element("x"))
