"""What answers are held against: contents, expressions, documents and images."""

from base64 import b64encode
from io import BytesIO

import pydicom
import pytest
from lxml import etree
from lxml.etree import _Element
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from conformance.nist import imaging
from conformance.nist.assertions import check_xpath, data_of
from conformance.nist.expected import Check, check_contents, unknown
from conformance.nist.messages import Reply, read
from conformance.nist.plan import Step
from conformance.nist.record import Record, add_assigned, add_reports, reported
from conformance.nist.replies import check_documents, check_reply
from conformance.nist.vocabulary import KINDS

SS, FOLDER = "urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd", "urn:uuid:d9d542f3-6cc4-48b6-8870-ea235fbc94c2"


def answer(*objects: str) -> _Element:
    return etree.fromstring(
        f"<AdhocQueryResponse><RegistryObjectList>{''.join(objects)}</RegistryObjectList></AdhocQueryResponse>"
    )


def document(id_: str, status: str = "Approved", kind: str = "") -> str:
    return f'<ExtrinsicObject id="{id_}" status="urn:x:{status}" objectType="{kind}"/>'


def package(id_: str, node: str, status: str = "Approved") -> str:
    classified = f'<Classification classifiedObject="{id_}" classificationNode="{node}"/>'
    return f'<RegistryPackage id="{id_}" status="urn:x:{status}"/>{classified}'


def link(source: str, target: str, kind: str = "HasMember", id_: str = "a") -> str:
    return f'<Association id="{id_}" associationType="urn:x:{kind}" sourceObject="{source}" targetObject="{target}"/>'


def failed(contents: str, *objects: str) -> list[str]:
    expected = etree.fromstring(f"<ExpectedContents>{contents}</ExpectedContents>")
    ids = {"Document01": "d", "Document02": "e"}
    checks = check_contents(answer(*objects), expected, lambda use: ids[use.get("id", "")])
    return [str(each) for each in checks if not each.passed]


ONE = (package("s", SS), document("d"), link("s", "d"))
IN_FOLDER = (*ONE, package("f", FOLDER), link("s", "f", id_="b"), link("f", "d", id_="c"), link("s", "c", id_="e"))


@pytest.mark.parametrize(
    ("contents", "objects"),
    [
        ('<Documents count="1"/><SubmissionSets count="1"/><Associations count="1"/><Folders count="0"/>', ONE),
        ("<SSwithOneDoc/><SSApproved/><DocApp/>", ONE),
        ("<SSwithOneDocOnly/>", (package("s", SS, "Submitted"), *ONE[1:])),
        ("<SSwithTwoDoc/>", (*ONE, document("e"), link("s", "e", id_="b"))),
        ("<SSwithOneFol/><FolApp/>", (package("s", SS), package("f", FOLDER), link("s", "f"))),
        ("<SSwithOneDocOneFol/>", IN_FOLDER),
        ("<None/><NoSubmissionSet/><NoDocument/>", ()),
        ('<ObjectRefs count="2"/>', ('<ObjectRef id="1"/>', '<ObjectRef id="2"/>')),
        ("<DocRplcDoc/><HasRPLC/><OneDocDep/><OneDocApp/>", (document("e"), document("d", "Deprecated"), link("e", "d", "RPLC"))),
        ("<HasAPND/>", (link("e", "d", "APND"),)),
        ("<DocDep/>", (document("d", "Deprecated"),)),
        ("<DocApp/><FolApp/>", ()),
        ('<DocumentEntries><Include><DocumentEntry><UseId id="Document01"/></DocumentEntry></Include></DocumentEntries>', ONE),
        ('<DocumentEntries><Exclude><DocumentEntry><UseId id="Document02"/></DocumentEntry></Exclude></DocumentEntries>', ONE),
        ('<DocumentEntries><MustOnlyInclude><DocumentEntry><UseId id="Document01"/></DocumentEntry></MustOnlyInclude></DocumentEntries>', ONE),
        ("<RegistryResponseIsValid/>", ()),
    ],
)  # fmt: skip
def test_contents_as_expected(contents: str, objects: tuple[str, ...]) -> None:
    assert failed(contents, *objects) == []


