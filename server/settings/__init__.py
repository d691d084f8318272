"""Settings: command line over `IMAGESHARE_*` over a TOML file over defaults (pydantic-settings).

The TOML file is `IMAGESHARE_CONFIG`, else `imageshare.toml` in the data folder. `imageshare doctor` prints what is in force.
"""

from server.settings.addresses import bracketed, is_local_name, plain_address
from server.settings.dicom import EVERY_PERMISSION, Device, Permission, RetentionRule
from server.settings.in_force import HIDDEN, Settings
from server.settings.issuers import Ehr, HospitalSignIn, TrustedIssuer
from server.settings.loading import load
from server.settings.partners import Community, DocumentRecipient, Hl7Peer, Partner, TrustedAssertions, Way

__all__ = [
    "EVERY_PERMISSION",
    "HIDDEN",
    "Community",
    "Device",
    "DocumentRecipient",
    "Ehr",
    "HospitalSignIn",
    "Hl7Peer",
    "Partner",
    "Permission",
    "RetentionRule",
    "Settings",
    "TrustedAssertions",
    "TrustedIssuer",
    "Way",
    "bracketed",
    "is_local_name",
    "load",
    "plain_address",
]
