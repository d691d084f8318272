"""What a search finds, page by page, and what it may find."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, FromClause

from server.errors import Busy, Refused


@dataclass(frozen=True, slots=True)
class Whose:
    """What has a patient, and is no row of `resource`: an AuditEvent, a workitem."""

    patient: ColumnElement[str]


ResourceRow = FromClause | Whose
"""`resource`, or an alias of it."""


def whose(row: ResourceRow) -> ColumnElement[str]:
    """The column that has the patient."""
    return row.patient if isinstance(row, Whose) else row.c.patient


Allowed = Callable[[str, ResourceRow], ColumnElement[bool]]
"""The Decision as SQL: for a resource type, over a resource's row."""
Key = int | float | str | None

PAGE_BYTES = 16 << 20
"""A page ends early beyond this: a server may return fewer than asked (FHIR R4 section 3.1.1.5.4)."""


class TooCostly(Refused):
    """A search that would take too long: what it asks for is looked up in too many rows."""

    number = 2302
    http_status = 400
    fhir_code = "too-costly"
    summary = "the search takes too long"


class Overtaken(TooCostly, Busy):
    """A search that would not have taken too long, had the machine done nothing else."""

    number = 6003
    http_status = 503
    fhir_code = "throttled"
    summary = "the server is busy; try again"


@dataclass(frozen=True, slots=True)
class Position:
    """Where a page ended: when the search began (microseconds), the sort keys of its last match, None where it has no such value, and its row.

    `number` is which of the AuditEvents of one row it is. Without `keys` it is among what was changed meanwhile, behind all others.
    """

    began: int
    keys: tuple[Key, ...]
    pk: int
    number: int = 0

    def plain(self) -> list[Any]:
        """As values of JSON, for a page link."""
        return [self.began, list(self.keys), self.pk, self.number]

    @staticmethod
    def from_plain(given: Sequence[Any]) -> "Position":
        """The reverse of `plain`."""
        began, keys, pk, number = given
        return Position(began, tuple(keys), pk, number)


@dataclass(frozen=True, slots=True)
class Match:
    """One resource as it is sent. `patient` is the compartment it is in, or empty; `summary`: the body is its stored summary."""

    type: str
    id: str
    patient: str
    body: bytes
    pk: int = 0
    summary: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """The matches of one page; `next` is None on the last one."""

    matches: tuple[Match, ...]
    next: Position | None


def cut(found: Iterable[tuple[Position, Match]], count: int) -> Page:
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
