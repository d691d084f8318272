"""Pages out of templates (Jinja2, escaped, translatable), and the headers that every page has."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from profiles.person_name import spoken
from server import languages
from server.edges.context import node, request_id
from server.edges.pages import assets
from server.edges.pages.wording import day, moment
from server.errors import TooManyAttempts
from server.languages import marked, plural, translated
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


@dataclass(frozen=True, slots=True)
class Entry:
    """A page that the header leads to. `kinds` are those of the accounts that see it, all if empty."""

    path: str
    text: str
    kinds: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        return translated(self.text)


_STAFF: Final = frozenset({"staff", "administrator"})
_CLINICAL: Final = _STAFF | {"practitioner"}
NAV: Final = (
    Entry("/staff", marked("Worklist"), _STAFF),
    Entry("/images", marked("Images")),
    Entry("/share", marked("Sharing")),
    Entry("/shared", marked("Shared with me"), _CLINICAL),
    Entry("/bring-in", marked("Bring in")),
    Entry("/account/activity", marked("Who looked")),
    Entry("/account/apps", marked("Connected apps")),
    Entry("/account", marked("Account")),
)
"""The header's entries, in their order."""
_NO_NAME: Final = Settings.model_fields["organization"].default
"""What the site is called until somebody names it: nobody to ask."""
_PAGES.install_gettext_callables(translated, plural, newstyle=True)  # type: ignore[attr-defined]
__all__ = ["root", "secured", "sentence", "shown", "translated", "waiting"]


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
    return HTMLResponse(written(request, template, values), status, {"Content-Language": languages.spoken()})


def written(request: Request, template: str, values: Mapping[str, Any]) -> str:
    """The same as text."""
    settings = node(request).settings
    zone = settings.zone
    always = {
        "root": root(settings),
        "language": languages.spoken(),
        "nav": _nav,
        "languages": languages.LANGUAGES,
        "site": settings.organization,
        "keepers": settings.organization if settings.organization != _NO_NAME else translated("the people who run this service"),
        "help": settings.help_text.strip(),
        "day": day,
        "moment": lambda micros: moment(_at(micros, zone)),
    }
    return _PAGES.get_template(template).render({**always, **values})


def _nav(kind: str) -> list[Entry]:
    """The entries for an account of this kind."""
    return [each for each in NAV if not each.kinds or kind in each.kinds]


def _at(micros: int, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(micros / 1_000_000, zone)
