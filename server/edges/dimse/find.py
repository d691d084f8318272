"""Query (PS3.4 section C.4.1): C-FIND over the published catalogue, in pages, so that neither memory nor a cancel waits for the end.

Each page is read in a view of its own, and none is open while matches are sent: a peer may take them as slowly as it likes.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson
from sqlalchemy import ColumnElement, Connection

from ihe.dimse import CommandField
from profiles.audit_event import RAD_14
from profiles.dicom_json import Attribute, Attributes, query_result
from profiles.query_attributes import MORE, OPTIONAL, REQUIRED, Level
from profiles.query_identifier import Identifier, Key, Path, Projection
from profiles.query_retrieve import LEVELS, MODELS, QUERY_RETRIEVE_LEVEL, UNIQUE_KEYS, IdentifierRefused, check_query
from server.access.decisions import Interaction
from server.edges.context import Node
from server.edges.dimse import inquiry
from server.edges.dimse.inquiry import Inquiry
from server.edges.dimse.service import Association, Message, Service
from server.errors import ImageShareError, MalformedQuery, TooLarge
from server.records import catalogue, conditions, matching
from server.records.catalogue import INSTANCE, PATIENT, SERIES, STUDY
from server.records.comparing import Condition
from server.records.matching import Match, Query
from server.records.packing import unpacked
from server.store.db import Database
from server.work.retrieve import STUDY_TYPE

PAGE: Final = 500
MOST_BYTES: Final = 4 << 20
"""Of whole instances, packed, that are read at once."""
_TOGETHER: Final = 64
_TOGETHER_BYTES: Final = 1 << 20
"""Matches that are sent at once, but not many more bytes than this; a cancel takes effect between."""
MOST_MATCHES: Final = 100_000
"""Of one query; beyond it is 0xA700, so that nobody takes a part for the whole."""

_CHARACTER_SET = "00080005"
_RETRIEVE_AE_TITLE = "00080054"
_AVAILABILITY = "00080056"
_RETRIEVE_URL = "00081190"
_SOP_CLASSES = "00080062"
_OVERLAP: Final = 20
# Not matched: what says how the request is meant (PS3.4 section C.4.1.1.3.1; the timezone is the requestor's), and what is the same everywhere
_ABOUT = frozenset({_CHARACTER_SET, QUERY_RETRIEVE_LEVEL, "00080053", _RETRIEVE_AE_TITLE, _AVAILABILITY, "00080201"})
# Known without being stored, besides those that every response has
_OF_PATIENTS = frozenset({"00201200", "00201202", "00201204"})
_COUNTED: Final = {"study": ("00080061", "00080062", "00201206", "00201208"), "series": ("00201209",)}
# A value of each VR that any key of that VR can be compared with
_HARMLESS = {"DA": "20000101", "DT": "20000101", "IS": "1", "TM": "10", "UI": "1.2", "US": "1", "UL": "1", "SS": "1", "DS": "1"}


def find(association: Association, message: Message) -> None:
    """PS3.4 section C.4.1.3.2: a pending response for each match, then the final one."""
    try:
        asked = inquiry.understood(association, message)
        level = check_query(asked.identifier, asked.model, relational=asked.relational)
        status = _answer(association, message, asked, level)
    except (ImageShareError, IdentifierRefused) as error:
        inquiry.refuse(association, message, error, "query", RAD_14)
        return
    association.respond(message.context, inquiry.response(message, status))


def _answer(association: Association, message: Message, asked: Inquiry, level: str) -> int:
    """Sends the matches and returns the final status. What a page has is in the trail before its first match is sent."""
    node, number = association.node, message.command.message_id or 0
    asked.decision.require(STUDY_TYPE, Interaction.SEARCH)
    allowed = asked.decision.studies_where(Interaction.SEARCH)
    projection = _projection(asked.identifier, message, asked.model.levels[: asked.model.levels.index(level) + 1])
    known: set[str] = set()
    first = True
    with node.database.read() as connection:
        keys, unsupported = _matched(connection, asked.identifier, LEVELS[level])
    full = not unsupported and all(_is_returned(LEVELS[level], key.tag) for key in projection.keys)
    status = inquiry.PENDING if full else inquiry.PENDING_UNSUPPORTED
    response = inquiry.response(message, status)
    for page in _pages(node.database, _query(asked, LEVELS[level], keys), allowed, _made(LEVELS[level], projection)):
        patients = {match.patient for match in page}
        if first or patients - known:
            inquiry.told(association, "query", RAD_14, patients - known, inquiry.asked(message))
            known |= patients
            first = False
        written = (projection.write(result) for result in _results(node, page, level, projection))
        for together in _batches(written):
            if association.cancelled(number):
                return inquiry.CANCELLED
            association.respond_each(message.context, response, together)
    return inquiry.SUCCESS


def _batches(written: Iterable[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for each in written:
        batch.append(each)
        size += len(each)
        if len(batch) >= _TOGETHER or size >= _TOGETHER_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _query(asked: Inquiry, level: Level, keys: dict[Path, str]) -> Query:
    return Query(level, keys, limit=PAGE, fuzzy=asked.fuzzy, combined=asked.date_time)


@dataclass(frozen=True, slots=True)
class _Made:
    """A match whose result is as it was made when its study was published: `lines` of each level, from the study down."""

    patient: str
    key: int
    lines: tuple[bytes, ...]
    sop_classes: str


def _made(level: Level, projection: Projection) -> tuple[ColumnElement[Any], ...]:
    """The columns of `_Made`, if those results have all that is asked for; else none."""
    if level == "patient" or not all(key.tag in _IN_RESULTS for key in projection.keys):
        return ()
    return _MADE[level]


def _search(
    connection: Connection, query: Query, allowed: Condition, made: tuple[ColumnElement[Any], ...]
) -> tuple[Sequence[Match | _Made], bool]:
    """As `matching.search`. A study that is still to be indexed after an upgrade has no result, its page then none of them."""
    if made:
        rows = matching.page(connection, query, allowed, made)
        if all(all(row[3:]) for row in rows):
            found = [_Made(row[0], hash(row[1]), tuple(map(bytes, row[3:])), row[2]) for row in rows[: query.limit]]
            return found, len(rows) > query.limit
    return matching.search(connection, query, allowed)


def _pages(
    database: Database, query: Query, allowed: Condition, made: tuple[ColumnElement[Any], ...]
) -> Iterator[Sequence[Match | _Made]]:
    """The matches, page by page, each of which has a view of its own; at least one page. Raises `TooLarge` where there are too many.

    The catalogue may change between two pages. A match is given once, and pages overlap a little, so that none is passed over when
    some before it are gone; where more are gone than that, it begins anew.
    """
    offset, more = 0, True
    overlap = _OVERLAP if PAGE > _OVERLAP else 0
    sent: set[int] = set()
    while more:
        with database.read() as connection:
            found, more = _search(connection, replace(query, offset=offset), allowed, made)
        keys = [_key(match) for match in found]
        if offset and overlap and keys and keys[0] not in sent:
            offset, more = 0, True
            continue
        page = [match for match, key in zip(found, keys, strict=True) if key not in sent]
        sent.update(keys)
        if page or not offset:
            yield page
        offset += max(1, len(found) - overlap)
        if more and len(sent) >= MOST_MATCHES:
            raise TooLarge(f"there are more than {MOST_MATCHES} matches; ask for less")


def _key(match: Match | _Made) -> int:
    """One match as it is told from the others: by its lowest UID, or by the patient, who may change under a study."""
    if isinstance(match, _Made):
        return match.key
    if match.instance is not None:
        return hash(match.instance.sop_instance_uid)
    if match.series is not None:
        return hash(match.series.series_instance_uid)
    return hash(match.study.study_instance_uid or match.patient)


def _matched(connection: Connection, identifier: Identifier, level: Level) -> tuple[dict[Path, str], bool]:
    """PS3.4 section C.4.1.1.3.1: the keys that are matched, and whether there are others, which then match everything.

    Raises `IdentifierRefused` for a value that its key cannot be compared with.
    """
    vrs = {path: vr for path, vr in _representations(identifier.keys, ())}
    found: dict[Path, str] = {}
    unsupported = False
    for path, value in identifier.matching().items():
        if path[0] in _ABOUT or not value.strip("* "):  # only asterisks: universal matching (PS3.4 section C.2.2.2.4)
            continue
        try:
            conditions.conditions(connection, level, path, value)
        except MalformedQuery as error:
            if _is_matched(connection, level, path, vrs[path]):
                raise IdentifierRefused(error.detail, path[0]) from None
            unsupported = True
        else:
            found[path] = value
    return found, unsupported


def _is_matched(connection: Connection, level: Level, path: Path, vr: str) -> bool:
    try:
        conditions.conditions(connection, level, path, _HARMLESS.get(vr, "A"))
    except MalformedQuery:
        return False
    return True


def _representations(keys: Sequence[Key], above: Path) -> Iterator[tuple[Path, str]]:
    for key in keys:
        yield (*above, key.tag), key.vr
        yield from _representations(key.items, (*above, key.tag))


def _is_returned(level: Level, tag: str) -> bool:
    """Whether responses of a level have the attribute wherever there is a value: at instance level any that is no pixel data."""
    if tag in _OF_PATIENTS:
        return level == "patient"
    if tag in _ABOUT or level == "instance":
        return not tag.startswith("7FE0")
    above = conditions.LEVELS[: conditions.LEVELS.index(level) + 1]
    return any(tag in conditions.REQUIRED_OF[each] or tag in _COUNTED.get(each, ()) for each in above)


def _projection(identifier: Identifier, message: Message, levels: Sequence[str]) -> Projection:
    """PS3.4 section C.4.1.1.3.2: what was asked for, the unique keys down to its level, and what every response has."""
    keys = {key.tag: key for key in identifier.keys}
    always = {QUERY_RETRIEVE_LEVEL: "CS", _RETRIEVE_AE_TITLE: "AE"} | {
        UNIQUE_KEYS[level]: "LO" if level == "PATIENT" else "UI" for level in levels
    }
    for tag, vr in always.items():
        keys.setdefault(tag, Key(tag, vr))
    return Projection(tuple(keys[tag] for tag in sorted(keys)), identifier.character_set, message.context.transfer_syntax)


def _results(node: Node, page: Sequence[Match | _Made], level: str, projection: Projection) -> Iterator[Attributes]:
    """The attributes of each match, from the top level down, with what only a C-FIND response has."""
    here: Attributes = {
        QUERY_RETRIEVE_LEVEL: {"vr": "CS", "Value": [level]},
        _RETRIEVE_AE_TITLE: {"vr": "AE", "Value": [node.settings.ae_title]},
        _RETRIEVE_URL: {"vr": "UR"},
    }
    yield from (_stored(match) | here for match in page if isinstance(match, _Made))
    live = [match for match in page if isinstance(match, Match)]
    for match, stored in _whole(node.database, live, projection):
        yield stored | _own(stored, _patient(match) if level == "PATIENT" else _below(match)) | here


def _stored(match: _Made) -> Attributes:
    """PS3.4 tables C.6-2 to C.6-4, as `_below`."""
    result: Attributes = orjson.loads(match.lines[0])
    result[_SOP_CLASSES] = {"vr": "UI", "Value": [uid for uid in match.sop_classes.split("\\") if uid]}
    for lines in match.lines[1:]:
        result |= _own(result, orjson.loads(lines))
    return result


def _patient(match: Match) -> Attributes:
    """PS3.4 table C.6-1; what is stored with one of the patient's studies as well."""
    whole = query_result("study", match.study, None, None, orjson.loads(match.attributes[0]), "")
    result = {tag: value for tag, value in whole.items() if tag.startswith("0010") or tag == _AVAILABILITY}
    counts = {"00201200": match.study_count, "00201202": match.series_count, "00201204": match.instance_count}
    return result | {tag: _count(number) for tag, number in counts.items()}


