"""SMART Health Links (SMART Health Cards and Links 1.0.0): what stands in a link, and in the manifest that it leads to."""

import base64
from collections.abc import Iterable, Sequence
from typing import Any, Final

import orjson

SCHEME: Final = "shlink:/"
LONGEST_URL: Final = 128
"""Characters of a manifest's URL (section "Establish a SMART Health Link Manifest URL")."""
_LONGEST_LABEL: Final = 80
FHIR: Final = "application/fhir+json"
API_ACCESS: Final = "application/smart-api-access"
JOSE: Final = "application/jose"
FHIR_VERSION: Final = "4.0.1"
_CONNECTION_TYPES: Final = "https://smarthealthit.org"
_PAYLOAD_TYPES: Final = "http://terminology.hl7.org/CodeSystem/endpoint-payload-type"


def flags(*, long_term: bool, passcode: bool, direct: bool) -> str:
    """`flag`: single characters in alphabetical order. `U` is never with `P`."""
    return ("L" if long_term else "") + ("P" if passcode else "") + ("U" if direct and not passcode else "")


def link(url: str, key: str, *, expires: int, flag: str, label: str, viewer: str = "") -> str:
    """Section "Construct a SMART Health Link Payload". `key` is 32 bytes as base64url, `expires` seconds since 1970, `viewer` a page of ours."""
    payload = {
        "url": url,
        "key": key,
        "exp": expires,
        **({"flag": flag} if flag else {}),
        "label": label[:_LONGEST_LABEL],
        "v": 1,
    }
    encoded = base64.urlsafe_b64encode(orjson.dumps(payload)).rstrip(b"=").decode()
    return f"{viewer}#{SCHEME}{encoded}" if viewer else f"{SCHEME}{encoded}"


def manifest(files: Iterable[dict[str, Any]], *, can_change: bool) -> dict[str, Any]:
    """Section "SMART Health Link Manifest File"."""
    status = "can-change" if can_change else "finalized"
    return {"status": status, "files": [{**each, "status": status} for each in files]}


def file(content_type: str, *, embedded: str = "", location: str = "") -> dict[str, Any]:
    """One of its files: `embedded` as compact JWE, or at `location`."""
    where = {"embedded": embedded} if embedded else {"location": location}
    return {"contentType": content_type, **where, **({"fhirVersion": FHIR_VERSION} if content_type == FHIR else {})}


def api_access(token: str, *, seconds: int, scope: str, patient: str, base: str, query: Sequence[str]) -> dict[str, Any]:
    """`application/smart-api-access`: a SMART access token response with `aud`, our FHIR base, and hints what to ask for."""
    return {
        "access_token": token, "token_type": "Bearer", "expires_in": seconds, "scope": scope, "patient": patient, "aud": base, "query": list(query),
    }  # fmt: skip


def viewer_endpoint(name: str, address: str, until: str) -> dict[str, Any]:
    """Section "Using SMART Health Links to share an interactive experience": a page to look at what is shared. `until` is a FHIR dateTime."""
    return {
        "resourceType": "Endpoint", "status": "active", "name": name, "address": address, "period": {"end": until},
        "connectionType": {"system": _CONNECTION_TYPES, "code": "shl-interactive-experience"},
        "payloadType": [{"coding": [{"system": _PAYLOAD_TYPES, "code": "none"}]}],
    }  # fmt: skip
