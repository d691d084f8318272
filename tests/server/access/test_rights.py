"""From a grant to a Decision: never more than the token, the grant, the client and the person all have, and nothing once one of them has ended."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers.requires import requires
from peers.together import together
from sqlalchemy import Connection, select, update

from server.access import epoch, rights
from server.access.decisions import Decision, Interaction
from server.access.oauth import clients, granting
from server.access.oauth.clients import Client
from server.access.oauth.granting import GRANT, Granted
from server.access.people import accounts, proxies
from server.access.tokens import Tokens
from server.errors import Unauthenticated
from server.records import resources
from server.records.installation import installation
from server.store.db import Database, micros
from server.store.migrations import migrate
from server.store.tables import Session

SESSION = Session.__table__  # type: ignore[attr-defined]
HOUR = 3_600_000_000
ALL = "patient/*.cruds user/*.cruds system/*.cruds openid"
_numbers = count(1)


@dataclass
class Town:
    """A database with one client, and what tests grant it."""

    database: Database
    tokens: Tokens

    def account(self, **given: Any) -> str:
        with self.database.write() as connection:
            email = f"a{next(_numbers)}@example.org"
            return accounts.add(connection, **{"kind": "patient", "email": email, **given}).id

    def grant(self, **given: Any) -> str:
        with self.database.write() as connection:
            return granting.begin(
                connection, Granted(**{"id": "", "client": "app", "scope": ALL, "expires": micros() + HOUR, **given})
            ).id

    def token(self, grant: str, scope: str = ALL, client: str = "app", seconds: int = 600) -> str:
        with self.database.write() as connection:
            return self.tokens.issue_for(connection, grant=grant, client=client, subject="x", scope=scope, seconds=seconds).token

    def decided(self, grant: str, scope: str = ALL, now: int | None = None) -> tuple[Decision, int]:
        with self.database.read() as connection:
            claims = {"grant": grant, "client_id": "app", "scope": scope, "jti": "j"}
            return rights.decision(connection, claims=claims, now=now or micros())

    def do(self, what: Callable[[Connection], object]) -> None:
        with self.database.write() as connection:
            what(connection)


def _client(id: str = "app", **given: Any) -> Client:
    return Client(id=id, name=id, kind="public", redirect_uris=("https://app.example.org/",), **{"scope": ALL, **given})


@pytest.fixture
def town(database: Database) -> Town:
    with database.write() as connection:
        clients.add(connection, _client())
    return Town(
        database, Tokens(database, installation(database), issuer="https://here.example", audience="https://here.example/fhir")
    )


def _refused(town: Town, token: str, why: str = "has ended") -> None:
    with pytest.raises(Unauthenticated, match=why) as caught:
        town.tokens.decide(token)
    assert token not in caught.value.detail


# --- what it gives


def test_a_patients_app_sees_what_the_patient_sees(town: Town) -> None:
    anna = town.account(patients=["a"])
    decision, _ = town.decided(town.grant(account=anna, patient="a", scope="patient/ImagingStudy.rs", purposes=("PATRQT",)))
    assert (decision.subject, decision.patient, decision.user, decision.account) == ("app", "a", "Patient/a", anna)
    assert (decision.reach, decision.actors, decision.purposes) == (
        frozenset("a"),
        frozenset(["Patient/a"]),
        frozenset(["PATRQT"]),
    )
    assert decision.patients("ImagingStudy", Interaction.READ) == frozenset("a")
    assert decision.patients("ImagingStudy", Interaction.CREATE) == decision.patients("Patient", Interaction.READ) == frozenset()


@requires(119, 140)
def test_a_scope_never_opens_more_than_the_person_may_see(town: Town) -> None:
    """SMART App Launch 2.2, scopes delegate access: the patient who was chosen, and `user/`, are held within the person's own reach."""
    anna = town.account(patients=["a"])
    stranger, _ = town.decided(town.grant(account=anna, patient="b"))
    assert stranger.patients("Patient", Interaction.READ) == frozenset("a")  # of user/
    assert (
        town.decided(town.grant(account=anna, patient="b", scope="patient/*.rs"))[0].patients("Patient", Interaction.READ)
        == frozenset()
    )
    doctor = town.account(kind="practitioner", fhir_user="Practitioner/d")
    assert town.decided(town.grant(account=doctor, scope="user/*.rs"))[0].patients("Patient", Interaction.READ) is None


