"""FHIR search as SQL: criteria on what was extracted, one page at a time by keyset.

Three ways to walk, chosen so that no search sorts the whole table: a selective identifier is looked up first; a patient's
or a type's resources are walked in the order of an index, probing the token table; or the token table itself is walked,
whose rows carry the date ("newest CT of all patients").
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, FromClause, Select, and_, exists, false, func, or_, select, true, tuple_, union

from profiles.search_parameters import AUDIT_OUTCOMES, DateValue, TokenValue
from server.records import trail
from server.records.resources import RESOURCE, TOKEN, token_hash, unpacked

Allowed = Callable[[ColumnElement[str]], ColumnElement[bool]]
"""The Decision as SQL, over the column that holds the patient."""

PAGE_BYTES = 16 << 20
"""A page ends early beyond this: a server may return fewer than asked (FHIR R4 section 3.1.1.5.4)."""

_SELECTIVE = 500
_LONGEST = 366 * 86_400_000_000
"""What the longest FHIR date, a leap year, covers in microseconds."""

_BRANCHES = 16


@dataclass(frozen=True, slots=True)
class Sort:
    """`by_update` sorts by lastUpdated, else by the type's clinical date; ties by the row's number, in the same direction."""

    by_update: bool = False
    descending: bool = True


@dataclass(frozen=True, slots=True)
class Query:
    """What is searched. Outer tuples must all hold, of an inner tuple any may.

    `tokens` are (parameter, values), `dates` are on the clinical date, `updated` on lastUpdated; `patients` are resource ids.
    """

    type: str
    ids: tuple[tuple[str, ...], ...] = ()
    patients: tuple[tuple[str, ...], ...] = ()
    tokens: tuple[tuple[str, tuple[TokenValue, ...]], ...] = ()
    dates: tuple[tuple[DateValue, ...], ...] = ()
    updated: tuple[tuple[DateValue, ...], ...] = ()
    sort: Sort = Sort()


@dataclass(frozen=True, slots=True)
class Position:
    """Where a page ended: sort key and row number of its last match, and when the search began (microseconds).

    `number` is which of the AuditEvents of one row it is.
    """

    began: int
    key: int
    pk: int
    number: int = 0


@dataclass(frozen=True, slots=True)
class Match:
    """One resource as it is sent. `patient` is the compartment it is in, or empty."""

    type: str
    id: str
    patient: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Page:
    """The matches of one page; `next` is None on the last one."""

    matches: tuple[Match, ...]
    next: Position | None


def page(
    connection: Connection,
    query: Query,
    *,
    allowed: Allowed,
    confined: bool,
    count: int,
    began: int,
    after: Position | None = None,
) -> Page:
    """FHIR R4 section 3.1.1.5.4: up to `count` matches (at least 1) after `after`, in the query's order.

    `confined` says that `allowed` leaves few patients. What is new since `began` stays out, so that paging ends; a resource that
    has a new version since then is shown in that version, so that paging loses nothing.
    """
    if query.type == "AuditEvent":
        return _events_page(connection, query, allowed, confined, count, began, after)
    found = _page_statement(connection, query, allowed, confined, count, began, after)
    with connection.execute(found) as rows:
        return _cut(
            (
                (Position(began, row.key, row.pk), Match(query.type, row.id, row.patient, unpacked(bytes(row.body))))
                for row in rows
            ),
            count,
        )


def total(connection: Connection, query: Query, *, allowed: Allowed, confined: bool, began: int) -> int:
    """FHIR R4 section 3.1.1.5.5: how many matches there are on all pages."""
    if query.type == "AuditEvent":
        return trail.total(connection, *_outcomes(query), wanted=_wanted(query, allowed, confined, began))
    conditions, tokens = _narrowed(connection, query, allowed, began)
    if tokens and not (confined or query.patients):
        first, *others = sorted(tokens, key=len)
        counted = (
            select(func.count(TOKEN.c.resource_pk.distinct())).select_from(_BY_TOKEN).where(TOKEN.c.hash.in_(first), *conditions)
        )
        return int(connection.execute(counted.where(*map(_probe, others))).scalar_one())
    counted = select(func.count()).select_from(RESOURCE).where(*conditions, *map(_probe, tokens))
    return int(connection.execute(counted).scalar_one())


def named(connection: Connection, type_: str, ids: Sequence[str]) -> list[Match]:
    """The resources of one type with these ids, in the order of their ids; those that are not there are left out."""
    rows = connection.execute(
        select(RESOURCE.c.id, RESOURCE.c.patient, RESOURCE.c.body)
        .where(RESOURCE.c.type == type_, RESOURCE.c.id.in_(sorted(set(ids))))
        .order_by(RESOURCE.c.id)
    )
    return [Match(type_, row.id, row.patient, unpacked(bytes(row.body))) for row in rows]


_BY_TOKEN = TOKEN.join(RESOURCE, TOKEN.c.resource_pk == RESOURCE.c.pk)


def _page_statement(
    connection: Connection, query: Query, allowed: Allowed, confined: bool, count: int, began: int, after: Position | None
) -> "Select[tuple[int, int, str, str, bytes]]":
    conditions, tokens = _narrowed(connection, query, allowed, began)
    walks_tokens = bool(tokens) and not (confined or query.patients or query.ids or query.sort.by_update)
    if walks_tokens:
        first, *others = sorted(tokens, key=len)
        if len(first) <= _BRANCHES:
            return _token_walk(query, first, [*conditions, *map(_probe, others)], count, after)
    key = RESOURCE.c.updated if query.sort.by_update else RESOURCE.c.date
    return _ordered(RESOURCE, key, RESOURCE.c.pk, [*conditions, *map(_probe, tokens)], query.sort, count, after)


def _token_walk(
    query: Query, hashes: Sequence[int], conditions: list[ColumnElement[bool]], count: int, after: Position | None
) -> "Select[tuple[int, int, str, str, bytes]]":
    """One ordered walk per token value, merged: no value's rows are sorted beyond one page."""
    walks = [
        _ordered(_BY_TOKEN, TOKEN.c.date, TOKEN.c.resource_pk, [TOKEN.c.hash == each, *conditions], query.sort, count, after)
        for each in hashes
    ]
    if len(walks) == 1:
        return walks[0]
    merged = union(*(select(walk.with_only_columns(*list(walk.selected_columns)[:2]).subquery()) for walk in walks)).subquery()
    key, pk = _directed(query.sort, merged.c.key, merged.c.pk)
    return (
        select(merged.c.key, merged.c.pk, RESOURCE.c.id, RESOURCE.c.patient, RESOURCE.c.body)
        .join(RESOURCE, RESOURCE.c.pk == merged.c.pk)
        .order_by(key, pk)
        .limit(count + 1)
    )


