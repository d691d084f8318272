"""Messages of the patient identity feed that were done.

Revision 0016.
"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "feed_message",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_feed_message")),
    )
    op.create_index(op.f("ix_feed_message_at"), "feed_message", ["at"])


def downgrade() -> None:
    op.drop_index(op.f("ix_feed_message_at"), table_name="feed_message")
    op.drop_table("feed_message")
