"""The SigMF description of each station's IQ of a session."""

from collections.abc import Mapping, Sequence
from typing import Any

from heimdall_pipelines.formats.npy import npy_header_bytes
from heimdall_pipelines.formats.sigmf_files import sigmf_meta
from heimdall_pipelines.store.measurements import StationRecording
from heimdall_pipelines.store.sessions import SessionIdentity


def session_sidecar(
    recording: StationRecording,
    *,
    session: SessionIdentity,
    session_name: str,
    frequency_hz: float,
    origin: str,
    extra: Mapping[str, object] | None = None,
    holes: Sequence[tuple[int, int]] = (),
) -> dict[str, Any]:
    """Describe a station's ``.npy`` object from its measurement.

    Parameters
    ----------
    recording : StationRecording
        The measurement, as it will be stored.
    session, session_name, frequency_hz : SessionIdentity, str, float
        Of the session.
    origin : str
        Source of the samples: ``imported from sigmf``.
    extra, holes
        See `heimdall_pipelines.formats.sigmf_files.sigmf_meta`.

    Returns
    -------
    dict
        To be stored with `heimdall_pipelines.store.iq_objects.put_sidecar`.
    """
    station = recording.station
    return sigmf_meta(
        dataset_name=f"{station.rx_id}.npy",
        header_bytes=len(npy_header_bytes(recording.samples_count)),
        num_samples=recording.samples_count,
        sample_rate_hz=recording.sample_rate_hz,
        frequency_hz=frequency_hz,
        start_time_unix_ns=recording.start_time_unix_ns,
        lat=station.latitude,
        lon=station.longitude,
        alt_m=station.altitude_m,
        description=f"{session_name}: {station.name}",
        recorder=f"heimdall-pipelines, {origin}",
        extra={
            "rx_id": station.rx_id,
            "session_id": str(session.id),
            "session_slug": session.slug,
            "full_scale_dbm": recording.full_scale_dbm,
            **(extra or {}),
        },
        holes=holes,
    )
