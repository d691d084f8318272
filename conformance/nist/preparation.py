"""A request of a test plan made ready: its file read, turned into ebRIM 3.0, symbols filled in, ids assigned and noted in the record."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from lxml import etree
from lxml.etree import _Element

from conformance.nist import ebrim2, symbols
from conformance.nist.patients import Patients
from conformance.nist.plan import LIMIT, Section, Step, Transaction
from conformance.nist.preparing import PATIENT_REPORT, PATIENT_SECTION, patient_of
from conformance.nist.record import add_assigned
from conformance.nist.results import NotRun
from conformance.nist.target import Target
from conformance.nist.values import Values
from conformance.nist.vocabulary import Form
from ihe import xml

_SOURCE_ID: Final = "1.3.6.1.4.1.21367.4"
_PATIENT_SYMBOLS: Final = (PATIENT_REPORT, "$patient_id$", "$patient_id1$", "$patient_id2$")


class Preparation:
    """Makes the requests of one section. `patient_of_test` gives the patient that another test made known."""

    def __init__(
        self,
        target: Target,
        patients: Patients,
        section: Section,
        folder: Path,
        values: Values,
        patient_of_test: Callable[[str], str],
    ) -> None:
        self._target, self._patients, self._section, self._folder = target, patients, section, folder
        self._values, self._patient_of_test = values, patient_of_test

    def patient(self) -> str:
        """The patient of this section's data, known to the registry. Raises `patients.FeedError`."""
        other = patient_of(self._section.test, self._section.name)
        return self._patient_of_test(other) if other else self._section.patient or self._patients.current(self._section.test)

    def file(self, name: str) -> Path:
        """A file of the section. Raises `NotRun` where it is not there."""
        path = self._folder / name.strip()
        if not path.resolve().is_relative_to(self._folder.resolve().parent.parent) or not path.is_file():
            raise NotRun(f"the file {name} is not in the testkit")
        return path

    def read(self, transaction: Transaction) -> _Element:
        """The request of a transaction as it stands in its file. Raises `NotRun`."""
        inline = next((each[0] for each in transaction.all("Metadata") if len(each)), None)
        if inline is not None:
            return inline
        name = transaction.text("MetadataFile")
        if not name:
            raise NotRun("the plan names no MetadataFile")
        try:
            return xml.parse(self.file(name).read_bytes().lstrip(), LIMIT)
        except xml.XmlError as error:
            raise NotRun(f"{name}: {error}") from None

    def request(self, transaction: Transaction, step: Step, noted: _Element) -> _Element:
        """The request of a transaction with everything filled in; what was assigned is noted. Raises `NotRun`, `patients.FeedError`."""
        request, form = self.read(transaction), transaction.kind.form
        submission = form in (Form.SUBMISSION, Form.PROVISION)
        if submission and not transaction.has("NoConvert") and transaction.text("ParseMetadata") != "False":
            request = ebrim2.submit_objects_request(request)
        symbols.replace(request, self._values.symbols(transaction))
        symbols.replace(request, self._values.linked(transaction, strict=form is not Form.RETRIEVE))
        symbols.replace(request, {name: _uuid() for each in transaction.all("AssignNewUuid") if (name := each.get("symbol"))})
        if submission and (patient := self._named_patient(transaction)):
            self._patients.use(self._section.test, patient)
        self.fill(request)
        if submission and transaction.text("ParseMetadata") != "False":
            self._assign(request, transaction, step, noted)
        if transaction.has("CleanParams"):
            symbols.clean(request)
        if transaction.has("RemoveHomeFromRequest"):
            etree.strip_elements(request, f"{{{xml.XDS_B}}}HomeCommunityId", with_tail=False)
        if left := symbols.unresolved(request):
            raise NotRun(f"nothing in the plan says what {', '.join(left)} is")
        return request

    def fill(self, element: _Element) -> None:
        """Fills in what does not come from earlier steps: times, communities, the patient, and the replacements of the endpoints file."""
        now = datetime.now(UTC)
        symbols.replace(
            element,
            {
                **self._target.replace,
                "$now$": f"{now:%Y%m%d%H%M%S}",
                "$lastyear$": f"{now - timedelta(days=365):%Y%m%d%H%M%S}",
                **{name: value for name, value in self.given().items() if value},
            },
        )
        used = set(symbols.unresolved(element)).intersection(_PATIENT_SYMBOLS)
        if used:
            symbols.replace(element, dict.fromkeys(used, self.patient()))

    def given(self) -> dict[str, str]:
        """Values that a person gives the toolkit."""
        return {
            "$testdata_home$": self._target.home_community_id,
            "$configHome$": self._target.home_community_id,
            "$testdata_repid$": self._target.repository_unique_id,
        }

    def _assign(self, request: _Element, transaction: Transaction, step: Step, noted: _Element) -> None:
        if not transaction.has("NoPatientId"):
            patient = self._patients.stranger() if step.other_patient else self._named_patient(transaction) or self.patient()
            add_assigned(noted, "AssignedPatientId", symbols.assign(request, symbols.PATIENT_IDS, lambda _: patient))
        elif step.status in ((), ("Success",)):
            self._make_known(request)
        without = next((each.get("id", "") for each in transaction.all("NoAssignUids")), None)
        if without is None or without:
            excluded = frozenset(each.get("value", "") for one in transaction.all("AssignUuids") for each in one)
            assigned = symbols.assign(request, symbols.UNIQUE_IDS, lambda _: _oid(), without=without or "", excluded=excluded)
            add_assigned(noted, "AssignedUids", assigned)
        add_assigned(noted, "AssignedSourceId", symbols.assign(request, symbols.SOURCE_IDS, lambda old: old or _SOURCE_ID))
        if transaction.has("AssignUuids"):
            add_assigned(noted, "AssignedUuids", symbols.assign_uuids(request, _uuid))

    def _named_patient(self, transaction: Transaction) -> str:
        """The patient that a UseReport names as this submission's."""
        uses = [use for use in transaction.all("UseReport") if use.get("section") == PATIENT_SECTION]
        named = [use for use in uses if use.get("useAs", "").rstrip("$") in ("$patientid", "$patient_id")]
        return self._values.use_report(named[0]) if named else ""

    def _make_known(self, request: _Element) -> None:
        """Patients that stand in the metadata as they are must be known to the registry, too."""
        schemes = {each for group in symbols.PATIENT_IDS.values() for each in group}
        for each in request.iter("{*}ExternalIdentifier"):
            value = each.get("value", "")
            if each.get("identificationScheme") in schemes and "&" in value and "$" not in value:
                self._patients.make_known(value)


def _uuid() -> str:
    return uuid.uuid4().urn


def _oid() -> str:
    return f"2.25.{uuid.uuid4().int}"
