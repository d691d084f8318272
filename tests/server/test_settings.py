"""Settings: which source wins, what is refused, and that nothing secret is told."""

from pathlib import Path

import pytest

from server.errors import SettingsError
from server.settings import load


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
        ('authorities = { HOSPITAL = "not an oid" }', "authorities.HOSPITAL"),
        ('devices = [{ ae_title = "CT", address = "10.0.0.300" }]', "devices.0.address"),
        ('devices = [{ ae_title = "CT", address = "10.0.0.3", colour = "red" }]', "devices.0.colour"),
        ("quiet_period = -1", "quiet_period"),
        ("this is no toml", "cannot be read"),
    ],
)
def test_a_wrong_file_is_refused_by_the_field(tmp_path: Path, line: str, names: str) -> None:
    (tmp_path / "imageshare.toml").write_text(line + "\n")
    with pytest.raises(SettingsError) as caught:
        load(data=tmp_path)
    assert names in caught.value.detail


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
