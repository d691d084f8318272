"""A real browser: Debian's Chromium, driven by Playwright, which notes what goes wrong in it; axe-core looks for barriers on its pages."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from peers import node_clients
from playwright.sync_api import Browser, BrowserContext, Frame, Page, sync_playwright

CHROMIUM: Final = Path("/usr/bin/chromium")
DESKTOP: Final = {"width": 1280, "height": 800}
PHONE: Final = {"width": 390, "height": 844}
ZOOMED: Final = {"width": 320, "height": 256}
"""A window of 1280 x 1024 at 400 % (WCAG 2.2 success criterion 1.4.10)."""
_RULES: Final = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


class NoBrowser(Exception):
    """It cannot be had here; the message says why."""


@dataclass
class Window:
    """A page of a browser of its own. `wrongs` is what the console had of errors and of refusals by the Content-Security-Policy."""

    page: Page
    context: BrowserContext
    wrongs: list[str] = field(default_factory=list)

    def barriers(self, frame: Frame | None = None) -> list[str]:
        """What axe-core finds on the page, or in a frame of it, as it is now (WCAG 2.2 AA and good practice); empty where that is nothing."""
        looked = frame or self.page
        looked.evaluate("() => Promise.all(document.getAnimations().map(each => each.finished))")
        looked.evaluate(node_clients.file("axe-core/axe.min.js"))
        found: dict[str, Any] = looked.evaluate(
            "rules => axe.run(document, {runOnly: {type: 'tag', values: rules}, resultTypes: ['violations']})", _RULES
        )
        return [f"{each['id']}: {each['help']}: {[node['html'][:120] for node in each['nodes']]}" for each in found["violations"]]

    def is_wider_than_screen(self) -> bool:
        """WCAG 2.2 success criterion 1.4.10: whether there is something to scroll to sideways."""
        wider: bool = self.page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
        return wider

    def small_targets(self) -> list[str]:
        """What can be pressed and is lower than 44 CSS pixels; links within sentences, and what lies within a label, are not meant."""
        found: list[str] = self.page.evaluate(
            """() => [...document.querySelectorAll('button, input:not([type=hidden]), .button, summary, .nav a, label.choice')]
            .filter(each => each.checkVisibility() && !each.closest('label.choice > *'))
            .filter(each => each.getBoundingClientRect().height < 44)
            .map(each => each.outerHTML.slice(0, 100))"""
        )
        return found


@contextmanager
def chromium() -> Iterator[Browser]:
    """A running Chromium without a screen. Raises `NoBrowser`."""
    if not CHROMIUM.exists():
        raise NoBrowser("chromium is not installed (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def window(browser: Browser, **given: Any) -> Iterator[Window]:
    """A window with its own cookies. `given` is what Playwright's `new_context` takes."""
    context = browser.new_context(**{"viewport": DESKTOP, "locale": "en-GB", **given})
    page = context.new_page()
    opened = Window(page, context)
    page.on("console", lambda message: opened.wrongs.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: opened.wrongs.append(str(error)))
    try:
        yield opened
    finally:
        context.close()
