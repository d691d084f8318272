"""OpenID Connect Core 1.0 section 2, and SMART App Launch 2.2 "Scopes for requesting identity data": who signed in, signed with RS256."""

import time
from typing import Final

from joserfc import jwt

from profiles.smart.scopes import words_of
from server.access.keys import ID_TOKENS, Keys
from server.access.oauth.granting import SECOND
from server.access.oauth.issuing import Issue

_SECONDS: Final = 600
"""It says who signed in just now; nobody is to believe it tomorrow."""


def id_token(keys: Keys, issue: Issue, *, issuer: str, fhir_base: str) -> str:
    """The ID token of a token response whose grant is of a person. `issuer` and `fhir_base` are URLs without a slash at the end."""
    person, granted, now = issue.person, issue.granted, int(time.time())
    assert person is not None
    claims: dict[str, object] = {
        "iss": issuer, "sub": person.id, "aud": issue.client.id, "iat": now, "exp": now + _SECONDS,
        "auth_time": (granted.authenticated or granted.created) // SECOND,
    }  # fmt: skip
    if granted.methods:
        claims["amr"] = list(granted.methods)
    if issue.nonce:
        claims["nonce"] = issue.nonce
    words = words_of(issue.scope)
    if "fhirUser" in words and person.fhir_user:
        claims["fhirUser"] = f"{fhir_base}/{person.fhir_user}"
    if "profile" in words and person.name:
        claims["name"] = person.name
    key = keys.signing(ID_TOKENS)
    return jwt.encode({"alg": ID_TOKENS, "typ": "JWT", "kid": key.kid}, claims, key, algorithms=[ID_TOKENS])
