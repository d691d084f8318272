"""Which keys a client registers."""

import pytest
from joserfc.jwk import ECKey

from server.access.oauth.public_keys import require_public
from server.errors import Refused


def _key(kid: str, *, private: bool = False) -> dict[str, object]:
    return dict(ECKey.generate_key("P-384", {"kid": kid}, private=True).as_dict(private=private))


def test_public_keys_are_taken() -> None:
    require_public({"keys": [_key("k1"), _key("k2")]})


def test_a_private_key_is_refused_beside_a_public_one_too() -> None:
    """Whoever shows it has to make another."""
    for keys in ([_key("k1", private=True)], [_key("k1"), _key("k2", private=True)]):
        with pytest.raises(Refused, match="private key"):
            require_public({"keys": keys})
