"""Where the certificates of a local server are; they are made in certificates.py, which takes longer to load."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class CertificateFiles:
    """PEM files of one server: the authority, and one certificate that serves for both ends of a connection.

    Attributes
    ----------
    authority, certificate : Path
    key : Path
        Mode 0600: who can read it is let in.
    """

    authority: Path
    certificate: Path
    key: Path

    @classmethod
    def in_folder(cls, folder: Path) -> "CertificateFiles":
        """Where `heimdall_pipelines.local.certificates.make_certificates` puts them."""
        return cls(folder / "authority.pem", folder / "certificate.pem", folder / "key.pem")
