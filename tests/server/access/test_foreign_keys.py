"""What looks like a token before any key is asked for."""

import base64

import pytest

from server.access.foreign_keys import said_header
from server.errors import Unauthenticated


def _part(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


HEADER = _part('{"alg":"ES384","kid":"k1"}')


def test_the_header_is_read() -> None:
    assert said_header(f"{HEADER}.{_part('{}')}.{_part('x')}") == {"alg": "ES384", "kid": "k1"}


@pytest.mark.parametrize(
    "token",
    ["", "x", HEADER, f"{HEADER}.e30", f"{HEADER}.e30.eA.eA", f"{HEADER}.{'A' * 8192}.eA", f"{_part('[]')}.e30.eA", "é.e30.eA"],
)
def test_what_is_no_token_or_longer_than_one_is_refused(token: str) -> None:
    with pytest.raises(Unauthenticated):
        said_header(token)
