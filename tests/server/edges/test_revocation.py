"""A revocation acts on the next request of every process; what somebody may do and the rows they are told are of one moment."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from httpx2 import Client
from peers import imageshare
from peers.fhir_site import FhirSite, fhir_site
from peers.smart_site import listening
from peers.together import together
from sqlalchemy import Connection, update
from starlette.requests import Request

from server.access import epoch
from server.access.oauth import clients, granting
from server.access.oauth.granting import GRANT, Granted
from server.edges import context
from server.edges.turns import Turn
from server.errors import Unauthenticated, Unavailable
from server.store.db import micros

ON_BOTH_ENGINES = True
CANARY = "Canary-of-patient-a"


@dataclass
class Town:
    site: FhirSite
    grant: str
    token: dict[str, str]

    def end(self) -> None:
        with self.site.node.database.write() as connection:
            assert granting.end(connection, self.grant, "because")

    def do(self, what: Any) -> None:
        with self.site.node.database.write() as connection:
            what(connection)


@contextmanager
def _town(folder: Path, scope: str = "user/*.rs system/*.rs patient/*.rs") -> Iterator[Town]:
    with fhir_site(folder) as site:
        site.put({"resourceType": "Patient", "id": "a", "name": [{"family": CANARY}]})
        yield Town(site, *_granted(site, scope))


def _granted(site: FhirSite, scope: str) -> tuple[str, dict[str, str]]:
    with site.node.database.write() as connection:
        clients.add(
            connection,
            clients.Client(id="app", name="app", kind="public", redirect_uris=("https://app.example.org/",), scope=scope),
        )
        grant = granting.begin(connection, Granted("", "app", scope, patient="a", expires=micros() + 3_600_000_000)).id
        token = site.node.tokens.issue_for(connection, grant=grant, client="app", subject="app", scope=scope, seconds=600).token
    return grant, {"Authorization": f"Bearer {token}"}


def _request(town: Town) -> Request:
    header = town.token["Authorization"].encode()
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/fhir/Patient/a",
        "headers": [(b"authorization", header)],
        "query_string": b"",
    }
    return Request({**scope, "app": town.site.http.app, "client": ("127.0.0.1", 1)})


def test_revocation_while_requests_run(tmp_path: Path) -> None:
    """Fifty at once, in turns and out of them, FHIR and DICOMweb: whoever asks after the commit has returned is told nothing."""
    with listening(tmp_path) as site:
        token = site.tokens()["access_token"]
        patient, study = site.patients["A"], site.studies["A"][0]
        paths = [
            f"/fhir/Patient/{patient}", f"/fhir/ImagingStudy?patient={patient}", f"/fhir/Patient/{patient}/_history",
            f"/fhir/Patient/{patient}/$everything", "/dicomweb/studies", f"/dicomweb/studies/{study}/metadata",
        ]  # fmt: skip
        told_late: list[str] = []
        told_early: list[str] = []
        ended = threading.Event()

        def ask(path: str) -> None:
            with Client(base_url=site.base, headers={"Authorization": f"Bearer {token}"}, timeout=60) as http:
                for _ in range(200):
                    is_late = ended.is_set()
                    answer = http.get(path)
                    assert answer.status_code in (200, 401), answer.text
                    if answer.status_code == 200:
                        (told_late if is_late else told_early).append(path)
                    if is_late or answer.status_code == 401:
                        assert "Alba" not in answer.text
                        return

        def end() -> None:
            until = time.monotonic() + 30
            while set(told_early) != set(paths) and time.monotonic() < until:
                time.sleep(0.005)
            with site.node.database.write() as connection:
                granting.end(connection, site.node.tokens.claims(token)["grant"], "because")
            ended.set()

        assert together(*[lambda path=path: ask(path) for path in paths * 8], end) == []
        assert set(told_early) == set(paths)
        assert told_late == []


def test_a_revocation_in_one_process_acts_in_another(tmp_path: Path) -> None:
    with _town(tmp_path) as town:
        assert town.site.get("Patient/a", town.token).status_code == 200
        url = town.site.node.settings.database
        with imageshare.node(tmp_path / "other", None if url.startswith("sqlite") else url) as other:
            if not url.startswith("sqlite"):
                with other.database.write() as connection:
                    assert granting.end(connection, town.grant, "elsewhere")
            else:
                town.end()
        assert town.site.get("Patient/a", town.token).status_code == 401


def test_a_change_between_the_decision_and_the_rows_is_noticed(tmp_path: Path) -> None:
    """A change and what it hides may be committed together: rights from before and rows from after would tell it."""
    with _town(tmp_path) as town:
        request = _request(town)
        assert context.decision(request).patient == "a"
        town.do(epoch.raise_)  # a change that is about somebody else
        with context.reading(request) as connection:
            assert isinstance(connection, Connection)
        town.do(lambda connection: connection.execute(update(GRANT).values(scope="patient/Patient.r")))
        town.do(epoch.raise_)
        with pytest.raises(Unavailable, match="has changed"), context.reading(request):
            pass
        again = _request(town)
        context.decision(again)
        with context.reading(again):
            pass
        town.end()
        with pytest.raises(Unauthenticated), context.reading(again):
            pass


def test_in_a_turn_the_epoch_is_read_once(tmp_path: Path) -> None:
    with _town(tmp_path) as town, town.site.node.database.read() as connection:
        turn = Turn(connection)
        for _ in range(3):
            request = _request(town)
            request.state.turn = turn
            assert context.decision(request).patient == "a"
        assert turn.epoch == epoch.current(connection)
        town.end()
        late = _request(town)
        late.state.turn = turn
        assert context.decision(late).patient == "a"  # of the same view as the rows that the turn reads
        with pytest.raises(Unauthenticated):
            context.decision(_request(town))


def test_who_sends_a_large_body_slowly_is_judged_when_it_is_there(tmp_path: Path) -> None:
    with _town(tmp_path, "system/*.cruds") as town:
        body = b'{"resourceType":"Basic","code":{"text":"x"}}'

        def slowly() -> Iterator[bytes]:
            yield body[:10]
            town.end()
            yield body[10:]

        headers = {**town.token, "Content-Type": "application/fhir+json"}
        answer = town.site.http.post("/fhir/Basic", headers=headers, content=slowly())
        assert answer.status_code == 401
        assert town.site.ids("Basic") == []
