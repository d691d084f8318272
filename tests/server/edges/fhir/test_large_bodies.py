"""What bodies may cost: nothing is read for who may do nothing, values are counted before they are made, and large ones wait for each other."""

import asyncio
import contextlib
import gzip
import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from fhir.resources.R4B.operationoutcome import OperationOutcome
from peers.fhir_site import JSON, FhirSite, fhir_site, issue
from peers.imageshare import running

from server.access.decisions import Decision, parse_scopes
from server.edges.fhir import received
from server.edges.fhir.received import Gate
from server.errors import Busy


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FhirSite]:
    with fhir_site(tmp_path / "data") as site:
        yield site


@pytest.mark.parametrize(
    ("scope", "patient", "grants"),
    [
        ("openid", None, False), ("openid launch fhirUser", "1", False), ("patient/*.cruds", None, False),
        ("patient/Patient.r", "1", True), ("user/Basic.s", None, True), ("openid system/*.read", None, True), ("patient/Patient.r?x=1", "1", False),
    ],
)  # fmt: skip
def test_which_tokens_open_something(scope: str, patient: str | None, grants: bool) -> None:
    assert Decision("app", parse_scopes(scope), patient).grants_any is grants


@pytest.mark.parametrize(("method", "path"), [("POST", ""), ("POST", "Patient"), ("PUT", "Patient/a"), ("POST", "Patient/$validate"), ("POST", "Patient/_search")])  # fmt: skip
def test_nothing_is_read_for_who_may_do_nothing(site: FhirSite, method: str, path: str) -> None:
    read: list[int] = []

    def pieces() -> Iterator[bytes]:
        for number in range(3):
            read.append(number)
            yield b"{" * 1000

    token, mark = site.token("openid launch"), site.mark()
    answer = site.http.request(
        method, f"/fhir/{path}" if path else "/fhir", content=pieces(), headers={**token, "Content-Type": "application/fhir+json"}
    )
    issue(answer, 403, "forbidden")
    (event,) = site.events(mark)
    assert event["outcome"] == "4"


def test_values_are_counted_before_they_are_made(site: FhirSite, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(*_: object) -> None:
        raise AssertionError("it was decoded")

    monkeypatch.setattr("server.edges.fhir.negotiation.parse", made)
    issue(site.ask("POST", "", body=b'{"entry":[' + b"{}," * (received.MOST_VALUES // 2) + b"{}]}"), 413, "too-long")
    monkeypatch.setattr("server.edges.fhir.negotiation.from_xml", made)
    issue(site.ask("POST", "", body=b"<a/>" * (received.MOST_VALUES + 1), Content_Type="application/fhir+xml"), 413, "too-long")


def test_large_bodies_wait_in_their_order() -> None:
    """In the time of the event loop: each goes on as soon as those before it have left room."""

    async def work() -> list[str]:
        gate, seen, go = Gate(values=10), list[str](), {name: asyncio.Event() for name in "abcd"}

        async def one(name: str, values: int) -> None:
            async with gate.passed(values):
                seen.append(name)
                await go[name].wait()
            seen.append(name.upper())

        tasks = []
        for name, values in (("a", 6), ("b", 9), ("c", 3), ("d", 50)):
            tasks.append(asyncio.create_task(one(name, values)))
            await asyncio.sleep(0)
        for name in "abcd":
            for _ in range(5):
                await asyncio.sleep(0)
            seen.append("|")
            go[name].set()
        await asyncio.gather(*tasks)
        return seen

    assert "".join(asyncio.run(work())) == "a|Ab|Bc|Cd|D"


def test_no_more_is_held_than_there_is_room_for() -> None:
    gate = Gate(held=10)
    with gate.holding() as first:
        first(6)
        with gate.holding() as second:
            second(4)
            with pytest.raises(Busy):
                first(1)
        first(4)
    with gate.holding() as again:
        again(10)


def test_who_sends_too_much_at_once_is_told_to_come_again(site: FhirSite, monkeypatch: pytest.MonkeyPatch) -> None:
    site.http.app.state.large_bodies = Gate(held=1000)  # type: ignore[attr-defined]
    answer = site.ask("POST", "Patient", body=b" " * (2 << 20))
    issue(answer, 503, "throttled")
    assert answer.headers["Retry-After"]
    assert site.ask("POST", "Patient", body={"resourceType": "Patient"}).status_code == 201


def _resident(pid: int) -> int:
    """Bytes of memory of a process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    fields = Path(f"/proc/{pid}/status").read_text().splitlines()
    peak = next(int(each.split()[1]) << 10 for each in fields if each.startswith("VmHWM:"))
    return peak + sum(_resident(int(child)) for child in children)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process's memory is told by Linux only")
def test_a_hundred_megabytes_are_refused_and_not_held(tmp_path: Path) -> None:
    """Declared, in chunks, and packed into a hundred kilobytes: 413, and others go on."""
    with running(tmp_path / "data") as server:
        token = {"Authorization": f"Bearer {server.token()}", "Content-Type": JSON}
        hundred, piece = 100 << 20, b" " * (1 << 20)

        def ask(body: Any, **headers: str) -> tuple[int, dict[str, Any]]:
            connection = http.client.HTTPConnection(urlsplit(server.http).netloc, timeout=60)
            given = {**token, **{name.replace("_", "-"): text for name, text in headers.items()}}
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may be answered before all is sent
                connection.request("POST", "/fhir/Patient", body, given, encode_chunked="Transfer_Encoding" in headers)
            found = connection.getresponse()
            told = found.status, json.loads(found.read())
            connection.close()
            return told

        assert ask(b'{"resourceType":"Patient"}')[0] == 201
        before = _resident(server.process.pid)
        packed = gzip.compress(b"{" + piece * 100, 1)
        for body, headers in (
            (packed, {"Content_Encoding": "gzip"}),
            ((piece for _ in range(100)), {"Content_Length": str(hundred)}),
            ((piece for _ in range(100)), {"Transfer_Encoding": "chunked"}),
        ):
            status, told = ask(body, **headers)
            OperationOutcome.model_validate(told)
            assert (status, told["issue"][0]["code"]) == (413, "too-long"), headers
        assert _resident(server.process.pid) - before < 3 * hundred
        assert ask(b'{"resourceType":"Patient"}')[0] == 201
