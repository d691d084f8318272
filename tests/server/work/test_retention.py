"""Retention rules: what may go, when, and that nothing goes without one."""

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers.generated import Made, send
from peers.imageshare import node, publish_all
from typer.testing import CliRunner

from server.cli import app
from server.edges.context import Node
from server.records import catalogue, rejections
from server.settings import RetentionRule
from server.store import jobs
from server.work.reconcile import Reconciler, Target
from server.work.retention import ACTOR, RETENTION, Facts, Retention, due, expired

TODAY = date(2026, 11, 22)
CT = Facts("1.2", frozenset({"CT"}), "Klinik Süd", TODAY - timedelta(days=100), TODAY - timedelta(days=10), date(2015, 2, 28))


@pytest.mark.parametrize(
    ("rules", "goes"),
    [
        ([], False),
        ([RetentionRule(keep_days=99)], True),
        ([RetentionRule(keep_days=100)], False),
        ([RetentionRule(keep_days=50, since="receipt")], False),
        ([RetentionRule(keep_days=9, since="receipt")], True),
        ([RetentionRule(keep_days=1, modality="MR")], False),
        ([RetentionRule(keep_days=1, modality="CT"), RetentionRule(keep_days=500)], False),
        ([RetentionRule(keep_days=1, institution="KLINIK SUD")], True),
        ([RetentionRule(keep_days=1, institution="Klinik")], False),
        ([RetentionRule(keep_days=1, keep_until_age=18)], False),
        ([RetentionRule(keep_days=1, keep_until_age=11)], True),
    ],
)
def test_rules(rules: list[RetentionRule], goes: bool) -> None:
    assert expired(rules, CT, TODAY) is goes


@given(
    st.lists(st.builds(RetentionRule, keep_days=st.integers(1, 400), since=st.sampled_from(["study", "receipt"])), max_size=4),
    st.integers(1, 400),
)
def test_a_further_rule_never_makes_a_study_go_earlier(rules: list[RetentionRule], days: int) -> None:
    if rules and not expired(rules, CT, TODAY):
        assert not expired([*rules, RetentionRule(keep_days=days)], CT, TODAY)


@pytest.fixture
def opened(tmp_path: Path, database_url: str) -> Iterator[Node]:
    with node(tmp_path / "data", database_url, retention=[{"keep_days": 30, "modality": "CT"}]) as made:
        send(made, Made(), Made(study=2, modality="MR"), Made(study=3))
        publish_all(made)
        yield made


def _left(opened: Node) -> set[int]:
    with opened.database.read() as connection:
        return {study for study in (1, 2, 3) if catalogue.instances(connection, Made(study=study).study_uid)}


def test_the_worker_purges_what_is_over_and_spares_what_is_held(opened: Node) -> None:
    with opened.database.write() as connection:
        rejections.hold(connection, Made(study=3).study_uid, why="case", who="tester")
    with opened.database.read() as connection:
        assert list(due(connection, opened.settings.retention, date(2026, 2, 4))) == []
        assert list(due(connection, opened.settings.retention, date(2026, 2, 5))) == [Made().study_uid]
        assert list(due(connection, (), date(2999, 1, 1))) == []
    reconciler = Reconciler(opened.settings, opened.database, opened.blobs, opened.installation, opened.trail)
    Retention(opened.database, opened.settings.retention, reconciler).schedule()
    publish_all(opened)
    assert _left(opened) == {2, 3}
    with opened.database.read() as connection:
        assert jobs.is_known(connection, RETENTION, "daily"), "it looks again tomorrow"
    send(opened, Made())
    publish_all(opened)
    assert _left(opened) == {1, 2, 3}, "what is over may be sent again"


def test_what_was_rejected_has_its_time_too(opened: Node) -> None:
    reconciler = Reconciler(opened.settings, opened.database, opened.blobs, opened.installation, opened.trail)
    for study in (1, 2):
        reconciler.reject(Target(Made(study=study).study_uid), reason=rejections.RETENTION, actor=ACTOR)
    with opened.database.read() as connection:
        found = list(due(connection, opened.settings.retention, date(2026, 2, 5)))
    assert found == [Made().study_uid, Made(study=3).study_uid], "the rule is for CT, and study 2 is none"
    assert Retention(opened.database, opened.settings.retention, reconciler).apply() == 2
    assert _kept(opened) == {Made(study=2).study_uid}


def _kept(opened: Node) -> set[str]:
    """The studies of which something is kept."""
    with opened.database.read() as connection:
        return {uid for uid in (Made(study=n).study_uid for n in (1, 2, 3)) if rejections.affected(connection, uid)}


def test_the_command_lists_and_purges_only_when_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with node(tmp_path / "data") as made:
        if not made.database.is_sqlite:
            pytest.skip("the command's own database is SQLite here")
        send(made, Made())
        publish_all(made)
        command = ["retention", "--data", str(tmp_path / "data")]
        assert CliRunner().invoke(app, [*command, "--apply"]).exit_code == 0
        assert _left(made) == {1}, "no rule, no deletion"
        monkeypatch.setenv("IMAGESHARE_RETENTION", '[{"keep_days": 30}]')
        listed = CliRunner().invoke(app, command)
        assert Made().study_uid in listed.output
        assert _left(made) == {1}
        assert CliRunner().invoke(app, [*command, "--apply"]).exit_code == 0
        assert _left(made) == set()
