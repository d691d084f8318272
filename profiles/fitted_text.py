"""Text of others, made to fit a VR where it only describes: identifiers are never changed (PS3.5 table 6.2-1)."""

import re
from typing import Literal

_LONGEST = {"LO": 64, "SH": 16, "PN": 64}
_GROUPS, _COMPONENTS = 3, 5
_NOT_TEXT = re.compile(r"[\\\x00-\x1f\x7f-\x9f]+")


def fitted(text: str, vr: Literal["LO", "SH", "PN"]) -> str:
    """`text` as one value of `vr`: without backslashes and control characters, and cut where it is too long (of a PN, each group of it)."""
    plain = _NOT_TEXT.sub(" ", text).strip()
    if vr != "PN":
        return plain[: _LONGEST[vr]].rstrip()
    return "=".join(_group(each) for each in plain.split("=")[:_GROUPS]).rstrip("=")


def _group(name: str) -> str:
    """PS3.5 section 6.2.1.1: five components at most. What there are more belongs to the last."""
    components = name.split("^")
    last = " ".join(filter(None, components[_COMPONENTS - 1 :]))
    return "^".join([*components[: _COMPONENTS - 1], *filter(None, [last])])[: _LONGEST["PN"]].rstrip("^ ")
