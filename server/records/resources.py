"""FHIR resources as the bytes that are sent: written once with their meta stamped, kept zstd-compressed, never re-modelled.

`put`, `create` and `delete` are the only ways in: they stamp `meta.versionId` and `meta.lastUpdated`, keep every version, and keep what
searches walk (`index_rows`). What was deleted keeps its row and its past.
"""

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
from sqlalchemy import Connection, Select, Update, bindparam, select, update
from sqlalchemy import delete as deleting

from profiles.fhir.business_identifiers import unique_identifiers
from profiles.fhir.index import Index
from profiles.fhir.issues import a
from profiles.fhir.json import parse, serialize
from server.errors import Conflict, Gone, NotFound
from server.records import consent_rules, identities, index_keys, index_rows, packing, parameters, reindexing, report_links
from server.records import history as versions
from server.records.reindexing import summarized
from server.store.db import instant, micros
from server.store.many import Adding
from server.store.prepared import Prepared
from server.store.tables import Resource, ResourceVersion, Token

RESOURCE = Resource.__table__  # type: ignore[attr-defined]
VERSION = ResourceVersion.__table__  # type: ignore[attr-defined]
TOKEN = Token.__table__  # type: ignore[attr-defined]
IDENTITY = identities.IDENTITY

_MILLISECOND = 1000
packed, unpacked, token_hash = packing.packed, packing.unpacked, index_keys.token_hash
history, total, is_withheld, settled = versions.history, versions.total, versions.is_withheld, versions.settled
HistoryPage = versions.HistoryPage
HistoryPosition = versions.HistoryPosition
Version = versions.Version


@dataclass(frozen=True, slots=True)
class Stored:
    """One version of a resource. `body` is the exact JSON to send, empty of one that is `deleted`; `patient` whose compartment it is in, or empty.

    `summary` is the JSON of `_summary=true` where it is kept. `owner` is whose the resource is now, of an earlier version that was another's.
    """

    type: str
    id: str
    version: int
    updated: int
    patient: str
    body: bytes
    deleted: bool = False
    summary: bytes | None = None
    owner: str | None = None

    @property
    def patients(self) -> frozenset[str]:
        """All of whom it tells: who may read it may read what is theirs."""
        return frozenset([self.patient]) if self.owner is None else frozenset([self.patient, self.owner])

    @property
    def etag(self) -> str:
        return f'W/"{self.version}"'


# --- writing


def put(
    connection: Connection,
    resource: Mapping[str, Any],
    *,
    method: str = "PUT",
    now: int | None = None,
    index: Index | None = None,
    base: str = "",
    yields: bool = False,
) -> Stored:
    """FHIR R4 section 3.1.0.4, update: stores `resource` (with `resourceType` and `id`) as its next version; unchanged content makes none.

    `base` is our FHIR base URL, below which absolute references lead to resources here; `index` is what `resource` yields, where it was made before.
    Raises `Conflict` if one of its business identifiers belongs to another resource of the type, unless it `yields` it.
    """
    type_, id_ = str(resource["resourceType"]), str(resource["id"])
    row = _locked(connection, type_, id_, resource)
    now = now or micros()
    if row is None:
        made = _New.of(connection, resource, method, now, index, base)
        # Another writer made it first? On its second look this one finds it.
        added = _add(connection, [made], yields=yields, base=base)[0]
        return added or put(connection, resource, method=method, now=now, index=index, base=base, yields=yields)
    before = unpacked(row.body) if row.body else b""
    if not row.deleted and _is_same(before, *_stamped(resource, row.version, row.updated)):
        return _stored(type_, id_, row)
    was = report_links.stored_keys(connection, row.pk) if type_ == report_links.STUDY else report_links.NO_KEYS
    made = _New.of(connection, resource, method, _later(row.updated, now), index, base, row.version + 1, row.held)
    indexed = index_rows.write(connection, row.pk, made.found, row.indexed)
    _CHANGE.run(connection, {**made.row(), "indexed": indexed, "pk_": row.pk})
    _VERSION.run(connection, made.version_row(row.pk))
    identities.identify(connection, type_, row.pk, made.identities, yields=yields)
    if type_ == report_links.STUDY:
        reindexing.lead_here(connection, id_, made.found, was, is_back=bool(row.deleted), base=base)
    if type_ == "SearchParameter":
        parameters.changed(connection, parse(before) if before else None, resource)
    elif type_ == consent_rules.CONSENT:
        consent_rules.changed(connection, row.pk, resource, made.stored.patient, base=base)
    return made.stored


