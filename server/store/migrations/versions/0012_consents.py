"""What consents permit and deny.

Revision 0012.
"""

import orjson
import sqlalchemy as sa
import zstandard
from alembic import op

from profiles.smart.consent import read
from server.store import consent_rows

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "consent_rule",
        sa.Column("pk", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("consent", sa.BigInteger(), nullable=False),
        sa.Column("patient", sa.String(), nullable=False),
        sa.Column("denies", sa.Integer(), nullable=False),
        sa.Column("names_some", sa.Integer(), nullable=False),
        sa.Column("parent", sa.BigInteger(), nullable=True),
        sa.Column("parts", sa.Integer(), nullable=False),
        sa.Column("begins", sa.BigInteger(), nullable=False),
        sa.Column("ends", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_consent_rule")),
    )
    for column in ("consent", "patient", "parent"):
        op.create_index(f"ix_consent_rule_{column}", "consent_rule", [column], unique=False)
    op.create_table(
        "consent_term",
        sa.Column("rule", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("value", sa.String().with_variant(sa.String(collation="C"), "postgresql"), nullable=False),
        sa.Column("low", sa.BigInteger(), nullable=False),
        sa.Column("high", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("rule", "number", name=op.f("pk_consent_term")),
    )
    op.create_index("ix_consent_term_kind", "consent_term", ["kind"], unique=False)
    _take_in(op.get_bind())


def _take_in(connection: sa.Connection) -> None:
    """The rules of Consents that are here already, as if each were written again."""
    resource = sa.table(
        "resource", sa.column("pk"), sa.column("type"), sa.column("deleted"), sa.column("body"), sa.column("patient")
    )
    consents = sa.select(resource.c.pk, resource.c.body, resource.c.patient).where(
        resource.c.type == "Consent", resource.c.deleted == 0
    )
    for pk, body, patient in connection.execute(consents).all():
        directive = read(orjson.loads(_unpacked(bytes(body))), patient)
        consent_rows.add(connection, pk, _same(connection, patient), directive)


def _same(connection: sa.Connection, id_: str) -> set[str]:
    """The ids of all patients who were merged with this one."""
    patient = sa.table("patient", sa.column("pk"), sa.column("id"))
    merge = sa.table("patient_merge", sa.column("source_pk"), sa.column("target_pk"))
    into = sa.select(sa.func.coalesce(merge.c.target_pk, patient.c.pk)).select_from(
        patient.outerjoin(merge, merge.c.source_pk == patient.c.pk)
    )
    target = connection.execute(into.where(patient.c.id == id_)).scalar()
    former = sa.select(merge.c.source_pk).where(merge.c.target_pk == target)
    theirs = sa.select(patient.c.id).where(sa.or_(patient.c.pk == target, patient.c.pk.in_(former)))
    return {id_, *connection.execute(theirs).scalars()}


def _unpacked(stored: bytes) -> bytes:
    return stored[1:] if stored[:1] == b"\x00" else zstandard.decompress(stored[1:])


def downgrade() -> None:
    op.drop_table("consent_term")
    op.drop_table("consent_rule")
