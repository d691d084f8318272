"""Settings: command line over `IMAGESHARE_*` over a TOML file over defaults (pydantic-settings).

The TOML file is `IMAGESHARE_CONFIG`, else `imageshare.toml` in the data folder. `imageshare doctor` prints what is in force.
"""

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Literal, get_args
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from profiles.identifiers import ae_title, uid
from server.errors import SettingsError

AeTitle = Annotated[str, AfterValidator(ae_title)]
Oid = Annotated[str, AfterValidator(uid)]


def _network(value: str) -> str:
    ipaddress.ip_network(value, strict=False)
    return value


Network = Annotated[str, AfterValidator(_network)]
"""An address, or a network in CIDR form."""


HIDDEN = "people behind a reverse proxy cannot be told apart, in the trail and where tries are counted: set trusted_proxies, as the README tells"
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


Permission = Literal["store", "query", "retrieve", "worklist", "mpps", "commit"]
"""What a DICOM peer may ask for. C-ECHO needs none."""
EVERY_PERMISSION: frozenset[Permission] = frozenset(get_args(Permission))


class Device(BaseModel, frozen=True, extra="forbid"):
    """A DICOM peer that may associate: its calling AE title, its address and who assigns its patient ids."""

    ae_title: AeTitle = Field(description="its calling AE title")
    address: str = Field(description="an address or network in CIDR form, such as 10.1.2.0/24")
    assigning_authority: Oid | None = Field(default=None, description="OID; the installation's own where absent")
    permissions: frozenset[Permission] = Field(
        default=frozenset({"store", "commit", "worklist", "mpps"}), description=f"of {', '.join(get_args(Permission))}"
    )
    host: str = Field(default="", description="where it is called, with port; empty for a peer that is not")
    port: int = Field(default=0, ge=0, le=65535, description="where it listens for DICOM")

    @field_validator("address")
    @classmethod
    def _network(cls, value: str) -> str:
        ipaddress.ip_network(value, strict=False)
        return value


class RetentionRule(BaseModel, frozen=True, extra="forbid"):
    """How long studies are kept. A study goes only when every rule that applies to it lets it go."""

    modality: str | None = Field(default=None, description="of any series, such as CT; every study where absent")
    institution: str | None = Field(default=None, description="Institution Name (0008,0080), without regard to case and accents")
    keep_days: int = Field(ge=1)
    since: Literal["study", "receipt"] = "study"
    keep_until_age: int | None = Field(default=None, ge=1, le=150, description="years; images of children are kept longer")


class TrustedIssuer(BaseModel, frozen=True, extra="forbid"):
    """A foreign authorization server whose access tokens are taken, such as that of the EHR whose images are here."""

    issuer: str = Field(description="its `iss`, to the letter")
    jwks_uri: str = Field(default="", description="where its keys are, for tokens that are JWTs; or")
    introspection_endpoint: str = Field(
        default="", description="where it is asked about a token (RFC 7662), with these credentials"
    )
    client_id: str = ""
    client_secret: SecretStr | None = None
    cache_seconds: int = Field(
        default=1, ge=0, le=60, description="how long its answer holds, and what it revokes is still taken"
    )
    audience: frozenset[str] = Field(default=frozenset(), description="`aud` that mean this server; its own URLs where empty")
    scope: str = Field(
        default="patient/*.rs", description="SMART scopes that its tokens open at most; user/ only where they name a practitioner"
    )
    patient_authority: Oid = Field(description="OID of who assigns the Patient IDs by which its patients are known here")
    fhir_base: str = Field(
        default="",
        description="where Patient/{id} of a token's patient is read for that Patient ID; where empty the id itself is it",
    )
    patient_system: str = Field(
        default="", description="system of that identifier there; urn:oid: and patient_authority where empty"
    )
    origins: frozenset[Annotated[str, StringConstraints(pattern=r"^https?://[a-z0-9.:\[\]-]+$")]] = Field(
        default=frozenset(),
        description="web origins of its apps in browsers, such as https://viewer.example.org: they may read (CORS)",
    )

    @model_validator(mode="after")
    def _one_way(self) -> "TrustedIssuer":
        if bool(self.jwks_uri) == bool(self.introspection_endpoint):
            raise ValueError("either jwks_uri or introspection_endpoint")
        if self.introspection_endpoint and not (self.client_id and self.client_secret):
            raise ValueError("introspection_endpoint needs client_id and client_secret")
        return self