@requires(142)
def test_a_backend_sees_the_patients_that_it_is_registered_for(town: Town) -> None:
    town.do(lambda connection: clients.change(connection, _client(reach=frozenset(["a", "b"]), device="Device/x")))
    decision, _ = town.decided(town.grant(reach=("b", "c")))
    assert decision.patients("Patient", Interaction.SEARCH) == frozenset("b")
    assert (decision.user, decision.account, decision.actors) == ("", "", frozenset(["Device/x"]))


def test_a_user_scope_needs_a_user_and_a_system_scope_none(town: Town) -> None:
    doctor = town.account(kind="practitioner", fhir_user="Practitioner/d")
    for account, kept in ((doctor, {"patient", "user"}), (None, {"patient", "system"})):
        decision, _ = town.decided(town.grant(account=account, patient="p"))
        assert {scope.context for scope in decision.scopes} == kept


WORDS = st.lists(
    st.sampled_from(["patient/*.rs", "patient/Patient.r", "patient/Observation.cruds", "patient/*.read", "patient/Observation.s?status=final"]),
    max_size=3, unique=True,
).map(" ".join)  # fmt: skip


@given(token=WORDS, grant=WORDS, client=WORDS)
def test_scopes_are_what_token_grant_and_client_have_in_common(shared_town: Town, token: str, grant: str, client: str) -> None:
    town = shared_town
    town.do(lambda connection: clients.change(connection, _client(scope=client)))
    decision, _ = town.decided(town.grant(patient="p", scope=grant), token)
    for type_ in ("Patient", "Observation", "ImagingStudy"):
        for interaction in Interaction:
            wanted = all(_covers(text, type_, interaction) for text in (token, grant, client))
            assert any(scope.covers(type_, interaction) for scope in decision.scopes) is wanted


def _covers(text: str, type_: str, interaction: Interaction) -> bool:
    """Without constraints, which only one of the words has: then it is a part of what the others cover."""
    for word in text.split():
        name, _, letters = word.partition("?")[0].removeprefix("patient/").partition(".")
        if name in ("*", type_) and interaction in {"read": "rs"}.get(letters, letters):
            return True
    return False


@pytest.fixture(scope="module")
def shared_town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    opened = Database(f"sqlite:///{tmp_path_factory.mktemp('rights')}/database", durable=False)
    migrate(opened)
    with opened.write() as connection:
        clients.add(connection, _client())
    yield Town(opened, Tokens(opened, installation(opened)))
    opened.close()


@requires(140)
def test_who_a_consent_may_name(town: Town) -> None:
    """The person, the roles that are in force, and the organizations of these."""
    roles: dict[str, dict[str, Any]] = {
        "now": {"active": True, "organization": {"reference": "Organization/o1"}},
        "over": {"period": {"end": "2001-01-01"}, "organization": {"reference": "Organization/o2"}},
        "to-come": {"period": {"start": "2900-01-01"}, "organization": {"reference": "Organization/o3"}},
        "inactive": {"active": False, "organization": {"reference": "Organization/o4"}},
        "elsewhere": {"organization": {"reference": "https://other.example/Organization/o5"}},
    }
    with town.database.write() as connection:
        for id_, role in roles.items():
            resources.put(
                connection,
                {"resourceType": "PractitionerRole", "id": id_, "practitioner": {"reference": "Practitioner/d"}, **role},
            )
        other = {"resourceType": "PractitionerRole", "id": "other", "practitioner": {"reference": "Practitioner/e"}}
        resources.put(connection, other | {"organization": {"reference": "Organization/o6"}})
    for user in ("Practitioner/d", "PractitionerRole/now"):
        doctor = town.account(kind="practitioner", fhir_user=user)
        decision, until = town.decided(town.grant(account=doctor, scope="user/*.rs"))
        known = {"Practitioner/d", "PractitionerRole/now", "Organization/o1"}
        assert decision.actors == (known | {"PractitionerRole/elsewhere"} if user == "Practitioner/d" else known)
        assert until < micros() + HOUR  # a role raises no epoch


# --- what ends it


