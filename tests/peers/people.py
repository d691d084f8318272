"""People as tests need them: accounts on any database, quick passwords, e-mails kept in a list, and a passkey in software."""

import hashlib
import json
import re
import secrets
import threading
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from profiles.audit_event import Agent
from server.access.people import accounts, passwords
from server.access.people.accounts import Account
from server.access.people.passwords import Hashing
from server.access.people.people import People
from server.records.installation import installation
from server.records.trail import Trail
from server.settings import load
from server.store.db import Database
from server.store.migrations import migrate

PASSWORD = "correct horse battery"
HERE = "192.0.2.1"


def quick_hashing() -> Hashing:
    """argon2 at the least that it takes."""
    return Hashing(PasswordHash((Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1),)))


@dataclass
class Town:
    """A database with people."""

    database: Database
    people: People
    mails: list[tuple[str, str, str]] = field(default_factory=list)

    def account(self, email: str = "anna@example.org", password: str = "", **given: Any) -> Account:
        """An account; with a `password` if given."""
        hashed = self.people.passwords.hashing.hash(password) if password else ""
        with self.database.write() as connection:
            made = accounts.add(connection, **{"kind": "patient", "email": email, **given})
            if hashed:
                passwords.store(connection, made.id, hashed)
        return made

    def posted(self) -> None:
        """Waits for the e-mails that are under way."""
        both = threading.Barrier(2)  # of the threads that send: each gets there after what it had to do
        for waiting in [self.people.sign_in._later.submit(both.wait, 60) for _ in range(2)]:
            waiting.result()

    def code(self) -> str:
        """The code of the last e-mail."""
        self.posted()
        found = re.search(r"\b(\d{4} \d{4})\b", self.mails[-1][2])
        assert found
        return found[1]


@contextmanager
def town(data: Path, url: str, **settings: object) -> Iterator[Town]:
    """A town on the database with this URL; the same people if they are there already."""
    database = Database(url)
    migrate(database)
    made = load(**{"data": data, "min_free_bytes": 0, "public_url": "https://images.example.org", **settings})
    mails: list[tuple[str, str, str]] = []
    trail = Trail(database, Agent(identifier="urn:oid:1.2.3", address=made.base_url))

    def keep(to: str, subject: str, text: str) -> None:
        mails.append((to, subject, text))

    people = People(database, made, installation(database), trail, keep, hashing=quick_hashing())
    try:
        yield Town(database, people, mails)
    finally:
        people.close()
        database.close()


def _b64(value: bytes) -> str:
    return urlsafe_b64encode(value).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass
class Key:
    """A WebAuthn authenticator in software (Level 3, sections 6.1 and 6.5): ES256, no attestation."""

    origin: str = "https://images.example.org"
    host: str = "images.example.org"
    verifies: bool = True
    counts: bool = True
    count: int = 0
    id: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    private: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def create(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """What `navigator.credentials.create` gives, as JSON."""
        numbers = self.private.public_key().public_numbers()
        public = {1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32, "big"), -3: numbers.y.to_bytes(32, "big")}
        attested = bytes(16) + len(self.id).to_bytes(2, "big") + self.id + cbor2.dumps(public)
        attestation = cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": self._data(0x40) + attested})
        client = self._client("webauthn.create", options["challenge"])
        response = {"clientDataJSON": _b64(client), "attestationObject": _b64(attestation)}
        return {"id": _b64(self.id), "rawId": _b64(self.id), "type": "public-key", "response": response}

    def get(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """What `navigator.credentials.get` gives."""
        if self.counts:
            self.count += 1
        data, client = self._data(0), self._client("webauthn.get", options["challenge"])
        signature = self.private.sign(data + hashlib.sha256(client).digest(), ec.ECDSA(hashes.SHA256()))
        response = {"clientDataJSON": _b64(client), "authenticatorData": _b64(data), "signature": _b64(signature)}
        return {"id": _b64(self.id), "rawId": _b64(self.id), "type": "public-key", "response": response}

    def _data(self, flags: int) -> bytes:
        flags |= 0x01 | (0x04 if self.verifies else 0)
        return hashlib.sha256(self.host.encode()).digest() + bytes([flags]) + self.count.to_bytes(4, "big")

    def _client(self, type_: str, challenge: str) -> bytes:
        _bytes(challenge)
        return json.dumps({"type": type_, "challenge": challenge, "origin": self.origin}).encode()
