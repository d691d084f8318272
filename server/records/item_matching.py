"""PS3.4 section C.2.2.2: whether one item of a worklist, in DICOM JSON, is what an Identifier asks for.

Worklists are short and every attribute of an item may be asked by, so this looks at items, where the catalogue asks SQL.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from profiles import date_time_matching
from profiles.dicom_json import Attribute
from profiles.person_name import folded
from profiles.query_identifier import Key
from profiles.timestamps import dicom_date, dicom_time
from server.errors import MalformedQuery

Item = Mapping[str, Attribute]

WILD = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
"""VRs whose values are matched with wildcards (PS3.4 section C.2.2.2.4)."""
_RANGES = frozenset({"DA", "TM"})
_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
_START_DATE, _START_TIME = "00400002", "00400003"


def matches(item: Item, keys: Sequence[Key]) -> bool:
    """Whether every key that has a value matches. Raises `MalformedQuery` for a date or time that is none.

    Scheduled start date and time that are both ranges are one range of moments (PS3.4 section K.6.1.2.2, note).
    """
    together = _start_range(keys)
    if together and not _between(_moment(item), *together):
        return False
    return all(
        _matches(item.get(key.tag), key)
        for key in keys
        if not (together and key.tag in (_START_DATE, _START_TIME)) and _asks(key)
    )


def is_universal(value: str, vr: str) -> bool:
    """PS3.4 sections C.2.2.2.3 and C.2.2.2.4: no value or only asterisks, whatever the VR; a person name without any component."""
    return not value.strip("*") or (vr == "PN" and not value.strip("^= "))


def _asks(key: Key) -> bool:
    return not is_universal(key.value, key.vr) or any(_asks(inner) for inner in key.items)


def _matches(attribute: Attribute | None, key: Key) -> bool:
    values = _values(attribute)
    if key.items:
        return any(isinstance(value, Mapping) and matches(value, key.items) for value in values)
    if key.vr == "DT":
        wanted = date_time_matching.asked(key.value)
        if wanted is None:
            raise MalformedQuery("a moment to match is YYYYMMDDHHMMSS, the beginning of it, or a range (PS3.4 section C.2.2.2.5)")
        return any(date_time_matching.matches(str(value), wanted) for value in values)
    if key.vr in _RANGES:  # read first: a value that is none is refused whatever is stored
        one_of = [_range(key.value, key.vr)] if "-" in key.value else [_bounds(one, key.vr) for one in key.value.split("\\")]
        return any(_between(str(value), *bounds) for value in values for bounds in one_of)
    return any(_same(value, one, key.vr) for value in values for one in key.value.split("\\"))


def _same(value: object, wanted: str, vr: str) -> bool:
    if vr == "PN":
        return _same_name(value, wanted)
    text = str(value).strip(" \0")
    if vr in ("IS", "DS"):
        return _number(text) == _number(wanted)
    return like(text, wanted.strip(" ")) if vr in WILD else text == wanted.strip(" ")


def _same_name(value: object, wanted: str) -> bool:
    """PS3.4 section C.2.2.2.1: no case, no accents, trailing empty components absent or present, the whole name or one group."""
    if not isinstance(value, Mapping):
        return False
    groups = [folded(str(value.get(group, ""))) for group in _GROUPS]
    pattern = folded(wanted).rstrip("^= ")
    candidates = [*groups, "=".join(groups).rstrip("=")]
    return any(like(candidate.rstrip("^ "), pattern) for candidate in candidates if candidate)


def like(text: str, pattern: str) -> bool:
    """PS3.4 section C.2.2.2.4: `*` for any characters, `?` for one; in time of text by pattern, whatever the pattern is."""
    at = mark = 0
    star = -1
    while at < len(text):
        if mark < len(pattern) and pattern[mark] == "*":
            star, mark, resume = mark, mark + 1, at
        elif mark < len(pattern) and pattern[mark] in ("?", text[at]):
            at, mark = at + 1, mark + 1
        elif star >= 0:
            resume += 1
            at, mark = resume, star + 1
        else:
            return False
    return not pattern[mark:].strip("*")


# --- dates and times


def date_range(keys: Iterable[Key]) -> tuple[str, str]:
    """Least and greatest Scheduled Procedure Step Start Date that the keys leave possible, empty for no bound."""
    value = next((key.value for key in keys if key.tag == _START_DATE), "")
    if is_universal(value, "DA"):
        return "", ""
    return _range(value, "DA") if "-" in value else _bounds(value, "DA")


def _start_range(keys: Sequence[Key]) -> tuple[str, str] | None:
    found = {key.tag: key.value for key in keys if key.tag in (_START_DATE, _START_TIME)}
    date, time = found.get(_START_DATE, ""), found.get(_START_TIME, "")
    if "-" not in date or "-" not in time:
        return None
    (first, last), (begin, end) = _range(date, "DA"), _range(time, "TM")
    return first and first + begin, last and last + (end or "~")


def _moment(item: Item) -> str:
    date, time = (str(next(iter(_values(item.get(tag))), "")) for tag in (_START_DATE, _START_TIME))
    return date and date + time


def _between(value: str, first: str, last: str) -> bool:
    return bool(value) and (not first or value >= first) and (not last or value <= last)


def _range(value: str, vr: str) -> tuple[str, str]:
    """PS3.4 section C.2.2.2.5: `a-b`, `a-` or `-b`."""
    first, _, last = (part.strip(" ") for part in value.partition("-"))
    if not first and not last:
        raise MalformedQuery("a range has a beginning or an end (PS3.4 section C.2.2.2.5)")
    return first and _bounds(first, vr)[0], last and _bounds(last, vr)[1]


def _bounds(text: str, vr: str) -> tuple[str, str]:
    """Least and greatest text of a date or time that `text`, to its precision, includes. Old forms have dots or colons."""
    plain = re.sub(r"[.:](?=\d\d(?:\D|$))", "", text.strip(" ")) if vr == "TM" else text.strip(" ").replace(".", "")
    found = dicom_date(plain) if vr == "DA" else dicom_time(plain)
    if found is None:
        kind = "a date to match is YYYYMMDD" if vr == "DA" else "a time to match is HHMMSS.FFFFFF or the beginning of it"
        raise MalformedQuery(f"{kind}, or a range with a hyphen (PS3.4 section C.2.2.2.5)")
    return (found, found) if vr == "DA" else (found.rstrip("0").removesuffix("."), found + "~")


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _values(attribute: Attribute | None) -> list[object]:
    found = attribute.get("Value") if attribute else None
    return [value for value in found if value is not None] if isinstance(found, list) else []
