"""The client that viewers are which an EHR has launched.

Revision 0022.
"""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

_COLUMNS = (
    "id", "name", "kind", "secret_hash", "jwks_uri", "launch_uri", "scope", "grant_types", "may", "logo_uri", "client_uri", "device",
    "disabled", "created",
)  # fmt: skip
_LISTS = tuple(sa.column(name, sa.JSON) for name in ("redirect_uris", "origins", "contacts"))


def upgrade() -> None:
    clients = sa.table("oauth_client", *map(sa.column, _COLUMNS), *_LISTS)
    values = dict.fromkeys(_COLUMNS, "") | {
        "id": "imageshare-viewer", "name": "Launched out of a record system", "kind": "public", "scope": "patient/*.rs", "disabled": 0, "created": 0,
    }  # fmt: skip
    op.execute(clients.insert().values(**values, redirect_uris=[], origins=[], contacts=[]))


def downgrade() -> None:
    """What an EHR has launched is over."""
    op.execute(sa.text("DELETE FROM access_grant WHERE client = 'imageshare-viewer'"))
    op.execute(sa.text("DELETE FROM oauth_client WHERE id = 'imageshare-viewer'"))
