"""What searches of the catalogue walk, and prepared answers.

Revision 0003.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("patient", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_patient_value"), ["value"], unique=False)
        batch_op.create_index(batch_op.f("ix_patient_birth_date"), ["birth_date"], unique=False)
    with op.batch_alter_table("study", schema=None) as batch_op:
        batch_op.add_column(sa.Column("sop_classes", sa.String(), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("result", sa.LargeBinary(), nullable=True))
        batch_op.drop_index(batch_op.f("ix_study_date"))
        order = ["date", "pk", "version", "time", "series_count", "instance_count"]
        batch_op.create_index("ix_study_order", order, unique=False)
    with op.batch_alter_table("series", schema=None) as batch_op:
        batch_op.add_column(sa.Column("result", sa.LargeBinary(), nullable=True))
    op.create_table(
        "study_term",
        sa.Column("tag", sa.String(), nullable=False),
        sa.Column("term", sa.String().with_variant(sa.String(collation="C"), "postgresql"), nullable=False),
        sa.Column("date", sa.String(), nullable=False),
        sa.Column("study_pk", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["study_pk"], ["study.pk"], name=op.f("fk_study_term_study_pk")),
        sa.PrimaryKeyConstraint("tag", "term", "date", "study_pk", name=op.f("pk_study_term")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("study_term", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_study_term_study_pk"), ["study_pk"], unique=False)
    op.create_table(
        "series_metadata",
        sa.Column("series_pk", sa.BigInteger(), nullable=False),
        sa.Column("base", sa.String(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("crc", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["series_pk"], ["series.pk"], name=op.f("fk_series_metadata_series_pk")),
        sa.PrimaryKeyConstraint("series_pk", name=op.f("pk_series_metadata")),
    )
    # Studies that were published before get their results from the worker.
    op.execute(
        "INSERT INTO job (kind, key, due, generation, attempts, leased_until, error) "
        "SELECT 'index', CAST(pk AS VARCHAR), 0, 1, 0, 0, '' FROM study WHERE version > 0"
    )


def downgrade() -> None:
    op.execute("DELETE FROM job WHERE kind IN ('index', 'metadata')")
    op.drop_table("series_metadata")
    op.drop_table("study_term")
    with op.batch_alter_table("series", schema=None) as batch_op:
        batch_op.drop_column("result")
    with op.batch_alter_table("study", schema=None) as batch_op:
        batch_op.drop_index("ix_study_order")
        batch_op.create_index(batch_op.f("ix_study_date"), ["date"], unique=False)
        batch_op.drop_column("result")
        batch_op.drop_column("sop_classes")
    with op.batch_alter_table("patient", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_patient_birth_date"))
        batch_op.drop_index(batch_op.f("ix_patient_value"))
