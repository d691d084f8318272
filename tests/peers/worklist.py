"""Workitems as a scheduler sends them, and a client of the worklist service."""

import json
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import requests
from peers.dicomweb import Site
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

Item = dict[str, Any]
JSON = "application/dicom+json"
GLOBAL = "1.2.840.10008.5.1.4.34.5"
FILTERED = "1.2.840.10008.5.1.4.34.5.1"


def attribute(vr: str, *values: object) -> dict[str, object]:
    return {"vr": vr, "Value": list(values)} if values else {"vr": vr}


def code(value: str, scheme: str = "99TEST", meaning: str = "a test") -> Item:
    return {"00080100": attribute("SH", value), "00080102": attribute("SH", scheme), "00080104": attribute("LO", meaning)}


def step(patient: str = "P1", **more: dict[str, object]) -> Item:
    """A workitem with what PS3.4 table CC.2.5-3 asks of its creator; `more` by tags as `t00741204=...`."""
    return {
        "00741200": attribute("CS", "MEDIUM"),
        "00741202": attribute("LO", "CAD"),
        "00741204": attribute("LO", "Find nodules"),
        "00404005": attribute("DT", "20261122101500"),
        "00404018": attribute("SQ", code("110004", "DCM", "Computer Aided Detection")),
        "00404041": attribute("CS", "READY"),
        "00741000": attribute("CS", "SCHEDULED"),
        "00100010": attribute("PN", {"Alphabetic": "Doe^Jane"}),
        "00100020": attribute("LO", patient),
        **{name[1:]: value for name, value in more.items()},
    }


def performed() -> Item:
    """What makes a workitem fit to be COMPLETED."""
    return {
        "00741216": attribute(
            "SQ",
            {
                "00404028": attribute("SQ", code("STATION1")),
                "00404050": attribute("DT", "20261122101600"),
                "00404019": attribute("SQ", code("110004", "DCM")),
                "00404051": attribute("DT", "20261122101700"),
                "00404033": attribute("SQ"),
            },
        )
    }


def discontinued() -> Item:
    """What makes a workitem fit to be CANCELED by its performer."""
    return {"00741002": attribute("SQ", {"0074100E": attribute("SQ", code("110500", "DCM", "Doctor canceled procedure"))})}


@dataclass
class Client:
    """The worklist service of a site, as one client calls it."""

    site: Site
    token: str

    def __call__(self, method: str, path: str = "", body: object = None, **headers: str) -> requests.Response:
        given = {"Authorization": f"Bearer {self.token}", "Accept": JSON, "Content-Type": JSON}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
        return requests.request(method, f"{self.site.url}/workitems{path}", data=data, headers=given, timeout=60)

    def create(self, uid: str, item: Item | None = None) -> requests.Response:
        return self("POST", f"?{uid}", [item or step()])

    def read(self, uid: str) -> Item:
        answer = self("GET", f"/{uid}")
        assert answer.status_code == 200, answer.text
        (item,) = answer.json()
        return dict(item)

    def state(self, uid: str, state: str, lock: str | None) -> requests.Response:
        body = {"00741000": attribute("CS", state), **({"00081195": attribute("UI", lock)} if lock else {})}
        return self("PUT", f"/{uid}/state", [body])

    def update(self, uid: str, changes: Item, lock: str | None = None) -> requests.Response:
        return self("POST", f"/{uid}" + (f"?{lock}" if lock else ""), [changes])

    def subscribe(self, target: str, title: str = "WATCHER", query: str = "") -> requests.Response:
        return self("POST", f"/{target}/subscribers/{title}{query}")


@dataclass
class Channel:
    """An open event channel, and what came through it."""

    received: "queue.Queue[Item | None]" = field(default_factory=queue.Queue)
    closed: int = 0

    def next(self, timeout: float = 20) -> Item:
        event = self.received.get(timeout=timeout)
        assert event is not None, f"the channel was closed: {self.closed}"
        return event

    def reports(self, count: int) -> list[tuple[str, int, str]]:
        """Workitem, type and state (empty where it tells none) of the next events."""
        return [told(self.next()) for _ in range(count)]


def told(event: Item) -> tuple[str, int, str]:
    state = event.get("00741000", {}).get("Value", [""])[0]
    return event["00001000"]["Value"][0], event["00001002"]["Value"][0], state


@contextmanager
def channel(url: str, title: str, token: str | None) -> Iterator[Channel]:
    """`url` is that of the site."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    address = f"ws{url.removeprefix('http').removesuffix('/dicomweb')}/ws/subscribers/{title}"
    made = Channel()
    with connect(address, additional_headers=headers, open_timeout=20, proxy=None) as socket:

        def read() -> None:
            try:
                for message in socket:
                    assert isinstance(message, str)
                    made.received.put(json.loads(message))
            except ConnectionClosed:
                pass
            made.closed = socket.close_code or 0
            made.received.put(None)

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        yield made
    thread.join(10)
