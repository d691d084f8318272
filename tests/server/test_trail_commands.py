"""`imageshare verify --trail` and `imageshare trail erase`, as somebody types them; and the seals of a server that runs."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from peers import imageshare
from sqlalchemy import select, update
from structlog.testing import capture_logs
from typer.testing import CliRunner, Result

from profiles.audit_event import REST_READ, Agent
from server import telemetry
from server.cli import app
from server.edges.context import Node
from server.records import seals
from server.records.trail import EVENT
from server.work.sealing import Sealer
from server.worker import Worker


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with imageshare.node(tmp_path / "data") as made:
        for _ in range(2):
            for patient in "abc":
                made.trail.write(made.trail.action("read", REST_READ, Agent(identifier="app"), patient_id=patient))
            Sealer(made.database).seal()
        yield made


def run(node: Node, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--data", str(node.settings.data)], env={"IMAGESHARE_DATABASE_URL": node.database.url.render_as_string(hide_password=False)})  # fmt: skip


def newest(node: Node) -> str:
    with node.database.read() as connection:
        found = seals.newest(connection)
    assert found is not None
    return found.name


def test_a_trail_that_is_whole(node: Node) -> None:
    found = run(node, "verify", "--trail", "--seal", newest(node).upper())
    assert found.exit_code == 0, found.output
    assert f"6 events are sealed, 0 wait for their seal; the newest seal is {newest(node)}" in found.stdout


def test_a_trail_that_was_changed(node: Node) -> None:
    with node.database.write() as connection:
        connection.execute(update(EVENT).where(EVENT.c.pk == 5).values(patient="x"))
    found = run(node, "verify", "--trail")
    assert found.exit_code == 1
    assert "BAD seal 2, events 4 to 6: an event was changed" in found.stdout
    assert run(node, "verify", "--seal", f"2:{'0' * 64}").exit_code == 1
    wrong = run(node, "verify", "--seal", "2")
    assert wrong.exit_code == 1
    assert "--seal is a number" in wrong.stderr


def test_erasing_is_tried_first_and_then_told(node: Node) -> None:
    arguments = ("trail", "erase", "--before", "2999-01-01", "--why", "ten years are over")
    assert "3 events under 1 seals would be erased" in run(node, *arguments).stdout
    assert "0 events under 0 seals would be erased" in run(node, "trail", "erase", "--before", "2020-01-01", "--why", "x").stdout
    done = run(node, *arguments, "--apply")
    assert done.exit_code == 0, done.output
    with node.database.read() as connection:
        assert list(connection.execute(select(EVENT.c.pk).order_by(EVENT.c.pk)).scalars()) == [4, 5, 6, 7]
    found = run(node, "verify", "--trail")
    assert found.exit_code == 0, found.output
    assert "the events under 1 seals were erased" in found.stdout


def test_a_worker_seals_what_is_written_and_says_so_in_the_log(node: Node) -> None:
    node.trail.write(node.trail.action("read", REST_READ, Agent(identifier="app")))
    stop = threading.Event()
    thread = threading.Thread(target=Worker(node).run, args=(stop,))
    with capture_logs() as logs:
        thread.start()
        time.sleep(0.1)
        stop.set()  # it seals once more at its end
        thread.join()
    assert newest(node).startswith("3:")
    assert {"event": "trail sealed", "seal": newest(node), "count": 1, "log_level": "info"} in logs
    assert {"event", "seal", "count"} <= telemetry.KEYS