def create(
    connection: Connection, resource: Mapping[str, Any], *, now: int | None = None, index: Index | None = None, base: str = ""
) -> Stored:
    """FHIR R4 section 3.1.0.8, create: as `put`, of a resource that is not there; with a new id if there is none in it.

    Raises `Conflict` where the id is taken.
    """
    resource = resource if "id" in resource else {**resource, "id": str(uuid.uuid4())}
    (stored,) = _add(connection, [_New.of(connection, resource, "POST", now or micros(), index, base)], base=base)
    if stored is None:
        raise Conflict(f"there is, or was, {a(resource['resourceType'])} with this id")
    return stored


def create_all(
    connection: Connection,
    resources: Sequence[Mapping[str, Any]],
    *,
    now: int | None = None,
    base: str = "",
    yields: bool = False,
) -> list[Stored]:
    """As `create`, of many, in their order, with a few statements for all of them. `yields` as for `put`."""
    now = now or micros()
    named = [each if "id" in each else {**each, "id": str(uuid.uuid4())} for each in resources]
    indexers = parameters.indexers(connection, {str(each["resourceType"]) for each in named})
    indexed = ((each, indexers[each["resourceType"]].index(each, base)) for each in named)
    held = report_links.hold_all(connection, (), named)
    made = [_New.of(connection, each, "POST", now, index, base, held=held) for each, index in indexed]
    stored = _add(connection, made, base=base, yields=yields)
    found = [each for each in stored if each is not None]
    if len(found) != len(stored):
        raise Conflict("there is, or was, a resource with the id of one of these")
    return found


def delete(connection: Connection, type_: str, id_: str, *, now: int | None = None) -> Stored:
    """FHIR R4 section 3.1.0.7, delete: a version without a body. What is deleted stays as it is. Raises `NotFound` if it never was there."""
    row = _locked(connection, type_, id_)
    if row is None:
        raise NotFound(f"there is no {type_} with this id")
    if row.deleted:
        return _stored(type_, id_, row)
    version, updated = row.version + 1, _later(row.updated, now or micros())
    index_rows.remove(connection, row.pk, row.indexed)
    gone = {"version": version, "updated": updated, "deleted": 1, "status": "", "body": b"", "summary": None}
    connection.execute(update(RESOURCE).where(RESOURCE.c.pk == row.pk).values(**gone))
    _VERSION.run(
        connection,
        {
            "resource_pk": row.pk,
            "version": version,
            "updated": updated,
            "type": type_,
            "method": "DELETE",
            "patient": row.patient,
            "body": b"",
        },
    )
    connection.execute(deleting(IDENTITY).where(IDENTITY.c.resource_pk == row.pk))
    if type_ == "SearchParameter":
        parameters.changed(connection, parse(unpacked(row.body)), None)
    elif type_ == consent_rules.CONSENT:
        consent_rules.changed(connection, row.pk, None)
    return Stored(type_, id_, version, updated, row.patient, b"", deleted=True)


# --- reading


def known(connection: Connection, type_: str, id_: str) -> bool:
    """Whether there is, or was, a resource of this id."""
    return connection.execute(select(RESOURCE.c.pk).where(RESOURCE.c.type == type_, RESOURCE.c.id == id_)).first() is not None


def read(connection: Connection, type_: str, id_: str) -> Stored:
    """FHIR R4 section 3.1.0.2: the current version. Raises `NotFound`, and `Gone` for what was deleted."""
    rows = _CURRENT.rows(connection, {"type_": type_, "id_": id_})
    if not rows:
        raise NotFound(f"there is no {type_} with this id")
    stored = _stored(type_, id_, _Row(*rows[0]))
    if stored.deleted:
        raise Gone(f"this {type_} was deleted")
    return stored


def vread(connection: Connection, type_: str, id_: str, version: int) -> Stored:
    """FHIR R4 section 3.1.0.3: one version. Raises `NotFound`, and `Gone` for a version that is a deletion."""
    found = past(connection, type_, id_, version)
    if found is None:
        raise NotFound(f"there is no {type_} with this id and version")
    if found.deleted:
        raise Gone(f"with this version the {type_} was deleted")
    return found


def past(connection: Connection, type_: str, id_: str, version: int) -> Stored | None:
    """One version, a deletion too, with whose it was then and whose the resource is now; None if it never was there."""
    rows = _PAST.rows(connection, {"type_": type_, "id_": id_, "version_": version})
    if not rows:
        return None
    updated, packed, method, patient, owner = rows[0]
    deleted = method == "DELETE"
    body = b"" if deleted else unpacked(bytes(packed))
    return Stored(type_, id_, version, updated, patient, body, deleted, owner=owner if owner != patient else None)


