"""People: accounts, whose images they may see, passwords, passkeys, codes, sessions, throttles.

Revision 0011.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "account",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("email", sa.String(), nullable=False),
        sa.Column("email_folded", sa.String(), nullable=False),
        sa.Column("email_verified", sa.BigInteger(), nullable=False),
        sa.Column("fhir_user", sa.String(), nullable=False),
        sa.Column("assurance", sa.Integer(), nullable=False),
        sa.Column("language", sa.String(), nullable=False),
        sa.Column("disabled", sa.BigInteger(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_account")),
        sa.UniqueConstraint("email_folded", name=op.f("uq_account_email_folded")),
    )
    op.create_table(
        "account_patient",
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("patient", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["account"], ["account.id"], name=op.f("fk_account_patient_account")),
        sa.PrimaryKeyConstraint("account", "patient", name=op.f("pk_account_patient")),
    )
    op.create_index("ix_account_patient_patient", "account_patient", ["patient"], unique=False)
    op.create_table(
        "proxy",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("patient", sa.String(), nullable=False),
        sa.Column("relation", sa.String(), nullable=False),
        sa.Column("begins", sa.BigInteger(), nullable=False),
        sa.Column("ends", sa.BigInteger(), nullable=False),
        sa.Column("until_age", sa.Integer(), nullable=False),
        sa.Column("ended", sa.BigInteger(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["account"], ["account.id"], name=op.f("fk_proxy_account")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_proxy")),
    )
    op.create_index("ix_proxy_account", "proxy", ["account"], unique=False)
    op.create_index("ix_proxy_patient", "proxy", ["patient"], unique=False)
    op.create_table(
        "password",
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("once", sa.Integer(), nullable=False),
        sa.Column("changed", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["account"], ["account.id"], name=op.f("fk_password_account")),
        sa.PrimaryKeyConstraint("account", name=op.f("pk_password")),
    )
    op.create_table(
        "passkey",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("sign_count", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["account"], ["account.id"], name=op.f("fk_passkey_account")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_passkey")),
    )
    op.create_index("ix_passkey_account", "passkey", ["account"], unique=False)
    op.create_table(
        "passkey_challenge",
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("bound", sa.String(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_passkey_challenge")),
    )
    op.create_index("ix_passkey_challenge_expires", "passkey_challenge", ["expires"], unique=False)
    op.create_table(
        "one_time_code",
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("browser", sa.String(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["account"], ["account.id"], name=op.f("fk_one_time_code_account")),
        sa.PrimaryKeyConstraint("account", "purpose", "browser", name=op.f("pk_one_time_code")),
    )
    op.create_index("ix_one_time_code_expires", "one_time_code", ["expires"], unique=False)
    op.create_table(
        "session",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("began", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.Column("idle", sa.BigInteger(), nullable=False),
        sa.Column("authenticated", sa.BigInteger(), nullable=False),
        sa.Column("methods", sa.String(), nullable=False),
        sa.Column("assurance", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["account"], ["account.id"], name=op.f("fk_session_account")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_session")),
        sa.UniqueConstraint("hash", name=op.f("uq_session_hash")),
    )
    op.create_index("ix_session_account", "session", ["account"], unique=False)
    op.create_index("ix_session_expires", "session", ["expires"], unique=False)
    op.create_table(
        "external_identity",
        sa.Column("issuer", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("linked", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["account"], ["account.id"], name=op.f("fk_external_identity_account")),
        sa.PrimaryKeyConstraint("issuer", "subject", name=op.f("pk_external_identity")),
    )
    op.create_index("ix_external_identity_account", "external_identity", ["account"], unique=False)
    op.create_table(
        "throttle",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_throttle")),
    )
    op.create_index("ix_throttle_expires", "throttle", ["expires"], unique=False)


def downgrade() -> None:
    op.drop_table("throttle")
    op.drop_table("external_identity")
    op.drop_table("session")
    op.drop_table("one_time_code")
    op.drop_table("passkey_challenge")
    op.drop_table("passkey")
    op.drop_table("password")
    op.drop_table("proxy")
    op.drop_table("account_patient")
    op.drop_table("account")
