"""Who is not known cannot fill the trail, whichever door is knocked at; who is known has an entry for each refusal."""

from pathlib import Path

import orjson
from peers.imageshare import node
from peers.scanner import associated, listening
from starlette.testclient import TestClient

from server.app import create_app
from server.edges.context import Node
from server.records.trail import events

ON_BOTH_ENGINES = True


def bodies(opened: Node) -> list[bytes]:
    with opened.database.read() as connection:
        return [event.body for event in events(connection, limit=1000)]


def test_requests_without_a_token(tmp_path: Path, engine: None) -> None:
    with node(tmp_path / "data") as opened:
        client = TestClient(create_app(opened), base_url="http://127.0.0.1")
        for number in range(5):
            assert client.get("/dicomweb/studies", params={"x": str(number) + "y" * 40_000}).status_code == 401
        (told,) = bodies(opened)
        assert len(told) < 4000
        assert client.get("/fhir/Patient").status_code == 401
        assert len(bodies(opened)) == 1
        for path in ("/dicomweb/studies", "/fhir/Patient"):
            assert client.get(path, headers={"Authorization": "Bearer none"}).status_code == 401
        assert len(bodies(opened)) == 2


def test_refusals_of_the_known_stay_one_each(tmp_path: Path, engine: None) -> None:
    with node(tmp_path / "data") as opened:
        client = TestClient(create_app(opened), base_url="http://127.0.0.1")
        token = opened.tokens.issue(client="viewer", scope="patient/Patient.rs", patient="nobody")
        for _ in range(5):
            assert client.get("/dicomweb/studies", headers={"Authorization": f"Bearer {token}"}).status_code == 403
        assert len(bodies(opened)) == 5


def test_associations_that_are_rejected(tmp_path: Path, engine: None) -> None:
    with node(tmp_path / "data") as opened, listening(opened) as scp:
        for number in range(10):
            with associated(scp, called=f"NOBODY{number}") as association:
                assert not association.is_established
        assert len(bodies(opened)) == 1
        opened.strangers.flush()
        assert any(orjson.loads(each)["outcomeDesc"].endswith("(refused 9 more times)") for each in bodies(opened))