def _below(match: Match) -> Attributes:
    """PS3.4 tables C.6-2 to C.6-4."""
    stored = [orjson.loads(body) for body in match.attributes]
    result = query_result("study", match.study, None, None, stored[0], "")
    result[_SOP_CLASSES] = {"vr": "UI", "Value": list(match.sop_classes)}
    result["00201206"], result["00201208"] = _count(match.series_count), _count(match.instance_count)
    if match.series is not None:
        result |= _own(result, query_result("series", match.study, match.series, None, stored[1], ""))
        result["00201209"] = _count(match.series_instance_count)
    if match.instance is not None:
        result |= _own(result, query_result("instance", match.study, match.series, match.instance, stored[2], ""))
    return result


def _count(number: int) -> Attribute:
    return {"vr": "IS", "Value": [number]}


def _own(above: Attributes, own: Attributes) -> Attributes:
    return {tag: value for tag, value in own.items() if len(value) > 1 or tag not in above}


def _whole(database: Database, page: Sequence[Match], projection: Projection) -> Iterator[tuple[Match, Attributes]]:
    """Each match, and all that its instance has where something is asked for that results do not have.

    Unpacked one at a time: a thousand frames may be megabytes. An instance that is gone meanwhile is left out.
    """
    waiting = list(page)
    if not waiting or waiting[0].instance is None or all(key.tag in _ANSWERED for key in projection.keys):
        yield from ((match, {}) for match in page)
        return
    while waiting:
        with database.read() as connection:
            packed = catalogue.some_dicom_json(connection, [match.instance_pk for match in waiting], MOST_BYTES)
        part, waiting = waiting[: len(packed)], waiting[len(packed) :]
        for match, body in zip(part, packed, strict=True):
            if body:
                yield match, orjson.loads(unpacked(body))


