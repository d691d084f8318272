"""Everything that can be set, with its default and what it is."""

import os
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from server.settings.addresses import AeTitle, MaybeWebAddress, Network, Oid, bracketed, checked_url, is_local_name
from server.settings.dicom import Device, RetentionRule
from server.settings.issuers import Ehr, HospitalSignIn, TrustedIssuer
from server.settings.partners import Community, DocumentRecipient, Hl7Peer, Partner, TrustedAssertions

HIDDEN = "people behind a reverse proxy cannot be told apart, in the trail and where tries are counted: set trusted_proxies, as the README tells"
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


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
    foreign_registry: MaybeWebAddress = Field(
        default="",
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
    ehrs: tuple[Ehr, ...] = Field(default=(), description="EHRs that may launch the viewer")
    durable: bool = Field(
        default=True, description="whether answers wait for the disk; without, a power cut loses what was acknowledged"
    )
    bring_in_max_bytes: int = Field(
        default=8 << 30, gt=0, description="what somebody brings in at once from a browser, packed and unpacked"
    )
    bring_in_max_files: int = Field(
        default=20_000, gt=0, description="how many files that may be, those in ZIP files counted too"
    )
    bring_in_days: int = Field(
        default=14,
        ge=1,
        description="what was brought in and waits, for the rest of it or for staff, is removed after so many days",
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

    @field_validator("documents_to", "communities")
    @classmethod
    def _told_apart(cls, value: tuple[DocumentRecipient | Community, ...]) -> tuple[DocumentRecipient | Community, ...]:
        if len({each.name for each in value}) < len(value):
            raise ValueError("two of them have the same name")
        return value

    @field_validator("trusted_assertions")
    @classmethod
    def _issued_apart(cls, value: tuple[TrustedAssertions, ...]) -> tuple[TrustedAssertions, ...]:
        if len({each.issuer for each in value}) < len(value):
            raise ValueError("two of them have the same issuer; give one of them all of the certificates")
        return value

    @field_validator("audit_repository")
    @classmethod
    def _syslog(cls, value: str) -> str:
        example = "syslog-tls://audit.example.org:6514"
        if any(mark in value.partition("://")[2] for mark in "/?"):
            raise ValueError(f"a host and its port, such as {example}, and nothing behind these")
        return value and checked_url(value, ("syslog-tls", "syslog-udp"), example)

    @field_validator("blob_url")
    @classmethod
    def _folder(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith("file:///"):
            raise ValueError("a file:// URL of a folder, such as file:///srv/blobs; other stores are not offered yet")
        return value

    @model_validator(mode="after")
    def _asks_for_certificates(self) -> "Settings":
        if self.http_tls_require and not (self.http_tls_certificate and self.http_tls_ca):
            raise ValueError(
                "http_tls_require needs http_tls_certificate and http_tls_ca: without these no client is asked for one"
            )
        return self

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
        toml = TomlConfigSettingsSource(settings_cls, toml_file(init_settings().get("data")))
        return init_settings, env_settings, toml

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


def toml_file(data: object = None) -> Path:
    """Where the settings file is, if there is one; `data` is the data folder of the command line."""
    folder = Path(str(data or os.environ.get("IMAGESHARE_DATA") or "imageshare-data"))
    return Path(os.environ.get("IMAGESHARE_CONFIG") or folder / "imageshare.toml")
