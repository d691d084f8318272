"""Rejection, correction, retention, and the feed of changes.

Revision 0004.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _withdrawal()
    _correction()
    op.create_table(
        "change",
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("event", sa.String(), nullable=False),
        sa.Column("patient", sa.String(), nullable=False),
        sa.Column("study_uid", sa.String(), nullable=False),
        sa.Column("series_uid", sa.String(), nullable=False),
        sa.Column("uid", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_change")),
    )
    with op.batch_alter_table("change", schema=None) as batch_op:
        batch_op.create_index("ix_change_at", ["at", "sequence"], unique=False)
        batch_op.create_index("ix_change_uid", ["uid", "sequence"], unique=False)


def _withdrawal() -> None:
    op.create_table(
        "rejection",
        sa.Column("uid", sa.String(), nullable=False),
        sa.Column("study_uid", sa.String(), nullable=False),
        sa.Column("series_uid", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("who", sa.String(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("purged", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("uid", name=op.f("pk_rejection")),
    )
    with op.batch_alter_table("rejection", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_rejection_study_uid"), ["study_uid"], unique=False)
    op.create_table(
        "erasure",
        sa.Column("blob_id", sa.String(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("blob_id", name=op.f("pk_erasure")),
    )
    op.create_table(
        "legal_hold",
        sa.Column("study_uid", sa.String(), nullable=False),
        sa.Column("why", sa.String(), nullable=False),
        sa.Column("who", sa.String(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("study_uid", name=op.f("pk_legal_hold")),
    )


def _correction() -> None:
    op.create_table(
        "correction",
        sa.Column("study_pk", sa.BigInteger(), nullable=False),
        sa.Column("attributes", sa.LargeBinary(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("who", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["study_pk"], ["study.pk"], name=op.f("fk_correction_study_pk")),
        sa.PrimaryKeyConstraint("study_pk", name=op.f("pk_correction")),
    )
    op.create_table(
        "original",
        sa.Column("instance_pk", sa.BigInteger(), nullable=False),
        sa.Column("blob_id", sa.String(), nullable=False),
        sa.Column("dataset_offset", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["blob_id"], ["blob.id"], name=op.f("fk_original_blob_id")),
        sa.ForeignKeyConstraint(["instance_pk"], ["instance.pk"], name=op.f("fk_original_instance_pk")),
        sa.PrimaryKeyConstraint("instance_pk", name=op.f("pk_original")),
        sa.UniqueConstraint("blob_id", name=op.f("uq_original_blob_id")),
    )
    op.create_table(
        "former_patient",
        sa.Column("study_pk", sa.BigInteger(), nullable=False),
        sa.Column("patient_pk", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["patient_pk"], ["patient.pk"], name=op.f("fk_former_patient_patient_pk")),
        sa.ForeignKeyConstraint(["study_pk"], ["study.pk"], name=op.f("fk_former_patient_study_pk")),
        sa.PrimaryKeyConstraint("study_pk", "patient_pk", name=op.f("pk_former_patient")),
    )
    op.create_table(
        "patient_merge",
        sa.Column("source_pk", sa.BigInteger(), nullable=False),
        sa.Column("target_pk", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["source_pk"], ["patient.pk"], name=op.f("fk_patient_merge_source_pk")),
        sa.ForeignKeyConstraint(["target_pk"], ["patient.pk"], name=op.f("fk_patient_merge_target_pk")),
        sa.PrimaryKeyConstraint("source_pk", name=op.f("pk_patient_merge")),
    )
    with op.batch_alter_table("patient_merge", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_patient_merge_target_pk"), ["target_pk"], unique=False)


def downgrade() -> None:
    for table in (
        "change", "patient_merge", "former_patient", "original", "correction", "legal_hold", "erasure", "rejection",
    ):  # fmt: skip
        op.drop_table(table)