_COMPUTED: Final = {"00080061", _SOP_CLASSES, "00083002", "00201206", "00201208", "00201209"}
_IN_RESULTS: Final = (
    frozenset(tag for table in (REQUIRED, OPTIONAL) for tags in table.values() for tag in tags) | _ABOUT | _COMPUTED
)
_ANSWERED: Final = _IN_RESULTS | {tag for tags in MORE.values() for tag in tags}

# Which patient, which match, SOP Classes of the study, then the results of each level
_STUDY_MADE: Final = (PATIENT.c.id, STUDY.c.uid, STUDY.c.sop_classes, STUDY.c.result)
_SERIES_MADE: Final = (PATIENT.c.id, SERIES.c.uid, *_STUDY_MADE[2:], SERIES.c.result.label("result_series"))
_INSTANCE_MADE: Final = (PATIENT.c.id, INSTANCE.c.uid, *_SERIES_MADE[2:], INSTANCE.c.attributes)
_MADE: Final[Mapping[Level, tuple[ColumnElement[Any], ...]]] = {
    "study": _STUDY_MADE, "series": _SERIES_MADE, "instance": _INSTANCE_MADE,
}  # fmt: skip


SERVICE: Final = Service(
    name="Query (C-FIND)",
    permission="query",
    abstract_syntaxes=frozenset(model.find for model in MODELS),
    commands={CommandField.C_FIND_RQ: find},
    extended=inquiry.agreed_query,
)
