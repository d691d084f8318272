"""UPS-RS subscriptions and event channels: a real WebSocket client, PS3.18 sections 8.10 and 11.10 to 11.12."""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from peers.dicomweb import Site, site
from peers.generated import Made, send
from peers.imageshare import running
from peers.together import together
from peers.worklist import FILTERED, GLOBAL, Client, attribute, channel, code, discontinued, performed, step, told
from websockets.exceptions import InvalidStatus

from server.edges.dicomweb import subscriptions
from server.records import workitem_subscribers as subscribers
from server.records import workitems
from server.store.db import micros

STATE, CANCEL, PROGRESS, SCP, ASSIGNED = 1, 2, 3, 4, 5


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("channels") / "data", module_database_url) as made:
        send(made.node, Made(number=1), Made(study=2, patient="P2"))
        made.publish()
        yield made


@pytest.fixture
def client(server: Site) -> Client:
    return Client(server, server.token("system/Task.cruds"))


@pytest.fixture
def uid() -> str:
    return f"2.25.{secrets.randbits(100)}"


@pytest.fixture
def title(client: Client) -> Iterator[str]:
    made = secrets.token_hex(8)
    yield made
    for target in (GLOBAL, FILTERED):
        client("DELETE", f"/{target}/subscribers/{made}")


def test_a_life_in_events(server: Site, client: Client, uid: str, title: str) -> None:
    client.create(uid)
    with channel(server.url, title, client.token) as events:
        answer = client.subscribe(uid, title)
        assert answer.status_code == 201
        assert (
            answer.headers["Content-Location"]
            == f"ws{server.url.removeprefix('http').removesuffix('/dicomweb')}/ws/subscribers/{title}"
        )
        first = events.next()
        assert told(first) == (uid, STATE, "SCHEDULED")
        assert first["00000002"]["Value"] == ["1.2.840.10008.5.1.4.34.6.1"]
        assert (first["00000100"]["Value"], first["00404041"]["Value"]) == ([0x0100], ["READY"])
        client.update(uid, {"00404041": attribute("CS", "UNAVAILABLE")})
        client.update(uid, {"00404025": attribute("SQ", code("STATION1"))})
        client.state(uid, "IN PROGRESS", "1.2.3")
        client("POST", f"/{uid}/cancelrequest?requester=BOSS", {"00741238": attribute("LT", "why not")})
        client.update(uid, {"00741002": attribute("SQ", {"00741004": attribute("DS", 50)})}, "1.2.3")
        client.update(uid, performed(), "1.2.3")
        client.state(uid, "COMPLETED", "1.2.3")
        assert told(events.next()) == (uid, STATE, "SCHEDULED")
        assigned = events.next()
        assert told(assigned) == (uid, ASSIGNED, "")
        assert assigned["00404025"]["Value"] == [code("STATION1")]
        assert told(events.next()) == (uid, STATE, "IN PROGRESS")
        asked = events.next()
        assert told(asked) == (uid, CANCEL, "")
        assert (asked["00741236"]["Value"], asked["00741238"]["Value"]) == (["BOSS"], ["why not"])
        progress = events.next()
        assert told(progress) == (uid, PROGRESS, "")
        assert progress["00741002"]["Value"] == [{"00741004": attribute("DS", 50)}]
        assert told(events.next()) == (uid, STATE, "COMPLETED")
        assert client("DELETE", f"/{uid}/subscribers/{title}").status_code == 200
    assert client("DELETE", f"/{uid}/subscribers/{title}").status_code == 404


def test_a_canceled_step_says_why(server: Site, client: Client, uid: str, title: str) -> None:
    client.create(uid)
    client.state(uid, "IN PROGRESS", "1.2.3")
    client.update(uid, discontinued(), "1.2.3")
    client.subscribe(uid, title)
    with channel(server.url, title, client.token) as events:
        events.next()
        client.state(uid, "CANCELED", "1.2.3")
        assert events.next()["0074100E"]["Value"][0]["00080100"]["Value"] == ["110500"]


