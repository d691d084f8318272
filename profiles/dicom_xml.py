"""The Native DICOM Model: PS3.19 annex A.1, written from the DICOM JSON Model (PS3.18 annex F) and read into it.

The two models say the same; what differs is done here: private attributes are named by their creator in XML and by their block
in JSON, person names are split into components, numbers are text, and an empty value among others is a number left out.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from math import isfinite
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from lxml import etree
from pydicom.datadict import keyword_for_tag
from pydicom.valuerep import STANDARD_VR as VR

Attribute = dict[str, object]
Attributes = dict[str, Attribute]

NAMESPACE: Final = "http://dicom.nema.org/PS3.19/models/NativeDICOM"
_HEAD: Final = f'<?xml version="1.0" encoding="UTF-8"?>\n<NativeDicomModel xmlns="{NAMESPACE}" xml:space="preserve">'
_TAIL: Final = "</NativeDicomModel>\n"
_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")
_COMPONENTS: Final = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
_INTEGERS: Final = frozenset({"IS", "SL", "SS", "SV", "UL", "US", "UV"})
_REALS: Final = frozenset({"DS", "FD", "FL"})
_VRS: Final = frozenset(VR)
_TAG: Final = re.compile(r"[0-9A-Fa-f]{8}")
_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_MOST_LEFT_OUT: Final = 1 << 20
_DEEPEST: Final = 64


class DicomXmlError(ValueError):
    """A document that is no Native DICOM Model; the text says where and what, and repeats no value."""


# --- writing


def render(attributes: Mapping[str, Mapping[str, object]]) -> bytes:
    """PS3.19 section A.1: one data set as an XML document in UTF-8. `attributes` are those of one DICOM JSON object.

    Characters that XML 1.0 has not (a form feed in a text) become U+FFFD. Never raises for what the JSON model allows.
    """
    return "".join((_HEAD, *_attributes(attributes), _TAIL)).encode("utf-8")


def _attributes(attributes: Mapping[str, Mapping[str, object]]) -> Iterator[str]:
    for tag, attribute in attributes.items():
        vr = str(attribute.get("vr", "UN"))
        yield f'<DicomAttribute tag="{_numbered(attributes, tag)}" vr="{vr}"{_named(attributes, tag)}>'
        if isinstance(inline := attribute.get("InlineBinary"), str):
            yield f"<InlineBinary>{escape(inline)}</InlineBinary>"
        elif isinstance(uri := attribute.get("BulkDataURI"), str):
            yield f"<BulkData uri={_quoted(uri)}/>"
        else:
            values = attribute.get("Value")
            for number, value in enumerate(values if isinstance(values, Sequence) else (), 1):
                yield from _value(vr, number, value)
        yield "</DicomAttribute>"


def _value(vr: str, number: int, value: object) -> Iterator[str]:
    if vr == "SQ":
        yield f'<Item number="{number}">'
        if isinstance(value, Mapping):
            yield from _attributes(value)
        yield "</Item>"
    elif value is None:
        return
    elif vr == "PN":
        yield f'<PersonName number="{number}">'
        for group in _GROUPS:
            if isinstance(value, Mapping) and value.get(group):
                parts = zip(_COMPONENTS, str(value[group]).split("^", 4), strict=False)
                filled = "".join(f"<{name}>{_text(part)}</{name}>" for name, part in parts if part)
                yield f"<{group}>{filled}</{group}>"
        yield "</PersonName>"
    else:
        yield f'<Value number="{number}">{_text(str(value))}</Value>'


def _text(value: str) -> str:
    # A parser makes line feeds of carriage returns that stand for themselves.
    return escape(_NOT_XML.sub("\ufffd", value), {"\r": "&#13;"})


def _quoted(value: str) -> str:
    return quoteattr(_NOT_XML.sub("\ufffd", value))


def _creator(attributes: Mapping[str, Mapping[str, object]], tag: str) -> str | None:
    """PS3.5 section 7.8.1: the creator of a private attribute, None for a standard one or where its block has none."""
    if not _is_private(tag) or tag[4:6] == "00":
        return None
    values = attributes.get(f"{tag[:4]}00{tag[4:6]}", {}).get("Value")
    return str(values[0]) if isinstance(values, Sequence) and values and values[0] else None


def _is_private(tag: str) -> bool:
    return tag[3] in "13579BDFbdf"


def _numbered(attributes: Mapping[str, Mapping[str, object]], tag: str) -> str:
    """PS3.19 table A.1.5-2: of an attribute with a private creator the block is 00."""
    return tag if _creator(attributes, tag) is None else f"{tag[:4]}00{tag[6:]}"


def _named(attributes: Mapping[str, Mapping[str, object]], tag: str) -> str:
    creator = _creator(attributes, tag)
    if creator is not None:
        return f" privateCreator={_quoted(creator)}"
    keyword = _keyword(tag)
    return f' keyword="{keyword}"' if keyword else ""


@lru_cache(maxsize=8192)
def _keyword(tag: str) -> str:
    return keyword_for_tag(int(tag, 16)) if _TAG.fullmatch(tag) else ""


# --- reading


def parse(data: bytes) -> Attributes:
    """PS3.19 section A.1: the attributes of an XML document as one DICOM JSON object, keys in ascending order.

    With or without the namespace. IS and DS are numbers, as in DICOM JSON. A private attribute that is named by its creator gets the
    block of this creator, or a free one. BulkData by `uri` or `uuid` becomes a BulkDataURI. Raises `DicomXmlError`.
    """
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=True, remove_pis=True
    )
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        raise DicomXmlError(f"not well-formed XML (line {error.lineno})") from None
    if root.getroottree().docinfo.internalDTD is not None:
        raise DicomXmlError("a document type declaration is not allowed")
    if etree.QName(root).localname != "NativeDicomModel":
        raise DicomXmlError("the root element is not NativeDicomModel")
    return _Reader(len(data)).data_set(root, 0)


class _Reader:
    """Reads one document. What it leaves out takes room too: no more values than the document has bytes, wherever they are."""

    def __init__(self, length: int) -> None:
        self._left = min(length, _MOST_LEFT_OUT)

    def data_set(self, parent: etree._Element, depth: int) -> Attributes:
        if depth > _DEEPEST:
            raise DicomXmlError(f"sequences are nested more than {_DEEPEST} deep")
        found: Attributes = {}
        private: list[tuple[str, str, Attribute]] = []
        for element in _children(parent, "DicomAttribute"):
            tag, vr = element.get("tag", ""), element.get("vr", "")
            if not _TAG.fullmatch(tag) or vr not in _VRS:
                raise DicomXmlError(f"line {_line(element)}: an attribute needs a tag of eight hexadecimal digits and a VR")
            attribute = self._attribute(element, vr, depth)
            creator = element.get("privateCreator")
            if creator and _is_private(tag) and tag[4:6] == "00":
                private.append((tag.upper(), creator, attribute))
            elif tag.upper() in found:
                raise DicomXmlError(f"line {_line(element)}: ({tag[:4]},{tag[4:]}) is there twice")
            else:
                found[tag.upper()] = attribute
        blocks: dict[tuple[str, str], str] = {}
        for tag, creator, attribute in private:
            named = tag[:4], creator
            blocks[named] = blocks.get(named) or _block(found, *named)
            found[f"{tag[:4]}{blocks[named]}{tag[6:]}"] = attribute
        return dict(sorted(found.items()))

    def _attribute(self, element: etree._Element, vr: str, depth: int) -> Attribute:
        attribute: Attribute = {"vr": vr}
        if vr == "SQ":
            items = [self.data_set(item, depth + 1) for item in _children(element, "Item")]
            if items:
                attribute["Value"] = items
            return attribute
        for child in _children(element, "BulkData"):
            uri, uuid = child.get("uri"), child.get("uuid")
            if not (uri or uuid):
                raise DicomXmlError(f"line {_line(child)}: BulkData has neither uri nor uuid")
            return {"vr": vr, "BulkDataURI": uri or f"urn:uuid:{uuid}"}
        for child in _children(element, "InlineBinary"):
            try:
                inline = base64.b64decode("".join((child.text or "").split()), validate=True)
            except (binascii.Error, ValueError):
                raise DicomXmlError(f"line {_line(child)}: InlineBinary is not base64") from None
            return {"vr": vr, "InlineBinary": base64.b64encode(inline).decode("ascii")} if inline else attribute
        values = self._values(element, vr)
        if any(value is not None for value in values):
            attribute["Value"] = values
        return attribute

    def _values(self, element: etree._Element, vr: str) -> list[object]:
        values: list[object] = []
        for child in _children(element, "PersonName" if vr == "PN" else "Value"):
            number = child.get("number", "")
            if not (number.isascii() and number.isdecimal() and len(number) < 8 and len(values) < int(number)):
                raise DicomXmlError(f"line {_line(child)}: values are numbered from 1 upwards")
            missing = int(number) - 1 - len(values)
            self._left -= missing
            if self._left < 0:
                raise DicomXmlError(f"line {_line(child)}: more values are left out than a document of this length may leave out")
            values += [None] * missing
            values.append(_person(child) if vr == "PN" else _scalar(child, vr))
        return values


def _block(found: Attributes, group: str, creator: str) -> str:
    """PS3.5 section 7.8.1: the block that is reserved for `creator`, or the first free one, which is reserved then."""
    for number in range(0x10, 0x100):
        reservation = found.setdefault(f"{group}00{number:02X}", {"vr": "LO", "Value": [creator]})
        if reservation.get("Value") == [creator]:
            return f"{number:02X}"
    raise DicomXmlError(f"group {group} has no room for another private creator")


def _scalar(element: etree._Element, vr: str) -> object:
    text = element.text or ""
    if vr in _INTEGERS or vr in _REALS:
        text = text.strip()
        try:
            number = int(text) if vr in _INTEGERS else float(text)
        except ValueError:
            if not text:
                return None
            raise DicomXmlError(f"line {_line(element)}: a value of {vr} is not a number") from None
        return number if isinstance(number, int) or isfinite(number) else None
    return text.upper() if vr == "AT" else text or None


def _person(element: etree._Element) -> object:
    name: dict[str, str] = {}
    for group in _GROUPS:
        for child in _children(element, group):
            parts = {etree.QName(part).localname: part.text or "" for part in child}
            text = "^".join(parts.get(component, "") for component in _COMPONENTS).rstrip("^")
            if text:
                name[group] = text
    return name or None


def _children(parent: etree._Element, name: str) -> Iterator[etree._Element]:
    return (child for child in parent if etree.QName(child).localname == name)


def _line(element: etree._Element) -> str:
    return str(element.sourceline)
