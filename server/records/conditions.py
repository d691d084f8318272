"""One query key as an SQL condition over the catalogue: PS3.4 section C.2.2.2.

`KEYS` says which attribute is which column; other attributes of a level (`profiles.query_attributes`) are matched in the JSON
that is stored for it, which no index helps. Values are bound parameters, so a value can be whatever a client sends.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal

from pydicom.datadict import dictionary_VR, tag_for_keyword
from sqlalchemy import ColumnElement, Connection, Text, and_, cast, exists, func, or_, select
from sqlalchemy.dialects.postgresql import JSONB

from profiles.identifiers import InvalidIdentifier, lenient_uid
from profiles.query_attributes import OPTIONAL, REQUIRED, Level
from profiles.timestamps import dicom_date, dicom_time
from server.errors import MalformedQuery
from server.records.catalogue import INSTANCE, PATIENT, PUBLISHED, SERIES, STUDY
from server.records.placing import folded

Path = tuple[str, ...]
"""An attribute: its tag as eight upper-case hexadecimal digits, or those of a sequence and of an attribute in its items."""
Kind = Literal["text", "name", "date", "time", "uid", "code", "integer", "modalities"]
Condition = ColumnElement[bool]

LEVELS: Final[tuple[Level, ...]] = ("study", "series", "instance")
PATIENT_ID: Final[Path] = ("00100020",)
_SOP_CLASSES: Final = "00080062"
_LONGEST = 1024
_MOST_WILDCARDS = 8
_MOST_UIDS = 500
_TAG = re.compile(r"[0-9A-Fa-f]{8}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_INTEGER = re.compile(r"[+-]?\d{1,18}", re.ASCII)

KEYS: Final[Mapping[Level, Mapping[str, tuple[Kind, ColumnElement[object]]]]] = {
    "study": {
        "00080020": ("date", STUDY.c.date),
        "00080030": ("time", STUDY.c.time),
        "00080050": ("text", STUDY.c.accession_number),
        "00080061": ("modalities", STUDY.c.modalities),
        "00080080": ("text", STUDY.c.institution),
        "00080090": ("name", STUDY.c.referring_folded),
        "00080201": ("text", STUDY.c.timezone),
        "00081030": ("text", STUDY.c.description),
        "00100010": ("name", PATIENT.c.name_folded),
        "00100020": ("text", PATIENT.c.value),
        "00100030": ("date", PATIENT.c.birth_date),
        "00100040": ("code", PATIENT.c.sex),
        "0020000D": ("uid", STUDY.c.uid),
        "00200010": ("text", STUDY.c.study_id),
        "00201206": ("integer", STUDY.c.series_count),
        "00201208": ("integer", STUDY.c.instance_count),
    },
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
_ATTRIBUTES: Final[Mapping[Level, ColumnElement[bytes]]] = {
    "study": STUDY.c.attributes,
    "series": SERIES.c.attributes,
    "instance": INSTANCE.c.attributes,
}
# PS3.4 section C.2.2.2.4: the VRs that wildcards may match, and the others that are matched in stored JSON.
_KIND_OF_VR: Final[Mapping[str, Kind]] = {
    "CS": "code", "DA": "date", "IS": "integer", "LO": "text", "SH": "text", "ST": "text", "TM": "time", "UI": "uid", "US": "integer",
}  # fmt: skip


def path(name: str) -> Path:
    """PS3.18 section 8.3.4.1: `StudyDate`, `00080020`, or one attribute of a sequence `00400275.00400009`. Raises `MalformedQuery`."""
    tags = []
    for part in name.split("."):
        tag = part.upper() if _TAG.fullmatch(part) else f"{tag_for_keyword(part) or 0:08X}"
        if tag == "00000000":
            raise MalformedQuery(
                "a query parameter is neither a DICOM keyword nor a tag of eight hexadecimal digits (PS3.18 section 8.3.4.1)"
            )
        tags.append(tag)
    return tuple(tags)


def has_wildcard(value: str) -> bool:
    return "*" in value or "?" in value


def conditions(connection: Connection, level: Level, key: Path, value: str) -> list[Condition]:
    """The conditions of one key. None for an empty value: universal matching (PS3.4 section C.2.2.2.3).

    Raises `MalformedQuery` for a key or value that cannot be matched at that level.
    """
    engine = _Engine(connection)
    if len(value) > _LONGEST and key[0] not in ("0020000D", "0020000E", "00080018"):
        raise MalformedQuery(f"a value to match has more than {_LONGEST} characters")
    if _CONTROL.search(value):
        raise MalformedQuery("a value to match has control characters")
    above = LEVELS[: LEVELS.index(level) + 1]
    if len(key) == 1:
        if key[0] == _SOP_CLASSES and level == "study":
            return _sop_classes(value)
        for each in above:
            if key[0] in KEYS[each]:
                kind, column = KEYS[each][key[0]]
                condition = _compare(engine, kind, column, value)
                if condition is not None and key == PATIENT_ID:
                    # A study without Patient ID has its own UID as identifier here; nobody asks for it.
                    condition = and_(condition, PATIENT.c.value != STUDY.c.uid)
                return [] if condition is None else [condition]
    return _stored(engine, above, key, value)


def _stored(engine: "_Engine", above: Sequence[Level], key: Path, value: str) -> list[Condition]:
    """Attributes without a column: in the JSON of their level."""
    owner = next((each for each in above if key[0] in REQUIRED[each] or key[0] in OPTIONAL[each]), None)
    if owner is None or len(key) > 2:
        raise MalformedQuery(f"({key[0][:4]},{key[0][4:]}) cannot be matched at the {above[-1]} level here")
    kind = _KIND_OF_VR.get(dictionary_VR(int(key[-1], 16)) if _known(key[-1]) else "")
    if kind is None:
        raise MalformedQuery(f"({key[-1][:4]},{key[-1][4:]}) has a Value Representation that cannot be matched here")
    known: Kind = kind

    def compare(text: ColumnElement[object]) -> Condition | None:
        return _compare(engine, known, text, value, stored_text=True)

    found = engine.within(_ATTRIBUTES[owner], key, compare)
    return [] if found is None else [found]


def _known(tag: str) -> bool:
    try:
        dictionary_VR(int(tag, 16))
    except KeyError:
        return False
    return True


def _compare(
    engine: "_Engine", kind: Kind, column: ColumnElement[object], value: str, *, stored_text: bool = False
) -> Condition | None:
    value = value.strip(" ")
    if not value:
        return None
    match kind:
        case "text":
            return engine.like(column, value)
        case "name":
            return _name(engine, column, value)
        case "date":
            return _between(column, value, _date_bounds)
        case "time":
            return _between(engine.bytewise(column), value, _time_bounds)
        case "uid":
            return column.in_(_uids(value))
        case "code":
            return or_(*(engine.like(column, one) for one in _codes(value)))
        case "modalities":
            return or_(*(_modality(engine, column, one) for one in _codes(value)))
        case "integer":
            if not _INTEGER.fullmatch(value):
                raise MalformedQuery("an integer attribute is matched by one integer (PS3.4 section C.2.2.2.1)")
            return column == (str(int(value)) if stored_text else int(value))


def _name(engine: "_Engine", column: ColumnElement[object], value: str) -> Condition:
    """PS3.4 section C.2.2.2.1 with PS3.5 section 6.2.1: no case, no accents, trailing empty components absent or present,
    the whole name or one of its component groups (alphabetic, ideographic, phonetic).
    """
    wanted = folded(value).rstrip("^= ")
    if not wanted:
        raise MalformedQuery("a person name to match has at least one component")
    forms = [wanted] if wanted.endswith("*") else [wanted + "^" * count for count in range(5)]
    whole = or_(*(engine.like(column, form) for form in forms))
    return or_(whole, *(engine.like(column, around) for form in forms for around in (f"{form}=*", f"*={form}", f"*={form}=*")))


def _codes(value: str) -> list[str]:
    """Code Strings, several as alternatives; neither comma nor backslash can be part of one (PS3.5 table 6.2-1)."""
    return [one for part in re.split(r"[,\\]", value) if (one := part.strip(" ").upper())][:_MOST_UIDS]


def _modality(engine: "_Engine", column: ColumnElement[object], code: str) -> Condition:
    # The column is `\CT\SR\`: a wildcard must not run over the next code, so it is held against each series.
    if not has_wildcard(code):
        return engine.like(column, f"*\\{code}\\*")
    return (
        exists()
        .where(SERIES.c.study_pk == STUDY.c.pk, SERIES.c.instance_count > 0, engine.like(SERIES.c.modality, code))
        .correlate(STUDY)
    )


def _sop_classes(value: str) -> list[Condition]:
    if not value.strip(" "):
        return []
    return [exists().where(INSTANCE.c.study_pk == STUDY.c.pk, PUBLISHED, INSTANCE.c.sop_class.in_(_uids(value))).correlate(STUDY)]


def _uids(value: str) -> list[str]:
    """PS3.4 section C.2.2.2.2, PS3.18 section 8.3.4.1: one UID or several, joined by commas or backslashes."""
    parts = [part.strip() for part in re.split(r"[,\\]", value)]
    if len(parts) > _MOST_UIDS:
        raise MalformedQuery(f"a list of UIDs may have at most {_MOST_UIDS}")
    try:
        return [lenient_uid(part) for part in parts]
    except InvalidIdentifier as error:
        raise MalformedQuery(str(error)) from None


def _between(column: ColumnElement[object], value: str, bounds: Callable[[str], tuple[str, str]]) -> Condition:
    """PS3.4 section C.2.2.2.5: `a`, `a-b`, `a-` or `-b`. What has no value matches no range."""
    first, dash, last = value.partition("-")
    first, last = first.strip(" "), last.strip(" ")
    conditions = [column != ""]
    if not dash:
        last = first
    if not (first or last):
        raise MalformedQuery("a range has a beginning or an end (PS3.4 section C.2.2.2.5)")
    if first:
        conditions.append(column >= bounds(first)[0])
    if last:
        conditions.append(column <= bounds(last)[1])
    return and_(*conditions)


def _date_bounds(text: str) -> tuple[str, str]:
    found = dicom_date(text)
    if found is None:
        raise MalformedQuery("a date to match is YYYYMMDD, or a range of them with a hyphen (PS3.4 section C.2.2.2.5)")
    return found, found


def _time_bounds(text: str) -> tuple[str, str]:
    """Least and greatest text of a time that `text`, to its precision, includes.

    Times are stored to the precision they came in, `1030` for 10:30; trailing zeros off the lower bound, text order is time order.
    """
    found = dicom_time(text)
    if found is None:
        raise MalformedQuery(
            "a time to match is HHMMSS.FFFFFF or the beginning of it, or a range with a hyphen (PS3.4 section C.2.2.2.5)"
        )
    # Seconds may be 60 (PS3.5 table 6.2-1, TM).
    high = found.ljust(13, "9") if "." in found else found + "HH5960.999999"[len(found) :]
    low = found.rstrip("0").removesuffix(".") if "." in found else found
    return low.rstrip("0") if "." not in low else low, high


class _Engine:
    """What the two engines write differently: wildcard matching with regard to case, and values inside JSON."""

    def __init__(self, connection: Connection) -> None:
        self._sqlite = connection.dialect.name == "sqlite"

    def bytewise(self, column: ColumnElement[object]) -> ColumnElement[object]:
        """`column` in the order of its bytes, whatever the database's collation."""
        return column if self._sqlite else cast(column, Text).collate("C")  # type: ignore[return-value]

    def like(self, column: ColumnElement[object], pattern: str) -> Condition:
        """PS3.4 section C.2.2.2.4: `*` any characters, `?` any one. Without these, equality."""
        if not has_wildcard(pattern):
            return column == pattern
        if pattern.count("*") > _MOST_WILDCARDS:
            raise MalformedQuery(f"a value to match may have at most {_MOST_WILDCARDS} asterisks")
        if self._sqlite:
            matched: Condition = column.op("GLOB")(pattern.replace("[", "[[]"))
        else:
            escaped = re.sub(r"[\\%_]", r"\\\g<0>", pattern).replace("*", "%").replace("?", "_")
            matched = column.like(escaped, escape="\\")
        return and_(column != "", matched) if pattern.strip("*") else column != ""

    def within(
        self, attributes: ColumnElement[bytes], key: Path, compare: Callable[[ColumnElement[object]], Condition | None]
    ) -> Condition | None:
        """`compare` applied to the first value of an attribute, or of an attribute in any item of a sequence."""
        if len(key) == 1:
            return compare(self._first(self._parsed(attributes), key[0]))
        if self._sqlite:
            items = func.json_each(self._parsed(attributes), f'$."{key[0]}".Value').table_valued("value")
        else:
            found = func.jsonb_extract_path(self._parsed(attributes), key[0], "Value", type_=JSONB)
            items = func.jsonb_array_elements(found, type_=JSONB).table_valued("value")
        condition = compare(self._first(items.c.value, key[1]))
        return None if condition is None else exists(select(1).select_from(items).where(condition))

    def _parsed(self, attributes: ColumnElement[bytes]) -> ColumnElement[object]:
        # PostgreSQL's jsonb cannot hold U+0000, and SQLite's GLOB ends at it; a damaged value may have one.
        if self._sqlite:
            return func.replace(cast(attributes, Text), "\\u0000", "", type_=Text)
        return cast(func.replace(func.convert_from(attributes, "UTF8"), "\\u0000", ""), JSONB)

    def _first(self, parsed: ColumnElement[object], tag: str) -> ColumnElement[object]:
        if self._sqlite:
            return cast(func.json_extract(parsed, f'$."{tag}".Value[0]'), Text)
        return func.jsonb_extract_path_text(parsed, tag, "Value", "0", type_=Text)
