"""A share as a SMART Health Link (SMART Health Cards and Links 1.0.0): a manifest, and files that only the link's key decrypts.

Whoever asks for the manifest opens the share, as somebody with the link in a browser does: the passcode is tried and counted, the opening is counted, told
to the patient and in the trail, and what it grants ends with the share. Files are made anew each time, of what may be seen then: none is kept.
"""

import secrets
import time
from dataclasses import dataclass
from typing import Any, Final

import orjson
from joserfc import jwe
from joserfc.jwk import OctKey
from sqlalchemy import Connection

from profiles.smart import health_link
from profiles.smart.health_link import API_ACCESS, FHIR
from server.access import rights, sealed, shares
from server.access.decisions import Decision
from server.access.oauth.granting import Granted
from server.access.shares import TRIES, Share
from server.access.viewing import Viewing
from server.errors import NotFound, Refused
from server.records.installation import Installation
from server.settings import Settings
from server.store.blobs import BlobStore
from server.store.db import Database, micros
from server.work.portal import shared_bundle
from server.work.portal.shared_bundle import Sources
from server.work.portal.sharing import NOTHING, Coming, PasscodeRefused, Sharing
from server.work.portal.studies import SeenStudy

_LABEL: Final = "Medical images"
_PURPOSE: Final = "health link file"
_SECONDS: Final = 900
"""How long the address of a file is good; the specification allows an hour."""
_TOKEN_SECONDS: Final = 3600
_EMBEDDED: Final = 1 << 20
"""Characters of a file that stands in the manifest where the app does not say how many it takes."""
_ALGORITHMS: Final = ["dir", "A256GCM", "DEF"]
HERE: Final = "/shl"


@dataclass(frozen=True, slots=True)
class File:
    """One file, encrypted (compact JWE), with who may have it and what of whom it tells."""

    jwe: str
    decision: Decision
    patient: str
    studies: tuple[SeenStudy, ...]


@dataclass(frozen=True, slots=True)
class _Opened:
    """The share that somebody has opened; `cookie` is by what it is known again."""

    share: Share
    path: str
    key: str
    granted: Granted
    cookie: str


