"""Identifiers of C-FIND, C-MOVE and C-GET (PS3.4 annexes C and K): between bytes and what is asked, and from results to bytes.

What is asked is read value by value as text, for a value to match need not be one of its VR (ranges, wildcards). Results come
as DICOM JSON (PS3.18 annex F), as they are stored, and are written with exactly the attributes that were asked for.
"""

import base64
import binascii
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from struct import Struct, pack, unpack
from typing import Final

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from profiles import character_sets, part10
from profiles.dicom_json import Attribute
from profiles.vocabulary import EXPLICIT_VR_BIG_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN

MAX_KEYS: Final = 256
"""Of one identifier, with those in its sequences."""

_CHARACTER_SET: Final = "00080005"
_UTF8: Final = "ISO_IR 192"
_LONGEST_SHORT: Final = 0xFFFE
_CHARACTER_SETS_APPLY: Final = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_TEXT: Final = _CHARACTER_SETS_APPLY | {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI", "UR"}
_NUMBERS: Final = {"FD": "d", "FL": "f", "SL": "i", "SS": "h", "SV": "q", "UL": "I", "US": "H", "UV": "Q"}
_WORDS: Final = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}
_LONG: Final = frozenset(str(vr) for vr in EXPLICIT_VR_LENGTH_32)
_AMBIGUOUS: Final = {"US or SS": "US", "OB or OW": "OW", "US or OW": "OW", "US or SS or OW": "OW"}
_LONG_LENGTHS: Final = {order: Struct(f"{order}L").pack for order in "<>"}
_SHORT_LENGTHS: Final = {order: Struct(f"{order}H").pack for order in "<>"}
_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Key:
    """One attribute asked for. `tag` is eight upper-case hexadecimal digits; `value` is text to match, empty for universal matching.

    `items` are the keys of a sequence's item (PS3.4 section C.2.2.2.6); a sequence without is asked for whole.
    """

    tag: str
    vr: str
    value: str = ""
    items: tuple["Key", ...] = ()


