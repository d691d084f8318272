"""How soon somebody sees images: our viewer in a real Chromium beside OHIF on Orthanc, the same CT of 100 slices, rounds in turn, each with an empty cache.

A round goes from navigation to greys on the canvas. What is counted beside it: requests and bytes until every slice can be scrolled to, the next study
with everything warm, and the inputs and seconds from an access code to the first image.
"""

import json
import re
import shutil
import subprocess
import tarfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from rich.progress import Progress

from conformance.bench import images, targets
from conformance.bench.ehr import Ehr
from conformance.bench.peers import Peer
from conformance.bench.report import Measurement

OHIF: Final = "@ohif/app@3.13.2"
_PLUGIN: Final = Path("/usr/share/orthanc/plugins/libServeFolders.so")
CHROMIUM: Final = Path("/usr/bin/chromium")
_SECONDS: Final = 180_000
OURS, THEIRS = "imageshare", "OHIF on Orthanc"
_GREYS: Final = """() => [...document.querySelectorAll(%s)].some(canvas => {
    const context = canvas.width && canvas.getContext("2d");
    const pixels = context && context.getImageData(0, 0, canvas.width, canvas.height).data;
    if (!pixels) return false;
    const found = new Set();
    for (let at = 0; at < pixels.length && found.size < 9; at += 388) found.add(pixels[at]);
    return found.size > 8;
})"""
"""Whether there are more than a few greys on a canvas."""
_OUR_CANVAS, _THEIR_CANVAS = '"#canvas"', '"canvas.cornerstone-canvas"'
_START: Final = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>OHIF</title>
<link rel="stylesheet" href="/ohif/app.bundle.css"><script src="/ohif/start.js"></script><script defer src="/ohif/{script}"></script></head>
<body><div id="react-portal"></div><div id="root"></div></body></html>"""
_BOOT: Final = """history.replaceState(null, "", "/ohif/viewer" + location.search);
window.PUBLIC_URL = "/ohif/"; window.browserImportFunction = (name) => import(name);
window.config = {routerBasename: "/ohif", showStudyList: false, extensions: [], modes: [], customizationService: [{"ohif.tours": {$set: []}}],
  showLoadingIndicator: true, maxNumberOfWebWorkers: 3, investigationalUseDialog: {option: "never"}, defaultDataSourceName: "orthanc",
  dataSources: [{namespace: "@ohif/extension-default.dataSourcesModule.dicomweb", sourceName: "orthanc", configuration: {
    friendlyName: "orthanc", name: "orthanc", qidoRoot: "/dicom-web", wadoRoot: "/dicom-web", wadoUriRoot: "/wado", qidoSupportsIncludeField: false,
    imageRendering: "wadors", thumbnailRendering: "wadors", enableStudyLazyLoad: true, supportsWildcard: true, singlepart: "bulkdata,video",
    acceptHeader: ["multipart/related; type=application/octet-stream; transfer-syntax=*"], bulkDataURI: {enabled: true}}}]};"""


class NotHere(Exception):
    """What it takes is not installed; the message says what."""


def ohif(folder: Path) -> dict[str, Any]:
    """OHIF out of npm, unpacked into `folder` as a site below `/ohif`: settings of Orthanc that serve it. Raises `NotHere`."""
    if shutil.which("npm") is None or not _PLUGIN.exists():
        raise NotHere("OHIF on Orthanc needs npm and Orthanc's plugin ServeFolders")
    folder.mkdir(parents=True)
    ended = subprocess.run(["npm", "pack", OHIF, "--silent"], cwd=folder, capture_output=True, text=True, check=False)
    packages = [*folder.glob("*.tgz")]
    if ended.returncode or not packages:
        raise NotHere(f"npm does not reach {OHIF}")
    site = folder / "site"
    site.mkdir()
    with tarfile.open(packages[0]) as archive:
        for member in archive:
            name = member.name.removeprefix("package/dist/")
            if member.isfile() and name != member.name and "/" not in name and not name.endswith(".map"):
                content = archive.extractfile(member)
                assert content is not None
                (site / name).write_bytes(_relative(name, content.read()))
    script = next(each.name for each in site.glob("app.bundle.*.js"))
    (site / "start.html").write_text(_START.format(script=script))
    (site / "start.js").write_text(_BOOT)
    return {"ServeFolders": {"/ohif": str(site)}, "Plugins": [str(_PLUGIN)]}


def _relative(name: str, content: bytes) -> bytes:
    """It is built to be served at `/`."""
    if name.endswith(".js"):
        return re.sub(rb'__webpack_require__\.p = "/"', b'__webpack_require__.p = "/ohif/"', content)
    return re.sub(rb"url\(/(?=[^/])", b"url(/ohif/", content) if name.endswith(".css") else content


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium. Raises `NotHere`."""
    if not CHROMIUM.exists():
        raise NotHere("chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def fill(peer: Peer, studies: Sequence[Sequence[Path]]) -> None:
    """Both studies, by STOW-RS."""
    for files in studies:
        if images.post(peer, [(path.stat().st_size, path) for path in files]) != 200:
            raise RuntimeError(f"{peer.name} does not take the study")


def suite(
    browser: Browser, ours: Peer, theirs: Peer | None, chart: Ehr, uids: Sequence[str], rounds: int, progress: Progress
) -> Iterator[Measurement]:
    """Everything about the first of the studies; the second is the next one. Raises `RuntimeError` where no image comes.

    `chart` is of an EHR on another site, whose patient both are of.
    """
    patient = patient_of(ours)
    took, state, inputs = _claimed(browser, ours, patient)
    yield _row(targets.CLAIMED, OURS, [took], f"{inputs} inputs")
    address = _addresses(browser, ours, state)
    times: dict[str, list[float]] = {OURS: [], THEIRS: []}
    task = progress.add_task("first images, ours and OHIF in turn", total=rounds)
    for _ in range(rounds):
        with _context(browser, state) as context:
            times[OURS].append(_first(context.new_page(), address[uids[0]], _OUR_CANVAS))
        if theirs is not None:
            with _context(browser) as context:
                url = f"{theirs.base}/ohif/start.html?StudyInstanceUIDs={uids[0]}"
                times[THEIRS].append(_first(context.new_page(), url, _THEIR_CANVAS))
        progress.advance(task)
    if times[THEIRS]:
        yield _row(targets.THEIR_FIRST, OURS, times[THEIRS], THEIRS)
    yield _row(targets.FIRST_IMAGE, OURS, times[OURS])
    yield _all_slices(browser, state, address[uids[0]])
    yield _next_study(browser, state, address[uids[0]], rounds)
    yield _next_page(browser, state, address, uids, rounds)
    yield _launched(browser, chart, uids[0], rounds)


def _row(work: str, who: str, seconds: Sequence[float], note: str = "") -> Measurement:
    ordered = sorted(1000 * each for each in seconds)
    return Measurement(work, who, 1000 / median(ordered), "a second", p50=median(ordered), p95=ordered[-1], note=note)


@contextmanager
def _context(browser: Browser, state: Mapping[str, Any] | None = None) -> Iterator[BrowserContext]:
    """A browser's profile of its own: nothing is cached."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, storage_state=state)  # type: ignore[arg-type]
    try:
        yield context
    finally:
        context.close()


def _first(page: Page, url: str, canvas: str) -> float:
    """Seconds from navigation to greys on the canvas."""
    began = time.perf_counter()
    page.goto(url, wait_until="commit")
    page.wait_for_function(_GREYS % canvas, timeout=_SECONDS, polling="raf")
    return time.perf_counter() - began


def patient_of(ours: Peer) -> str:
    """The resource id of whose study it is."""
    request = urllib.request.Request(f"{ours.base}/fhir/Patient", headers=ours.headers)  # noqa: S310 our own loopback URL
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        return str(json.load(answer)["entry"][0]["resource"]["id"])


def _claimed(browser: Browser, ours: Peer, patient: str) -> tuple[float, Any, int]:
    """From a page with a form to the first image, by an access code: seconds, the browser's cookies, and how many inputs that took."""
    code = ours.command("code", "issue", patient)
    with _context(browser) as context:
        page = context.new_page()
        page.goto(f"{ours.base}/claim")
        began, inputs = time.perf_counter(), 0
        for label, value in (("Access code", code), ("Day", "29"), ("Month", "2"), ("Year", "1960")):
            page.get_by_label(label).first.fill(value)
            inputs += 1
        page.get_by_role("button", name="Show my images").click()
        page.wait_for_url("**/images")
        page.locator("h3 a").first.click()
        page.locator("a.large img").wait_for()
        page.wait_for_function("() => document.querySelector('a.large img').naturalWidth > 0", timeout=_SECONDS)
        return time.perf_counter() - began, context.storage_state(), inputs + 2


def _addresses(browser: Browser, ours: Peer, state: Any) -> dict[str, str]:
    """Of each study's viewer page, by its UID."""
    with _context(browser, state) as context:
        page = context.new_page()
        page.goto(f"{ours.base}/images")
        found: dict[str, str] = {}
        for path in [each.get_attribute("href") for each in page.locator("h3 a").all()]:
            page.goto(f"{ours.base}{path}/view")
            page.wait_for_function(_GREYS % _OUR_CANVAS, timeout=_SECONDS)
            uid = next(
                each
                for each in page.evaluate("performance.getEntriesByType('resource').map(each => each.name)")
                if "/studies/" in each
            )
            found[uid.split("/studies/")[1].split("/")[0]] = f"{ours.base}{path}/view"
        return found


def _all_slices(browser: Browser, state: Any, url: str) -> Measurement:
    """Requests and bytes, by the browser's own count, until there is a picture of every slice of the series."""
    with _context(browser, state) as context:
        page = context.new_page()
        session = context.new_cdp_session(page)
        session.send("Network.enable")
        sizes: list[float] = []
        sent: set[str] = set()
        session.on(
            "Network.requestWillBeSent",
            lambda each: sent.add(each["requestId"]) if each["request"]["url"].startswith("http") else None,
        )
        session.on(
            "Network.loadingFinished", lambda each: sizes.append(each["encodedDataLength"]) if each["requestId"] in sent else None
        )
        began = time.perf_counter()
        page.goto(url, wait_until="commit")
        page.wait_for_function(
            "() => { const canvas = document.querySelector('#canvas'), slider = document.querySelector('#slider');"
            " return canvas?.dataset.loaded && Number(slider.max) > 0 && Number(canvas.dataset.loaded) > Number(slider.max); }",
            timeout=_SECONDS,
        )
        took = time.perf_counter() - began
        page.wait_for_load_state("networkidle")  # the browser counts what is over
        requests, megabytes = len(sizes), sum(sizes) / 1e6
        note = f"{requests} requests, {megabytes:.2f} MB"
    return Measurement(targets.ALL_SLICES, OURS, 1 / took, "a second", megabytes=megabytes, p50=1000 * took, note=note)


def _next_study(browser: Browser, state: Any, url: str, rounds: int) -> Measurement:
    """From one study of the patient to the next, in the viewer's own list, once both have been open: from the click to the canvas."""
    times = []
    with _context(browser, state) as context:
        page = context.new_page()
        _first(page, url, _OUR_CANVAS)
        for turn in range(1, 2 * rounds + 3):
            button = page.locator(f'[data-series="{turn % 2}-0"]')
            began = time.perf_counter()
            button.click()
            page.wait_for_function("() => document.querySelector('#canvas').dataset.drawn", timeout=_SECONDS, polling="raf")
            times += [time.perf_counter() - began] if turn > 2 else []
    return _row(targets.NEXT_STUDY, OURS, times)


def _next_page(browser: Browser, state: Any, address: Mapping[str, str], uids: Sequence[str], rounds: int) -> Measurement:
    """The same by another page of the same browser, which has the viewer's files."""
    times = []
    with _context(browser, state) as context:
        page = context.new_page()
        for turn in range(2 * rounds + 2):
            took = _first(page, address[uids[turn % 2]], _OUR_CANVAS)
            times += [took] if turn > 1 else []
    return _row(targets.NEXT_PAGE, OURS, times)


def _launched(browser: Browser, chart: Ehr, uid: str, rounds: int) -> Measurement:
    """From the EHR's page to greys on the canvas of a frame in it: launch, authorization at the EHR, its token, whose study it is, and the image."""
    chart.has_study("bench", uid)
    chart.says = {"patient": "bench", "fhirContext": [{"reference": "ImagingStudy/bench"}]}
    times = []
    for _ in range(rounds):
        with _context(browser) as context:
            page = context.new_page()
            began = time.perf_counter()
            page.goto(f"{chart.base}/chart", wait_until="commit")
            page.frame_locator("iframe").locator("#canvas[data-drawn]").wait_for(timeout=_SECONDS)
            page.frames[-1].wait_for_function(_GREYS % _OUR_CANVAS, timeout=_SECONDS, polling="raf")
            times.append(time.perf_counter() - began)
    return _row(targets.LAUNCHED, OURS, times)
