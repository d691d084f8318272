"""The command line: what it says of itself, and one line, not a traceback, for every ordinary mistake."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from peers import imageshare
from peers.generated import Made, send
from typer.testing import CliRunner

from server.access.grants import check_scopes, named_patient
from server.cli import app
from server.errors import SettingsError
from server.records import resources

AWAY = "postgresql+psycopg://u:s3cret@127.0.0.1:1/db?connect_timeout=1"
FOUR = ["token --scope system/*.rs", "serve http", "verify", "migrate"]


def run(folder: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    own = {name: value for name, value in os.environ.items() if not name.startswith("IMAGESHARE_")}
    return subprocess.run(
        [sys.executable, "-m", "server.cli", *arguments], env={**own, **environment}, cwd=folder, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip


def one_line(done: "subprocess.CompletedProcess[str]") -> str:
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("imageshare: ")
    assert done.stderr.count("\n") == 1
    assert "s3cret" not in done.stderr
    return done.stderr


@pytest.mark.parametrize("command", FOUR[:3])
def test_a_data_folder_that_is_not_there_is_told_and_not_made(tmp_path: Path, command: str) -> None:
    said = one_line(run(tmp_path, *command.split(), "--data", "nowhere"))
    assert f"there is no imageshare database at {tmp_path}/nowhere/imageshare.db" in said
    assert "--data" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", FOUR)
def test_a_database_that_is_away(tmp_path: Path, command: str) -> None:
    assert "cannot be reached" in one_line(run(tmp_path, *command.split(), "--data", "data", IMAGESHARE_DATABASE_URL=AWAY))


@pytest.mark.parametrize("command", [*FOUR, "serve --http-port 0 --dicom-port 0"])
def test_a_file_that_is_no_database(tmp_path: Path, command: str) -> None:
    (tmp_path / "imageshare.db").write_text("This is not what it is called. " * 100)
    assert "not one of imageshare's" in one_line(run(tmp_path, *command.split(), "--data", "."))


@pytest.mark.parametrize("command", ["migrate", "serve"])
def test_a_folder_that_cannot_be_made(tmp_path: Path, command: str) -> None:
    (tmp_path / "file").touch()
    assert "cannot be used" in one_line(run(tmp_path, command, "--data", "file/data"))


@pytest.mark.parametrize("public", [None, "https://images.example/pacs"])
def test_the_line_at_the_start_names_the_real_address(tmp_path: Path, public: str | None) -> None:
    named = {"public_url": public} if public else {}
    with imageshare.running(tmp_path, **named) as server:
        assert server.http.startswith("http://127.0.0.1:")
        assert server.token("system/*.rs").count(".") == 2


def test_what_it_is_comes_first() -> None:
    shown = CliRunner().invoke(app, ["--help"]).stdout
    assert "Share medical images" in shown.partition("Options:")[0]
    assert CliRunner().invoke(app, ["--version"]).stdout.startswith("imageshare 0.")


@pytest.mark.parametrize(
    ("scope", "bound", "why"),
    [
        ("", False, "nothing in it"),
        ("openid launch", False, "nothing in it"),
        ("rubbish", False, "nothing in it"),
        ("system/*.", False, "no SMART scope"),
        ("system/*.rs patient/Imagingstudy,rs", True, "no SMART scope"),
        ("patient/*.rs", False, "--patient"),
        ("patient/Imagingstudy.rs", True, "no such type"),
        ("patient/Observation.rs?category", True, "what follows the"),
        ("patient/Observation.rs?_sort=date", True, "what follows the"),
        ("patient/Observation.rs?colour=red", True, "colour"),
        ("patient/*.rs?category=laboratory", True, "category"),
    ],
)
def test_scopes_that_would_grant_nothing(scope: str, bound: bool, why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        check_scopes(scope, bound=bound)


@pytest.mark.parametrize(
    ("scope", "bound"),
    [
        ("system/*.rs", False),
        ("openid patient/*.read", True),
        ("user/Patient.r", False),
        ("patient/Observation.rs?category=laboratory", True),
        ("system/*.rs?_lastUpdated=gt2026", False),
    ],
)
def test_scopes_that_grant(scope: str, bound: bool) -> None:
    check_scopes(scope, bound=bound)


def test_a_patient_is_named_by_what_a_person_has_at_hand(tmp_path: Path, database_url: str) -> None:
    with imageshare.node(tmp_path / "data", database_url) as opened:
        send(opened, Made(study=1, patient="P1"), Made(study=2, patient="P2"))
        authority = opened.installation.patients.oid
        first = named_patient(opened.database, "P1")
        assert first != named_patient(opened.database, "P2")
        for text in (first, f"{authority}|P1", f"urn:oid:{authority}|P1", " P1 "):
            assert named_patient(opened.database, text) == first
        for text in ("P3", "1.2.3|P1", f"{authority}|", "", f"{authority}|{first}"):
            with pytest.raises(SettingsError, match="no patient here"):
                named_patient(opened.database, text)


def test_a_patient_of_whom_there_are_no_images_is_named_by_the_resources_id(tmp_path: Path, database_url: str) -> None:
    with imageshare.node(tmp_path / "data", database_url) as opened:
        with opened.database.write() as connection:
            resources.put(connection, {"resourceType": "Patient", "id": "pb"})
            resources.put(connection, {"resourceType": "Patient", "id": "gone"})
            resources.delete(connection, "Patient", "gone")
        assert named_patient(opened.database, "pb") == "pb"
        for text in ("gone", "1.2.3|pb"):
            with pytest.raises(SettingsError, match="no patient here"):
                named_patient(opened.database, text)


def test_a_patient_id_of_two_authorities_is_not_guessed(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with imageshare.node(data, authorities={"OTHER": "1.2.3.4"}) as opened:
        send(opened, Made(study=1, patient="P1"))
        send(opened, Made(study=2, patient="P1"), authority="1.2.3.4")
        with pytest.raises(SettingsError, match=r"1\.2\.3\.4") as caught:
            named_patient(opened.database, "P1")
        assert "P1" not in caught.value.detail
        bound = named_patient(opened.database, "1.2.3.4|P1")
    arguments = ["token", "--data", "data", "--scope", "patient/*.rs", "--patient"]
    assert run(tmp_path, *arguments, bound).returncode == 0
    assert "several patients" in one_line(run(tmp_path, *arguments, "P1"))
    assert "no patient here" in one_line(run(tmp_path, *arguments, "P9"))
