"""Search parameters of IHE MHD: Lists and DocumentReferences that were stored before get their rows from the worker.

Revision 0019.
"""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

_NEW = (("DocumentReference", "creation"), ("List", "designationType sourceId"))


def upgrade() -> None:
    for type_, codes in _NEW:
        op.execute(
            sa.text(
                'INSERT INTO reindexing (type, codes, position, "last", began) '
                "SELECT type, :codes, 0, max(pk), 0 FROM resource WHERE type = :type GROUP BY type "
                'ON CONFLICT (type) DO UPDATE SET codes = reindexing.codes || \' \' || excluded.codes, position = 0, "last" = excluded."last"'
            ).bindparams(type=type_, codes=codes)
        )
        op.execute(
            sa.text(
                "INSERT INTO job (kind, key, due, generation, attempts, leased_until, error) "
                "SELECT 'reindex', type, 0, 1, 0, 0, '' FROM reindexing WHERE type = :type "
                "ON CONFLICT (kind, key) DO UPDATE SET due = 0, generation = job.generation + 1"
            ).bindparams(type=type_)
        )


def downgrade() -> None:
    """What was indexed more is not looked for."""
