"""Who may see a patient's records may see them wherever they belong after a merge."""

from pathlib import Path

from peers.generated import Made, send
from peers.imageshare import node, publish_all
from sqlalchemy import select

from profiles.audit_event import Agent
from server.access import epoch
from server.access.people import accounts
from server.records.catalogue import PATIENT
from server.store.db import micros
from server.work.corrections import Corrector
from server.work.reconcile import Actor, Reconciler


def test_a_merge_acts_on_the_next_request_of_patients_and_proxies(tmp_path: Path, database_url: str) -> None:
    with node(tmp_path / "data", database_url) as opened:
        send(opened, Made(), Made(study=3, patient="P2"))
        publish_all(opened)
        with opened.database.read() as connection:
            ids = {value: id_ for value, id_ in connection.execute(select(PATIENT.c.value, PATIENT.c.id))}
        with opened.database.write() as connection:
            own = accounts.add(connection, kind="patient", email="own@example.org", patients=[ids["P1"]])
            parent = accounts.add(connection, kind="proxy", email="parent@example.org")
            stranger = accounts.add(connection, kind="proxy", email="stranger@example.org")
        opened.people.proxying.begin(parent.id, ids["P1"], "parent", by=None, until_age=0)
        with opened.database.read() as connection:
            before = epoch.current(connection)
        reconciler = Reconciler(opened.settings, opened.database, opened.blobs, opened.installation, opened.trail)
        corrector = Corrector(reconciler, opened.database, opened.blobs, opened.installation.patients.oid)
        corrector.merge(ids["P1"], ids["P2"], actor=Actor(Agent(identifier="tester")))
        with opened.database.read() as connection:
            assert epoch.current(connection) > before
            for account, reached in ((own, {ids["P1"], ids["P2"]}), (parent, {ids["P1"], ids["P2"]}), (stranger, set())):
                assert accounts.reach(connection, account, micros())[0] == reached