@dataclass(frozen=True, slots=True)
class Identifier:
    """What is asked: its keys in ascending order of their tags, and the Defined Terms of its Specific Character Set."""

    keys: tuple[Key, ...]
    character_set: tuple[str, ...] = ()
    _values: dict[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_values", {key.tag: key.value for key in self.keys})

    def value(self, tag: str) -> str:
        """The text to match of a top-level attribute; empty where it is absent or without one."""
        return self._values.get(tag, "")

    def __contains__(self, tag: object) -> bool:
        return tag in self._values

    def matching(self) -> dict[Path, str]:
        """Every key that has a value to match, by its path: tags of the sequences that it is in, then its own."""
        return dict(_matching(self.keys, ()))


def _matching(keys: Sequence[Key], above: Path) -> Iterator[tuple[Path, str]]:
    for key in keys:
        if key.items:
            yield from _matching(key.items, (*above, key.tag))
        elif key.value:
            yield (*above, key.tag), key.value


def read(data: bytes, transfer_syntax: str) -> Identifier:
    """PS3.4 section C.2.2.1: the Data Set of a request, decoded by its own Specific Character Set.

    Raises `part10.HeaderError` for bytes that are no Data Set in that transfer syntax, for several items in one sequence, and for more
    than `MAX_KEYS` keys.
    """
    dataset = part10.data_set(data, transfer_syntax)
    stored = part10.stored(dataset, int(_CHARACTER_SET, 16))
    terms = _plain(stored, character_sets.DEFAULT, "CS").split("\\") if stored is not None else []
    codecs = character_sets.of_terms(terms) if any(terms) else character_sets.DEFAULT
    room = [MAX_KEYS]
    keys = tuple(key for key in _keys(dataset, codecs, room) if key.tag != _CHARACTER_SET)
    return Identifier(keys, tuple(terms) if any(terms) else ())


def _keys(dataset: Dataset, codecs: tuple[str, ...], room: list[int]) -> Iterator[Key]:
    for tag in sorted(dataset._dict):
        if not tag & 0xFFFF:  # group lengths
            continue
        room[0] -= 1
        if room[0] < 0:
            raise part10.HeaderError(f"an Identifier of more than {MAX_KEYS} keys is refused", tag)
        element = part10.stored(dataset, tag)
        assert element is not None
        vr = element.VR if element.VR not in (None, "UN") else part10.represented(dataset, tag)
        vr = _AMBIGUOUS.get(str(vr), str(vr))
        if vr != "SQ":
            yield Key(f"{tag:08X}", vr, _plain(element, codecs, vr))
            continue
        items = list(element.value or ()) if isinstance(element, DataElement) else []
        if len(items) > 1:
            raise part10.HeaderError("a sequence to match has one item (PS3.4 section C.2.2.2.6)", tag)
        yield Key(f"{tag:08X}", vr, "", tuple(_keys(items[0], codecs, room)) if items else ())


def _plain(element: RawDataElement | DataElement, codecs: tuple[str, ...], vr: str) -> str:
    value = element.value
    if not isinstance(value, bytes) or not value:
        return ""
    if vr in _NUMBERS or vr == "AT":
        return _number_text(value, vr, little=not isinstance(element, RawDataElement) or element.is_little_endian)
    if vr not in _TEXT and vr != "UN":
        return ""
    text = character_sets.decode(value, codecs if vr in _CHARACTER_SETS_APPLY else character_sets.DEFAULT, person_name=vr == "PN")
    return "\\".join(part.strip(" \0") for part in text.split("\\")) if vr not in ("LT", "ST", "UT", "UR") else text


def _number_text(value: bytes, vr: str, *, little: bool) -> str:
    order = "<" if little else ">"
    try:
        if vr == "AT":
            return "{:04X}{:04X}".format(*unpack(f"{order}HH", value))
        return str(unpack(order + _NUMBERS[vr], value)[0])
    except struct.error:
        return ""


# --- results


@dataclass(frozen=True, slots=True)
class Projection:
    """How results of one request are written: `keys` are what they hold, `character_set` the requestor's, the rest its syntax."""

    keys: tuple[Key, ...]
    character_set: tuple[str, ...]
    transfer_syntax: str
    _before: tuple[Key, ...] = field(init=False, repr=False, compare=False)
    _after: tuple[Key, ...] = field(init=False, repr=False, compare=False)
    _writers: tuple[tuple["_Writer", bytes], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_before", tuple(key for key in self.keys if key.tag < _CHARACTER_SET))
        object.__setattr__(self, "_after", tuple(key for key in self.keys if key.tag > _CHARACTER_SET))
        wanted = dict.fromkeys((self.character_set, (_UTF8,)))
        object.__setattr__(self, "_writers", tuple(_writer(self.transfer_syntax, terms) for terms in wanted))

    def write(self, result: Mapping[str, Attribute]) -> bytes:
        """PS3.4 section C.4.1.1.3.2: one Identifier of a response; an attribute that `result` lacks is empty in it.

        In the requestor's character set where that has all characters of this result, else in UTF-8 (ISO_IR 192).
        """
        for writer, said in self._writers:
            try:
                return b"".join((*writer.elements(self._before, result), said, *writer.elements(self._after, result)))
            except _Unwritable:
                continue
        raise AssertionError("UTF-8 says everything")


class _Unwritable(Exception):
    """The character set lacks a character."""


def _writer(transfer_syntax: str, terms: tuple[str, ...]) -> tuple["_Writer", bytes]:
    """What writes in the character set of these terms, and the element that says so, none for the default one."""
    writer = _Writer(transfer_syntax, character_sets.of_terms(terms) if terms else character_sets.DEFAULT)
    said: Attribute = {"vr": "CS", "Value": list(terms)}
    return writer, writer.element(Key(_CHARACTER_SET, "CS"), said) if terms else b""


@lru_cache(maxsize=1024)
def _head(tag: str, vr: str, order: str, *, implicit: bool) -> tuple[bytes, Callable[[int], bytes], int]:
    """PS3.5 section 7.1: what is before the length of an element, what writes the length, and the greatest one."""
    head = pack(f"{order}HH", int(tag[:4], 16), int(tag[4:], 16))
    if implicit:
        return head, _LONG_LENGTHS[order], 0xFFFFFFFE
    code = vr if len(vr) == 2 else "UN"
    if code in _LONG:
        return head + code.encode("ascii") + b"\0\0", _LONG_LENGTHS[order], 0xFFFFFFFE
    return head + code.encode("ascii"), _SHORT_LENGTHS[order], _LONGEST_SHORT


class _Writer:
    """PS3.5 section 7.1: elements in one transfer syntax and character set."""

    def __init__(self, transfer_syntax: str, codecs: tuple[str, ...]) -> None:
        self._codecs = codecs
        self._implicit = transfer_syntax == IMPLICIT_VR_LITTLE_ENDIAN
        self._order = ">" if transfer_syntax == EXPLICIT_VR_BIG_ENDIAN else "<"

    def elements(self, keys: Iterable[Key], result: Mapping[str, Attribute]) -> Iterator[bytes]:
        return (self.element(key, result.get(key.tag)) for key in keys)

    def element(self, key: Key, attribute: Attribute | None) -> bytes:
        vr, data = key.vr, b""
        if attribute:
            known = attribute.get("vr")
            vr = str(known) if known and known != "UN" else vr
            data = self._value(vr, key, attribute) if len(attribute) > 1 else b""
        head, length, longest = _head(key.tag, vr, self._order, implicit=self._implicit)
        if len(data) > longest:
            data = b""
        return head + length(len(data)) + data

    def _value(self, vr: str, key: Key, attribute: Attribute) -> bytes:
        if "InlineBinary" in attribute:
            return self._binary(vr, str(attribute["InlineBinary"]))
        found = attribute.get("Value")
        values: list[object] = found if isinstance(found, list) else []
        if vr == "SQ":
            return b"".join(self._item(key, item) for item in values if isinstance(item, Mapping))
        if vr in _NUMBERS:
            return self._numbers(vr, values)
        if vr == "AT":
            return b"".join(pack(f"{self._order}HH", int(str(one)[:4], 16), int(str(one)[4:], 16)) for one in values if one)
        if vr == "PN":
            return self._text("\\".join(_name(one) for one in values), vr)
        if vr in _TEXT:
            alone = len(values) == 1
            return self._text(_written(values[0], vr) if alone else "\\".join(_written(one, vr) for one in values), vr)
        return b""

    def _item(self, key: Key, item: Mapping[str, Attribute]) -> bytes:
        """PS3.5 section 7.5: an Item of defined length, with the attributes asked for, or all of them."""
        wanted = key.items or tuple(Key(tag, str(value.get("vr", "UN"))) for tag, value in sorted(item.items()))
        data = b"".join(self.elements([each for each in wanted if each.tag != _CHARACTER_SET], item))
        return pack(f"{self._order}HHL", 0xFFFE, 0xE000, len(data)) + data

    def _text(self, text: str, vr: str) -> bytes:
        if text.isascii() or vr not in _CHARACTER_SETS_APPLY:
            data = text.encode("ascii", "replace")
        elif (said := character_sets.encode(text, self._codecs, person_name=vr == "PN")) is not None:
            data = said
        else:
            raise _Unwritable
        return data + (b"\0" if vr == "UI" else b" ") if len(data) % 2 else data

    def _numbers(self, vr: str, values: list[object]) -> bytes:
        try:
            return b"".join(pack(self._order + _NUMBERS[vr], one) for one in values if one is not None)
        except struct.error:
            return b""

    def _binary(self, vr: str, text: str) -> bytes:
        try:
            data = base64.b64decode(text)
        except (binascii.Error, ValueError):
            return b""
        width = _WORDS.get(vr, 1)
        if self._order == ">" and width > 1:
            data = b"".join(data[at : at + width][::-1] for at in range(0, len(data) - width + 1, width))
        return data + b"\0" * (len(data) % 2)


def _name(value: object) -> str:
    """PS3.5 section 6.2.1.1: component groups joined by `=`, trailing empty ones left out."""
    if not isinstance(value, dict):
        return ""
    return "=".join(str(value.get(group, "")) for group in _GROUPS).rstrip("=")


def _written(value: object, vr: str) -> str:
    """One value of a text VR; a DS has at most 16 characters (PS3.5 table 6.2-1)."""
    if value is None:
        return ""
    if vr == "DS" and isinstance(value, float):
        exact = repr(value)
        return exact if len(exact) <= 16 else f"{value:.9g}"
    return str(value)
