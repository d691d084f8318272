"""The system under test as a TOML file describes it: its base URL, clients, people, patients and studies that exist there.

What the file leaves out is not tested, and the report says so. See `example.toml`.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_type_hints

from conformance.smart.kit import Skipped


class TargetError(ValueError):
    """The target file is wrong; the message names what."""


@dataclass(frozen=True, slots=True)
class Client:
    """An OAuth client that is registered there. `secret` for one kind, `key` (a private JWK with kid and alg) for another."""

    id: str
    redirect_uri: str = ""
    scope: str = ""
    """What it is registered for; empty: whatever a case asks."""
    secret: str = field(default="", repr=False)
    key: Mapping[str, Any] = field(default_factory=dict, repr=False)
    other_key: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """A second private key of it, of the other algorithm."""
    jku: str = ""
    origin: str = ""
    """Its registered web origin."""
    patients: tuple[str, ...] = ()
    """Names of the patients that a backend client may see; none named: all."""


@dataclass(frozen=True, slots=True)
class User:
    """How somebody signs in and consents, without a browser: what is filled into forms by the names of their fields, and which buttons are pressed.

    Each page that comes is answered from `fields` (`$patient`, `$study` stand for what the case wants), then the first of `allow` (or
    `deny`, where a case wants a refusal) that is on it is pressed.
    """

    fields: Mapping[str, str] = field(default_factory=dict, repr=False)
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    fhir_user: str = ""
    patients: tuple[str, ...] = ()
    """Names of the patients that this person may see; none named: all."""


@dataclass(frozen=True, slots=True)
class Study:
    """A study that exists there, of the patient with this name. Names in `withheld_from` are those of users and clients."""

    name: str
    uid: str
    patient: str
    series: tuple[str, ...] = ()
    instance: tuple[str, ...] = ()
    """Series and SOP Instance UID of one that has frames."""
    instances: int = 0
    withheld_from: tuple[str, ...] = ()
    withheld_series: tuple[str, ...] = ()
    series_withheld_from: tuple[str, ...] = ()
    pending: bool = False
    """It is being fetched: 503 is what should come."""
    choice: str = ""
    """What stands for it in a form, where that is not its UID."""

    @property
    def chosen_by(self) -> str:
        return self.choice or self.uid


@dataclass(frozen=True, slots=True)
class Launcher:
    """How a launch handle of an EHR is made: a POST of `body` as JSON with a token of the client `client`; `launch` is in the answer.

    With `form`, as a form by that client's own authentication, values other than text being JSON.
    """

    url: str = ""
    client: str = ""
    scope: str = "launch"
    form: bool = False
    body: Mapping[str, Any] = field(default_factory=dict)
    expects: Mapping[str, Any] = field(default_factory=dict)
    """What has to be in the token response of such a launch."""
    bound: bool = False
    """Whether the handle is for the client `public` alone."""
    patient: str = "a"
    encounter: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """The whole file. `patients` are logical ids by the names that the file uses; `tokens` are given by hand, by name."""

    fhir: str
    clinical: str = ""
    """The FHIR base whose SMART configuration and authorization server are used, where images are at another server than that."""
    dicomweb: str = ""
    insecure: bool = False
    patience: float = 0
    """Seconds that one case may wait, such as for a code to expire."""
    patients: Mapping[str, str] = field(default_factory=dict)
    imaging_patients: Mapping[str, str] = field(default_factory=dict)
    """Their ids at the imaging server, where that is another one and has others."""
    clients: Mapping[str, Client] = field(default_factory=dict)
    users: Mapping[str, User] = field(default_factory=dict)
    studies: tuple[Study, ...] = ()
    launcher: Launcher = Launcher()
    tokens: Mapping[str, str] = field(default_factory=dict, repr=False)
    initial_access_token: str = field(default="", repr=False)
    skip: Mapping[str, str] = field(default_factory=dict)
    """Cases that are left out, each with the reason."""

    def client(self, name: str) -> Client:
        if name not in self.clients:
            raise Skipped(f"the target file has no [clients.{name}]")
        return self.clients[name]

    def user(self, name: str) -> User:
        if name not in self.users:
            raise Skipped(f"the target file has no [users.{name}]")
        return self.users[name]

    def patient(self, name: str) -> str:
        if name not in self.patients:
            raise Skipped(f"the target file has no patient {name}")
        return self.patients[name]

    def imaging_patient(self, name: str) -> str:
        """The id of a patient where images are searched."""
        return self.imaging_patients.get(name) or self.patient(name)

    def study(self, patient: str = "a", *, seen_by: str = "patient") -> Study:
        """A study of this patient that `seen_by` may have whole."""
        for each in self.studies:
            if each.patient == patient and not each.pending and not {seen_by} & {*each.withheld_from, *each.series_withheld_from}:
                return each
        raise Skipped(f"the target file has no study of patient {patient} that {seen_by} may see")

    def withheld_study(self, from_: str) -> Study:
        """One that is kept from this user or client, of a patient whom it may see."""
        for each in self.studies:
            if from_ in each.withheld_from:
                return each
        raise Skipped(f"the target file has no study that is withheld from {from_}")

    def partial_study(self, for_: str) -> Study:
        """One of which some series are kept from this user or client."""
        for each in self.studies:
            if for_ in each.series_withheld_from and each.withheld_series:
                return each
        raise Skipped(f"the target file has no study of which series are withheld from {for_}")


def read_target(path: Path | None, fhir: str) -> Target:
    """The target of a TOML file; `fhir` is used where the file names no base. Raises `TargetError`."""
    if path is None:
        return target_of({}, fhir)
    try:
        found = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise TargetError(f"{path}: {error}") from None
    return target_of(found, fhir)


def target_of(found: Mapping[str, Any], fhir: str = "") -> Target:
    """The same of what a TOML file holds."""
    given = {"fhir": fhir, **found}
    given["fhir"] = str(given["fhir"]).rstrip("/")
    if not given["fhir"]:
        raise TargetError("no FHIR base URL: give it as argument, or as `fhir` in the file")
    given["clients"] = {name: _made(Client, each, f"clients.{name}") for name, each in given.get("clients", {}).items()}
    given["users"] = {name: _made(User, each, f"users.{name}") for name, each in given.get("users", {}).items()}
    given["studies"] = tuple(_made(Study, each, "studies") for each in given.get("studies", ()))
    given["launcher"] = _made(Launcher, given.get("launcher", {}), "launcher")
    made: Target = _made(Target, given, "the file")
    return made


def _made(kind: type[Any], given: Mapping[str, Any], where: str) -> Any:
    """A value of this class; lists become tuples, and names that it does not have are refused."""
    hints = get_type_hints(kind)
    if unknown := sorted(set(given) - set(hints)):
        raise TargetError(f"{where}: {', '.join(unknown)} is not known here")
    values = {name: tuple(value) if isinstance(value, list) and get_args(hints[name]) else value for name, value in given.items()}
    try:
        return kind(**values)
    except TypeError as error:
        raise TargetError(f"{where}: {error}") from None
