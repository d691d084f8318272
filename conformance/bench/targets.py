"""What this server has set itself to reach: ratios of its rate to Orthanc's in the same run, and figures of FHIR. `make bench` prints them beside what it measures."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

_QIDO: Final = (
    "QIDO all studies", "QIDO by PatientID", "QIDO by date range", "QIDO by name with wildcard", "QIDO page of 25 at 100",
    "QIDO series of a study", "QIDO instances of a series",
)  # fmt: skip

RATIOS: Final[Mapping[str, float]] = {
    "C-STORE CT, 1 association": 1.5,
    "C-STORE CT, 4 associations": 1.5,
    "C-STORE CT, 1 association, not durable": 2,
    "C-STORE CT, 4 associations, not durable": 2,
    "C-STORE CT, 1 association, Nagle's algorithm left on": 10,
    "STOW-RS to acknowledgement": 2,
    "WADO-RS, whole study": 1.5,
    "C-FIND of all studies": 2,
    "C-FIND by Patient ID": 2,
    "C-GET of a CT study": 1.5,
    "C-MOVE of a CT study": 1.5,
    **{f"{name}, 1 connection": 20 for name in _QIDO},
    **{f"{name}, 8 connections": 50 for name in _QIDO},
    "metadata of a CT series, 1 connection": 8,
    "metadata of a CT series, gzip, 1 connection": 25,
    "frame, CT, 1 connection": 6,
    "frame, CT, 8 connections": 4,
    "frame of a deep multi-frame, 1 connection": 8,
    "frame of a deep multi-frame, 8 connections": 4,
    "rendered CT, 1 connection": 2,
    "rendered radiograph, 1 connection": 1.3,
    "ZIP of a CT study, 1 connection": 5,
}

PROCESSOR: Final = 0.5
"""Server CPU per file, as part of Orthanc's: at most."""
MEMORY: Final = 0.5
"""Peak memory of all processes, as part of Orthanc's: at most."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What one figure of a work is meant to reach; `of`, where it is not empty, is the work whose same figure it is a multiple of, or so much `more` than.

    `rate` is per second by the clock, `per core` per second of the server's CPU: these at least. `p50`, `p95` and `p99` are ms, `memory` peak MB: at most.
    """

    figure: Literal["rate", "per core", "p50", "p95", "p99", "memory"]
    bound: float
    of: str = ""
    more: bool = False
    on: str = ""
    """Over which database alone; over any where it is empty."""

    @property
    def at_least(self) -> bool:
        return self.figure in ("rate", "per core")


READ: Final = "read by id"
PATIENT_AND_DATE: Final = "search by patient and date"
NEWEST: Final = "newest 20 of a modality"
PAGE: Final = "newest 20 of a modality, page 500"
SEARCHES: Final = (
    PATIENT_AND_DATE, "search by identifier", NEWEST, "_include", "chain patient.name", "_has", "_has, by name",
)  # fmt: skip
"""Those that are measured over a tenth of the studies too."""
TENTH: Final = "a tenth of the studies"
BUNDLES: Final = (100, 500, 5000)
ONE: Final = "1 connection"
MANY: Final = "8 connections"
_FAST: Final = (Mark("per core", 2500), Mark("p95", 10))


def bundle(size: int) -> str:
    """The work of storing studies by that many in a transaction."""
    return f"transaction of {size:,} ImagingStudies"


_SCALE: Final = {f"{name}, {ONE}": (Mark("p50", 1.3, f"{name}, {TENTH}, {ONE}"),) for name in SEARCHES}

FHIR: Final[Mapping[str, tuple[Mark, ...]]] = {
    **_SCALE,
    **{f"{name}, {MANY}": _FAST for name in (READ, PATIENT_AND_DATE)},
    f"{NEWEST}, {ONE}": (*_SCALE[f"{NEWEST}, {ONE}"], Mark("p50", 3, f"{READ}, {ONE}")),
    f"{PAGE}, {ONE}": (Mark("p50", 1.5, f"{NEWEST}, {ONE}"),),
    **{bundle(size): (Mark("per core", 3000),) for size in BUNDLES},
    bundle(BUNDLES[-1]): (Mark("per core", 3000), Mark("memory", 1.25, bundle(BUNDLES[0]))),
    f"create, durable, {ONE}": (Mark("rate", 500),),
    f"create, durable, {MANY}": (Mark("rate", 500),),
    f"update of a 188 kB study, {ONE}": (Mark("p50", 25),),
}
"""Work -> what it is meant to reach, of the FHIR suite. That memory is flat is read as a quarter more at most, with 50 times the entries."""

COMMANDS: Final = "token of `imageshare token`"
GRANTS: Final = ("token of a service", "token of a patient's app")
CALLS: Final = ("FHIR read", "frame of a CT")
CONSTANT: Final = "constant body (/livez)"
NEW_TOKEN: Final = "FHIR read, another token each time"
RESPONSES: Final = ("token by client_credentials, private_key_jwt", "token by refresh_token", "token by authorization_code, PKCE")
FLOODED: Final = "FHIR read beside 32 connections of wrong passwords"


