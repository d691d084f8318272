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
from server.errors import SettingsError
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
        """As it is set. Raises `SettingsError` for a code set that cannot be read."""
        codes = None
        if settings.affinity_domain_codes is not None:
            try:
                codes = code_set.parse(settings.affinity_domain_codes.read_bytes())
            except (OSError, CodeSetError) as error:
                raise SettingsError(f"IMAGESHARE_AFFINITY_DOMAIN_CODES: {error}") from None
        authorities = settings.affinity_domain_authority or (codes.authorities if codes is not None else ())
        return cls(f"{settings.base_url}/fhir", installation.repository, frozenset(authorities), codes)

    def check(self, submission: Submission, by: By, reading: Reading, actor: Actor = "Registry") -> tuple[RegistryError, ...]:
        """Everything that the message shows to be wrong by itself (ITI TF-3 sections 4.1 to 4.3), its codes too."""
        return (*metadata_rules.check(submission, by, reading, actor), *self._codes(submission, actor))

    def _codes(self, submission: Submission, actor: Actor) -> Iterator[RegistryError]:
        if self.codes is not None:
            yield from code_set.check_codes(submission, self.codes, actor)[:_LONGEST]
