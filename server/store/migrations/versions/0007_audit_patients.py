"""An audited action on several patients is one row, and a small one for each of them.

Revision 0007.
"""

from collections.abc import Iterator
from typing import Any

import orjson
import sqlalchemy as sa
import zstandard
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_ZSTD = b"\x01"
_EVENT = sa.table("audit_event", *map(sa.column, ("pk", "id", "recorded", "patient", "subtype", "outcome", "body")))
_PATIENT = sa.table("audit_patient", *map(sa.column, ("event", "number", "patient", "recorded")))


def upgrade() -> None:
    op.create_table(
        "audit_patient",
        sa.Column("event", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("patient", sa.String(), nullable=False),
        sa.Column("recorded", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["event"], ["audit_event.pk"], name=op.f("fk_audit_patient_event"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("event", "number", name=op.f("pk_audit_patient")),
        sqlite_with_rowid=False,
    )  # fmt: skip
    with op.batch_alter_table("audit_patient", schema=None) as batch_op:
        batch_op.create_index("ix_audit_patient_patient", ["patient", "recorded", "event", "number"], unique=False)


def downgrade() -> None:
    """Every patient's event becomes a row again, as it was read."""
    connection = op.get_bind()
    for pk in connection.execute(sa.select(_PATIENT.c.event).distinct().order_by(_PATIENT.c.event)).scalars().all():
        event = connection.execute(sa.select(_EVENT).where(_EVENT.c.pk == pk)).one()
        rows = list(_apart(event, connection))
        connection.execute(sa.delete(_PATIENT).where(_PATIENT.c.event == pk))
        connection.execute(sa.delete(_EVENT).where(_EVENT.c.pk == pk))
        connection.execute(sa.insert(_EVENT), rows)
    op.drop_table("audit_patient")


def _apart(event: Any, connection: sa.Connection) -> Iterator[dict[str, object]]:
    """An event's rows: a body has NUL where its id goes, and where its patient goes; its first byte says how it is stored."""
    stored = bytes(event.body)
    body = zstandard.ZstdDecompressor().decompress(stored[1:]) if stored[:1] == _ZSTD else stored[1:]
    head, middle, tail = body.split(b"\0")
    members = sa.select(_PATIENT.c.number, _PATIENT.c.patient).where(_PATIENT.c.event == event.pk).order_by(_PATIENT.c.number)
    for number, patient in connection.execute(members):
        id_ = f"{event.id[:-8]}{number:08x}"
        whole = b"".join((head, id_.encode(), middle, orjson.dumps(patient)[1:-1], tail))
        yield {
            "id": id_, "recorded": event.recorded, "patient": patient, "subtype": event.subtype, "outcome": event.outcome,
            "body": _ZSTD + zstandard.ZstdCompressor(level=3).compress(whole),
        }  # fmt: skip
