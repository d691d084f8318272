"""The languages of pages and e-mails: catalogues of texts (GNU gettext), and in which of them somebody is spoken to.

That is the account's language, else the one that the browser keeps for us, else what it asks for (RFC 9110 section 12.5.4), else English. It is in a
context variable, which is each request's own. The catalogues are the `.po` files in `locale`, compiled when they are first asked for: there is no built file that could be older
than its source. `make texts` brings them up to date (docs/portal.md).
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import date
from functools import cache
from gettext import GNUTranslations, NullTranslations
from io import BytesIO
from pathlib import Path
from typing import Final, TypeVar

from babel.core import Locale
from babel.dates import format_date, format_skeleton
from babel.lists import format_list
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

T = TypeVar("T")
SOURCE: Final = "en"
"""What the texts in templates and code are written in."""
LANGUAGES: Final = {"en": "English", "es": "Español"}
"""Tag (BCP 47) and the name that its speakers give it."""
FOLDER: Final = Path(__file__).parent / "locale"
DOMAIN: Final = "pages"
_LOCALES: Final = {"en": "en_GB"}
"""Whose dates and lists a language has, where that is not said by its tag alone: 12 July 1974, in English."""
_SPOKEN: Final = ContextVar("language", default=SOURCE)
_LONGEST: Final = 200
_RANGE: Final = re.compile(r"\s*([A-Za-z]{1,8})(?:-[A-Za-z0-9-]*)?\s*(?:;\s*q=([01](?:\.\d{0,3})?)\s*)?", re.ASCII)
_Y_BEFORE_I: Final = re.compile(r" y (?=h?i(?![aeou]))", re.IGNORECASE)


def marked(texts: T) -> T:
    """A text that is translated where it is shown, not here (gettext's `N_`); of a dictionary all values."""
    return texts


def spoken() -> str:
    """The language of this request."""
    return _SPOKEN.get()


def speak(language: str) -> None:
    """From here on this request is answered in `language`."""
    _SPOKEN.set(language if language in LANGUAGES else SOURCE)


@contextmanager
def speaking(language: str) -> Iterator[None]:
    """Within the block this language is spoken; what was spoken before, where there is no catalogue for it."""
    token = _SPOKEN.set(language if language in LANGUAGES else spoken())
    try:
        yield
    finally:
        _SPOKEN.reset(token)


def chosen(account: str, kept: str, accept: str) -> str:
    """The language for an account's choice, a browser's cookie and an Accept-Language; each may be empty or nonsense."""
    return next((each for each in (account, kept, _accepted(accept)) if each in LANGUAGES), SOURCE)


def translated(text: str) -> str:
    """gettext. Templates never translate what they are given: to them a message is markup of their own."""
    return _catalogue(spoken()).gettext(text) if text else ""


def plural(one: str, many: str, n: int) -> str:
    """ngettext"""
    return _catalogue(spoken()).ngettext(one, many, n)


def day_of(at: date) -> str:
    """`12 July 1974`"""
    said: str = format_date(at, "long", locale())
    return said


def month_of(at: date) -> str:
    """`July 1974`"""
    said: str = format_skeleton("yMMMM", at, locale=locale())
    return said


def listed(parts: list[str]) -> str:
    """`a, b and c`; in Spanish `TC e informe`, since no y stands before an i."""
    said: str = format_list(parts, locale=locale()) if parts else ""
    return _Y_BEFORE_I.sub(" e ", said) if spoken() == "es" else said


def locale() -> Locale:
    return _locale(spoken())


@cache
def _locale(language: str) -> Locale:
    return Locale.parse(_LOCALES.get(language, language))


@cache
def _catalogue(language: str) -> NullTranslations:
    if language == SOURCE:
        return NullTranslations()
    compiled = BytesIO()
    with (FOLDER / language / "LC_MESSAGES" / f"{DOMAIN}.po").open("rb") as source:
        write_mo(compiled, read_po(source, locale=language))
    compiled.seek(0)
    return GNUTranslations(compiled)


def _accepted(header: str) -> str:
    """The language range with the highest quality that there is a catalogue for; of equal ones the first."""
    ranges = [found for each in header[:_LONGEST].split(",") if (found := _RANGE.fullmatch(each))]
    wanted = sorted(ranges, key=lambda found: -float(found[2] or 1))
    return next((found[1].lower() for found in wanted if found[1].lower() in LANGUAGES and float(found[2] or 1) > 0), "")
