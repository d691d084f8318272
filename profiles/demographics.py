"""Who a patient is as HL7 v2 and FHIR R4 say it: the PID fields of ITI TF-2 table 3.8-2 as a value, and that value as elements of Patient and back.

Codes are those of FHIR; `ihe.iti8` has the fields. The DICOM catalogue knows name, birth date and sex alone (`profiles.study.Patient`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from profiles.patient import Json, fhir_names

# FHIR R4 administrative-gender, by the code of HL7 table 0001; what DICOM (PS3.3 C.7.1.1) calls it
_GENDERS: Final = {"M": "male", "F": "female", "O": "other", "A": "other", "N": "other", "U": "unknown"}
_SEXES: Final = {"male": "M", "female": "F", "other": "O", "unknown": "U"}
_PN_FORBIDDEN: Final = re.compile(r"[\x00-\x1f\x7f\\^=]+")


@dataclass(frozen=True, slots=True)
class Address:
    """One address; `use` is a code of FHIR address-use or empty."""

    lines: tuple[str, ...] = ()
    city: str = ""
    state: str = ""
    postal_code: str = ""
    country: str = ""
    use: str = ""


@dataclass(frozen=True, slots=True)
class Telecom:
    """A telephone number, e-mail or other address: codes of FHIR contact-point-system and contact-point-use."""

    system: str
    value: str
    use: str = ""


@dataclass(frozen=True, slots=True)
class Demographics:
    """What is said of a patient; None is nothing, an empty value that there is none any more.

    `name` is a DICOM PN, `other_names` are pairs of FHIR name-use and PN. `birth_date` is YYYY, YYYYMM or YYYYMMDD, `sex` a code of HL7 table 0001.
    """

    name: str | None = None
    birth_date: str | None = None
    sex: str | None = None
    other_names: tuple[tuple[str, str], ...] = ()
    addresses: tuple[Address, ...] | None = None
    telecom: tuple[Telecom, ...] | None = None

    @property
    def dicom_birth_date(self) -> str:
        """DA, which has no parts of dates."""
        return self.birth_date or "" if len(self.birth_date or "") == 8 else ""

    @property
    def dicom_sex(self) -> str:
        """PS3.3 section C.7.1.1: M, F or O, empty for what is not known."""
        return {"male": "M", "female": "F", "other": "O"}.get(_GENDERS.get(self.sex or "", ""), "")


def person_name(*components: str) -> str:
    """PS3.5 section 6.2.1.1: family, given, middle, prefix and suffix as one component group of a PN, 64 characters at most."""
    parts = [" ".join(_PN_FORBIDDEN.sub(" ", part).split()) for part in components]
    return "^".join(parts)[:64].rstrip("^ ")


def elements(said: Demographics) -> tuple[Json, frozenset[str]]:
    """FHIR R4 section 8.1: elements of Patient, and the names of all that is said, also of those that there are none of any more."""
    made: Json = {}
    named = {
        "name": said.name,
        "birthDate": said.birth_date,
        "gender": said.sex,
        "address": said.addresses,
        "telecom": said.telecom,
    }
    if said.name:
        made["name"] = [*fhir_names(said.name), *(_used(name, use) for use, name in said.other_names)]
    if said.birth_date:
        made["birthDate"] = "-".join(part for part in (said.birth_date[:4], said.birth_date[4:6], said.birth_date[6:8]) if part)
    if said.sex:
        made["gender"] = _GENDERS.get(said.sex, "unknown")
    if said.addresses:
        made["address"] = [_address(each) for each in said.addresses]
    if said.telecom:
        made["telecom"] = [_present({"system": each.system, "value": each.value, "use": each.use}) for each in said.telecom]
    return made, frozenset(name for name, value in named.items() if value is not None)


def from_patient(patient: Mapping[str, Any]) -> Demographics:
    """What a FHIR R4 Patient says, as far as PID has a place for it."""
    names = [(str(each.get("use", "")), _pn(each)) for each in patient.get("name", ())]
    main = next((name for use, name in names if use in ("official", "")), names[0][1] if names else None)
    others = tuple((use, name) for use, name in names if name != main and use)
    return Demographics(
        name=main,
        birth_date=str(patient["birthDate"]).replace("-", "") if "birthDate" in patient else None,
        sex=_SEXES.get(str(patient.get("gender"))),
        other_names=others,
        addresses=tuple(map(_address_of, patient["address"])) if "address" in patient else None,
        telecom=tuple(_telecom_of(each) for each in patient["telecom"] if "value" in each) if "telecom" in patient else None,
    )


def _used(name: str, use: str) -> Json:
    return {"use": use, **fhir_names(name)[0]}


def _pn(name: Mapping[str, Any]) -> str:
    given = [str(each) for each in name.get("given", ())]
    parts = (
        str(name.get("family", "")), *(given[:1] or [""]), " ".join(given[1:]), " ".join(name.get("prefix", ())), " ".join(name.get("suffix", ())),
    )  # fmt: skip
    return person_name(*parts) if any(parts) else person_name(str(name.get("text", "")))


def _address(address: Address) -> Json:
    lines: Json = {"line": list(address.lines)} if address.lines else {}
    rest = {"city": address.city, "state": address.state, "postalCode": address.postal_code, "country": address.country}
    return {**_present({"use": address.use}), **lines, **_present(rest)}


def _address_of(address: Mapping[str, Any]) -> Address:
    named = {name: str(address.get(element, "")) for name, element in _ADDRESS.items()}
    return Address(tuple(map(str, address.get("line", ()))), **named)


_ADDRESS: Final = {"city": "city", "state": "state", "postal_code": "postalCode", "country": "country", "use": "use"}


def _telecom_of(telecom: Mapping[str, Any]) -> Telecom:
    return Telecom(str(telecom.get("system", "")), str(telecom["value"]), str(telecom.get("use", "")))


def _present(values: Mapping[str, str]) -> Json:
    return {name: value for name, value in values.items() if value}
