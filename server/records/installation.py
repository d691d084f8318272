"""What makes this installation itself: one OID root, made once, and the names that hang from it."""

import secrets
import uuid
from dataclasses import dataclass

from sqlalchemy import Connection, select

from profiles.header import PatientDomains
from profiles.identifiers import AssigningAuthority, uuid_oid
from server.settings import Settings
from server.store.db import Database, insert, micros
from server.store.tables import Installation as Row

_INSTALLATION = Row.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Installation:
    """`root` is `2.25.<uuid>` (ITU-T X.667); arcs below it are ours to give out. `cursor_key` signs paging cursors."""

    root: str
    cursor_key: bytes

    @property
    def patients(self) -> AssigningAuthority:
        """Assigns the patient ids of devices that name no issuer and are configured with none."""
        return AssigningAuthority(f"{self.root}.1")

    @property
    def repository(self) -> str:
        """XDS repositoryUniqueId."""
        return f"{self.root}.2"

    @property
    def imaging_source(self) -> str:
        """Retrieve Location UID (0040,E011), the repositoryUniqueId of RAD-69 requests."""
        return f"{self.root}.3"

    @property
    def home_community(self) -> str:
        """homeCommunityId without `urn:oid:`."""
        return f"{self.root}.4"

    @property
    def source(self) -> str:
        """XDS sourceId of our submission sets."""
        return f"{self.root}.5"

    @property
    def unidentified(self) -> AssigningAuthority:
        """The domain of studies without a Patient ID; its identifiers are Study Instance UIDs, so no two are merged."""
        return AssigningAuthority(f"{self.root}.6")

    @property
    def issuer(self) -> str:
        """`iss` and `aud` of access tokens: a token of another installation is refused whatever it is called."""
        return f"urn:oid:{self.root}"

    @property
    def endpoint_id(self) -> str:
        """Resource id of the one Endpoint."""
        return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self.root}.7"))

    def domains(self, settings: Settings, default: str | None = None, *, believed: bool = True) -> PatientDomains:
        """How patient ids find their assigning authority; `default` is the sending device's own, an OID. One that is not `believed` has no other."""
        own = AssigningAuthority(default) if default else self.patients
        return PatientDomains(
            root=self.root,
            default=own,
            unidentified=self.unidentified if believed else own,
            named={name: AssigningAuthority(oid, name) for name, oid in settings.authorities.items()},
            believed=believed,
        )


def installation(database: Database) -> Installation:
    """This installation; makes it on first use."""
    with database.read() as connection:
        found = known(connection)
    if found is None:
        with database.write() as connection:
            for key, value in (("root", uuid_oid(uuid.uuid4())), ("cursor_key", secrets.token_hex(32))):
                connection.execute(insert(connection, _INSTALLATION).values(key=key, value=value).on_conflict_do_nothing())
            found = known(connection)
    assert found is not None
    return found


def known(connection: Connection) -> Installation | None:
    """This installation; None before it was made."""
    facts = {key: value for key, value in connection.execute(select(_INSTALLATION.c.key, _INSTALLATION.c.value))}
    if not {"root", "cursor_key"} <= facts.keys():
        return None
    return Installation(facts["root"], bytes.fromhex(facts["cursor_key"]))


def since(database: Database, what: str, digest: str) -> int:
    """Since when (microseconds) `what` has been as this digest says; notes it if it has just become so."""
    key = f"{what} since"
    with database.read() as connection:
        known = connection.execute(select(_INSTALLATION.c.value).where(_INSTALLATION.c.key == key)).scalar()
    if known is None or known.partition(" ")[0] != digest:
        known = f"{digest} {micros()}"
        with database.write() as connection:
            made = insert(connection, _INSTALLATION).values(key=key, value=known)
            connection.execute(made.on_conflict_do_update(index_elements=["key"], set_={"value": known}))
    return int(known.partition(" ")[2])
