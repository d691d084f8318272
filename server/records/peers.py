"""DICOM peers: who may associate from where and for what, and where each is called.

The table comes first, then `devices` of the settings. Where neither says who may associate, any program on this machine may.
"""

import ipaddress
import threading
import time
from dataclasses import dataclass, replace
from typing import Final, get_args

from sqlalchemy import delete, select, update

from profiles.identifiers import InvalidIdentifier, ae_title, uid
from server.errors import Conflict, NotFound, SettingsError
from server.settings import EVERY_PERMISSION, Device, Permission, Settings, plain_address
from server.store.db import Database, insert
from server.store.tables import Peer as Row

_PEER = Row.__table__  # type: ignore[attr-defined]

PERMISSIONS: Final = get_args(Permission)
"""What a peer may be allowed; each service of the DICOM port asks for one of them."""

USUAL: Final[frozenset[Permission]] = frozenset({"store", "worklist", "mpps", "commit"})
"""What a modality needs: to send, and nothing that shows it other studies."""

TLS: Final = ("", "on", "verify")
_FRESH_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Peer:
    """One DICOM application. `network` (CIDR) is where it associates from, empty for nowhere; `host` and `port` where it is called.

    `tls`: empty for none, `on` for TLS, `verify` for TLS with, where it is called, a certificate that is for `host`. Who has it
    associates over TLS only. `authority` is the OID that assigns its patient ids, empty for the installation's own.
    """

    ae_title: str
    network: str = ""
    host: str = ""
    port: int = 0
    tls: str = ""
    authority: str = ""
    permissions: frozenset[Permission] = USUAL
    description: str = ""
    active: bool = True

    @property
    def is_destination(self) -> bool:
        """Whether it is known where to call it."""
        return self.active and bool(self.host) and self.port > 0

    def device(self, address: str) -> Device:
        """What the services of the DICOM port know it as, calling from this address."""
        return Device(
            ae_title=self.ae_title, address=address, assigning_authority=self.authority or None, permissions=self.permissions
        )

    def comes_from(self, address: str) -> bool:
        """Whether it may associate from this address."""
        return bool(self.network) and plain_address(address) in ipaddress.ip_network(self.network, strict=False)


