"""A person at a browser, without one: follows redirects, fills forms, presses buttons, until an app's redirect_uri is reached."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urljoin

import httpx2
from lxml import html

from conformance.smart.target import User
from conformance.smart.wire import Wire

_MOST_PAGES: Final = 20
_HTML: Final = {"Accept": "text/html"}
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_BUTTONS: Final = ".//button[not(@type) or @type='submit' or @type=''] | .//input[@type='submit']"


@dataclass(frozen=True, slots=True)
class Landing:
    """Where it ended: at `redirect` (the whole URL that the browser was sent to), or at a page that needs an answer nobody knows."""

    redirect: str
    last: httpx2.Response
    pages: tuple[str, ...]
    """The text of the pages that were seen."""

    @property
    def parameters(self) -> httpx2.QueryParams:
        return httpx2.URL(self.redirect).params if self.redirect else httpx2.QueryParams()


@dataclass
class Visit:
    """One visit of a person with their browser."""

    wire: Wire
    browser: httpx2.Client
    user: User
    fill: Mapping[str, str]
    """What `$name` in the user's fields stands for."""
    deny: bool = False
    choose: Callable[[str], bool] | None = None
    """Of checkboxes that are checked: whether one with this value stays so."""

    def go(self, first: httpx2.Request, is_app: Callable[[str], bool]) -> Landing:
        """From the app's request to the app's redirect."""
        pages: list[str] = []
        done: list[tuple[str, tuple[tuple[str, str], ...]]] = []
        answer = self._ask(first.method, str(first.url), headers=_sent(first), content=first.content or None)
        for _ in range(_MOST_PAGES):
            if answer.status_code in _REDIRECTS:
                next_ = urljoin(str(answer.url), answer.headers.get("location", ""))
                if is_app(next_):
                    return Landing(next_, answer, tuple(pages))
                answer = self._ask("GET", next_, headers=_HTML)
                continue
            page = _page(answer)
            if page is None:
                break
            pages.append(" ".join(page.text_content().split()))
            if onward := _onward(page, str(answer.url), is_app):
                return Landing(onward, answer, tuple(pages))
            form, button = self._form(page)
            if form is None:
                break
            filled = str(form.get("action")), tuple(self._values(form))
            if filled in done:
                break
            done.append(filled)
            answer = self._submit(form, button, answer)
        return Landing("", answer, tuple(pages))

    def _ask(self, method: str, url: str, **given: Any) -> httpx2.Response:
        return self.wire.ask(method, url, client=self.browser, **given)

    def _form(self, page: Any) -> tuple[Any, Any]:
        """The form that a button of this visit is in, and the button; the first button named wins."""
        wanted = (*self.user.deny, *self.user.allow) if self.deny else self.user.allow
        for label in wanted:
            for form in page.forms:
                for button in form.xpath(_BUTTONS):
                    if label in _labels(button) and self._able(form):
                        return form, button
        return None, None

    def _able(self, form: Any) -> bool:
        """Whether everything that has to be filled in can be."""
        needed = form.xpath(".//input[@type='password' or @type='email' or (@required and (@type='text' or not(@type)))]")
        return all(each.get("name") in self.user.fields or each.get("value") for each in needed)

    def _submit(self, form: Any, button: Any, page: httpx2.Response) -> httpx2.Response:
        url = urljoin(str(page.url), button.get("formaction") or form.get("action") or str(page.url))
        method = (button.get("formmethod") or form.get("method") or "GET").upper()
        values = self._values(form)
        if button.get("name"):
            values.append((button.get("name"), button.get("value") or ""))
        origin = httpx2.URL(str(page.url))
        headers = {**_HTML, "Origin": f"{origin.scheme}://{origin.netloc.decode()}"}
        if method == "GET":
            return self._ask("GET", url, params=values, headers=headers)
        return self._ask("POST", url, form=values, headers=headers)

    def _values(self, form: Any) -> list[tuple[str, str]]:
        """What the form sends: its own values, with the user's in their place."""
        values: list[tuple[str, str]] = []
        for control in form.xpath(".//input[@name] | .//select[@name] | .//textarea[@name]"):
            name, kind = control.get("name"), (control.get("type") or "text").lower() if control.tag == "input" else control.tag
            if kind in ("submit", "button", "image", "reset", "file") or control.get("disabled") is not None:
                continue
            given = self._given(name)
            if kind in ("radio", "checkbox"):
                if self._ticked(control, kind, given):
                    values.append((name, control.get("value") or "on"))
            elif kind == "select":
                values.extend((name, each) for each in _options(control, given))
            else:
                kept = control.text if kind == "textarea" else control.get("value")
                values.append((name, (kept if given is None or kind == "hidden" else given) or ""))
        return values

    def _given(self, name: str) -> str | None:
        value = self.user.fields.get(name)
        return self.fill.get(value[1:], "") if value and value.startswith("$") else value

    def _ticked(self, control: Any, kind: str, given: str | None) -> bool:
        value = control.get("value") or "on"
        if given:
            return given == value or (kind == "radio" and given in _said(control))
        return control.get("checked") is not None and (kind == "radio" or self.choose is None or self.choose(value))


def _sent(request: httpx2.Request) -> dict[str, str]:
    """Headers of the app's request that are not the client's own business."""
    return {name: value for name, value in request.headers.items() if name in ("content-type", "accept")}


def _page(answer: httpx2.Response) -> Any | None:
    if "html" not in answer.headers.get("content-type", "") or not answer.content.strip():
        return None
    return html.document_fromstring(answer.content)


def _onward(page: Any, url: str, is_app: Callable[[str], bool]) -> str:
    """Where a page without a question sends the browser by itself or by a link, if that is the app."""
    found: Sequence[str] = [
        content.partition("=")[2].strip(" '\"")
        for content in page.xpath("//meta[translate(@http-equiv,'REFSH','refsh')='refresh']/@content")
    ]
    for each in (*found, *page.xpath("//a/@href")):
        absolute = urljoin(url, str(each))
        if is_app(absolute):
            return absolute
    return ""


def _labels(button: Any) -> tuple[str, ...]:
    name, value = button.get("name") or "", button.get("value") or ""
    return (" ".join(button.text_content().split()), value, name, f"{name}={value}")


def _said(control: Any) -> str:
    """The words beside a radio button."""
    label = control.getparent()
    while label is not None and label.tag not in ("label", "form"):
        label = label.getparent()
    return " ".join(label.text_content().split()) if label is not None and label.tag == "label" else ""


def _options(select: Any, given: str | None) -> list[str]:
    options = [(each.get("value") or each.text_content().strip(), each) for each in select.xpath(".//option")]
    if given is not None:
        return [value for value, each in options if given == value or given in each.text_content()][:1]
    marked = [value for value, each in options if each.get("selected") is not None]
    return marked or [value for value, _ in options[:1]]