class TrustedAssertions(BaseModel, frozen=True, extra="forbid"):
    """An issuer of SAML assertions about users (IHE XUA, X-Assertion Provider) that is believed at the SOAP addresses."""

    issuer: str = Field(min_length=1, description="its `Issuer`, to the letter")
    certificates: tuple[Path, ...] = Field(min_length=1, description="what it signs with, PEM: these certificates and no others")
    audience: frozenset[str] = Field(
        default=frozenset(), description="`Audience` that mean this server; its own URLs where empty"
    )
    clock_skew: int = Field(default=60, ge=0, le=300, description="seconds by which its clock may differ")
    scope: str = Field(default="user/*.rs", description="SMART scopes that its assertions open at most")
    resource_id: Literal["confines", "ignored"] = Field(
        default="confines", description="whether an assertion with a patient's resource-id opens that patient's records alone"
    )
    patient_authority: Oid | None = Field(default=None, description="OID of who assigns resource-ids that name no authority")
    practitioner_system: str = Field(
        default="", description="identifier system by which a NameID is that of a Practitioner here; provider ids name their own"
    )
    purposes: dict[str, str] = Field(
        default={}, description="its own purposes of use, `code^codeSystem`, as codes of v3-ActReason such as TREAT"
    )
    authn_contexts: frozenset[str] = Field(
        default=frozenset(), description="AuthnContextClassRef of how users must have signed in; any where empty"
    )
    sha1: bool = Field(default=False, description="whether signatures by SHA-1 are taken, of a partner that cannot do better")
    once: bool = Field(default=False, description="whether each assertion is good for one request alone")


class Partner(BaseModel, frozen=True, extra="forbid"):
    """An organization whose systems are known by the certificate that they show in TLS (IHE ATNA)."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$", description="how the audit trail calls it")
    certificates: tuple[Path, ...] = Field(
        default=(), description="what it may show as a client, PEM; empty for one that only is called"
    )
    scope: str = Field(default="", description="SMART scopes that its certificate opens at the SOAP addresses; none where empty")
    hosts: frozenset[str] = Field(default=frozenset(), description="hosts, or host:port, where it is called")
    verify_name: bool = Field(
        default=True, description="whether its server's certificate must be for the host that is called (IHE ATNA asks for none)"
    )


CodeName = Literal[
    "class_code", "type_code", "format_code", "confidentiality", "facility_type", "practice_setting", "content_type"
]
"""What affinity domains choose codes for (ITI TF-3 section 4.2.3.1.2)."""


WebAddress = Annotated[str, StringConstraints(pattern=r"^https?://[^/?#]")]


class DocumentRecipient(BaseModel, frozen=True, extra="forbid"):
    """A partner's Document Repository that is given the manifest of each study that is published here (IHE RAD-68)."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$", description="how the audit trail calls it")
    url: WebAddress = Field(description="its address for ITI-41")
    update_url: str = Field(
        default="", pattern=r"^(https?://[^/?#].*)?$",
        description="its registry's address for ITI-57: what is rejected here is deprecated there; without, it stays approved",
    )  # fmt: skip
    patient_authority: Oid | None = Field(
        default=None, description="OID of who assigns the patient ids of its affinity domain; those of the images where absent"
    )
    codes: dict[CodeName, str] = Field(
        default={}, description="codes of its affinity domain in place of ours, such as {class_code = 'IMAGES^Images^1.2.3'}"
    )

    @field_validator("codes")
    @classmethod
    def _code(cls, value: dict[CodeName, str]) -> dict[CodeName, str]:
        if any(len(parts := each.split("^")) != 3 or not parts[0] or not parts[2] for each in value.values()):
            raise ValueError("a code is written as code^display^scheme")
        return value


