"""The authorization server.

Revision 0010.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_TABLES = (
    "oauth_client", "access_grant", "authorization_request", "authorization_code", "refresh_token", "launch", "assertion_id",
    "access_epoch",
)  # fmt: skip


def _text(name: str, *, nullable: bool = False) -> "sa.Column[Any]":
    return sa.Column(name, sa.String(), nullable=nullable)


def _json(name: str, *, nullable: bool = False) -> "sa.Column[Any]":
    return sa.Column(name, sa.JSON(), nullable=nullable)


def _number(name: str, *, nullable: bool = False) -> "sa.Column[Any]":
    return sa.Column(name, sa.BigInteger(), nullable=nullable)


def _flag(name: str) -> "sa.Column[Any]":
    return sa.Column(name, sa.Integer(), nullable=False)


def upgrade() -> None:
    _clients()
    _grants()
    _requests()
    _tokens()
    _epoch()


def _clients() -> None:
    op.create_table(
        "oauth_client",
        *map(_text, ("id", "name", "kind", "secret_hash")),
        _json("jwks", nullable=True),
        _text("jwks_uri"),
        _json("redirect_uris"),
        _text("launch_uri"),
        _json("origins"),
        *map(_text, ("scope", "grant_types", "may", "logo_uri", "client_uri")),
        _json("contacts"),
        _text("device"),
        _json("reach", nullable=True),
        _flag("disabled"),
        _number("created"),
        _text("registration_hash", nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_oauth_client")),
    )
    op.create_table(
        "assertion_id",
        *map(_text, ("client", "jti")),
        _number("expires"),
        sa.PrimaryKeyConstraint("client", "jti", name=op.f("pk_assertion_id")),
    )
    op.create_index(op.f("ix_assertion_id_expires"), "assertion_id", ["expires"])


def _grants() -> None:
    op.create_table(
        "access_grant",
        *map(_text, ("id", "client")),
        _text("account", nullable=True),
        _text("scope"),
        _text("patient", nullable=True),
        _text("encounter", nullable=True),
        _json("context"),
        _json("reach", nullable=True),
        _json("studies", nullable=True),
        _json("purposes"),
        *map(_number, ("created", "expires", "used")),
        _number("ended", nullable=True),
        _text("ended_why"),
        _flag("offline"),
        _text("session", nullable=True),
        _number("authenticated", nullable=True),
        _text("methods"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_access_grant")),
    )
    for column in ("account", "client", "session", "expires"):
        op.create_index(f"ix_access_grant_{column}", "access_grant", [column])


def _requests() -> None:
    op.create_table(
        "authorization_request",
        *map(_text, ("id", "client", "redirect_uri", "scope", "state", "challenge", "nonce")),
        _number("since"),
        _text("patient", nullable=True),
        _text("encounter", nullable=True),
        _text("account", nullable=True),
        _json("context"),
        _number("expires"),
        _number("answered", nullable=True),
        _text("opened", nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_authorization_request")),
    )
    op.create_index(op.f("ix_authorization_request_expires"), "authorization_request", ["expires"])
    op.create_table(
        "launch",
        *map(_text, ("hash", "client")),
        _text("account", nullable=True),
        _text("patient", nullable=True),
        _text("encounter", nullable=True),
        _json("context"),
        _number("expires"),
        _number("used", nullable=True),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_launch")),
    )
    op.create_index(op.f("ix_launch_expires"), "launch", ["expires"])


def _tokens() -> None:
    op.create_table(
        "authorization_code",
        *map(_text, ("hash", "grant", "redirect_uri", "challenge", "nonce")),
        _number("expires"),
        _number("used", nullable=True),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_authorization_code")),
    )
    op.create_index(op.f("ix_authorization_code_grant"), "authorization_code", ["grant"])
    op.create_index(op.f("ix_authorization_code_expires"), "authorization_code", ["expires"])
    op.create_table(
        "refresh_token",
        *map(_text, ("hash", "grant")),
        sa.Column("number", sa.Integer(), nullable=False),
        _number("expires"),
        _number("used", nullable=True),
        sa.Column("successor", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_refresh_token")),
        sa.UniqueConstraint("grant", "number", name=op.f("uq_refresh_token_grant_number")),
    )
    op.create_index(op.f("ix_refresh_token_expires"), "refresh_token", ["expires"])


def _epoch() -> None:
    op.create_table(
        "access_epoch",
        sa.Column("one", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("one", name=op.f("pk_access_epoch")),
    )


def downgrade() -> None:
    for name in _TABLES:
        op.drop_table(name)
