"""A search for all attributes ends at so many bytes, says so, and goes on from there (PS3.18 section 8.3.4.5)."""

from pathlib import Path

import pytest
from peers.generated import Made, send
from peers.imageshare import node, publish_all
from starlette.testclient import TestClient

from server.app import create_app
from server.edges.dicomweb import search

ON_BOTH_ENGINES = True


def test_whole_instances_come_in_parts(tmp_path: Path, engine: None, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [Made(number=number) for number in range(1, 8)]
    with node(tmp_path / "data") as opened:
        send(opened, *made)
        publish_all(opened)
        client = TestClient(create_app(opened), base_url="http://127.0.0.1")
        token = opened.tokens.issue(client="viewer", scope="system/*.rs")
        client.headers["Authorization"] = f"Bearer {token}"
        path = f"/dicomweb/studies/{made[0].study_uid}/instances?includefield=all"
        monkeypatch.setattr(search, "_FIRST", 2)  # so few are read at once
        whole = client.get(path)
        assert [each["00200013"]["Value"] for each in whole.json()] == [[number] for number in range(1, 8)]
        assert "Warning" not in whole.headers
        limited = client.get(f"{path}&limit=3&offset=2")
        assert limited.json() == whole.json()[2:5]
        assert "additional results" in limited.headers["Warning"]
        monkeypatch.setattr(search, "MOST_BYTES", len(whole.content) // 3)
        found = []
        answer = client.get(path)
        while "Warning" in answer.headers:
            assert 0 < len(answer.json()) < 4
            found += answer.json()
            answer = client.get(f"{path}&offset={len(found)}")
        assert found + answer.json() == whole.json()
        monkeypatch.setattr(search, "MOST_BYTES", 1)
        assert client.get(path).json() == whole.json()[:1]  # one at least
