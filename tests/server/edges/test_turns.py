"""Quick requests share a turn: one thread, one commit, and each its own answer or error."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from peers import imageshare
from peers.fhir_site import XML, FhirSite, fhir_site
from starlette.requests import Request
from starlette.responses import Response

from profiles.audit_event import REST_READ, Agent
from server.edges import turns
from server.edges.context import Node
from server.edges.turns import OutOfTurn, leave, turn_of, view
from server.errors import StorageFull
from server.records import trail

ON_BOTH_ENGINES = True


@pytest.fixture
def node(tmp_path: Path, database_url: str | None) -> Iterator[Node]:
    with imageshare.node(tmp_path / "data", database_url) as node:
        yield node
        node.turns.close()


def _request() -> Request:
    return Request({"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""})


def _noted(node: Node, request: Request) -> None:
    turn = turn_of(request)
    action = node.trail.action("read", REST_READ, Agent(identifier="app"))
    if turn is None:
        node.trail.write(action)
    else:
        turn.noted.append((action, ()))


def _events(node: Node) -> int:
    with node.database.read() as connection:
        return trail.total(connection)


def _together(node: Node, handlers: list[Callable[[Request], Response]]) -> list[Response | BaseException]:
    async def all_of_them() -> list[Response | BaseException]:
        asked = (node.turns.answer(_request(), handler, number) for number, handler in enumerate(handlers))
        return await asyncio.gather(*asked, return_exceptions=True)

    return asyncio.run(all_of_them())


def test_who_waits_at_one_moment_shares_a_thread_and_a_commit(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    commits: list[int] = []
    note = node.trail.note

    def counted(noted: list[Any]) -> None:
        commits.append(len(noted))
        note(noted)

    monkeypatch.setattr(node.trail, "note", counted)
    queued, threads = threading.Event(), set()

    def first(request: Request) -> Response:
        assert queued.wait(30)
        return answered(request)

    def answered(request: Request) -> Response:
        threads.add(threading.current_thread())
        with view(request, lambda _: node.database.read()):
            _noted(node, request)
        return Response(b"it")

    def last(request: Request) -> Response:
        return answered(request)

    async def asked() -> list[Response]:
        waiting = [asyncio.ensure_future(node.turns.answer(_request(), each, 0)) for each in (first, *[answered] * 8, last)]
        await asyncio.sleep(0)  # all of them are in the queue
        queued.set()
        return await asyncio.gather(*waiting)

    found = asyncio.run(asked())
    assert [each.body for each in found] == [b"it"] * 10
    assert sum(commits) == 10
    assert len(commits) <= 3
    assert len(threads) == 1
    assert _events(node) == 10


def test_what_is_slow_is_done_again_outside_and_what_is_like_it_begins_there(node: Node) -> None:
    where: list[bool] = []

    def slow(request: Request) -> Response:
        where.append(turn_of(request) is not None)
        _noted(node, request)
        leave(request)
        return Response(b"at last")

    async def twice() -> list[bytes]:
        return [bytes((await node.turns.answer(_request(), slow, "like this")).body) for _ in range(2)]

    assert asyncio.run(twice()) == [b"at last"] * 2
    assert where == [True, False, False]
    assert _events(node) == 2  # none of the turn that was left


def test_a_search_that_takes_long_leaves_its_turn(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """The statement is broken off, and is asked again outside."""
    monkeypatch.setattr(turns, "SECONDS", 0.01)
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000000) SELECT count(*) FROM n"
    where: list[bool] = []

    def long(request: Request) -> Response:
        where.append(turn_of(request) is not None)
        with view(request, lambda _: node.database.read()) as connection:
            return Response(str(connection.exec_driver_sql(numbers).scalar()).encode())

    assert [bytes(each.body) for each in _together(node, [long]) if isinstance(each, Response)] == [b"3000000"]
    assert where == [True, False]


def test_what_is_slow_in_python_twice_is_answered_and_no_more_in_a_turn(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once may have been a pause of Python's."""
    monkeypatch.setattr(turns, "SECONDS", -1.0)
    where: list[bool] = []

    def slow(request: Request) -> Response:
        where.append(turn_of(request) is not None)
        return Response(b"done")

    async def thrice() -> list[bytes]:
        return [bytes((await node.turns.answer(_request(), slow, "like this")).body) for _ in range(3)]

    assert asyncio.run(thrice()) == [b"done"] * 3
    assert where == [True, True, False]


@pytest.mark.parametrize(
    ("slow", "in_turn"),
    [
        ((True, False, False, False, True, False, False, False), (True,) * 8),
        ((True, False, True, False, True), (True, True, True, False, False)),
        ((True, False, False, True, False), (True, True, True, True, False)),
        ((False, False, True, False, False, False, False, True, True, False), (True,) * 9 + (False,)),
    ],
)
def test_what_is_slow_in_python_leaves_its_turns_at_two_of_four(
    node: Node, monkeypatch: pytest.MonkeyPatch, slow: tuple[bool, ...], in_turn: tuple[bool, ...]
) -> None:
    where: list[bool] = []

    def sometimes(request: Request) -> Response:
        monkeypatch.setattr(turns, "SECONDS", -1.0 if slow[len(where)] else 60.0)
        where.append(turn_of(request) is not None)
        return Response(b"done")

    async def several() -> None:
        for _ in slow:
            await node.turns.answer(_request(), sometimes, "like this")

    asyncio.run(several())
    assert tuple(where) == in_turn


