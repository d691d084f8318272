"""`imageshare doctor`: what it shows, and that it finds what would stop `imageshare serve`."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from peers.authority import Authority
from peers.imageshare import node
from pydantic import SecretStr

from profiles.audit_event import REST_READ, Agent
from server import doctor, rehearsal, upkeep
from server.edges.context import Node
from server.settings import Settings, load
from server.store.blobs import batch
from server.work.sealing import Sealer

FOLDER = "a folder"
OIDS = (
    "repositoryUniqueId", "Retrieve Location UID", "homeCommunityId", "sourceId", "patient identity authority",
    "authority of patient ids without issuer",
)  # fmt: skip


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
def opened(tmp_path: Path, database_url: str) -> Iterator[Node]:
    with node(tmp_path / "data", database_url) as made:
        yield made


def test_the_doctor_tells_of_the_quarantine(opened: Node) -> None:
    writer = opened.blobs.create(batch())
    writer.write(b"orphan")
    writer.commit()
    upkeep.sweep_orphans(opened.settings, alone=True)
    told = {name: (value, fine) for name, value, fine in doctor.examined(opened.settings)}
    assert told["quarantine"][0].startswith("1 ")
    assert told["quarantine"][1] is False


def test_doctor_masks_secrets(tmp_path: Path) -> None:
    url = SecretStr("postgresql+psycopg://user:s3cret@127.0.0.1:1/db?password=s3cret2&connect_timeout=1")
    told = doctor.examined(load(data=tmp_path, database_url=url))
    assert "s3cret" not in str(told)
    by_name = {name: (value, fine) for name, value, fine in told}
    assert by_name["database_url"][0] == "********"
    assert by_name["database"] == ("postgresql+psycopg://user:***@127.0.0.1:1/db?connect_timeout=1&password=masked", False)
    assert by_name["blobs"][1]
    assert by_name["http_port"] == ("8080", True)


def test_the_doctor_tells_of_misspelt_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGESHARE_QUIET_PERIODE", "3")
    with node(tmp_path / "data") as opened:
        told = {name: fine for name, _, fine in doctor.examined(opened.settings)}
    assert told["IMAGESHARE_QUIET_PERIODE"] is False
    assert doctor.unknown_variables({"IMAGESHARE_DATA": "x", "IMAGESHARE_CONFIG": "y", "HOME": "z"}) == set()


@pytest.mark.parametrize(
    ("host", "public", "fine"),
    [("0.0.0.0", None, False), ("::", None, False), ("127.0.0.1", None, True), ("0.0.0.0", "https://images.example", True)],
)
def test_the_doctor_tells_of_links_that_lead_nowhere(tmp_path: Path, host: str, public: str | None, fine: bool) -> None:
    """Retrieve URLs begin with the public URL; nobody can call 0.0.0.0."""
    told = {name: (value, fine) for name, value, fine in doctor.examined(load(data=tmp_path, http_host=host, public_url=public))}
    assert told["public URL"][1] is fine
    assert ("set public_url" in told["public URL"][0]) is not fine


@pytest.mark.parametrize(
    ("public", "told"),
    [(None, "loopback"), ("http://localhost:1", "loopback"), ("https://images.example", "answers who shows an access token")],
)
def test_the_doctor_tells_whom_soap_answers(tmp_path: Path, public: str | None, told: str) -> None:
    assert told in {name: value for name, value, _ in doctor.examined(load(data=tmp_path, public_url=public))}["SOAP"]


def test_the_doctor_makes_no_database(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "not" / "there"):
        rows = {name: (value, fine) for name, value, fine in doctor.examined(load(data=folder))}
        assert rows["database"][0].endswith("(not there yet)")
        assert rows["database"][1]
    assert list(tmp_path.iterdir()) == []


def test_the_doctor_tells_of_the_last_seal(opened: Node) -> None:
    assert "not sealed yet" in {name: value for name, value, _ in doctor.examined(opened.settings)}["trail"]
    opened.trail.write(opened.trail.action("read", REST_READ, Agent(identifier="app")))
    newest = Sealer(opened.database).seal()
    assert newest is not None
    told = {name: value for name, value, _ in doctor.examined(opened.settings)}["trail"]
    assert newest.name in told
    assert told.endswith("0 events wait for the worker")
    assert upkeep.verify_trail(opened.settings).newest == newest


def _rows(settings: Settings) -> dict[str, tuple[str, bool]]:
    return {name: (value, fine) for name, value, fine in doctor.examined(settings)}


def _bad(settings: Settings) -> list[str]:
    return [value for _, value, fine in doctor.examined(settings) if not fine]


ISSUER = "https://idp.example.org"
WRONG: dict[str, dict[str, Any]] = {
    "http_tls_certificate": {"http_tls_certificate": "FILE"},
    "http_tls_ca": {"http_tls_ca": "FILE"},
    "dicom_tls_ca": {"dicom_tls_ca": "FILE"},
    "dicom_tls_certificate": {"dicom_tls_port": 0, "dicom_tls_certificate": "FILE"},
    "mllp_tls_certificate": {"mllp_tls_port": 0, "mllp_tls_certificate": "FILE"},
    "partners.north.certificates": {"partners": [{"name": "north", "certificates": ["FILE"]}]},
    "hl7_peers.mpi.certificates": {"hl7_peers": [{"name": "mpi", "certificates": ["FILE"]}]},
    f"trusted_assertions.{ISSUER}.certificates": {"trusted_assertions": [{"issuer": ISSUER, "certificates": ["FILE"]}]},
    "communities.county.ca": {"communities": [{"name": "county", "registry": "https://x", "ca": "FILE"}]},
    "audit_repository_ca": {"audit_repository": "syslog-tls://h", "audit_repository_ca": "FILE"},
    "audit_repository_certificate": {"audit_repository": "syslog-tls://h", "audit_repository_certificate": "FILE"},
    "fetch_ca": {"fetch_ca": "FILE"},
    "affinity_domain_codes": {"affinity_domain_codes": "FILE"},
    "soap_schemas": {"soap_schemas": "FILE"},
}
"""Each setting that names a file which is loaded at the start; the file is not what it should be."""


def _with(value: Any, path: Path) -> Any:
    if isinstance(value, dict):
        return {name: _with(each, path) for name, each in value.items()}
    if isinstance(value, list):
        return [_with(each, path) for each in value]
    return path if value == "FILE" else value


@pytest.mark.parametrize("setting", WRONG)
@pytest.mark.parametrize("content", [None, "", "no certificate, and no code set", FOLDER])
def test_the_doctor_says_which_setting_names_a_file_that_is_none(tmp_path: Path, setting: str, content: str | None) -> None:
    path = tmp_path / "named"
    if content == FOLDER:
        path.mkdir()
    elif content is not None:
        path.write_text(content)
    told = _bad(load(data=tmp_path / "data", **_with(WRONG[setting], path)))
    assert told
    for each in told:
        assert each.startswith(f"{setting}: the file {path}"), each
        assert not any(mark in each for mark in ("Error", "Errno", "no certificate, and", "_ssl"))


def test_an_authority_without_any_certificate_in_it_is_refused(tmp_path: Path, authority: Authority) -> None:
    """OpenSSL takes a file that has only revocation lists, and believes nobody then."""
    _, key = authority.issue("server")
    lists = tmp_path / "lists.pem"
    lists.write_bytes(_revocations(authority))
    for path in (key, lists):
        (told,) = _bad(load(data=tmp_path / "data", http_tls_ca=path))
        assert told.startswith("http_tls_ca: ")
        assert "no certificate in PEM" in told


def _revocations(authority: Authority) -> bytes:
    now = datetime.now(UTC)
    made = (
        x509.CertificateRevocationListBuilder().issuer_name(authority.name).last_update(now).next_update(now + timedelta(days=1))
    )
    return made.sign(authority.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def test_the_doctor_loads_what_serve_loads(tmp_path: Path, authority: Authority) -> None:
    certificate, key = authority.issue("server")
    other, other_key = authority.issue("other")
    own: dict[str, Any] = {"http_tls_certificate": certificate, "http_tls_key": key, "http_tls_ca": authority.path}
    partners = [{"name": name, "certificates": [other]} for name in ("north", "south")]
    settings = load(data=tmp_path / "data", partners=partners[:1], **own)
    rows = _rows(settings)
    assert rows["HTTP over TLS"][0].startswith("the certificate is good until ")
    assert all(rows[name][1] for name in ("HTTP over TLS", "TLS to partners", "partner north"))
    (twice,) = _bad(load(data=tmp_path / "data", partners=partners, **own))
    assert twice == "partners.south.certificates: another of partners has the same certificate"
    wrong = _bad(load(data=tmp_path / "data", http_tls_certificate=certificate, http_tls_key=other_key))
    assert all(each.endswith("the key is not that of the certificate") and each.startswith("http_tls_key: ") for each in wrong)
    assert wrong


@pytest.mark.parametrize(("days", "words"), [(40, "was good until"), (-40, "is not good before")])
def test_the_doctor_tells_of_an_own_certificate_that_is_over(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch, days: int, words: str
) -> None:
    class Later(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Later":
            return cls.fromtimestamp(datetime.now(UTC).timestamp() + 86_400 * days, tz)

    certificate, key = authority.issue("server")
    monkeypatch.setattr(rehearsal, "datetime", Later)
    (told,) = _bad(load(data=tmp_path / "data", http_tls_certificate=certificate, http_tls_key=key))
    assert told.startswith("http_tls_certificate: ")
    assert words in told


def test_a_port_over_tls_without_a_certificate_is_told(tmp_path: Path) -> None:
    told = _rows(load(data=tmp_path, dicom_tls_port=0, mllp_tls_port=0))
    assert "IMAGESHARE_DICOM_TLS_CERTIFICATE" in told["DICOM over TLS"][0]
    assert "IMAGESHARE_MLLP_TLS_CERTIFICATE" in told["MLLP over TLS"][0]
    assert not told["DICOM over TLS"][1]
    assert not told["MLLP over TLS"][1]


def test_the_doctor_tells_what_a_partner_has_to_be_told(opened: Node) -> None:
    rows, site = _rows(opened.settings), opened.installation
    assert {name: rows[name][0] for name in OIDS} == {
        "repositoryUniqueId": site.repository,
        "Retrieve Location UID": site.imaging_source,
        "homeCommunityId": f"urn:oid:{site.home_community}",
        "sourceId": site.source,
        "patient identity authority": "any",
        "authority of patient ids without issuer": site.patients.oid,
    }
    ours = opened.settings.model_copy(update={"affinity_domain_authority": ("1.2.3", "1.2.4")})
    assert _rows(ours)["patient identity authority"] == ("1.2.3, 1.2.4", True)


def test_the_doctor_tells_of_a_schema_that_serve_would_not_take(opened: Node) -> None:
    assert _rows(opened.settings)["schema"][0].endswith("that of this version")
    with opened.database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")
    assert "imageshare migrate" in _rows(opened.settings)["schema"][0]
    with opened.database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    assert "newer version" in _rows(opened.settings)["schema"][0]
    assert not _rows(opened.settings)["schema"][1]


def test_the_doctor_tells_whose_the_blobs_are(tmp_path: Path) -> None:
    with node(tmp_path / "data") as one, node(tmp_path / "other") as other:
        assert _rows(one.settings)["blobs"][1]
        taken = one.settings.model_copy(update={"blob_url": f"file://{other.settings.blob_folder}"})
        assert "another installation" in _rows(taken)["blobs"][0]
        assert not _rows(taken)["blobs"][1]


def test_tables_are_shown_as_json_and_their_secrets_masked(tmp_path: Path) -> None:
    community = {"name": "county", "registry": "https://x", "token": "s3cret"}
    shown = _rows(load(data=tmp_path, communities=[community], http_tls_ca=tmp_path))["communities"][0]
    assert json.loads(shown)[0]["token"] == "********"
    assert json.loads(shown)[0]["registry"] == "https://x"
