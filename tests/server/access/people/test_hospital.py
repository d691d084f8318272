"""Sign-in through a hospital: npm's oidc-provider over a real socket, and providers that lie."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import pytest
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey
from peers import imageshare, node_clients
from peers.hospital import came_back
from peers.listener import listening

from server.access.people import accounts, hospital
from server.access.people.hospital import Begun, Hospital
from server.edges.context import Node
from server.errors import NotFound, SettingsError, SignInRefused, Unavailable
from server.outbound.web import Web
from server.records import trail
from server.store.db import Database

PUBLIC: Final = "http://127.0.0.1:9"
BACK: Final = f"{PUBLIC}/sign-in/hospital/general/back"
SECRET: Final = "s cr%t+/="
GENERAL: Final[dict[str, Any]] = {"id": "general", "title": "General Hospital", "client_id": "images"}


@contextmanager
def _node(data: Path, issuer: str, **changed: Any) -> Iterator[tuple[Node, Hospital]]:
    provider = {**GENERAL, "issuer": issuer, "client_secret": SECRET, **changed}
    with imageshare.node(data, public_url=PUBLIC, fetch_allowed_hosts=["127.0.0.1"], hospital_sign_in=[provider]) as node:
        yield node, _hospital(node)


def _hospital(node: Node, fetching: Any = None) -> Hospital:
    return Hospital(node.database, node.settings, node.installation, fetching or Web(node.settings), node.people.events)


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    try:
        with node_clients.running("oidc-provider.mjs", "images", SECRET, BACK) as told:
            yield told["issuer"]
    except node_clients.NoNode as reason:
        pytest.skip(str(reason))


def _person(url: str, name: str = "anna") -> list[tuple[str, str]]:
    """What a browser does for somebody who signs in at the provider and agrees: the parameters that it comes back with."""
    return came_back(url, BACK, name)


@pytest.mark.parametrize("client", ["images", "images-es256"])
def test_somebody_signs_in_through_the_hospital(tmp_path: Path, provider: str, client: str) -> None:
    with _node(tmp_path, provider, client_id=client, assurance=2) as (node, general):
        assert general.providers == (("general", "General Hospital"),)
        begun = general.begin("general")
        identity = general.finish("general", _person(begun.url), begun.state)
        assert (identity.issuer, identity.subject, identity.name, identity.assurance) == (provider, "anna", "Dr. anna", 2)
        assert general.sign_in(identity, "192.0.2.1") is None
        anna = _account(node.database)
        general.link(anna, identity, "192.0.2.1")
        assert general.sign_in(identity, "192.0.2.1") == anna
        again = general.begin("general")
        assert general.sign_in(general.finish("general", _person(again.url), again.state), "192.0.2.1") == anna
        other = general.begin("general")
        assert general.account(general.finish("general", _person(other.url, "bert"), other.state)) is None
        general.unlink(anna, provider, "anna", "192.0.2.1")
        assert general.sign_in(identity, "192.0.2.1") is None
        with node.database.read() as connection:
            told = b"".join(event.body for event in trail.events(connection, limit=100))
        assert b"signed in by hospital" in told
        assert b"Dr. anna" not in told


def test_a_code_is_good_once(tmp_path: Path, provider: str) -> None:
    with _node(tmp_path, provider) as (_, general):
        begun = general.begin("general")
        back = _person(begun.url)
        general.finish("general", back, begun.state)
        with pytest.raises(SignInRefused):
            general.finish("general", back, begun.state)


def test_a_wrong_secret_is_nobodys_sign_in(tmp_path: Path, provider: str) -> None:
    with _node(tmp_path, provider, client_secret="another") as (_, general):
        begun = general.begin("general")
        back = _person(begun.url)
        with pytest.raises(Unavailable):
            general.finish("general", back, begun.state)


# --- a provider of a test, which can lie

ISSUER: Final = "https://hospital.example.org"
RSA: Final = RSAKey.generate_key(2048)
STRANGER: Final = RSAKey.generate_key(2048)


class Lying:
    """Says of itself and in its ID tokens what a test wants; knows how it was asked."""

    def __init__(self) -> None:
        self.metadata: dict[str, Any] = {
            "issuer": ISSUER, "authorization_endpoint": f"{ISSUER}/authorize", "token_endpoint": f"{ISSUER}/token", "jwks_uri": f"{ISSUER}/jwks",
        }  # fmt: skip
        self.claims: dict[str, Any] = {}
        self.header: dict[str, Any] = {}
        self.key: Any = RSA
        self.status = 200
        self.posted: list[Mapping[str, str]] = []
        self.nonce = ""

    def json(self, url: str, *, fresh: bool = False) -> Mapping[str, Any]:
        assert url == f"{ISSUER}/.well-known/openid-configuration"
        return self.metadata

    def jwks(self, url: str, *, fresh: bool = False) -> Mapping[str, Any]:
        assert url == f"{ISSUER}/jwks"
        return {"keys": [{**RSA.as_dict(private=False), "kid": "k1"}]}

    def get(self, url: str, headers: Mapping[str, str]) -> tuple[int, Mapping[str, Any]]:
        raise AssertionError(url)

    def post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str]) -> tuple[int, Mapping[str, Any]]:
        self.posted.append(form)
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "sub": "anna",
            "aud": "images",
            "exp": now + 60,
            "iat": now,
            "auth_time": now,
            "nonce": self.nonce,
            **self.claims,
        }
        kept = {name: value for name, value in claims.items() if value is not None}
        header = {"alg": "RS256", "kid": "k1", **self.header}
        return self.status, {
            "access_token": "a", "token_type": "Bearer", "id_token": jwt.encode(header, kept, self.key, algorithms=[header["alg"]]),
        }  # fmt: skip


@pytest.fixture
def lying(tmp_path: Path) -> Iterator[tuple[Hospital, Lying]]:
    fetching = Lying()
    second = {**GENERAL, "id": "second", "issuer": ISSUER}
    both = [{**GENERAL, "issuer": ISSUER, "client_secret": SECRET}, second]
    with imageshare.node(tmp_path, public_url=PUBLIC, hospital_sign_in=both) as node:
        yield _hospital(node, fetching), fetching


def _begun(general: Hospital, fetching: Lying, session: str = "") -> tuple[Begun, dict[str, str]]:
    """What begins, and the parameters of an answer to it."""
    begun = general.begin("general", session)
    asked = {name: value for name, (value,) in parse_qs(urlsplit(begun.url).query).items()}
    fetching.nonce = asked["nonce"]
    return begun, {"state": asked["state"], "code": "c"}


def test_the_request_has_what_makes_it_safe(lying: tuple[Hospital, Lying]) -> None:
    general, fetching = lying
    begun, back = _begun(general, fetching)
    asked = {name: value for name, (value,) in parse_qs(urlsplit(begun.url).query).items()}
    assert begun.url.startswith(f"{ISSUER}/authorize?")
    assert (asked["response_type"], asked["code_challenge_method"], asked["redirect_uri"]) == ("code", "S256", BACK)
    assert asked["scope"].split() == ["openid", "profile"]
    assert general.finish("general", list(back.items()), begun.state).subject == "anna"
    verifier = fetching.posted[0]["code_verifier"]
    assert create_s256_code_challenge(verifier) == asked["code_challenge"]
    assert verifier not in begun.url
    assert not any(secret in begun.state for secret in (verifier, asked["nonce"], asked["state"]))
    other = general.begin("general")
    assert other.state != begun.state
    assert parse_qs(urlsplit(other.url).query)["state"] != [asked["state"]]


@pytest.mark.parametrize("since", [None, 0, -1, "now", True, 1_000_000, 1e9])
def test_who_is_to_sign_in_again_has_to_do_so_there(lying: tuple[Hospital, Lying], since: Any) -> None:
    """OpenID Connect Core sections 3.1.2.1 and 3.1.3.7: that the hospital knows the browser of old proves nothing of who sits before it."""
    general, fetching = lying
    for session, again in (("", True), ("session-1", False)):
        begun = general.begin("general", session, again=again)
        asked = {name: value for name, (value,) in parse_qs(urlsplit(begun.url).query).items()}
        assert (asked["prompt"], asked["max_age"]) == ("login", "0")
        back = [("state", asked["state"]), ("code", "c")]
        fetching.nonce, fetching.claims = asked["nonce"], {"auth_time": since}
        with pytest.raises(SignInRefused):
            general.finish("general", back, begun.state, session)
        fetching.claims = {}
        assert abs(general.finish("general", back, begun.state, session).authenticated - time.time() * 1e6) < 60e6


@pytest.mark.parametrize("since", [None, 1_000_000])
def test_who_signed_in_there_long_ago_is_not_fresh_here(lying: tuple[Hospital, Lying], since: int | None) -> None:
    general, fetching = lying
    begun, back = _begun(general, fetching)
    asked = parse_qs(urlsplit(begun.url).query)
    assert "prompt" not in asked
    assert asked["max_age"] == ["43200"], "asked so, a provider has to say when it was"
    fetching.claims = {"auth_time": since}
    assert general.finish("general", list(back.items()), begun.state).authenticated == (since or 0) * 1_000_000


WRONG_CLAIMS: Final[list[dict[str, Any]]] = [
    {"iss": "https://hospital.example.org/"},
    {"iss": "https://other.example.org"},
    {"iss": None},
    {"aud": "others"},
    {"aud": ["images", "others"]},
    {"aud": ["others"], "azp": "images"},
    {"aud": None},
    {"azp": "others"},
    {"nonce": "n"},
    {"nonce": None},
    {"exp": 1},
    {"exp": None},
    {"iat": 1 << 40},
    {"iat": None},
    {"sub": None},
    {"sub": ""},
    {"sub": 7},
    {"sub": "a\0b"},
    {"at_hash": "wrong"},
]


@pytest.mark.parametrize("claims", WRONG_CLAIMS, ids=str)
def test_an_id_token_that_is_not_for_us_is_refused(lying: tuple[Hospital, Lying], claims: dict[str, Any]) -> None:
    general, fetching = lying
    begun, back = _begun(general, fetching)
    fetching.claims = claims
    with pytest.raises(SignInRefused):
        general.finish("general", list(back.items()), begun.state)


@pytest.mark.parametrize(
    ("key", "header"),
    [
        (STRANGER, {}),
        (STRANGER, {"jwk": STRANGER.as_dict(private=False)}),
        (RSA, {"kid": "k2"}),
        (RSA, {"alg": "RS512"}),
        (RSA, {"jku": "https://evil.example.org/jwks"}),
        (ECKey.generate_key("P-256"), {"alg": "ES256"}),
    ],
)
def test_an_id_token_that_somebody_else_signed_is_refused(
    lying: tuple[Hospital, Lying], key: Any, header: dict[str, Any]
) -> None:
    general, fetching = lying
    begun, back = _begun(general, fetching)
    fetching.key, fetching.header = key, header
    with pytest.raises(SignInRefused):
        general.finish("general", list(back.items()), begun.state)


CHANGED: Final[dict[str, Callable[[dict[str, str]], list[tuple[str, str]]]]] = {
    "another state": lambda back: [*{**back, "state": "s"}.items()],
    "no state": lambda back: [("code", back["code"])],
    "no code": lambda back: [("state", back["state"])],
    "an error": lambda back: [*back.items(), ("error", "access_denied")],
    "two codes": lambda back: [*back.items(), ("code", "d")],
    "two states": lambda back: [*back.items(), ("state", back["state"])],
    "another issuer": lambda back: [*back.items(), ("iss", "https://other.example.org")],
}


@pytest.mark.parametrize("how", CHANGED)
def test_an_answer_to_something_else_is_refused(lying: tuple[Hospital, Lying], how: str) -> None:
    general, fetching = lying
    begun, back = _begun(general, fetching)
    with pytest.raises(SignInRefused):
        general.finish("general", CHANGED[how](back), begun.state)
    assert not fetching.posted


def test_who_says_that_it_names_itself_has_to(lying: tuple[Hospital, Lying]) -> None:
    """RFC 9207 section 2.4."""
    general, fetching = lying
    fetching.metadata["authorization_response_iss_parameter_supported"] = True
    begun, back = _begun(general, fetching)
    with pytest.raises(SignInRefused):
        general.finish("general", list(back.items()), begun.state)
    general.finish("general", [*back.items(), ("iss", ISSUER)], begun.state)


def test_what_was_begun_elsewhere_ends_nowhere(lying: tuple[Hospital, Lying], monkeypatch: pytest.MonkeyPatch) -> None:
    """Another browser's cookie, none, one of another provider, of another session, or one that is old."""
    general, fetching = lying
    begun, back = _begun(general, fetching, "session-1")
    others = [general.begin("general", "session-1").state, "", "x" * 100_000, begun.state[:-2], "\u00e9"]
    for state in others:
        with pytest.raises(SignInRefused):
            general.finish("general", list(back.items()), state, "session-1")
    for provider, session in (("second", "session-1"), ("general", "session-2"), ("general", "")):
        with pytest.raises(SignInRefused):
            general.finish(provider, list(back.items()), begun.state, session)
    later = time.time() + hospital.SECONDS + 1
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: later)
        with pytest.raises(SignInRefused):
            general.finish("general", list(back.items()), begun.state, "session-1")
    assert general.finish("general", list(back.items()), begun.state, "session-1").subject == "anna"


