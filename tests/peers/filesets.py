"""pydicom's FileSet over a folder with a DICOMDIR."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydicom import dcmread
from pydicom.fileset import FileSet


@contextmanager
def file_set(dicomdir: Path) -> Iterator[FileSet]:
    """Ends its staging folder too, which pydicom leaves to the garbage collector and its warning."""
    found = FileSet(dcmread(dicomdir))
    try:
        yield found
    finally:
        found._stage["t"].cleanup()
