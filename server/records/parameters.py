"""Search parameters that clients define (FHIR R4 section 3.1.1.1, SearchParameter): active ones work at once, in every process.

A generation, renewed with each change, says when what a process knows of them is old. What was stored before is indexed by the job
`REINDEX`, in the background; `indexing` says how far it is.
"""

import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Connection, Select, bindparam, delete, func, select

from profiles.fhir.element_paths import Unsupported
from profiles.fhir.indexing import CATALOGUED, Indexer
from profiles.fhir.issues import Issue
from profiles.fhir.json import parse
from profiles.fhir.own_parameters import OWN
from profiles.r4 import search as r4
from profiles.r4.definitions import resource_types
from profiles.r4.search import Parameter
from server.errors import Invalid
from server.records.packing import unpacked
from server.store import jobs
from server.store.db import insert, micros
from server.store.prepared import Prepared, driven
from server.store.tables import Installation, Reindexing, Resource, Study

REINDEX: Final = "reindex"
"""Kind of the job; its key is the resource type."""
LOCK: Final = 0x1AA6E6
"""PostgreSQL's advisory lock: writers share it, and a reindex waits once for those that began before the parameters changed."""
_DEFINING: Final = 0x1AA6E7
"""Another one: who defines a parameter holds it."""

_INSTALLATION = Installation.__table__  # type: ignore[attr-defined]
_REINDEXING = Reindexing.__table__  # type: ignore[attr-defined]
_RESOURCE = Resource.__table__  # type: ignore[attr-defined]
_GENERATION: Final = "search_parameters"
_CODE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}", re.ASCII)
_TYPES: Final = frozenset({"number", "date", "string", "token", "reference", "quantity", "uri", "composite"})

EVERY: Final = "*"
"""In `Progress.codes`: everything of the type has to be indexed anew."""

Active = Mapping[str, Mapping[str, Parameter]]


@dataclass(frozen=True, slots=True)
class Progress:
    """A type that is being indexed anew: `codes` are the parameters that answers may be incomplete for, `EVERY` for all, none where all were
    answered before.
    """

    type: str
    codes: frozenset[str]
    percent: int


def active(connection: Connection) -> Active:
    """The parameters beyond R4's that are active, ours and those that clients defined, by resource type and code."""
    return _known(connection, _generation(connection))


def indexer(connection: Connection, type_: str, id_: str = "") -> Indexer:
    """What indexes a type with the parameters of R4 and those that are active: for writers, who are seen by a reindex that comes.

    `id_` is of one that may be in the DICOM catalogue, which answers for its thousands of instances itself.
    """
    known = _held(connection)
    is_catalogued = type_ == "ImagingStudy" and id_ != "" and bool(_STUDY.rows(connection, {"id_": id_}))
    return _indexer(type_, tuple(known.get(type_, {}).values()), is_catalogued)


def indexers(connection: Connection, types: Iterable[str]) -> dict[str, Indexer]:
    """As `indexer`, of several types."""
    known = _held(connection)
    return {type_: _indexer(type_, tuple(known.get(type_, {}).values()), False) for type_ in types}


def _held(connection: Connection) -> Active:
    if connection.dialect.name != "sqlite":
        driven(connection, "SELECT pg_advisory_xact_lock_shared(%s)", (LOCK,))
    return active(connection)


@lru_cache(maxsize=512)
def _indexer(type_: str, custom: tuple[Parameter, ...], is_catalogued: bool) -> Indexer:
    return Indexer(type_, [*r4.parameters(type_).values(), *custom], without=CATALOGUED if is_catalogued else ())


_STUDY = Prepared(lambda _: select(Study.__table__.c.pk).where(Study.__table__.c.id == bindparam("id_")), ("id_",))  # type: ignore[attr-defined]


def _generation_of(_: str) -> "Select[str]":
    return select(_INSTALLATION.c.value).where(_INSTALLATION.c.key == _GENERATION)


_READ = Prepared(_generation_of, ())
_kept: dict[str, Active] = {}
_MOST_KEPT: Final = 16


def _generation(connection: Connection) -> str:
    rows = _READ.rows(connection, {})
    return str(rows[0][0]) if rows else ""


def _known(connection: Connection, generation: str) -> Active:
    """A generation is of one database, and by chance unlike any other's."""
    if not generation:
        return OWN
    if generation not in _kept:
        if len(_kept) >= _MOST_KEPT:
            _kept.clear()
        _kept[generation] = _read(connection)
    return _kept[generation]


def _read(connection: Connection) -> Active:
    bodies = connection.execute(
        select(_RESOURCE.c.body).where(_RESOURCE.c.type == "SearchParameter", _RESOURCE.c.deleted == 0).order_by(_RESOURCE.c.pk)
    ).scalars()
    found: dict[str, dict[str, Parameter]] = {type_: dict(own) for type_, own in OWN.items()}
    for body in bodies:
        resource = parse(unpacked(bytes(body)))
        if _counts(resource):
            parameter = r4.parameter(resource)
            for type_ in parameter.bases:
                found.setdefault(type_, {}).setdefault(parameter.code, parameter)
    return found


