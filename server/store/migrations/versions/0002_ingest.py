"""Hashes are made after the acknowledgement.

Revision 0002.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("blob", schema=None) as batch_op:
        batch_op.alter_column("sha256", existing_type=sa.LargeBinary(), nullable=True)


def downgrade() -> None:
    # An older version would take a missing hash for damage; `imageshare verify` makes what is missing, before this.
    with op.batch_alter_table("blob", schema=None) as batch_op:
        batch_op.alter_column("sha256", existing_type=sa.LargeBinary(), nullable=False)
