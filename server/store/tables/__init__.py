"""Every table (SQLModel), by topic. Rows are written and read through SQLAlchemy Core; nothing above the records layer sees a row object.

Moments are microseconds since 1970 (`db.micros`). `bytes` columns named `body`, `attributes` or `metadata` hold JSON, the
first and last zstd-compressed. A row of `instance`, `series` or `study` is visible outside only once `published`/`version` says so.
"""

from server.store.tables.binaries import BinaryContent
from server.store.tables.catalogue import Blob, Instance, Patient, Series, SeriesMetadata, Study, StudyTerm
from server.store.tables.consents import ConsentRule, ConsentTerm
from server.store.tables.dimse import Commitment, Peer, PerformedStep, PerformedStepStudy, ScheduledStep
from server.store.tables.feed import FeedMessage
from server.store.tables.fetches import Fetch
from server.store.tables.fhir import (
    Compartment,
    CompositeValue,
    DateValue,
    Identity,
    QuantityValue,
    ReferenceValue,
    Reindexing,
    Resource,
    ResourceVersion,
    TextValue,
    Token,
)
from server.store.tables.installation import Installation, SigningKey
from server.store.tables.lifecycle import Change, Correction, Erasure, FormerPatient, LegalHold, Original, PatientMerge, Rejection
from server.store.tables.oauth import (
    AccessEpoch,
    AccessGrant,
    AssertionId,
    AuthorizationCode,
    AuthorizationRequest,
    Launch,
    OAuthClient,
    RefreshToken,
)
from server.store.tables.people import (
    Account,
    AccountPatient,
    ExternalIdentity,
    OneTimeCode,
    Passkey,
    PasskeyChallenge,
    Password,
    Proxy,
    Session,
    Throttle,
)
from server.store.tables.registry import (
    ForeignDocument,
    ForeignEntry,
    RegistryAssociation,
    RegistryObject,
    RegistryTerm,
    RepositoryDocument,
)
from server.store.tables.row import METADATA, NAMES, Row
from server.store.tables.sharing import AccessCode, BroughtIn, EhrLaunch, Share, ShareOpening
from server.store.tables.trail import AuditDelivery, AuditEvent, AuditPatient, AuditSeal, Job
from server.store.tables.workitems import Workitem, WorkitemEvent, WorkitemSubscriber, WorkitemSubscription

__all__ = [
    "Installation",
    "SigningKey",
    "Blob",
    "Patient",
    "Study",
    "Series",
    "StudyTerm",
    "SeriesMetadata",
    "Instance",
    "RegistryObject",
    "RegistryTerm",
    "RegistryAssociation",
    "RepositoryDocument",
    "ForeignEntry",
    "ForeignDocument",
    "Resource",
    "ResourceVersion",
    "Token",
    "TextValue",
    "DateValue",
    "QuantityValue",
    "ReferenceValue",
    "CompositeValue",
    "Compartment",
    "Identity",
    "Reindexing",
    "BinaryContent",
    "AuditEvent",
    "AuditPatient",
    "AuditSeal",
    "AuditDelivery",
    "Job",
    "Rejection",
    "Erasure",
    "Change",
    "Correction",
    "Original",
    "FormerPatient",
    "PatientMerge",
    "LegalHold",
    "Peer",
    "ScheduledStep",
    "PerformedStep",
    "PerformedStepStudy",
    "Commitment",
    "FeedMessage",
    "Fetch",
    "Workitem",
    "WorkitemSubscriber",
    "WorkitemSubscription",
    "WorkitemEvent",
    "ConsentRule",
    "ConsentTerm",
    "AccessEpoch",
    "OAuthClient",
    "AccessGrant",
    "AuthorizationRequest",
    "AuthorizationCode",
    "RefreshToken",
    "Launch",
    "AssertionId",
    "Account",
    "AccountPatient",
    "Proxy",
    "Password",
    "Passkey",
    "PasskeyChallenge",
    "OneTimeCode",
    "Session",
    "ExternalIdentity",
    "Throttle",
    "AccessCode",
    "Share",
    "ShareOpening",
    "BroughtIn",
    "EhrLaunch",
    "METADATA",
    "NAMES",
    "Row",
]
