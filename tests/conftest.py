"""What every test may ask for: a new database on either engine, dcmtk's programs, a free port."""

import gc
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import hypothesis
import pytest
from peers import imageshare, postgresql, prepared

from server.store.db import Database

DEEP = os.environ.get("IMAGESHARE_TEST_DEEP") == "1"

# The same examples in every run, so that a red test is red for everybody; `make test-deep` looks for new ones. No deadline: a
# slow machine is not a wrong program.
hypothesis.settings.register_profile("usual", deadline=None, derandomize=True, database=None, max_examples=60)
hypothesis.settings.register_profile("deep", deadline=None, print_blob=True, max_examples=2000)
hypothesis.settings.load_profile("deep" if DEEP else "usual")


_WIRE = frozenset(
    f"tests/server/edges/{name}.py"
    for name in (
        "test_dicomweb_store_metadata", "test_dicomweb_store", "test_dicomweb_delete", "test_dicomweb_changes", "test_dicomweb_correct",
        "test_dicomweb_archive", "test_dicomweb_rendered", "test_mllp", "test_dimse", "test_dimse_abuse", "test_dimse_commitment", "test_dimse_worklist", "test_dimse_mpps",
        "test_soap_provide", "test_soap_streams", "test_soap_xua", "test_soap_retrieve", "test_soap_refusals", "test_soap_schemas", "test_imaging_stories", "pages/test_emergency",
        "smart/test_registration", "smart/test_confused_tokens", "fhir/test_operations", "fhir/test_bad_input", "fhir/test_binary", "fhir/test_bundle_request", "fhir/test_incomplete",
        "test_soap_peers", "test_soap_ipf", "test_soap_registry", "test_soap_register", "test_soap_remove", "test_soap_foreign_registry", "test_rsna_validation", "test_dimse_query",
        "test_fhir_clients", "test_dicomweb_subscriptions", "fhir/test_reports", "fhir/test_endpoint_writes", "fhir/test_capability_fuzz", "fhir/test_clients", "fhir/test_history",
        "fhir/test_bundle_identities", "fhir/test_bundle_bounds", "fhir/test_patching", "fhir/test_validating", "fhir/test_provide_bundle", "smart/test_authorize", "smart/test_token",
        "smart/test_introspection", "pages/test_activity_merged",
    )
)  # fmt: skip
"""What these say of the wire does not depend on the database; what it does with one is tested below them, on both. `make test-deep` runs all on both."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `deep` run in `make test-deep` only, and on PostgreSQL those marked `postgresql_is_deep` and those of `_WIRE`."""
    if not DEEP:
        for item in items:
            on_postgresql = "postgresql" in getattr(getattr(item, "callspec", None), "params", {}).values()
            is_wire = item.nodeid.partition("::")[0] in _WIRE
            if item.get_closest_marker("deep") or (on_postgresql and (is_wire or item.get_closest_marker("postgresql_is_deep"))):
                item.add_marker(pytest.mark.skip(reason="deep: runs in `make test-deep`"))


def pytest_collection_finish() -> None:
    """What is there by now stays to the end: the garbage collector need not look through it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """The URL of a PostgreSQL server of this test process, for SQLAlchemy. Its database `postgres` is for administration."""
    try:
        with postgresql.running() as url:
            yield url
    except postgresql.NoPostgresql as reason:
        pytest.skip(str(reason))


@pytest.fixture
def postgresql_database(postgresql_url: str) -> Iterator[str]:
    """The URL of a new PostgreSQL database with our tables; dropped afterwards, whoever is still connected."""
    with prepared.postgresql(postgresql_url) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a new database with our tables, empty; a test that asks for it runs once on each engine."""
    if request.param == "sqlite":
        return prepared.sqlite(tmp_path / "database.sqlite3")
    url: str = request.getfixturevalue("postgresql_database")
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def bare_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """As `database_url`, without any table: what a first start or a migration meets."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'database.sqlite3'}"
        return
    with prepared.postgresql(request.getfixturevalue("postgresql_url"), empty=True) as url:
        yield url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A new database with our tables, open, on each engine."""
    opened = Database(database_url)
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def engine(request: pytest.FixtureRequest) -> Iterator[None]:
    """Which engine the nodes of a test are on that names no database."""
    before = imageshare.new_database
    if getattr(request, "param", "sqlite") == "postgresql":
        imageshare.new_database = partial(prepared.postgresql, request.getfixturevalue("postgresql_url"))
    yield
    imageshare.new_database = before


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Where a module says `ON_BOTH_ENGINES`, each test that does not choose itself runs on SQLite and on PostgreSQL."""
    databases = {"database_url", "bare_database_url", "module_database_url", "databases", "postgresql_database"}
    chosen = databases & set(metafunc.fixturenames)
    generated = hasattr(metafunc.function, "hypothesis")  # which takes no fixture that is made once a test
    if getattr(metafunc.module, "ON_BOTH_ENGINES", False) and not chosen and not generated:
        metafunc.parametrize("engine", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def databases(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], AbstractContextManager[str]]:
    """A function whose `with` block has the URL of a new database with our tables, for a test that needs several; on each engine."""

    @contextmanager
    def sqlite() -> Iterator[str]:
        yield prepared.sqlite(tmp_path_factory.mktemp("database") / "database.sqlite3")

    if request.param == "sqlite":
        return sqlite
    return partial(prepared.postgresql, request.getfixturevalue("postgresql_url"))


@pytest.fixture(scope="module")
def module_database_url(databases: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """As `database_url`, for a server that all tests of a module share; they run first on one engine, then on the other."""
    with databases() as url:
        yield url


@pytest.fixture(scope="session")
def dcmtk() -> Callable[[str], Path]:
    """A function that gives the path of one of dcmtk's programs, such as `storescu`, or skips the test where dcmtk is missing."""
    # pynetdicom installs programs of the same names beside this interpreter.
    ours = Path(sys.executable).parent
    path = os.pathsep.join(p for p in os.environ.get("PATH", os.defpath).split(os.pathsep) if Path(p) != ours)

    def program(name: str) -> Path:
        found = shutil.which(name, path=path)
        if (
            found is None
            or "$dcmtk:" not in subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
        ):
            pytest.skip(f"dcmtk's {name} is not installed (Debian: apt-get install dcmtk)")
        return Path(found)

    return program


@pytest.fixture
def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