def _counts(resource: Mapping[str, Any] | None) -> bool:
    """Whether it is one that is to be searched by: active, and not the definition of what R4 has anyway."""
    return resource is not None and resource.get("status") == "active" and r4.by_url(resource.get("url", "")) is None


# --- what is taken


def check(connection: Connection, resource: Mapping[str, Any]) -> None:
    """Raises `Invalid` (422) for an active SearchParameter that can't be searched by, naming the element and why.

    To be called in the transaction that stores it: nobody else defines one until it has ended, so that a code has one meaning.
    """
    if not _counts(resource):
        return
    if connection.dialect.name != "sqlite":
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (_DEFINING,))
    if issues := list(_issues(connection, resource)):
        raise Invalid(issues, status=422)


def _issues(connection: Connection, resource: Mapping[str, Any]) -> Iterator[Issue]:
    if not _CODE.fullmatch(resource.get("code", "")):
        yield _issue("code", "a code begins with a letter and has letters, digits, - and _, at most 64")
    if resource.get("type") not in _TYPES:
        yield _issue("type", "a parameter of the type special is the server's own: no expression says what it means")
        return
    if not resource.get("expression"):
        yield _issue("expression", "an active parameter needs an expression: without one there is nothing to index")
        return
    unknown = [each for each in resource.get("base", ()) if each not in {*resource_types(), "Resource", "DomainResource"}]
    if unknown:
        yield _issue("base", "a base is not a resource type of R4")
        return
    parameter = r4.parameter(resource)
    for type_ in parameter.bases:
        other = active(connection).get(type_, {}).get(parameter.code)
        if parameter.code in r4.parameters(type_) or (other is not None and other.url != parameter.url):
            yield _issue("code", f"{type_} has another parameter of this code; give this one a code of its own")
            return
    yield from _uncompiled(parameter)


def _uncompiled(parameter: Parameter) -> Iterator[Issue]:
    for place, (url, _) in enumerate(parameter.components):
        if r4.by_url(url) is None:
            yield _issue(f"component[{place}].definition", "a component is one of the parameters of R4, by its canonical URL")
            return
    try:
        for type_ in parameter.bases:
            Indexer(type_, [parameter])
    except Unsupported as error:
        yield _issue("expression", f"the expression can't be indexed: {error}")


def _issue(element: str, why: str) -> Issue:
    return Issue("error", "not-supported", f"SearchParameter.{element}", why)


# --- what a change brings about


def changed(connection: Connection, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> None:
    """A SearchParameter was written: `before` and `after` are its contents, None for none. Asks for a reindex of what is concerned."""
    was, is_ = (r4.parameter(each) if _counts(each) and each is not None else None for each in (before, after))
    if was == is_ and (was is None or is_ is None or was.expression == is_.expression):
        return
    value = f"{micros()}-{secrets.token_hex(8)}"
    connection.execute(
        insert(connection, _INSTALLATION)
        .values(key=_GENERATION, value=value)
        .on_conflict_do_update(index_elements=["key"], set_={"value": value})
    )
    there = set(connection.execute(select(_RESOURCE.c.type).group_by(_RESOURCE.c.type)).scalars())
    now = {(type_, is_.code) for type_ in is_.bases} if is_ is not None else set()
    before_ = {(type_, was.code) for type_ in was.bases} if was is not None else set()
    left = _known(connection, value)
    for type_, code in sorted(now | before_):
        if type_ in there:  # where another definition of the code is left, it is what has to be indexed now
            begin(connection, type_, code if (type_, code) in now or code in left.get(type_, {}) else "")


def begin(connection: Connection, type_: str, code: str = "") -> None:
    """Asks for the rows of a type to be made anew, from the first resource on; `code` is a parameter that is new."""
    now = micros()
    last = connection.execute(select(func.max(_RESOURCE.c.pk))).scalar() or 0
    known = connection.execute(select(_REINDEXING.c.codes).where(_REINDEXING.c.type == type_).with_for_update()).scalar() or ""
    row = {"codes": " ".join(sorted({*known.split(), *code.split()})), "position": 0, "last": last, "began": now}
    connection.execute(
        insert(connection, _REINDEXING).values(type=type_, **row).on_conflict_do_update(index_elements=["type"], set_=row)
    )
    jobs.enqueue(connection, REINDEX, type_, due=now)


def indexing(connection: Connection, types: Iterable[str] = ()) -> list[Progress]:
    """What is being indexed of those types, or of any."""
    asked = set(types)
    return [
        Progress(type_, frozenset(codes.split()), min(99, 100 * position // max(last, 1)))
        for type_, codes, position, last in _RUNNING.rows(connection, {})
        if not asked or type_ in asked
    ]


def _running(_: str) -> "Select[str, str, int, int]":
    return select(_REINDEXING.c.type, _REINDEXING.c.codes, _REINDEXING.c.position, _REINDEXING.c.last).order_by(
        _REINDEXING.c.type
    )


_RUNNING = Prepared(_running, ())


def ended(connection: Connection, type_: str) -> None:
    """All of a type is indexed."""
    connection.execute(delete(_REINDEXING).where(_REINDEXING.c.type == type_))
