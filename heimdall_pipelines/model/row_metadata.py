"""How features were extracted and how IQ is stored: columns extraction_metadata and iq_metadata, also as JSON."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True, kw_only=True)
class SampleExtraction:
    """How a synthetic sample was drawn and its features were extracted.

    ``attempts`` counts the scenes drawn, ``rejections`` the rejected ones by reason.
    """

    bandwidth_hz: int
    segment_ms: int
    chunk_ms: int
    num_chunks: int
    attempts: int
    rejections: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """The object that the column holds."""
        return vars(self) | {"rejections": dict(self.rejections)}


@dataclass(frozen=True, kw_only=True)
class SessionExtraction:
    """How a segment of a session was extracted.

    ``num_segments`` is that of the session, ``start_time_unix_ns`` that of the segment, ``inputs_sha256`` the digest of
    what the features were computed from. A value is None if nothing could be extracted.
    """

    bandwidth_hz: float | None = None
    num_segments: int = 0
    segment_ms: int | None = None
    chunk_ms: int | None = None
    num_chunks: int | None = None
    start_time_unix_ns: int | None = None
    notes: tuple[str, ...] = ()
    inputs_sha256: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The object that the column holds, without values of None."""
        known = {name: value for name, value in vars(self).items() if value is not None}
        return known | {"notes": list(self.notes)}


def readable_session_extraction(value: Any) -> SessionExtraction | None:
    """Read what a column ``extraction_metadata`` of a session holds; None if it is malformed. Other names are left out.

    >>> readable_session_extraction({"bandwidth_hz": 3000.0, "num_segments": 0, "notes": []}).num_chunks is None
    True
    """
    if not isinstance(value, dict):
        return None
    known = {"notes": []} | {one.name: value[one.name] for one in fields(SessionExtraction) if one.name in value}
    if not isinstance(known["notes"], list) or not isinstance(known.get("num_segments", 0), int):
        return None
    return SessionExtraction(**known | {"notes": tuple(known["notes"])})


@dataclass(frozen=True, kw_only=True)
class IqMetadata:
    """Format of a sample's IQ objects; for each receiver SHA-256 and ETag of the object and SHA-256 of the sidecar.

    Rows of older versions have no ETags, and no digests of sidecars. Any other value is None where a row lacks it.
    ``format`` is the name of a `heimdall_pipelines.store.iq_form.IqForm`: ``sigmf``, or ``npy`` in older rows.
    """

    num_samples: int | None = None
    sample_rate_hz: float | None = None
    frequency_hz: float | None = None
    full_scale_dbm: float | None = None
    format: str = "npy"
    dtype: str = "complex64"
    sha256: Mapping[str, str] = field(default_factory=dict)
    etag: Mapping[str, str] = field(default_factory=dict)
    sidecar_sha256: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The object that the column holds; names that a row of an older version lacks are left out."""
        sums = {name: dict(getattr(self, name)) for name in ("etag", "sidecar_sha256")}
        others = {name: value for name, value in vars(self).items() if name not in sums}
        return others | {"sha256": dict(self.sha256)} | {name: value for name, value in sums.items() if value}


def readable_iq_metadata(value: Any) -> IqMetadata | None:
    """Read what a column ``iq_metadata`` holds; None if it is malformed."""
    if not isinstance(value, dict):
        return None
    metadata = IqMetadata(**{one.name: value[one.name] for one in fields(IqMetadata) if one.name in value})
    sums = (metadata.sha256, metadata.etag, metadata.sidecar_sha256)
    return metadata if all(isinstance(one, dict) for one in sums) else None
