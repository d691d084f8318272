"""Settings: which source wins, what is refused, and that nothing secret is told."""

import re
from pathlib import Path

import pytest

from server.errors import SettingsError
from server.settings import load

IDP = '{ issuer = "x", certificates = ["a"] }'
COUNTY = '{ name = "a", registry = "https://x" }'


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("CONFIG", "DATA", "DATABASE_URL", "HTTP_PORT", "PUBLIC_URL", "DEVICES", "QUIET_PERIOD"):
        monkeypatch.delenv(f"IMAGESHARE_{name}", raising=False)


def test_arguments_over_environment_over_file_over_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(data=tmp_path).http_port == 8080
    (tmp_path / "imageshare.toml").write_text('http_port = 1\ndicom_port = 1\norganization = "From the file"\n')
    assert load(data=tmp_path).http_port == 1
    monkeypatch.setenv("IMAGESHARE_HTTP_PORT", "2")
    assert load(data=tmp_path).http_port == 2
    settings = load(data=tmp_path, http_port=3, dicom_port=None)
    assert (settings.http_port, settings.dicom_port, settings.organization) == (3, 1, "From the file")


def test_the_file_is_in_the_data_folder_or_where_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "imageshare.toml").write_text("http_port = 1\n")
    monkeypatch.setenv("IMAGESHARE_DATA", str(tmp_path))
    assert load().http_port == 1
    elsewhere = tmp_path / "elsewhere.toml"
    elsewhere.write_text("http_port = 2\n")
    monkeypatch.setenv("IMAGESHARE_CONFIG", str(elsewhere))
    assert load().http_port == 2
    monkeypatch.setenv("IMAGESHARE_CONFIG", str(tmp_path / "typo.toml"))
    with pytest.raises(SettingsError, match="IMAGESHARE_CONFIG"):
        load()


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("http_prot = 1", "http_prot"),
        ("http_port = 70000", "http_port"),
        ('http_port = "x"', "http_port"),
        ('timezone = "Mars/Olympus"', "timezone"),
        ('timezone = "Europe"', "timezone"),
        ('log_level = "LOUD"', "log_level"),
        ('ae_title = "much too long for a title"', "ae_title"),
        ('authorities = { HOSPITAL = "not an oid" }', "authorities.HOSPITAL: an OID"),
        ('devices = [{ ae_title = "CT", address = "10.0.0.300" }]', "devices.0.address"),
        ('devices = [{ ae_title = "CT", address = "10.0.0.3", colour = "red" }]', "devices.0.colour"),
        ("quiet_period = -1", "quiet_period"),
        ("this is no toml", "imageshare.toml cannot be read: it is no TOML (line 1, column 6)"),
        ('affinity_domain_authority = "1.2, HOSPITAL"', "affinity_domain_authority.1: an OID"),
        ('partners = ["north"]', "partners.0: takes a table"),
        ('partners = "north"', "partners: takes a list"),
        ('partners = [{ name = "a b" }]', "partners.0.name: a name of letters"),
        ('partners = [{ name = "a", certificates = "a.pem" }]', "partners.0.certificates: takes a list"),
        ('partners = [{ name = "a", scope = "system/*.rs system/*.xyz" }]', "partners.0.scope: word 2 is no SMART scope"),
        ('partners = [{ name = "a", verify_name = "maybe" }]', "partners.0.verify_name: takes true or false"),
        ('trusted_assertions = [{ issuer = "x" }]', "trusted_assertions.0.certificates: has to be given"),
        (
            'trusted_assertions = [{ issuer = "x", certificates = [] }]',
            "trusted_assertions.0.certificates: takes a list with at least",
        ),
        ('trusted_assertions = [{ issuer = "x", certificates = ["a"], scope = "all" }]', "trusted_assertions.0.scope: word 1"),
        (
            'trusted_assertions = [{ issuer = "x", certificates = ["a"], purposes = { T = "TREAT" } }]',
            "0.purposes: a purpose is written",
        ),
        (f"trusted_assertions = [{IDP}, {IDP}]", "trusted_assertions: two of them have the same issuer"),
        (f"communities = [{COUNTY}, {COUNTY}]", "communities: two of them have the same name"),
        (
            'communities = [{ name = "a", registry = "https://x", home_community_id = "1.2" }]',
            "communities.0.home_community_id: an OID as",
        ),
        (
            'communities = [{ name = "a", registry = "https://x", repositories = { a = "https://x" } }]',
            "communities.0.repositories.a: an OID",
        ),
        ('documents_to = [{ name = "a", url = "h/xds" }]', "documents_to.0.url: a URL of http or https"),
        ('documents_to = [{ name = "a", url = "https://h:x" }]', "documents_to.0.url: a URL of http or https"),
        ('hl7_peers = [{ name = "a", address = "10.0.0.300" }]', "hl7_peers.0.address: an address, or a network"),
        ('foreign_registry = "ftp://h"', "foreign_registry: a URL of http or https"),
        ('audit_repository = "https://h"', "audit_repository: a URL of syslog-tls or syslog-udp"),
        ('audit_repository = "syslog-tls://h/x"', "audit_repository: a host and its port"),
        ("http_tls_require = true", "http_tls_require needs http_tls_certificate and http_tls_ca"),
        ("soap_schemas = 5", "soap_schemas: takes a path"),
    ],
)
def test_a_wrong_file_is_refused_by_the_field(tmp_path: Path, line: str, names: str) -> None:
    (tmp_path / "imageshare.toml").write_text(line + "\n")
    with pytest.raises(SettingsError) as caught:
        load(data=tmp_path)
    assert names in caught.value.detail
    assert not re.search(r"Error|Input|String|Tuple|Value |instance of|\[key\]", caught.value.detail), "words of Python"


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ('documents_to = [{ name = "a", url = "URL" }]', "documents_to.0.url"),
        ('documents_to = [{ name = "a", url = "https://h", update_url = "URL" }]', "documents_to.0.update_url"),
        ('foreign_registry = "URL"', "foreign_registry"),
        ('communities = [{ name = "a", registry = "URL" }]', "communities.0.registry"),
        *(
            (
                f'communities = [{{ name = "a", registry = "https://h", {each} = {{ "1.2" = "URL" }} }}]',
                f"communities.0.{each}.1.2",
            )
            for each in ("repositories", "imaging_sources", "wado_uri", "wado_rs")
        ),
        ('trusted_assertions = [{ issuer = "URL", certificates = ["a"] }]', "trusted_assertions.0.issuer"),
        ('trusted_issuers = [{ issuer = "i", jwks_uri = "URL", patient_authority = "1.2" }]', "trusted_issuers.0.jwks_uri"),
        ('hospital_sign_in = [{ id = "a", title = "A", client_id = "c", issuer = "URL" }]', "hospital_sign_in.0.issuer"),
        ('audit_repository = "syslog-tls://user:s3cret@h"', "audit_repository"),
        ('public_url = "URL"', "public_url"),
        ('blob_url = "file://user:s3cret@h/blobs"', "blob_url"),
    ],
)
@pytest.mark.parametrize("url", ["https://user:s3cret@h/xds", "https://s3cret@h", "https://user:s3c#ret@h:x/s3cret@"])
def test_a_url_with_a_password_is_refused_and_not_told(tmp_path: Path, line: str, names: str, url: str) -> None:
    """Addresses are shown by `imageshare doctor`, and the trail has them."""
    (tmp_path / "imageshare.toml").write_text(line.replace("URL", url) + "\n")
    with pytest.raises(SettingsError) as caught:
        load(data=tmp_path)
    assert f"{names}: " in caught.value.detail
    assert "s3c" not in caught.value.detail
    assert caught.value.__cause__ is None