Way = Literal["rad69", "wado-uri", "wado-rs"]
"""How images are fetched: by SOAP (IHE RAD-69), or by URLs (RAD-55, RAD-107)."""


class Community(BaseModel, frozen=True, extra="forbid"):
    """An XDS affinity domain whose documents and images `imageshare fetch` brings here (IHE XDS-I.b, Imaging Document Consumer)."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$", description="how commands and the audit trail call it")
    home_community_id: str = Field(
        default="", pattern=r"^(urn:oid:[0-9.]+)?$", description="urn:oid: of the community, where its documents name none"
    )
    registry: WebAddress = Field(description="its Document Registry's address for ITI-18")
    repositories: dict[Oid, WebAddress] = Field(default={}, description="addresses for ITI-43, by repositoryUniqueId")
    imaging_sources: dict[Oid, WebAddress] = Field(default={}, description="addresses for RAD-69, by Retrieve Location UID")
    wado_uri: dict[Oid, WebAddress] = Field(default={}, description="addresses for RAD-55, by Retrieve Location UID")
    wado_rs: dict[Oid, WebAddress] = Field(
        default={}, description="base URLs of DICOMweb for RAD-107, without /studies, by Retrieve Location UID"
    )
    by: Way = Field(default="rad69", description=f"how its images are fetched: {', '.join(get_args(Way))}")
    token: SecretStr | None = Field(default=None, description="access token for RAD-55 and RAD-107, where these ask for one")
    patient_authority: Oid | None = Field(
        default=None, description="OID of who assigns the patient ids of its images that name no issuer; this server where absent"
    )
    seconds: float = Field(default=60.0, gt=0, le=3600, description="how long each step of an exchange may take")


class Hl7Peer(BaseModel, frozen=True, extra="forbid"):
    """A patient identity source whose HL7 v2 messages are taken (IHE ITI-8): it says who is whom."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$", description="how the audit trail calls it")
    address: Network | None = Field(
        default=None, description="where it calls from: an address, or a network in CIDR form; anywhere where absent"
    )
    certificates: tuple[Path, ...] = Field(
        default=(), description="what it shows in TLS, PEM, one of these; it may call without TLS where there are none"
    )

    @model_validator(mode="after")
    def _known_by(self) -> "Hl7Peer":
        if self.address is None and not self.certificates:
            raise ValueError("a peer is known by its address, its certificates, or both")
        return self


class HospitalSignIn(BaseModel, frozen=True, extra="forbid"):
    """A hospital's OpenID provider that people may sign in through."""

    id: str = Field(pattern=r"^[a-z0-9-]{1,40}$", description="its name in URLs")
    title: str = Field(min_length=1, description="what people know the hospital by")
    issuer: str = Field(
        description="its `iss`, to the letter; what it says of itself is at /.well-known/openid-configuration below it"
    )
    client_id: str = Field(min_length=1, description="what this server is registered there as")
    client_secret: SecretStr | None = None
    scope: str = Field(default="openid profile", pattern=r"(^|.* )openid( .*|$)")
    assurance: Literal[1, 2] = Field(default=1, description="how strongly it signs people in: 1 by one factor, 2 by two")


