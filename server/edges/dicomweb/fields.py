"""Attributes of search results that are asked for by name: PS3.18 section 8.3.4.3, `includefield`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import orjson
from sqlalchemy import ColumnElement

from profiles.dicom_json import Attribute, Attributes
from profiles.query_attributes import OPTIONAL, REQUIRED, Level
from profiles.query_result import bulk_located, lines
from server.records import conditions
from server.records.catalogue import INSTANCE, SERIES, STUDY
from server.records.conditions import LEVELS, Path
from server.records.packing import unpacked

_SOP_CLASSES = "00080062"
_RETRIEVE_URL = "00081190"
_COMPUTED: Mapping[Level, Sequence[str]] = {
    "study": ("00080056", "00080061", "00081190", "00201206", "00201208"),
    "series": ("0020000D", "00201209"),
    "instance": ("0020000D", "0020000E", "00083002"),
}
_SOURCES: Mapping[Level, Sequence[ColumnElement[Any]]] = {
    "study": (STUDY.c.attributes.label("stored_study"), STUDY.c.result.label("made_study"), STUDY.c.sop_classes.label("classes")),
    "series": (SERIES.c.attributes.label("stored_series"), SERIES.c.result.label("made_series")),
    "instance": (INSTANCE.c.dicom_json.label("stored_instance"), INSTANCE.c.attributes.label("made_instance")),
}


def included(value: str) -> tuple[bool, list[Path]]:
    """One `includefield`: whether it is for all attributes, and which it names. Raises `MalformedQuery`."""
    named = [each.strip() for each in value.split(",") if each.strip()]
    return any(each.lower() == "all" for each in named), [conditions.path(each) for each in named if each.lower() != "all"]


@dataclass(frozen=True, slots=True)
class Fields:
    """What a result of `level` has besides its default attributes: those at `paths`, or with `everything` all that its levels have.

    `told` are the levels whose attributes a result has by default.
    """

    level: Level
    told: tuple[Level, ...]
    paths: tuple[Path, ...] = ()
    everything: bool = False

    @property
    def wanted(self) -> bool:
        """Whether results have to be read and written anew."""
        known = _known(self.told)
        return self.everything or any(len(path) > 1 or path[0] not in known for path in self.paths)

    @property
    def columns(self) -> list[ColumnElement[Any]]:
        """What `added` reads of a row."""
        return [column for level in self._levels for column in _SOURCES[level]] if self.wanted else []

    @property
    def _levels(self) -> Sequence[Level]:
        return LEVELS[1 : LEVELS.index(self.level) + 1]

    def added(self, row: Any, body: bytes, home: str) -> bytes:
        """`body`, a result as text, with what is asked for besides. `home` is the base URL of the service."""
        result: Attributes = orjson.loads(body)
        for level in self._levels:
            source = self._source(row, level, result, home)
            if self.everything and level in self.told:
                result |= {tag: value for tag, value in source.items() if tag not in result}
            for path in self.paths:
                if (found := picked(source, path)) is not None:
                    result[path[0]] = together(result.get(path[0]), found) if len(path) > 1 else result.get(path[0]) or found
        return lines(result)

    def _source(self, row: Any, level: Level, result: Attributes, home: str) -> Attributes:
        stored = bytes(getattr(row, f"stored_{level}") or b"")
        if level == "instance":
            stored = bulk_located(unpacked(stored), home + _path(result)) if stored else b""
        source: Attributes = {**orjson.loads(stored or b"{}"), **orjson.loads(bytes(getattr(row, f"made_{level}") or b"{}"))}
        if level == "study":
            source[_SOP_CLASSES] = {"vr": "UI", "Value": [uid for uid in row.classes.split("\\") if uid]}
        return source


@cache
def _known(told: tuple[Level, ...]) -> frozenset[str]:
    return frozenset(tag for level in told for tag in (*REQUIRED[level], *OPTIONAL[level], *_COMPUTED[level]))


def _path(result: Attributes) -> str:
    found = result[_RETRIEVE_URL]["Value"]
    return str(found[0]) if isinstance(found, list) else ""


def picked(attributes: Mapping[str, Attribute], path: Path) -> Attribute | None:
    """One attribute; of a sequence only what the path names in its items. None where there is none."""
    found = attributes.get(path[0])
    if found is None or len(path) == 1:
        return found
    items = found.get("Value")
    inner = [picked(item, path[1:]) for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    return {"vr": "SQ", "Value": [{path[1]: one} if one is not None else {} for one in inner]} if any(inner) else None


def together(one: Attribute | None, other: Attribute) -> Attribute:
    """Two picks of one sequence, item by item."""
    if one is None or "Value" not in one:
        return other
    pairs: Iterable[tuple[Any, Any]] = zip(one["Value"], other["Value"], strict=False)  # type: ignore[call-overload]
    return {"vr": "SQ", "Value": [_merged(mine, its) for mine, its in pairs]}


def _merged(mine: dict[str, Attribute], its: dict[str, Attribute]) -> dict[str, Attribute]:
    both = {tag: together(mine[tag], its[tag]) for tag in mine.keys() & its.keys() if its[tag].get("vr") == "SQ"}
    return dict(sorted({**its, **mine, **both}.items()))