def test_what_nobody_began_goes_through_in_progress(server: Site, client: Client, uid: str, title: str) -> None:
    client.create(uid)
    client.subscribe(uid, title)
    client("POST", f"/{uid}/cancelrequest")
    with channel(server.url, title, client.token) as events:
        assert [state for _, _, state in events.reports(3)] == ["SCHEDULED", "IN PROGRESS", "CANCELED"]


def test_the_worklist(server: Site, client: Client, uid: str, title: str) -> None:
    client.create(uid)
    with channel(server.url, title, client.token) as events:
        assert client.subscribe(GLOBAL, title).status_code == 201
        while told(events.next()) != (uid, STATE, "SCHEDULED"):
            pass
        client.create(uid + ".2", step(t00404025=attribute("SQ", code("S"))))
        assert events.reports(2) == [(uid + ".2", STATE, "SCHEDULED"), (uid + ".2", ASSIGNED, "")]
        assert client("POST", f"/{GLOBAL}/subscribers/{title}/suspend").status_code == 200
        client.create(uid + ".3")
        client.state(uid, "IN PROGRESS", "1.2.3")
        assert events.reports(1) == [(uid, STATE, "IN PROGRESS")], (
            "what was subscribed to stays so, what is new does not become it"
        )
        assert client("POST", f"/{GLOBAL}/subscribers/{title}/suspend").status_code == 404
        client.subscribe(GLOBAL, title)
        assert told(events.next())[0] == uid + ".3"
        assert client("DELETE", f"/{GLOBAL}/subscribers/{title}").status_code == 200
        client.state(uid + ".2", "IN PROGRESS", "1.2.3")
        client.subscribe(uid, title)
        assert events.reports(1) == [(uid, STATE, "IN PROGRESS")], "nothing of the other one"
    client("DELETE", f"/{uid}/subscribers/{title}")


def test_a_part_of_the_worklist(server: Site, client: Client, uid: str, title: str) -> None:
    label = secrets.token_hex(6)
    with channel(server.url, title, client.token) as events:
        client.create(uid, step(t00741202=attribute("LO", label)))
        wanted = f"?filter=WorklistLabel%3D{label},00404018.00080100%3D110004"
        assert client.subscribe(FILTERED, title, wanted).status_code == 201
        client.create(uid + ".2")
        client.create(uid + ".3", step(t00741202=attribute("LO", label), t00404018=attribute("SQ", code("X"))))
        client.create(uid + ".4", step(t00741202=attribute("LO", label)))
        assert [one for one, _, _ in events.reports(2)] == [uid, uid + ".4"]


@pytest.mark.parametrize(
    "path",
    [
        f"/{FILTERED}/subscribers/A",
        f"/{FILTERED}/subscribers/A?filter=Nothing%3D1",
        f"/{FILTERED}/subscribers/A?filter=PatientID",
        f"/{GLOBAL}/subscribers/A?filter=PatientID%3DP1",
        f"/{GLOBAL}/subscribers/A?deletionlock=maybe",
        f"/{GLOBAL}/subscribers/LONGER-THAN-SIXTEEN",
        "/1.2.3/subscribers/A/suspend",
    ],
)
def test_what_cannot_be_subscribed_to(client: Client, path: str) -> None:
    assert client("POST", path).status_code == 400


def test_what_is_not_there_cannot_be_subscribed_to(client: Client) -> None:
    assert client.subscribe("1.2.3").status_code == 404


def test_events_wait_for_a_channel_and_come_once(server: Site, client: Client, uid: str, title: str) -> None:
    client.create(uid)
    client.subscribe(uid, title)
    client.state(uid, "IN PROGRESS", "1.2.3")
    with channel(server.url, title, client.token) as events:
        numbers = [event["00000110"]["Value"][0] for event in (events.next(), events.next())]
        assert numbers[1] == numbers[0] % 0xFFFF + 1
    while True:  # the channel notes what it sent right after sending
        with server.node.database.read() as connection:
            newest = subscribers.newest(connection, [title])[title]
            if subscribers.delivered(connection, title) == newest:
                break
    client.update(uid, {**performed(), **discontinued()}, "1.2.3")
    with channel(server.url, title, client.token) as events, channel(server.url, title, client.token) as beside:
        assert told(events.next()) == (uid, PROGRESS, "")
        client.state(uid, "COMPLETED", "1.2.3")
        assert told(events.next()) == (uid, STATE, "COMPLETED")
        while told(beside.next()) != (uid, STATE, "COMPLETED"):
            pass


