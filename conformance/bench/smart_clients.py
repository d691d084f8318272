"""A service with a key, an app, and a patient with a browser: what the benchmarks of SMART on FHIR ask one server for tokens with."""

import base64
import hashlib
import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import httpx2
from joserfc.jwk import ECKey

from conformance.bench.peers import Peer
from conformance.smart import jwts
from conformance.smart.pages import Visit
from conformance.smart.target import User
from conformance.smart.wire import Wire

SERVICE: Final = "bench-service"
APP: Final = "bench-app"
BACK: Final = "http://127.0.0.1/back"
_SCOPE: Final = "launch/patient offline_access patient/*.rs"
_SERVICE_SCOPE: Final = "system/*.rs"
_ASSERTION: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_EMAIL: Final = "bench@example.org"
FORM: Final = {"Content-Type": "application/x-www-form-urlencoded"}


@dataclass
class Clients:
    """Registered at `peer` by its commands. `patient` is the resource id of the one who allows the app what it asks for."""

    peer: Peer
    folder: Path
    patient: str
    _key: dict[str, Any] = field(init=False, repr=False)
    _wire: Wire = field(default_factory=Wire, repr=False)
    _user: User = field(init=False)
    _browser: httpx2.Client = field(init=False, repr=False)

    def __post_init__(self) -> None:
        key = ECKey.generate_key("P-384", {"kid": "bench", "alg": "ES384", "use": "sig"}, private=True)
        self._key = dict(key.as_dict(private=True))
        public = self.folder / "bench-keys.json"
        public.write_text(json.dumps({"keys": [key.as_dict(private=False)]}))
        password = secrets.token_urlsafe(16)
        self.peer.command(
            "client", "add", SERVICE, "--service", "--kind", "asymmetric", "--jwks", str(public), "--scope", _SERVICE_SCOPE
        )
        self.peer.command("client", "add", APP, "--redirect", BACK)
        self.peer.command("user", "add", _EMAIL, "--patient", self.patient, said=f"{password}\n" * 2)
        self._user = User({"email": _EMAIL, "password": password}, ("Sign in", "Continue", "Allow"))
        self._browser = self._wire.fresh_client()

    def close(self) -> None:
        """Closes the browser."""
        self._browser.close()

    @property
    def token_url(self) -> str:
        return f"{self.peer.base}/oauth/token"

    def by_key(self) -> bytes:
        """SMART Backend Services, step 4: a token request with a signed assertion, good for once within four minutes."""
        form = {
            "grant_type": "client_credentials", "scope": _SERVICE_SCOPE, "client_assertion_type": _ASSERTION,
            "client_assertion": jwts.assertion(SERVICE, self.token_url, self._key),
        }  # fmt: skip
        return urlencode(form).encode()

    def by_code(self) -> bytes:
        """RFC 6749 section 4.1.3: a token request with a code that the patient has just allowed, good for once within a minute."""
        verifier = secrets.token_urlsafe(32)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
        asked = {
            "response_type": "code", "client_id": APP, "redirect_uri": BACK, "scope": _SCOPE, "state": secrets.token_urlsafe(16),
            "aud": f"{self.peer.base}/fhir", "code_challenge": challenge, "code_challenge_method": "S256",
        }  # fmt: skip
        first = httpx2.Request("GET", f"{self.peer.base}/oauth/authorize", params=asked, headers={"Accept": "text/html"})
        landing = Visit(self._wire, self._browser, self._user, {}).go(first, lambda url: url.startswith(BACK))
        self._wire.drained()
        if "code" not in landing.parameters:
            raise RuntimeError(f"no code: {landing.redirect or landing.last.status_code}")
        form = {
            "grant_type": "authorization_code", "code": landing.parameters["code"], "redirect_uri": BACK, "client_id": APP,
            "code_verifier": verifier,
        }  # fmt: skip
        return urlencode(form).encode()

    @staticmethod
    def by_refresh_token(token: str) -> bytes:
        """RFC 6749 section 6."""
        return urlencode({"grant_type": "refresh_token", "refresh_token": token, "client_id": APP}).encode()

    def token(self, body: bytes) -> dict[str, Any]:
        """The token response to a request. Raises `RuntimeError`."""
        answer = httpx2.post(self.token_url, content=body, headers=FORM, timeout=60, trust_env=False)
        if answer.status_code != 200:
            raise RuntimeError(f"the token endpoint answered {answer.status_code}: {answer.text[:300]}")
        found: dict[str, Any] = answer.json()
        return found
