"""Signing keys: made once, told without what is private, rotated with an overlap, and gone at once when they are compromised."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet
from peers.requires import requires
from peers.together import together
from sqlalchemy import select, update
from typer.testing import CliRunner

from server.access.keys import ACCESS_TOKENS, ID_TOKENS, LONGEST_LIFE, Keys, rotate
from server.access.tokens import Tokens
from server.cli import app
from server.errors import Unauthenticated
from server.records.installation import installation
from server.store.db import Database, micros
from server.store.migrations import migrate
from server.store.tables import SigningKey

KEY = SigningKey.__table__  # type: ignore[attr-defined]
PRIVATE = {"d", "p", "q", "dp", "dq", "qi", "k", "oth"}


def _told(keys: Keys, database: Database) -> dict[str, dict[str, Any]]:
    with database.read() as connection:
        return {key["kid"]: key for key in keys.published(connection)["keys"]}


@requires(207, 210)
def test_what_is_told_verifies_and_holds_no_secret(database: Database) -> None:
    """OpenID Connect Core section 10.1.1 and RFC 7517 section 5: bare keys, which say what they are for."""
    keys = Keys(database)
    for algorithm, type_ in ((ACCESS_TOKENS, "EC"), (ID_TOKENS, "RSA")):
        key = keys.signing(algorithm)
        signed = jwt.encode({"alg": algorithm, "kid": key.kid}, {"sub": "x"}, key, algorithms=[algorithm])
        told = _told(Keys(database), database)
        assert not PRIVATE & {name for each in told.values() for name in each}
        assert key.kid is not None
        assert (told[key.kid]["kty"], told[key.kid]["use"], told[key.kid]["alg"]) == (type_, "sig", algorithm)
        read = KeySet.import_key_set({"keys": list(told.values())})
        assert jwt.decode(signed, read, algorithms=[algorithm]).claims["sub"] == "x"
    assert len(_told(keys, database)) == 2


def test_one_key_of_an_algorithm_is_made_however_many_begin_at_once(database: Database) -> None:
    found: list[str | None] = []

    def begin() -> None:
        found.append(Keys(database).signing(ID_TOKENS).kid)

    assert together(*[begin] * 6) == []
    assert len(set(found)) == 1


def test_a_key_made_in_a_transaction_that_fails_is_none(database: Database) -> None:
    keys = Keys(database)
    with pytest.raises(LookupError), database.write() as connection:
        lost = keys.signing(ACCESS_TOKENS, connection).kid
        raise LookupError
    kept = keys.signing(ACCESS_TOKENS).kid
    assert kept != lost
    assert list(_told(keys, database)) == [kept]
    with database.write() as connection:
        assert keys.signing(ACCESS_TOKENS, connection).kid == kept


def test_rotation_overlaps(database: Database) -> None:
    """What was signed before is believed for as long as it may live; every process signs with the new key from its next token on."""
    keys, other = Keys(database), Keys(database)
    old = keys.signing(ACCESS_TOKENS).kid
    assert old is not None
    assert other.signing(ACCESS_TOKENS).kid == old
    new, _ = rotate(database)
    for each in (keys, other):
        assert each.signing(ACCESS_TOKENS).kid == new != old
        assert {old, new} <= _told(each, database).keys()
        assert each.verifying(old, ACCESS_TOKENS).kid == old


def test_a_retired_key_is_forgotten_when_nothing_of_it_can_live(database: Database) -> None:
    keys = Keys(database)
    old = keys.signing(ACCESS_TOKENS).kid
    assert old is not None
    rotate(database)
    with database.write() as connection:
        long_ago = micros() - (LONGEST_LIFE + 1) * 1_000_000
        connection.execute(update(KEY).where(KEY.c.kid == old).values(retired=long_ago))
    fresh = Keys(database)
    assert old not in _told(fresh, database)
    with pytest.raises(KeyError):
        fresh.verifying(old, ACCESS_TOKENS)
    rotate(database)
    with database.read() as connection:
        assert old not in connection.execute(select(KEY.c.kid)).scalars().all()


def test_what_a_compromised_key_signed_is_refused_by_every_process_at_once(database: Database) -> None:
    site = installation(database)
    here, there = Tokens(database, site), Tokens(database, site)
    token = here.issue(client="c", scope="system/*.rs")
    assert [each.decide(token).subject for each in (here, there)] == ["c", "c"]
    rotate(database, compromised=True)
    for each in (here, there):
        with pytest.raises(Unauthenticated):
            each.decide(token)
    assert there.decide(here.issue(client="d", scope="")).subject == "d"


def test_a_verification_under_way_when_a_compromised_key_goes_is_worth_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its result comes after everything of the key was thrown away, and would stay."""
    tokens = Tokens(database, installation(database))
    forged, verify = tokens.issue(client="thief", scope="system/*.cruds"), Tokens._verify
    interrupted: list[str] = []

    def slowly(self: Tokens, token: str) -> Any:
        found = verify(self, token)
        if token == forged and not interrupted:
            interrupted.append(token)
            rotate(database, compromised=True)
            worker = threading.Thread(target=lambda: self.decide(self.issue(client="x", scope="")))
            worker.start()
            worker.join()
        return found

    monkeypatch.setattr(Tokens, "_verify", slowly)
    for _ in range(2):
        with pytest.raises(Unauthenticated):
            tokens.decide(forged)
    assert interrupted


def test_who_asks_for_claims_of_a_view_asks_with_the_keys_of_that_view(database: Database) -> None:
    site = installation(database)
    here, there = Tokens(database, site), Tokens(database, site)
    token = here.issue(client="c", scope="")
    assert there.claims(token)["client_id"] == "c"
    rotate(database, compromised=True)
    with database.read() as connection, pytest.raises(Unauthenticated):
        there.claims(token, connection)


def test_a_key_serves_its_own_algorithm_only(database: Database) -> None:
    keys = Keys(database)
    kid = keys.signing(ID_TOKENS).kid
    assert kid is not None
    with pytest.raises(KeyError):
        keys.verifying(kid, ACCESS_TOKENS)


def test_the_command(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/imageshare.db")
    migrate(database)
    before = Keys(database).signing(ACCESS_TOKENS).kid
    done = CliRunner().invoke(app, ["keys", "rotate", "--data", str(tmp_path)])
    assert done.exit_code == 0, done.output
    told = _told(Keys(database), database)
    assert set(done.output.split()) | {before} == told.keys()
    assert CliRunner().invoke(app, ["keys", "rotate", "--compromised", "--data", str(tmp_path)]).exit_code == 0
    assert not set(told) & _told(Keys(database), database).keys()
    assert "private" not in json.dumps(told)
    database.close()