def _ordered(
    source: FromClause,
    key: ColumnElement[int],
    pk: ColumnElement[int],
    conditions: list[ColumnElement[bool]],
    sort: Sort,
    count: int,
    after: Position | None,
) -> "Select[tuple[int, int, str, str, bytes]]":
    if after is not None:
        here, there = tuple_(key, pk), tuple_(after.key, after.pk)
        conditions = [*conditions, here < there if sort.descending else here > there]
    return (
        select(key.label("key"), pk.label("pk"), RESOURCE.c.id, RESOURCE.c.patient, RESOURCE.c.body)
        .select_from(source)
        .where(*conditions)
        .order_by(*_directed(sort, key, pk))
        .limit(count + 1)
    )


def _directed(sort: Sort, *columns: ColumnElement[int]) -> list[ColumnElement[int]]:
    return [column.desc() if sort.descending else column.asc() for column in columns]


def _cut(found: Iterator[tuple[Position, Match]], count: int) -> Page:
    """The first `count` matches, or fewer beyond `PAGE_BYTES`; where more follow, the position after the last."""
    matches: list[Match] = []
    last: Position | None = None
    size = 0
    for position, match in found:
        if len(matches) == count or (matches and size + len(match.body) > PAGE_BYTES):
            return Page(tuple(matches), last)
        matches.append(match)
        size += len(match.body)
        last = position
    return Page(tuple(matches), None)


# --- criteria


def _narrowed(
    connection: Connection, query: Query, allowed: Allowed, began: int
) -> tuple[list[ColumnElement[bool]], list[tuple[int, ...]]]:
    """The conditions on the resource's row, and the token hashes that are still to be walked or probed.

    An identifier is looked up here: it leaves a few row numbers, whatever the engine thinks of its statistics.
    """
    conditions = [
        RESOURCE.c.type == query.type,
        allowed(RESOURCE.c.patient),
        or_(RESOURCE.c.updated <= began, RESOURCE.c.version > 1),
        *(RESOURCE.c.id.in_(ids) for ids in query.ids),
        *(RESOURCE.c.patient.in_(ids) for ids in query.patients),
        *(or_(*(_on_range(RESOURCE.c.date, RESOURCE.c.date_end, value) for value in values)) for values in query.dates),
        *(or_(*(_on_instant(RESOURCE.c.updated, value) for value in values)) for values in query.updated),
    ]
    tokens = []
    for parameter, values in query.tokens:
        hashes = tuple(sorted({token_hash(query.type, parameter, value.system, value.code) for value in values}))
        if parameter == "identifier":
            probe = select(TOKEN.c.resource_pk).where(TOKEN.c.hash.in_(hashes)).limit(_SELECTIVE + 1)
            pks = connection.execute(probe).scalars().all()
            if len(pks) <= _SELECTIVE:
                conditions.append(RESOURCE.c.pk.in_(sorted(set(pks))) if pks else false())
                continue
        tokens.append(hashes)
    return conditions, tokens


