"""Search parameters that clients define: active at once, indexed in the background from where it stopped, refused where they can't be."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from peers.imageshare import node, publish_all
from peers.together import together
from sqlalchemy import select

from profiles.fhir.own_parameters import OWN
from server.edges.context import Node
from server.errors import Invalid
from server.records import index_rows, parameters, reindexing, resources
from server.records.index_keys import parameter_hash, token_hash
from server.records.resources import RESOURCE
from server.store import jobs
from server.store.many import many
from server.work.reindex import REINDEX

HAIR: dict[str, Any] = {
    "resourceType": "SearchParameter", "id": "hair", "url": "http://example.org/hair", "name": "hair", "status": "active",
    "description": "colour of hair", "code": "hair", "base": ["Patient"], "type": "token",
    "expression": "Patient.extension.where(url = 'http://example.org/hair').value",
}  # fmt: skip
RED: dict[str, Any] = {
    "resourceType": "Patient", "gender": "female", "extension": [{"url": "http://example.org/hair", "valueCode": "red"}],
}  # fmt: skip


@pytest.fixture
def opened(tmp_path: Path, database_url: str) -> Iterator[Node]:
    with node(tmp_path / "data", database_url) as made:
        yield made


def _put(opened: Node, resource: dict[str, Any]) -> None:
    with opened.database.write() as connection:
        resources.put(connection, resource)


def _red(opened: Node) -> set[str]:
    with opened.database.read() as connection:
        found = select(RESOURCE.c.id).join(index_rows.TOKEN, index_rows.TOKEN.c.resource_pk == RESOURCE.c.pk)
        return set(
            connection.execute(found.where(index_rows.TOKEN.c.hash == token_hash("Patient", "hair", None, "red"))).scalars()
        )


def test_a_parameter_works_at_once_for_what_comes_and_by_a_job_for_what_is_here(opened: Node) -> None:
    _put(opened, {**RED, "id": "before"})
    with opened.database.read() as connection:
        assert parameters.active(connection) == OWN
    _put(opened, HAIR)
    _put(opened, {**RED, "id": "after"})
    with opened.database.read() as connection:
        assert parameters.active(connection)["Patient"]["hair"].expression == HAIR["expression"]
        assert jobs.is_known(connection, REINDEX, "Patient")
        (progress,) = parameters.indexing(connection, ["Patient"])
        assert (progress.codes, progress.percent) == ({"hair"}, 0)
    assert _red(opened) == {"after"}
    publish_all(opened)
    assert _red(opened) == {"before", "after"}
    with opened.database.read() as connection:
        assert parameters.indexing(connection) == []
        assert not jobs.is_known(connection, REINDEX, "Patient")


@pytest.mark.parametrize("ends", ["retired", "deleted"])
def test_a_parameter_that_is_no_more_leaves_no_rows(opened: Node, ends: str) -> None:
    _put(opened, HAIR)
    _put(opened, {**RED, "id": "one"})
    if ends == "retired":
        _put(opened, {**HAIR, "status": "retired"})
    else:
        with opened.database.write() as connection:
            resources.delete(connection, "SearchParameter", "hair")
    publish_all(opened)
    assert _red(opened) == set()
    with opened.database.read() as connection:
        assert parameters.active(connection) == OWN


def test_an_index_goes_on_where_it_stopped(opened: Node) -> None:
    for number in range(5):
        _put(opened, {**RED, "id": f"p{number}"})
    _put(opened, HAIR)
    with opened.database.write() as connection:
        assert reindexing.some(connection, "Patient", limit=2, base="")
    with pytest.raises(RuntimeError), opened.database.write() as connection:
        reindexing.some(connection, "Patient", limit=2, base="")
        raise RuntimeError("killed")
    assert _red(opened) == {"p0", "p1"}
    with opened.database.read() as connection:
        assert parameters.indexing(connection)[0].percent > 0
    with opened.database.write() as connection:
        assert reindexing.some(connection, "Patient", limit=2, base="")
        assert not reindexing.some(connection, "Patient", limit=2, base="")
    assert _red(opened) == {f"p{number}" for number in range(5)}


def test_rows_that_were_lost_or_are_wrong_come_right(opened: Node) -> None:
    """As after a new version of the server, whose rows have another form."""
    _put(opened, {**RED, "id": "p"})
    with opened.database.write() as connection:
        pk = connection.execute(select(RESOURCE.c.pk).where(RESOURCE.c.id == "p")).scalar_one()
        good = many(index_rows.TOKEN).of(connection, pk)
        many(index_rows.TOKEN).delete(connection, good)
        many(index_rows.TEXT).insert(connection, [(parameter_hash("Patient", "former"), "x", pk, "x")])
        parameters.begin(connection, "Patient")
    publish_all(opened)
    with opened.database.read() as connection:
        assert many(index_rows.TOKEN).of(connection, pk) == good
        assert parameter_hash("Patient", "former") not in {row[0] for row in many(index_rows.TEXT).of(connection, pk)}


@pytest.mark.parametrize(
    ("change", "element"),
    [
        ({"expression": "Patient.extension.where(url = 'x').value.foo("}, "expression"),
        ({"expression": "iif(true, 'a', 'b')"}, "expression"),
        ({"expression": ""}, "expression"),
        ({"type": "special"}, "type"),
        ({"code": "gender"}, "code"),
        ({"code": "a b"}, "code"),
        ({"base": ["Unicorn"]}, "base"),
        ({"type": "composite", "component": [{"definition": "http://nowhere", "expression": "id"}]}, "component[0].definition"),
    ],
)
def test_what_cannot_be_searched_by_is_refused_naming_why(opened: Node, change: dict[str, Any], element: str) -> None:
    with opened.database.read() as connection, pytest.raises(Invalid) as told:
        parameters.check(connection, {**HAIR, **change})
    assert told.value.http_status == 422
    assert told.value.issues[0].expression == f"SearchParameter.{element}"
    with opened.database.read() as connection:
        parameters.check(connection, {**HAIR, **change, "status": "draft"})
        parameters.check(connection, HAIR)


# --- one meaning for one code


def test_of_some_who_define_one_code_at_once_one_does(opened: Node) -> None:
    """FHIR R4 section 3.1.1.1: a code means one thing on a type. On PostgreSQL each would look before any has written."""

    def defining(number: int) -> Callable[[], None]:
        resource = {**HAIR, "id": f"h{number}", "url": f"http://example.org/hair{number}"}

        def define() -> None:
            with opened.database.write() as connection:
                parameters.check(connection, resource)
                time.sleep(0.1)  # the others look meanwhile
                resources.put(connection, resource)

        return define

    refused = together(*map(defining, range(4)))
    assert [type(each) for each in refused] == [Invalid] * 3
    with opened.database.read() as connection:
        (left,) = connection.execute(select(RESOURCE.c.id).where(RESOURCE.c.type == "SearchParameter")).scalars()
        assert parameters.active(connection)["Patient"]["hair"].url == f"http://example.org/hair{left[1:]}"


def test_where_another_definition_of_the_code_is_left_it_is_told_that_it_is_being_indexed(opened: Node) -> None:
    """Two versions of one definition have the same URL; the first one counts, until it is no more."""
    _put(opened, {**RED, "id": "one"})
    _put(opened, HAIR)
    _put(opened, {**HAIR, "id": "second", "expression": "Patient.gender"})
    publish_all(opened)
    assert _red(opened) == {"one"}
    with opened.database.write() as connection:
        resources.delete(connection, "SearchParameter", "hair")
        (progress,) = parameters.indexing(connection)
        assert (progress.type, progress.codes) == ("Patient", frozenset({"hair"}))
    publish_all(opened)
    assert _red(opened) == set()
    with opened.database.write() as connection:
        resources.delete(connection, "SearchParameter", "second")
        (progress,) = parameters.indexing(connection)
        assert progress.codes == set()  # nobody asks for it any more


def test_a_code_that_is_renamed_is_indexed_under_its_new_name(opened: Node) -> None:
    _put(opened, {**RED, "id": "one"})
    _put(opened, HAIR)
    publish_all(opened)
    _put(opened, {**HAIR, "code": "mane"})
    with opened.database.read() as connection:
        assert [each.codes for each in parameters.indexing(connection)] == [{"mane"}]
    publish_all(opened)
    assert _red(opened) == set()
