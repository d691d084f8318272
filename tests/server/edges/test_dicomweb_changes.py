"""The change feed over HTTP: what it tells, to whom, and that it never runs backwards."""

from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
from peers.dicomweb import Site, site
from peers.generated import Made, send
from sqlalchemy import select

from server.records import changes
from server.records.catalogue import INSTANCE

FIRST = [Made(number=1), Made(number=2), Made(study=2, patient="P2")]
STUDY = FIRST[0].study_uid


@pytest.fixture
def server(tmp_path: Path, database_url: str) -> Iterator[Site]:
    with site(tmp_path / "data", database_url) as made:
        send(made.node, *FIRST)
        made.publish()
        yield made


def _reject(server: Site, made: Made) -> None:
    headers = {"Authorization": f"Bearer {server.token()}"}
    path = f"/studies/{made.study_uid}/series/{made.series_uid}/instances/{made.uid}/reject/113001"
    assert server.session.post(server.url + path, headers=headers, timeout=60).status_code == 204


def test_the_feed_tells_in_the_order_of_the_commits(server: Site) -> None:
    _reject(server, FIRST[1])
    told = server.get("/changefeed?includeMetadata=false")
    assert told.headers["content-type"] == "application/json"
    assert [(one["Sequence"], one["SopInstanceUid"], one["Action"], one["Event"], one["State"]) for one in told.json()] == [
        (1, FIRST[0].uid, "create", "create", "current"),
        (2, FIRST[1].uid, "create", "create", "replaced"),
        (3, FIRST[2].uid, "create", "create", "current"),
        (4, FIRST[1].uid, "delete", "reject", "deleted"),
    ]
    assert [one["Sequence"] for one in server.get("/changefeed?offset=1&limit=2").json()] == [2, 3]
    assert server.get("/changefeed?offset=4").json() == []
    assert server.get("/changefeed/latest").json()["Sequence"] == 4


def test_metadata_come_with_what_is_current(server: Site) -> None:
    _reject(server, FIRST[1])
    for one in server.get("/changefeed").json():
        if one["State"] == "current":
            assert one["Metadata"]["00080018"]["Value"] == [one["SopInstanceUid"]]
            assert one["Metadata"]["7FE00010"]["BulkDataURI"].startswith(f"{server.url}/studies/")
        else:
            assert "Metadata" not in one


def test_windows_of_time(server: Site) -> None:
    first, *_ = server.get("/changefeed").json()
    at = first["Timestamp"]
    assert server.get(f"/changefeed?endTime={at}").json() == []
    assert len(server.get(f"/changefeed?startTime={at}").json()) == 3
    assert server.get("/changefeed?startTime=2999-01-01T00:00:00Z").json() == []


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=201", "offset=-1", "offset=x", "startTime=today", "includeMetadata=maybe", "other=1", "limit=1&Limit=2"],
)
def test_what_cannot_be_asked_is_refused(server: Site, query: str) -> None:
    assert server.get(f"/changefeed?{query}").status_code == 400


@pytest.mark.parametrize("scope", ["patient/*.cruds", "system/ImagingStudy.r", "system/Patient.rs"])
def test_only_who_sees_every_patient_reads_the_feed(server: Site, scope: str) -> None:
    patient = server.patient("P1") if scope.startswith("patient") else None
    for path in ("/changefeed", "/changefeed/latest"):
        assert server.get(path, token=server.token(scope, patient)).status_code == 403
    assert server.trail()[-1][:2] == ("search", "4")


def test_reading_is_in_the_trail_of_each_patient(server: Site) -> None:
    server.get("/changefeed")
    assert {patient for _, _, patient in server.trail()[-2:]} == {server.patient("P1"), server.patient("P2")}


def test_an_empty_feed(tmp_path: Path, database_url: str) -> None:
    with site(tmp_path / "data", database_url) as server:
        assert server.get("/changefeed").json() == []
        assert server.get("/changefeed/latest").status_code == 204


def test_a_reader_who_follows_writers_misses_nothing(server: Site) -> None:
    """Many transactions at once: whoever reads up to a number never sees a lower one appear later."""
    node = server.node
    with node.database.read() as connection:
        pks = list(connection.execute(select(INSTANCE.c.pk).order_by(INSTANCE.c.pk)).scalars())

    def write(pk: int) -> None:
        for _ in range(10):
            with node.database.write() as connection:
                changes.record(connection, "update", [pk])

    threads = [Thread(target=write, args=(pk,)) for pk in pks]
    for thread in threads:
        thread.start()
    seen: list[int] = []
    while any(thread.is_alive() for thread in threads) or len(seen) < 33:
        with node.database.read() as connection:
            found = changes.read(connection, offset=seen[-1] if seen else 0)
        seen += [one.sequence for one in found]
    assert seen == list(range(1, 34))
