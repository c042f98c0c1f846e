"""Returns the space of removed objects to the disk: SeaweedFS rewrites the volumes that have enough of them."""

import struct
import time
from pathlib import Path

import grpc

from heimdall_pipelines.local.processes import LocalServerError
from heimdall_pipelines.local.seaweed import MasterAddress

# A volume (256 MB at most) is rewritten if removed objects are at least this part of it.
GARBAGE_FRACTION = 0.05
# SeaweedFS removes the bytes of removed objects every 1.123 s (DeletionPollInterval in weed/filer/filer_deletion.go).
SETTLED_AFTER_S = 2.5
POLL_S = 0.25
AT_MOST_S = 600.0
_VACUUM = "/master_pb.Seaweed/VacuumVolume"
_THRESHOLD_FIELD = b"\x0d"  # of weed/pb/master.proto: field 1, a 32 bit float


def reclaim_space(master: MasterAddress, data_folder: Path) -> int:
    """Let the server rewrite its volumes without removed objects, until that frees no more.

    Other processes may read and write objects meanwhile. Rewriting needs room for the rest of a volume.

    Parameters
    ----------
    master : MasterAddress
    data_folder : Path
        Of the server.

    Returns
    -------
    int
        Bytes that the disk has got back; other processes may have used some of them since.

    Raises
    ------
    LocalServerError
        The server refuses, or ends.
    """
    files = master.certificates
    credentials = grpc.ssl_channel_credentials(
        root_certificates=files.authority.read_bytes(),
        private_key=files.key.read_bytes(),
        certificate_chain=files.certificate.read_bytes(),
    )
    options = [("grpc.enable_http_proxy", 0)]
    before = least = _volume_bytes(data_folder)
    began = changed_at = time.monotonic()
    with grpc.secure_channel(master.address, credentials, options=options) as channel:
        vacuum = channel.unary_unary(_VACUUM)
        while (now := time.monotonic()) - changed_at < SETTLED_AFTER_S and now - began < AT_MOST_S:
            try:
                vacuum(_THRESHOLD_FIELD + struct.pack("<f", GARBAGE_FRACTION), timeout=AT_MOST_S)
            except grpc.RpcError as error:
                raise LocalServerError(f"the S3 server does not return the space of removed objects: {error}") from None
            occupied = _volume_bytes(data_folder)
            if occupied < least:
                least, changed_at = occupied, time.monotonic()
            time.sleep(POLL_S)
    return before - least


def _volume_bytes(folder: Path) -> int:
    """Bytes on disk of the files that hold objects."""
    occupied = 0
    for path in folder.glob("*.dat"):
        try:
            occupied += path.stat().st_blocks * 512
        except FileNotFoundError:  # replaced by its rewritten copy at this moment
            continue
    return occupied
