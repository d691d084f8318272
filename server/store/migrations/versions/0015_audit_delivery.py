"""How far the trail has been sent to an audit repository.

Revision 0015.
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit_delivery",
        sa.Column("repository", sa.String(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.Column("leased_until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("repository", name=op.f("pk_audit_delivery")),
    )


def downgrade() -> None:
    op.drop_table("audit_delivery")
