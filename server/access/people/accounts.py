"""Accounts: who can sign in, and of which patients they may see something by their own right.

`reach` is that right: own records, and those of others whose proxy the person is just now. Practitioners, staff and
administrators reach every patient; what they see is then for scopes and consents to narrow.
"""

import re
import unicodedata
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection, Row, Select, func, or_, select, true
from sqlalchemy.exc import IntegrityError

from server.access import epoch
from server.access.oauth import granting
from server.access.people import proxies
from server.errors import Conflict, NotFound, Refused
from server.records import belonging
from server.settings import is_local_name
from server.store.db import insert, micros
from server.store.tables import Account as AccountRow
from server.store.tables import AccountPatient, OneTimeCode, Session

ACCOUNT = AccountRow.__table__  # type: ignore[attr-defined]
OWN = AccountPatient.__table__  # type: ignore[attr-defined]
_SESSION = Session.__table__  # type: ignore[attr-defined]
_CODE = OneTimeCode.__table__  # type: ignore[attr-defined]
KINDS: Final = ("patient", "proxy", "practitioner", "staff", "administrator")
_OWN_RIGHT: Final = frozenset({"patient", "proxy"})
"""Kinds that reach single patients; the others reach every one."""
FOREVER: Final = proxies.FOREVER
NOBODY: Final = 0
"""The assurance of an account whose e-mail address nobody has shown to read yet."""
CLAIMED: Final = 2
"""That of who had an access code from the hospital, and knew the date of birth."""
_TAKEN: Final = "there is an account with this e-mail address already"
_EMAIL = re.compile(r"[^\s@<>()\[\],;:\\\"]{1,64}@[^\s@<>()\[\],;:\\\"]{1,189}")
_FHIR_USER = re.compile(r"(Patient|Practitioner|PractitionerRole|RelatedPerson|Person)/[A-Za-z0-9.-]{1,64}")


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who can sign in. `fhir_user` is relative, such as `Practitioner/x`, or empty.

    `assurance` says how well it is known who this is: 1 as they say, 2 checked remotely, 3 checked in person.
    """

    id: str
    kind: str
    name: str
    email: str
    fhir_user: str = ""
    assurance: int = 1
    language: str = ""
    disabled: bool = False
    generation: int | None = field(default=None, compare=False)
    """How often everybody was signed out when this was read; None where that does not matter."""


def fold(email: str) -> str:
    """The form of an e-mail address that is looked up and counted by: whichever way somebody writes it, it is one."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", email).casefold()).strip()


def plain_email(email: str) -> str:
    """The e-mail address as it is kept and shown. Raises `Refused` for what is none."""
    email = unicodedata.normalize("NFKC", email).strip()
    if not _EMAIL.fullmatch(email) or not email.isprintable():
        raise Refused("this is no e-mail address; it is like name@example.org")
    return email


def is_reachable(email: str) -> bool:
    """Whether e-mail for this address goes to its person: `administrator@localhost` would be whoever reads that mailbox at the mail server."""
    host = email.rpartition("@")[2].casefold().rstrip(".")
    return not is_local_name(host) and not host.endswith((".localhost", ".localdomain"))


def find(connection: Connection, id: str) -> Account | None:
    return _one(connection, _accounts().where(ACCOUNT.c.id == id))


def by_email(connection: Connection, email: str) -> Account | None:
    if "\0" in email:  # which PostgreSQL does not even look for
        return None
    return _one(connection, _accounts().where(ACCOUNT.c.email_folded == fold(email)))


def every(connection: Connection) -> list[Account]:
    """All of them by e-mail address, disabled ones too."""
    return [_account(row) for row in connection.execute(_accounts().order_by(ACCOUNT.c.email_folded))]


def add(
    connection: Connection,
    *,
    kind: str,
    email: str,
    name: str = "",
    fhir_user: str = "",
    patients: Iterable[str] = (),
    assurance: int = 1,
    language: str = "",
    now: int | None = None,
) -> Account:
    """A new account; `patients` are the resource ids of the person's own records.

    Raises `Refused` for what is no address or kind, `Conflict` where the address has an account already.
    """
    own = tuple(dict.fromkeys(patients))
    if kind not in KINDS:
        raise Refused(f"an account is one of {', '.join(KINDS)}")
    email = plain_email(email)
    _require_person(kind, fhir_user)
    if not fhir_user and kind == "patient" and len(own) == 1:
        fhir_user = f"Patient/{own[0]}"
    row = {
        "id": str(uuid.uuid4()), "kind": kind, "name": name, "email": email, "email_folded": fold(email), "email_verified": 0,
        "fhir_user": fhir_user, "assurance": assurance, "language": language, "disabled": 0, "generation": 0, "created": now or micros(),
    }  # fmt: skip
    adding = insert(connection, ACCOUNT).values(row).on_conflict_do_nothing().returning(ACCOUNT.c.id)
    if connection.execute(adding).first() is None:
        raise Conflict(_TAKEN)
    for patient in own:
        connection.execute(OWN.insert().values(account=row["id"], patient=patient))
    return Account(str(row["id"]), kind, name, email, fhir_user, assurance, language)


