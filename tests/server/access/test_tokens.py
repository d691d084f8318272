"""Access tokens: ours, whole and in time, or refused with 401 and nothing of the token in the message."""

import base64
import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws, jwt
from joserfc.jwk import ECKey, OctKey, RSAKey
from joserfc.jws import JWSRegistry
from peers.together import together
from sqlalchemy import event, select

from server.access.decisions import Interaction
from server.access.keys import rotate
from server.access.tokens import Tokens
from server.errors import Unauthenticated
from server.records.installation import installation
from server.store.db import Database
from server.store.migrations import migrate
from server.store.tables import SigningKey

KEY = SigningKey.__table__  # type: ignore[attr-defined]
_LENIENT = JWSRegistry(algorithms=["ES256"], strict_check_header=False)


@pytest.fixture
def tokens(database: Database) -> Tokens:
    return Tokens(database, installation(database))


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _part(token: str, number: int) -> dict[str, object]:
    text = token.split(".")[number]
    return dict(json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))))


def _own_key(database: Database) -> ECKey:
    with database.read() as connection:
        return ECKey.import_key(json.loads(connection.execute(select(KEY.c.private_jwk)).scalar_one()))


def _refused(tokens: Tokens, token: str, reason: str) -> None:
    with pytest.raises(Unauthenticated, match=reason) as caught:
        tokens.decide(token)
    assert caught.value.http_status == 401
    for piece in token.split("."):
        assert len(piece) < 8 or piece not in caught.value.detail


def test_a_token_is_the_decision_that_it_was_issued_for(database: Database, tokens: Tokens) -> None:
    token = tokens.issue(client="viewer", scope="patient/ImagingStudy.rs openid", patient="p")
    decision = Tokens(database, installation(database)).decide(token)
    assert (decision.subject, decision.patient) == ("viewer", "p")
    assert decision.patients("ImagingStudy", Interaction.READ) == frozenset({"p"})
    assert decision.token_id == _part(token, 1)["jti"]
    assert _part(token, 0) == {"alg": "ES256", "typ": "at+jwt", "kid": _own_key(database).kid}


def test_no_token_is_like_another(tokens: Tokens) -> None:
    assert len({tokens.decide(tokens.issue(client="c", scope="")).token_id for _ in range(20)}) == 20


def test_expired(tokens: Tokens) -> None:
    """RFC 7519 section 4.1.4: from the very second on. Issuer and verifier have one clock, so nothing is added."""
    for seconds in (-10, -1, 0):
        _refused(tokens, tokens.issue(client="c", scope="system/*.rs", seconds=seconds), "expired")
    assert tokens.decide(tokens.issue(client="c", scope="system/*.rs", seconds=60)).subject == "c"


def test_one_that_was_good_expires_too(tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    token = tokens.issue(client="c", scope="system/*.rs", seconds=60)
    assert tokens.decide(token).subject == "c"
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 61)
    _refused(tokens, token, "expired")
    with pytest.raises(Unauthenticated):
        tokens.claims(token)


def test_of_another_installation(tmp_path: Path, database: Database, tokens: Tokens) -> None:
    other_database = Database(f"sqlite:///{tmp_path}/other.sqlite3")
    migrate(other_database)
    other = Tokens(other_database, installation(other_database))
    token = other.issue(client="c", scope="system/*.cruds")
    other_database.close()
    tokens.issue(client="c", scope="")
    _refused(tokens, token, "not one of this server's")


def _claims(tokens: Tokens, **changed: object) -> dict[str, object]:
    claims = _part(tokens.issue(client="c", scope="system/*.cruds"), 1) | changed
    return {name: value for name, value in claims.items() if value is not None}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"iss": "urn:oid:1.2.3"}, "another server"),
        ({"aud": "urn:oid:1.2.3"}, "another server"),
        ({"aud": None}, "another server"),
        ({"exp": None}, "expired"),
        ({"exp": "9999999999"}, "expired"),
        ({"iat": 9999999999}, "not valid yet"),
        ({"iat": None}, "not valid yet"),
        ({"exp": 9999999999}, "not one of this server's"),
        ({"iat": 1}, "not one of this server's"),
    ],
)
def test_signed_with_our_key_but_not_an_access_token_of_ours(
    database: Database, tokens: Tokens, changed: dict[str, object], reason: str
) -> None:
    claims = _claims(tokens, **changed)
    key = _own_key(database)
    header = {"alg": "ES256", "typ": "at+jwt", "kid": key.kid}
    _refused(tokens, jwt.encode(header, claims, key, algorithms=["ES256"]), reason)


def test_a_header_that_we_do_not_write(database: Database, tokens: Tokens) -> None:
    claims, key = _claims(tokens), _own_key(database)
    for more in ({"jku": "https://evil.example.org/jwks"}, {"x": 1}):
        header = {"alg": "ES256", "typ": "at+jwt", "kid": key.kid, **more}
        _refused(tokens, jwt.encode(header, claims, key, registry=_LENIENT), "not one of this server's")


def test_one_that_is_longer_than_tokens_are(database: Database, tokens: Tokens) -> None:
    claims, key = _claims(tokens, scope="x" * 8192), _own_key(database)
    header = {"alg": "ES256", "typ": "at+jwt", "kid": key.kid}
    _refused(tokens, jwt.encode(header, claims, key, algorithms=["ES256"]), "not one of this server's")


def test_another_type_of_token(database: Database, tokens: Tokens) -> None:
    """RFC 9068 section 2.1: an ID token or a client assertion signed with the same key is no access token."""
    claims = _claims(tokens)
    key = _own_key(database)
    for typ in ("JWT", "id+jwt"):
        token = jwt.encode({"alg": "ES256", "typ": typ, "kid": key.kid}, claims, key, algorithms=["ES256"])
        _refused(tokens, token, "another server")