@pytest.mark.parametrize(
    ("contents", "objects"),
    [
        ('<Documents count="2"/>', ONE),
        ("<SSwithOneDoc/>", (package("s", SS, "Submitted"), *ONE[1:])),
        ("<SSwithOneDoc/>", (package("s", SS), document("d"), link("s", "other"))),
        ("<SSwithOneDoc/>", (*ONE, document("e"))),
        ("<SSwithOneDocOneFol/>", IN_FOLDER[:-2]),
        ("<SSwithTwoDocOneFolOneDocInFol/>", IN_FOLDER),
        ("<None/>", ONE),
        ("<NoSubmissionSet/>", ONE),
        ('<ObjectRefs count="1"/>', ('<ObjectRef id="1"/>', document("d"))),
        ("<DocRplcDoc/>", (document("e"), document("d"), link("e", "d", "RPLC"))),
        ("<HasRPLC/>", ONE),
        ("<HasRPLC/>", (link("a", "d", "RPLC"), link("b", "d", "RPLC"))),
        ("<DocDep/>", ONE),
        ("<SSApproved/>", ()),
        ("<FolDep/>", (package("f", FOLDER),)),
        ("<HasSnapshotPattern/>", ONE),
        ('<DocumentEntries><Include><DocumentEntry><UseId id="Document02"/></DocumentEntry></Include></DocumentEntries>', ONE),
        ('<DocumentEntries><Exclude><DocumentEntry><UseId id="Document01"/></DocumentEntry></Exclude></DocumentEntries>', ONE),
        ("<DocumentEntries><DocumentEntryType>other</DocumentEntryType></DocumentEntries>", ONE),
    ],
)
def test_contents_that_are_not(contents: str, objects: tuple[str, ...]) -> None:
    assert failed(contents, *objects)


def test_a_snapshot_of_an_on_demand_document() -> None:
    stable, on_demand = "urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1", "urn:uuid:34268e47-fdf5-41a6-ba33-82133c465248"
    there = (document("s", kind=stable), document("o", kind=on_demand), link("s", "o", "IsSnapshotOf"))
    assert failed("<HasSnapshotPattern/>", *there) == []
    assert failed("<HasSnapshotPattern/>", document("s", kind=on_demand), *there[1:])


def test_unknown_contents_are_named() -> None:
    assert unknown(etree.fromstring('<ExpectedContents><Documents count="1"/><Unicorns/></ExpectedContents>')) == ["Unicorns"]


@pytest.mark.parametrize(
    ("expression", "passed"),
    [
        ("count(//*[local-name()='ExtrinsicObject']) = 1", True),
        ("count(//*[local-name()='ExtrinsicObject']) = 2", False),
        ("//*[local-name()='ExtrinsicObject']/@id = 'd'", True),
        ("'a' != 'b'", True),
        ("//*[local-name()='ExtrinsicObject']/@id", False),
        ("this is [no XPath", False),
    ],
)
def test_expressions(expression: str, passed: bool) -> None:
    check = check_xpath(data_of({"output": answer(document("d"))}), "one", expression)
    assert check.passed is passed


def test_a_comparison_that_fails_tells_both_sides() -> None:
    check = check_xpath(data_of({"output": answer(document("d"))}), "one", "//ExtrinsicObject[@id='d']/@id = 'e'")
    assert check.found == "d on the left, e on the right"


def test_reports_see_their_own_transaction_alone() -> None:
    record = Record()
    step = record.step("one")
    etree.SubElement(etree.SubElement(step, "NullTransaction"), "Result").text = "before"
    noted = etree.SubElement(record.step("two"), "RegisterTransaction")
    etree.SubElement(etree.SubElement(noted, "Result"), "a", b=" c ").text = "d"
    assert reported(noted, "Result", "//a/@b") == "c"
    assert reported(noted, "Result", "//Result") == "d"
    assert reported(noted, "Result", "//nothing") == ""
    add_assigned(noted, "AssignedUids", {"Document01": "2.25.1"})
    add_reports(noted, {"r": "v"})
    assert (record.assigned("two", "AssignedUids", "Document01"), record.report("two", "r")) == ("2.25.1", "v")
    assert (record.assigned("one", "AssignedUids", "Document01"), record.report("one", "r")) == ("", "")


