"""Other archives that we query and retrieve from: dcmtk's dcmqrscp over files that it was sent."""

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from peers.orthanc import wait_for

from server.outbound import cstore

_CONFIGURATION = """NetworkTCPPort = {port}
MaxPDUSize = 131072
MaxAssociations = 16

HostTable BEGIN
{hosts}
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
DCMQRSCP  {store}  RW (200, 1024mb)  ANY
AETable END
"""


@contextmanager
def dcmqrscp(
    dcmtk: Callable[[str], Path], folder: Path, port: int, files: Sequence[Path], *options: str,
    destinations: Mapping[str, int] | None = None,
) -> Iterator[int]:  # fmt: skip
    """A dcmqrscp with the AE title DCMQRSCP that holds `files`, and knows `destinations` (AE titles, ports) on this machine."""
    store = folder / "store"
    store.mkdir(parents=True)
    hosts = "\n".join(f"{title.lower()} = ({title}, 127.0.0.1, {where})" for title, where in (destinations or {}).items())
    configuration = folder / "dcmqrscp.cfg"
    configuration.write_text(_CONFIGURATION.format(port=port, hosts=hosts, store=store))
    command = [str(dcmtk("dcmqrscp")), "+B", *options, "-c", str(configuration)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env={**os.environ, "TCP_NODELAY": "1"}, stdout=log, stderr=log, cwd=folder)
    try:
        wait_for(port)
        sent = list(cstore.send(files, "127.0.0.1", port, called="DCMQRSCP"))
        assert all(each.ok for each in sent), sent
        yield port
    finally:
        process.kill()
        process.wait()
