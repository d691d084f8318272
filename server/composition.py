"""The composition root: one process's parts. The HTTP application over them is `server.app`, which commands have no use for."""

from contextlib import suppress
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from profiles.audit_event import Agent
from server.access.assertions import Assertions
from server.access.ehr_launch import EhrLaunches
from server.access.foreign import Foreign
from server.access.oauth.server import OAuthServer
from server.access.partners import Partners
from server.access.people.hospital import Hospital
from server.access.people.people import People
from server.access.tokens import Tokens
from server.access.viewing import Viewing
from server.edges.context import Node
from server.edges.turns import Turns
from server.outbound.logos import Logos
from server.outbound.mail import Mail
from server.outbound.web import Web
from server.records.installation import installation
from server.records.peers import Peers
from server.records.strangers import Strangers
from server.records.trail import Trail
from server.settings import Settings
from server.store.blobs import FolderBlobs
from server.store.db import Database
from server.store.migrations import require_current
from server.store.quarantine import Quarantine
from server.store.room import Room
from server.work.authorizing import Authorizing
from server.work.bringing.bringing import BringingIn
from server.work.fhir.writes import Writes
from server.work.ingest import Ingest
from server.work.portal.claiming import Claiming
from server.work.portal.desk import Desk
from server.work.portal.health_links import HealthLinks
from server.work.portal.sharing import Sharing
from server.work.registry.domain import Domain


def open_node(settings: Settings) -> Node:
    """Opens the database and the blob store.

    Raises `SettingsError` if the schema is not at this version's revision, or the blob folder is not this installation's.
    """
    database = Database(settings.database, durable=settings.durable)
    require_current(database)
    blobs = FolderBlobs(
        settings.blob_folder, limit=settings.max_instance_bytes, reserve=settings.min_free_bytes, durable=settings.durable
    )
    site = installation(database)
    blobs.own(site.root)
    trail = Trail(database, Agent(identifier=site.issuer, name=settings.organization, address=settings.base_url))
    file = database.url.database if database.is_sqlite else None
    room = Room(Path(file).parent if file else settings.blob_folder)
    strangers = Strangers(trail, room, settings.min_free_bytes)
    people = People(database, settings, site, trail, Mail(settings).send, refused=strangers.refused)
    web, web_of_strangers = Web(settings), Web(settings, for_strangers=True)
    tokens = Tokens(
        database, site, issuer=settings.base_url, audience=f"{settings.base_url}/fhir", foreign=Foreign(settings, web),
        permits=settings.consent_default == "permit",
    )  # fmt: skip
    oauth = OAuthServer(settings, database, tokens, trail, web.jwks, web_of_strangers.jwks)
    viewing = Viewing(tokens, site)
    sharing = Sharing(settings, database, site, viewing, people, trail)
    return Node(
        settings=settings,
        database=database,
        blobs=blobs,
        installation=site,
        tokens=tokens,
        assertions=Assertions(settings, database),
        partners=Partners(settings),
        trail=trail,
        ingest=Ingest(settings, database, blobs, site, trail),
        domain=Domain.of(settings, site),
        peers=Peers(database, settings),
        strangers=strangers,
        writes=Writes(database),
        turns=Turns(database, trail),
        people=people,
        hospital=Hospital(database, settings, site, web, people.events),
        oauth=oauth,
        authorizing=Authorizing(oauth),
        logos=Logos(web, web_of_strangers),
        viewing=viewing,
        claiming=Claiming(settings, database, site, viewing, people, trail, strangers),
        ehr_launches=EhrLaunches(database, settings, site, web, tokens),
        sharing=sharing,
        health_links=HealthLinks(settings, database, site, sharing, viewing, blobs),
        desk=Desk(database, site, people),
        bringing_in=BringingIn(
            settings, database, Quarantine(settings.data, reserve=settings.min_free_bytes, durable=settings.durable), people
        ),
    )


def close_node(node: Node) -> None:
    node.turns.close()
    node.people.close()
    with suppress(SQLAlchemyError):  # what cannot be written any more is in the log
        node.strangers.flush()
    node.database.close()
