"""Manifests at partners' registries, and documents here whose entries are at another registry.

Revision 0018.
"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_TEXTS = ("partner", "unique_id", "entry_uuid", "replaces", "patient_id", "state", "error")


def upgrade() -> None:
    op.create_table(
        "foreign_entry",
        sa.Column("pk", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("study_pk", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.String(), nullable=False) for name in _TEXTS),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["study_pk"], ["study.pk"], name=op.f("fk_foreign_entry_study_pk")),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_foreign_entry")),
        sa.UniqueConstraint("entry_uuid", name=op.f("uq_foreign_entry_entry_uuid")),
    )
    op.create_index("ix_foreign_entry_study", "foreign_entry", ["study_pk", "partner"])
    op.create_index(op.f("ix_foreign_entry_state"), "foreign_entry", ["state"])
    op.create_table(
        "foreign_document",
        sa.Column("unique_id", sa.String(), nullable=False),
        sa.Column("registered", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["unique_id"], ["repository_document.unique_id"], name=op.f("fk_foreign_document_unique_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("unique_id", name=op.f("pk_foreign_document")),
    )


def downgrade() -> None:
    """What is at partners' registries could be neither withdrawn nor found any more."""
    connection = op.get_bind()
    for name in ("foreign_entry", "foreign_document"):
        if connection.execute(sa.select(sa.literal(1)).select_from(sa.table(name)).limit(1)).first() is not None:
            raise RuntimeError(
                "what is registered at partners has no place in the schema before this: withdraw it there, or restore a backup instead"
            )
    op.drop_table("foreign_document")
    op.drop_index(op.f("ix_foreign_entry_state"), table_name="foreign_entry")
    op.drop_index("ix_foreign_entry_study", table_name="foreign_entry")
    op.drop_table("foreign_entry")
