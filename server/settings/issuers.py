"""Tables of who else says who somebody is: foreign authorization servers, and hospitals' OpenID providers."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, SecretStr, StringConstraints, model_validator

from server.settings.addresses import Issuer, MaybeWebAddress, Oid, Scopes, WebAddress


class TrustedIssuer(BaseModel, frozen=True, extra="forbid"):
    """A foreign authorization server whose access tokens are taken, such as that of the EHR whose images are here."""

    issuer: Issuer = Field(description="its `iss`, to the letter")
    jwks_uri: MaybeWebAddress = Field(default="", description="where its keys are, for tokens that are JWTs; or")
    introspection_endpoint: MaybeWebAddress = Field(
        default="", description="where it is asked about a token (RFC 7662), with these credentials"
    )
    client_id: str = ""
    client_secret: SecretStr | None = None
    cache_seconds: int = Field(
        default=1, ge=0, le=60, description="how long its answer holds, and what it revokes is still taken"
    )
    audience: frozenset[str] = Field(default=frozenset(), description="`aud` that mean this server; its own URLs where empty")
    scope: Scopes = Field(
        default="patient/*.rs", description="SMART scopes that its tokens open at most; user/ only where they name a practitioner"
    )
    patient_authority: Oid = Field(description="OID of who assigns the Patient IDs by which its patients are known here")
    fhir_base: MaybeWebAddress = Field(
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


class HospitalSignIn(BaseModel, frozen=True, extra="forbid"):
    """A hospital's OpenID provider that people may sign in through."""

    id: str = Field(pattern=r"^[a-z0-9-]{1,40}$", description="its name in URLs")
    title: str = Field(min_length=1, description="what people know the hospital by")
    issuer: WebAddress = Field(
        description="its `iss`, to the letter; what it says of itself is at /.well-known/openid-configuration below it"
    )
    client_id: str = Field(min_length=1, description="what this server is registered there as")
    client_secret: SecretStr | None = None
    scope: str = Field(default="openid profile", pattern=r"(^|.* )openid( .*|$)")
    assurance: Literal[1, 2] = Field(default=1, description="how strongly it signs people in: 1 by one factor, 2 by two")


class Ehr(BaseModel, frozen=True, extra="forbid"):
    """An EHR that may launch our viewer (SMART App Launch 2.2), where this server is registered with the redirect URI `/launch/back`."""

    issuer: WebAddress = Field(description="its FHIR base URL, which is the `iss` of a launch")
    client_id: str = Field(min_length=1, description="what this server is registered there as")
    client_secret: SecretStr | None = None
    scope: str = Field(
        default="launch openid fhirUser patient/Patient.rs patient/ImagingStudy.rs",
        pattern=r"(^|.* )launch( .*|$)",
        description="what it is asked for; the patient and the studies of a launch are read with it",
    )
    patient_authority: Oid | Literal[""] = Field(
        default="",
        description="OID of who assigns the Patient IDs by which its patients are known here; empty where the EHR is this server itself",
    )
    patient_system: str = Field(
        default="", description="system of that identifier there; urn:oid: and patient_authority where empty"
    )
    origins: frozenset[Annotated[str, StringConstraints(pattern=r"^https?://[a-z0-9.:\[\]-]+$")]] = Field(
        default=frozenset(), description="web origins whose pages may show the viewer in a frame, such as https://ehr.example.org"
    )

    @property
    def is_here(self) -> bool:
        """Whether it is this server: its patients and studies are ours."""
        return not self.patient_authority
