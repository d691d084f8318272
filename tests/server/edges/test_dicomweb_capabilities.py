"""Retrieve Capabilities: what is told is what there is."""

from collections.abc import Iterator

import pytest
import requests
from lxml import etree
from peers.dicomweb import Site, site

NAMES = {"w": "http://wadl.dev.java.net/2009/02"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("capabilities") / "data") as made:
        yield made


def options(server: Site, path: str = "", accept: str = "*/*") -> requests.Response:
    return requests.options(server.url + path, headers={"Accept": accept}, timeout=60)


def test_the_whole_service_as_wadl(server: Site) -> None:
    answer = options(server)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/vnd.sun.wadl+xml"
    root = etree.fromstring(answer.content)
    resources = root.find("w:resources", NAMES)
    assert resources is not None
    assert resources.get("base") == server.url
    store = resources.find("w:resource[@path='studies']/w:method[@name='POST']", NAMES)
    assert store is not None
    bodies = [each.get("mediaType") for each in store.findall("w:request/w:representation", NAMES)]
    assert 'multipart/related; type="application/dicom+xml"' in bodies
    assert [each.get("name") for each in resources.findall("w:resource[@path='studies/{study}']/w:param", NAMES)] == ["study"]
    assert all(each.get("title") for each in resources.iterfind(".//w:doc", NAMES))


def test_every_resource_told_of_is_there_and_its_methods_allowed(server: Site) -> None:
    told = options(server, accept="application/json").json()
    assert told["base"] == server.url
    assert {"/studies", "/studies/{study}/metadata", "/studies/{study}"} <= told["resources"].keys()
    for path, methods in told["resources"].items():
        filled = path.replace("{", "").replace("}", "")
        answer = options(server, filled)
        assert answer.status_code == 200
        assert set(methods) <= set(answer.headers["Allow"].split(", "))
        for method in methods:
            assert server.session.request(method, server.url + filled, timeout=60).status_code == 401, (method, path)


def test_one_resource_tells_of_itself_only(server: Site) -> None:
    told = options(server, "/studies/1.2.3/series", "application/json").json()
    assert list(told["resources"]) == ["/studies/{study}/series"]
    assert told["resources"]["/studies/{study}/series"]["GET"]["parameters"]


def test_what_is_not_offered(server: Site) -> None:
    assert options(server, accept="text/html").status_code == 406
    assert options(server, "/nothing").status_code == 404
    assert server.get("/nothing").status_code == 404