def _require_person(kind: str, fhir_user: str) -> None:
    if fhir_user and not _FHIR_USER.fullmatch(fhir_user):
        raise Refused("a person is a Patient, Practitioner, PractitionerRole, RelatedPerson or Person, such as Practitioner/x")
    if kind == "patient" and fhir_user.startswith(("Practitioner/", "PractitionerRole/")):
        raise Refused("a patient is no Practitioner; somebody who is both has two accounts")


def be(connection: Connection, account: Account, fhir_user: str) -> None:
    """The person is this resource (`Practitioner/x`) from now on; empty for none. Consents are held against it from the next request on. Raises `Refused`."""
    _require_person(account.kind, fhir_user)
    connection.execute(ACCOUNT.update().where(ACCOUNT.c.id == account.id).values(fhir_user=fhir_user))
    epoch.raise_(connection)


def search(connection: Connection, words: str, most: int) -> list[Account]:
    """Those whose name or e-mail address has these words, disabled ones too, by e-mail address."""
    wanted = fold(words).replace("\0", "")
    named = or_(
        ACCOUNT.c.email_folded.contains(wanted, autoescape=True), func.lower(ACCOUNT.c.name).contains(wanted, autoescape=True)
    )
    return [_account(row) for row in connection.execute(_accounts().where(named).order_by(ACCOUNT.c.email_folded).limit(most))]


def become(connection: Connection, id: str, kind: str) -> None:
    """The person is something else here from the next request on; sessions and apps that had the rights of before end."""
    if kind not in KINDS:
        raise Refused("there is no such role")
    connection.execute(ACCOUNT.update().where(ACCOUNT.c.id == id).values(kind=kind))
    bar(connection, id)
    connection.execute(_SESSION.delete().where(_SESSION.c.account == id))
    granting.end_of_account(connection, id, "the role was changed")
    epoch.raise_(connection)


def rename(connection: Connection, id: str, name: str) -> None:
    """Pages call the person so from now on."""
    connection.execute(ACCOUNT.update().where(ACCOUNT.c.id == id).values(name=name))


def choose_language(connection: Connection, id: str, language: str) -> None:
    """Pages speak to the person in this language from now on; empty for the browser's own."""
    connection.execute(ACCOUNT.update().where(ACCOUNT.c.id == id).values(language=language))


def readdress(connection: Connection, id: str, email: str, now: int) -> None:
    """Another e-mail address, which the person has shown to read. Raises `Conflict`, after which the transaction is over."""
    changed = {"email": email, "email_folded": fold(email), "email_verified": now}
    try:
        connection.execute(ACCOUNT.update().where(ACCOUNT.c.id == id).values(changed))
    except IntegrityError:
        raise Conflict(_TAKEN) from None


def delete(connection: Connection, id: str) -> None:
    """The account is gone, with which patients it is. What else has its id goes before (`server.access.people.leaving`)."""
    connection.execute(OWN.delete().where(OWN.c.account == id))
    connection.execute(ACCOUNT.delete().where(ACCOUNT.c.id == id))
    epoch.raise_(connection)


def own(connection: Connection, id: str, patient: str) -> None:
    """`patient` (a resource id) is this person from now on."""
    connection.execute(insert(connection, OWN).values(account=id, patient=patient).on_conflict_do_nothing())
    epoch.raise_(connection)


def is_patient(connection: Connection, id: str, patient: str, name: str) -> None:
    """The person is this patient, as far as nothing else was known: what it is called, and by which reference Consents know it."""
    mine = ACCOUNT.c.id == id
    connection.execute(ACCOUNT.update().where(mine, ACCOUNT.c.assurance < CLAIMED).values(assurance=CLAIMED))
    connection.execute(ACCOUNT.update().where(mine, ACCOUNT.c.name == "").values(name=name))
    of_patients = ACCOUNT.c.kind == "patient", ACCOUNT.c.fhir_user == ""
    connection.execute(ACCOUNT.update().where(mine, *of_patients).values(fhir_user=f"Patient/{patient}"))
    epoch.raise_(connection)


