"""A small SMART server of its own making, right in everything that the kit asks, and wrong where a fault is switched on: what it knows."""

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, Final

from joserfc.jwk import ECKey, RSAKey
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

FAULTS: Final[Mapping[str, str]] = {
    "plain-pkce": "code_challenge_method=plain is accepted",
    "no-pkce": "an authorization request needs no code_challenge",
    "verifier-ignored": "code_verifier is not compared",
    "code-reuse": "a code works again and again",
    "replay-keeps-tokens": "a replayed code is refused, but what it brought stays",
    "code-of-others": "any client redeems any code",
    "aud-ignored": "aud is not compared with the FHIR base",
    "state-dropped": "state does not come back",
    "no-iss": "iss does not come back",
    "redirect-prefix": "a redirect_uri that goes on after the registered one is taken",
    "open-redirect": "any redirect_uri is taken",
    "scope-widened": "the grant has all that the client is registered for",
    "scope-unordered": "letters of a scope are read in any order, and rewritten",
    "cacheable": "token responses may be kept",
    "refresh-stays": "refresh tokens do not rotate",
    "refresh-reuse": "a used refresh token does not end the grant",
    "refresh-of-others": "any client uses any refresh token",
    "refresh-widens": "a refresh gives what it is asked for",
    "unsigned": "access tokens with alg none are believed",
    "any-signature": "signatures of access tokens are not verified",
    "id-token-opens": "an id_token is taken for an access token",
    "revocation-ignored": "revoked tokens go on working",
    "token-in-url": "a token in the URL is taken",
    "jti-reuse": "a client assertion works again and again",
    "assertion-audience": "aud of a client assertion is not compared",
    "long-assertions": "a client assertion may live for an hour",
    "secret-backend": "a client with a secret gets client_credentials",
    "long-backend": "backend tokens live an hour",
    "introspection-open": "anybody may introspect",
    "audience-ignored": "access tokens for another server are taken",
    "no-patient-is-all": "a patient/ scope without patient opens what the person may see",
    "capability-alone": "a capability URL needs no token",
    "capability-of-any-token": "a capability URL takes any token",
    "capability-wide": "a capability URL opens whatever is appended",
    "cors-anywhere": "every origin reads FHIR",
    "empty-bundle": "a search for another patient is an empty Bundle",
    "patients-joined": "of several patients in one search only the first is looked at",
    "withheld-told": "a search tells of studies that are withheld",
    "total-counts-withheld": "Bundle.total counts what is withheld",
    "trimmed": "a study of which a series is withheld comes without it",
    "wado-open": "WADO-RS does not look whose study it is",
    "metadata-open": "metadata do not look whose study it is",
    "rendered-open": "rendered pictures do not look whose study it is",
    "scope-ignored": "WADO-RS asks for no scope",
    "batch-open": "entries of a batch are not judged",
    "no-endpoint": "_include=ImagingStudy:endpoint is ignored",
    "updated-ignored": "_lastUpdated is ignored",
    "html-discovery": "discovery is text/html for who accepts that",
    "launch-reuse": "a launch handle opens many launches",
}
"""Every fault by its name, in words."""

FHIR: Final = "/fhir"
WADO: Final = "/dicomweb"
PATIENTS: Final = {"a": "alice", "b": "bob"}
REDIRECT: Final = "https://app.example.org/callback"
ORIGIN: Final = "https://app.example.org"
UPDATED: Final = "2026-03-01T10:00:00.000Z"


@dataclass(frozen=True)
class Registered:
    """A client. `reach` are the patients of a backend client; `withheld` studies and series that are kept from it."""

    id: str
    scope: str
    secret: str = ""
    keys: tuple[Any, ...] = ()
    backend: bool = False


@dataclass(frozen=True)
class Account:
    """Somebody. `patients` are whom they may see."""

    name: str
    fhir_user: str
    patients: tuple[str, ...]


@dataclass(frozen=True)
class Images:
    """A study; its series hold UIDs of instances. Names in `withheld` and `series_withheld` are of accounts and clients."""

    name: str
    uid: str
    patient: str
    series: Mapping[str, tuple[str, ...]]
    withheld: frozenset[str] = frozenset()
    series_withheld: frozenset[str] = frozenset()
    pending: bool = False

    @property
    def id(self) -> str:
        return f"study-{self.name}"

    @property
    def last_series(self) -> str:
        return list(self.series)[-1]


@dataclass
class Grant:
    """What a token stands for."""

    client: str
    account: str
    scope: str
    patient: str
    context: dict[str, Any]
    ended: bool = False
    nonce: str = ""