def test_when_it_is_looked_at_again(town: Town) -> None:
    now = micros()
    parent = town.account(kind="proxy")
    town.do(
        lambda connection: proxies.begin(
            connection, account=parent, patient="c", relation="parent", begins=now, ends=now + HOUR // 2
        )
    )
    grant = town.grant(account=parent, patient="c", expires=now + HOUR)
    decision, until = town.decided(grant, now=now + 1)
    assert (decision.reach, until) == (frozenset("c"), now + HOUR // 2)
    later, until = town.decided(grant, now=now + HOUR // 2)
    assert (later.reach, until) == (frozenset(), now + HOUR)
    with pytest.raises(Unauthenticated):
        town.decided(grant, now=now + HOUR)


def test_everything_that_ends_it(town: Town) -> None:
    """Abuse cases 23 and 24 of the threat model: each acts on the next request of a process that has decided before."""
    anna = town.account(patients=["a"])
    ends: list[Callable[[Connection, str], object]] = [
        lambda connection, grant: granting.end(connection, grant, "because"),
        lambda connection, grant: granting.end_of_account(connection, anna, "because"),
        lambda connection, grant: granting.end_of_client(connection, "app", "because"),
    ]
    for end in ends:
        grant = town.grant(account=anna, patient="a")
        token = town.token(grant)
        other = Town(town.database, Tokens(town.database, installation(town.database), issuer="https://here.example"))
        assert town.tokens.decide(token) == other.tokens.decide(token)
        with town.database.write() as connection:
            end(connection, grant)
        for each in (town, other):
            _refused(each, token)
    token = town.token(town.grant(account=anna, patient="a"))
    assert town.tokens.decide(token).reach == frozenset("a")
    town.do(lambda connection: connection.execute(update(accounts.ACCOUNT).values(disabled=1)))
    town.do(epoch.raise_)
    _refused(town, token)
    town.do(lambda connection: accounts.enable(connection, anna))
    assert town.tokens.decide(token).reach == frozenset("a")
    town.do(lambda connection: accounts.disown(connection, anna, "a"))
    assert town.tokens.decide(token).patients("Patient", Interaction.READ) == frozenset()
    town.do(lambda connection: clients.disable(connection, "app"))
    _refused(town, token)
    town.do(lambda connection: clients.remove(connection, "app"))
    _refused(town, token)


def test_online_access_dies_with_the_session(town: Town) -> None:
    anna, now = town.account(patients=["a"]), micros()
    row = {
        "id": "s",
        "hash": "h",
        "account": anna,
        "began": now,
        "expires": now + HOUR // 3,
        "idle": now + HOUR,
        "authenticated": now,
    }
    town.do(lambda connection: connection.execute(SESSION.insert().values(**row, methods="", assurance=1)))
    grant = town.grant(account=anna, patient="a", session="s")
    assert town.decided(grant)[1] == now + HOUR // 3
    town.do(lambda connection: connection.execute(SESSION.update().values(idle=now + HOUR // 4)))
    assert town.decided(grant)[1] == now + HOUR // 4
    with pytest.raises(Unauthenticated):  # signed out, because nothing was asked for
        town.decided(grant, now=now + HOUR // 4)
    town.do(lambda connection: connection.execute(SESSION.update().values(idle=now + HOUR)))
    with pytest.raises(Unauthenticated):
        town.decided(grant, now=now + HOUR // 3)
    town.do(lambda connection: connection.execute(SESSION.delete()))
    with pytest.raises(Unauthenticated):
        town.decided(grant)


def test_a_token_of_another_client_than_its_grant(town: Town) -> None:
    town.do(lambda connection: clients.add(connection, _client("other")))
    _refused(town, town.token(town.grant(patient="a"), client="other"))
    _refused(town, town.token("no-such-grant"))


def test_two_grants_do_not_combine(town: Town) -> None:
    """Abuse case 6: a token has what its own grant has, though the same person and client have another one."""
    doctor = town.account(kind="practitioner", fhir_user="Practitioner/d")
    one = town.token(town.grant(account=doctor, patient="a", scope="patient/ImagingStudy.r"))
    other = town.token(town.grant(account=doctor, patient="b", scope="patient/Patient.rs"))
    first, second = town.tokens.decide(one), town.tokens.decide(other)
    assert first.patients("ImagingStudy", Interaction.READ) == frozenset("a")
    assert first.patients("ImagingStudy", Interaction.SEARCH) == first.patients("Patient", Interaction.READ) == frozenset()
    assert second.patients("Patient", Interaction.SEARCH) == frozenset("b")
    assert second.patients("ImagingStudy", Interaction.READ) == frozenset()


@requires(94, 96)
def test_a_token_of_another_server_is_refused(town: Town, tmp_path: Path) -> None:
    """Abuse case 15: issued for server 1, refused at server 2, though both say the same issuer and audience."""
    elsewhere = Database(f"sqlite:///{tmp_path}/elsewhere.sqlite3")
    migrate(elsewhere)
    other = Tokens(elsewhere, installation(elsewhere), issuer="https://here.example", audience="https://here.example/fhir")
    with elsewhere.write() as connection:
        token = other.issue_for(connection, grant=town.grant(), client="app", subject="x", scope=ALL, seconds=60).token
        rows = [dict(row) for row in connection.execute(select(granting.GRANT)).mappings()]
    assert rows == []
    town.token(town.grant())
    _refused(town, token, "not one of this server's")
    elsewhere.close()


def test_what_a_token_says_of_itself(town: Town) -> None:
    """RFC 9068 section 2.2."""
    with town.database.write() as connection:
        issued = town.tokens.issue_for(
            connection,
            grant="g",
            client="app",
            subject="anna",
            scope="openid",
            seconds=60,
            more={"patient": "a", "iss": "x", "scope": "y"},
        )
    claims = town.tokens.claims(issued.token)
    assert {name: claims[name] for name in ("iss", "sub", "client_id", "scope", "grant", "patient", "jti", "exp")} == {
        "iss": "https://here.example", "sub": "anna", "client_id": "app", "scope": "openid", "grant": "g", "patient": "a",
        "jti": issued.id, "exp": issued.expires,
    }  # fmt: skip
    assert claims["exp"] - claims["iat"] == 60
    assert "https://here.example/fhir" in claims["aud"]
    assert issued.token not in repr(issued)


# --- kept for as long as it holds


def test_a_decision_is_made_once_in_an_epoch(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    token = town.token(town.grant(patient="a"))
    made: list[int] = []
    before = rights.decision

    def counted(connection: Connection, *, claims: Any, now: int, **more: Any) -> tuple[Decision, int]:
        made.append(now)
        return before(connection, claims=claims, now=now, **more)

    monkeypatch.setattr(rights, "decision", counted)
    assert town.tokens.decide(token) is town.tokens.decide(token)
    assert len(made) == 1
    town.do(epoch.raise_)
    town.tokens.decide(token)
    assert len(made) == 2


def test_what_ends_by_the_clock_needs_no_epoch(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    grant = town.grant(patient="a", expires=micros() + HOUR // 60)
    token = town.token(grant)
    town.tokens.decide(token)
    _later(monkeypatch, 61)
    _refused(town, token)


def _later(monkeypatch: pytest.MonkeyPatch, seconds: int) -> None:
    """So many seconds on for who decides about tokens."""
    now = time.time_ns
    monkeypatch.setattr("server.access.tokens.time.time_ns", lambda: now() + seconds * 1_000_000_000)


def test_a_decision_is_that_of_the_view_it_is_asked_for(town: Town) -> None:
    """Rows and rights are of one moment: a view from before the revocation has both as they were."""
    grant = town.grant(patient="a")
    token = town.token(grant)
    with town.database.read() as before:
        assert epoch.current(before) >= 0
        town.do(lambda connection: granting.end(connection, grant, "because"))
        assert town.tokens.decide(token, before).patient == "a"
        _refused(town, token)
        assert town.tokens.decide(token, before).patient == "a"
    _refused(town, token)


def test_nothing_is_decided_in_favour_once_the_revocation_has_committed(town: Town) -> None:
    """Fifty threads ask over and over while the grant ends: whoever begins after the commit has returned is refused."""
    grant = town.grant(patient="a")
    tokens = [town.token(grant) for _ in range(5)]
    judges = [Tokens(town.database, installation(town.database), issuer="https://here.example") for _ in range(5)]
    ended: list[float] = []
    late: list[str] = []
    early: list[str] = []

    def ask(judge: Tokens, token: str) -> None:
        while True:
            began_after = bool(ended)
            try:
                judge.decide(token)
            except Unauthenticated:
                return
            (late if began_after else early).append(token)
            if began_after:
                return

    def end() -> None:
        while len(early) < 50:
            time.sleep(0.001)
        town.do(lambda connection: granting.end(connection, grant, "because"))
        ended.append(time.monotonic())

    work = [lambda judge=judge, token=token: ask(judge, token) for judge in judges for token in tokens]
    assert together(*work, *work, end) == []
    assert len(early) >= 50
    assert late == []


def test_an_expired_grant_that_is_extended_holds_again(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    grant = town.grant(patient="a", expires=micros() + HOUR // 60)
    token = town.token(grant)
    town.tokens.decide(token)
    _later(monkeypatch, 61)
    _refused(town, token)
    town.do(lambda connection: connection.execute(update(GRANT).where(GRANT.c.id == grant).values(expires=micros() + HOUR)))
    assert town.tokens.decide(token).patient == "a"
