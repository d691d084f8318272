"""What this server says of itself to apps: SMART configuration, RFC 8414, OpenID Connect Discovery, keys, style and brand."""

import hashlib
import uuid

import orjson
from starlette.requests import Request
from starlette.responses import Response

from profiles.smart.brands import brand_bundle
from profiles.smart.configuration import STYLE, authorization_server_metadata, openid_configuration, smart_configuration
from profiles.vocabulary import FHIR_JSON
from server.edges.context import Node, node
from server.edges.smart.messages import document
from server.records.installation import since
from server.store.db import instant

_KEYS_SECONDS = 300


def configuration(request: Request) -> Response:
    """SMART App Launch 2.2, `[base]/.well-known/smart-configuration`: JSON whatever is accepted."""
    own = node(request)
    told = smart_configuration(own.settings.base_url, registration=_registers(own), brand=_identifier(own))
    return document(request, told)


def authorization_server(request: Request) -> Response:
    """RFC 8414 section 3."""
    own = node(request)
    return document(request, authorization_server_metadata(own.settings.base_url, registration=_registers(own)))


def openid(request: Request) -> Response:
    """OpenID Connect Discovery 1.0 section 4."""
    own = node(request)
    return document(request, openid_configuration(own.settings.base_url, registration=_registers(own)))


def jwks(request: Request) -> Response:
    """RFC 7517 section 5: the public keys. A new one signs from the moment that it is here, so it is kept for minutes only."""
    keys = node(request).tokens.keys
    keys.prepare()
    with node(request).database.read() as connection:
        found = keys.published(connection)
    return document(request, found, seconds=_KEYS_SECONDS)


def style(request: Request) -> Response:
    """SMART App Launch 2.2, styling: its address changes with its content."""
    return document(request, STYLE, seconds=86_400)


def brands(request: Request) -> Response:
    """SMART App Launch 2.2, "User-access Brands and Endpoints": one brand, with a weak ETag."""
    own = node(request)
    name = uuid.uuid5(uuid.NAMESPACE_URL, own.installation.issuer)
    ids = str(uuid.uuid5(name, "brand")), str(uuid.uuid5(name, "endpoint"))

    def made(changed: str) -> object:
        return brand_bundle(
            base=own.settings.base_url,
            organization=own.settings.organization,
            identifier=_identifier(own),
            ids=ids,
            changed=changed,
        )

    digest = hashlib.sha256(orjson.dumps(made(""))).hexdigest()
    changed = since(own.database, "brand", digest)
    etag = f'W/"{digest[:24]}"'
    held = {each.strip() for each in request.headers.get("if-none-match", "").split(",")}
    response = Response(status_code=304) if {etag, "*"} & held else document(request, made(instant(changed)), FHIR_JSON)
    response.headers["ETag"] = etag
    return response


def _registers(own: Node) -> bool:
    return own.settings.client_registration != "closed"


def _identifier(own: Node) -> tuple[str, str]:
    return "urn:ietf:rfc:3986", own.installation.issuer
