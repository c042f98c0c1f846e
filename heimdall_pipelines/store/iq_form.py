"""Forms of the IQ objects in the buckets. Only this module decides keys, headers and descriptions by form.

New objects are SigMF datasets: raw little-endian complex64 as ``.sigmf-data`` beside its ``.sigmf-meta``, which the
tools of the field open as they are. Objects of before are ``.npy`` files; they keep their key, their bytes and their
checksum, also where they are regenerated.
"""

from enum import Enum

SAMPLE_BYTES = 8  # complex64
SIDECAR_SUFFIX = ".sigmf-meta"


class IqForm(Enum):
    """How an object holds its samples; the value is the name in the column ``iq_metadata``."""

    SIGMF = "sigmf"
    """Samples alone, ``.sigmf-data``."""
    NPY = "npy"
    """A file of NumPy with its header, ``.npy``."""
    BARE = "bin"
    """Samples alone under any other key, of the oldest recordings; without a description."""

    @classmethod
    def of_key(cls, key: str) -> "IqForm":
        """Form of an object by its key.

        >>> IqForm.of_key("sessions/1/torino.npy"), IqForm.of_key("synthetic/1/0/torino.sigmf-data")
        (<IqForm.NPY: 'npy'>, <IqForm.SIGMF: 'sigmf'>)
        """
        return next((form for form in (cls.SIGMF, cls.NPY) if key.endswith(form.suffix)), cls.BARE)

    @classmethod
    def named(cls, name: object) -> "IqForm | None":
        """Form by its name in ``iq_metadata``; None where it is none that a sample can have."""
        return next((form for form in (cls.SIGMF, cls.NPY) if form.value == name), None)

    @property
    def suffix(self) -> str:
        """End of the keys; empty for `BARE`."""
        return _SUFFIXES[self]

    @property
    def data_format(self) -> str:
        """Value of the column ``iq_data_format`` of recordings."""
        return "npy" if self is IqForm.NPY else "bin"

    @property
    def has_sidecar(self) -> bool:
        """Whether a SigMF description lies beside the object."""
        return self is not IqForm.BARE

    def header(self, num_samples: int) -> bytes:
        """Bytes before the samples."""
        if self is not IqForm.NPY:
            return b""
        from heimdall_pipelines.formats.npy import npy_header_bytes  # numpy: not for a count of objects

        return npy_header_bytes(num_samples)

    def object_bytes(self, num_samples: int) -> int:
        """Size of an object."""
        return len(self.header(num_samples)) + num_samples * SAMPLE_BYTES

    def dataset_name(self, rx_id: str) -> str | None:
        """Name of the data file in its description, ``core:dataset``; a conforming ``.sigmf-data`` has none."""
        return f"{rx_id}{self.suffix}" if self is IqForm.NPY else None

    def then_others(self) -> "tuple[IqForm, ...]":
        """Return this form, then the others that a sample's objects can have."""
        return (self, *(form for form in IqForm if form is not self and form.has_sidecar))


_SUFFIXES = {IqForm.SIGMF: ".sigmf-data", IqForm.NPY: ".npy", IqForm.BARE: ""}
NEW_FORM = IqForm.SIGMF


def sidecar_key(key: str) -> str:
    """Key of the SigMF description of an IQ object."""
    return key.removesuffix(IqForm.of_key(key).suffix) + SIDECAR_SUFFIX