def test_an_error_is_its_own_requests(node: Node) -> None:
    def wrong(request: Request) -> Response:
        _noted(node, request)
        raise LookupError("mine")

    def broken(request: Request) -> Response:
        with view(request, lambda _: node.database.read()) as connection:
            try:
                connection.exec_driver_sql("SELECT no_such_column FROM resource")
            except Exception:  # noqa: BLE001 as an edge does: the answer is a 500
                return Response(status_code=500)
        return Response()

    def right(request: Request) -> Response:
        with view(request, lambda _: node.database.read()) as connection:
            connection.exec_driver_sql("SELECT 1")
            _noted(node, request)
        return Response(b"right")

    found = _together(node, [right, wrong, right, broken, right])
    assert [each.status_code if isinstance(each, Response) else str(each) for each in found] == [200, "mine", 200, 500, 200]
    assert _events(node) == 3


def test_nothing_is_told_that_the_trail_does_not_have(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> None:
        raise StorageFull("no room")

    monkeypatch.setattr(node.trail, "note", full)

    def secret(request: Request) -> Response:
        _noted(node, request)
        return Response(b"secret")

    found = _together(node, [secret, lambda _: Response(b"no data"), secret])
    assert [type(each) for each in found] == [StorageFull, Response, StorageFull]


def test_a_node_ends_without_and_with_turns(tmp_path: Path) -> None:
    with imageshare.node(tmp_path / "data") as node:
        node.turns.close()
        asyncio.run(node.turns.answer(_request(), lambda _: Response(), 0))
        node.turns.close()
        node.turns.close()


# --- as FHIR has them


@pytest.fixture
def site(tmp_path: Path, database_url: str | None) -> Iterator[FhirSite]:
    with fhir_site(tmp_path / "data", database_url) as site:
        yield site


def test_a_large_answer_in_xml_is_told_once(site: FhirSite) -> None:
    family = "x" * 900
    site.put(*({"resourceType": "Patient", "id": f"p{number}", "name": [{"family": family}]} for number in range(50)))
    mark = site.mark()
    found = site.get("Patient?_count=50", Accept=XML)
    assert found.status_code == 200
    assert found.text.count(family) == 50
    assert len([each for each in site.events(mark) if each["action"] == "E"]) == 50  # one of each patient


@pytest.mark.parametrize(
    ("path", "is_quick"),
    [
        ("Patient/a", True),
        ("Patient?name=a&birthdate=ge1970&_count=20", True),
        ("Patient?_summary=true&_count=20", True),
        ("Patient?_summary=true&_count=1000", False),
        ("Patient?" + "&".join(["identifier=a"] * 11), False),
        ("Patient?identifier=" + "a" * 1200, False),
        ("Observation?subject.name=a", False),
        ("Patient?_has:Observation:patient:code=a", False),
        ("Patient?_filter=name eq a", False),
    ],
)
def test_what_cannot_be_quick_is_in_no_turn(
    site: FhirSite, monkeypatch: pytest.MonkeyPatch, path: str, *, is_quick: bool
) -> None:
    asked: list[object] = []
    answer = site.node.turns.answer

    async def noted(*given: Any) -> Response:
        asked.append(given)
        return await answer(*given)

    site.put({"resourceType": "Patient", "id": "a"})
    monkeypatch.setattr(site.node.turns, "answer", noted)
    assert site.get(path).status_code == 200
    assert bool(asked) == is_quick


def test_a_trail_that_cannot_be_written_is_said_in_fhir(site: FhirSite, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> None:
        raise StorageFull("the server has no room left; try again later")

    site.put({"resourceType": "Patient", "id": "a", "name": [{"family": "Secret"}]})
    monkeypatch.setattr(site.node.trail, "note", full)
    found = site.get("Patient/a")
    assert found.status_code == 507
    assert found.json()["resourceType"] == "OperationOutcome"
    assert "Secret" not in found.text
    assert OutOfTurn.__name__ not in found.text


def test_one_who_cannot_be_told_keeps_nobody_else_waiting() -> None:
    """A future takes no StopIteration."""

    async def told() -> Response | None:
        loop = asyncio.get_running_loop()
        waiting = [turns._Waiting(_request(), lambda _: Response(), loop.create_future(), loop) for _ in range(2)]
        waiting[0].error, waiting[1].response = StopIteration(), Response(b"it")
        turns._tell(waiting)
        return (await asyncio.wait_for(waiting[1].answered, 30))[0]

    answer = asyncio.run(told())
    assert answer is not None
    assert answer.body == b"it"
