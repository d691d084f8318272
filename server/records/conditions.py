"""Query keys as SQL conditions over the catalogue: PS3.4 section C.2.2.2.

`KEYS` says which attribute is which column and `TERMS` which are searched in `study_term`. What is neither is compared with the JSON
that is stored (`Understood.rest`), which no index helps. Values are bound parameters, so a value can be whatever a client sends.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Final, Literal

from pydicom.datadict import dictionary_VR, tag_for_keyword
from sqlalchemy import ColumnElement, Connection, Select, and_, exists, or_, select, union_all

from profiles.person_name import folded, sound, words
from profiles.query_attributes import MORE, OPTIONAL, REQUIRED, Level
from profiles.query_identifier import Key
from server.errors import MalformedQuery
from server.records.catalogue import INSTANCE, PATIENT, SERIES, STUDY
from server.records.comparing import (
    Comparing,
    Condition,
    Kind,
    beginning,
    codes,
    date_bounds,
    has_wildcard,
    listed,
    stretch,
    time_bounds,
    uids,
)
from server.records.item_matching import is_universal, matches
from server.records.results import MODALITY, PATIENT_NAME, REFERRING, SERIES_TERMS, SOP_CLASS, SOUNDS, TERM, WORDS

Path = tuple[str, ...]
"""An attribute: its tag as eight upper-case hexadecimal digits, after those of the sequences that it is in."""

PATIENT_ID: Final[Path] = ("00100020",)
LEVELS: Final[tuple[Level, ...]] = ("patient", "study", "series", "instance")
_LONGEST = 1024
_DEEPEST = 8
_TAG = re.compile(r"[0-9A-Fa-f]{8}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

_PATIENT_KEYS: Final[Mapping[str, tuple[Kind, ColumnElement[object]]]] = {
    "00100020": ("text", PATIENT.c.value),
    "00100030": ("date", PATIENT.c.birth_date),
    "00100040": ("code", PATIENT.c.sex),
}
_STUDY_KEYS: Final[Mapping[str, tuple[Kind, ColumnElement[object]]]] = {
    **_PATIENT_KEYS,
    "00080020": ("date", STUDY.c.date),
    "00080030": ("time", STUDY.c.time),
    "00080050": ("text", STUDY.c.accession_number),
    "00080201": ("text", STUDY.c.timezone),
    "0020000D": ("uid", STUDY.c.uid),
    "00201206": ("integer", STUDY.c.series_count),
    "00201208": ("integer", STUDY.c.instance_count),
}
KEYS: Final[Mapping[Level, Mapping[str, tuple[Kind, ColumnElement[object]]]]] = {
    "patient": _PATIENT_KEYS,
    "study": _STUDY_KEYS,
    "series": {
        "00080021": ("date", SERIES.c.date),
        "00080031": ("time", SERIES.c.time),
        "00080060": ("code", SERIES.c.modality),
        "0008103E": ("text", SERIES.c.description),
        "00180015": ("code", SERIES.c.body_part),
        "00200060": ("code", SERIES.c.laterality),
        "0020000E": ("uid", SERIES.c.uid),
        "00200011": ("integer", SERIES.c.number),
        "00201209": ("integer", SERIES.c.instance_count),
    },
    "instance": {
        "00080016": ("uid", INSTANCE.c.sop_class),
        "00080018": ("uid", INSTANCE.c.uid),
        "00083002": ("uid", INSTANCE.c.transfer_syntax),
        "00200013": ("integer", INSTANCE.c.number),
        "00280008": ("integer", INSTANCE.c.frames),
        "00280010": ("integer", INSTANCE.c.rows),
        "00280011": ("integer", INSTANCE.c.columns),
    },
}
TERMS: Final[Mapping[str, Literal["text", "name", "code", "uid"]]] = {
    "00200010": "text", "00081030": "text", PATIENT_NAME: "name", REFERRING: "name", "00080080": "text", SOP_CLASS: "uid", MODALITY: "code",
}  # fmt: skip
"""Of studies, those first of which a study has a value of its own."""
# A series or instance with such a value is in a study with such a term.
_NARROWING: Final = {("00080060",): MODALITY, ("00080016",): SOP_CLASS, **{tuple(key.split(".")): key for key in SERIES_TERMS}}
_SELECTIVE: Final = frozenset({"00080050", "00100020", "00100030", "0020000D", "0020000E", "00080018"})
# PS3.4 section C.2.2.2.5: dates and times that are one range of moments where both are ranges.
_TOGETHER: Final = {"00080020": "00080030", "00080021": "00080031"}
_MATCHED_VRS: Final = frozenset(
    {"AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT", "PN", "SH", "SL", "SS", "ST", "SV", "TM", "UC", "UI", "UL",
     "UR", "US", "UT", "UV"}
)  # fmt: skip


@dataclass
class Understood:
    """A query in SQL. `studies`, `series` and `instances` are conditions of each level; patients are a study's.

    `exact` are single terms of studies: one of them may lead the walk (`study_term` is ordered by date), the others are asked about each
    study. `rest` are keys to be compared with stored JSON, by the level that they belong to.
    """

    studies: list[Condition] = field(default_factory=list)
    series: list[Condition] = field(default_factory=list)
    instances: list[Condition] = field(default_factory=list)
    exact: list[tuple[str, str]] = field(default_factory=list)
    rest: dict[Level, list[Key]] = field(default_factory=dict)
    dates: tuple[str, str] = ("", "")
    """Least and greatest Study Date that is asked for, empty for none: a leading term is walked between them."""
    selective: bool = False
    about_patients: bool = False

    def terms(self, *, leader: tuple[str, str] | None) -> list[Condition]:
        """Conditions that a study has every exact term but the leader."""
        return [
            exists(
                select(TERM.c.study_pk).where(
                    TERM.c.tag == tag, TERM.c.term == term, TERM.c.date == STUDY.c.date, TERM.c.study_pk == STUDY.c.pk
                )
            ).correlate(STUDY)
            for tag, term in self.exact
            if (tag, term) != leader
        ]

    def leading(self, leader: tuple[str, str]) -> list[Condition]:
        """The stretch of `study_term` that is walked for a leader."""
        (tag, term), (first, last) = leader, self.dates
        told = [TERM.c.tag == tag, TERM.c.term == term]
        return told + ([TERM.c.date >= first] if first else []) + ([TERM.c.date <= last] if last else [])

    def leader(self) -> tuple[str, str] | None:
        """The exact term to begin with, unless something that few studies have is asked for anyway."""
        order = [*TERMS]
        known = [pair for pair in self.exact if pair[0] in TERMS]
        return min(known, key=lambda pair: order.index(pair[0]), default=None) if not self.selective else None


def path(name: str) -> Path:
    """PS3.18 section 8.3.4.1: `StudyDate`, `00080020`, or an attribute of a sequence `00400275.00400009`. Raises `MalformedQuery`."""
    tags = []
    for part in name.split("."):
        tag = part.upper() if _TAG.fullmatch(part) else f"{tag_for_keyword(part) or 0:08X}"
        if tag == "00000000":
            raise MalformedQuery(
                "a query parameter is neither a DICOM keyword nor a tag of eight hexadecimal digits (PS3.18 section 8.3.4.1)"
            )
        tags.append(tag)
    if len(tags) > _DEEPEST:
        raise MalformedQuery(f"sequences to match may be nested {_DEEPEST - 1} deep")
    return tuple(tags)


def conditions(connection: Connection, level: Level, key: Path, value: str) -> None:
    """Raises `MalformedQuery` for a key or value that cannot be matched at that level."""
    understood(connection, level, {key: value})


def understood(
    connection: Connection, level: Level, keys: Mapping[Path, str], *, fuzzy: bool = False, combined: bool = True
) -> Understood:
    """All keys of a query. One without a value matches everything (PS3.4 section C.2.2.2.3), as one of asterisks only.

    With `fuzzy` person names match word by word (`profiles.person_name`); with `combined` a range of dates and one of times are one
    range of moments. Raises `MalformedQuery` for a key or value that cannot be matched at `level`.
    """
    reading = _Reading(connection, level, fuzzy)
    above = LEVELS[: LEVELS.index(level) + 1]
    todo = dict(keys)
    for date, time in _TOGETHER.items() if combined else ():
        if "-" in todo.get((date,), "") and "-" in todo.get((time,), ""):
            owner: Level = "study" if date in _STUDY_KEYS else "series"
            if owner in above:
                reading.moments(owner, date, todo.pop((date,)), time, todo.pop((time,)))
    for key, value in todo.items():
        reading.read(above, key, value.strip(" "))
    return reading.found


def plain(level: Level, key: Path, value: str, *, fuzzy: bool) -> tuple[str, tuple[str, ...]] | None:
    """How a key is compared, and with what, where that is as plain as `plain_queries` wants it; `("", ())` for one without value.

    Of queries with keys of the same kinds `understood` differs in values only. Raises `MalformedQuery`.
    """
    value = value.strip(" ")
    if len(value) > _LONGEST:
        return None
    if is_universal(value, _vr(key[-1])):
        return "", ()
    if len(key) > 1 or has_wildcard(value) or _CONTROL.search(value):
        return None
    match _plain_kinds(level).get(key[0]):
        case "text":
            return "text", (value,)
        case "name" if not fuzzy and (name := folded(value).rstrip("^= ")) and not has_wildcard(name):
            return "name", (name,)
        case "code" if len(found := codes(value)) == 1:
            return "code", (found[0],)
        case "uid" if len(found := uids(value)) == 1:
            return "uid", (found[0],)
        case "date":
            first, last = stretch(value, date_bounds)
            return ("between" if first and last else "since" if first else "until"), tuple(filter(None, (first, last)))
    return None


@cache
def _plain_kinds(level: Level) -> Mapping[str, str]:
    above = LEVELS[: LEVELS.index(level) + 1]
    terms = {PATIENT_NAME: "name"} if "study" not in above else TERMS
    return {**terms, **{tag: kind for each in reversed(above) for tag, (kind, _) in KEYS[each].items()}}


class _Reading:
    """Keys into an `Understood`, one at a time."""

    def __init__(self, connection: Connection, level: Level, fuzzy: bool) -> None:
        self.found = Understood()
        self._engine = Comparing(connection)
        self._level, self._fuzzy = level, fuzzy

    def read(self, above: Sequence[Level], key: Path, value: str) -> None:
        if len(value) > _LONGEST and key[0] not in ("0020000D", "0020000E", "00080018"):
            raise MalformedQuery(f"a value to match has more than {_LONGEST} characters")
        if _CONTROL.search(value):
            raise MalformedQuery("a value to match has control characters")
        if is_universal(value, _vr(key[-1])):
            value = ""
        owner, column = _column(above, key)
        if column is not None:
            self._column(owner, key, *column, value)
        elif len(key) == 1 and (key[0] == PATIENT_NAME or (key[0] in TERMS and "study" in above)):
            self._term(key[0], value)
        else:
            self._rest(owner, key, value)

    def moments(self, owner: Level, date: str, dates: str, time: str, times: str) -> None:
        """PS3.4 section C.2.2.2.5.1: from the first time on the first date to the last time on the last date."""
        (_, day), (_, clock) = KEYS[owner][date], KEYS[owner][time]
        clock = self._engine.bytewise(clock)
        (first, last), (begin, end) = stretch(dates, date_bounds), stretch(times, time_bounds)
        told = [day != ""]
        if owner == "study":
            self.found.dates = (first, last)
        if first:
            told.append(day >= first)
            if begin:
                told.append(or_(day > first, clock >= begin))
        if last:
            told.append(day <= last)
            if end:
                told.append(or_(day < last, and_(clock != "", clock <= end)))
        self._of(owner).append(and_(*told))

    def _of(self, owner: Level) -> list[Condition]:
        return {"series": self.found.series, "instance": self.found.instances}.get(owner, self.found.studies)

    def _column(self, owner: Level, key: Path, kind: Kind, column: ColumnElement[object], value: str) -> None:
        condition = self._engine.compare(kind, column, value)
        if condition is None:
            return
        if key == PATIENT_ID:
            # A study without Patient ID has its own UID as identifier here; nobody asks for it.
            condition = and_(condition, PATIENT.c.value != STUDY.c.uid)
        self._of(owner).append(condition)
        if key == ("00080020",):
            self.found.dates = stretch(value, date_bounds)
        self.found.about_patients |= key[0] in _PATIENT_KEYS
        self.found.selective |= key[0] in _SELECTIVE and not value.startswith(("*", "?"))
        if key == ("0020000E",):
            self._within(select(SERIES.c.study_pk).where(condition))
        elif key == ("00080018",):
            self._within(select(INSTANCE.c.study_pk).where(condition))
        elif key in _NARROWING:
            self._narrowed(_NARROWING[key], listed(kind, value))

    def _term(self, tag: str, value: str) -> None:
        if not value:
            return
        match TERMS[tag]:
            case "name":
                self._name(tag, value)
            case "uid":
                self._narrowed(tag, uids(value))
            case "code":
                self._narrowed(tag, codes(value))
            case "text":
                self._narrowed(tag, [value])

    def _name(self, tag: str, value: str) -> None:
        """PS3.4 section C.2.2.2.1 with PS3.5 section 6.2.1: no case, no accents, trailing empty components absent or present,
        the whole name or its component groups (alphabetic, ideographic, phonetic); or PS3.18 section 8.3.4.2, fuzzy.
        """
        wanted = folded(value).rstrip("^= ")
        if self._fuzzy:
            for word in sorted(words(value)):
                starts = select(TERM.c.study_pk).where(TERM.c.tag == tag + WORDS, *beginning(TERM.c.term, word))
                alike = select(TERM.c.study_pk).where(TERM.c.tag == tag + SOUNDS, TERM.c.term == sound(word))
                self.found.studies.append(STUDY.c.pk.in_(union_all(starts, alike) if sound(word) else starts))
        elif wanted.endswith("*") and "^" in wanted and (bare := wanted.rstrip("^*")) != wanted.rstrip("*"):
            self._narrowed(tag, [wanted, bare])  # `doe^*` is also who has a family name only
        else:
            self._narrowed(tag, [wanted])

    def _narrowed(self, tag: str, values: Sequence[str]) -> None:
        """Studies that have one of these terms, which may have wildcards."""
        if not any(value.strip("*") for value in values):
            return
        if len(values) == 1 and not has_wildcard(values[0]):
            self.found.exact.append((tag, values[0]))
            return
        any_ = or_(*(self._engine.like(TERM.c.term, value) for value in values))
        self._within(select(TERM.c.study_pk).where(TERM.c.tag == tag, any_))

    def _within(self, studies: Select[int]) -> None:
        self.found.studies.append(STUDY.c.pk.in_(studies))

    def _rest(self, owner: Level, key: Path, value: str) -> None:
        """Attributes without a column: compared with the JSON of their level."""
        vr = _vr(key[-1])
        if vr not in (_MATCHED_VRS if vr else {""}):
            raise MalformedQuery(f"({key[-1][:4]},{key[-1][4:]}) has a Value Representation that cannot be matched")
        if not value:
            return
        wanted = Key(key[-1], vr or "LO", value)
        matches({}, [wanted])  # raises for a value that is none of its VR
        for tag in reversed(key[:-1]):
            wanted = Key(tag, "SQ", "", (wanted,))
        self.found.rest.setdefault(owner, []).append(wanted)
        if key in _NARROWING:
            self._narrowed(_NARROWING[key], [value]) if "-" not in value else self._dated(_NARROWING[key], value)

    def _dated(self, tag: str, value: str) -> None:
        condition = self._engine.compare("date", TERM.c.term, value)
        if condition is not None:
            self._within(select(TERM.c.study_pk).where(TERM.c.tag == tag, condition))


def _column(above: Sequence[Level], key: Path) -> tuple[Level, tuple[Kind, ColumnElement[object]] | None]:
    """Whose attribute a key is, and in which column, if it has one. Raises `MalformedQuery` for one that is not of these levels."""
    for level in above:
        if len(key) == 1 and key[0] in KEYS[level]:
            return level, KEYS[level][key[0]]
    for level in above:
        if level != "instance" and (key[0] in REQUIRED_OF[level] or (len(key) == 1 and key[0] in TERMS)):
            return level, None
    if above[-1] != "instance":
        raise MalformedQuery(f"({key[0][:4]},{key[0][4:]}) cannot be matched at the {above[-1]} level")
    return "instance", None


_STORED_OF_STUDIES: Final = frozenset({*REQUIRED["study"], *OPTIONAL["study"], *MORE["study"]})
REQUIRED_OF: Final[Mapping[Level, frozenset[str]]] = {
    "patient": frozenset(tag for tag in _STORED_OF_STUDIES if tag.startswith("0010")),
    "study": _STORED_OF_STUDIES,
    "series": frozenset({*REQUIRED["series"], *OPTIONAL["series"], *MORE["series"]}),
}


@lru_cache(maxsize=1024)
def _vr(tag: str) -> str:
    """The VR of the dictionary, empty for a private or unknown attribute."""
    try:
        return dictionary_VR(int(tag, 16)).partition(" ")[0]
    except KeyError:
        return ""
