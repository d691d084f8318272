"""A million instances: pages come whole and in order, whatever is asked, and no search walks the table of instances."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from peers import many
from sqlalchemy import event, func, select

from server.records.catalogue import INSTANCE, STUDY
from server.store.db import Database
from server.store.migrations import migrate

pytestmark = pytest.mark.deep
STUDIES = 20_000


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    folder: Path = tmp_path_factory.mktemp("million")
    opened = Database(f"sqlite:///{folder / 'many.db'}", durable=False)
    migrate(opened)
    many.fill(opened, STUDIES)
    yield opened
    opened.close()


def test_there_are_a_million(database: Database) -> None:
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(INSTANCE)).scalar_one() == 1_000_000


def test_no_search_scans_instances_series_or_patients(database: Database) -> None:
    ran: list[tuple[str, Any]] = []

    def note(_: object, __: object, statement: str, parameters: Any, *___: object) -> None:
        ran.append((statement, parameters))

    event.listen(database.engine, "before_cursor_execute", note)
    scanned: dict[str, list[str]] = {}
    try:
        with database.read() as connection:
            for name, level, keys, more in many.kinds(STUDIES):
                ran.clear()
                many.ask(connection, level, keys, more)
                for statement, parameters in [*ran]:
                    plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
                    scanned.setdefault(name, []).extend(row[3] for row in plan if row[3].startswith("SCAN "))
    finally:
        event.remove(database.engine, "before_cursor_execute", note)
    assert scanned
    for name, found in scanned.items():
        # A walk along the order of the studies is what a page begins with.
        walked = [each for each in found if each.split()[1] in ("instance", "series", "patient", "study_term", "blob")]
        assert walked == [], name
        assert all("COVERING INDEX ix_study_order" in each for each in found if each.split()[1] == "study"), name


@pytest.mark.parametrize("offset", [0, 49, 50, 499_999, 500_000, 999_900, 999_999, 1_000_000])
def test_any_page_of_all_instances_is_where_it_belongs(database: Database, offset: int) -> None:
    with database.read() as connection:
        rows = many.ask(connection, "instance", {}, {"limit": 100, "offset": offset})
        studies = connection.execute(
            select(STUDY.c.uid).order_by(STUDY.c.date.desc(), STUDY.c.pk.desc()).offset(offset // 50).limit(4)
        )
        wanted = [uid for uid in studies.scalars() for _ in range(50)][offset % 50 :][:101]
    assert [bytes(row[3]).partition(b"/studies/")[2].partition(b'"')[0].decode() for row in rows] == wanted
