"""Query (PS3.4 section C.4.1): C-FIND over the published catalogue, in pages, so that neither memory nor a cancel waits for the end."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import orjson
from sqlalchemy import Connection

from ihe.dimse import CommandField
from profiles.audit_event import RAD_14
from profiles.dicom_json import Attribute, Attributes, query_result
from profiles.query_attributes import MORE, OPTIONAL, REQUIRED, Level
from profiles.query_identifier import Identifier, Key, Path, Projection
from profiles.query_retrieve import LEVELS, MODELS, QUERY_RETRIEVE_LEVEL, UNIQUE_KEYS, IdentifierRefused, check_query
from server.access.decisions import Interaction
from server.edges.dimse import inquiry
from server.edges.dimse.inquiry import Inquiry
from server.edges.dimse.service import Association, Message, Service
from server.errors import ImageShareError, MalformedQuery, TooLarge
from server.records import catalogue, conditions, matching
from server.records.matching import Match, Query
from server.records.resources import unpacked
from server.work.retrieve import STUDY_TYPE

PAGE: Final = 500
MOST_MATCHES: Final = 100_000
"""Of one query; beyond it is 0xA700, so that nobody takes a part for the whole."""

_CHARACTER_SET = "00080005"
_RETRIEVE_AE_TITLE = "00080054"
_AVAILABILITY = "00080056"
# Not matched: what says how the request is meant (PS3.4 section C.4.1.1.3.1; the timezone is the requestor's), and what is the same everywhere
_ABOUT = frozenset({_CHARACTER_SET, QUERY_RETRIEVE_LEVEL, "00080053", _RETRIEVE_AE_TITLE, _AVAILABILITY, "00080201"})
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
    allowed = asked.decision.where(STUDY_TYPE, Interaction.SEARCH, catalogue.PATIENT.c.id)
    projection = _projection(asked.identifier, message, asked.model.levels[: asked.model.levels.index(level) + 1])
    known: set[str] = set()
    first = True
    with node.database.read() as connection:
        keys, unsupported = _matched(connection, asked.identifier, LEVELS[level])
        for page in _pages(connection, _query(asked, LEVELS[level], keys), allowed):
            patients = {match.patient for match in page}
            if first or patients - known:
                inquiry.told(association, "query", RAD_14, patients - known, inquiry.asked(message))
                known |= patients
                first = False
            whole = _whole(connection, page, projection)
            for match in page:
                if association.cancelled(number):
                    return inquiry.CANCELLED
                stored = whole.get(match.instance_pk, {})
                result = stored | _own(stored, _result(match, level, node.settings.ae_title))
                full = not unsupported and all(key.tag in result for key in projection.keys)
                status = inquiry.PENDING if full else inquiry.PENDING_UNSUPPORTED
                association.respond(message.context, inquiry.response(message, status), projection.write(result))
    return inquiry.SUCCESS


def _query(asked: Inquiry, level: Level, keys: dict[Path, str]) -> Query:
    return Query(level, keys, limit=PAGE, fuzzy=asked.fuzzy, combined=asked.date_time)


def _pages(connection: Connection, query: Query, allowed: conditions.Condition) -> Iterator[list[Match]]:
    """The matches of one view of the catalogue, page by page; at least one page. Raises `TooLarge` where there are too many."""
    offset, more = 0, True
    while more:
        matches, more = matching.search(connection, replace(query, offset=offset), allowed)
        yield matches
        offset += PAGE
        if more and offset >= MOST_MATCHES:
            raise TooLarge(f"there are more than {MOST_MATCHES} matches; ask for less")


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


def _projection(identifier: Identifier, message: Message, levels: Sequence[str]) -> Projection:
    """PS3.4 section C.4.1.1.3.2: what was asked for, the unique keys down to its level, and what every response has."""
    keys = {key.tag: key for key in identifier.keys}
    always = {QUERY_RETRIEVE_LEVEL: "CS", _RETRIEVE_AE_TITLE: "AE"} | {
        UNIQUE_KEYS[level]: "LO" if level == "PATIENT" else "UI" for level in levels
    }
    for tag, vr in always.items():
        keys.setdefault(tag, Key(tag, vr))
    return Projection(tuple(keys[tag] for tag in sorted(keys)), identifier.character_set, message.context.transfer_syntax)


def _result(match: Match, level: str, title: str) -> Attributes:
    """The attributes of one match, from the top level down, with what only a C-FIND response has."""
    result = _patient(match) if level == "PATIENT" else _below(match)
    result[QUERY_RETRIEVE_LEVEL] = {"vr": "CS", "Value": [level]}
    result[_RETRIEVE_AE_TITLE] = {"vr": "AE", "Value": [title]}
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
    result["00080062"] = {"vr": "UI", "Value": list(match.sop_classes)}
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


def _whole(connection: Connection, page: Sequence[Match], projection: Projection) -> dict[int, Attributes]:
    """All that the instances of a page have, by their rows, where something is asked for that results do not have."""
    rows = [match.instance_pk for match in page if match.instance is not None]
    if not rows or all(key.tag in _ANSWERED for key in projection.keys):
        return {}
    packed = catalogue.dicom_json(connection, rows)
    return {row: orjson.loads(unpacked(body)) for row, body in zip(rows, packed, strict=True)}


_ANSWERED: Final = frozenset(tag for table in (REQUIRED, OPTIONAL, MORE) for tags in table.values() for tag in tags) | _ABOUT | {
    "00080061", "00080062", "00083002", "00201206", "00201208", "00201209",
}  # fmt: skip


SERVICE: Final = Service(
    name="Query (C-FIND)",
    permission="query",
    abstract_syntaxes=frozenset(model.find for model in MODELS),
    commands={CommandField.C_FIND_RQ: find},
    extended=inquiry.agreed_query,
)