def last(connection: Connection, type_: str, id_: str) -> Stored | None:
    """The current version, deleted or not; None if it never was there."""
    rows = _CURRENT.rows(connection, {"type_": type_, "id_": id_})
    return _stored(type_, id_, _Row(*rows[0])) if rows else None


def locked(connection: Connection, type_: str, id_: str, becoming: Mapping[str, Any] | None = None) -> Stored | None:
    """The current version, deleted or not, which nobody else changes until this transaction ends; None if it never was there.

    `becoming` is what it is to be, where that is known: with it the patient is held whose it will be (`report_links`).
    """
    row = _locked(connection, type_, id_, becoming)
    return None if row is None else _stored(type_, id_, row)


def content(connection: Connection, type_: str, id_: str) -> dict[str, Any]:
    """The current version without what `put` stamps, to be changed and put again. Raises `NotFound`, `Gone`."""
    return unstamped(read(connection, type_, id_).body)


def unstamped(body: bytes) -> dict[str, Any]:
    """A stored body without what `put` stamps."""
    found = parse(body)
    meta = {key: value for key, value in found["meta"].items() if key not in ("versionId", "lastUpdated")}
    if meta:
        found["meta"] = meta
    else:
        del found["meta"]
    return found


def forget_history(connection: Connection, type_: str, id_: str) -> None:
    """Removes every version but the current one: what was deleted must not be read from its past."""
    current = select(RESOURCE.c.pk, RESOURCE.c.version).where(RESOURCE.c.type == type_, RESOURCE.c.id == id_)
    if (found := connection.execute(current).first()) is not None:
        connection.execute(deleting(VERSION).where(VERSION.c.resource_pk == found.pk, VERSION.c.version < found.version))


def patient_of(connection: Connection, type_: str, id_: str) -> str | None:
    """In which Patient's compartment a resource is, or was when it was deleted; empty for nobody's, None if it never was there."""
    here = RESOURCE.c.type == type_, RESOURCE.c.id == id_
    found: str | None = connection.execute(select(RESOURCE.c.patient).where(*here)).scalar_one_or_none()
    return found


# --- rows


@dataclass(frozen=True, slots=True)
class _Row:
    pk: int
    version: int
    updated: int
    deleted: int
    patient: str
    body: bytes
    summary: bytes | None
    indexed: bytes | None
    held: report_links.Patients = report_links.NOBODY


_READ = [RESOURCE.c[name] for name in ("pk", "version", "updated", "deleted", "patient", "body", "summary", "indexed")]


def _current(locks: bool) -> "Select[Any]":
    found = select(*_READ).where(RESOURCE.c.type == bindparam("type_"), RESOURCE.c.id == bindparam("id_"))
    return found.with_for_update() if locks else found


def _past(_: str) -> Select[int, bytes, str, str, str]:
    here = RESOURCE.c.type == bindparam("type_"), RESOURCE.c.id == bindparam("id_")
    return (
        select(VERSION.c.updated, VERSION.c.body, VERSION.c.method, VERSION.c.patient, RESOURCE.c.patient.label("owner"))
        .join(RESOURCE, VERSION.c.resource_pk == RESOURCE.c.pk)
        .where(*here, VERSION.c.version == bindparam("version_"))
    )


_PAST = Prepared(_past, ("type_", "id_", "version_"))
_CURRENT = Prepared(lambda _: _current(locks=False), ("type_", "id_"))
_LOCKED = Prepared(lambda _: _current(locks=True), ("type_", "id_"))


def _locked(connection: Connection, type_: str, id_: str, becoming: Mapping[str, Any] | None = None) -> _Row | None:
    held = report_links.NOBODY
    if type_ in report_links.TYPES and connection.dialect.name != "sqlite":
        patient = patient_of(connection, type_, id_)
        if patient is None:  # who makes it holds whose it will be
            return None
        held = frozenset([patient, report_links.subject(becoming or {})])
        report_links.hold(connection, held)
    rows = _LOCKED.rows(connection, {"type_": type_, "id_": id_})
    if not rows:
        return None
    found = replace(_Row(*rows[0]), held=held) if held else _Row(*rows[0])
    if held and found.patient not in held:  # it became another's just now
        report_links.hold(connection, [found.patient])
    return found


def _stored(type_: str, id_: str, row: _Row) -> Stored:
    body = b"" if row.deleted else unpacked(row.body)
    kept = unpacked(row.summary) if row.summary else None
    return Stored(type_, id_, row.version, row.updated, row.patient, body, bool(row.deleted), kept)


