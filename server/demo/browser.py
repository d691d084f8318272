"""A person's browser, without a screen: follows redirects within one server, fills in forms and presses buttons."""

from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import httpx2
from lxml import html

from server.demo.story import Failed

_MOST: Final = 10
"""Redirects in a row."""


class Browser:
    """One window with its cookies. `away` is the URL that the last page sends the browser to, if that is another site; else empty."""

    def __init__(self, base: str) -> None:
        self.away = ""
        self._base = base
        self._client = httpx2.Client(timeout=60, trust_env=False, headers={"Accept": "text/html"})
        self._page: Any = html.document_fromstring("<p>")
        self._url = base

    def close(self) -> None:
        self._client.close()

    @property
    def heading(self) -> str:
        """What the page is called."""
        return _words(self._page.find(".//h1")) if self._page.find(".//h1") is not None else ""

    @property
    def text(self) -> str:
        """What the page says."""
        return _words(self._page)

    def value(self, id_: str) -> str:
        """What is in the field of this id, or in the first element of this class; empty where there is none."""
        found = self._page.xpath(".//input[@id=$id]/@value", id=id_) or self._page.xpath("string(.//*[@class=$id])", id=id_)
        return str(found[0] if isinstance(found, list) else found).strip()

    def pictures(self) -> list[bytes]:
        """The images of the page, fetched as a browser does."""
        found = [urljoin(self._url, each) for each in self._page.xpath(".//img/@src") if not each.startswith("data:")]
        return [self._client.get(each).content for each in found]

    def choices(self, name: str) -> dict[str, str]:
        """Value and words of the fields of this name that can be ticked."""
        fields = self._page.xpath(".//label/input[@name=$name]", name=name)
        return {field.get("value"): _words(field.getparent()) for field in fields}

    def open(self, url: str) -> None:
        """Goes there, and on to wherever that leads. Raises `Failed` for a page that could not be had."""
        self._shown(self._client.get(url))

    def press(self, button: str, **fields: str) -> None:
        """Presses the first button of these words, with the fields of its form filled in, and ticked as they are."""
        found = next((each for each in self._page.xpath(".//form//button") if _words(each) == button), None)
        if found is None:
            raise Failed(f'the page "{self.heading}" has no button "{button}"')
        form = next(found.iterancestors("form"))
        values = [(name, value) for name, value in form.form_values() if name not in fields] + list(fields.items())
        if found.get("name"):
            values.append((found.get("name"), found.get("value") or ""))
        sent: dict[str, list[str]] = {}
        for name, value in values:
            sent.setdefault(name, []).append(value)
        target = urljoin(self._url, found.get("formaction") or form.get("action") or "")
        self._shown(self._client.post(target, data=sent, headers={"Origin": self._base}))

    def _shown(self, answer: httpx2.Response) -> None:
        for _ in range(_MOST):
            if not answer.is_redirect:
                break
            target = urljoin(str(answer.url), answer.headers["Location"])
            if not self._is_own(target):
                self.away = target
                return
            answer = self._client.get(target)
        self._url, self._page = str(answer.url), html.document_fromstring(answer.content)
        if answer.status_code != 200:
            raise Failed(f'{answer.request.url.path} answered {answer.status_code}: "{self.heading}"')
        onward = self._page.xpath("string(//meta[@http-equiv='refresh']/@content)").partition("url=")[2]
        self.away = "" if self._is_own(onward) else onward

    def _is_own(self, url: str) -> bool:
        return urlsplit(url)[:2] in (urlsplit(self._base)[:2], ("", ""))


def _words(element: Any) -> str:
    return " ".join(element.text_content().split())
