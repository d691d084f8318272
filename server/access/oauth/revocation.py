"""RFC 7009: a client gives back a token. With any token of a grant ends the whole of it, so that no half of it is left."""

from typing import Final

from authlib.oauth2.rfc6749 import InvalidRequestError, OAuth2Error
from sqlalchemy import Connection, select

from server.access.oauth import granting
from server.access.oauth.clients import hashed
from server.access.oauth.issuing import TOKEN_METHODS
from server.access.oauth.messages import Answer, Message, answer
from server.access.oauth.refresh import REFRESH
from server.access.oauth.server import OAuthServer
from server.errors import Unauthenticated

WHY: Final = "given back by the app"


def revoke(server: OAuthServer, message: Message) -> Answer:
    """RFC 7009 section 2. What is no token, or another client's, is answered alike: there is nothing to be learnt here."""
    try:
        request, client = server.authenticated(message, TOKEN_METHODS)
        token = request.form.get("token")
        if not token:
            raise InvalidRequestError("token is missing")
    except OAuth2Error as error:
        return server.refusal(error)
    with server.database.write() as connection:
        granted = granting.find(connection, _grant_of(server, connection, token))
        if granted is not None and granted.client == client.id and granting.end(connection, granted.id, WHY):
            server.told.ended(connection, granted, message.address, message.request_id)
    return answer(200, {})


def _grant_of(server: OAuthServer, connection: Connection, token: str) -> str:
    """The id of the grant that an access or refresh token is of; empty where there is none."""
    found: str | None = connection.execute(select(REFRESH.c.grant).where(REFRESH.c.hash == hashed(token))).scalar()
    if found is not None:
        return found
    try:
        return str(server.tokens.claims(token).get("grant", ""))
    except Unauthenticated:
        return ""
