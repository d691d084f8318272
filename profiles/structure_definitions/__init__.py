"""Our own profiles of FHIR R4: what ImagingStudy, DocumentReference, Endpoint and Patient look like as this server publishes them.

They are StructureDefinition resources with differentials. Each has an example in the tests, made by the projection that the server publishes with.
"""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

import orjson


def find(url: str) -> dict[str, Any] | None:
    """The StructureDefinition of a canonical URL without version, None if it is none of ours."""
    return structure_definitions().get(url)


@cache
def structure_definitions() -> Mapping[str, dict[str, Any]]:
    """All of ours by canonical URL."""
    resources = [orjson.loads(file.read_bytes()) for file in files(__name__).iterdir() if file.name.endswith(".json")]
    return MappingProxyType({resource["url"]: resource for resource in sorted(resources, key=lambda each: str(each["url"]))})