def registry_response(status: str, *errors: tuple[str, str, str]) -> Reply:
    listed = "".join(
        f'<RegistryError errorCode="{code}" codeContext="{context}" severity="x:{level}"/>' for code, context, level in errors
    )
    payload = etree.fromstring(
        f'<RegistryResponse status="urn:x:{status}"><RegistryErrorList>{listed}</RegistryErrorList></RegistryResponse>'
    )
    action = KINDS["RegisterTransaction"].expected_action
    return Reply(status, payload, action, "urn:uuid:1")


def wrong(reply: Reply, **expected: object) -> list[str]:
    step = Step("s", **expected)  # type: ignore[arg-type]
    return [each.what for each in check_reply(reply, step, KINDS["RegisterTransaction"], "urn:uuid:1") if not each.passed]


def test_statuses_and_errors() -> None:
    error = ("XDSUnknownPatientId", "who?", "Error")
    assert wrong(registry_response("Success")) == []
    assert wrong(registry_response("Success", ("X", "y", "Warning")), status=("Success",)) == []
    assert wrong(registry_response("Success", error)) == ["errors"]
    assert wrong(registry_response("Failure", error), status=("Success",)) == ["status", "errors"]
    assert wrong(registry_response("Failure", error), status=("Failure",), error_code="XDSUnknownPatientId") == []
    assert wrong(registry_response("Failure", error), status=("Failure",), error_code="Other") == ["error code"]
    assert wrong(registry_response("Failure", error), status=("Failure",), error_message="XDSUnknownPatientId") == []
    assert wrong(registry_response("Failure", error), status=("Failure",), error_message="nobody") == ["text of an error"]
    assert wrong(registry_response("Failure", error), status=("Failure", "PartialSuccess")) == []
    assert wrong(registry_response("Success"), status=("Fault",)) == ["status"]
    assert wrong(read("text/html", b"<html>sorry"), status=("Fault",)) == ["status"]


def test_documents_that_came() -> None:
    request = etree.fromstring(
        "<R><DocumentRequest><RepositoryUniqueId>1</RepositoryUniqueId><DocumentUniqueId>u</DocumentUniqueId></DocumentRequest></R>"
    )
    entry = etree.fromstring(
        '<ExtrinsicObject mimeType="text/plain"><Slot name="size"><ValueList><Value>2</Value></ValueList></Slot>'
        '<Slot name="hash"><ValueList><Value>E0C9035898DD52FC65C41454CEC9C4D2611BFB37</Value></ValueList></Slot>'
        '<ExternalIdentifier identificationScheme="urn:uuid:2e82c1f6-a085-4c72-9da3-8640a32e42ab" value="u"/></ExtrinsicObject>'
    )

    def came(repository: str = "1", mime: str = "text/plain", data: bytes = b"aa") -> list[str]:
        got = etree.fromstring(
            f"<A><DocumentResponse><RepositoryUniqueId>{repository}</RepositoryUniqueId><DocumentUniqueId>u</DocumentUniqueId>"
            f"<mimeType>{mime}</mimeType><Document>{b64encode(data).decode()}</Document></DocumentResponse></A>"
        )
        checks = check_documents(request, got, media_type="text/plain", contents={"u": b"aa"}, metadata=[entry])
        return [each.what.split()[0] for each in checks if not each.passed]

    assert came() == []
    assert came(repository="2") == ["RepositoryUniqueId"]
    assert came(mime="text/xml") == ["mimeType", "mimeType"]
    assert came(data=b"ab") == ["bytes", "hash"]
    assert came(data=b"aaa") == ["bytes", "size", "hash"]
    nothing = check_documents(request, etree.fromstring("<A/>"), media_type="", contents={}, metadata=[])
    assert [each.what for each in nothing if not each.passed] == ["documents", "document u"]


