"""Values that a step takes from what was run before: UseId, UseReport, UseObjectRef, UseXPath, UseRepositoryUniqueId."""

from base64 import b64decode
from collections.abc import Mapping

from lxml import etree
from lxml.etree import _Element

from conformance.nist.plan import Need, Section, Transaction, place
from conformance.nist.record import Record, evaluated
from conformance.nist.results import NotRun
from ihe import xml


class Values:
    """The records of a run, seen from a section."""

    def __init__(self, records: Mapping[Need, Record], section: Section, current: Record) -> None:
        self._records, self._section, self.current = records, section, current

    def record(self, folder: str) -> Record:
        """The record of the section that a relative folder means; this one's where it is empty or THIS. Raises `NotRun`."""
        if folder in ("", "THIS"):
            return self.current
        need = place(folder, self._section.test, self._section.name)
        if need == Need(self._section.test, self._section.name):
            return self.current
        return self._of(need)

    def _of(self, need: Need) -> Record:
        found = self._records.get(need) or self._records.get(Need(need.test, ""))
        if found is None:
            raise NotRun(f"it needs what {need.test}/{need.section} gives, which was not run")
        return found

    def use_id(self, use: _Element) -> str:
        """A UseId. Raises `NotRun` where nothing was assigned there."""
        if use.get("value"):
            return use.get("value", "")
        step, section, name = use.get("step", ""), use.get("section", ""), use.get("id", "")
        found = self.record(use.get("testdir", "")).assigned(step, section, name)
        if not found:
            raise NotRun(
                f"it needs {name} of {section}, which step {step} of {use.get('testdir') or 'this section'} did not leave behind"
            )
        return found

    def use_report(self, use: _Element) -> str:
        """A UseReport. Raises `NotRun` where nothing was reported there."""
        named, section = use.get("test") or self._section.test, use.get("section", "")
        own = section == "THIS" or Need(named, section) == Need(self._section.test, self._section.name)
        record = self.current if own else self._of(Need(named, section))
        found = record.report(use.get("step", ""), use.get("reportName", ""))
        if not found:
            raise NotRun(
                f"it needs the report {use.get('reportName')} of {named}/{section}, step {use.get('step')}, which is not there"
            )
        return found

    def result(self, folder: str, step: str) -> _Element:
        """The payload of an earlier answer. Raises `NotRun`."""
        found = self.record(folder).result(step)
        if found is None:
            raise NotRun(f"it needs the answer of step {step} in {folder or 'this section'}, which is not there")
        return found

    def symbols(self, transaction: Transaction) -> dict[str, str]:
        """What the UseReports of a transaction stand for, by symbol. Raises `NotRun`."""
        return {use.get("useAs", ""): self.use_report(use) for use in transaction.all("UseReport") if use.get("useAs")}

    def linked(self, transaction: Transaction, *, strict: bool = True) -> dict[str, str]:
        """The same of its other Use... instructions; not `strict`: ids that are not there are left out."""
        found = {}
        for use in transaction.all("UseId"):
            try:
                found[use.get("symbol", "")] = self.use_id(use)
            except NotRun:
                if strict:
                    raise
        for use in transaction.all("UseObjectRef"):
            found[use.get("symbol", "")] = self._object_ref(use)
        for use in transaction.all("UseXPath"):
            found[use.get("symbol", "")] = self._xpath(use)
        for use in transaction.all("UseRepositoryUniqueId"):
            found[use.get("symbol", "")] = self._repository(use)
        found.pop("", None)
        return found

    def _object_ref(self, use: _Element) -> str:
        answer = self.result(use.get("testdir", ""), use.get("step", ""))
        ids = [each.get("id", "") for each in answer.iterfind("{*}RegistryObjectList/{*}ObjectRef")]
        index = int(use.get("index", "0"))
        if index >= len(ids):
            raise NotRun(f"it needs ObjectRef {index} of step {use.get('step')}, which has {len(ids)}")
        return ids[index]

    def _xpath(self, use: _Element) -> str:
        if use.get("file"):
            raise NotRun("UseXPath with a file of the toolkit's own folders")
        record, step = self.record(use.get("testdir", "")), use.get("step", "")
        found = next((each for each in record.root.iterfind("TestStep") if each.get("id") == step), None)
        if found is None:
            raise NotRun(f"it needs step {step} of {use.get('testdir') or 'this section'}, which was not run")
        try:
            value = evaluated(found, (use.text or "").strip())
        except etree.XPathError as error:
            raise NotRun(f"UseXPath: {error}") from None
        return b64decode(value).decode() if use.get("decodebase64", "").lower() == "true" else value

    def _repository(self, use: _Element) -> str:
        answer = self.result(use.get("testdir", ""), use.get("step", ""))
        for slot in answer.iterfind("{*}RegistryObjectList/{*}ExtrinsicObject/{*}Slot"):
            if slot.get("name") == "repositoryUniqueId" and (value := slot.findtext("{*}ValueList/{*}Value")):
                return value.strip()
        raise NotRun(f"it needs a repositoryUniqueId in the answer of step {use.get('step')}, which has none")


def texts(element: _Element, name: str) -> list[str]:
    """The trimmed texts of all elements with this local name."""
    return [(each.text or "").strip() for each in element.iter() if xml.local_name(each) == name]
