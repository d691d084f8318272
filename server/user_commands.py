"""The command `imageshare user`: who can sign in, and who is whose proxy."""

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.console import Data, told
from server.errors import NotFound, Refused, Unavailable
from server.settings import load

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from server.access.people.accounts import Account
    from server.edges.context import Node

user_app = typer.Typer(no_args_is_help=True, help="People: accounts, and who is whose proxy.")

Email = Annotated[str, typer.Argument(help="The account's e-mail address.")]
Day = Annotated[
    datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The first day (UTC) on which it does not hold any more.")
]

Issuer = Annotated[str, typer.Option(help="The hospital's OpenID provider, as `hospital_sign_in` names it.")]
Subject = Annotated[str, typer.Option(help="Who it is there: the claim `sub`, to the letter.")]


class Kind(StrEnum):
    """As `accounts.KINDS`."""

    PATIENT = "patient"
    PROXY = "proxy"
    PRACTITIONER = "practitioner"
    STAFF = "staff"
    ADMINISTRATOR = "administrator"


class Relation(StrEnum):
    """As `proxies.RELATIONS`."""

    PARENT = "parent"
    CARER = "carer"
    GUARDIAN = "guardian"
    OTHER = "other"


@contextlib.contextmanager
def _opened(data: Path | None) -> Iterator["Node"]:
    from server import upkeep
    from server.composition import close_node, open_node

    with told():
        settings = load(data=data)
        upkeep.require_ready(settings)
        node = open_node(settings)
        try:
            yield node
        finally:
            close_node(node)


def _account(node: "Node", email: str) -> "Account":
    from server.access.people import accounts

    with node.database.read() as connection:
        found = accounts.by_email(connection, email)
    if found is None:
        raise NotFound("there is no account with this e-mail address; `imageshare user list` shows them")
    return found


@user_app.command("add")
def add_user(
    email: Email,
    kind: Annotated[Kind, typer.Option(help="What the person is here.")] = Kind.PATIENT,
    name: Annotated[str, typer.Option(help="As pages show it.")] = "",
    patient: Annotated[
        list[str] | None, typer.Option(help="Own records: resource id, Patient ID, or OID|Patient ID. Several times if need be.")
    ] = None,
    fhir_user: Annotated[str, typer.Option(help="The resource that is this person, such as Practitioner/x.")] = "",
    assurance: Annotated[
        int, typer.Option(min=1, max=3, help="How well it is known who it is: 1 as they say, 2 checked remotely, 3 in person.")
    ] = 1,
    mail: Annotated[
        bool, typer.Option("--mail", help="Invite the person by e-mail to sign in by codes, instead of asking for a password.")
    ] = False,
    data: Data = None,
) -> None:
    """Add an account. Asks for a password, or invites by e-mail."""
    from server.access.grants import named_patient
    from server.access.people import accounts, passwords

    with _opened(data) as node:
        own = [named_patient(node.database, each) for each in patient or ()]
        password = "" if mail else _password(email, name, *node.people.sign_in.site)
        hashed = node.people.passwords.hashing.hash(password) if password else ""
        with node.database.write() as connection:
            made = accounts.add(
                connection, kind=kind, email=email, name=name, fhir_user=fhir_user, patients=own, assurance=assurance
            )
            if hashed:
                passwords.store(connection, made.id, hashed)
            node.people.events.changed(connection, made.id, None, f"account added: {made.kind}", "")
            _warn_of_nobody(connection, made)
        typer.echo(f"{made.email} is added")
        if mail:
            _invite(node, made)


@user_app.command("invite")
def invite_user(email: Email, data: Data = None) -> None:
    """Tell somebody by e-mail, again, that there is an account, and how to sign in."""
    with _opened(data) as node:
        found = _account(node, email)
        if found.disabled:
            raise Refused("this account is disabled; `imageshare user enable` first")
        _invite(node, found)
    typer.echo(f"{found.email} is invited")


