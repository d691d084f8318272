"""The system under test as an endpoints file describes it (TOML; `example.toml` has all of it). What is left out is not played."""

import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

ACTORS: Final = {
    "registry": "register register_on_demand update restricted_update remove_metadata stored_query multi_patient_query",
    "repository": "provide retrieve remove_documents",
    "recipient": "provide",
    "imaging_source": "retrieve wado",
    "initiating_gateway": "query retrieve",
    "responding_gateway": "query retrieve provide restricted_update",
    "initiating_imaging_gateway": "retrieve",
    "responding_imaging_gateway": "retrieve",
}
"""Actors, and the transactions for which an endpoint may be given; `url` is for all but WADO, and an empty text says that one is not offered."""


class TargetError(ValueError):
    """The endpoints file is wrong; the message names what."""


@dataclass(frozen=True, slots=True)
class Tls:
    """`ca` has the certificates that are trusted; `certificate` and `key` are ours. All are PEM files."""

    ca: str = ""
    certificate: str = ""
    key: str = ""
    check_host: bool = True


@dataclass(frozen=True, slots=True)
class Feed:
    """Where ADT messages go (MLLP, or MLLPS with `tls`); `receiving` and `sending` are `application|facility`."""

    host: str = ""
    port: int = 0
    tls: bool = False
    receiving: str = "REGISTRY|XDS"
    sending: str = "TESTKIT|NIST"


@dataclass(frozen=True, slots=True)
class Patients:
    """`authority` is the OID in which patient ids are made; `known` are ids that the registry has already, used one by one where there is no feed."""

    authority: str = "1.3.6.1.4.1.21367.13.20.1000"
    known: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Saml:
    """Where assertions come from: a command whose output is one, or files by name. `{name}` is `valid`, or what stands after the _ in a test's id."""

    command: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    always: bool = False
    """Whether tests that do not ask for one have one too."""

    def argv(self, name: str) -> list[str]:
        """The command with the name in it."""
        return [each.replace("{name}", name) for each in shlex.split(self.command)]


@dataclass(frozen=True, slots=True)
class Target:
    """The whole file. `endpoints` are URLs by `actor.transaction`; paths in it are relative to the file's folder."""

    endpoints: Mapping[str, str] = field(default_factory=dict)
    repository_unique_id: str = ""
    home_community_id: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    replace: Mapping[str, str] = field(default_factory=dict)
    """Text in plans and messages that stands for something else here, such as another repository's unique id."""
    skip: Mapping[str, str] = field(default_factory=dict)
    images: str = ""
    """The toolkit's ImageCache; beside the testkit where it is not given."""
    timeout: float = 60.0
    tls: Tls = Tls()
    feed: Feed = Feed()
    patients: Patients = Patients()
    saml: Saml = Saml()
    folder: Path = Path()

    def endpoint(self, name: str) -> str:
        """The URL of `actor.transaction`; empty if none is given."""
        return self.endpoints.get(name, "")

    def path(self, name: str) -> Path:
        """A file that the endpoints file names."""
        return self.folder / name


def read_target(path: Path) -> Target:
    """The target of a TOML file. Raises `TargetError`."""
    try:
        found = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TargetError(f"{path}: {error}") from None
    return target_of(found, path.parent)


def target_of(found: Mapping[str, Any], folder: Path = Path()) -> Target:
    """The same of what a TOML file holds. Raises `TargetError`."""
    given = dict(found)
    endpoints: dict[str, str] = {}
    parts: dict[str, Any] = {}
    for actor, transactions in ACTORS.items():
        if actor in given:
            endpoints |= _endpoints(actor, given.pop(actor), transactions.split())
    for name, kind in (("tls", Tls), ("feed", Feed), ("patients", Patients), ("saml", Saml)):
        if name in given:
            parts[name] = _made(kind, given.pop(name), name)
    made: Target = replace(_made(Target, given, "the file"), endpoints=endpoints, folder=folder, **parts)
    return made


def _endpoints(actor: str, given: Any, transactions: list[str]) -> dict[str, str]:
    if not isinstance(given, Mapping) or not all(isinstance(each, str) for each in given.values()):
        raise TargetError(f"{actor}: must be a table of URLs")
    if wrong := sorted(set(given) - {"url", *transactions}):
        raise TargetError(f"{actor}: {', '.join(wrong)} is not known here; it has url, {', '.join(transactions)}")
    urls = {name: given.get(name, "" if name == "wado" else given.get("url", "")) for name in transactions}
    return {f"{actor}.{name}": url for name, url in urls.items() if url}


def _made(kind: type[Any], given: Any, where: str) -> Any:
    if not isinstance(given, Mapping):
        raise TargetError(f"{where}: must be a table")
    if unknown := sorted(set(given) - {each.name for each in fields(kind)}):
        raise TargetError(f"{where}: {', '.join(unknown)} is not known here")
    for name, value in given.items():
        usual = getattr(kind(), name)
        if isinstance(usual, bool) != isinstance(value, bool) or not isinstance(value, _accepted(usual)):
            raise TargetError(f"{where}: {name} must be {type(usual).__name__}, as {usual!r} is")
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})


def _accepted(usual: Any) -> tuple[type[Any], ...]:
    return {float: (int, float), tuple: (list,)}.get(type(usual), (object,) if isinstance(usual, Path) else (type(usual),))