def _added(to: str) -> Mark:
    """Token check and Decision are part of what is more than another work takes."""
    return Mark("p50", 2, f"{to}, {ONE}", more=True)


SMART: Final[Mapping[str, tuple[Mark, ...]]] = {
    **{f"{call}, {who}, {ONE}": (_added(f"{call}, {COMMANDS}"), _added(CONSTANT)) for call in CALLS for who in GRANTS},
    f"{NEW_TOKEN}, {ONE}": (_added(f"FHIR read, {COMMANDS}"), _added(CONSTANT)),
    **{f"{name}, {MANY}": (Mark("rate", 100),) for name in RESPONSES},
    f"{FLOODED}, 4 connections": (Mark("p99", 250),),
}
RAD_69: Final = "RAD-69 of a study"
ITI_43: Final = "ITI-43 of as many documents"
ITI_41: Final = "ITI-41 of as many documents"
ITI_41_ONE: Final = "ITI-41 of as many documents in one submission"
ITI_41_LARGE: Final = "ITI-41 of few large documents"
SYNCED: Final = "ceiling: files written, each synced"
SYNCED_STREAM: Final = "ceiling: one file written and synced"


def cold(work: str) -> str:
    return f"{work}, cold"


def warm(work: str) -> str:
    return f"{work}, warm"


def at_once(work: str) -> str:
    return f"{work}, 4 at once"


def cold_ceiling(work: str) -> str:
    return f"ceiling of {cold(work)}: its files read"


def warm_ceiling(work: str) -> str:
    return f"ceiling of {warm(work)}: its files through a bare socket"


TRANSFERS: Final[Mapping[str, tuple[Mark, ...]]] = {
    **{cold(work): (Mark("rate", 0.8, cold_ceiling(work)),) for work in (RAD_69, ITI_43)},
    **{warm(work): (Mark("rate", 1000), Mark("rate", 0.8, warm_ceiling(work)), Mark("p50", 100)) for work in (RAD_69, ITI_43)},
    **{at_once(work): (Mark("memory", 150),) for work in (RAD_69, ITI_43)},
    ITI_41: (Mark("rate", 0.8, SYNCED),),
    ITI_41_LARGE: (Mark("rate", 0.8, SYNCED_STREAM),),
}
"""Where the bare socket itself does not reach 1,000 MB/s, the share of it counts. `p50` is the time until the first byte, `memory` that of the largest process."""

EACH: Final = 50
"""Documents of a patient of the registry suite."""
FEED: Final = "ITI-8 of a patient"
BULK: Final = f"ITI-42 of {EACH} documents"
REGISTER: Final = "ITI-42 of a document"
ALMOST_EMPTY: Final = f"{REGISTER}, almost nothing there"
BARE: Final = "ceiling: the same message read, its values committed bare"
FIND: Final = f"FindDocuments, {EACH} whole"
_REGISTERED: Final = (Mark("rate", 300, on="SQLite"), Mark("rate", 200, on="PostgreSQL"))

REGISTRY: Final[Mapping[str, tuple[Mark, ...]]] = {
    f"{ALMOST_EMPTY}, {MANY}": _REGISTERED,
    f"{REGISTER}, {MANY}": (*_REGISTERED, Mark("rate", 0.9, f"{ALMOST_EMPTY}, {MANY}")),
    f"{FIND}, {ONE}": (Mark("p99", 20),),
}
CLAIMED: Final = "from the access code to the first image"
FIRST_IMAGE: Final = "first image of a CT, cold"
THEIR_FIRST: Final = "the same by OHIF on Orthanc"
ALL_SLICES: Final = "every slice of a series can be scrolled to, cold"
NEXT_STUDY: Final = "next study, warm"
NEXT_PAGE: Final = "the viewer's page of another study, warm"
LAUNCHED: Final = "launched by an EHR, in a frame of its page, cold"

VIEWER: Final[Mapping[str, tuple[Mark, ...]]] = {
    FIRST_IMAGE: (Mark("p50", 0.15, THEIR_FIRST),),
    NEXT_STUDY: (Mark("p50", 300),),
    LAUNCHED: (Mark("p50", 3000),),
}
FAST: Final = "Lighthouse, performance: "
ACCESSIBLE: Final = "Lighthouse, accessibility: "
PAGES: Final = {
    "start": "/", "sign in": "/sign-in", "type the code": "/claim", "the images": "/images", "a study": "/images/{study}", "share": "/share/new",
    "what is shared": "/share", "account": "/account", "who looked": "/account/activity", "bring in": "/bring-in",
}  # fmt: skip
"""Pages of the portal that are looked at, with the account of a patient where that is needed."""
OUTSIDE: Final = ("start", "sign in", "type the code")
"""Those that are looked at as somebody who has not signed in."""
PORTAL: Final[Mapping[str, tuple[Mark, ...]]] = {
    **{FAST + page: (Mark("rate", 95),) for page in PAGES},
    **{ACCESSIBLE + page: (Mark("rate", 100),) for page in PAGES},
}
MARKS: Final = {**FHIR, **SMART, **TRANSFERS, **REGISTRY, **VIEWER, **PORTAL}
"""Work -> what it is meant to reach."""
