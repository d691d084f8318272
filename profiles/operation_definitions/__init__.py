"""Our own operations of FHIR R4, as OperationDefinition resources."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

import orjson


@cache
def operation_definitions() -> Mapping[str, dict[str, Any]]:
    """All of ours by canonical URL."""
    resources = [orjson.loads(file.read_bytes()) for file in files(__name__).iterdir() if file.name.endswith(".json")]
    return MappingProxyType({resource["url"]: resource for resource in sorted(resources, key=lambda each: str(each["url"]))})
