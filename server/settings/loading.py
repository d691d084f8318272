"""Reading the settings, and saying what is wrong with them: which setting, in plain words, and nothing of a value that may be secret."""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import SettingsError as NotRead

from server.errors import SettingsError
from server.settings.in_force import Settings, toml_file

_LIST: Final = "takes a list"
_TABLE: Final = "takes a table of settings"
_WHOLE: Final = "takes a whole number"
_NUMBER: Final = "takes a number"
_YES_OR_NO: Final = "takes true or false"
_WORDS: Final[Mapping[str, str]] = {
    "missing": "has to be given", "extra_forbidden": "there is no such setting", "string_type": "takes text", "path_type": "takes a path",
    "model_type": _TABLE, "model_attributes_type": _TABLE, "dict_type": _TABLE, "tuple_type": _LIST, "frozen_set_type": _LIST,
    "too_short": "takes a list with at least one entry", "int_type": _WHOLE, "int_parsing": _WHOLE, "int_from_float": _WHOLE,
    "float_type": _NUMBER, "float_parsing": _NUMBER, "bool_type": _YES_OR_NO, "bool_parsing": _YES_OR_NO,
}  # fmt: skip
"""By pydantic's type of an error, whose own words are about Python."""


def load(**overrides: object) -> Settings:
    """The settings in force; `overrides` that are None are left out. Raises `SettingsError` naming every wrong field."""
    if (named := os.environ.get("IMAGESHARE_CONFIG")) and not Path(named).is_file():
        raise SettingsError("IMAGESHARE_CONFIG names a file that is not there")
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        fields = "; ".join(f"{_place(each)}{_words(each)}" for each in error.errors(include_input=False))
        raise SettingsError(f"settings are wrong: {fields}") from None
    except NotRead as error:
        field = re.search(r'field "(\w+)"', str(error))
        name = f"IMAGESHARE_{field[1].upper()}" if field else "a variable"
        raise SettingsError(f"{name} cannot be read: lists and tables are written as JSON in the environment") from None
    except (OSError, ValueError) as error:
        raise SettingsError(f"the settings file {toml_file(given.get('data'))} cannot be read: {_unread(error)}") from None


def _place(error: ErrorDetails) -> str:
    """Such as `partners.0.name: `; nothing where several settings are wrong together, whose words name them."""
    place = ".".join(str(each) for each in error["loc"] if each != "[key]")
    return f"{place}: " if place else ""


def _words(error: ErrorDetails) -> str:
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    return _WORDS.get(error["type"]) or error["msg"].replace("Input should be", "has to be").replace("String should", "has to")


def _unread(error: OSError | ValueError) -> str:
    """Without anything that stands in the file."""
    if isinstance(error, OSError):
        return (error.strerror or "it is no file").lower()
    if isinstance(error, tomllib.TOMLDecodeError):
        place = re.search(r"at (line \d+, column \d+|end of document)", str(error))
        return f"it is no TOML{f' ({place[1]})' if place else ''}"
    return "it is not written in UTF-8"