def _probe(hashes: tuple[int, ...]) -> ColumnElement[bool]:
    """One of the token values is the resource's: a look into the token table's primary key."""
    probe = TOKEN.alias()
    return exists().where(probe.c.hash.in_(hashes), probe.c.date == RESOURCE.c.date, probe.c.resource_pk == RESOURCE.c.pk)


def _on_range(start: ColumnElement[int], end: ColumnElement[int], value: DateValue) -> ColumnElement[bool]:
    """FHIR R4 table in section 3.1.1.4.5: `value` against the range [start, end) of the resource. No date matches nothing.

    Each case also bounds `start` itself, which is what an index is ordered by: no FHIR date covers more than a year.
    """
    within = and_(start >= value.start, start < value.end, end <= value.end)
    match value.prefix:
        case "eq":
            found = within
        case "ne":
            found = ~within
        case "gt":
            found = and_(start > value.end - _LONGEST, end > value.end)
        case "lt":
            found = start < value.start
        case "ge":
            found = and_(start > min(value.end - _LONGEST, value.start - 1), or_(end > value.end, within))
        case "le":
            found = and_(start < value.end, or_(start < value.start, within))
        case "sa":
            found = start >= value.end
        case "eb":
            found = and_(start < value.start, end <= value.start)
    return and_(end > start, found)


def _on_instant(column: ColumnElement[int], value: DateValue) -> ColumnElement[bool]:
    """The same for a moment in microseconds that is told in milliseconds: its range is the millisecond that clients see.

    Written as bounds of the bare column, so that an index can answer it.
    """
    # With whole milliseconds m: m >= x is column >= up(x); m + 1000 > x is column >= up(x - 999).
    first, last = _up(value.start), _up(value.end - 999)
    match value.prefix:
        case "eq":
            return and_(column >= first, column < last)
        case "ne":
            return or_(column < first, column >= last)
        case "gt":
            return column >= last
        case "lt":
            return column < first
        case "ge":
            return column >= min(first, last)
        case "le":
            return column < max(first, last)
        case "sa":
            return column >= _up(value.end)
        case "eb":
            return column < _up(value.start - 999)


def _up(micros: int) -> int:
    """The next whole millisecond, in microseconds."""
    return -(-micros // 1000) * 1000


# --- the trail


def _events_page(
    connection: Connection, query: Query, allowed: Allowed, confined: bool, count: int, began: int, after: Position | None
) -> Page:
    found = trail.events(
        connection,
        *_outcomes(query),
        wanted=_wanted(query, allowed, confined, began),
        limit=count + 1,
        after=(after.key, after.pk, after.number) if after is not None else None,
    )
    return _cut(
        (
            (Position(began, one.recorded, one.pk, one.number), Match("AuditEvent", one.id, one.patient, one.body))
            for one in found
        ),
        count,
    )


def _wanted(query: Query, allowed: Allowed, confined: bool, began: int) -> trail.Wanted:
    def patients(column: ColumnElement[str]) -> list[ColumnElement[bool]]:
        return [allowed(column), *(column.in_(ids) for ids in query.patients)]

    def moments(column: ColumnElement[int]) -> list[ColumnElement[bool]]:
        return [column <= began, *(or_(*(_on_instant(column, value) for value in values)) for values in query.dates)]

    return trail.Wanted(query.ids, patients, moments, few=confined or bool(query.patients))


def _outcomes(query: Query) -> list[ColumnElement[bool]]:
    return [or_(*map(_on_outcome, values)) for parameter, values in query.tokens if parameter == "outcome"]


def _on_outcome(value: TokenValue) -> ColumnElement[bool]:
    """AuditEvent.outcome is a code, whose system is that of its required binding (FHIR R4 section 3.1.1.4.10)."""
    if value.system is not None and value.system not in AUDIT_OUTCOMES:
        return false()
    return trail.EVENT.c.outcome == value.code if value.code is not None else true()
