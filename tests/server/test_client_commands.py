"""The command `imageshare client`: a client, its secret once, and no more of it when it is disabled."""

import getpass
import json
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey
from typer.testing import CliRunner

from server.access.oauth import clients
from server.cli import app
from server.records.trail import events
from server.store.db import Database
from server.store.migrations import migrate

RUN = CliRunner()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    database = Database(f"sqlite:///{tmp_path}/imageshare.db")
    migrate(database)
    database.close()
    return tmp_path


def _run(data: Path, *arguments: str, code: int = 0) -> str:
    done = RUN.invoke(app, ["client", *arguments, "--data", str(data)])
    assert done.exit_code == code, done.output
    return done.output if code else done.stdout


def _told(data: Path) -> list[dict[str, Any]]:
    """The trail, oldest first."""
    database = Database(f"sqlite:///{data}/imageshare.db")
    try:
        with database.read() as connection:
            return [json.loads(each.body) for each in reversed([*events(connection, limit=50)])]
    finally:
        database.close()


def _found(data: Path, name: str) -> clients.Client:
    database = Database(f"sqlite:///{data}/imageshare.db")
    try:
        with database.read() as connection:
            found = clients.find(connection, name)
    finally:
        database.close()
    assert found is not None
    return found


def test_an_app_with_a_secret(data: Path) -> None:
    secret = _run(data, "add", "app", "--kind", "secret", "--redirect", "https://app.example.org/back", "--may", "launch").strip()
    found = _found(data, "app")
    assert found.check_client_secret(secret)
    assert "offline_access" in found.scope
    assert "system/" not in found.scope
    shown = _run(data, "list")
    assert "app" in shown
    assert secret not in shown
    assert "already" in _run(data, "add", "app", "--redirect", "https://app.example.org/back", code=1)
    _run(data, "disable", "app")
    assert _found(data, "app").disabled
    assert "disabled" in _run(data, "list")
    _run(data, "disable", "app", "--enable")
    assert not _found(data, "app").disabled
    assert "no client" in _run(data, "disable", "nobody", code=1)


def test_every_change_is_in_the_trail(data: Path) -> None:
    """Who typed it, which client, and nothing of its secret. A refused one is none."""
    secret = _run(data, "add", "app", "--kind", "secret", "--redirect", "https://app.example.org/back").strip()
    _run(data, "add", "app", "--redirect", "https://app.example.org/back", code=1)
    _run(data, "disable", "app")
    _run(data, "disable", "app", "--enable")
    _run(data, "disable", "nobody", code=1)
    told = _told(data)
    assert [each["outcomeDesc"] for each in told] == ["client added", "client disabled", "client enabled"]
    for each in told:
        assert each["type"]["code"] == "110113"  # Security Alert
        assert {"command line", getpass.getuser()} <= {agent["who"]["identifier"]["value"] for agent in each["agent"]}
        assert each["entity"][0]["what"]["identifier"]["value"] == "app"
        assert secret not in json.dumps(each)


def test_new_keys_are_in_the_trail(data: Path) -> None:
    for arguments in ((), ("--compromised",)):
        done = RUN.invoke(app, ["keys", "rotate", *arguments, "--data", str(data)])
        assert done.exit_code == 0, done.output
        said = _told(data)[-1]
        assert said["outcomeDesc"].startswith("new signing keys")
        assert ("refused" in said["outcomeDesc"]) == bool(arguments)
        assert [each["what"]["identifier"]["value"] for each in said["entity"]] == done.stdout.split()


def test_a_token_of_the_command_line_is_in_the_trail(data: Path) -> None:
    done = RUN.invoke(app, ["token", "--scope", "system/*.rs", "--client", "script", "--data", str(data)])
    assert done.exit_code == 0, done.output
    (said,) = _told(data)
    assert [each["code"] for each in said["subtype"]] == ["ITI-71"]
    assert said["entity"][0]["what"]["identifier"]["value"] == "script"
    assert "system/*.rs" in json.dumps(said["entity"])
    assert done.stdout.strip().split(".")[2] not in json.dumps(said)


def test_a_service_with_a_key(data: Path) -> None:
    key = ECKey.generate_key("P-384", {"kid": "k1"})
    file = data / "jwks.json"
    file.write_text(json.dumps({"keys": [key.as_dict(private=False)]}))
    assert _run(data, "add", "service", "--kind", "asymmetric", "--service", "--jwks", str(file), "--patient", "p1") == ""
    found = _found(data, "service")
    assert (found.scope, found.reach, found.grant_types) == ("system/*.rs", frozenset({"p1"}), frozenset({"client_credentials"}))
    _run(data, "add", "by-url", "--kind", "asymmetric", "--service", "--jwks", "https://service.example.org/jwks")
    assert _found(data, "by-url").jwks_uri == "https://service.example.org/jwks"
    for wrong in (str(data / "none.json"), str(data)):
        assert "--jwks" in _run(data, "add", "x", "--kind", "asymmetric", "--service", "--jwks", wrong, code=1)
    file.write_text(json.dumps({"keys": [key.as_dict(private=True)] if key.is_private else []}))
    _run(data, "add", "x", "--kind", "asymmetric", "--service", "--jwks", str(file), code=1)