def test_what_the_environment_has_is_told_by_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGESHARE_PARTNERS", "north s3cret")
    with pytest.raises(SettingsError, match=r"IMAGESHARE_PARTNERS cannot be read: .* JSON") as caught:
        load(data=tmp_path)
    assert "s3cret" not in caught.value.detail


def test_a_settings_file_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "imageshare.toml"
    file.write_bytes(b"organization = '\xff'")
    with pytest.raises(SettingsError, match=r"imageshare\.toml cannot be read: it is not written in UTF-8"):
        load(data=tmp_path)

    def denied(*_: object, **__: object) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(SettingsError, match=r"imageshare\.toml cannot be read: permission denied"):
        load(data=tmp_path)


def test_secrets_are_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGESHARE_DATABASE_URL", "postgresql+psycopg://user:s3cret@host/db")
    settings = load(data=tmp_path)
    assert "s3cret" not in repr(settings)
    assert "s3cret" not in str(settings.model_dump())
    assert settings.database == "postgresql+psycopg://user:s3cret@host/db"
    monkeypatch.setenv("IMAGESHARE_HTTP_PORT", "x")
    with pytest.raises(SettingsError) as caught:
        load(data=tmp_path)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_where_things_are(tmp_path: Path) -> None:
    settings = load(data=tmp_path)
    assert settings.database == f"sqlite:///{tmp_path}/imageshare.db"
    assert settings.blob_folder == tmp_path / "blobs"
    assert settings.base_url == "http://127.0.0.1:8080"
    assert load(data=tmp_path, blob_url="file:///srv/blobs").blob_folder == Path("/srv/blobs")
    assert load(data=tmp_path, public_url="https://images.example/").base_url == "https://images.example"
    assert load(data=tmp_path, public_url="https://images.example/").http_address == "http://127.0.0.1:8080"
    assert load(data=tmp_path, public_url="").base_url == "http://127.0.0.1:8080", "a compose file's empty variable"
    assert load(data=tmp_path, http_host="::1").base_url == "http://[::1]:8080"
    assert load(data=tmp_path, public_url="https://example.org/images/").base_url == "https://example.org/images"
    with pytest.raises(SettingsError, match="blob_url"):
        load(data=tmp_path, blob_url="s3://bucket")


@pytest.mark.parametrize(
    "text",
    [
        "images.example",
        "ftp://x",
        "https://",
        "https:///x",
        "http://h:70000",
        "http://h:0",
        "http://u:p@h",
        "http://h?x",
        "http://[",
    ],
)
def test_a_public_url_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match=r"public_url.*https://images\.example\.org"):
        load(data=tmp_path, public_url=text)
