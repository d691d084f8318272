"""`imageshare fetch` where a community has answered, and has nothing: no failure, and not a word less."""

from typing import Any

import orjson
import pytest
from peers.fetching import Consumer, Foreign
from peers.xds import REGISTRY, SOURCE, cx
from typer.testing import CliRunner

from ihe import ebrs
from server.cli import app


@pytest.fixture
def run(consumer: Consumer, foreign: Foreign, monkeypatch: pytest.MonkeyPatch) -> Any:
    settings = consumer.archive.node.settings
    monkeypatch.setenv("IMAGESHARE_COMMUNITIES", orjson.dumps([foreign.settings()]).decode())
    monkeypatch.setenv("IMAGESHARE_DATABASE_URL", settings.database)
    monkeypatch.setenv("IMAGESHARE_MIN_FREE_BYTES", "0")

    def command(*arguments: str, patient: str = "") -> Any:
        named = patient or cx(foreign.archive)
        return CliRunner().invoke(app, ["fetch", "county", "--patient", named, *arguments, "--data", str(settings.data)])

    return command


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--study", "2.25.99"], "no manifest of images of this patient that fits"),
        (["--document", "2.25.98"], "no document of this patient that fits"),
        (["--list", "--study", "2.25.99"], "no manifest of images of this patient that fits"),
    ],
)
def test_nothing_found_is_said_plainly(run: Any, foreign: Foreign, arguments: list[str], told: str) -> None:
    made = run(*arguments)
    assert (made.exit_code, made.stdout) == (0, f"nothing found: county has answered, and its registry has {told}\n")
    assert SOURCE not in foreign.asked
    as_json = run(*arguments, "--json")
    assert (as_json.exit_code, as_json.stdout) == (0, "")
    assert as_json.stderr.endswith(f"{told}\n")


def test_a_patient_who_has_nothing_is_said_plainly(run: Any, foreign: Foreign) -> None:
    stranger = cx(foreign.archive).replace("P1^", "P77^")
    made = run("--documents", patient=stranger)
    assert made.exit_code == 0
    assert made.stdout == "nothing found: county has answered, and its registry has no document of this patient\n"


def test_a_list_of_a_registry_that_answers_in_part_is_no_success(run: Any, foreign: Foreign) -> None:
    foreign.goes_wrong(REGISTRY, f"say {ebrs.SUCCESS}={ebrs.PARTIAL_SUCCESS}")
    made = run("--list", "--study", "2.25.1")
    assert made.exit_code == 1
    assert "uniqueId" in made.stdout
    assert "answered in part" in made.stderr
