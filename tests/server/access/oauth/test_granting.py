"""Grants: they end for good, and what is long over leaves nothing behind."""

from dataclasses import replace

import pytest

from server.access import epoch
from server.access.oauth import clients, granting, launches, refresh
from server.access.oauth.authorization_code import new_code
from server.access.oauth.clients import Client
from server.access.oauth.granting import SECOND, Granted
from server.access.oauth.launches import Launch
from server.errors import Conflict, NotFound, Refused
from server.store.db import Database, micros
from server.store.tables import AuthorizationCode, RefreshToken
from server.store.tables import Launch as LaunchRow

DAY = 86_400 * SECOND
PUBLIC = Client("app", "App", "public", ("https://app.example.org/back",), "patient/*.rs")


def test_a_grant_ends_once_and_raises_the_epoch(database: Database) -> None:
    with database.write() as connection:
        made = granting.begin(
            connection, Granted("", "app", "patient/*.rs", account="a", expires=micros() + DAY, context={"intent": "x"})
        )
        assert made.told == {"intent": "x"}
        before = epoch.current(connection)
        assert made.holds(micros())
        assert not made.holds(made.expires)
        assert granting.end(connection, made.id, "why")
        assert epoch.current(connection) != before
        after = epoch.current(connection)
        assert not granting.end(connection, made.id, "again")
        assert epoch.current(connection) == after
        found = granting.find(connection, made.id)
        assert found is not None
        assert not found.holds(micros())
        granting.extend(connection, made.id, micros() + 2 * DAY)
        assert granting.of_account(connection, "a", micros()) == []


@pytest.mark.parametrize("which", ["account", "client", "session"])
def test_all_of_one_account_client_or_session_end(database: Database, which: str) -> None:
    with database.write() as connection:
        common = Granted("", "c", "x", account="a", session="s", expires=micros() + DAY)
        mine = [granting.begin(connection, common).id for _ in range(3)]
        other = granting.begin(connection, replace(common, client="c2", account="a2", session="s2")).id
        ending = {"account": granting.end_of_account, "client": granting.end_of_client, "session": granting.end_of_session}[which]
        assert ending(connection, {"account": "a", "client": "c", "session": "s"}[which], "why") == 3
        assert [granting.find(connection, each).ended is None for each in (*mine, other)] == [False] * 3 + [True]  # type: ignore[union-attr]


def test_what_is_long_over_is_forgotten(database: Database) -> None:
    with database.write() as connection:
        now = micros()
        made = granting.begin(connection, Granted("", "app", "x", expires=now + 100 * DAY))
        over = granting.begin(connection, Granted("", "app", "x", expires=now + SECOND))
        new_code(connection, made, redirect_uri="x", challenge="x", nonce="")
        launches.put(connection, "app", Launch())
        refresh.first(connection, made, 200 * DAY)
        used = RefreshToken.__table__  # type: ignore[attr-defined]
        connection.execute(used.update().values(used=now))

        def left() -> list[int]:
            tables = AuthorizationCode, LaunchRow, RefreshToken
            return [len(connection.execute(table.__table__.select()).all()) for table in tables]  # type: ignore[attr-defined]

        granting.forget(connection, now)
        assert left() == [1, 1, 1]
        granting.forget(connection, now + 2 * DAY)
        assert left() == [0, 0, 1]
        assert granting.find(connection, over.id) is None
        assert granting.find(connection, made.id) is not None
        granting.forget(connection, now + 31 * DAY)
        assert left() == [0, 0, 0]


def test_the_table_of_clients(database: Database) -> None:
    with database.write() as connection:
        assert clients.add(connection, PUBLIC) == ""
        secret = clients.add(connection, replace(PUBLIC, id="keeps", kind="secret", origins=("https://app.example.org",)))
        with pytest.raises(Conflict):
            clients.add(connection, PUBLIC)
        kept = clients.find(connection, "keeps")
        assert kept is not None
        assert kept.check_client_secret(secret)
        assert not kept.check_client_secret(secret[:-1])
        assert not kept.check_client_secret("")
        assert secret not in repr(kept)
        assert kept.secret_hash not in repr(kept)
        assert clients.origins(connection) == {"https://app.example.org": frozenset({"keeps"})}
        clients.change(connection, replace(kept, name="Other"))
        changed = clients.find(connection, "keeps")
        assert changed is not None
        assert changed.name == "Other"
        assert changed.check_client_secret(secret)
        before = epoch.current(connection)
        clients.disable(connection, "keeps")
        assert epoch.current(connection) != before
        assert clients.enabled(connection, "keeps") is None
        assert clients.origins(connection) == {}
        with pytest.raises(Refused):
            clients.change(connection, replace(kept, redirect_uris=("http://app.example.org/back",)))
        for act in (clients.disable, lambda c, i: clients.change(c, replace(PUBLIC, id=i))):
            with pytest.raises(NotFound):
                act(connection, "nobody")


@pytest.mark.parametrize(
    "changed",
    [
        {"id": ""}, {"id": "a b"}, {"id": "a:b"}, {"id": "\u00e9"}, {"id": "a\n"}, {"name": ""}, {"name": "\x07"}, {"kind": "x"},
        {"grant_types": frozenset({"password"})}, {"kind": "secret", "may": frozenset({"everything"})}, {"may": frozenset({"launch"})},
        {"redirect_uris": ()}, {"origins": ("https://app.example.org/",)}, {"origins": ("*",)}, {"origins": ("null",)},
        {"origins": ("https://APP.example.org",)}, {"origins": ("https://u@app.example.org",)}, {"kind": "asymmetric"},
        {"launch_uri": "javascript:x"}, {"launch_uri": "http://app.example.org/launch"}, {"logo_uri": "data:x"},
        {"logo_uri": "http://app.example.org/logo"}, {"client_uri": "http://127.0.0.1/"}, {"client_uri": "https:///"},
        {"kind": "asymmetric", "jwks_uri": "http://app.example.org/jwks"}, {"kind": "asymmetric", "jwks_uri": "http://127.0.0.1/jwks"}, {"jwks_uri": "https://app.example.org/jwks"},
        {"grant_types": frozenset({"client_credentials"})},
    ],
)  # fmt: skip
def test_registrations_that_are_wrong(changed: dict[str, object]) -> None:
    with pytest.raises(Refused):
        clients.require_valid(replace(PUBLIC, **changed))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changed", "hosts"),
    [
        ({"launch_uri": "http://localhost:3000/launch"}, ()),
        ({"kind": "asymmetric", "jwks_uri": "http://keys.hospital.example/jwks"}, ("Keys.hospital.example",)),
        ({"kind": "asymmetric", "jwks_uri": "http://[fd00::1]:8443/jwks"}, ("[fd00::1]:8443",)),
        ({"logo_uri": "http://10.1.2.3/logo.png"}, ("10.1.2.3:80",)),
    ],
)
def test_no_tls_is_for_hosts_of_ones_own(changed: dict[str, object], hosts: tuple[str, ...]) -> None:
    """RFC 7591 section 5; `fetch_allowed_hosts` names them, each port or one."""
    client = replace(PUBLIC, **changed)  # type: ignore[arg-type]
    clients.require_valid(client, hosts)
    if hosts:
        for others in ((), ("other.example",), ("10.1.2.3:81", "[fd00::1]:443", "keys.hospital.example:443")):
            with pytest.raises(Refused):
                clients.require_valid(client, others)