def _invite(node: "Node", account: "Account") -> None:
    """Raises `Unavailable`, `Refused`; the account is there all the same."""
    try:
        node.people.sign_in.invite(account)
    except Unavailable as error:
        raise Unavailable(f"{error.detail}: `imageshare user invite {account.email}`") from error


def _warn_of_nobody(connection: "Connection", account: "Account") -> None:
    """The resource that is the person may come later; a slip of the pen would come to light only when a Consent does not hold."""
    from server.records import resources

    if account.kind == "practitioner" and not account.fhir_user:
        typer.echo(
            "warning: no resource is this practitioner: emergency access is not offered, and Consents that name practitioners are held against "
            f"somebody unknown. `imageshare user person {account.email} Practitioner/ID` names it",
            err=True,
        )
    kind, _, id_ = account.fhir_user.partition("/")
    if account.fhir_user and resources.last(connection, kind, id_) is None:
        typer.echo(f"warning: there is no {account.fhir_user} here yet", err=True)


@user_app.command("list")
def list_users(data: Data = None) -> None:
    """Show every account, and whose records it reaches."""
    from rich.table import Table
    from rich.text import Text

    from server.access.people import accounts
    from server.dicom_commands import wide
    from server.store.db import micros

    table = Table("E-mail", "name", "is", "person", "reaches", "", box=None)
    with _opened(data) as node, node.database.read() as connection:
        for each in accounts.every(connection):
            reached, _ = accounts.reach(connection, each, micros())
            reaches = "everybody" if reached is None else " ".join(sorted(reached))
            shown = (each.email, each.name, each.kind, each.fhir_user, reaches, "disabled" if each.disabled else "")
            table.add_row(*map(Text, shown))
    wide().print(table)


@user_app.command("rename")
def rename_user(email: Email, name: Annotated[str, typer.Argument(help="As patients read it.")], data: Data = None) -> None:
    """Call the person so. Only patients who act for nobody change their names themselves: others' are told to patients."""
    from server.access.people import accounts
    from server.access.people.profile import plain_name

    with _opened(data) as node:
        found, name = _account(node, email), plain_name(name)
        with node.database.write() as connection:
            accounts.rename(connection, found.id, name)
            node.people.events.changed(connection, found.id, None, "name changed", "")
    typer.echo(f"{found.email} is called {name}")


@user_app.command("person")
def set_person(
    email: Email,
    reference: Annotated[str, typer.Argument(help="The resource that is this person, such as Practitioner/x; none where empty.")],
    data: Data = None,
) -> None:
    """Say which resource is the person: Consents name practitioners by it, and emergency access needs it."""
    from server.access.people import accounts

    with _opened(data) as node:
        found = replace(_account(node, email), fhir_user=reference)
        with node.database.write() as connection:
            accounts.be(connection, found, reference)
            node.people.events.changed(connection, found.id, None, "person changed", "")
            _warn_of_nobody(connection, found)
    typer.echo(f"{found.email} is {reference or 'nobody by a resource'}")


@user_app.command("disable")
def disable_user(email: Email, data: Data = None) -> None:
    """Nobody signs in with the account any more; sessions and apps end at once."""
    from server.access.people import accounts

    with _opened(data) as node:
        found = _account(node, email)
        if found.disabled:
            typer.echo(f"{found.email} is disabled already")
            return
        with node.database.write() as connection:
            node.people.events.changed(connection, found.id, None, "account disabled", "")
            accounts.disable(connection, found.id)
            if found.kind == "administrator" and not any(
                each.kind == found.kind and not each.disabled for each in accounts.every(connection)
            ):
                typer.echo("warning: there is no administrator any more who can sign in", err=True)
    typer.echo(f"{found.email} is disabled")


@user_app.command("enable")
def enable_user(email: Email, data: Data = None) -> None:
    """The reverse of disable."""
    from server.access.people import accounts

    with _opened(data) as node:
        found = _account(node, email)
        with node.database.write() as connection:
            node.people.events.changed(connection, found.id, None, "account enabled", "")
            accounts.enable(connection, found.id)
    typer.echo(f"{found.email} is enabled")


