"""What SQLite's planner is told of the tables that FHIR searches walk: how large they are, and how many rows have the same value.

Without being told it takes every index for one that leaves ten rows, and walks all resources of a type to find a few of them. It counts by itself
only when asked (`ANALYZE`), and then plans by what was there at that moment, which may have been nothing. So it is given the numbers of an
installation of a million resources once, and plans the same on every day (SQLite documentation, "The SQLite Query Optimizer Overview", on
editing sqlite_stat1). PostgreSQL counts by itself.
"""

from collections.abc import Mapping
from typing import Final

from sqlalchemy import Connection

# Table -> index (a table without rowid is its own) -> its rows, and how many of them share its first column, its first two, and so on.
STATISTICS: Final[Mapping[str, Mapping[str, str]]] = {
    "resource": {
        "sqlite_autoindex_resource_1": "1000000 200000 1",
        "ix_resource_updated": "1000000 200000 20 1",
        "ix_resource_date": "1000000 200000 10 1",
        "ix_resource_patient": "1000000 200000 10 2 1",
    },
    "resource_version": {
        "sqlite_autoindex_resource_version_1": "2000000 2 1",
        "ix_resource_version_type": "2000000 400000 20 2 1",
        "ix_resource_version_updated": "2000000 20 2 1",
    },
    "token": {"token": "20000000 20 2 1 1", "ix_token_resource_pk": "20000000 20 1"},
    "text_value": {"text_value": "8000000 200000 20 2 1", "ix_text_value_resource_pk": "8000000 8 2"},
    "date_value": {"date_value": "1000000 100000 20 20 1", "ix_date_value_resource_pk": "1000000 2 1"},
    "quantity_value": {"quantity_value": "1000000 10000 50 50 1", "ix_quantity_value_resource_pk": "1000000 4 2"},
    "reference_value": {"reference_value": "2000000 100000 100000 5 2 1", "ix_reference_value_resource_pk": "2000000 3 1"},
    "composite_value": {"composite_value": "1000000 20 10 10 5 1", "ix_composite_value_resource_pk": "1000000 5"},
    "compartment": {"compartment": "1000000 500000 20 10 2 1", "ix_compartment_resource_pk": "1000000 2"},
    "identity": {"sqlite_autoindex_identity_1": "500000 250000 100000 1", "ix_identity_resource_pk": "500000 1"},
}  # fmt: skip


def tell(connection: Connection) -> None:
    """Puts them into the database; connections that are opened later plan by them."""
    connection.exec_driver_sql("PRAGMA analysis_limit=1")
    connection.exec_driver_sql("ANALYZE resource")  # makes the table of them, whatever it counts
    for table, indexes in STATISTICS.items():
        connection.exec_driver_sql("DELETE FROM sqlite_stat1 WHERE tbl = ?", (table,))
        for index, numbers in indexes.items():
            connection.exec_driver_sql("INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES (?, ?, ?)", (table, index, numbers))