def test_only_so_many_wait(server: Site, client: Client, uid: str, title: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscribers, "MOST_WAITING", 3)
    client.create(uid)
    client.subscribe(uid, title)
    for number in range(5):
        client.update(uid, {"00404041": attribute("CS", "READY" if number % 2 else "INCOMPLETE")})
    with channel(server.url, title, client.token) as events:
        assert [events.next()["00404041"]["Value"][0] for _ in range(3)] == ["INCOMPLETE", "READY", "INCOMPLETE"]


@pytest.mark.parametrize(("scope", "status"), [(None, 401), ("system/ImagingStudy.rs", 403), ("system/Task.s", 403)])
def test_a_channel_needs_a_token_that_reads(server: Site, title: str, scope: str | None, status: int) -> None:
    token = server.token(scope) if scope else None
    with pytest.raises(InvalidStatus) as refused, channel(server.url, title, token):
        pass
    assert refused.value.response.status_code == status
    assert server.trail()[-1][:2] == ("read", "4")


def test_a_token_in_the_url_opens_nothing(server: Site, client: Client, title: str) -> None:
    with pytest.raises(InvalidStatus) as refused, channel(server.url, f"{title}?access_token={client.token}", None):
        pass
    assert refused.value.response.status_code == 401


def test_an_ae_title_is_its_owners(server: Site, client: Client, uid: str, title: str) -> None:
    other = server.node.tokens.issue(client="somebody-else", scope="system/Task.cruds")
    client.create(uid)
    client.subscribe(uid, title)
    stranger = Client(server, other)
    assert stranger.subscribe(uid, title).status_code == 403
    assert stranger("DELETE", f"/{uid}/subscribers/{title}").status_code == 403
    with pytest.raises(InvalidStatus), channel(server.url, title, other):
        pass
    client("DELETE", f"/{uid}/subscribers/{title}")
    assert stranger.subscribe(uid, title).status_code == 201, "free again"
    stranger("DELETE", f"/{uid}/subscribers/{title}")
    with channel(server.url, title, client.token) as mine:
        assert stranger.subscribe(uid, title).status_code == 201
        client.state(uid, "IN PROGRESS", "1.2.3")
        assert mine.received.get(timeout=20) is None
        assert mine.closed == 1008


def test_who_sees_one_patient_hears_of_one(server: Site, client: Client, uid: str, title: str) -> None:
    mine = server.token("patient/Task.rs", server.patient("P1"))
    client.create(uid)
    client.create(uid + ".2", step("P2"))
    for target in (uid + ".2", uid):
        client.subscribe(target, title)
    before = len(server.trail())
    with channel(server.url, title, mine) as events:
        assert events.reports(1) == [(uid, STATE, "SCHEDULED")]
        client.state(uid + ".2", "IN PROGRESS", "1.2.3")
        client.state(uid, "IN PROGRESS", "1.2.3")
        assert events.reports(1) == [(uid, STATE, "IN PROGRESS")]
    reads = [event for event in server.trail()[before:] if event[0] == "read"]
    assert reads == [("read", "0", ""), *[("read", "0", server.patient("P1"))] * 2]


def test_who_sees_one_patient_takes_no_ae_title(server: Site, client: Client, uid: str, title: str) -> None:
    scope, patient = "patient/Task.cruds", server.patient("P1")
    mine = Client(server, server.token(scope, patient))
    stranger = Client(server, server.node.tokens.issue(client="an-app", scope=scope, patient=patient))
    client.create(uid)
    free = stranger.subscribe(uid, title)
    assert [free.status_code, mine.subscribe(uid, title).status_code] == [403, 403]
    assert client.subscribe(GLOBAL, title).status_code == 201, "nobody is in the way"
    taken = stranger.subscribe(uid, title)
    assert (taken.status_code, taken.json()["detail"]) == (403, free.json()["detail"])
    assert mine.subscribe(uid, title).status_code == 201, "the AE title is its client's"