def test_a_provider_speaks_of_itself_alone(lying: tuple[Hospital, Lying]) -> None:
    general, fetching = lying
    for changed in ({"issuer": "https://other.example.org"}, {"jwks_uri": 7}, {"token_endpoint": None}):
        with pytest.raises(Unavailable):
            fetching.metadata, before = {**fetching.metadata, **changed}, fetching.metadata
            try:
                general.begin("general")
            finally:
                fetching.metadata = before
    with pytest.raises(NotFound):
        general.begin("nobody")


def test_a_provider_cannot_have_us_call_this_machine(tmp_path: Path) -> None:
    """SSRF through what a provider says of itself: its endpoints and keys are fetched as any other URL that others name."""
    with listening() as canary:
        fetching = Lying()
        fetching.metadata |= {
            "token_endpoint": f"http://127.0.0.1:{canary.port}/",
            "jwks_uri": f"https://localhost:{canary.port}/",
        }
        provider = {**GENERAL, "issuer": ISSUER}
        with imageshare.node(tmp_path, public_url=PUBLIC, hospital_sign_in=[provider]) as node:
            web = Web(node.settings)
            fetching.post, fetching.jwks = web.post, web.jwks  # type: ignore[method-assign]
            general = _hospital(node, fetching)
            begun, back = _begun(general, fetching)
            with pytest.raises(Exception, match="fetch"):
                general.finish("general", list(back.items()), begun.state)
        assert canary.connections == 0


# --- links


def _account(database: Database, email: str = "anna@example.org") -> accounts.Account:
    with database.write() as connection:
        return accounts.add(connection, kind="practitioner", email=email, name="Anna")


def test_nobody_is_linked_by_an_e_mail_address(lying: tuple[Hospital, Lying]) -> None:
    general, fetching = lying
    anna = _account(general._database)
    begun, back = _begun(general, fetching)
    fetching.claims = {"email": anna.email, "email_verified": True, "sub": "mallory"}
    assert general.account(general.finish("general", list(back.items()), begun.state)) is None


@pytest.mark.parametrize("changed", [{"id": "../x"}, {"scope": "profile"}, {"title": ""}, {"client_id": ""}, {"assurance": 3}])
def test_settings_of_a_provider_that_cannot_work_are_refused(tmp_path: Path, changed: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="hospital_sign_in"), _node(tmp_path, ISSUER, **changed):
        pass
