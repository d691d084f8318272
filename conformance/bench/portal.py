"""The portal's pages under Lighthouse, which loads each as a middling phone on a slow network would, and judges it: performance and accessibility."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any, Final

from playwright.sync_api import Browser
from rich.progress import Progress

from conformance.bench import targets
from conformance.bench.peers import Peer
from conformance.bench.report import Measurement
from conformance.bench.viewer import CHROMIUM, OURS, NotHere, patient_of

LIGHTHOUSE: Final = "lighthouse@13.5.0"
_EMAIL, _PASSWORD = "bench@example.org", "a password of the benchmark"
_SECONDS: Final = 300


def suite(browser: Browser, ours: Peer, folder: Path, rounds: int, progress: Progress) -> Iterator[Measurement]:
    """Two rows for each page, in points of a hundred: the median of the rounds for performance, the lowest for accessibility. Raises `NotHere`."""
    program = _installed(folder)
    cookie, study = _signed_in(browser, ours)
    task = progress.add_task("pages under Lighthouse", total=len(targets.PAGES))
    for page, path in targets.PAGES.items():
        url = ours.base + path.format(study=study)
        seen = [_seen(program, url, "" if page in targets.OUTSIDE else cookie) for _ in range(rounds)]
        fast, accessible = (
            [each["categories"][name]["score"] * 100 for each in seen] for name in ("performance", "accessibility")
        )
        painted = median(each["audits"]["largest-contentful-paint"]["numericValue"] for each in seen)
        yield Measurement(targets.FAST + page, OURS, median(fast), "points", p50=painted, note=f"lowest {min(fast):.0f}")
        yield Measurement(targets.ACCESSIBLE + page, OURS, min(accessible), "points")
        progress.advance(task)


def _installed(folder: Path) -> Path:
    """Lighthouse out of npm. Raises `NotHere`."""
    if shutil.which("npm") is None or not CHROMIUM.exists():
        raise NotHere("Lighthouse needs npm and chromium")
    folder.mkdir(parents=True)
    ended = subprocess.run(
        ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), LIGHTHOUSE],
        capture_output=True,
        check=False,
    )
    if ended.returncode:
        raise NotHere(f"npm does not reach {LIGHTHOUSE}")
    return folder / "node_modules" / "lighthouse" / "cli" / "index.js"


def _signed_in(browser: Browser, ours: Peer) -> tuple[str, str]:
    """The cookies of a patient who has signed in, and the id of a study of hers."""
    ours.command("user", "add", _EMAIL, "--name", "Thea Phantom", "--patient", patient_of(ours), said=f"{_PASSWORD}\n" * 2)
    context = browser.new_context()
    try:
        page = context.new_page()
        page.goto(f"{ours.base}/sign-in?next=/images")
        page.get_by_label("E-mail address").fill(_EMAIL)
        page.get_by_label("Password").fill(_PASSWORD)
        page.get_by_role("button", name="Sign in", exact=True).click()
        study = str(page.locator("h3 a").first.get_attribute("href")).rpartition("/")[2]
        return "; ".join(f"{each['name']}={each['value']}" for each in context.cookies()), study
    finally:
        context.close()


def _seen(program: Path, url: str, cookie: str) -> dict[str, Any]:
    """Lighthouse's report of one load, as JSON. Raises `RuntimeError` where it cannot load the page."""
    ended = subprocess.run(
        [
            "node", str(program), url, "--output=json", "--quiet", "--only-categories=performance,accessibility",
            "--chrome-flags=--headless=new --no-sandbox", f"--extra-headers={json.dumps({'Cookie': cookie} if cookie else {})}",
        ],
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "CHROME_PATH": str(CHROMIUM), "HOME": str(program.parents[3])},
        capture_output=True, text=True, timeout=_SECONDS, check=False,
    )  # fmt: skip
    if ended.returncode:
        raise RuntimeError(f"Lighthouse ended with {ended.returncode}: {ended.stderr.strip()[-300:]}")
    found: dict[str, Any] = json.loads(ended.stdout)
    if found["finalDisplayedUrl"] != url:
        raise RuntimeError(f"the page {url} leads to {found['finalDisplayedUrl']}")
    return found
