"""Queries of many patients (ITI-51) find objects by their time, and not by walking all that have a code.

Revision 0021.
"""

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_registry_object_time", "registry_object", ["time"])


def downgrade() -> None:
    op.drop_index("ix_registry_object_time", table_name="registry_object")