def test_forged_with_another_key_of_the_same_name(database: Database, tokens: Tokens) -> None:
    claims = _claims(tokens)
    kid = _own_key(database).kid
    forger = ECKey.generate_key("P-256", private=True)
    _refused(tokens, jwt.encode({"alg": "ES256", "typ": "at+jwt", "kid": kid}, claims, forger, algorithms=["ES256"]), "not one")


def test_forged_with_other_algorithms(database: Database, tokens: Tokens) -> None:
    """RFC 8725 sections 2.1 and 3.1: `none`, our public key as an HMAC secret, and algorithms we never sign with."""
    claims = json.dumps(_claims(tokens)).encode()
    own = _own_key(database)
    header = {"typ": "at+jwt", "kid": own.kid}
    unsigned = f"{_b64(json.dumps({**header, 'alg': 'none'}).encode())}.{_b64(claims)}."
    _refused(tokens, unsigned, "not one")
    for secret in (own.as_pem(private=False), own.as_der(private=False), json.dumps(own.as_dict(private=False)).encode()):
        confused = jws.serialize_compact(
            {**header, "alg": "HS256"}, claims, OctKey.import_key(_b64(secret), {"kid": "x"}), algorithms=["HS256"]
        )
        _refused(tokens, confused, "not one")
    rsa = RSAKey.generate_key(2048)
    _refused(tokens, jws.serialize_compact({**header, "alg": "RS256"}, claims, rsa, algorithms=["RS256"]), "not one")


def test_an_embedded_key_is_not_believed(database: Database, tokens: Tokens) -> None:
    """RFC 8725 section 3.10: neither `jwk` nor `jku` in the header names the key."""
    forger = ECKey.generate_key("P-256", private=True)
    claims = _claims(tokens)
    for kid in ("mine", _own_key(database).kid):
        header = {"alg": "ES256", "typ": "at+jwt", "kid": kid, "jwk": forger.as_dict(private=False)}
        token = jwt.encode(header, claims, forger, algorithms=["ES256"])
        _refused(tokens, token, "not one")


def test_tampered(tokens: Tokens) -> None:
    header, payload, signature = tokens.issue(client="c", scope="patient/*.rs", patient="p").split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    wider = _b64(json.dumps({**claims, "scope": "system/*.cruds"}).encode())
    _refused(tokens, f"{header}.{wider}.{signature}", "not one")
    _refused(tokens, f"{header}.{payload}.{signature[:-4]}AAAA", "not one")
    _refused(tokens, f"{header}.{payload}.", "not one")


@pytest.mark.parametrize(
    "token",
    ["", "x", "...", "a.b.c", "é.é.é", "\ud800.x.y", "\0", "x" * 9000, "a.b.c.d.e", f"{_b64(b'[' * 300)}.e30.AA", "Bearer x"],
)
def test_garbage(tokens: Tokens, token: str) -> None:
    _refused(tokens, token, "not one")


def test_unknown_key_names_are_refused_without_a_query_each(database: Database, tokens: Tokens) -> None:
    tokens.issue(client="c", scope="")
    header = _b64(b'{"alg":"ES256","typ":"at+jwt","kid":"nobody"}')
    looks: list[str] = []

    @event.listens_for(database.engine, "before_cursor_execute")
    def count(_: object, __: object, statement: str, *___: object) -> None:
        if "signing_key" in statement:
            looks.append(statement)

    for _ in range(200):
        _refused(tokens, f"{header}.e30.AA", "not one")
    assert 0 < len(looks) < 100


def test_a_key_made_elsewhere_is_learnt(database: Database) -> None:
    site = installation(database)
    reader, writer = Tokens(database, site), Tokens(database, site)
    assert reader.decide(writer.issue(client="c", scope="")).subject == "c"


def test_one_key_is_made_however_many_begin_at_once(database: Database) -> None:
    site = installation(database)
    made: list[str] = []

    def begin() -> None:
        own = Tokens(database, site)
        made.append(own.issue(client="c", scope="system/*.rs"))

    assert together(*[begin] * 6) == []
    with database.read() as connection:
        assert len(connection.execute(select(KEY.c.kid)).all()) == 1
    judge = Tokens(database, site)
    assert len([judge.decide(token) for token in made]) == 6


def test_a_retired_key_still_verifies_but_signs_no_more(database: Database, tokens: Tokens) -> None:
    old = tokens.issue(client="old", scope="")
    rotate(database)
    new = tokens.issue(client="new", scope="")
    assert _part(new, 0)["kid"] != _part(old, 0)["kid"]
    assert [tokens.decide(token).subject for token in (old, new)] == ["old", "new"]


@given(st.binary(max_size=60), st.integers(0, 2))
def test_any_change_of_any_part_is_refused(tmp_path_factory: pytest.TempPathFactory, noise: bytes, part: int) -> None:
    tokens = _shared(tmp_path_factory)
    pieces = tokens.issue(client="c", scope="system/*.cruds").split(".")
    changed = list(pieces)
    changed[part] = _b64(noise)
    with pytest.raises(Unauthenticated):
        tokens.decide(".".join(changed))


_kept: list[Tokens] = []


def _shared(factory: pytest.TempPathFactory) -> Tokens:
    if not _kept:
        database = Database(f"sqlite:///{factory.mktemp('tokens')}/database")
        migrate(database)
        _kept.append(Tokens(database, installation(database)))
    return _kept[0]
