from pathlib import Path

import pytest
from peers.registry_objects import association, code, entry, folder, submission, submission_set

from ihe import code_set
from ihe.code_set import CodeSet, CodeSetError, check_codes
from ihe.metadata import KINDS
from profiles.document import RPLC, Code, Submission

NIST = Path(__file__).resolve().parents[2] / ".." / "shared" / "testdata" / "nist" / "environment" / "codes.xml"

CLASS_CODE = "urn:uuid:41a5887f-8865-4c09-adf7-e362475b143a"
SMALL = """<Codes>
  <CodeType name="classCode" classScheme="urn:uuid:41a5887f-8865-4c09-adf7-e362475b143a">
    <Code code="class" display="Klasse" codingScheme="1.2.3" system="http://example.org"/>
  </CodeType>
  <CodeType name="eventCodeList" classScheme="urn:uuid:2c6b8cb7-8b2a-4051-b291-b1ae6a575ef4">
    <Code code="MR" codingScheme="1.2.3"/>
  </CodeType>
  <CodeType name="contentTypeCode" classScheme="urn:uuid:aa543740-bdda-424e-8c96-df4873be8500">
    <Code code="content" codingScheme="1.2.3"/>
  </CodeType>
  <CodeType name="folderCodeList" classScheme="urn:uuid:1ba97051-7806-41a8-a48b-8fce7af683c5">
    <Code code="folder" codingScheme="1.2.3"/>
  </CodeType>
  <CodeType name="associationDocumentation" classScheme="urn:uuid:abd807a3-4432-4053-87b4-fd82c643d1f3">
    <Code code="reason" codingScheme="1.2.3"/>
  </CodeType>
  <CodeType name="mimeType"><Code code="Application/DICOM" ext="dcm"/></CodeType>
  <AssigningAuthority id="&amp;1.3.6.1.4.1.21367.13.20.1000&amp;ISO" display="RED"/>
</Codes>"""


def small() -> CodeSet:
    return code_set.parse(SMALL.encode())


def test_a_code_set_is_read() -> None:
    read = small()
    assert read.codes[CLASS_CODE] == {("class", "1.2.3"): "Klasse"}
    assert len(read.codes) == 5
    assert read.mime_types == {"application/dicom"}
    assert read.authorities == ("1.3.6.1.4.1.21367.13.20.1000",)


@pytest.mark.skipif(not NIST.exists(), reason="../shared/testdata is not here")
def test_the_toolkits_code_set_is_read() -> None:
    read = code_set.parse(NIST.read_bytes())
    assert read.codes.keys() == {row.key for kind in KINDS for row in kind.attributes if row.place == "code"}
    assert read.has(CLASS_CODE, Code("57016-8", "2.16.840.1.113883.6.1"))
    assert not read.has(CLASS_CODE, Code("57016-8", "1.2.3"))
    assert {"application/dicom", "text/xml", "application/fhir+json"} <= read.mime_types
    assert len(read.authorities) == 3


def test_codes_of_the_domain_pass() -> None:
    assert check_codes(submission(), small()) == ()
    assert check_codes(Submission(documents=(entry(mime_type="application/dicom; x=1"),)), small()) == ()
    assert check_codes(Submission(documents=(entry(class_code=Code("class", "1.2.3", "another display")),)), small()) == ()
    assert check_codes(Submission(documents=(entry(class_code=None, mime_type=""),)), small()) == ()


@pytest.mark.parametrize(
    ("whole", "id_", "words"),
    [
        (
            Submission(documents=(entry(class_code=code("x")),)),
            "Document01",
            "DocumentEntry.classCode has the code x of the coding scheme 1.2.3",
        ),
        (
            Submission(documents=(entry(class_code=Code("class", "9.9", "")),)),
            "Document01",
            "DocumentEntry.classCode has the code class",
        ),
        (
            Submission(documents=(entry(event_codes=(code("MR"), code("CT"))),)),
            "Document01",
            "DocumentEntry.eventCodeList has the code CT",
        ),
        (Submission(documents=(entry(mime_type="text/goofy"),)), "Document01", "DocumentEntry.mimeType has text/goofy"),
        (Submission(submission_set(content_type=code("x"))), "SubmissionSet01", "SubmissionSet.contentTypeCode has the code x"),
        (Submission(folders=(folder(codes=(code("x"),)),)), "Folder01", "Folder.codeList has the code x"),
        (
            Submission(associations=(association("replaces", "a", "b", RPLC, documentation=code("x")),)),
            "replaces",
            "Association.documentation has the code x",
        ),
    ],
)
def test_other_codes_are_told(whole: Submission, id_: str, words: str) -> None:
    errors = check_codes(whole, small())
    assert [(error.code, error.location) for error in errors] == [("XDSRegistryMetadataError", id_)]
    assert errors[0].context.startswith(f"{id_}: {words}")
    assert errors[0].context.endswith("which is not in the affinity domain's code set")
    assert [error.code for error in check_codes(whole, small(), "Repository")] == ["XDSRepositoryMetadataError"]


def test_what_a_code_set_does_not_list_is_free() -> None:
    assert check_codes(submission(), CodeSet({})) == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<Codes", "the code set cannot be read: the message is not well-formed XML"),
        ("<!DOCTYPE Codes><Codes/>", "the code set cannot be read: a document type declaration is not allowed"),
        ("<codes/>", "has to have the root element Codes, it has codes"),
        (
            "<Codes>\n<CodeType name='classCode' classScheme='urn:uuid:x'/></Codes>",
            "line 2: CodeType classCode has a classScheme of no",
        ),
        (SMALL.replace('code="MR" ', ""), "line 6: a Code of eventCodeList needs code"),
        (SMALL.replace('code="MR" codingScheme="1.2.3"', 'code="MR"'), "line 6: a Code of eventCodeList needs codingScheme"),
        (SMALL.replace("&amp;ISO", ""), "line 18: an AssigningAuthority needs an id &OID&ISO"),
    ],
)
def test_a_file_that_is_none_is_named_by_its_line(text: str, words: str) -> None:
    with pytest.raises(CodeSetError, match=words):
        code_set.parse(text.encode())