class Peers:
    """The peers of one installation. Reads the table at most once a second, so that an edit by another process is soon in force."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database, self._settings = database, settings
        self._lock = threading.Lock()
        self._known = tuple(map(_of_settings, settings.devices))
        self._until = 0.0

    def all(self) -> tuple[Peer, ...]:
        """Those of the table, then those of the settings that the table does not name, by AE title."""
        with self._lock:
            if time.monotonic() >= self._until:
                with self._database.read() as connection:
                    rows = connection.execute(select(_PEER).order_by(_PEER.c.ae_title)).mappings().all()
                listed = tuple(_peer(dict(row)) for row in rows)
                titles = {peer.ae_title for peer in listed}
                configured = map(_of_settings, self._settings.devices)
                self._known = (*listed, *(peer for peer in configured if peer.ae_title not in titles))
                self._until = time.monotonic() + _FRESH_SECONDS
            return self._known

    def admitted(self, title: str, address: str) -> Peer | None:
        """Who associates under this calling AE title from this address, or None where nobody may.

        A title that the table names is judged by the table alone. With nobody configured to associate, any loopback peer is one.
        """
        title = title.strip()
        known = self.all()
        if not any(peer.network for peer in known):
            named = next((peer for peer in known if peer.ae_title == title), Peer(title, permissions=EVERY_PERMISSION))
            return replace(named, network=address) if plain_address(address).is_loopback and named.active else None
        return next((each for each in known if each.ae_title == title and each.active and each.comes_from(address)), None)

    def may_associate(self, address: str) -> bool:
        """Whether any peer at this address can be a known one, by the last look at the table: it waits for no database."""
        known = self._known
        if not any(peer.network for peer in known):
            return plain_address(address).is_loopback
        return any(peer.active and peer.comes_from(address) for peer in known)

    def destination(self, title: str) -> Peer | None:
        """The peer of that AE title if it is known where to call it."""
        return next((each for each in self.all() if each.ae_title == title.strip() and each.is_destination), None)

    def find(self, title: str) -> Peer:
        """The peer of that AE title. Raises `NotFound`."""
        found = next((each for each in self.all() if each.ae_title == title.strip()), None)
        if found is None:
            raise NotFound(f"there is no peer {title.strip()}; `imageshare peer list` shows them")
        return found

    def add(self, peer: Peer) -> None:
        """Raises `Conflict` where the AE title is taken, `SettingsError` for a value that cannot be."""
        peer = checked(peer)
        with self._database.write() as connection:
            statement = insert(connection, _PEER).values(**_row(peer)).on_conflict_do_nothing().returning(_PEER.c.pk)
            if connection.execute(statement).first() is None:
                raise Conflict(f"there is a peer {peer.ae_title} already; remove it first, or change it")
        self.forget()

    def change(self, peer: Peer) -> None:
        """Replaces what is known of `peer.ae_title`. Raises `NotFound`, `SettingsError`."""
        peer = checked(peer)
        with self._database.write() as connection:
            changed = connection.execute(update(_PEER).where(_PEER.c.ae_title == peer.ae_title).values(**_row(peer)))
            if not changed.rowcount:
                raise NotFound(f"there is no peer {peer.ae_title} in the table")
        self.forget()

    def remove(self, title: str) -> None:
        """Raises `NotFound`, also for a peer that only the settings name."""
        with self._database.write() as connection:
            if not connection.execute(delete(_PEER).where(_PEER.c.ae_title == title.strip())).rowcount:
                raise NotFound(f"there is no peer {title.strip()} in the table; one of the settings is removed there")
        self.forget()

    def forget(self) -> None:
        """The next look reads the table anew."""
        with self._lock:
            self._until = 0.0


def checked(peer: Peer) -> Peer:
    """The peer in canonical form. Raises `SettingsError` naming what is wrong and what it should be."""
    try:
        title = ae_title(peer.ae_title)
        if peer.authority:
            uid(peer.authority)
    except InvalidIdentifier as error:
        raise SettingsError(str(error)) from None
    try:
        network = str(ipaddress.ip_network(peer.network, strict=False)) if peer.network else ""
    except ValueError:
        raise SettingsError("a peer's network is an address or a network in CIDR form, such as 10.1.2.0/24") from None
    if unknown := peer.permissions - set(PERMISSIONS):
        raise SettingsError(f"no such permission: {', '.join(sorted(unknown))}; there are {', '.join(PERMISSIONS)}")
    if peer.tls not in TLS:
        raise SettingsError("a peer's TLS is off, on, or verify")
    if bool(peer.host) != bool(peer.port) or not 0 <= peer.port <= 65535:
        raise SettingsError("where a peer is called is HOST:PORT, with a port of 1 to 65535")
    if not peer.host and not network:
        raise SettingsError("a peer needs HOST:PORT, where it is called, or a network, where it associates from, or both")
    return replace(peer, ae_title=title, network=network)


def _of_settings(device: Device) -> Peer:
    return Peer(
        ae_title=device.ae_title,
        network=device.address,
        host=device.host,
        port=device.port,
        authority=device.assigning_authority or "",
        permissions=device.permissions,
        description="from the settings",
    )


def _row(peer: Peer) -> dict[str, object]:
    return {
        "ae_title": peer.ae_title,
        "network": peer.network,
        "host": peer.host,
        "port": peer.port,
        "tls": peer.tls,
        "authority": peer.authority,
        "permissions": " ".join(each for each in PERMISSIONS if each in peer.permissions),
        "description": peer.description,
        "active": int(peer.active),
    }


def _peer(row: dict[str, object]) -> Peer:
    row.pop("pk")
    held = str(row.pop("permissions")).split()
    permissions = frozenset(each for each in EVERY_PERMISSION if each in held)
    return Peer(permissions=permissions, active=bool(row.pop("active")), **row)  # type: ignore[arg-type]
