"""Searches for workitems (PS3.18 sections 8.3.4 and 11.9): from query parameters to keys, and from workitems to results."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from pydicom.datadict import dictionary_VR

from profiles.dicom_json import Attributes
from profiles.query_identifier import Key
from profiles.workitem import TRANSACTION, returned
from server.edges.dicomweb.fields import included, picked, together
from server.errors import MalformedQuery
from server.records import conditions
from server.records.conditions import Path

MOST_RESULTS: Final = 1000
_MOST_KEYS: Final = 100
_LONGEST: Final = 1024
_PAIR: Final = re.compile(r",(?=[A-Za-z0-9.]+=)")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a search is after. `fuzzy` is asked for but not offered."""

    keys: tuple[Key, ...]
    paths: tuple[Path, ...]
    everything: bool
    limit: int
    offset: int
    fuzzy: bool

    def result(self, item: Attributes) -> Attributes:
        """Section 11.9.2: return keys of types 1 and 2, what was matched, and what was asked for besides."""
        if self.everything:
            return item
        found: Attributes = {tag: item.get(tag, {"vr": _vr(tag)}) for tag in returned()}
        for path in self.paths:
            some = picked(item, path) if path[0] not in returned() else None  # those are there whole
            if some is not None:
                found[path[0]] = together(found.get(path[0]), some) if len(path) > 1 else some
        return dict(sorted(found.items()))


def asked(parameters: Iterable[tuple[str, str]]) -> Asked:
    """Section 8.3.4. Raises `MalformedQuery` for what cannot be asked."""
    matching: dict[Path, str] = {}
    fields: list[Path] = []
    everything = fuzzy = False
    numbers = {"limit": MOST_RESULTS, "offset": 0}
    for name, value in parameters:
        if name == "accept":
            continue
        if name == "includefield":
            all_of_them, named = included(value)
            everything |= all_of_them
            fields += named
        elif name == "fuzzymatching":
            fuzzy = flag(name, value)
        elif name in numbers:
            numbers[name] = _count(name, value)
        else:
            _add(matching, name, value)
    if len(fields) > _MOST_KEYS:
        raise MalformedQuery(f"at most {_MOST_KEYS} attributes can be asked for by name; includefield=all has all of them")
    paths = tuple(dict.fromkeys((*fields, *matching)))
    if any(TRANSACTION in path for path in paths):
        raise MalformedQuery("the Transaction UID is neither matched nor returned (PS3.4 table CC.2.5-3)")
    return Asked(_nested(matching), paths, everything, min(numbers["limit"], MOST_RESULTS), numbers["offset"], fuzzy)


def filtered(value: str) -> tuple[Key, ...]:
    """Section 11.10.1.2: `attribute=value` pairs, joined by commas. Raises `MalformedQuery`."""
    matching: dict[Path, str] = {}
    for pair in _PAIR.split(value):
        name, equals, wanted = pair.partition("=")
        if not equals or not wanted:
            raise MalformedQuery("a filter is attribute=value, more of them joined by commas (PS3.18 section 11.10.1.2)")
        _add(matching, name.strip(), wanted)
    if any(TRANSACTION in path for path in matching):
        raise MalformedQuery("the Transaction UID is not matched (PS3.4 table CC.2.5-3)")
    return _nested(matching)


def flag(name: str, value: str) -> bool:
    """`true` or `false`. Raises `MalformedQuery`."""
    if value.lower() not in ("true", "false"):
        raise MalformedQuery(f"{name} is true or false")
    return value.lower() == "true"


def _add(matching: dict[Path, str], name: str, value: str) -> None:
    path = conditions.path(name)
    if matching.get(path, value) != value:
        raise MalformedQuery("a query parameter is given twice; alternatives are joined by commas (PS3.18 section 8.3.4.1)")
    if "\0" in value:
        raise MalformedQuery("a value to match has a NUL in it")
    if len(value) > _LONGEST or len(matching) >= _MOST_KEYS:
        raise MalformedQuery(f"at most {_MOST_KEYS} values of at most {_LONGEST} letters can be matched")
    matching[path] = value


def _nested(matching: Mapping[Path, str]) -> tuple[Key, ...]:
    """Keys of one level; those of a sequence's item together, so that one item has to match them all."""
    inner: dict[str, dict[Path, str]] = {}
    for path, value in matching.items():
        inner.setdefault(path[0], {})[path[1:]] = value
    return tuple(_key(tag, below) for tag, below in sorted(inner.items()))


def _key(tag: str, below: Mapping[Path, str]) -> Key:
    vr = _vr(tag)
    value = below.get((), "")
    if vr == "UI":
        value = value.replace(",", "\\")
    if vr == "SQ" and value:
        raise MalformedQuery("a sequence is matched by an attribute in it, such as 00404018.00080100 (PS3.18 section 8.3.4.1)")
    return Key(tag, vr, value, _nested({path: each for path, each in below.items() if path}))


def _vr(tag: str) -> str:
    try:
        return dictionary_VR(int(tag, 16)).partition(" ")[0]
    except KeyError:
        return "UN"


def _count(name: str, value: str) -> int:
    if not (value.isascii() and value.isdecimal() and len(value) <= 15):
        raise MalformedQuery(f"{name} is a number from 0 (PS3.18 section 8.3.4.4)")
    return int(value)
