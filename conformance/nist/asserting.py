"""The Assertions of a transaction: XPath over records, and processes over answers with images."""

from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC, datetime

from lxml.etree import _Element

from conformance.nist import imaging, symbols
from conformance.nist.assertions import check_xpath, data_of
from conformance.nist.expected import Check
from conformance.nist.plan import Step, Transaction
from conformance.nist.preparation import Preparation
from conformance.nist.record import Record
from conformance.nist.results import NotRun
from conformance.nist.scene import Scene
from conformance.nist.values import Values
from conformance.nist.vocabulary import SIMULATOR
from ihe import xml


class Asserting:
    """Looks at the assertions of one section's steps."""

    def __init__(self, scene: Scene, preparation: Preparation, values: Values) -> None:
        self._scene, self._preparation, self._values = scene, preparation, values

    def run(self, transaction: Transaction, step: Step) -> Iterator[Check]:
        """Every assertion. Raises `NotRun` for one that cannot be looked at here, after those that can."""
        given, reasons = self._values.symbols(transaction), []
        for holder in transaction.all("Assertions"):
            names = {xml.local_name(each) for each in holder} - {"Assert", "DataRef"}
            reasons += [f"unknown instruction {name} in Assertions" for name in sorted(names)]
            data = self._data(holder)
            for each in holder.iterfind("{*}Assert"):
                asserted = deepcopy(each)
                symbols.replace(asserted, given)
                self._preparation.fill(asserted)
                try:
                    yield from self._process(asserted, step) if each.get("process") else [self._xpath(asserted, data)]
                except NotRun as reason:
                    reasons.append(f"assertion {each.get('id', '')}: {reason}")
        if reasons:
            raise NotRun("; ".join(reasons))

    def _xpath(self, asserted: _Element, data: _Element) -> Check:
        expression = (asserted.text or "").replace("$DATE$", f"{datetime.now(UTC):%Y%m%d}")
        if asserted.find("{*}SimReference") is not None or asserted.find("{*}Validations") is not None:
            raise NotRun(SIMULATOR)
        if not expression.strip():
            raise NotRun("it has neither an expression nor a process")
        return check_xpath(data, asserted.get("id", ""), expression, asserted.get("desc", ""))

    def _data(self, holder: _Element) -> _Element:
        sources: dict[str, Record | _Element] = {}
        for each in holder.iterfind("{*}DataRef"):
            file, name = each.get("file", ""), each.get("as", "output")
            if file == "THIS":
                sources[name] = self._values.current
            elif file.endswith("/log.xml"):
                sources[name] = self._values.record(file.removesuffix("/log.xml"))
            elif "MGMT" in file:
                raise NotRun(f"DataRef to {file}, a file of the toolkit's own folders")
            else:
                sources[name] = xml.parse(self._preparation.file(file).read_bytes().lstrip(), 1 << 24)
        return data_of(sources)

    def _process(self, asserted: _Element, step: Step) -> Iterator[Check]:
        process = asserted.get("process", "")
        if asserted.find("{*}SimTransaction") is not None or asserted.find("{*}SimReference") is not None:
            raise NotRun(SIMULATOR)
        if process not in imaging.PROCESSES:
            raise NotRun(f"unknown process {process}")
        match process:
            case "sameRetImgs":
                yield from imaging.check_documents(self._answer(asserted), self._standard(step, asserted, "ResponseBody"))
            case "sameRegErrors":
                yield from imaging.check_errors(self._answer(asserted), self._standard(step, asserted, "ResponseBody"))
            case "matchHomeCommunityIds":
                yield from imaging.check_homes(self._answer(asserted), self._standard(step, asserted, "ResponseBody"))
            case "registryErrorListNotEmpty":
                yield imaging.check_some_error(self._answer(asserted))
            case "sameWADOResp":
                yield from imaging.check_wado(self._answer(asserted), self._standard(step, asserted, "HttpResponseCodes"))
            case "sameDcmImgs":
                yield from self._images(asserted)

    def _answer(self, asserted: _Element) -> _Element:
        named = asserted.find("{*}TestResponse")
        if named is None:
            raise NotRun("the plan does not say which answer it is about")
        return self._values.result(named.get("testDir", ""), named.get("step", ""))

    def _standard(self, step: Step, asserted: _Element, usual: str) -> _Element:
        name = asserted.get("std") or usual
        found = None if step.standard is None else step.standard.find(f"{{*}}{name}")
        if found is None:
            raise NotRun(f"the plan has no standard {name}")
        standard = deepcopy(found)
        self._preparation.fill(standard)
        return standard

    def _images(self, asserted: _Element) -> Iterator[Check]:
        listed = asserted.find("{*}TagList")
        if listed is None:
            raise NotRun("the plan has no TagList")
        try:
            wanted = imaging.attributes(listed)
        except ValueError as error:
            raise NotRun(f"TagList: {error}") from None
        folders = [each.text or "" for each in asserted.iterfind("{*}DirList/{*}StdDir")]
        standard = [data for folder in folders for data in self._scene.standard_images(folder)]
        yield from imaging.check_images(self._found(asserted), standard, wanted)

    def _found(self, asserted: _Element) -> list[bytes]:
        """The images of an answer; where the plan names a folder of files instead, those of all answers of that section."""
        if asserted.find("{*}TestResponse") is not None:
            return imaging.documents_in(self._answer(asserted))
        named = asserted.find("{*}DirList/{*}TestDir")
        if named is None:
            raise NotRun("the plan does not say which images it is about")
        record = self._values.record(named.get("testDir", ""))
        return [data for each in record.root.iterfind("TestStep/*/Result") for data in imaging.documents_in(each)]
