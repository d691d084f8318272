"""`imageshare doctor`: what is in force, and whether it works. Nothing is made by it, and no secret is shown."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr
from sqlalchemy import URL

from server.errors import SettingsError
from server.outbound import mail
from server.records import audit_feed, foreign_entries, parameters
from server.records.installation import Installation, known
from server.rehearsal import rehearsed
from server.settings import HIDDEN, Settings
from server.store.blobs import FolderBlobs
from server.store.db import Database, ping
from server.store.migrations import is_newer, newest, revision, sqlite_file, too_new
from server.work import sealing
from server.work.registry.domain import affinity_domain_codes

Row = tuple[str, str, bool]
"""What, its value with secrets masked, and whether it is fine."""


def examined(settings: Settings) -> list[Row]:
    """Every setting in force, then whether it works."""
    told: list[Row] = [(name, _shown(value), True) for name, value in settings if value is not None]
    database = Database(settings.database)
    try:
        told += _database(settings, database)
        site = _installation(database)
    finally:
        database.close()
    told += _identifiers(settings, site)
    told += _storage(settings, site)
    told += rehearsed(settings)
    anyhow = settings.public_url is None and settings.http_host in ("0.0.0.0", "::")
    told.append(("public URL", f"{settings.base_url}{' is no address to call: set public_url' if anyhow else ''}", not anyhow))
    if settings.hides_callers:
        told.append(("reverse proxy", HIDDEN, True))
    told.append(_mail(settings))
    told.append(("SOAP", f"answers who shows {', '.join(_soap_callers(settings))}", True))
    told += [(name, "not a setting; is it misspelt?", False) for name in sorted(unknown_variables(os.environ))]
    return told


def unknown_variables(environment: Mapping[str, str]) -> set[str]:
    """`IMAGESHARE_*` variables that are no setting: pydantic-settings passes over them without a word."""
    known_ones = {f"IMAGESHARE_{name.upper()}" for name in Settings.model_fields} | {"IMAGESHARE_CONFIG", "IMAGESHARE_TOKEN"}
    return {name for name in environment if name.startswith("IMAGESHARE_") and name.partition("__")[0] not in known_ones}


# --- the database, and what is in it


def _database(settings: Settings, database: Database) -> Iterator[Row]:
    file = sqlite_file(database)
    if _is_absent(database) and file is not None:
        yield "database", f"{_masked(database.url)} (not there yet)", os.access(_nearest(file), os.W_OK)
        return
    yield "database", _masked(database.url), _answers(database)
    yield from _schema(database)
    yield from (("search index", line, True) for line in _indexing(database))
    yield from (("trail", line, True) for line in _sealed(database))
    yield from (("audit repository", line, True) for line in _unsent(database, settings.audit_repository))
    for each in settings.documents_to:
        yield from ((f"manifests at {each.name}", line, fine) for line, fine in _at(database, each.name))


def _is_absent(database: Database) -> bool:
    """Whether it is a file that to ask it would make."""
    file = sqlite_file(database)
    return file is not None and not file.exists()


def _answers(database: Database) -> bool:
    try:
        ping(database)
    except Exception:  # noqa: BLE001 whatever the driver raises means: it does not work
        return False
    return True


def _schema(database: Database) -> Iterator[Row]:
    """At which revision it is; nothing where the database does not answer."""
    with suppress(Exception), database.read() as connection:
        found = revision(connection)
        if is_newer(found):
            yield "schema", too_new(found), False
        elif found != newest():
            yield "schema", f"revision {found or 'none'}; imageshare migrate, or serve, brings it to {newest()}", True
        else:
            yield "schema", f"revision {found}, that of this version", True


def _installation(database: Database) -> Installation | None:
    """None also where the database does not answer, or has no such table yet."""
    if _is_absent(database):
        return None
    with suppress(Exception), database.read() as connection:
        return known(connection)
    return None


def _indexing(database: Database) -> list[str]:
    """The resource types whose search index is made anew just now; none where the database does not answer, or is of another version."""
    with suppress(Exception), database.read() as connection:
        return [f"{each.type}: {each.percent} % of it is made anew" for each in parameters.indexing(connection)]
    return []


def _sealed(database: Database) -> list[str]:
    """The last seal of the trail; none as above."""
    with suppress(Exception), database.read() as connection:
        return [sealing.told(connection)]
    return []


def _unsent(database: Database, repository: str) -> list[str]:
    """How much of the trail waits for the audit repository; none as above, or where there is no repository."""
    with suppress(Exception), database.read() as connection:
        count, _ = audit_feed.waiting(connection, repository)
        return [f"{count} events wait to be sent"] if repository else []
    return []


def _at(database: Database, partner: str) -> list[tuple[str, bool]]:
    """How many manifests a partner has, and has not, and whether somebody should look; none as above."""
    with suppress(Exception), database.read() as connection:
        counts = {state: count for (name, state), count in foreign_entries.counts(connection).items() if name == partner}
        trouble = counts.keys() & {"refused", "left", "given up"}
        told = ", ".join(f"{count} {state}" for state, count in counts.items()) or "none yet"
        return [(f"{told}; see imageshare manifests" if trouble else told, not trouble)]
    return []


# --- what partners have to be told


def _identifiers(settings: Settings, site: Installation | None) -> Iterator[Row]:
    """ITI TF-3 section 4.2.3, RAD TF-3 section 4.68: who this server is in an affinity domain, in the words of its partners."""
    if site is None:
        yield "repositoryUniqueId", "made with the database, and so are the other OIDs: start imageshare serve once", True
        return
    yield "repositoryUniqueId", site.repository, True
    yield "Retrieve Location UID", site.imaging_source, True
    yield "homeCommunityId", f"urn:oid:{site.home_community}", True
    yield "sourceId", site.source, True
    yield "patient identity authority", ", ".join(_authorities(settings)) or "any", True
    yield "authority of patient ids without issuer", site.patients.oid, True


def _authorities(settings: Settings) -> tuple[str, ...]:
    """As `Domain.of` has them; of a code set that cannot be read another row tells."""
    if settings.affinity_domain_authority:
        return settings.affinity_domain_authority
    with suppress(SettingsError):
        codes = affinity_domain_codes(settings)
        return codes.authorities if codes is not None else ()
    return ()


# --- this machine


def _storage(settings: Settings, site: Installation | None) -> Iterator[Row]:
    folder = settings.blob_folder
    nearest = _nearest(folder)
    try:
        if site is not None and folder.is_dir() and any(folder.iterdir()):  # an empty one would be marked
            FolderBlobs(folder).own(site.root)
        yield "blobs", str(folder), os.access(nearest, os.W_OK)
    except SettingsError as error:
        yield "blobs", error.detail, False
    if aside := len(list(folder.glob("quarantine/*"))):
        yield "quarantine", f"{aside} blobs that no row names; see docs/decisions/0008", False
    free = shutil.disk_usage(nearest).free
    yield "free space", f"{free >> 20} MiB", free > settings.min_free_bytes


def _mail(settings: Settings) -> Row:
    """Without a mail server people sign in by password or passkey only: a warning, no fault."""
    try:
        server = mail.server_of(settings)
    except SettingsError as error:
        return "e-mail", error.detail, False
    if server is not None:
        return "e-mail", f"by {server.scheme} through {server.hostname}", True
    return "e-mail", f"files in {mail.folder(settings)}, which nobody reads: set smtp_url", True


def _soap_callers(settings: Settings) -> list[str]:
    """By what SOAP knows its callers."""
    told = ["an access token"]
    told += ["a SAML assertion"] if settings.trusted_assertions else []
    told += ["a partner's certificate"] if any(each.scope and each.certificates for each in settings.partners) else []
    return told if settings.is_published else [*told, "that it is a program on this machine (loopback)"]


def _nearest(path: Path) -> Path:
    """`path`, or the nearest folder above it that is there."""
    return next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())


def _shown(value: object) -> str:
    """Lists and tables as the environment takes them, JSON; secrets are masked, in these too."""
    plain = _plain(value)
    return json.dumps(plain, ensure_ascii=False) if isinstance(plain, list | dict) else str(plain)


def _plain(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return "********"
    if isinstance(value, BaseModel):
        return {name: _plain(each) for name, each in value if each is not None}
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, frozenset):
        return sorted(map(_plain, value))
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def _masked(url: URL) -> str:
    """libpq takes a password also as a parameter."""
    secret = {name: "masked" for name in url.query if "password" in name.lower()}
    return url.update_query_dict(secret).render_as_string(hide_password=True)
