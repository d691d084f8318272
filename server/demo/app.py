"""A SMART app that knows nothing but its client id and a server's FHIR base URL (SMART App Launch 2.2, standalone launch)."""

import base64
import hashlib
import secrets
from typing import Any, Final, cast
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2
from joserfc import jwt
from joserfc.jwk import KeySet, KeySetSerialization

from server.demo.story import Failed, require

CLIENT_ID: Final = "demo-app"
NAME: Final = "Demo App"
BACK: Final = "http://127.0.0.1/back"
"""Where the browser brings the code. Nobody listens there: the demo takes it out of the browser's hand."""
SCOPE: Final = "launch/patient launch/imagingstudy openid fhirUser patient/Patient.r patient/ImagingStudy.rs"


class App:
    """One launch: `discover`, `authorize_url`, `redeem`. Each raises `Failed` for an answer that is not as it should be."""

    def __init__(self, fhir: str) -> None:
        self._fhir = fhir
        self._state, self._verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        self._configuration: dict[str, Any] = {}

    def discover(self) -> dict[str, Any]:
        """SMART App Launch 2.2, conformance: the server's discovery document."""
        found = self._configuration = _json(httpx2.get(f"{self._fhir}/.well-known/smart-configuration", trust_env=False))
        require("S256" in found["code_challenge_methods_supported"], "the server does not take PKCE with S256")
        return found

    @property
    def authorize_url(self) -> str:
        """RFC 6749 section 4.1.1, with the challenge of RFC 7636: where the person's browser is sent."""
        challenge = base64.urlsafe_b64encode(hashlib.sha256(self._verifier.encode()).digest()).decode().rstrip("=")
        asked = {
            "response_type": "code", "client_id": CLIENT_ID, "redirect_uri": BACK, "scope": SCOPE, "state": self._state,
            "aud": self._fhir, "code_challenge": challenge, "code_challenge_method": "S256",
        }  # fmt: skip
        return f"{self._configuration['authorization_endpoint']}?{urlencode(asked)}"

    def redeem(self, url: str) -> dict[str, Any]:
        """RFC 6749 section 4.1.3: the token response, for the code in the URL that the browser came back with."""
        came = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        require("code" in came, f"the app was not given a code: {came.get('error', 'no word why')}")
        require(secrets.compare_digest(came["state"], self._state), "the code answers to another request than the app's")
        require(came["iss"] == self._configuration["issuer"], "the code is from another server than the app asked")
        form = {
            "grant_type": "authorization_code", "code": came["code"], "redirect_uri": BACK, "client_id": CLIENT_ID,
            "code_verifier": self._verifier,
        }  # fmt: skip
        return _json(httpx2.post(self._configuration["token_endpoint"], data=form, trust_env=False))

    def user(self, given: dict[str, Any]) -> dict[str, Any]:
        """OpenID Connect Core section 3.1.3.7: who signed in, by the ID token of a token response."""
        keys = cast(KeySetSerialization, _json(httpx2.get(self._configuration["jwks_uri"], trust_env=False)))
        claims = jwt.decode(given["id_token"], KeySet.import_key_set(keys), algorithms=["RS256"]).claims
        wanted = {"iss": self._configuration["issuer"], "aud": CLIENT_ID}
        require(wanted.items() <= claims.items(), "the ID token is not this server's, or not for this app")
        return dict(claims)


def _json(answer: httpx2.Response) -> dict[str, Any]:
    if answer.status_code != 200:
        raise Failed(f"{answer.request.method} {answer.request.url.path} answered {answer.status_code}")
    found: dict[str, Any] = answer.json()
    return found
