"""Fetches from other communities (XDS-I.b consumer) that a server does as jobs.

Revision 0017.
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_TEXTS = ("community", "asked", "requester", "state", "result", "error")


def upgrade() -> None:
    op.create_table(
        "fetch",
        sa.Column("id", sa.String(), nullable=False),
        *(sa.Column(name, sa.String(), nullable=False) for name in _TEXTS),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fetch")),
    )
    op.create_index(op.f("ix_fetch_state"), "fetch", ["state"])
    op.create_index(op.f("ix_fetch_updated"), "fetch", ["updated"])


def downgrade() -> None:
    op.drop_index(op.f("ix_fetch_updated"), table_name="fetch")
    op.drop_index(op.f("ix_fetch_state"), table_name="fetch")
    op.drop_table("fetch")
