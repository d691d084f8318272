"""FHIR resources as the bytes that are sent: written once with their meta stamped, kept zstd-compressed, never re-modelled.

`put` is the only way in: it stamps `meta.versionId` and `meta.lastUpdated`, keeps every version, and refreshes what
searches walk (`profiles.search_parameters.extract`).
"""

import hashlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson
import zstandard
from sqlalchemy import Connection, and_, delete, select, update

from profiles.search_parameters import Extracted, extract
from server.errors import Conflict, NotFound
from server.store.db import insert, instant, micros
from server.store.tables import Identity, Resource, ResourceVersion, Token

RESOURCE = Resource.__table__  # type: ignore[attr-defined]
VERSION = ResourceVersion.__table__  # type: ignore[attr-defined]
TOKEN = Token.__table__  # type: ignore[attr-defined]
IDENTITY = Identity.__table__  # type: ignore[attr-defined]

_RAW, _ZSTD = b"\x00", b"\x01"
_SMALL = 512


class _Mine(threading.local):
    """A thread's own compressors: to make one takes ten times as long as to compress an event."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=3)
        self.decompressor = zstandard.ZstdDecompressor()


_mine = _Mine()


def packed(body: bytes) -> bytes:
    """`body` as it is stored: one byte that says how, then raw below 512 bytes, else zstd level 3."""
    return _RAW + body if len(body) < _SMALL else _ZSTD + _mine.compressor.compress(body)


def unpacked(stored: bytes) -> bytes:
    """The reverse of `packed`."""
    return stored[1:] if stored[:1] == _RAW else _mine.decompressor.decompress(stored[1:])


def token_hash(type_: str, parameter: str, system: str | None, code: str | None) -> int:
    """64 bits, signed, of one token value. `system` or `code` None: any."""
    text = "\x1f".join((type_, parameter, "*" if system is None else f"={system}", "*" if code is None else f"={code}"))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)


@dataclass(frozen=True, slots=True)
class Stored:
    """One version of a resource. `body` is the exact JSON to send; `patient` the compartment it is in, or empty."""

    type: str
    id: str
    version: int
    updated: int
    patient: str
    body: bytes

    @property
    def etag(self) -> str:
        return f'W/"{self.version}"'


def put(connection: Connection, resource: Mapping[str, object], *, now: int | None = None) -> Stored:
    """Stores `resource` (with `resourceType` and `id`) as its next version; unchanged content makes no new version.

    Raises `Conflict` if one of its business identifiers belongs to another resource of the type.
    """
    type_, id_ = str(resource["resourceType"]), str(resource["id"])
    found = connection.execute(
        select(RESOURCE.c.pk, RESOURCE.c.version, RESOURCE.c.updated, RESOURCE.c.body)
        .where(RESOURCE.c.type == type_, RESOURCE.c.id == id_)
        .with_for_update()
    ).first()
    now = now or micros()
    extracted = extract(resource)
    version = 1
    if found is not None:
        before = unpacked(found.body)
        if before == _stamped(resource, found.version, found.updated):
            return Stored(type_, id_, found.version, found.updated, extracted.patient, before)
        version, now = found.version + 1, max(now, found.updated + 1000)
    body = _stamped(resource, version, now)
    row = {
        "version": version,
        "updated": now,
        "patient": extracted.patient,
        "date": extracted.date,
        "date_end": extracted.date_end,
        "status": extracted.status,
        "body": packed(body),
    }
    if found is None:
        added = connection.execute(
            insert(connection, RESOURCE).values(type=type_, id=id_, **row).on_conflict_do_nothing().returning(RESOURCE.c.pk)
        ).scalar_one_or_none()
        if added is None:  # another writer made it first; on its second look this one finds it
            return put(connection, resource, now=now)
        pk = added
    else:
        pk = found.pk
        connection.execute(update(RESOURCE).where(RESOURCE.c.pk == pk).values(**row))
    connection.execute(VERSION.insert().values(resource_pk=pk, version=version, updated=now, body=row["body"]))
    _index(connection, type_, pk, extracted, fresh=found is None)
    return Stored(type_, id_, version, now, extracted.patient, body)


def known(connection: Connection, type_: str, id_: str) -> bool:
    """Whether there is, or was, a resource of this id."""
    return connection.execute(select(RESOURCE.c.pk).where(RESOURCE.c.type == type_, RESOURCE.c.id == id_)).first() is not None


def read(connection: Connection, type_: str, id_: str) -> Stored:
    """The current version. Raises `NotFound`."""
    row = connection.execute(
        select(RESOURCE.c.version, RESOURCE.c.updated, RESOURCE.c.patient, RESOURCE.c.body).where(
            RESOURCE.c.type == type_, RESOURCE.c.id == id_
        )
    ).first()
    if row is None:
        raise NotFound(f"there is no {type_} with this id")
    return Stored(type_, id_, row.version, row.updated, row.patient, unpacked(row.body))


def vread(connection: Connection, type_: str, id_: str, version: int) -> Stored:
    """One version. `patient` is that of the current version: access is decided by where the resource is now. Raises `NotFound`."""
    row = connection.execute(
        select(VERSION.c.updated, VERSION.c.body, RESOURCE.c.patient)
        .join(RESOURCE, VERSION.c.resource_pk == RESOURCE.c.pk)
        .where(RESOURCE.c.type == type_, RESOURCE.c.id == id_, VERSION.c.version == version)
    ).first()
    if row is None:
        raise NotFound(f"there is no {type_} with this id and version")
    return Stored(type_, id_, version, row.updated, row.patient, unpacked(row.body))


def content(connection: Connection, type_: str, id_: str) -> dict[str, object]:
    """The current version without what `put` stamps, to be changed and put again. Raises `NotFound`."""
    found: dict[str, object] = orjson.loads(read(connection, type_, id_).body)
    meta = found.get("meta")
    if isinstance(meta, dict):
        del meta["versionId"], meta["lastUpdated"]
    return found


def forget_history(connection: Connection, type_: str, id_: str) -> None:
    """Removes every version but the current one: what was deleted must not be read from its past."""
    current = select(RESOURCE.c.pk, RESOURCE.c.version).where(RESOURCE.c.type == type_, RESOURCE.c.id == id_)
    if (found := connection.execute(current).first()) is not None:
        connection.execute(delete(VERSION).where(VERSION.c.resource_pk == found.pk, VERSION.c.version < found.version))


def by_identity(connection: Connection, type_: str, system: str, value: str) -> str | None:
    """The id of the resource that has this business identifier."""
    found = connection.execute(
        select(RESOURCE.c.id)
        .join(IDENTITY, IDENTITY.c.resource_pk == RESOURCE.c.pk)
        .where(IDENTITY.c.type == type_, IDENTITY.c.system == system, IDENTITY.c.value == value)
    ).scalar_one_or_none()
    return str(found) if found is not None else None


def _stamped(resource: Mapping[str, object], version: int, updated: int) -> bytes:
    meta = dict(resource.get("meta") or {})  # type: ignore[call-overload]
    body = {"resourceType": resource["resourceType"], "id": resource["id"]}
    body["meta"] = {"versionId": str(version), "lastUpdated": instant(updated), **meta}
    body.update((key, value) for key, value in resource.items() if key not in ("resourceType", "id", "meta"))
    return orjson.dumps(body)


def _index(connection: Connection, type_: str, pk: int, extracted: Extracted, *, fresh: bool) -> None:
    if not fresh:
        connection.execute(delete(TOKEN).where(TOKEN.c.resource_pk == pk))
        connection.execute(delete(IDENTITY).where(IDENTITY.c.resource_pk == pk))
    hashes = {
        token_hash(type_, parameter, *form)
        for parameter, system, code in extracted.tokens
        for form in ((system, code), (None, code), (system, None))
    }
    if hashes:
        connection.execute(TOKEN.insert(), [{"hash": h, "date": extracted.date, "resource_pk": pk} for h in sorted(hashes)])
    _identify(connection, type_, pk, extracted.identities)


def _identify(connection: Connection, type_: str, pk: int, identities: Sequence[tuple[str, str]]) -> None:
    for system, value in sorted(set(identities)):
        added = connection.execute(
            insert(connection, IDENTITY)
            .values(type=type_, system=system, value=value, resource_pk=pk)
            .on_conflict_do_nothing()
            .returning(IDENTITY.c.resource_pk)  # an INSERT's rowcount is not told by every driver
        )
        if added.first() is None:
            owner = connection.execute(
                select(IDENTITY.c.resource_pk).where(
                    and_(IDENTITY.c.type == type_, IDENTITY.c.system == system, IDENTITY.c.value == value)
                )
            ).scalar_one()
            if owner != pk:
                raise Conflict(f"another {type_} has this business identifier")