class HealthLinks:
    """The SMART Health Links of one node."""

    def __init__(
        self, settings: Settings, database: Database, site: Installation, sharing: Sharing, viewing: Viewing, blobs: BlobStore
    ) -> None:
        self._settings, self._database, self._key = settings, database, site.cursor_key
        self._sharing, self._viewing, self._blobs = sharing, viewing, blobs

    def link(self, share: Share) -> str:
        """`shlink:/...` behind the address of our own page for it; empty where the share has none, or our address is too long for one."""
        key, path = shares.health_link_of(self._key, share)
        url = self._url(path)
        if not path or len(url) > health_link.LONGEST_URL:
            return ""
        flag = health_link.flags(long_term=not share.openings_max, passcode=bool(share.passcode), direct=_is_direct(share))
        viewer = f"{self._settings.base_url}/share/{share.id}"
        return health_link.link(url, key, expires=share.expires // 1_000_000, flag=flag, label=_LABEL, viewer=viewer)

    def manifest(self, path: str, passcode: str, embedded_most: int | None, coming: Coming) -> dict[str, Any]:
        """Section "SMART Health Link Manifest Request": the share is opened. Raises `NotFound`, `PasscodeRefused`, `TooManyAttempts`."""
        opened = self._open(path, passcode, coming)
        most = _EMBEDDED if embedded_most is None else embedded_most
        kinds = [FHIR, *([API_ACCESS] if opened.share.apps else [])]
        files = []
        for kind in kinds:
            made = self._made(opened, kind).jwe
            embeds = len(made) <= most
            files.append(
                health_link.file(kind, embedded=made if embeds else "", location="" if embeds else self._location(opened, kind))
            )
        return health_link.manifest(files, can_change=not opened.share.openings_max)

    def direct(self, path: str, coming: Coming) -> str:
        """Section "SMART Health Link Direct File Request": as `manifest`, of a share that is one file and asks for no passcode.

        Raises also `Refused` for others.
        """
        with self._database.read() as connection:
            share = shares.of_manifest(connection, path)
        if share is not None and not _is_direct(share):
            raise Refused("this link has a manifest: it is asked for with POST")
        return self._made(self._open(path, "", coming), FHIR).jwe

    def file(self, path: str, address: str) -> File:
        """Section "`.files.location` links": the file, once. Raises `NotFound`."""
        found = sealed.unseal(self._key, _PURPOSE, address, (path,))
        if not isinstance(found, list) or found[3] <= micros():
            raise NotFound(NOTHING)
        id_, cookie, kind, until, number = found
        with self._database.write() as connection:
            again = self._sharing.opened(connection, id_, cookie)
            if again is None or not shares.is_first_use(connection, number, until):
                raise NotFound(NOTHING)
        share, _, granted = again
        key, _ = shares.health_link_of(self._key, share)
        return self._made(_Opened(share, path, key, granted, cookie), kind)

    def _open(self, path: str, passcode: str, coming: Coming) -> _Opened:
        self._sharing.count(coming)
        with self._database.read() as connection:
            share = shares.of_manifest(connection, path)
        if share is None:
            raise NotFound(NOTHING)
        if share.passcode and not passcode:  # nothing was tried
            raise PasscodeRefused(TRIES - share.tries)
        key, _ = shares.health_link_of(self._key, share)
        cookie = secrets.token_urlsafe(32)
        _, granted = self._sharing.admit(share, passcode, coming, cookie, "health-link")
        return _Opened(share, path, key, granted, cookie)

    def _made(self, opened: _Opened, kind: str) -> File:
        """One file of what the opening may see now. Raises `Unauthenticated` where it has ended meanwhile."""
        if kind == API_ACCESS:
            return self._token(opened)
        share = opened.share
        with self._database.read() as connection:
            decision = self._decision(connection, opened.granted)
            sources = Sources(connection, decision, self._blobs, f"{self._settings.base_url}/fhir")
            viewer = f"{self._settings.base_url}/share/{share.id}#{opened.cookie}"
            body, seen = shared_bundle.of(sources, share.studies, with_reports=share.reports, viewer=viewer, until=share.expires)
        return File(_encrypted(opened.key, kind, body), decision, share.patient, seen)

    def _token(self, opened: _Opened) -> File:
        with self._database.write() as connection:
            decision = self._decision(connection, opened.granted)
            ticket = self._viewing.ticket(connection, opened.granted, _TOKEN_SECONDS)
        body = health_link.api_access(
            ticket.token, seconds=max(0, ticket.expires - int(time.time())), scope=opened.granted.scope, patient=opened.share.patient,
            base=f"{self._settings.base_url}/fhir", query=(f"ImagingStudy?patient={opened.share.patient}&_include=ImagingStudy:endpoint",),
        )  # fmt: skip
        return File(_encrypted(opened.key, API_ACCESS, orjson.dumps(body)), decision, opened.share.patient, ())

    def _decision(self, connection: Connection, granted: Granted) -> Decision:
        """What the opening may see in this view. Raises `Unauthenticated` where it has ended."""
        claims = {"grant": granted.id, "client_id": granted.client, "scope": granted.scope}
        return rights.decision(connection, claims=claims, now=micros())[0]

    def _location(self, opened: _Opened, kind: str) -> str:
        """An address that is good once, for this opening, for a while."""
        until = micros() + _SECONDS * 1_000_000
        address = sealed.seal(
            self._key, _PURPOSE, [opened.share.id, opened.cookie, kind, until, secrets.token_urlsafe(16)], (opened.path,)
        )
        return f"{self._url(opened.path)}/{address}"

    def _url(self, path: str) -> str:
        return f"{self._settings.base_url}{HERE}/{path}"


def _is_direct(share: Share) -> bool:
    return not share.passcode and not share.apps


def _encrypted(key: str, content_type: str, body: bytes) -> str:
    """Section "Encrypting and Decrypting Files": compact JWE with a nonce of its own, compressed before."""
    header = {"alg": "dir", "enc": "A256GCM", "zip": "DEF", "cty": content_type}
    return jwe.encrypt_compact(header, body, OctKey.import_key({"kty": "oct", "k": key}), algorithms=_ALGORITHMS)
