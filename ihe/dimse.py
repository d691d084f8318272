"""PS3.7 sections 6.3, 9.3, 10.3 and annex E: Command Sets, between bytes and `Command`.

A Command Set is always Implicit VR Little Endian and only ever holds the elements of group 0000, so it is read and written
here by itself: at one per instance, pydicom's general reader would cost more than the instance.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from operator import attrgetter
from struct import Struct, pack, unpack_from
from typing import Final


class DimseError(ValueError):
    """What was sent is no Command Set of PS3.7."""


class CommandField(IntEnum):
    """PS3.7 table E.1-1, Command Field (0000,0100). A response has bit 15 set."""

    C_STORE_RQ = 0x0001
    C_STORE_RSP = 0x8001
    C_GET_RQ = 0x0010
    C_GET_RSP = 0x8010
    C_FIND_RQ = 0x0020
    C_FIND_RSP = 0x8020
    C_MOVE_RQ = 0x0021
    C_MOVE_RSP = 0x8021
    C_ECHO_RQ = 0x0030
    C_ECHO_RSP = 0x8030
    N_EVENT_REPORT_RQ = 0x0100
    N_EVENT_REPORT_RSP = 0x8100
    N_GET_RQ = 0x0110
    N_GET_RSP = 0x8110
    N_SET_RQ = 0x0120
    N_SET_RSP = 0x8120
    N_ACTION_RQ = 0x0130
    N_ACTION_RSP = 0x8130
    N_CREATE_RQ = 0x0140
    N_CREATE_RSP = 0x8140
    N_DELETE_RQ = 0x0150
    N_DELETE_RSP = 0x8150
    C_CANCEL_RQ = 0x0FFF


RESPONSE: Final = 0x8000
_NO_DATA_SET: Final = 0x0101
_DATA_SET: Final = 0x0001


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One Command Set. `field` is the Command Field; what is None or empty is absent. `has_data_set` is Command Data Set Type."""

    field: int
    message_id: int | None = None
    responded_to: int | None = None
    affected_sop_class_uid: str = ""
    affected_sop_instance_uid: str = ""
    requested_sop_class_uid: str = ""
    requested_sop_instance_uid: str = ""
    priority: int | None = None
    has_data_set: bool = False
    status: int | None = None
    offending_elements: tuple[int, ...] = ()
    error_comment: str = ""
    error_id: int | None = None
    event_type_id: int | None = None
    action_type_id: int | None = None
    attribute_identifiers: tuple[int, ...] = ()
    move_destination: str = ""
    move_originator: str = ""
    move_originator_message_id: int | None = None
    remaining: int | None = None
    completed: int | None = None
    failed: int | None = None
    warning: int | None = None

    @property
    def is_response(self) -> bool:
        return bool(self.field & RESPONSE) and self.field != CommandField.C_CANCEL_RQ


# PS3.7 table E.1-1: element number in group 0000, attribute of `Command`, VR
_ELEMENTS: Final = (
    (0x0002, "affected_sop_class_uid", "UI"),
    (0x0003, "requested_sop_class_uid", "UI"),
    (0x0100, "field", "US"),
    (0x0110, "message_id", "US"),
    (0x0120, "responded_to", "US"),
    (0x0600, "move_destination", "AE"),
    (0x0700, "priority", "US"),
    (0x0800, "has_data_set", "US"),
    (0x0900, "status", "US"),
    (0x0901, "offending_elements", "AT"),
    (0x0902, "error_comment", "LO"),
    (0x0903, "error_id", "US"),
    (0x1000, "affected_sop_instance_uid", "UI"),
    (0x1001, "requested_sop_instance_uid", "UI"),
    (0x1002, "event_type_id", "US"),
    (0x1005, "attribute_identifiers", "AT"),
    (0x1008, "action_type_id", "US"),
    (0x1020, "remaining", "US"),
    (0x1021, "completed", "US"),
    (0x1022, "failed", "US"),
    (0x1023, "warning", "US"),
    (0x1030, "move_originator", "AE"),
    (0x1031, "move_originator_message_id", "US"),
)
_BY_NUMBER: Final = {number: (name, vr) for number, name, vr in _ELEMENTS}
assert {name for _, name, _ in _ELEMENTS} == {each.name for each in fields(Command)}


_VALUES: Final = attrgetter(*(name for _, name, _ in _ELEMENTS))
_NUMBERS: Final = tuple((number, vr) for number, _, vr in _ELEMENTS)
_SHORT: Final = Struct("<HHLH").pack
_HEAD: Final = Struct("<HHL").pack


def encode(command: Command) -> bytes:
    """PS3.7 section 6.3.1: the Command Set, its group length first, elements in ascending order."""
    parts = []
    for (number, vr), value in zip(_NUMBERS, _VALUES(command), strict=True):
        if value is True or value is False:
            parts.append(_SHORT(0, number, 2, _DATA_SET if value else _NO_DATA_SET))
        elif isinstance(value, int):
            parts.append(_SHORT(0, number, 2, value & 0xFFFF))
        elif value:
            data = _value(value, vr)
            parts.append(_HEAD(0, number, len(data)) + data)
    body = b"".join(parts)
    return pack("<HHLL", 0, 0, 4, len(body)) + body


def decode(data: bytes | bytearray | memoryview) -> Command:
    """The Command Set in `data`. Unknown and retired elements of group 0000 are passed over. Raises `DimseError`."""
    found: dict[str, object] = {}
    at, end = 0, len(data)
    while at < end:
        try:
            group, number, length = unpack_from("<HHL", data, at)
        except struct.error:
            raise DimseError("a Command Set ends in the middle of an element (PS3.7 section 6.3.1)") from None
        at += 8
        if group or length > end - at:
            raise DimseError("a Command Set holds another group, or an element longer than itself (PS3.7 section 6.3.1)")
        if number in _BY_NUMBER:
            name, vr = _BY_NUMBER[number]
            found[name] = _read(bytes(data[at : at + length]), vr)
        at += length
    if not isinstance(found.get("field"), int):
        raise DimseError("a Command Set without Command Field (PS3.7 section E.1)")
    found["has_data_set"] = found.get("has_data_set") not in (None, _NO_DATA_SET)
    return Command(**found)  # type: ignore[arg-type]


def _value(value: object, vr: str) -> bytes:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return b"".join(pack("<HH", tag >> 16, tag & 0xFFFF) for tag in value)
    data = str(value).encode("ascii", "replace")
    if vr == "LO":
        data = data[:64]
    return data + (b"\0" if vr == "UI" else b" ") * (len(data) % 2)


def _read(data: bytes, vr: str) -> object:
    if vr == "US":
        return unpack_from("<H", data)[0] if len(data) >= 2 else None
    if vr == "AT":
        return tuple(
            (group << 16) | element for group, element in (unpack_from("<HH", data, at) for at in range(0, len(data) - 3, 4))
        )
    return data.decode("ascii", "replace").strip(" \0")
