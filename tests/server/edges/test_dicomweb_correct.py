"""Correcting over HTTP: what goes out afterwards says it, byte for byte the same but for that."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from peers.dicomweb import Site, site
from peers.generated import Made, send
from pydicom import dcmread

STUDY = f"/studies/{Made().study_uid}"
NAME = {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "Right^Name"}]}}
ID = {"00100020": {"vr": "LO", "Value": ["P2"]}}
ACCESSION = {"00080050": {"vr": "SH", "Value": ["A2"]}}


@pytest.fixture
def server(tmp_path: Path, database_url: str) -> Iterator[Site]:
    with site(tmp_path / "data", database_url) as made:
        send(made.node, Made(), Made(number=2))
        made.publish()
        yield made


def _patch(server: Site, body: object, scope: str = "system/*.cruds", patient: str | None = None) -> requests.Response:
    headers = {"Authorization": f"Bearer {server.token(scope, patient)}"}
    return server.session.patch(server.url + STUDY, json=body, headers=headers, timeout=60)


def test_what_goes_out_says_what_was_corrected(server: Site) -> None:
    etag = server.get(f"{STUDY}/metadata").headers["etag"]
    assert _patch(server, {**ID, **NAME, **ACCESSION}).status_code == 204
    told = {("P2", "Right^Name", "A2")}
    files = server.client().retrieve_study(Made().study_uid)
    assert {(one.PatientID, str(one.PatientName), one.AccessionNumber) for one in files} == told
    metadata = server.get(f"{STUDY}/metadata", **{"If-None-Match": etag})
    assert metadata.status_code == 200
    for one in (*metadata.json(), *server.get("/studies?PatientID=P2&AccessionNumber=A2&PatientName=right*").json()):
        assert (one["00100020"]["Value"], one["00080050"]["Value"]) == (["P2"], ["A2"])
        assert one["00100010"]["Value"] == [{"Alphabetic": "Right^Name"}]
    assert server.get("/studies?PatientID=P1").status_code == 204
    path = f"{STUDY}/series/{Made().series_uid}/instances/{Made().uid}"
    single = server.get(path, "application/dicom; transfer-syntax=*")
    assert dcmread(io.BytesIO(single.content)).PixelData == Made().dataset().PixelData
    assert server.get(f"{path}/frames/1", "application/octet-stream; transfer-syntax=*").content == Made().dataset().PixelData
    assert ("update", "0", server.patient("P2")) in server.trail()


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"00080018": {"vr": "UI", "Value": ["1"]}},
        {"0020000D": {"vr": "UI", "Value": ["1.2"]}},
        {"00100024": {"vr": "SQ"}},
        "x",
    ],
)
def test_what_cannot_be_corrected_is_refused(server: Site, body: object) -> None:
    assert _patch(server, body).status_code == 400
    assert server.get("/changefeed/latest?includeMetadata=false").json()["Sequence"] == 2


@pytest.mark.parametrize("scope", ["patient/*.cruds", "system/*.rs", "system/Patient.u"])
def test_only_who_may_update_every_study_corrects(server: Site, scope: str) -> None:
    assert _patch(server, ACCESSION, scope, server.patient("P1") if scope.startswith("patient") else None).status_code == 403
    assert server.trail()[-1][:2] == ("update", "4")
