"""Pages out of templates (Jinja2, escaped, translatable), and the headers that every page has."""

from collections.abc import Mapping
from datetime import datetime
from gettext import NullTranslations
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from profiles.person_name import spoken
from server.edges.context import node, request_id
from server.edges.pages import assets
from server.edges.pages.wording import day, moment
from server.errors import TooManyAttempts
from server.settings import Settings

_CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)
_PAGES: Final = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
    lstrip_blocks=True, extensions=["jinja2.ext.i18n"],
)  # fmt: skip
_PAGES.globals["asset"] = assets.address
_PAGES.filters["spoken"] = spoken
_NO_NAME: Final = Settings.model_fields["organization"].default
"""What the site is called until somebody names it: nobody to ask."""
_ENGLISH: Final = NullTranslations()
"""What the templates are written in; a catalogue of another language can take its place."""
_PAGES.install_gettext_translations(_ENGLISH, newstyle=True)  # type: ignore[attr-defined]
translated: Final = _ENGLISH.gettext
"""gettext of a text that no template has. Templates never translate what they are given: to them a message is markup of their own."""


def sentence(detail: str) -> str:
    """The words of an error as a sentence of its own."""
    said = translated(detail)
    return f"{said[:1].upper()}{said[1:]}."


def waiting(error: TooManyAttempts, text: str = "") -> str:
    """When to come back; `text`, if given, is what is said of it, with `{minutes}`."""
    minutes = -(-error.retry_after // 60)
    if text:
        return text.format(minutes=max(minutes, 1))
    if minutes <= 1:
        return translated("There were too many attempts. Wait a minute, then try again.")
    return translated("There were too many attempts. Try again in {minutes} minutes.").format(minutes=minutes)


def root(settings: Settings) -> str:
    """The path that the server is published below, such as `/images`; usually empty."""
    return urlsplit(settings.base_url).path.rstrip("/")


def secured(settings: Settings, request: Request) -> dict[str, str]:
    """The headers of every page and of every redirect to one.

    The referrer goes to pages of ours only. With `no-referrer` browsers would say `Origin: null` with our own forms (Fetch section 3.2).
    """
    headers = {
        "Cache-Control": "no-store",
        "Content-Security-Policy": _CSP,
        "Permissions-Policy": "publickey-credentials-get=(self), publickey-credentials-create=(self)",
        "Referrer-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "X-Request-Id": request_id(request),
    }
    if settings.base_url.startswith("https:"):
        headers["Strict-Transport-Security"] = "max-age=31536000"
    return headers


def shown(request: Request, template: str, values: Mapping[str, Any], status: int = 200) -> HTMLResponse:
    """The page of `template`. It knows `root`, `site`, `keepers` (whom people ask), `help`, `asset`, `day` and `moment` besides `values`."""
    return HTMLResponse(written(request, template, values), status)


def written(request: Request, template: str, values: Mapping[str, Any]) -> str:
    """The same as text."""
    settings = node(request).settings
    zone = settings.zone
    always = {
        "root": root(settings),
        "site": settings.organization,
        "keepers": settings.organization if settings.organization != _NO_NAME else translated("the people who run this service"),
        "help": settings.help_text.strip(),
        "day": day,
        "moment": lambda micros: moment(_at(micros, zone)),
    }
    return _PAGES.get_template(template).render({**always, **values})


def _at(micros: int, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(micros / 1_000_000, zone)
