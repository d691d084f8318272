"""Retention: which studies have been kept as long as the rules want, and purging them. Without a rule nothing is ever deleted."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

from sqlalchemy import Connection, Row, exists, select

from profiles.audit_event import Agent
from profiles.person_name import folded
from server.errors import LegallyHeld, NotFound
from server.records import rejections
from server.records.catalogue import INSTANCE, PATIENT, SERIES, STUDY
from server.settings import RetentionRule
from server.store import jobs
from server.store.db import Database, micros, moment
from server.telemetry import log
from server.work.reconcile import Actor, Reconciler, Target

RETENTION: Final = "retention"
"""Kind of the job that looks once a day."""
_DAY: Final = 86_400_000_000
_PAGE: Final = 1000
_HAS_INSTANCES: Final = exists().where(INSTANCE.c.study_pk == STUDY.c.pk)  # shown or not: what was rejected has its time too
_IN_SERIES: Final = exists().where(INSTANCE.c.series_pk == SERIES.c.pk)
ACTOR: Final = Actor(Agent(identifier="retention"), rest=False)


@dataclass(frozen=True, slots=True)
class Facts:
    """What the rules ask of a study. `modalities`, `institution` as the catalogue has them; `born` None where unknown."""

    uid: str
    modalities: frozenset[str]
    institution: str
    done: date
    received: date
    born: date | None


def expired(rules: Sequence[RetentionRule], study: Facts, today: date) -> bool:
    """Whether every rule that applies to the study lets it go, and one does apply."""
    applying = [rule for rule in rules if _applies(rule, study)]
    return bool(applying) and all(_lets_go(rule, study, today) for rule in applying)


def due(connection: Connection, rules: Sequence[RetentionRule], today: date) -> Iterator[str]:
    """The Study Instance UIDs whose time is over and that no legal hold keeps."""
    last = 0
    while rules:
        rows = connection.execute(
            select(STUDY.c.pk, STUDY.c.uid, STUDY.c.institution, STUDY.c.date, STUDY.c.received, PATIENT.c.birth_date)
            .join(PATIENT, STUDY.c.patient_pk == PATIENT.c.pk)
            .where(STUDY.c.pk > last, _HAS_INSTANCES)
            .order_by(STUDY.c.pk)
            .limit(_PAGE)
        ).all()  # fmt: skip
        if not rows:
            return
        last = rows[-1].pk
        modalities = _modalities(connection, [row.pk for row in rows])
        over = [row.uid for row in rows if expired(rules, _facts(row, modalities.get(row.pk, set())), today)]
        held = rejections.held(connection, over)
        yield from (uid for uid in over if uid not in held)


class Retention:
    """Applies the rules. `run` is what the worker calls."""

    def __init__(self, database: Database, rules: Sequence[RetentionRule], reconciler: Reconciler) -> None:
        self._database = database
        self._rules = rules
        self._reconciler = reconciler

    def schedule(self) -> None:
        """Makes the daily look due, where there are rules."""
        if self._rules:
            with self._database.write() as connection:
                jobs.enqueue(connection, RETENTION, "daily", due=micros())

    def run(self, due_jobs: Sequence[jobs.Job]) -> None:
        """Purges what is due, and comes back in a day."""
        self.apply()
        with self._database.write() as connection:
            for job in due_jobs:
                if self._rules:
                    jobs.enqueue(connection, RETENTION, job.key, due=micros() + _DAY)
                jobs.done(connection, job)

    def apply(self) -> int:
        """Purges the studies whose time is over, one transaction each. Returns how many."""
        with self._database.read() as connection:
            studies = list(due(connection, self._rules, datetime.now(UTC).date()))
        purged = 0
        for uid in studies:
            try:
                self._reconciler.purge(Target(uid), actor=ACTOR, reason=rejections.RETENTION)
                purged += 1
            except (LegallyHeld, NotFound):  # since we looked
                continue
        if purged:
            log().info("studies purged: their time was over", count=purged)
        return purged


def _applies(rule: RetentionRule, study: Facts) -> bool:
    return (rule.modality is None or rule.modality in study.modalities) and (
        rule.institution is None or folded(rule.institution) == folded(study.institution)
    )


def _lets_go(rule: RetentionRule, study: Facts, today: date) -> bool:
    begun = study.done if rule.since == "study" else study.received
    grown = rule.keep_until_age is None or study.born is None or _birthday(study.born, rule.keep_until_age) <= today
    return begun + timedelta(days=rule.keep_days) < today and grown


def _birthday(born: date, years: int) -> date:
    try:
        return born.replace(year=born.year + years)
    except ValueError:  # 29 February
        return date(born.year + years, 3, 1)


def _modalities(connection: Connection, study_pks: Sequence[int]) -> dict[int, set[str]]:
    """Of all that is kept of each study; the study's own row names those of the published series only."""
    found: dict[int, set[str]] = {}
    for row in connection.execute(
        select(SERIES.c.study_pk, SERIES.c.modality).where(SERIES.c.study_pk.in_(study_pks), _IN_SERIES)
    ):
        found.setdefault(row.study_pk, set()).add(row.modality)
    return found


def _facts(row: "Row[int, str, str, str, int, str]", modalities: set[str]) -> Facts:
    received = moment(row.received).date()
    done = _date(row.date)
    return Facts(
        row.uid,
        frozenset(modalities),
        row.institution,
        # A date that is none, or to come, is a slip: the day of receipt is sure.
        done if done is not None and done <= received else received,
        received,
        _date(row.birth_date),
    )


def _date(text: str) -> date | None:
    try:
        return datetime.strptime(text, "%Y%m%d").date() if text else None  # noqa: DTZ007 a day has no zone
    except ValueError:
        return None
