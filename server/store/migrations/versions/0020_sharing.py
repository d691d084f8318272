"""What patients hold: access codes, shares, files that they bring in, launches out of EHRs; and the clients that our own pages are.

Revision 0020.
"""

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_CLIENTS: Final = (
    ("imageshare-portal", "This website", "patient/*.rs user/*.rs"),
    ("imageshare-share", "Shared by a link", "patient/*.rs"),
)


def _text(*names: str) -> "list[sa.Column[Any]]":
    return [sa.Column(name, sa.String(), nullable=False) for name in names]


def _number(*names: str) -> "list[sa.Column[Any]]":
    return [sa.Column(name, sa.Integer(), nullable=False) for name in names]


def _moment(*names: str) -> "list[sa.Column[Any]]":
    return [sa.Column(name, sa.BigInteger(), nullable=False) for name in names]


def _json(name: str, *, nullable: bool = False) -> "sa.Column[Any]":
    return sa.Column(name, sa.JSON(), nullable=nullable)


def upgrade() -> None:
    _codes()
    _shares()
    _brought_in()
    _launches()
    clients = sa.table("oauth_client", *map(sa.column, _COLUMNS), sa.column("redirect_uris", sa.JSON), *_LISTS)
    for id_, name, scope in _CLIENTS:
        values = dict.fromkeys(_COLUMNS, "") | {
            "id": id_,
            "name": name,
            "kind": "public",
            "scope": scope,
            "disabled": 0,
            "created": 0,
        }
        op.execute(clients.insert().values(**values, redirect_uris=[], origins=[], contacts=[]))


_COLUMNS: Final = (
    "id", "name", "kind", "secret_hash", "jwks_uri", "launch_uri", "scope", "grant_types", "may", "logo_uri", "client_uri", "device",
    "disabled", "created",
)  # fmt: skip
_LISTS: Final = (sa.column("origins", sa.JSON), sa.column("contacts", sa.JSON))


def _codes() -> None:
    op.create_table(
        "access_code",
        *_text("id", "hash", "patient"),
        _json("studies", nullable=True),
        *_text("creator"),
        *_moment("created", "expires"),
        *_text("sent", "letter"),
        *_number("tries"),
        *_moment("claimed"),
        *_text("claimant", "grant", "account"),
        *_number("alerts"),
        *_moment("ended"),
        *_text("ended_why"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_access_code")),
        sa.UniqueConstraint("hash", name=op.f("uq_access_code_hash")),
    )
    op.create_index(op.f("ix_access_code_patient"), "access_code", ["patient"])
    op.create_index(op.f("ix_access_code_expires"), "access_code", ["expires"])


def _shares() -> None:
    op.create_table(
        "share",
        *_text("id", "patient", "account", "secret_hash", "sealed", "link"),
        _json("studies"),
        *_number("reports", "download", "apps"),
        *_text("name", "email", "recipient", "message", "language", "passcode"),
        *_number("tries", "openings_max", "openings"),
        *_moment("created", "expires", "ended"),
        *_text("ended_why"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_share")),
    )
    for name in ("patient", "account", "recipient"):
        op.create_index(f"ix_share_{name}", "share", [name])
    for name in ("link", "expires"):
        op.create_index(op.f(f"ix_share_{name}"), "share", [name])
    op.create_table(
        "share_opening",
        *_text("id", "share", "hash", "grant", "face", "name", "browser"),
        *_moment("opened"),
        *_text("note"),
        *_moment("noted"),
        sa.ForeignKeyConstraint(["share"], ["share.id"], name=op.f("fk_share_opening_share")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_share_opening")),
    )
    op.create_index("ix_share_opening_share", "share_opening", ["share"])
    op.create_index(op.f("ix_share_opening_hash"), "share_opening", ["hash"])


def _brought_in() -> None:
    op.create_table(
        "brought_in",
        *_text("id", "account", "patient", "state"),
        _json("files"),
        _json("found"),
        *_number("done", "total"),
        *_text("problem"),
        *_moment("created", "changed", "expires"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_brought_in")),
    )
    op.create_index("ix_brought_in_account", "brought_in", ["account"])
    op.create_index("ix_brought_in_state", "brought_in", ["state"])
    op.create_index(op.f("ix_brought_in_expires"), "brought_in", ["expires"])


def _launches() -> None:
    op.create_table(
        "ehr_launch",
        *_text("hash", "issuer", "sealed", "grant"),
        *_moment("expires"),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_ehr_launch")),
    )
    op.create_index(op.f("ix_ehr_launch_expires"), "ehr_launch", ["expires"])


def downgrade() -> None:
    """What was shared is shared no more; accounts stay. Links that are out there cannot be given back."""
    for table in ("ehr_launch", "brought_in", "share_opening", "share", "access_code"):
        op.drop_table(table)
    named = ", ".join(f"'{id_}'" for id_, _, _ in _CLIENTS)
    op.execute(sa.text(f"DELETE FROM access_grant WHERE client IN ({named})"))  # noqa: S608 names of this module
    op.execute(sa.text(f"DELETE FROM oauth_client WHERE id IN ({named})"))  # noqa: S608 as above
