"""Logs: one JSON object a line, keys from a list, no text of any exception, no text of other libraries."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from server.errors import Busy
from server.telemetry import KEYS, configure, failure, log


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def _lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_keys_that_are_not_listed_are_dropped_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    configure("worker")
    log().info("published", study_pk=7, patient_name="Secret^Name", note="Secret^Name")
    (line,) = _lines(capsys)
    assert "Secret" not in str(line)
    assert line["dropped"] == ["note", "patient_name"]
    assert (line["event"], line["study_pk"], line["role"], line["level"]) == ("published", 7, "worker", "info")
    assert set(line) <= KEYS


def test_an_exception_tells_its_type_number_and_place_only(capsys: pytest.CaptureFixture[str]) -> None:
    configure("http")
    try:
        raise Busy("Secret^Name")
    except Busy as error:
        told = failure(error)
        log().error("failed", **told)
        log().exception("failed", exc_info=error)
    assert told == {"error_type": "Busy", "error": 6002, "where": told["where"]}
    assert str(told["where"]).startswith("test_telemetry.py:")
    assert "Secret" not in capsys.readouterr().err
    assert failure(None) == {}


@pytest.mark.parametrize("level", [logging.WARNING, logging.ERROR, 25, 35, 5, 60])
def test_other_libraries_say_who_and_how_grave_but_not_what(capsys: pytest.CaptureFixture[str], level: int) -> None:
    configure("dicom", "DEBUG")
    library = logging.getLogger("somebody")
    library.setLevel(1)
    try:
        raise ValueError("Secret^Name")
    except ValueError:
        library.log(level, "dataset: %s", "Secret^Name", exc_info=True)
    text = capsys.readouterr().err
    assert "Secret" not in text
    assert "Logging error" not in text
    (line,) = [json.loads(each) for each in text.splitlines()]
    assert (line["event"], line["logger"], line["error_type"]) == ("library", "somebody", "ValueError")


def test_the_level_is_a_threshold(capsys: pytest.CaptureFixture[str]) -> None:
    configure("http", "warning")
    log().info("quiet")
    log().warning("loud")
    assert [line["event"] for line in _lines(capsys)] == ["loud"]
