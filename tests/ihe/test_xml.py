import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from ihe import xml

LAUGHS = (
    '<!DOCTYPE l [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY a{n} "{("&a" + (str(n - 1) if n else "") + ";") * 10}">' for n in range(10))
    + "]><l>&a9;</l>"
)
EXTERNAL = '<!DOCTYPE l [<!ENTITY x SYSTEM "file:///etc/passwd">]><l>&x;</l>'


@pytest.mark.parametrize("document", [LAUGHS, EXTERNAL, "<!DOCTYPE l><l/>", '<?xml version="1.0"?><!-- <a> --><!DOCTYPE l><l/>'])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_document_types_are_refused(document: str, encoding: str) -> None:
    with pytest.raises(xml.XmlError):
        xml.parse(document.encode(encoding), 100_000)


@pytest.mark.parametrize("data", [b"", b"<a", b"<a></b>", b"\x00", b"<a>&unknown;</a>", b"<a>\xff</a>"])
def test_what_is_not_well_formed_is_refused_without_being_quoted(data: bytes) -> None:
    with pytest.raises(xml.XmlError, match=r"^the message is not well-formed XML$"):
        xml.parse(data, 100)


def test_what_is_too_large_is_refused() -> None:
    assert xml.parse(b"<a/>", 4).tag == "a"
    with pytest.raises(xml.XmlError, match="the limit is 3"):
        xml.parse(b"<a/>", 3)


@pytest.mark.parametrize("inside", [b"<b/>", b"<b>", b"<b c='' d='' e='' f=''/>"])
def test_what_is_all_markup_is_refused_before_it_is_a_tree(inside: bytes) -> None:
    times = 1_300_000 // (inside.count(b"<") + inside.count(b"="))
    with pytest.raises(xml.XmlError, match="more elements and attributes"):
        xml.parse(b"<a>" + inside * times + b"</a>", 1 << 25)
    many = b"<a>" + b"<b>what a value has</b>" * 50_000 + b"</a>"
    assert len(xml.parse(many, len(many))) == 50_000


def test_a_long_message_may_have_as_much_markup_as_ebxml_has() -> None:
    """Where a site allows them: one in thirty bytes, of which here are forty million."""
    slot = b'<rim:Slot name="n"><rim:Value>%s</rim:Value></rim:Slot>' % (b"v" * 100)
    assert len(xml.parse(b'<a xmlns:rim="urn:r">' + slot * 300_000 + b"</a>", 1 << 26)) == 300_000


def test_a_doctype_in_text_is_text() -> None:
    assert xml.parse(b"<a><![CDATA[<!DOCTYPE a>]]><!-- gone -->b</a>", 100).text == "<!DOCTYPE a>b"


@given(st.text(st.characters(exclude_categories=[])))
def test_any_text_can_be_written(text: str) -> None:
    made = xml.element(xml.RIM, "Value", value=text)
    xml.child(made, xml.RIM, "Value", text)
    again = xml.parse(etree.tostring(made), 100_000)
    assert again.get("value") == xml.clean(text)
    assert (again[0].text or "") == xml.clean(text)
