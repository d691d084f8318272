"""Histories of a resource, a type and the whole system (FHIR R4 section 3.1.0.12).

Who follows what changes asks again and again with `_since`, and each time with the `Bundle.meta.lastUpdated` of the answer before: up to that moment
an answer is whole. Versions that were told already may come once more; with the time of the last version, or a clock of one's own, some could be missed.
To a patient/ scope that moment is not told where it would be that of somebody else's write.
"""

import re
import uuid
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any, Final

from sqlalchemy import Connection

from profiles.fhir.date_range import date_range
from server.access.decisions import Decision, Interaction
from server.errors import Forbidden, NotFound
from server.records import resources
from server.records.fhir_search import limited
from server.records.resources import HistoryPosition, Version
from server.store.db import instant
from server.work.fhir import offered
from server.work.fhir.caller import Caller
from server.work.fhir.listing import Entry, Listing
from server.work.fhir.paging import seal, unseal
from server.work.fhir.permission import if_granted, is_by_patient, is_granted, is_limited, require, require_resource, versions
from server.work.fhir.reading import FHIR_ID, FORMATS
from server.work.fhir.refusals import ParameterError
from server.work.fhir.searching import DEFAULT_COUNT, MOST, Found, address
from server.work.fhir.shape import PARAMETERS, Shape, of_read

Parameters = Sequence[tuple[str, str]]
_INSTANT: Final = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})", re.ASCII)
_KNOWN: Final = ("_since", "_at", "_count", "_cursor", *PARAMETERS, *FORMATS)
_STATUS: Final = {"DELETE": "204 No Content"}


@dataclass(frozen=True, slots=True)
class _Asked:
    """What of a history is asked for. Times are microseconds; `at` is a half-open range."""

    since: int | None
    at: tuple[int, int] | None
    count: int
    cursor: str
    shape: Shape
    understood: tuple[tuple[str, str], ...]


def history(
    connection: Connection, caller: Caller, type_: str, id_: str, given: Parameters, *, key: bytes, settled: int | None = None
) -> Found:
    """FHIR R4 section 3.1.0.12, history: every version of the resource `type_`/`id_`; of all of the type where `id_` is empty; of all types.

    Newest first, deletions too, with `_since`, `_at` and `_count`; `key` seals page links, `settled` is what `resources.settled` said before.
    A version is for those who may see whose it was and whose its resource is now; a patient/ scope does not open what a study was before images
    of it were withdrawn. Raises `NotFound`, `Forbidden`, `NotOffered`, `ParameterError`.
    """
    asked = _read(type_, given)
    made, types = caller.decision, _types(caller.decision, type_, id_)
    named = frozenset([_owner(connection, caller, type_, id_)]) - {""} if id_ else frozenset[str]()
    path = "/".join(part for part in (type_, id_, "_history") if part)
    after = HistoryPosition(*unseal(key, asked.cursor, path, asked.understood, made)) if asked.cursor else None
    with limited(connection):
        page = resources.history(
            connection,
            type=type_ or None,
            id=id_ or None,
            since=asked.since,
            at=asked.at,
            allowed=versions(made, types, _interaction(id_)),
            withholds="ImagingStudy" in types and is_limited(made, "ImagingStudy", _interaction(id_)),
            count=asked.count,
            after=after,
        )
    links = [("self", address(caller.base, path, asked.understood, asked.cursor))]
    if asked.cursor:
        links.append(("first", address(caller.base, path, asked.understood)))
    if page.next is not None:
        sealed = seal(key, astuple(page.next), path, asked.understood, made)
        links.append(("next", address(caller.base, path, asked.understood, sealed)))
    total = len(page.entries) if page.next is None and after is None else None
    entries = tuple(_entry(caller.base, each, asked.shape) for each in page.entries)
    now = "" if settled is None else instant(_whole(made, types, _interaction(id_), settled, asked.since, page.entries))
    listing = Listing(str(uuid.uuid4()), "history", now, tuple(links), entries, total)
    seen = {patient for each in page.entries for patient in (each.patient, each.owner)}
    return Found(listing, named | (seen - {""}))


