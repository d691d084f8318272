"""DICOM peers, worklist, performed procedure steps, storage commitment.

Revision 0005.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "commitment",
        sa.Column("pk", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("peer", sa.String(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("transaction_uid", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("requested", sa.LargeBinary(), nullable=False),
        sa.Column("failed", sa.LargeBinary(), nullable=True),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("ended", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_commitment")),
    )
    with op.batch_alter_table("commitment", schema=None) as batch_op:
        batch_op.create_index("ix_commitment_transaction", ["role", "peer", "transaction_uid"], unique=False)

    op.create_table(
        "peer",
        sa.Column("pk", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("ae_title", sa.String(), nullable=False),
        sa.Column("network", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("tls", sa.String(), nullable=False),
        sa.Column("authority", sa.String(), nullable=False),
        sa.Column("permissions", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("active", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_peer")),
        sa.UniqueConstraint("ae_title", name=op.f("uq_peer_ae_title")),
    )
    op.create_table(
        "performed_step",
        sa.Column("pk", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("uid", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_performed_step")),
        sa.UniqueConstraint("uid", name=op.f("uq_performed_step_uid")),
    )
    op.create_table(
        "performed_step_study",
        sa.Column("performed_step_pk", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("study_uid", sa.String(), nullable=False),
        sa.Column("accession_number", sa.String(), nullable=False),
        sa.Column("step_id", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["performed_step_pk"], ["performed_step.pk"], name=op.f("fk_performed_step_study_performed_step_pk")
        ),
        sa.PrimaryKeyConstraint("performed_step_pk", "number", name=op.f("pk_performed_step_study")),
    )
    with op.batch_alter_table("performed_step_study", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_performed_step_study_study_uid"), ["study_uid"], unique=False)

    op.create_table(
        "scheduled_step",
        sa.Column("pk", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("study_uid", sa.String(), nullable=False),
        sa.Column("step_id", sa.String(), nullable=False),
        sa.Column("accession_number", sa.String(), nullable=False),
        sa.Column("procedure_id", sa.String(), nullable=False),
        sa.Column("stations", sa.String(), nullable=False),
        sa.Column("modality", sa.String(), nullable=False),
        sa.Column("date", sa.String(), nullable=False),
        sa.Column("time", sa.String(), nullable=False),
        sa.Column("patient_id", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_scheduled_step")),
        sa.UniqueConstraint("study_uid", "step_id", name=op.f("uq_scheduled_step_study_uid_step_id")),
    )
    with op.batch_alter_table("scheduled_step", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_scheduled_step_accession_number"), ["accession_number"], unique=False)
        batch_op.create_index("ix_scheduled_step_open", ["date", "time", "pk"], unique=False)
        batch_op.create_index(batch_op.f("ix_scheduled_step_patient_id"), ["patient_id"], unique=False)


def downgrade() -> None:
    for table in ("scheduled_step", "performed_step_study", "performed_step", "peer", "commitment"):
        op.drop_table(table)
