"""Two servers of ours: one is the EHR with its authorization server, the other has the images and asks it about tokens (RFC 7662).

What the EHR's person allowed, and what has ended there, holds at the images too.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from joserfc import jws
from peers import imageshare, smart_site
from peers.generated import send
from peers.requires import requires
from peers.smart_site import ORIGIN, SmartSite, basic
from starlette.testclient import TestClient

from server.access.oauth import clients
from server.access.oauth.clients import Client
from server.access.people import proxies
from server.app import create_app
from server.edges.context import Node
from server.errors import SettingsError
from server.records.catalogue import STUDY
from server.records.identities import IDENTITY

ON_BOTH_ENGINES = True

AUTHORITY: Final = "1.2.3.4"
OURS: Final = "https://images.example.org"


@contextmanager
def _images(data: Path, ehr: SmartSite, *, by_id: bool = False, **changed: Any) -> Iterator[Node]:
    """The server with the images. `by_id`: the Patient ids of the EHR are the Patient IDs there, and nothing is read."""
    token = ehr.tokens(scope="launch/patient patient/*.rs")["access_token"]
    identifier = ehr.fhir(f"Patient/{ehr.patients['A']}", token).json()["identifier"][0]
    mapped = {} if by_id else {"fhir_base": f"{ehr.base}/fhir", "patient_system": identifier["system"]}
    trusted = {
        "issuer": ehr.base, "introspection_endpoint": f"{ehr.base}/oauth/introspect", "client_id": "ehr", "client_secret": ehr.secret["ehr"],
        "audience": [f"{ehr.base}/fhir"], "patient_authority": AUTHORITY, "cache_seconds": 0, **mapped, **changed,
    }  # fmt: skip
    with imageshare.node(data, public_url=OURS, fetch_allowed_hosts=["127.0.0.1"], trusted_issuers=[trusted]) as node:
        send(node, *smart_site.STUDIES["A"], authority=AUTHORITY)
        imageshare.publish_all(node)
        if by_id:
            with node.database.write() as connection:
                connection.execute(IDENTITY.update().where(IDENTITY.c.type == "Patient").values(value=ehr.patients["A"]))
        yield node


def _get(node: Node, path: str, token: str, **headers: str) -> Any:
    http = TestClient(create_app(node), base_url=OURS, raise_server_exceptions=False)
    return http.get(path, headers={"Authorization": f"Bearer {token}", **headers})


def _told(ehr: SmartSite, token: str) -> dict[str, Any]:
    headers = {"Authorization": basic("ehr", ehr.secret["ehr"])}
    return dict(ehr.http.post("/oauth/introspect", data={"token": token}, headers=headers).json())


@requires(273)
@pytest.mark.parametrize("who", ["patient", "practitioner"])
def test_studies_that_were_chosen_are_all_that_opens_there_too(tmp_path: Path, who: str) -> None:
    """The limit is in the scope itself: token, token response and introspection say the same."""
    with smart_site.listening(tmp_path / "ehr") as ehr:
        with ehr.node.database.read() as connection:
            ids = {row.uid: row.id for row in connection.execute(STUDY.select())}
        chosen, other = ehr.studies["A"]
        asked = "launch/imagingstudy patient/*.rs" + (" user/*.read user/Observation.rs" if who == "practitioner" else "")
        answer: dict[str, Any] = {"studies": (ids[chosen],), "only_these": True, "patient": ehr.patients["A"]}
        told = ehr.tokens("secret", f"{asked} offline_access", who, **answer)
        again = ehr.refresh(told["refresh_token"], "secret").json()
        for tokens in (told, again):
            token = tokens["access_token"]
            assert f"patient/ImagingStudy.rs?identifier=urn:dicom:uid|urn:oid:{chosen} patient/Patient.rs" in tokens["scope"]
            assert "*" not in tokens["scope"]
            assert "Observation" not in tokens["scope"]
            claims = jws.extract_compact(token.encode()).payload
            assert tokens["scope"].encode() in claims
            assert _told(ehr, token)["scope"] == tokens["scope"]
            assert [each["resource"]["id"] for each in ehr.fhir("ImagingStudy", token).json()["entry"]] == [ids[chosen]]
            assert ehr.fhir(f"Patient/{ehr.patients['A']}", token).status_code == 200
            assert ehr.fhir(f"Patient/{ehr.patients['B']}", token).status_code == 403
            with _images(tmp_path / f"images{id(tokens)}", ehr, scope="patient/*.rs user/*.rs") as node:
                found = _get(node, "/fhir/ImagingStudy", token).json()
                assert [each["resource"]["identifier"][0]["value"] for each in found["entry"]] == [f"urn:oid:{chosen}"]
                assert [each["0020000D"]["Value"] for each in _get(node, "/dicomweb/studies", token).json()] == [[chosen]]
                assert _get(node, f"/dicomweb/studies/{chosen}/metadata", token).status_code == 200
                for path in (f"/dicomweb/studies/{other}/metadata", f"/dicomweb/studies/{other}"):
                    assert _get(node, path, token).status_code in (403, 404)
                assert _get(node, "/fhir/Patient", token).json()["total"] == 1


@pytest.mark.parametrize("by_id", [False, True])
def test_a_proxy_that_ended_has_ended_there_too(tmp_path: Path, by_id: bool) -> None:
    with smart_site.listening(tmp_path / "ehr") as ehr:
        told = ehr.tokens(who="proxy", scope="launch/patient patient/*.rs offline_access")
        token, path = told["access_token"], f"/dicomweb/studies/{ehr.studies['A'][0]}/metadata"
        with _images(tmp_path / "images", ehr, by_id=by_id) as node:
            assert _get(node, path, token).status_code == 200
            with ehr.node.database.write() as connection:
                for held in proxies.of_account(connection, ehr.people["proxy"].id):
                    proxies.end(connection, held.id)
            assert ehr.fhir("ImagingStudy", token).status_code == 403
            assert _told(ehr, token) == _told(ehr, told["refresh_token"]) == {"active": False}
            assert _get(node, path, token).status_code == 401


def test_a_viewer_of_the_ehr_in_a_browser_may_read(tmp_path: Path) -> None:
    """Its origin is named with the issuer, and is for tokens of that issuer alone."""
    with smart_site.listening(tmp_path / "ehr") as ehr, _images(tmp_path / "images", ehr, origins=[ORIGIN]) as node:
        token = ehr.tokens(scope="launch/patient patient/*.rs")["access_token"]
        for origin, known in ((ORIGIN, True), ("https://evil.example.net", False), (f"{ORIGIN}:444", False)):
            for path in ("/fhir/ImagingStudy", "/dicomweb/studies"):
                answer = _get(node, path, token, Origin=origin)
                assert answer.status_code == 200
                assert answer.headers.get("access-control-allow-origin") == (origin if known else None)
            http = TestClient(create_app(node), base_url=OURS)
            preflight = http.options("/fhir/ImagingStudy", headers={"Origin": origin, "Access-Control-Request-Method": "GET"})
            assert preflight.headers.get("access-control-allow-origin") == (origin if known else None)


def test_a_viewer_that_is_registered_here_does_not_read_what_tokens_of_the_ehr_open(tmp_path: Path) -> None:
    other = "https://other.example.org"
    with smart_site.listening(tmp_path / "ehr") as ehr, _images(tmp_path / "images", ehr, origins=[ORIGIN]) as node:
        with node.database.write() as connection:
            clients.add(connection, Client("own", "Own", "public", (f"{other}/back",), "patient/*.rs", origins=(other,)))
        token = ehr.tokens(scope="launch/patient patient/*.rs")["access_token"]
        answer = _get(node, "/fhir/ImagingStudy", token, Origin=other)
        assert answer.status_code == 200
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "origin", ["https://viewer.example.org/", "viewer.example.org", "*", "https://Viewer.example.org", "https://a b"]
)
def test_an_origin_is_one(tmp_path: Path, origin: str) -> None:
    trusted = {"issuer": "https://ehr.example.org", "jwks_uri": "https://ehr.example.org/jwks", "patient_authority": AUTHORITY}
    with (
        pytest.raises(SettingsError, match="trusted_issuers"),
        imageshare.node(tmp_path, trusted_issuers=[{**trusted, "origins": [origin]}]),
    ):
        pass
