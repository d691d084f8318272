"""What consents permit and deny.

Revision 0012.
"""

import sqlalchemy as sa
from alembic import op

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
    from server.records import consent_rules

    resource = sa.table(
        "resource", sa.column("pk"), sa.column("type"), sa.column("deleted"), sa.column("body"), sa.column("patient")
    )
    consents = sa.select(resource.c.pk, resource.c.body, resource.c.patient).where(
        resource.c.type == "Consent", resource.c.deleted == 0
    )
    for pk, body, patient in connection.execute(consents).all():
        consent_rules.stored(connection, pk, bytes(body), patient)


def downgrade() -> None:
    op.drop_table("consent_term")
    op.drop_table("consent_rule")
