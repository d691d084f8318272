"""The routes of the authorization server. Installed before `/fhir`, whose discovery document is one of them."""

from fastapi import FastAPI
from starlette.routing import Route

from profiles.audit_event import GET_ACCESS_TOKEN, USER_SECURITY_CHANGED
from profiles.smart.configuration import style_path
from server.access.oauth.telling import INTROSPECT_TOKEN
from server.edges.smart import discovery, oauth
from server.edges.smart.cors import Cors
from server.edges.smart.messages import endpoint


def install(app: FastAPI) -> None:
    """Adds the endpoints, and CORS to them and to those of data."""
    json = "application/json"
    app.router.routes.extend(
        [
            Route("/fhir/.well-known/smart-configuration", discovery.configuration),
            Route("/.well-known/oauth-authorization-server", discovery.authorization_server),
            Route("/.well-known/openid-configuration", discovery.openid),
            Route("/oauth/jwks", discovery.jwks),
            Route("/brands", discovery.brands),
            Route(style_path(), discovery.style),
            Route("/oauth/authorize", oauth.authorize, methods=["GET", "POST"]),
            Route("/oauth/token", endpoint(oauth.token, GET_ACCESS_TOKEN), methods=["POST"]),
            Route("/oauth/introspect", endpoint(oauth.introspect, INTROSPECT_TOKEN), methods=["POST"]),
            Route("/oauth/revoke", endpoint(oauth.revoke, USER_SECURITY_CHANGED), methods=["POST"]),
            Route("/oauth/launch", endpoint(oauth.launch, USER_SECURITY_CHANGED), methods=["POST"]),
            Route("/oauth/register", endpoint(oauth.register, USER_SECURITY_CHANGED, body=json), methods=["POST"]),
            Route(
                "/oauth/register/{client}",
                endpoint(oauth.manage, USER_SECURITY_CHANGED, body=json),
                methods=["GET", "PUT", "DELETE"],
            ),
        ]
    )
    app.add_middleware(Cors)