class Settings(BaseSettings):
    """Everything that can be set. Lengths are bytes, durations are seconds."""

    model_config = SettingsConfigDict(env_prefix="IMAGESHARE_", env_nested_delimiter="__", extra="forbid", frozen=True)

    data: Path = Field(default=Path("imageshare-data"), description="the data folder")
    database_url: SecretStr | None = Field(default=None, description="SQLAlchemy URL; SQLite in the data folder where absent")
    blob_url: str | None = Field(default=None, description="file:// folder; `blobs` in the data folder where absent")
    public_url: str | None = Field(default=None, description="what clients call this server; http://host:port where absent")

    http_host: str = Field(default="127.0.0.1", description="the address that HTTP listens on")
    http_port: int = Field(default=8080, ge=0, le=65535, description="0 for any free one")
    http_processes: int = Field(default=1, ge=1, le=64, description="how many of `imageshare serve` share the HTTP port")
    http_tls_certificate: Path | None = Field(
        default=None, description="this server's certificate and its chain, PEM: HTTP is spoken over TLS then, and nothing else"
    )
    http_tls_key: Path | None = Field(default=None, description="the certificate's private key, PEM, without password")
    http_tls_ca: Path | None = Field(
        default=None, description="who signs the certificates that clients may show, PEM; none asked for"
    )
    http_tls_require: bool = Field(
        default=False, description="whether every client must show one, which browsers of people have not"
    )
    trusted_proxies: tuple[Network, ...] = Field(
        default=(),
        description="addresses or networks of reverse proxies: whom these name in X-Forwarded-For, and nobody else, is who asks",
    )
    dicom_host: str = Field(default="127.0.0.1", description="the address that DICOM listens on, with and without TLS")
    dicom_port: int = Field(default=11112, ge=0, le=65535, description="0 for any free one")
    dicom_tls_port: int | None = Field(default=None, ge=0, le=65535, description="DICOM over TLS; usually 2762; off where absent")
    dicom_tls_certificate: Path | None = Field(default=None, description="this server's certificate and its chain, PEM")
    dicom_tls_key: Path | None = Field(default=None, description="the certificate's private key, PEM, without password")
    dicom_tls_ca: Path | None = Field(
        default=None, description="who signs the certificates that peers must show, PEM; none asked for"
    )
    dicom_tls_profile: Literal["bcp195", "bcp195-modified"] = Field(
        default="bcp195", description="PS3.15 section B.12 or, narrower, B.13"
    )
    dicom_processes: int = Field(default=1, ge=1, le=64, description="how many of `imageshare serve` share the DICOM port")
    ae_title: AeTitle = Field(default="IMAGESHARE", description="this server's own AE title, called and calling")

    mllp_host: str = Field(default="127.0.0.1", description="the address that HL7 v2 listens on, with and without TLS")
    mllp_port: int | None = Field(
        default=None, ge=0, le=65535, description="0 for any free one; 2575 where absent, or any if another program has that"
    )
    mllp_tls_port: int | None = Field(default=None, ge=0, le=65535, description="MLLP over TLS; usually 2576; off where absent")
    mllp_tls_certificate: Path | None = Field(default=None, description="this server's certificate and its chain, PEM")
    mllp_tls_key: Path | None = Field(default=None, description="the certificate's private key, PEM, without password")
    mllp_tls_ca: Path | None = Field(
        default=None, description="who signs the certificates that senders must show, PEM; none asked for"
    )
    mllp_connections: int = Field(default=64, ge=1, description="at once, of all senders together")
    mllp_idle: float = Field(default=3600.0, gt=0, description="a connection that sends nothing this long is closed")
    hl7_peers: tuple[Hl7Peer, ...] = Field(
        default=(), description="who may feed patient identities (IHE ITI-8); programs on this machine only where empty"
    )
    affinity_domain_authority: Annotated[tuple[Oid, ...], NoDecode] = Field(
        default=(),
        description="OID, or several joined by commas, of who assigns the patient ids of the XDS affinity domain; ids of others are ignored; any where empty",
    )
    affinity_domain_codes: Path | None = Field(
        default=None,
        description="its code set, in the form of NIST's codes.xml: what has other codes is refused; any code where absent",
    )

    documents_to: tuple[DocumentRecipient, ...] = Field(
        default=(),
        description="partners whose Document Repositories are given the manifests of studies (IHE RAD-68), besides our own",
    )
    foreign_registry: str = Field(
        default="",
        pattern=r"^(https?://[^/?#].*)?$",
        description="a Document Registry's address for ITI-42, where documents that are submitted here are registered; our own where empty",
    )

    communities: tuple[Community, ...] = Field(
        default=(), description="affinity domains that images and documents are fetched from (IHE XDS-I.b): `imageshare fetch`"
    )

    quiet_period: float = Field(default=5.0, ge=0, description="a study is published this long after its last instance")
    timezone: str = Field(default="UTC", description="the site's zone, for DICOM times that name none")
    language: str = Field(default="en-US", description="of documents and resources that are made here")
    organization: str = Field(default="imageshare", description="who runs this server, as documents and the audit trail name it")
    help_text: str = Field(
        default="",
        description="how people reach whom they ask for help, such as: call 0123 45 67 89, weekdays 8 to 17; on every page and in every e-mail",
    )

    devices: tuple[Device, ...] = Field(default=(), description="DICOM peers; loopback only where empty")
    authorities: dict[str, Oid] = Field(default={}, description="Issuer of Patient ID (0010,0021) -> OID")

    retention: tuple[RetentionRule, ...] = Field(default=(), description="nothing is ever deleted by itself where empty")
    rejection_senders: frozenset[str] = Field(
        default=frozenset(),
        description="AE titles and client ids whose rejection notes (IHE IOCM) are obeyed; nobody's where empty",
    )

    commitment_reports: Literal["new", "same"] = Field(
        default="new", description="storage commitment is reported over an association of our own, or over that of the request"
    )

    max_associations: int = Field(
        default=32, ge=1, description="at once, of all peers together; each of dicom_processes has its part of it, rounded up"
    )
    max_associations_per_device: int = Field(
        default=16, ge=1, description="at once from one AE title at one address, in each of dicom_processes"
    )
    association_idle: float = Field(default=60.0, gt=0, description="an association that says nothing this long is aborted")
    association_seconds: float = Field(default=86400.0, gt=0, description="an association is aborted when it is this old")
    max_instance_bytes: int = Field(default=8 << 30, gt=0, description="one instance, by whichever door")
    max_message_bytes: int = Field(default=4 << 20, gt=0, description="a SOAP envelope, JSON body or HL7 v2 message")
    max_submission_bytes: int = Field(
        default=32 << 20,
        gt=0,
        description="the SOAP envelope of a submission (ITI-41, ITI-42, ITI-57, ITI-61), without its attachments",
    )
    max_query_results: int = Field(
        default=2000, ge=1, description="whole objects in the answer to a stored query of XDS; ids are not limited"
    )
    fhir_update_creates: bool = Field(
        default=True, description="whether a FHIR update of a resource that is not there creates it, with the client's id"
    )
    fhir_references: Literal["allow", "check"] = Field(
        default="allow", description="whether a FHIR resource may refer to what is not here, or is refused (check)"
    )
    fhir_conditional_delete: Literal["single", "multiple"] = Field(
        default="single",
        description="whether a FHIR delete by a condition is refused where several resources meet it, or deletes them all",
    )
    session_seconds: int = Field(default=43_200, gt=0, description="who signed in is signed out after this, come what may")
    session_idle: int = Field(default=1_800, gt=0, description="a session that asks for nothing this long is over")
    sign_in_failures: int = Field(
        default=10, ge=1, description="wrong passwords for one account within sign_in_window; then none is taken in it"
    )
    sign_in_failures_per_address: int = Field(
        default=100,
        ge=0,
        description="the same for one network address, where apps also begin at most 20 times as many authorizations in ten minutes; 0 for any number",
    )
    client_failures: int = Field(
        default=300,
        ge=0,
        description="wrong secrets and assertions in the name of one OAuth client, from one network, until further ones are answered 429; 0: any number",
    )
    sign_in_window: int = Field(
        default=900, gt=0, description="seconds that failures to sign in, and those of OAuth clients, are counted for"
    )
    proxy_until_age: int = Field(
        default=18, ge=0, le=150,
        description="years that a patient becomes when parents and guardians see the records no more, where nothing else was said of them; 0 for none",
    )  # fmt: skip
    smtp_url: SecretStr | None = Field(
        default=None,
        description="smtp://user:password@host:587 (with STARTTLS) or smtps://host:465; where absent e-mails are files in the data folder",
    )
    mail_from: str = Field(default="imageshare@localhost", description="the address that e-mails to people come from")
    privacy_officer: str = Field(default="", description="an e-mail address that is told of every emergency access")
    access_token_seconds: int = Field(
        default=3600, ge=60, le=3600, description="life of an access token; of a program's 300 at most"
    )
    refresh_token_days: int = Field(
        default=180, ge=1, description="an app that asks for no new token this long has to be allowed anew"
    )
    client_registration: Literal["closed", "token", "open"] = Field(
        default="closed",
        description="whether apps register themselves (RFC 7591): not at all, with client_registration_token, or any",
    )
    client_registration_token: SecretStr | None = Field(default=None, description="what apps show to register themselves")
    client_registration_scope: str = Field(
        default="openid fhirUser profile launch launch/patient launch/encounter launch/imagingstudy offline_access online_access patient/*.rs",
        description="what apps that register themselves may ask for at most",
    )
    fetch_allowed_hosts: frozenset[str] = Field(
        default=frozenset(),
        description="host or host:port, such as that of a hospital's own OpenID provider: fetched from also over http and at private addresses",
    )
    fetch_ca: Path | None = Field(
        default=None, description="who signs, besides the public ones, the certificates of servers that are fetched from, PEM"
    )
    imaging_capability_urls: bool = Field(
        default=False,
        description="whether each ImagingStudy has a WADO-RS address of its own, for the token that found it and no other",
    )
    imaging_capability_seconds: int = Field(default=3600, ge=60, le=86_400, description="how long such an address is good")
    consent_default: Literal["permit", "deny"] = Field(
        default="permit",
        description="whether what no Consent of a patient speaks of is open to practitioners and programs, for treatment, payment and operations",
    )
    trusted_issuers: tuple[TrustedIssuer, ...] = Field(
        default=(),
        description="foreign authorization servers whose access tokens are taken; opaque ones where exactly one is asked about them",
    )
    trusted_assertions: tuple[TrustedAssertions, ...] = Field(
        default=(), description="issuers of SAML assertions that are believed at the SOAP addresses (IHE XUA)"
    )
    soap_assertions: Literal["accepted", "required"] = Field(
        default="accepted",
        description="whether who is known by a certificate, or as a program on this machine, needs an assertion too",
    )
    soap_schemas: Path | None = Field(
        default=None,
        description="folder of the schemas of IHE and OASIS (the NIST toolkit's schema/v3): SOAP messages are held against them; not where absent",
    )
    soap_validation: Literal["answers", "messages"] = Field(
        default="messages", description="whether only our answers are held against soap_schemas, or what others send as well"
    )
    partners: tuple[Partner, ...] = Field(default=(), description="organizations that are known by their certificates (IHE ATNA)")
    audit_repository: str = Field(
        default="",
        pattern=r"^((syslog-tls|syslog-udp)://[^/?#@]+)?$",
        description="where the audit trail is sent as well (IHE ATNA): syslog-tls://host:6514, or syslog-udp://host:514; nowhere where empty",
    )
    audit_repository_ca: Path | None = Field(
        default=None, description="who signs the audit repository's certificate, PEM; the system's where absent"
    )
    audit_repository_certificate: Path | None = Field(
        default=None, description="what this server shows there, with its chain, PEM; http_tls_certificate where absent"
    )
    audit_repository_key: Path | None = Field(default=None, description="that certificate's private key, PEM, without password")
    audit_repository_verify_name: bool = Field(
        default=True, description="whether the audit repository's certificate must be for its host"
    )
    hospital_sign_in: tuple[HospitalSignIn, ...] = Field(
        default=(), description="OpenID providers of hospitals that people may sign in through"
    )
    durable: bool = Field(
        default=True, description="whether answers wait for the disk; without, a power cut loses what was acknowledged"
    )
    min_free_bytes: int = Field(default=256 << 20, ge=0, description="below this the store refuses (0xA700, 507)")
    log_level: str = Field(default="INFO", description=", ".join(LEVELS))

    @field_validator("timezone")
    @classmethod
    def _zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, OSError):
            raise ValueError("no such time zone; take a name like Europe/Zurich") from None
        return value

    @field_validator("affinity_domain_authority", mode="before")
    @classmethod
    def _joined(cls, value: object) -> object:
        """Settings of the environment are text."""
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("documents_to")
    @classmethod
    def _told_apart(cls, value: tuple[DocumentRecipient, ...]) -> tuple[DocumentRecipient, ...]:
        if len({each.name for each in value}) < len(value):
            raise ValueError("two of them have the same name")
        return value

    @field_validator("public_url")
    @classmethod
    def _web_address(cls, value: str | None) -> str | None:
        """An empty one, as a compose file may have it, is none."""
        if not value:
            return None
        rule = "the URL that clients call this server by, such as https://images.example.org: http or https, a host, no query"
        try:
            parts = urlsplit(value)
            usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            usable = False
        if not usable or any(mark in value for mark in "?#@\"'<>") or not value.isprintable() or " " in value:
            raise ValueError(rule)
        return value

    @field_validator("log_level")
    @classmethod
    def _level(cls, value: str) -> str:
        if value.upper() not in LEVELS:
            raise ValueError(f"one of {', '.join(LEVELS)}")
        return value.upper()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        named = init_settings().get("data") or os.environ.get("IMAGESHARE_DATA") or "imageshare-data"
        toml = Path(os.environ.get("IMAGESHARE_CONFIG") or Path(named) / "imageshare.toml")
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml)

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    @property
    def database(self) -> str:
        """The SQLAlchemy URL in force, password and all."""
        return (
            self.database_url.get_secret_value() if self.database_url else f"sqlite:///{self.data.absolute() / 'imageshare.db'}"
        )

    @property
    def blob_folder(self) -> Path:
        if self.blob_url is None:
            return self.data.absolute() / "blobs"
        if not self.blob_url.startswith("file://"):
            raise SettingsError("IMAGESHARE_BLOB_URL must be a file:// URL; other stores are not offered yet")
        return Path(self.blob_url.removeprefix("file://"))

    @property
    def base_url(self) -> str:
        """What clients call this server, without a trailing slash."""
        return (self.public_url or self.http_address).rstrip("/")

    @property
    def http_address(self) -> str:
        """Where the HTTP side listens, as a URL."""
        return f"{'https' if self.http_tls_certificate else 'http'}://{bracketed(self.http_host)}:{self.http_port}"

    @property
    def hides_callers(self) -> bool:
        """Whether all people come from one address: that of a reverse proxy on this machine, which `trusted_proxies` does not name."""
        return self.is_published and is_local_name(bracketed(self.http_host)) and not self.trusted_proxies

    @property
    def is_published(self) -> bool:
        """Whether `public_url` names this server to others than programs on its own machine."""
        return self.public_url is not None and not is_local_name(urlsplit(self.public_url).netloc)


def plain_address(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address as settings are written: without zone, and IPv4 where it is IPv4 within IPv6 (RFC 4291 section 2.5.5.2)."""
    host = ipaddress.ip_address(address.partition("%")[0])
    return (host.ipv4_mapped if isinstance(host, ipaddress.IPv6Address) else None) or host


def bracketed(host: str) -> str:
    """RFC 3986 section 3.2.2: an IPv6 address goes in brackets."""
    return f"[{host}]" if ":" in host else host


def is_local_name(authority: str) -> bool:
    """Whether the host of `host:port` is this machine whoever resolves it: `localhost` or a loopback address."""
    try:
        host = urlsplit(f"//{authority}").hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def load(**overrides: object) -> Settings:
    """The settings in force; `overrides` that are None are left out. Raises `SettingsError` naming every wrong field."""
    if (named := os.environ.get("IMAGESHARE_CONFIG")) and not Path(named).is_file():
        raise SettingsError("IMAGESHARE_CONFIG names a file that is not there")
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        fields = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'settings'}: {e['msg']}" for e in error.errors(include_input=False))
        raise SettingsError(f"settings are wrong: {fields}") from None
    except ValueError as error:
        raise SettingsError(f"the settings file cannot be read: {type(error).__name__}") from None
