"""Files that settings name. What is wrong with one is said by the setting, in plain words, and with nothing that stands in it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from cryptography import x509

from server.errors import SettingsError

NO_CERTIFICATE: Final = "there is no certificate in PEM in it, or one that is damaged"


def read(path: Path, setting: str) -> bytes:
    """The whole file. Raises `SettingsError` for one that cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise unusable(path, setting, (error.strerror or "it cannot be read").lower()) from None


def certificates(paths: Iterable[Path], setting: str) -> tuple[x509.Certificate, ...]:
    """Every certificate in these PEM files. Raises `SettingsError` for a file that has none."""
    found: list[x509.Certificate] = []
    for path in paths:
        data = read(path, setting)
        try:
            found += x509.load_pem_x509_certificates(data)
        except ValueError:
            raise unusable(path, setting, NO_CERTIFICATE) from None
    return tuple(found)


def unusable(path: Path, setting: str, why: str) -> SettingsError:
    """The words for a file that is not what the setting needs."""
    return SettingsError(f"{setting}: the file {path} cannot be used: {why}")
