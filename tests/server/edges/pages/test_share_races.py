"""Fifty at once, from as many addresses, against two server processes: what may happen once happens once, and what has ended has ended for everybody."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Any, Final

import httpx2
import pytest
from peers.imageshare import running
from peers.people import quick_hashing
from peers.smart_site import smart_site
from peers.visitor import Visitor
from pydantic import SecretStr
from sqlalchemy import select

from server.access import codes, shares
from server.access.codes import CODE
from server.access.shares import SHARE, Share, Wish
from server.settings import load
from server.store.db import Database, micros

pytestmark = pytest.mark.timeout(300)
MANY: Final = 50
BORN: Final = ("29", "02", "1960")


@dataclass
class Prepared:
    """A server with what is raced for: a share that may be opened five times, one with a passcode, one to be stopped, and two access codes."""

    http: str
    database: Database
    few: tuple[Share, str]
    locked: tuple[Share, str]
    stopped: tuple[Share, str]
    codes: tuple[str, str]
    study: str
    opened: ExitStack = field(default_factory=ExitStack)
    count: int = 0

    def browser(self) -> Visitor:
        """A browser at an address of its own."""
        self.count += 1
        transport = httpx2.HTTPTransport(local_address=f"127.7.{self.count // 250}.{self.count % 250 + 1}")
        client = self.opened.enter_context(closing(httpx2.Client(base_url=self.http, transport=transport, timeout=120)))
        return Visitor(client)  # type: ignore[arg-type]

    def at(self, path: str) -> list[Visitor]:
        """Fifty browsers that have the page open."""
        browsers = [self.browser() for _ in range(MANY)]
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda each: each.get(path), browsers))
        return browsers

    def row(self, table: Any, id_: str) -> Any:
        with self.database.read() as connection:
            return connection.execute(select(table).where(table.c.id == id_)).one()


@pytest.fixture(scope="module")
def site(module_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    data, url = tmp_path_factory.mktemp("races"), module_database_url
    with ExitStack() as stack:
        with smart_site(data, url) as made:
            key, patient, account = made.node.installation.cursor_key, made.patients["A"], made.people["patient"].id
            uid = made.studies["A"][0]
            hashed = quick_hashing().hash("123456")

            def share(**more: Any) -> tuple[Share, str]:
                return shares.make(connection, key, Wish(patient, (uid,), 30, **more), account)

            with made.node.database.write() as connection:
                found = share(openings=5), share(passcode=hashed), share()
                issued = tuple(
                    codes.issue(connection, key, patient=patient, studies=None, creator="", expires=micros() + 3_600_000_000)[1]
                    for _ in range(2)
                )
                study = connection.exec_driver_sql(f"SELECT id FROM study WHERE uid = '{uid}'").scalar_one()
        with running(data, url, http_processes=2) as server:
            database = stack.enter_context(closing(Database(load(data=data, database_url=SecretStr(url)).database)))
            yield Prepared(server.http, database, *found, issued, study, stack)


def at_once(browsers: Sequence[Visitor], act: Callable[[Visitor], int]) -> Counter[int]:
    """What the browsers are answered that all act in the same moment."""
    together = threading.Barrier(len(browsers))

    def one(browser: Visitor) -> int:
        together.wait(60)
        return act(browser)

    with ThreadPoolExecutor(len(browsers)) as threads:
        return Counter(threads.map(one, browsers))


def opening(link: tuple[Share, str], **more: str) -> Callable[[Visitor], int]:
    def act(browser: Visitor) -> int:
        target, form = browser.filled("Open the images", secret=link[1], name="Dr Berg", **more)
        return browser.http.post(target, data=form, headers={"Origin": str(browser.http.base_url).rstrip("/")}).status_code

    return act


def test_a_share_is_opened_as_often_as_it_may_be(site: Prepared) -> None:
    share = site.few[0]
    assert at_once(site.at(f"/share/{share.id}"), opening(site.few)) == {303: 5, 404: MANY - 5}
    assert site.row(SHARE, share.id).openings == 5


def test_wrong_passcodes_close_it_after_ten(site: Prepared) -> None:
    share = site.locked[0]
    answers = at_once(site.at(f"/share/{share.id}"), opening(site.locked, passcode="000000"))
    assert answers.keys() <= {403, 404}
    assert answers[403] == shares.TRIES
    assert site.row(SHARE, share.id).tries == shares.TRIES
    late = site.browser()
    late.get(f"/share/{share.id}")
    assert opening(site.locked, passcode="123456")(late) == 404, "the right one comes too late"


def test_what_is_stopped_opens_nothing_any_more(site: Prepared) -> None:
    """In any process, on any connection, for pictures that a browser has kept as well, and by the token of a page that is open."""
    share = site.stopped[0]
    browsers = site.at(f"/share/{share.id}")[:20]
    assert at_once(browsers, opening(site.stopped)) == {303: 20}
    path = f"/share/{share.id}/images/{site.study}/picture"
    kept = [each.http.get(path) for each in browsers]
    assert {each.status_code for each in kept} == {200}
    tags = {id(browser): answer.headers["etag"] for browser, answer in zip(browsers, kept, strict=True)}
    assert {each.http.get(path, headers={"If-None-Match": tags[id(each)]}).status_code for each in browsers} == {304}
    with site.database.write() as connection:
        shares.stop(connection, share.id, "stopped")
    assert at_once(browsers, lambda each: each.http.get(path, headers={"If-None-Match": tags[id(each)]}).status_code) == {404: 20}
    assert at_once(browsers, lambda each: each.http.get(f"/share/{share.id}/view").status_code) == {404: 20}


def claiming(code: str, year: str = BORN[2]) -> Callable[[Visitor], int]:
    def act(browser: Visitor) -> int:
        target, form = browser.filled("Show my images", code=code, day=BORN[0], month=BORN[1], year=year)
        return browser.http.post(target, data=form, headers={"Origin": str(browser.http.base_url).rstrip("/")}).status_code

    return act


def test_a_code_is_claimed_once(site: Prepared) -> None:
    answers = at_once(site.at("/claim"), claiming(site.codes[0]))
    assert answers == {303: 1, 409: MANY - 1}


def test_wrong_dates_close_a_code_after_ten(site: Prepared) -> None:
    answers = at_once(site.at("/claim"), claiming(site.codes[1], "1964"))
    assert answers == {403: MANY}
    with site.database.read() as connection:
        row = connection.execute(select(CODE).where(CODE.c.claimed == 0)).one()
    assert row.tries == codes.TRIES
    late = site.browser()
    late.get("/claim")
    assert claiming(site.codes[1])(late) == 403, "the right one comes too late"
