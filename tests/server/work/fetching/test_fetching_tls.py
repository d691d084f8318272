"""Fetching over mutual TLS from a community that is a real server of ours, with certificates of the community's own authority."""

import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from peers import imageshare
from peers.authority import Authority
from peers.fetching import Consumer, Foreign
from peers.xds import REGISTRY, REPOSITORY, SOURCE, Archive, instance

from profiles.identifiers import PatientIdentifier
from server.errors import SettingsError, Unavailable
from server.outbound.community import CommunityClient
from server.records.installation import installation
from server.settings import Community, load
from server.store.db import Database
from server.work.fetching.asked import Asked

pytestmark = pytest.mark.timeout(180)
IMAGES = 3


@dataclass
class Site:
    """The community: its server, its authority, which also issued what we show there."""

    url: str
    authority: Authority
    patient: str
    token: str
    community: dict[str, Any]

    def shown(self, name: str) -> dict[str, Path]:
        return {"certificate": self.authority.folder / f"{name}.pem", "key": self.authority.folder / f"{name}.key"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    authority = Authority(folder / "county")
    for name in ("server", "ours", "unknown"):
        authority.issue(name)
    settings = {
        "http_tls_certificate": authority.folder / "server.pem", "http_tls_key": authority.folder / "server.key",
        "http_tls_ca": authority.path, "http_tls_require": True, "public_url": "https://county.example",
        "partners": json.dumps(
            [{"name": "us", "certificates": [str(authority.folder / "ours.pem")], "scope": "system/*.rs"}]
        ),
    }  # fmt: skip
    with imageshare.running(folder / "data", **settings) as server:
        context = ssl.create_default_context(cafile=str(authority.path))
        context.load_cert_chain(authority.folder / "ours.pem", authority.folder / "ours.key")
        with httpx2.Client(base_url=server.http, verify=context, headers={"Authorization": f"Bearer {server.token()}"}) as http:
            _stored(http, [instance(study="2.25.9", series="2.25.9.1") for _ in range(IMAGES)])
        database = Database(load(data=folder / "data").database)
        here = installation(database)
        database.close()
        community = {
            "name": "county", "registry": server.http + REGISTRY, "repositories": {here.repository: server.http + REPOSITORY},
            "imaging_sources": {here.imaging_source: server.http + SOURCE}, "wado_uri": {here.imaging_source: f"{server.http}/wado"},
            "wado_rs": {here.imaging_source: f"{server.http}/dicomweb"}, "patient_authority": here.patients.oid, "seconds": 10,
        }  # fmt: skip
        yield Site(server.http, authority, f"P1^^^&{here.patients.oid}&ISO", server.token("system/*.rs"), community)


def _stored(http: httpx2.Client, files: list[bytes]) -> None:
    parts = b"".join(b"--b1\r\nContent-Type: application/dicom\r\n\r\n" + each + b"\r\n" for each in files) + b"--b1--\r\n"
    kind = 'multipart/related; type="application/dicom"; boundary=b1'
    assert http.post("/dicomweb/studies", content=parts, headers={"Content-Type": kind}).status_code == 200
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if http.get("/fhir/DocumentReference?_summary=count").json()["total"]:
            return
        time.sleep(0.05)
    raise AssertionError("the study is not published")


@contextmanager
def consuming(site: Site, folder: Path, settings: dict[str, Any], **shown: Any) -> Iterator[Consumer]:
    community = {**site.community, **shown}
    with imageshare.node(folder / "ours", communities=(community,), **settings) as node:
        archive = Archive(node)
        yield Consumer(archive, Foreign(archive), node.settings.communities[0])


@pytest.mark.parametrize("by", ["rad69", "wado-uri", "wado-rs"])
def test_a_community_with_certificates_of_its_own(site: Site, tmp_path: Path, by: Any) -> None:
    """Ours for everybody else are of another authority."""
    own = Authority(tmp_path / "own")
    certificate, key = own.issue("server")
    settings = {"http_tls_certificate": certificate, "http_tls_key": key, "http_tls_ca": own.path}
    with consuming(site, tmp_path, settings, ca=site.authority.path, token=site.token, **site.shown("ours")) as consumer:
        (made,) = consumer.fetch(patient=site.patient, by=by)
    assert (made.complete, made.new, made.error) == (True, IMAGES, "")


def test_the_certificate_of_this_server_is_shown_where_the_community_has_none(site: Site, tmp_path: Path) -> None:
    ours = site.shown("ours")
    settings = {"http_tls_certificate": ours["certificate"], "http_tls_key": ours["key"], "http_tls_ca": site.authority.path}
    with consuming(site, tmp_path, settings) as consumer:
        (made,) = consumer.fetch(patient=site.patient)
    assert made.complete


@pytest.mark.parametrize(
    ("shown", "told"),
    [
        ({}, "signed by nobody whom this server trusts"),
        ({"ca": "another"}, "signed by nobody whom this server trusts"),
        ({"ca": "county", "name": "localhost"}, "for another host"),
        ({"ca": "county"}, "the server does not take the certificate that it is shown, or wants one|the connection"),
        (
            {"ca": "county", "of": "another"},
            "the server does not take the certificate that it is shown, or wants one|the connection",
        ),
        ({"ca": "county", "of": "unknown"}, "SOAP fault"),
    ],
)
def test_what_is_wrong_with_certificates_is_told(site: Site, tmp_path: Path, shown: dict[str, str], told: str) -> None:
    another = Authority(tmp_path / "another", name="another")
    pair = another.issue("another") if shown.get("of") == "another" else tuple(site.shown("unknown").values())
    community = Community.model_validate(
        {
            **site.community,
            "registry": site.community["registry"].replace("127.0.0.1", shown.get("name", "127.0.0.1")),
            **({"ca": {"another": another, "county": site.authority}[shown["ca"]].path} if "ca" in shown else {}),
            **({"certificate": pair[0], "key": pair[1]} if "of" in shown else {}),
        }
    )
    with CommunityClient(load(data=tmp_path), community) as client, pytest.raises(Unavailable) as raised:
        client.query(_query(site))
    assert any(each in raised.value.detail for each in told.split("|"))


def test_files_that_are_no_certificates_are_told_by_name(site: Site, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("none")
    community = Community.model_validate({**site.community, "ca": tmp_path / "ca.pem"})
    with CommunityClient(load(data=tmp_path), community) as client, pytest.raises(SettingsError, match=r"ca\.pem"):
        client.query(_query(site))


def _query(site: Site) -> Any:
    return next(Asked(PatientIdentifier.from_cx(site.patient)).queries())


@pytest.mark.parametrize("tls12", [False, True])
def test_a_server_that_says_what_it_wants_is_understood(site: Site, tmp_path: Path, tls12: bool) -> None:
    """By an alert (RFC 8446 section 6.2), which in TLS 1.3 comes after the handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(site.authority.folder / "server.pem", site.authority.folder / "server.key")
    context.load_verify_locations(site.authority.path)
    context.verify_mode = ssl.CERT_REQUIRED
    if tls12:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def refuse() -> None:
            connection, _ = listening.accept()
            with connection, pytest.raises(ssl.SSLError):
                context.wrap_socket(connection, server_side=True)

        thread = threading.Thread(target=refuse)
        thread.start()
        url = f"https://127.0.0.1:{listening.getsockname()[1]}/xds"
        community = Community.model_validate({**site.community, "registry": url, "ca": site.authority.path})
        with (
            CommunityClient(load(data=tmp_path), community) as client,
            pytest.raises(Unavailable, match=r"or wants one|may want a certificate"),
        ):
            client.query(_query(site))
        thread.join(20)
