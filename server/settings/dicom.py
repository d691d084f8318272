"""Tables of DICOM peers and of what is kept how long."""

from typing import Literal, get_args

from pydantic import BaseModel, Field

from server.settings.addresses import AeTitle, Network, Oid

Permission = Literal["store", "query", "retrieve", "worklist", "mpps", "commit"]
"""What a DICOM peer may ask for. C-ECHO needs none."""
EVERY_PERMISSION: frozenset[Permission] = frozenset(get_args(Permission))


class Device(BaseModel, frozen=True, extra="forbid"):
    """A DICOM peer that may associate: its calling AE title, its address and who assigns its patient ids."""

    ae_title: AeTitle = Field(description="its calling AE title")
    address: Network = Field(description="an address or network in CIDR form, such as 10.1.2.0/24")
    assigning_authority: Oid | None = Field(default=None, description="OID; the installation's own where absent")
    permissions: frozenset[Permission] = Field(
        default=frozenset({"store", "commit", "worklist", "mpps"}), description=f"of {', '.join(get_args(Permission))}"
    )
    host: str = Field(default="", description="where it is called, with port; empty for a peer that is not")
    port: int = Field(default=0, ge=0, le=65535, description="where it listens for DICOM")


class RetentionRule(BaseModel, frozen=True, extra="forbid"):
    """How long studies are kept. A study goes only when every rule that applies to it lets it go."""

    modality: str | None = Field(default=None, description="of any series, such as CT; every study where absent")
    institution: str | None = Field(default=None, description="Institution Name (0008,0080), without regard to case and accents")
    keep_days: int = Field(ge=1)
    since: Literal["study", "receipt"] = "study"
    keep_until_age: int | None = Field(default=None, ge=1, le=150, description="years; images of children are kept longer")
