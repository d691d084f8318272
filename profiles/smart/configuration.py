"""SMART App Launch 2.2 "Conformance", RFC 8414 and OpenID Connect Discovery 1.0: what an authorization server says of itself.

All three documents are made of the same values, so that they never contradict each other.
"""

import hashlib
import json
from typing import Any, Final

Json = dict[str, Any]

SCOPES: Final = (
    "openid", "fhirUser", "profile", "launch", "launch/patient", "launch/encounter", "launch/imagingstudy", "offline_access",
    "online_access", "patient/*.rs", "patient/*.read", "patient/ImagingStudy.rs", "patient/ImagingStudy.read", "user/*.rs",
    "user/*.cruds", "user/*.read", "user/ImagingStudy.rs", "system/*.rs", "system/*.cruds", "system/ImagingStudy.rs",
)  # fmt: skip
"""Those that are worth naming; every FHIR type, interaction and constraint is taken."""

CAPABILITIES: Final = (
    "launch-ehr", "launch-standalone", "authorize-post", "client-public", "client-confidential-symmetric",
    "client-confidential-asymmetric", "sso-openid-connect", "context-banner", "context-style", "context-ehr-patient",
    "context-ehr-encounter", "context-standalone-patient", "permission-offline", "permission-online", "permission-patient",
    "permission-user", "permission-v1", "permission-v2",
)  # fmt: skip

IMAGING: Final = (
    "smart-imaging-access",
    "http://fhir.org/argonaut/smart-imaging/capabilities/app-launch",
    "http://fhir.org/argonaut/smart-imaging/capabilities/backend-services",
)
"""SMART Imaging Access (Argonaut draft): ImagingStudy and WADO-RS are behind this same authorization."""

OAUTH_URIS: Final = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"

_AUTHENTICATION: Final = ["client_secret_basic", "client_secret_post", "private_key_jwt"]
_ASSERTIONS: Final = ["RS384", "ES384"]


def smart_configuration(base: str, *, registration: bool, brand: tuple[str, str] | None = None) -> Json:
    """`[base]/fhir/.well-known/smart-configuration`. `base` is the server's URL without a slash; `brand` system and value of its brand."""
    return {
        "issuer": base,
        "jwks_uri": f"{base}/oauth/jwks",
        "authorization_endpoint": f"{base}/oauth/authorize",
        "token_endpoint": f"{base}/oauth/token",
        "introspection_endpoint": f"{base}/oauth/introspect",
        "revocation_endpoint": f"{base}/oauth/revoke",
        "management_endpoint": f"{base}/account/apps",
        **({"registration_endpoint": f"{base}/oauth/register"} if registration else {}),
        **_common(),
        "capabilities": [*CAPABILITIES, *IMAGING],
        "associated_endpoints": [{"url": f"{base}/fhir", "capabilities": list(IMAGING)}],
        **(
            {
                "user_access_brand_bundle": f"{base}/brands",
                "user_access_brand_identifier": {"system": brand[0], "value": brand[1]},
            }
            if brand
            else {}
        ),
    }


def authorization_server_metadata(base: str, *, registration: bool) -> Json:
    """RFC 8414 section 2."""
    told = smart_configuration(base, registration=registration)
    for name in ("capabilities", "associated_endpoints", "management_endpoint"):
        del told[name]
    return {
        **told,
        "response_modes_supported": ["query"],
        "introspection_endpoint_auth_methods_supported": _AUTHENTICATION,
        "introspection_endpoint_auth_signing_alg_values_supported": _ASSERTIONS,
        "revocation_endpoint_auth_methods_supported": ["none", *_AUTHENTICATION],
        "revocation_endpoint_auth_signing_alg_values_supported": _ASSERTIONS,
        "authorization_response_iss_parameter_supported": True,
    }


def openid_configuration(base: str, *, registration: bool) -> Json:
    """OpenID Connect Discovery 1.0 section 3."""
    return {
        **authorization_server_metadata(base, registration=registration),
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "claims_supported": ["iss", "sub", "aud", "exp", "iat", "auth_time", "amr", "nonce", "fhirUser", "name"],
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,
    }


def oauth_uris(base: str, *, registration: bool) -> Json:
    """The extension of CapabilityStatement.rest.security, deprecated, but all that some clients look at. Its definition has no other names."""
    named = {"authorize": "authorize", "token": "token"}
    if registration:
        named["register"] = "register"
    inner = [{"url": name, "valueUri": f"{base}/oauth/{path}"} for name, path in named.items()]
    return {"url": OAUTH_URIS, "extension": [*inner, {"url": "manage", "valueUri": f"{base}/account/apps"}]}


STYLE: Final[Json] = {
    "color_background": "#ffffff",
    "color_error": "#b3261e",
    "color_highlight": "#0b5cad",
    "color_modal_backdrop": "",
    "color_success": "#1d6f42",
    "color_text": "#1b1f24",
    "dim_border_radius": "6px",
    "dim_font_size": "16px",
    "dim_spacing_size": "20px",
    "font_family_body": "system-ui, sans-serif",
    "font_family_heading": "system-ui, sans-serif",
}
"""SMART App Launch 2.2, styling: what an app may look like, so that it looks like it belongs here."""


def style_path() -> str:
    """Where the style is; another path when its content is another one."""
    return f"/smart/style-{hashlib.sha256(json.dumps(STYLE, sort_keys=True).encode()).hexdigest()[:16]}.json"


def _common() -> Json:
    return {
        "scopes_supported": list(SCOPES),
        "response_types_supported": ["code"],
        "grant_types_supported": ["authorization_code", "refresh_token", "client_credentials"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["none", *_AUTHENTICATION],
        "token_endpoint_auth_signing_alg_values_supported": _ASSERTIONS,
    }
