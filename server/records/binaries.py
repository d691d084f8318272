"""Which blob has the content of which version of a Binary (FHIR R4 section 2.44)."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, select

from server.records.resources import RESOURCE, Stored
from server.store.blobs import Blob
from server.store.db import micros
from server.store.tables import BinaryContent
from server.store.tables import Blob as BlobRow

BLOB = BlobRow.__table__  # type: ignore[attr-defined]
CONTENT = BinaryContent.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Kept:
    """A blob and its size in bytes."""

    blob_id: str
    size: int


def keep(connection: Connection, stored: Stored, blob: Blob) -> None:
    """Makes `blob` the content of the version `stored`, in the transaction that made that version."""
    connection.execute(BLOB.insert().values(id=blob.id, size=blob.size, sha256=blob.sha256, created=micros()))
    pk = select(RESOURCE.c.pk).where(RESOURCE.c.type == "Binary", RESOURCE.c.id == stored.id).scalar_subquery()
    connection.execute(CONTENT.insert().values(resource_pk=pk, version=stored.version, blob_id=blob.id))


def of(connection: Connection, id_: str, version: int) -> Kept | None:
    """The content of a version; None where it is in the version's own body."""
    row = connection.execute(
        select(BLOB.c.id, BLOB.c.size)
        .join(CONTENT, CONTENT.c.blob_id == BLOB.c.id)
        .join(RESOURCE, RESOURCE.c.pk == CONTENT.c.resource_pk)
        .where(RESOURCE.c.type == "Binary", RESOURCE.c.id == id_, CONTENT.c.version == version)
    ).first()
    return Kept(row.id, row.size) if row is not None else None


def holding(connection: Connection, blob_ids: Collection[str]) -> set[str]:
    """Those of these blobs that are the content of a Binary, and stay with it."""
    return set(connection.execute(select(CONTENT.c.blob_id).where(CONTENT.c.blob_id.in_(blob_ids))).scalars())


def size(connection: Connection, blob_id: str) -> int:
    """The size of a blob in bytes."""
    return int(connection.execute(select(BLOB.c.size).where(BLOB.c.id == blob_id)).scalar_one())
