"""What peers say of an instance that was sent to them, in words."""

from collections.abc import Mapping
from typing import Final

_LONGEST: Final = 200

# PS3.7 annex C and PS3.4 table B.2-1; PS3.18 table 10.5.3-1 has the same numbers as Failure Reasons
_MEANINGS: Final[Mapping[int, str]] = {
    0x0001: "Requested Optional Attributes Are Not Supported",
    0x0105: "No Such Attribute",
    0x0106: "Invalid Attribute Value",
    0x0107: "Attribute List Error",
    0x0110: "Processing Failure",
    0x0111: "Duplicate SOP Instance",
    0x0112: "No Such SOP Instance",
    0x0115: "Invalid Argument Value",
    0x0116: "Attribute Value Out of Range",
    0x0117: "Invalid SOP Instance",
    0x0118: "No Such SOP Class",
    0x0119: "Class-Instance Conflict",
    0x0120: "Missing Attribute",
    0x0121: "Missing Attribute Value",
    0x0122: "Refused: SOP Class Not Supported",
    0x0124: "Refused: Not Authorised",
    0x0210: "Duplicate Invocation",
    0x0211: "Unrecognised Operation",
    0x0212: "Mistyped Argument",
    0x0213: "Resource Limitation",
    0xB000: "Coercion of Data Elements",
    0xB006: "Elements Discarded",
    0xB007: "Data Set Does Not Match SOP Class",
}
# The last digits of these are the peer's own
_FAMILIES: Final = ((0xA700, 0xFF00, "Refused: Out of Resources"), (0xA900, 0xFF00, "Data Set Does Not Match SOP Class"),
                    (0xC000, 0xF000, "Cannot Understand"))  # fmt: skip


def meaning(status: int) -> str:
    """PS3.4 table B.2-1 and PS3.7 annex C: what a status of C-STORE, or a Failure Reason of STOW-RS, says."""
    known = _MEANINGS.get(status) or next((words for value, mask, words in _FAMILIES if status & mask == value), "")
    return f"0x{status:04X} {known}".rstrip()


def is_warning(status: int) -> bool:
    """PS3.7 annex C: stored, with a remark."""
    return status in (0x0001, 0x0107, 0x0116) or status >> 12 == 0xB


def plain(text: object) -> str:
    """What a peer says, fit for one line on a screen; empty for what is no text."""
    return "".join(each if each.isprintable() else " " for each in text)[:_LONGEST].strip() if isinstance(text, str) else ""
