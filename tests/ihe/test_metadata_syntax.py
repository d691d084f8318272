"""What values look like (ITI TF-3 table 4.2.3.1.7-2): its own examples, what partners send, and what is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ihe.metadata import KINDS
from ihe.metadata_syntax import FORMS, Syntax, is_valid

GOOD: list[tuple[Syntax, str]] = [
    (Syntax.CX, "543797436^^^&1.2.840.113619.6.197&ISO"),
    (Syntax.CX, "D\\E\\TP-1^^^&1.3.6&ISO"),
    (Syntax.CXI, "11379^^^&1.3.6367.3.7&ISO^urn:ihe:iti:xds:2013:uniqueId"),
    (Syntax.CXI, "2013001^^^^urn:ihe:iti:xds:2013:accession"),
    (Syntax.CXI, "2013001^^^HOSPITAL^urn:ihe:iti:xds:2013:accession"),
    (Syntax.CXI, "2013001^^^HOSPITAL&1.2.3&ISO^urn:ihe:iti:xds:2013:accession"),
    (Syntax.CXI, "2.16.840.1^^^^urn:ihe:iti:xdw:2013:workflowInstanceId"),
    (Syntax.CXI, "urn:oid:1.3^^^&1.2.3.4.5.6&ISO^urn:ihe:iti:xdw:2013:workflowInstanceId"),
    (Syntax.CXI, "1.2.3.45.678^^^^urn:ihe:iti:xds:2016:studyInstanceUID"),
    (Syntax.CXI, "245348841^^^&1.2.840.113619.6.197&ISO^urn:ihe:iti:xds:2015:encounterId"),
    (Syntax.CXI, "1^^^&1.2&ISO^local^urn:oid:1.2.3"),
    *((Syntax.TIME, time) for time in ("2005", "200501", "20050102", "2005010203", "200501020304", "20050102030405", "20040229")),
    (Syntax.SHA_1, "da39a3ee5e6b4b0d3255bfef95601890afd80709"),
    (Syntax.SHA_1, "DA39A3EE5E6B4B0D3255BFEF95601890AFD80709"),
    *((Syntax.LANGUAGE, tag) for tag in ("en", "en-CA", "en-us", "zh-Hans-CN", "x-klingon")),
    *(
        (Syntax.MIME_TYPE, mime)
        for mime in ("application/pdf", "application/fhir+xml", "text/plain; charset=utf-8", "multipart/related")
    ),
    *((Syntax.OID, oid) for oid in ("2.999.2005.3.7", "1.2", "1.0.3", "129.6.58.92.88336", "1." + "2" * 62)),
    (Syntax.OID_URN, "urn:oid:2.999.2005.3.7"),
    (Syntax.DOCUMENT_ID, "2.999.78901.2345.6.7^123456"),
    (Syntax.DOCUMENT_ID, "urn:uuid:9e0110f8-4748-4f1e-b0a8-cecae32209c7"),
    (Syntax.UUID, "urn:uuid:9e0110f8-4748-4f1e-b0a8-cecae32209c7"),
    (Syntax.XCN, "11375^Welby^Marcus^J^Jr. MD^Dr^^^&2.999.6.197&ISO"),
    (Syntax.XCN, "^Welby^Marcus^^^Dr^MD"),
    (Syntax.XCN, "^Smitty^Gerald^^^"),
    (Syntax.XCN, "2.999.1.2.3.7548^Some EMR"),
    (Syntax.XCN, "^^Dsub"),
    (Syntax.XON, "Some Hospital"),
    (Syntax.XON, "Some Hospital^^^^^^^^^2.999.1.2.3.4.5.6.7.8.9.1789.45"),
    (Syntax.XON, "Some Hospital^^^^^&2.999.1.2.3.4.5.6.7.8.9.1789&ISO^^^^45"),
    (Syntax.XTN, "^^Internet^radiology@healthcare.example.org"),
    (Syntax.XTN, "^NET^Internet^radiology@healthcare.example.org"),
    (Syntax.XTN, "^PRS^PH^^31^^(042) 1123 4567"),
    (Syntax.XTN, "^PRS^PH^^^^+31 42 1123 4567"),
    (Syntax.RECIPIENT, "Some Hospital^^^^^^^^^1.2.3.9.1789.45|^Wel^Marcus^^^Dr^MD|^^Internet^mwel@healthcare.example.org"),
    (Syntax.RECIPIENT, "|12345^LaShawn^James^^Dr^MD"),
    (Syntax.RECIPIENT, "MainHospital^^^^^^^^^1.2.3.4.5.6.7.8.9.1789.2364"),
    (Syntax.RECIPIENT, "||^^Internet^dr.oz@healthcare.example.org"),
    (Syntax.PATIENT_INFO, "PID-3|D\\E\\ID1-1^^^&1.3.6&ISO~ID2^^^&1.3.11&ISO"),
    (Syntax.PATIENT_INFO, "PID-5|\u5c71\u7530^\u592a\u90ce^^^^^L^I"),
    (Syntax.PATIENT_INFO, "PID-11|100 Main St^^BURLINGTON^MA^01803^USA"),
    (Syntax.PATIENT_INFO, "PID-20|"),
    (Syntax.TEXT, "anything"),
]

BAD: list[tuple[Syntax, str]] = [
    *(
        (Syntax.CX, text)
        for text in (
            "", "543797436", "^^^&1.2&ISO", "1^^^&1.2&iso", "1^^^NAME&1.2&ISO", "1^^^&1.2.a&ISO", "1^^^&1.2&ISO^MR", "1^2^^&1.2&ISO",
            "1^^^&1.2", "1^^^&&ISO", "1^^^1.2",
        )
    ),
    *(
        (Syntax.CXI, text)
        for text in (
            "", "2013001", "2013001^^^&1.2&ISO", "^^^&1.2&ISO^t", "1^x^^&1.2&ISO^t", "1^^x^&1.2&ISO^t", "1^^^&1.2^t", "1^^^&^t",
            "1^^^&1.2&DNS^t", "1^^^^t^home^more", "1^^^^urn:ihe:iti:xds:2013:referral", "1^^^^urn:ihe:iti:xds:2015:encounterId",
        )
    ),
    *(
        (Syntax.TIME, text)
        for text in (
            "", "0000", "200", "20050", "200513", "20050100", "20050132", "20050229", "2005010224", "200501020360", "20050102030460",
            "20050102030405.1", "20050102030405Z", "2005-01-02", "\u0662\u0660\u0660\u0665", "20050102030405+0100",
        )
    ),
    *((Syntax.SHA_1, text) for text in ("", "da39a3ee5e6b4b0d3255bfef95601890afd8070", "g" * 40, "0" * 64)),
    *((Syntax.LANGUAGE, text) for text in ("", "en_US", "english!", "en-", "toolonglanguage")),
    *((Syntax.MIME_TYPE, text) for text in ("", "pdf", "application/", "application/x y", "/pdf", "text/plain;\r\nX: y", "text/plain\n; a=b", "text/plain; ä")),
    *((Syntax.OID, text) for text in ("", "1", "1.", "1.02", "1..2", "a.b", "1.2\n", "1." + "2" * 63, "\u0661.2", "urn:oid:1.2")),
    *((Syntax.OID_URN, text) for text in ("", "1.2.3", "urn:oid:", "urn:oid:1.02", "URN:OID:1.2")),
    *((Syntax.UUID, text) for text in ("", "Document01", "urn:uuid:9E0110F8-4748-4F1E-B0A8-CECAE32209C7", "urn:uuid:9e0110f8")),
    *((Syntax.XCN, text) for text in ("", "^^^J", "1^A^^^^^^^1.2", "1^A^^^^^^^NAME&1.2&ISO", "1^A^^^^^^^&1.2&L")),
    *((Syntax.XON, text) for text in ("", "^^^^^^^^^1.2", "H^L", "H^^^^^^^^^45", "H^^^^^1.2^^^^45", "H^^^^^N&1.2&ISO^^^^45", "H^^^^^^XX")),
    *((Syntax.XTN, text) for text in ("", "5551234", "^^Internet", "^PRN^Internet^a@example.org", "^PRN^PH", "^PRN^^^^^5551234", "^^PH^^^^1^^x")),
    *((Syntax.RECIPIENT, text) for text in ("", "||", "|", "a|^b|^^Internet^c|d", "^x", "|^^^x", "||nobody")),
    *((Syntax.PATIENT_INFO, text) for text in ("", "Doe^John", "PID-2|1", "PID-4|1", "PID-12|US", "PID-19|1", "PID-0|1", "PID-100|1", "PV1-2|x", "PID-3")),
    *((Syntax.SIZE, text) for text in ("", "-1", "1.5", "1e3", "\u0661", "9" * 19)),
    *((Syntax.DOCUMENT_ID, text) for text in ("", "x" * 257)),
    *((Syntax.URI, text) for text in ("", "two words", "x" * 257)),
    *((Syntax.VERSION, text) for text in ("", "-1", "1.1", "1" * 10)),
    (Syntax.AVAILABILITY, "Online"),
    (Syntax.SUBMISSION_SET_STATUS, "original"),
    (Syntax.YES_NO, "true"),
    (Syntax.STATUS, "Approved"),
]  # fmt: skip


@pytest.mark.parametrize(("syntax", "text"), GOOD)
def test_what_has_the_form(syntax: Syntax, text: str) -> None:
    assert is_valid(syntax, text)


@pytest.mark.parametrize(("syntax", "text"), BAD)
def test_what_has_it_not(syntax: Syntax, text: str) -> None:
    assert not is_valid(syntax, text)


def test_every_form_that_can_be_wrong_is_described() -> None:
    used = {attribute.syntax for kind in KINDS for attribute in kind.attributes} | {Syntax.XON, Syntax.XTN}
    assert used - FORMS.keys() == {Syntax.TEXT, Syntax.CODE, Syntax.AUTHOR}


@given(st.sampled_from(Syntax), st.text(max_size=40) | st.text("0123456789^&|.ISOPD-", max_size=40))
def test_nothing_is_too_odd_to_be_judged(syntax: Syntax, text: str) -> None:
    assert is_valid(syntax, text) in (True, False)


@given(st.datetimes())
def test_every_time_is_one(time: object) -> None:
    assert is_valid(Syntax.TIME, f"{time:%Y}".zfill(4) + f"{time:%m%d%H%M%S}")
