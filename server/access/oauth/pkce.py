"""RFC 7636: S256 alone, for every client (SMART App Launch 2.2, "Considerations for PKCE Support")."""

import hmac
import re
from collections.abc import Callable
from typing import Any, ClassVar, Final

from authlib.oauth2.rfc6749 import InvalidRequestError
from authlib.oauth2.rfc7636 import CodeChallenge, create_s256_code_challenge

_S256: Final = re.compile(r"[A-Za-z0-9_-]{43}")


def _same(verifier: str, challenge: str) -> bool:
    return hmac.compare_digest(create_s256_code_challenge(verifier), challenge)


class S256(CodeChallenge):
    """Authlib's extension takes `plain` where nothing is said, and nothing at all from clients with a secret."""

    SUPPORTED_CODE_CHALLENGE_METHOD = ("S256",)
    CODE_CHALLENGE_METHODS: ClassVar[dict[str, Callable[[str, str], bool]]] = {"S256": _same}

    def validate_code_challenge(self, grant: Any, _: object) -> None:
        """RFC 7636 section 4.4.1."""
        given = grant.request.payload.data
        if not given.get("code_challenge"):
            raise InvalidRequestError("code_challenge is missing: PKCE is needed (RFC 7636)")
        if given.get("code_challenge_method") != "S256":
            raise InvalidRequestError("code_challenge_method has to be S256")
        if not _S256.fullmatch(given["code_challenge"]):
            raise InvalidRequestError("code_challenge is not the base64url form of a SHA-256")

    def get_authorization_code_challenge(self, authorization_code: Any) -> str:
        return str(authorization_code.challenge)

    def get_authorization_code_challenge_method(self, _: object) -> str:
        return "S256"
