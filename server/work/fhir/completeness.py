"""Whether a search can find everything: rows that it looks at may be in the making (`server.records.parameters`, `Progress`).

After an update of the server all rows of a type are made anew, after a new SearchParameter those of its code. Until then what a search does not
find says nothing: not that it isn't there, and not that it may be created.
"""

from collections.abc import Collection

from sqlalchemy import Connection

from profiles.fhir.issues import Issue
from server.errors import Unavailable
from server.records import parameters
from server.records.parameters import EVERY, Progress
from server.work.fhir.sight import Looked


def require(connection: Connection, looked: Collection[Looked]) -> None:
    """Raises `Unavailable` (503) unless everything that is looked at is indexed: for what acts on what it does not find."""
    if told := _told(connection, looked):
        raise Unavailable(f"{told[0]}; try again later")


def warnings(connection: Connection, looked: Collection[Looked], *, lenient: bool) -> tuple[Issue, ...]:
    """FHIR R4 section 3.1.1.3, handling=lenient: a warning for each type that is being indexed. Who is not lenient gets `Unavailable` (503)."""
    told = _told(connection, looked)
    if told and not lenient:
        raise Unavailable(f"{told[0]}; try again later, or take what is found with Prefer: handling=lenient")
    return tuple(Issue("warning", "incomplete", "", each) for each in told)


def _told(connection: Connection, looked: Collection[Looked]) -> list[str]:
    running = parameters.indexing(connection) if looked else []
    return [
        f"resources of type {each.type} are being indexed{_for(codes)}: {each.percent} %"
        for each in running
        if (codes := _missing(connection, each, looked))
    ]


def _missing(connection: Connection, progress: Progress, looked: Collection[Looked]) -> frozenset[str]:
    """What of the codes in the making is looked at."""
    asked = {code for type_, code in looked if type_ in (progress.type, "*")}
    if not asked or EVERY in progress.codes:
        return progress.codes if asked else frozenset()
    known = parameters.active(connection).get(progress.type, {}) if "*" in asked else {}
    led = {code for code, parameter in known.items() if parameter.type == "reference"}
    return progress.codes & (asked | led)


def _for(codes: frozenset[str]) -> str:
    return "" if EVERY in codes else f" for {', '.join(sorted(codes))}"
