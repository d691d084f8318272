"""Unified Procedure Steps and their subscriptions.

Revision 0006.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "workitem",
        sa.Column("pk", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("uid", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("transaction_uid", sa.String(), nullable=False),
        sa.Column("authority", sa.String(), nullable=False),
        sa.Column("patient_id", sa.String(), nullable=False),
        sa.Column("start", sa.String(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.Column("ended", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_workitem")),
        sa.UniqueConstraint("uid", name=op.f("uq_workitem_uid")),
    )
    with op.batch_alter_table("workitem", schema=None) as batch_op:
        batch_op.create_index("ix_workitem_order", ["start", "pk"], unique=False)
        batch_op.create_index("ix_workitem_patient", ["authority", "patient_id"], unique=False)
        batch_op.create_index("ix_workitem_ended", ["ended", "pk"], unique=False)

    op.create_table(
        "workitem_subscriber",
        sa.Column("ae_title", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("delivered", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("ae_title", name=op.f("pk_workitem_subscriber")),
    )
    op.create_table(
        "workitem_subscription",
        sa.Column("ae_title", sa.String(), nullable=False),
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("deletion_lock", sa.Integer(), nullable=False),
        sa.Column("filter", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["ae_title"], ["workitem_subscriber.ae_title"], name=op.f("fk_workitem_subscription_ae_title")),
        sa.PrimaryKeyConstraint("ae_title", "target", name=op.f("pk_workitem_subscription")),
    )
    with op.batch_alter_table("workitem_subscription", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_workitem_subscription_target"), ["target"], unique=False)

    op.create_table(
        "workitem_event",
        sa.Column("ae_title", sa.String(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("uid", sa.String(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["ae_title"], ["workitem_subscriber.ae_title"], name=op.f("fk_workitem_event_ae_title")),
        sa.PrimaryKeyConstraint("ae_title", "sequence", name=op.f("pk_workitem_event")),
    )


def downgrade() -> None:
    for table in ("workitem_event", "workitem_subscription", "workitem_subscriber", "workitem"):
        op.drop_table(table)