@dataclass(frozen=True, slots=True)
class _New:
    """A version that is to be written."""

    stored: Stored
    method: str
    found: index_rows.Found
    status: str
    identities: Sequence[tuple[str, str]]
    packed: bytes
    content: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        connection: Connection,
        resource: Mapping[str, Any],
        method: str,
        now: int,
        index: Index | None,
        base: str,
        version: int = 1,
        held: report_links.Patients = report_links.NOBODY,
    ) -> "_New":
        type_, id_ = str(resource["resourceType"]), str(resource["id"])
        if index is None:
            index = parameters.indexer(connection, type_, id_).index(resource, base)
        found = report_links.linked(connection, resource, index_rows.found(type_, index), held)
        body, stamped = _stamped(resource, version, now)
        status = resource.get("status")
        stored = Stored(type_, id_, version, now, found.patient, body, summary=summarized(body, stamped))
        return cls(
            stored, method, found, status if isinstance(status, str) else "", tuple(unique_identifiers(resource)), packed(body), resource
        )  # fmt: skip

    def row(self) -> dict[str, Any]:
        """What `resource` says of it, but for its key and its index."""
        stored, kept = self.stored, self.stored.summary
        return {
            "version": stored.version, "updated": stored.updated, "deleted": 0, "patient": stored.patient, "date": self.found.date,
            "date_end": self.found.date_end, "status": self.status, "body": self.packed, "summary": packed(kept) if kept else None,
        }  # fmt: skip

    def version_row(self, pk: int) -> dict[str, Any]:
        stored = self.stored
        return {
            "resource_pk": pk, "version": stored.version, "updated": stored.updated, "type": stored.type, "method": self.method,
            "patient": stored.patient, "body": self.packed,
        }  # fmt: skip


def _later(before: int, now: int) -> int:
    """`now`, but at least the millisecond after the version `before`, for which it waits: no stamp is ahead of the clock (`history.settled`)."""
    updated = max(now, before + _MILLISECOND)
    if 0 < (ahead := updated - micros()) <= _MILLISECOND:
        time.sleep(ahead / 1_000_000)
    return updated


def _stamped(resource: Mapping[str, Any], version: int, updated: int) -> tuple[bytes, dict[str, Any]]:
    meta = {"versionId": str(version), "lastUpdated": instant(updated)}
    meta.update((key, value) for key, value in (resource.get("meta") or {}).items() if key not in meta)
    made = {"resourceType": resource["resourceType"], "id": resource["id"], "meta": meta}
    made.update((key, value) for key, value in resource.items() if key not in ("resourceType", "id", "meta"))
    return serialize(made), made


def _is_same(one: bytes, other: bytes, content: dict[str, Any]) -> bool:
    """Whether two bodies say the same, the second one `content`; properties have no order in JSON, but the same length in any."""
    if len(one) != len(other) or one == other:
        return one == other
    return bool(orjson.loads(one) == orjson.loads(other)) and parse(one) == content


_COLUMNS = (
    "type", "id", "version", "updated", "deleted", "patient", "date", "date_end", "status", "body", "summary", "indexed",
)  # fmt: skip


def _changing(_: str) -> Update:
    changed: dict[str, Any] = {name: bindparam(name) for name in _COLUMNS[2:]}
    return update(RESOURCE).where(RESOURCE.c.pk == bindparam("pk_")).values(changed)


_ADDING = Adding(RESOURCE, ("type", "id"), "pk", unless_there=True)
_CHANGE = Prepared(_changing, (*_COLUMNS[2:], "pk_"))
_VERSION = Prepared(lambda _: VERSION.insert(), ("resource_pk", "version", "updated", "type", "method", "patient", "body"))


def _add(connection: Connection, made: Sequence[_New], *, yields: bool = False, base: str) -> list[Stored | None]:
    """The first version of each; None for those whose id is taken."""
    rows = [{"type": each.stored.type, "id": each.stored.id, **each.row(), "indexed": each.found.digest()} for each in made]
    pks = _ADDING.add(connection, rows)
    added = [(pk, each) for pk, each in zip(pks, made, strict=True) if pk is not None]
    identities.identify_new(connection, [(each.stored.type, pk, each.identities) for pk, each in added], yields=yields)
    _VERSION.run_each(connection, [each.version_row(pk) for pk, each in added])
    index_rows.insert(connection, [(pk, each.found) for pk, each in added])
    for pk, each in added:
        if each.stored.type == "SearchParameter":
            parameters.changed(connection, None, each.content)
        elif each.stored.type == consent_rules.CONSENT:
            consent_rules.changed(connection, pk, each.content, each.stored.patient, base=base)
        if each.stored.type == report_links.STUDY:
            reindexing.lead_here(connection, each.stored.id, each.found, report_links.NO_KEYS, base=base)
    return [each.stored if pk is not None else None for pk, each in zip(pks, made, strict=True)]
