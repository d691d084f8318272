"""The installation is made once, whoever comes first, and stays."""

from peers.together import together

from profiles.identifiers import uid
from server.records.installation import Installation, installation
from server.settings import load
from server.store.db import Database


def test_it_is_made_once_under_a_race(database: Database) -> None:
    found: list[Installation] = []
    assert together(*[lambda: found.append(installation(database))] * 6) == []
    assert len(found) == 6
    assert set(found) == {installation(database)}


def test_its_names_are_uids_and_differ(database: Database) -> None:
    site = installation(database)
    names = [
        site.root, site.patients.oid, site.repository, site.imaging_source, site.home_community, site.source, site.unidentified.oid,
    ]  # fmt: skip
    assert [uid(name) for name in names] == names
    assert len(set(names)) == len(names)
    assert site.issuer == f"urn:oid:{site.root}"
    assert len(site.cursor_key) == 32
    assert site.endpoint_id == installation(database).endpoint_id


def test_patient_ids_get_the_devices_authority_or_the_installations_own(database: Database) -> None:
    site = installation(database)
    settings = load(authorities={"HOSPITAL": "1.2.3"})
    assert site.domains(settings).default == site.patients
    assert site.domains(settings, "1.2.4").default.oid == "1.2.4"
    assert site.domains(settings).named["HOSPITAL"].oid == "1.2.3"
