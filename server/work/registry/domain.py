"""What an affinity domain asks of submissions: whose patient ids, which codes; and what this installation is called in it."""

from collections.abc import Iterator
from dataclasses import dataclass

from ihe import code_set, metadata_rules
from ihe.code_set import CodeSet, CodeSetError
from ihe.ebrs import RegistryError
from ihe.ebxml import Reading
from ihe.metadata import By
from ihe.metadata_rules import Actor
from profiles.document import Submission
from server import files
from server.records.installation import Installation
from server.settings import Settings

_LONGEST = 100


@dataclass(frozen=True, slots=True)
class Domain:
    """`base` is our FHIR base URL, `repository` the repositoryUniqueId here, `authorities` are OIDs, any where there are none.

    Without `codes` every code is taken.
    """

    base: str
    repository: str
    authorities: frozenset[str] = frozenset()
    codes: CodeSet | None = None

    @classmethod
    def of(cls, settings: Settings, installation: Installation) -> "Domain":
        """As it is set. Raises as `affinity_domain_codes` does."""
        codes = affinity_domain_codes(settings)
        authorities = settings.affinity_domain_authority or (codes.authorities if codes is not None else ())
        return cls(f"{settings.base_url}/fhir", installation.repository, frozenset(authorities), codes)

    def check(self, submission: Submission, by: By, reading: Reading, actor: Actor = "Registry") -> tuple[RegistryError, ...]:
        """Everything that the message shows to be wrong by itself (ITI TF-3 sections 4.1 to 4.3), its codes too."""
        return (*metadata_rules.check(submission, by, reading, actor), *self._codes(submission, actor))

    def _codes(self, submission: Submission, actor: Actor) -> Iterator[RegistryError]:
        if self.codes is not None:
            yield from code_set.check_codes(submission, self.codes, actor)[:_LONGEST]


def affinity_domain_codes(settings: Settings) -> CodeSet | None:
    """The code set of the affinity domain, None where every code is taken. Raises `SettingsError` for a file that is none."""
    path = settings.affinity_domain_codes
    if path is None:
        return None
    try:
        return code_set.parse(files.read(path, "affinity_domain_codes"))
    except CodeSetError as error:
        raise files.unusable(path, "affinity_domain_codes", str(error)) from None