def _study(number: int, name: str, patient: str, **more: Any) -> Images:
    root = f"1.2.826.0.1.3680043.8.498.{number}"
    series = {f"{root}.1": (f"{root}.1.1", f"{root}.1.2"), f"{root}.2": (f"{root}.2.1",)}
    return Images(name, root, patient, series, **more)


@dataclass
class State:
    """All that it knows, in memory. Keys are made once for a test run."""

    faults: frozenset[str] = frozenset()
    base: str = ""
    with_capabilities: bool = False
    """Whether the addresses of Endpoints are capability URLs."""
    capabilities: dict[str, tuple[str, Grant]] = field(default_factory=dict)
    """Of each the UID of its study, and the grant that it was made for."""
    clients: dict[str, Registered] = field(default_factory=dict)
    accounts: dict[str, Account] = field(default_factory=dict)
    studies: tuple[Images, ...] = ()
    requests: dict[str, dict[str, str]] = field(default_factory=dict)
    sessions: dict[str, str] = field(default_factory=dict)
    codes: dict[str, dict[str, Any]] = field(default_factory=dict)
    grants: dict[str, Grant] = field(default_factory=dict)
    refreshes: dict[str, dict[str, Any]] = field(default_factory=dict)
    launches: dict[str, dict[str, Any]] = field(default_factory=dict)
    assertions: set[str] = field(default_factory=set)
    registrations: dict[str, dict[str, Any]] = field(default_factory=dict)

    def wrong(self, fault: str) -> bool:
        """Whether this fault is on."""
        if fault not in FAULTS:
            raise KeyError(fault)
        return fault in self.faults

    @property
    def fhir(self) -> str:
        return self.base + FHIR

    def reach(self, grant: Grant) -> frozenset[str]:
        """Ids of the patients whom the grant's person or client may see."""
        if not grant.account:
            return frozenset([PATIENTS["a"]])
        return frozenset(PATIENTS[each] for each in self.accounts[grant.account].patients)

    def principal(self, grant: Grant) -> str:
        return grant.account or "backend"


SIGNING: Final = RSAKey.generate_key(2048, private=True, parameters={"kid": "signing", "use": "sig", "alg": "RS256"})
CLIENT_RSA: Final = RSAKey.generate_key(2048, private=True, parameters={"kid": "rsa", "use": "sig", "alg": "RS384"})
CLIENT_EC: Final = ECKey.generate_key("P-384", private=True, parameters={"kid": "ec", "use": "sig", "alg": "ES384"})
OTHER_SECRET: Final = "correct horse battery staple"
INITIAL: Final = "may-register"
_ALL: Final = "launch launch/patient launch/encounter launch/imagingstudy openid fhirUser offline_access online_access"
_APP: Final = f"{_ALL} patient/*.cruds user/*.rs patient/*.read patient/*.write user/*.read"  # what people's apps may ask for


def new_state(*faults: str) -> State:
    """A server with these faults."""
    state = State(frozenset(faults))
    keys = (CLIENT_RSA, CLIENT_EC)
    for each in (
        Registered("app", _APP),
        Registered("confidential", _APP, secret=OTHER_SECRET),
        Registered("signed", _APP, keys=keys),
        Registered("service", "system/ImagingStudy.rs launch", keys=keys, backend=True),
    ):
        state.clients[each.id] = each
    for account in (
        Account("patient", "Patient/alice", ("a",)),
        Account("patient_b", "Patient/bob", ("b",)),
        Account("proxy", "RelatedPerson/parent", ("a",)),
        Account("practitioner", "Practitioner/doctor", ("a", "b")),
    ):
        state.accounts[account.name] = account
    state.studies = (
        _study(1, "ankle", "a"),
        _study(2, "chest", "a"),
        _study(3, "ultrasound", "a", withheld=frozenset(["proxy", "practitioner", "backend"])),
        _study(4, "heart", "a", series_withheld=frozenset(["proxy", "practitioner"])),
        _study(5, "knee", "b"),
        _study(6, "fetched", "a", pending=True),
    )
    return state


def dicom(study: Images, series: str, instance: str) -> bytes:
    """A CT of 8 x 8 pixels, as a PS3.10 file."""
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", instance
    data.StudyInstanceUID, data.SeriesInstanceUID = study.uid, series
    data.PatientID, data.PatientName, data.Modality = PATIENTS[study.patient], "Test^Kit", "CT"
    data.Rows = data.Columns = 8
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation = 7, 0
    data.PixelData = bytes(64)
    data["PixelData"].VR = "OB"
    data.file_meta = FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    output = BytesIO()
    dcmwrite(output, data, enforce_file_format=True)
    return output.getvalue()


def handle() -> str:
    """Something that nobody guesses."""
    return secrets.token_urlsafe(32)


def now() -> int:
    return int(time.time())
