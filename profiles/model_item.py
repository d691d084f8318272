"""An object of the DICOM JSON Model (PS3.18 annex F), attribute by attribute: what its values are, and how they are said."""

from collections.abc import Mapping
from typing import cast

from profiles.dicom_json import Attribute, Attributes

Item = Mapping[str, Attribute]


def said(vr: str, *given: object) -> Attribute:
    """An attribute with these values."""
    return {"vr": vr, "Value": list(given)} if given else {"vr": vr}


def values(item: Item, tag: str) -> list[object]:
    """The values of an attribute; none where it is absent, empty or malformed."""
    found = item.get(tag, {}).get("Value")
    return found if isinstance(found, list) else []


def text(item: Item, tag: str) -> str:
    """The first value, trimmed; empty where there is none."""
    found = values(item, tag)
    return str(found[0]).strip() if found and found[0] is not None else ""


def items(item: Item, tag: str) -> list[Attributes]:
    """The items of a sequence."""
    return [cast("Attributes", each) for each in values(item, tag) if isinstance(each, dict)]


def has_value(item: Item, tag: str) -> bool:
    """Whether an attribute is there with a value that is not empty."""
    return any(value not in (None, "", {}) for value in values(item, tag))


def same(one: Attribute | None, other: Attribute | None) -> bool:
    """Whether both have the same values; absent and empty are the same."""
    return ((one or {}).get("Value") or []) == ((other or {}).get("Value") or [])
