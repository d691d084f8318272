"""Documents: what is submitted is what is found, and a replacement deprecates what it replaces."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from peers.generated import Made, send
from peers.imageshare import node, publish_all
from sqlalchemy import select

from profiles.document import DEPRECATED, HAS_MEMBER, RPLC
from server.edges.context import Node
from server.records import documents, registry


@pytest.fixture
def opened(tmp_path: Path, database_url: str) -> Iterator[Node]:
    with node(tmp_path / "data", database_url) as made:
        yield made


def _publish(opened: Node, *instances: Made) -> None:
    send(opened, *instances)
    publish_all(opened)


def test_an_entry_is_found_by_uuid_and_unique_id(opened: Node) -> None:
    _publish(opened, Made())
    with opened.database.read() as connection:
        entry = documents.current(connection, 1)
        assert entry is not None
        (found,) = documents.by_uuid(connection, [entry.entry_uuid])
        assert found.entry == entry
        assert documents.by_unique_id(connection, [entry.unique_id, "1.2.3"]) == [found]
    assert opened.blobs.size(found.blob_id) == entry.size


def test_rplc_deprecates_its_target(opened: Node) -> None:
    _publish(opened, Made(number=1))
    with opened.database.read() as connection:
        first = documents.current(connection, 1)
    _publish(opened, Made(number=2))
    assert first is not None
    with opened.database.read() as connection:
        second = documents.current(connection, 1)
        assert second is not None
        assert second.entry_uuid != first.entry_uuid
        (old,) = documents.by_uuid(connection, [first.entry_uuid])
        assert old.entry.status == DEPRECATED
        everything = documents.by_uuid(connection, [first.entry_uuid, second.entry_uuid])
        assert [found.entry.entry_uuid for found in everything] == [second.entry_uuid, first.entry_uuid], "newest first"
        kinds = connection.execute(
            select(registry.ASSOCIATION.c.type, registry.ASSOCIATION.c.source, registry.ASSOCIATION.c.target)
        ).all()
        submissions = list(
            connection.execute(
                select(registry.OBJECT.c.entry_uuid).where(registry.OBJECT.c.kind == "submission").order_by(registry.OBJECT.c.pk)
            ).scalars()
        )
    assert [tuple(row) for row in kinds if row.type == RPLC] == [(RPLC, second.entry_uuid, first.entry_uuid)]
    members = {(row.source, row.target) for row in kinds if row.type == HAS_MEMBER}
    assert members == {(submissions[0], first.entry_uuid), (submissions[1], second.entry_uuid)}