def forget_nobodys(connection: Connection, before: int) -> None:
    """Removes accounts, made before that moment, whose e-mail address nobody has shown to read."""
    nobodys = ACCOUNT.c.assurance == NOBODY, ACCOUNT.c.email_verified == 0, ACCOUNT.c.created < before
    connection.execute(_CODE.delete().where(_CODE.c.account.in_(select(ACCOUNT.c.id).where(*nobodys))))
    connection.execute(ACCOUNT.delete().where(*nobodys))


def disown(connection: Connection, id: str, patient: str) -> None:
    """The reverse of `own`."""
    connection.execute(OWN.delete().where(OWN.c.account == id, OWN.c.patient == patient))
    epoch.raise_(connection)


def verified(connection: Connection, id: str, now: int) -> None:
    """Notes that the person reads what is sent to the e-mail address."""
    connection.execute(ACCOUNT.update().where(ACCOUNT.c.id == id, ACCOUNT.c.email_verified == 0).values(email_verified=now))


def bar(connection: Connection, id: str) -> None:
    """Who was about to sign in just now does not: what they showed is not what counts any more."""
    connection.execute(ACCOUNT.update().where(ACCOUNT.c.id == id).values(generation=ACCOUNT.c.generation + 1))


def may_enter(connection: Connection, account: Account) -> bool:
    """Whether a session may be opened for who has just signed in: the account is as it was when that began."""
    unbarred = ACCOUNT.c.generation == account.generation if account.generation is not None else true()
    mine = select(ACCOUNT.c.id).where(ACCOUNT.c.id == account.id, ACCOUNT.c.disabled == 0, unbarred).with_for_update()
    return connection.execute(mine).first() is not None


def disable(connection: Connection, id: str) -> None:
    """Nobody signs in with it any more; its sessions end, and what it granted to apps, from the next request on."""
    _able(connection, id, micros())
    bar(connection, id)
    connection.execute(_SESSION.delete().where(_SESSION.c.account == id))
    granting.end_of_account(connection, id, "the account was disabled")
    epoch.raise_(connection)


def enable(connection: Connection, id: str) -> None:
    """The reverse of `disable`; what it ended stays ended."""
    _able(connection, id, 0)
    epoch.raise_(connection)


def _able(connection: Connection, id: str, since: int) -> None:
    changing = ACCOUNT.update().where(ACCOUNT.c.id == id).values(disabled=since).returning(ACCOUNT.c.id)
    if connection.execute(changing).first() is None:
        raise NotFound("there is no such account")


def own_patients(connection: Connection, id: str) -> frozenset[str]:
    """The resource ids of the person's own records."""
    return frozenset(connection.execute(select(OWN.c.patient).where(OWN.c.account == id)).scalars())


def of_patient(connection: Connection, patient: str) -> frozenset[str]:
    """The ids of the accounts of which this patient is the person."""
    return frozenset(connection.execute(select(OWN.c.account).where(OWN.c.patient == patient)).scalars())


def reach(connection: Connection, account: Account, now: int) -> tuple[frozenset[str] | None, int]:
    """The patients that the person may see by own right at `now` (microseconds), and until when that holds by the clock alone.

    None is every patient. What is changed before then raises the epoch (`server.access.epoch`).
    """
    if account.disabled:
        return frozenset(), FOREVER
    if account.kind not in _OWN_RIGHT:
        return None, FOREVER
    others, until = proxies.in_force(connection, account.id, now)
    found = own_patients(connection, account.id) | others
    merged = (belonging.replaced_by(connection, patient) for patient in found)
    return found.union(filter(None, merged)), until


def _accounts() -> "Select[str, str, str, str, str, int, str, int, int]":
    columns = ACCOUNT.c
    return select(
        columns.id,
        columns.kind,
        columns.name,
        columns.email,
        columns.fhir_user,
        columns.assurance,
        columns.language,
        columns.disabled,
        columns.generation,
    )


def _one(connection: Connection, query: "Select[str, str, str, str, str, int, str, int, int]") -> Account | None:
    row = connection.execute(query).first()
    return None if row is None else _account(row)


def _account(row: "Row[str, str, str, str, str, int, str, int, int]") -> Account:
    return Account(
        row.id, row.kind, row.name, row.email, row.fhir_user, row.assurance, row.language, row.disabled > 0, row.generation
    )  # fmt: skip
