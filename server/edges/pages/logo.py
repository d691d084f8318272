"""The picture of an app, from our own origin: the Content-Security-Policy of pages lets browsers load no others."""

from urllib.parse import quote

from starlette.responses import Response

from server.access.oauth.clients import Client
from server.edges.pages.browser import Visit
from server.errors import NotFound

PATH = "/logos/{client}"


def address(visit: Visit, client: Client) -> str:
    """The path of its picture, below the server's own; empty where it has none. No page waits for it to be fetched."""
    has_one = client.logo_uri and not visit.node.logos.is_missing(client.logo_uri, of_stranger=client.registered_itself)
    return PATH.format(client=quote(client.id, safe="")) if has_one else ""


def logo(visit: Visit) -> Response:
    """`GET /logos/{client}`: for people who are signed in, so that nobody else has us fetch anything. Raises `NotFound`."""
    client = visit.node.oauth.query_client(visit.request.path_params["client"])
    found = None
    if client is not None and client.logo_uri:
        found = visit.node.logos.picture(client.logo_uri, of_stranger=client.registered_itself)
    if found is None:
        raise NotFound("this app has no picture")
    headers = {
        "Cache-Control": "private, max-age=3600",
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
        "Content-Type": found.media_type,
    }
    return Response(found.content, headers=headers)
