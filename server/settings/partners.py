"""Tables of the IHE family: partners, whose assertions are believed, who is given manifests, communities, and senders of HL7 v2."""

import re
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BaseModel, Field, SecretStr, field_validator, model_validator

from server.settings.addresses import Issuer, MaybeWebAddress, Network, Oid, Scopes, WebAddress


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", value):
        raise ValueError("a name of letters, digits, dots, hyphens and underscores, at most 64 of them")
    return value


def _home_community_id(value: str) -> str:
    if value and not re.fullmatch(r"urn:oid:[0-9]+(\.[0-9]+)+", value):
        raise ValueError("an OID as a URN, such as urn:oid:1.2.826.0.1.3680043.10")
    return value


Name = Annotated[str, AfterValidator(_name)]
"""What commands and the audit trail call somebody."""


class TrustedAssertions(BaseModel, frozen=True, extra="forbid"):
    """An issuer of SAML assertions about users (IHE XUA, X-Assertion Provider) that is believed at the SOAP addresses."""

    issuer: Issuer = Field(min_length=1, description="its `Issuer`, to the letter")
    certificates: tuple[Path, ...] = Field(min_length=1, description="what it signs with, PEM: these certificates and no others")
    audience: frozenset[str] = Field(
        default=frozenset(), description="`Audience` that mean this server; its own URLs where empty"
    )
    clock_skew: int = Field(default=60, ge=0, le=300, description="seconds by which its clock may differ")
    lifetime: int = Field(
        default=86_400, ge=60, description="seconds for which an assertion holds at most, from its IssueInstant"
    )
    scope: Scopes = Field(default="user/*.rs", description="SMART scopes that its assertions open at most")
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

    @field_validator("purposes")
    @classmethod
    def _purpose(cls, value: dict[str, str]) -> dict[str, str]:
        if not all(re.fullmatch(r"[^^]+\^[^^]+", theirs) and re.fullmatch(r"[A-Z0-9-]+", ours) for theirs, ours in value.items()):
            raise ValueError("a purpose is written as code^codeSystem = a code of v3-ActReason, such as 'T^1.2.3' = 'TREAT'")
        return value


class Partner(BaseModel, frozen=True, extra="forbid"):
    """An organization whose systems are known by the certificate that they show in TLS (IHE ATNA)."""

    name: Name = Field(description="how the audit trail calls it")
    certificates: tuple[Path, ...] = Field(
        default=(), description="what it may show as a client, PEM; empty for one that only is called"
    )
    scope: Scopes = Field(
        default="", description="SMART scopes that its certificate opens at the SOAP addresses; none where empty"
    )
    hosts: frozenset[str] = Field(default=frozenset(), description="hosts, or host:port, where it is called")
    verify_name: bool = Field(
        default=True, description="whether its server's certificate must be for the host that is called (IHE ATNA asks for none)"
    )


CodeName = Literal[
    "class_code", "type_code", "format_code", "confidentiality", "facility_type", "practice_setting", "content_type"
]
"""What affinity domains choose codes for (ITI TF-3 section 4.2.3.1.2)."""


class DocumentRecipient(BaseModel, frozen=True, extra="forbid"):
    """A partner's Document Repository that is given the manifest of each study that is published here (IHE RAD-68)."""

    name: Name = Field(description="how the audit trail calls it")
    url: WebAddress = Field(description="its address for ITI-41")
    update_url: MaybeWebAddress = Field(
        default="",
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

    name: Name = Field(description="how commands and the audit trail call it")
    home_community_id: Annotated[str, AfterValidator(_home_community_id)] = Field(
        default="", description="urn:oid: of the community, where its documents name none"
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
    at_once: int = Field(default=4, ge=1, le=16, description="how many images are asked for at a time by RAD-55 and RAD-107")
    ca: Path | None = Field(default=None, description="who signs its servers' certificates, PEM; http_tls_ca where absent")
    certificate: Path | None = Field(
        default=None, description="what this server shows there, with its chain, PEM; http_tls_certificate where absent"
    )
    key: Path | None = Field(default=None, description="that certificate's private key, PEM, without password")
    verify_name: bool = Field(default=True, description="whether its servers' certificates must be for their hosts")


class Hl7Peer(BaseModel, frozen=True, extra="forbid"):
    """A patient identity source whose HL7 v2 messages are taken (IHE ITI-8): it says who is whom."""

    name: Name = Field(description="how the audit trail calls it")
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
