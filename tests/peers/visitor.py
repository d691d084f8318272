"""A person at our pages, without a browser: follows links and redirects, fills forms, presses buttons. And the site with everybody's password."""

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

from httpx2 import Response
from lxml import html
from peers.people import PASSWORD, quick_hashing
from peers.smart_site import SmartSite, listening, smart_site
from starlette.testclient import TestClient

from server.access.people import passwords

_REDIRECTS: Final = (301, 302, 303, 307, 308)


@dataclass
class Visitor:
    """One browser, with its cookies. `page` is the last answer, `url` where it came from."""

    http: TestClient
    page: Response = field(init=False)

    @property
    def tree(self) -> Any:
        return html.document_fromstring(self.page.content)

    @property
    def text(self) -> str:
        """What the page says, in one line."""
        return " ".join(self.tree.body.text_content().split())

    @property
    def onward(self) -> str:
        """Where the page sends the browser by itself; empty where it does not."""
        found = self.tree.xpath("//meta[@http-equiv='refresh']/@content")
        return str(found[0]).partition("url=")[2] if found else ""

    def get(self, path: str, **query: str) -> Response:
        return self._followed(self.http.get(path, params=query or None))

    def press(self, button: str, *, origin: str | None = "", form: Mapping[str, str | list[str]] = {}, **fields: str | list[str]) -> Response:  # fmt: skip
        """Presses the button with this text, in the form that it is in, with these fields filled in; lists are what is checked."""
        target, values = self.filled(button, **{**form, **fields})
        headers = {} if origin is None else {"Origin": origin or str(self.http.base_url).rstrip("/")}
        return self._followed(self.http.post(target, data=values, headers=headers))

    def filled(self, button: str, **fields: str | list[str]) -> tuple[str, dict[str, str | list[str]]]:
        """Where the form goes, and what it holds."""
        found = [each for each in self.tree.xpath("//button") if " ".join(each.text_content().split()) == button]
        assert found, f"no button {button!r}: {self.text}"
        form = next(found[0].iterancestors("form"))
        values: dict[str, list[str]] = {}
        for control in form.xpath(".//input[@name]"):
            if control.get("type") in ("checkbox", "radio") and control.get("checked") is None:
                continue
            values.setdefault(control.get("name"), []).append(control.get("value") or "")
        if found[0].get("name"):
            values[found[0].get("name")] = [found[0].get("value") or ""]
        target = urljoin(str(self.page.url), found[0].get("formaction") or form.get("action") or "")
        given: dict[str, str | list[str]] = {**values, **fields}
        return target, {name: value for name, value in given.items() if value != []}

    def sign_in(self, email: str, password: str = PASSWORD) -> Response:
        """On the page for it."""
        return self.press("Sign in", email=email, password=password)

    def _followed(self, answer: Response) -> Response:
        base = urlsplit(str(self.http.base_url)).netloc
        for _ in range(10):
            self.page = answer
            target = urljoin(str(answer.url), answer.headers.get("location", ""))
            if answer.status_code not in _REDIRECTS or urlsplit(target).netloc != base:
                return answer
            answer = self.http.get(target)
        raise AssertionError("a ring of redirects")


@dataclass
class Pages:
    """The site, where everybody has the same password."""

    site: SmartSite

    def visitor(self) -> Visitor:
        """A new browser."""
        settings = self.site.node.settings
        return Visitor(
            TestClient(self.site.http.app, base_url=settings.base_url, raise_server_exceptions=False, follow_redirects=False)
        )

    def signed_in(self, who: str, path: str = "/account") -> Visitor:
        """A browser of one of the site's people, at a page."""
        visitor = self.visitor()
        visitor.get(path)
        visitor.sign_in(f"{who}@example.org")
        return visitor

    def letter(self) -> str:
        """The text of the last e-mail; waits for those that are under way."""
        both = threading.Barrier(2)  # of the threads that send: each gets there after what it had to do
        for waiting in [self.site.node.people.sign_in._later.submit(both.wait, 60) for _ in range(2)]:
            waiting.result()
        newest = max((self.site.node.settings.data / "mail").glob("*.eml"))
        text: str = message_from_bytes(newest.read_bytes(), policy=default).get_content()
        return text

    def code(self) -> str:
        """The code in it."""
        found = re.search(r"\b\d{4} \d{4}\b", self.letter())
        assert found
        return found[0]


@contextmanager
def pages(data: Path, *, on_a_socket: bool = False, **settings: object) -> Iterator[Pages]:
    """The site for requests within this process, or for real browsers as well."""
    opened = listening if on_a_socket else smart_site
    given: dict[str, Any] = {"organization": "Riverside Hospital", **settings}
    with opened(data, **given) as site:
        people = site.node.people
        people.passwords.hashing = quick_hashing()
        hashed = people.passwords.hashing.hash(PASSWORD)
        with site.node.database.write() as connection:
            for account in site.people.values():
                passwords.store(connection, account.id, hashed)
        yield Pages(site)