def test_a_client_has_only_so_many_channels(server: Site, client: Client, title: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions, "_MOST_OF_ONE", 2)
    other = server.node.tokens.issue(client="somebody-else", scope="system/Task.r")
    with channel(server.url, title, client.token), channel(server.url, title, client.token):
        with pytest.raises(InvalidStatus) as refused, channel(server.url, title[::-1], client.token):
            pass
        assert refused.value.response.status_code == 503
        with channel(server.url, title[::-1], other):
            pass


def test_a_token_that_ends_ends_the_channel(server: Site, title: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions, "_CHECK_EVERY", 0.1)
    short = server.node.tokens.issue(client="tester", scope="system/Task.r", seconds=2)
    with channel(server.url, title, short) as events:
        assert events.received.get(timeout=20) is None
        assert events.closed == 1008


def test_a_deletion_lock_keeps_what_ended(server: Site, client: Client, uid: str, title: str) -> None:
    for one in (uid, uid + ".2"):
        client.create(one)
        client("POST", f"/{one}/cancelrequest")
    client.create(uid + ".3")
    client.subscribe(uid, title, "?deletionlock=true")
    client.subscribe(uid + ".2", title)
    with server.node.database.write() as connection:
        workitems.purge(connection, micros())
    assert [client("GET", f"/{one}").status_code for one in (uid, uid + ".2", uid + ".3")] == [200, 404, 200]
    client("DELETE", f"/{uid}/subscribers/{title}")
    with server.node.database.write() as connection:
        workitems.purge(connection, micros())
    assert client("GET", f"/{uid}").status_code == 404


def test_a_subscriber_misses_no_workitem_that_comes_just_then(server: Site, client: Client, uid: str) -> None:
    """New workitems and a new subscription to the worklist at once: whoever is first, the other sees it."""
    titles = [secrets.token_hex(8) for _ in range(3)]

    def create(number: int) -> Callable[[], None]:
        return lambda: [client.create(f"{uid}.{number}.{each}").raise_for_status() for each in range(5)] and None

    def watch(title: str) -> Callable[[], None]:
        return lambda: client.subscribe(GLOBAL, title).raise_for_status()

    assert together(*(create(number) for number in range(1, 4)), *map(watch, titles)) == []
    with server.node.database.read() as connection:
        all_ = set(workitems.uids(connection))
        for title in titles:
            mine = subscribers.SUBSCRIPTION.c.ae_title == title
            targets = set(
                connection.execute(
                    subscribers.SUBSCRIPTION.select().with_only_columns(subscribers.SUBSCRIPTION.c.target).where(mine)
                ).scalars()
            )
            assert targets == all_ | {GLOBAL}
    for title in titles:
        client("DELETE", f"/{GLOBAL}/subscribers/{title}")


def test_a_whole_server_that_was_restarted(tmp_path: Path) -> None:
    """Events outlive the process; whoever subscribed to the worklist is told that the server was away."""
    with running(tmp_path) as first:
        token = first.token("system/Task.cruds")
        client = Client(Site(None, f"{first.http}/dicomweb"), token)  # type: ignore[arg-type]
        assert client.subscribe(GLOBAL).status_code == 201
        assert client.create("1.2.3").status_code == 201
        first.kill()
    with running(tmp_path) as second:
        client = Client(Site(None, f"{second.http}/dicomweb"), second.token("system/Task.cruds"))  # type: ignore[arg-type]
        with channel(f"{second.http}/dicomweb", "WATCHER", client.token) as events:
            assert events.reports(1) == [("1.2.3", STATE, "SCHEDULED")]
            away = events.next()
            assert (told(away)[1], away["00741242"]["Value"], away["00741244"]["Value"]) == (SCP, ["RESTARTED"], ["WARM START"])
            client.state("1.2.3", "IN PROGRESS", "1.2.3")
            assert events.reports(1) == [("1.2.3", STATE, "IN PROGRESS")]