def _whole(
    made: Decision, types: tuple[str, ...], interaction: Interaction, settled: int, since: int | None, entries: Sequence[Version]
) -> int:
    """The moment (microseconds) up to which nothing is missed: what is `settled`, or where that would tell of others' writes, the last version told."""
    if not any(is_limited(made, each, interaction) or not is_by_patient(made, each, interaction) for each in types):
        return settled
    return min(settled, entries[0].updated) if entries else since or 0


def _interaction(id_: str) -> Interaction:
    """SMART App Launch 2.2: `r` opens the history of one resource, `s` that of a type or of all."""
    return Interaction.READ if id_ else Interaction.SEARCH


def _types(made: Decision, type_: str, id_: str) -> tuple[str, ...]:
    interaction = _interaction(id_)
    if type_:
        offered.require(type_, "history-instance" if id_ else "history-type")
        if not id_:
            require(made, type_, interaction)
        return (type_,)
    found = tuple(each for each in offered.of_history() if is_granted(made, each, interaction))
    if not found:
        raise Forbidden("the token grants no scope that includes 's' for any type")
    return found


def _owner(connection: Connection, caller: Caller, type_: str, id_: str) -> str:
    """The patient whose the resource is now, or was when it was deleted; empty for nobody's. Raises `NotFound`, `Forbidden`."""
    with if_granted(caller.decision, type_):
        last = resources.last(connection, type_, id_) if FHIR_ID.fullmatch(id_) else None
        if last is None:
            raise NotFound(f"there is no {type_} with this id")
    require_resource(connection, caller.decision, type_, Interaction.READ, id_, last.patient, now=not last.deleted)
    return last.patient


def _read(type_: str, given: Parameters) -> _Asked:
    for name, _ in given:
        if name not in _KNOWN:
            detail = f"a history has the parameters {', '.join(sorted(_KNOWN))}"
            raise ParameterError(name if name == "_list" else "", detail, "not-supported")
    values = dict(given)
    if len(values) < len(given):
        raise ParameterError("", "a parameter of a history stands there more than once", "invalid")
    count = values.get("_count", str(DEFAULT_COUNT))
    if not re.fullmatch(r"[0-9]{1,9}", count, re.ASCII):
        raise ParameterError("_count", f"_count is a number from 1 to {MOST}")
    shape = of_read(type_ or "Patient", [each for each in given if each[0] in PARAMETERS and (type_ or each[0] == "_summary")])
    return _Asked(
        _moment(values["_since"]) if "_since" in values else None,
        _range(values["_at"]) if "_at" in values else None,
        min(max(int(count), 1), MOST),
        values.get("_cursor", ""),
        shape,
        tuple(each for each in given if each[0] != "_cursor"),
    )


def _moment(text: str) -> int:
    if not _INSTANT.fullmatch(text):
        raise ParameterError("_since", "_since is an instant, such as 2026-01-05T09:30:00Z")
    return _range(text, "_since")[0]


def _range(text: str, name: str = "_at") -> tuple[int, int]:
    try:
        return date_range(text)
    except ValueError:
        raise ParameterError(name, f"{name} is a date or an instant, such as 2026-01-05 or 2026-01-05T09:30:00Z") from None


def _entry(base: str, version: Version, shape: Shape) -> Entry:
    """FHIR R4 section 2.36, invariants bdl-3 and bdl-4: how the version came to be, and what was answered then."""
    created = version.method == "POST"
    url = version.type if created else f"{version.type}/{version.id}"
    status = _STATUS.get(version.method, "201 Created" if version.version == 1 or created else "200 OK")
    after: dict[str, Any] = {
        "request": {"method": version.method, "url": url},
        "response": {"status": status, "etag": f'W/"{version.version}"', "lastModified": instant(version.updated)},
    }
    return Entry(shape.of(version.body) if version.body else b"", after, f"{base}/{version.type}/{version.id}")