def image(uid: str, **attributes: str) -> bytes:
    data = Dataset()
    data.SOPInstanceUID, data.SOPClassUID, data.PatientID = uid, "1.2.3", "P"
    for name, value in attributes.items():
        setattr(data, name, value)
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID, data.file_meta.MediaStorageSOPInstanceUID = ExplicitVRLittleEndian, uid
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    stream = BytesIO()
    pydicom.dcmwrite(stream, data, enforce_file_format=True)
    return stream.getvalue()


def different(tags: str, found: list[bytes], standard: list[bytes]) -> list[str]:
    listed = imaging.attributes(etree.fromstring(f"<TagList>{tags}</TagList>"))
    return [each.what for each in imaging.check_images(found, standard, listed) if not each.passed]


def test_images_are_compared_by_instance() -> None:
    same = [image("1.2"), image("1.3")]
    assert different("<SOPClassUID/><PatientID/>", same[::-1], same) == []
    assert different("<PatientID/>", same[:1], same) == ["images"]
    assert different("<PatientID/>", [image("1.2", PatientID="Q"), same[1]], same) == ["PatientID of 1.2"]
    assert different('<Tag hex="0010,0020"/>', [image("1.2", PatientID="Q")], same[:1]) == ["(0010,0020) of 1.2"]
    assert different('<PatientID failCat="WARNING"/>', [image("1.2", PatientID="Q")], same[:1]) == []
    assert different('<PatientID type="DIFFERENT"/>', same, same) == ["PatientID of 1.2", "PatientID of 1.3"]
    assert (
        different('<PatientID type="CONSTANT" value="P"/><PatientSex type="ABSENT"/><PatientID type="NOT_EMPTY"/>', same, same)
        == []
    )
    assert different("<HASH/>", [image("1.2", PatientID="Q")], same[:1]) == ["HASH of 1.2"]
    assert different("<PatientID/>", [b"no DICOM"], same[:1]) == ["images"]
    assert different('<PatientID type="MAGIC"/>', same[:1], same[:1]) == ["PatientID of 1.2"]
    with pytest.raises(ValueError, match="Unicorn"):
        imaging.attributes(etree.fromstring("<TagList><Unicorn/></TagList>"))


RESPONSE = """<RetrieveDocumentSetResponse><RegistryResponse status="{}"/><DocumentResponse><HomeCommunityId>{}</HomeCommunityId>
<RepositoryUniqueId>r</RepositoryUniqueId><DocumentUniqueId>u</DocumentUniqueId><mimeType>m</mimeType></DocumentResponse></RetrieveDocumentSetResponse>"""


def false(checks: object) -> list[Check]:
    return [each for each in checks if not each.passed]  # type: ignore[attr-defined]


def test_answers_to_requests_for_images() -> None:
    standard, other = etree.fromstring(RESPONSE.format("s", "")), etree.fromstring(RESPONSE.format("f", "h"))
    assert false(imaging.check_documents(standard, standard)) == []
    assert len(false(imaging.check_documents(other, standard))) == 1
    assert len(false(imaging.check_documents(standard, etree.fromstring(RESPONSE.format("s", "h"))))) == 1
    assert len(false(imaging.check_homes(standard, other))) == 1
    assert len(false(imaging.check_documents(etree.fromstring("<R/>"), standard))) == 2


def test_errors_are_counted_by_code() -> None:
    one = etree.fromstring('<R><RegistryError errorCode="A" severity="x:Error"/></R>')
    assert imaging.check_some_error(one).passed
    assert not imaging.check_some_error(etree.fromstring("<R/>")).passed
    assert false(imaging.check_errors(one, one)) == []
    assert false(imaging.check_errors(etree.fromstring('<R><RegistryError errorCode="A" severity="x:Warning"/></R>'), one))


def test_http_statuses() -> None:
    result = etree.fromstring(
        '<T><Transaction id="1"><Status><Code>200</Code></Status></Transaction><Transaction id="2"><Status><Code>404</Code></Status></Transaction></T>'
    )
    assert len(false(imaging.check_wado(result, etree.fromstring("<H/>")))) == 1
    assert false(imaging.check_wado(result, etree.fromstring('<H><Transactions id="2-3" code="404"/></H>'))) == []
    assert len(false(imaging.check_wado(result, etree.fromstring('<H><Transactions id="*" code="404"/></H>')))) == 1