@user_app.command("password")
def set_password(
    email: Email,
    once: Annotated[bool, typer.Option("--once", help="Print one that works once, instead of asking for one.")] = False,
    without_passkeys: Annotated[
        bool, typer.Option("--without-passkeys", help="Remove its passkeys too, for somebody who has lost them.")
    ] = False,
    data: Data = None,
) -> None:
    """Give the account another password. Its sessions and apps end."""
    with _opened(data) as node:
        found = _account(node, email)
        password = "" if once else _password(found.email, found.name, *node.people.sign_in.site)
        told_once = node.people.recovery.reset(found, password, without_passkeys=without_passkeys)
    typer.echo(told_once or f"{found.email} has another password")


@user_app.command("proxy")
def proxy(
    email: Email,
    patient: Annotated[str, typer.Argument(help="Whose records: resource id, Patient ID, or OID|Patient ID.")],
    relation: Annotated[Relation, typer.Option(help="What the person is to the patient.")] = Relation.PARENT,
    until: Day = None,
    until_age: Annotated[
        int | None,
        typer.Option(
            min=0, max=150, help="It ends on the patient's birthday of this age; of parents and guardians 18. 0 for none."
        ),
    ] = None,
    end: Annotated[bool, typer.Option("--end", help="End it now.")] = False,
    data: Data = None,
) -> None:
    """Let somebody see another's records for a time, or end that."""
    from server.access.grants import named_patient
    from server.access.people import proxies
    from server.store.db import micros

    with _opened(data) as node:
        account, whose = _account(node, email), named_patient(node.database, patient, "PATIENT")
        if not end:
            over = micros(until.replace(tzinfo=UTC)) if until else 0
            held = node.people.proxying.begin(account.id, whose, relation, by=None, ends=over, until_age=until_age)
            age = f" until the age of {held.until_age}" if held.until_age else ""
            typer.echo(f"{account.email} may see the records of Patient/{whose}{age}")
            return
        with node.database.read() as connection:
            in_force = [each for each in proxies.of_account(connection, account.id) if each.patient == whose and not each.ended]
        if not in_force:
            raise NotFound(f"{account.email} is no proxy of this patient")
        for each in in_force:
            node.people.proxying.end(each.id, by=None)
    typer.echo(f"{account.email} may not see the records of Patient/{whose} any more as a proxy")


@user_app.command("link")
def link_user(email: Email, issuer: Issuer, subject: Subject, data: Data = None) -> None:
    """Let somebody sign in through a hospital: whom the hospital calls so is this account."""
    from server.access.people import hospital

    with _opened(data) as node:
        found = _account(node, email)
        known = {each.issuer: each.title for each in node.settings.hospital_sign_in}
        if issuer not in known:
            raise NotFound(f"no hospital is set up under this issuer; there are: {', '.join(sorted(known)) or 'none'}")
        with node.database.write() as connection:
            hospital.link(connection, found.id, issuer, subject)
            node.people.events.changed(connection, found.id, None, "sign-in through a hospital was linked", "")
    typer.echo(f"{found.email} may sign in through {known[issuer]}")


@user_app.command("unlink")
def unlink_user(email: Email, issuer: Issuer, subject: Subject, data: Data = None) -> None:
    """The reverse of link, also where the hospital is not set up any more."""
    from server.access.people import hospital

    with _opened(data) as node:
        found = _account(node, email)
        with node.database.write() as connection:
            hospital.unlink(connection, found.id, issuer, subject)
            node.people.events.changed(connection, found.id, None, "sign-in through a hospital was unlinked", "")
    typer.echo(f"{found.email} may not sign in so any more")


def _password(*about: str) -> str:
    """Asked for twice; of what is no terminal one line is read. `about` is what is known of the person and the place."""
    from server.access.people import passwords

    if sys.stdin.isatty():
        password: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    passwords.require_fit(password, *about)
    return password
