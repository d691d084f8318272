"""Delete, reject and restore by request: who may, what is told, and that every search and retrieval follows."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from peers.dicomweb import Site, site
from peers.generated import Made, send

FIRST = [Made(series=1, number=1), Made(series=1, number=2), Made(series=2, number=1, modality="MR")]
STUDY = f"/studies/{FIRST[0].study_uid}"
SERIES = f"{STUDY}/series/{FIRST[0].series_uid}"
INSTANCE = f"{SERIES}/instances/{FIRST[0].uid}"


@pytest.fixture
def server(tmp_path: Path, database_url: str) -> Iterator[Site]:
    with site(tmp_path / "data", database_url) as made:
        send(made.node, *FIRST)
        made.publish()
        yield made


def _ask(server: Site, method: str, path: str, scope: str = "system/*.cruds", patient: str | None = None) -> requests.Response:
    headers = {"Authorization": f"Bearer {server.token(scope, patient)}"}
    return server.session.request(method, server.url + path, headers=headers, timeout=60)


def _found(server: Site) -> set[str]:
    answer = server.get(f"{STUDY}/instances")
    return {one["00080018"]["Value"][0] for one in answer.json()} if answer.status_code == 200 else set()


@pytest.mark.parametrize(("path", "left"), [(INSTANCE, {1, 2}), (SERIES, {2}), (STUDY, set())])
def test_what_is_deleted_is_gone(server: Site, path: str, left: set[int]) -> None:
    answer = _ask(server, "DELETE", path)
    assert (answer.status_code, answer.content) == (204, b"")
    assert _found(server) == {FIRST[number].uid for number in left}
    for face in ("", "/metadata", "/thumbnail"):
        assert server.get(path + face).status_code == 404
    assert server.get("/studies").status_code == (200 if left else 204)
    assert _ask(server, "DELETE", path).status_code == 404
    assert ("delete", "0", server.patient("P1")) in server.trail()
    refusal = server.store([FIRST[0].part10()])
    assert refusal.status_code == 409
    assert refusal.json()["00081198"]["Value"][0]["00081197"]["Value"] == [0xA770]


def test_the_official_client_deletes(server: Site) -> None:
    server.client().delete_study(FIRST[0].study_uid)
    assert _found(server) == set()


def test_rejected_and_restored(server: Site) -> None:
    assert _ask(server, "POST", f"{SERIES}/reject/113001%5EDCM").status_code == 204
    assert _found(server) == {FIRST[2].uid}
    assert {one["0020000E"]["Value"][0] for one in server.get(f"{STUDY}/series").json()} == {FIRST[2].series_uid}
    (study,) = server.get("/studies?ModalitiesInStudy=MR").json()
    assert (study["00201206"]["Value"], study["00201208"]["Value"]) == ([1], [1])
    assert server.get("/studies?ModalitiesInStudy=CT").status_code == 204
    assert _ask(server, "POST", f"{STUDY}/restore").status_code == 204
    assert _found(server) == {made.uid for made in FIRST}
    assert _ask(server, "POST", f"{STUDY}/restore").status_code == 404
    assert _ask(server, "POST", f"{STUDY}/reject/113002").status_code == 400
    assert _ask(server, "POST", f"{STUDY}/reject/quality").status_code == 400
    assert _ask(server, "POST", "/studies/1.2.3/reject/113001").status_code == 404


@pytest.mark.parametrize("scope", ["system/*.cru", "system/Patient.d", "patient/*.cruds", "system/ImagingStudy.rs"])
@pytest.mark.parametrize(("method", "path"), [("DELETE", STUDY), ("POST", f"{STUDY}/reject/113001^DCM")])
def test_only_who_may_do_it_to_every_patient_removes(server: Site, scope: str, method: str, path: str) -> None:
    patient = server.patient("P1") if scope.startswith("patient") else None
    assert _ask(server, method, path, scope, patient).status_code == 403
    assert server.trail()[-1][:2] == ("delete", "4")
    assert _found(server) == {made.uid for made in FIRST}


def test_nobody_removes_without_a_token(server: Site) -> None:
    assert server.session.delete(server.url + STUDY, timeout=60).status_code == 401
    assert _found(server) == {made.uid for made in FIRST}


def test_metadata_has_another_etag_after_a_rejection(server: Site) -> None:
    before = server.get(f"{STUDY}/metadata").headers["etag"]
    _ask(server, "POST", f"{INSTANCE}/reject/113001")
    after = server.get(f"{STUDY}/metadata", **{"If-None-Match": before})
    assert (after.status_code, len(after.json())) == (200, 2)
