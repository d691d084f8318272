"""HTTP over TLS with the certificates of partners (ITI TF-2 section 3.19): a real server, real sockets."""

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from peers import imageshare
from peers.authority import Authority
from peers.shows import shows

from ihe import iti18, soap
from ihe.find_documents import FindDocuments
from server.errors import SettingsError
from server.outbound.partners import tls_context
from server.roles import https_context
from server.settings import Partner, load

PUBLIC = "https://images.example.org"
MESSAGE = soap.render_request(iti18.REQUEST_ACTION, iti18.request(FindDocuments("P1^^^&1.2&ISO").query()), "urn:uuid:1", "")
PLAIN = {"Content-Type": "application/soap+xml; charset=UTF-8"}


@dataclass
class Site:
    """A server over TLS, and the authority that it and its partners believe."""

    url: str
    authority: Authority
    folder: Path

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.removeprefix("https://").partition(":")
        return host, int(port)

    def context(self, certificate: tuple[Path, Path] | None = None) -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=str(self.authority.path))
        if certificate:
            made.load_cert_chain(*certificate)
        return made

    def ask(self, certificate: tuple[Path, Path] | None = None) -> httpx2.Response:
        with httpx2.Client(verify=self.context(certificate)) as client:
            return client.post(f"{self.url}/xds/registry", content=MESSAGE, headers=PLAIN)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("authority"))
    for name in ("server", "clinic", "unknown", "caller"):
        made.issue(name)
    return made


def named(authority: Authority, name: str) -> tuple[Path, Path]:
    return authority.folder / f"{name}.pem", authority.folder / f"{name}.key"


def serving(authority: Authority, folder: Path, **settings: object) -> Iterator[Site]:
    certificate, key = named(authority, "server")
    partners = [
        {"name": "clinic", "certificates": [str(named(authority, "clinic")[0])], "scope": "system/*.rs"},
        {"name": "caller", "certificates": [str(named(authority, "caller")[0])]},
    ]
    shown = {
        "http_tls_certificate": certificate,
        "http_tls_key": key,
        "http_tls_ca": authority.path,
        "partners": json.dumps(partners),
    }
    with imageshare.running(folder / "data", public_url=PUBLIC, **shown, **settings) as server:
        yield Site(server.http, authority, folder)


@pytest.fixture(scope="module")
def site(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    yield from serving(authority, tmp_path_factory.mktemp("site"), http_processes=2)


@shows("transaction", "ITI-19 Secure Application")
def test_a_partner_is_known_by_its_certificate(site: Site) -> None:
    answer = site.ask(named(site.authority, "clinic"))
    assert answer.status_code == 200
    assert iti18.parse_response(soap.response_of(soap.parse(answer.content))).errors == ()


def test_a_partner_needs_no_token_for_wado(site: Site) -> None:
    """RAD-55: what it asks for is not there, which nobody else is told."""
    url = f"{site.url}/wado?requestType=WADO&studyUID=1.2.3&seriesUID=1.2.3.1&objectUID=1.2.3.1.1"
    for name, status in (("clinic", 404), ("unknown", 401)):
        with httpx2.Client(verify=site.context(named(site.authority, name))) as client:
            assert client.get(url).status_code == status


def test_another_certificate_of_the_same_authority_opens_nothing(site: Site) -> None:
    assert [site.ask(named(site.authority, name)).status_code for name in ("unknown", "caller")] == [403, 403]
    assert site.ask().status_code == 403


def test_who_has_none_gets_what_is_for_everybody(site: Site) -> None:
    with httpx2.Client(verify=site.context()) as client:
        assert client.get(f"{site.url}/fhir/metadata").status_code == 200


@shows("transaction", "ITI-19 Secure Application")
def test_a_certificate_of_another_authority_is_refused_by_tls(site: Site, tmp_path: Path) -> None:
    strange = Authority(tmp_path / "strange").issue("clinic")
    with pytest.raises(httpx2.TransportError):
        site.ask(strange)


def test_nothing_is_said_without_tls_and_nothing_with_an_old_one(site: Site) -> None:
    with pytest.raises(httpx2.TransportError):
        httpx2.get(site.url.replace("https", "http") + "/livez")
    old = site.context()
    old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection(site.address) as channel, pytest.raises(OSError):
        old.wrap_socket(channel, server_hostname="127.0.0.1")


def test_certificates_may_be_required_of_everybody(authority: Authority, tmp_path: Path) -> None:
    for site in serving(authority, tmp_path, http_tls_require=True):
        with pytest.raises(httpx2.TransportError), httpx2.Client(verify=site.context()) as client:
            client.get(f"{site.url}/livez")
        assert site.ask(named(authority, "clinic")).status_code == 200


@shows("transaction", "ITI-19 Secure Application")
def test_a_partners_server_may_have_a_certificate_for_another_name(authority: Authority, tmp_path: Path) -> None:
    """IHE ATNA asks for no host name in a certificate: whether it is looked at is said for each partner."""
    other, key = authority.issue("elsewhere", host="elsewhere.example.org")
    settings = load(
        data=tmp_path, http_tls_ca=authority.path, http_tls_certificate=named(authority, "server")[0],
        http_tls_key=named(authority, "server")[1],
        partners=(Partner(name="lenient", hosts=frozenset({"127.0.0.1"}), verify_name=False),),
    )  # fmt: skip
    with socket.create_server(("127.0.0.1", 0)) as server:
        listening = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        listening.load_cert_chain(other, key)
        listening.load_verify_locations(authority.path)
        listening.verify_mode = ssl.CERT_REQUIRED
        port = server.getsockname()[1]
        assert _shown(server, listening, tls_context(settings, f"https://127.0.0.1:{port}/xds")) == "server"
        strict = settings.model_copy(update={"partners": ()})
        with pytest.raises(ssl.SSLCertVerificationError):
            _shown(server, listening, tls_context(strict, f"https://127.0.0.1:{port}/xds"))


def _shown(server: socket.socket, listening: ssl.SSLContext, calling: ssl.SSLContext) -> str:
    """The common name of what the caller shows to the listener."""
    seen: list[str] = []

    def answer() -> None:
        connection, _ = server.accept()
        with connection:
            try:
                with listening.wrap_socket(connection, server_side=True) as channel:
                    certificate = channel.getpeercert() or {}
                    seen.extend(str(value) for names in certificate["subject"] for _, value in names)  # type: ignore[union-attr]
                    channel.sendall(b"x")
            except OSError:
                return

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        with (
            socket.create_connection(server.getsockname()) as plain,
            calling.wrap_socket(plain, server_hostname="127.0.0.1") as channel,
        ):
            channel.recv(1)
    finally:
        thread.join()
    return seen[0]


def test_a_key_that_is_none_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "none.pem").write_text("nothing")
    with pytest.raises(SettingsError, match=r"http_tls_certificate: the file .* there is no certificate"):
        https_context(load(data=tmp_path, http_tls_certificate=tmp_path / "none.pem"))
