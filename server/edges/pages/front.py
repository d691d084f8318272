"""The pages at `/`: for people what this is and where to begin, and for developers what answers here. Nothing of patients."""

from importlib.metadata import version
from typing import Final

from starlette.responses import Response

from server.edges.pages.browser import LANGUAGE, Visit
from server.errors import NotFound
from server.languages import LANGUAGES

_YEAR: Final = 365 * 86_400
_VERSION: Final = version("imageshare")


def front(visit: Visit) -> Response:
    """`GET /`"""
    return visit.page("front.html")


def developers(visit: Visit) -> Response:
    """`GET /developers`"""
    return visit.page("developers.html", base=visit.settings.base_url, version=_VERSION)


def language(visit: Visit) -> Response:
    """`GET /language/{language}`, with `next`: this browser reads so from now on. Who is signed in chooses for the account (`POST /account/language`)."""
    chosen = visit.request.path_params["language"]
    if chosen not in LANGUAGES:
        raise NotFound("there is no such language here")
    visit.keep(LANGUAGE, chosen, _YEAR)
    return visit.redirect(visit.goes_to if visit.request.query_params.get("next", "/") != "/" else "/")
