"""The SigMF description of each station's IQ of a session."""

from collections.abc import Mapping, Sequence
from typing import Any

from heimdall_pipelines.formats.iq_recording import SourceMetadata
from heimdall_pipelines.formats.sigmf_sidecar import merged_metadata, sigmf_meta
from heimdall_pipelines.formats.utc import iso_from_unix_ns
from heimdall_pipelines.store.iq_form import IqForm
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
    source: SourceMetadata | None = None,
) -> dict[str, Any]:
    """Describe a station's IQ object from its measurement.

    Parameters
    ----------
    recording : StationRecording
        The measurement, as it will be stored.
    session, session_name, frequency_hz : SessionIdentity, str, float
        Of the session.
    origin : str
        Source of the samples: ``imported from sigmf``.
    source : SourceMetadata, optional
        What the file that was imported says; it is kept where it does not describe the file's own bytes.
    extra, holes
        See `heimdall_pipelines.formats.sigmf_sidecar.sigmf_meta`.

    Returns
    -------
    dict
        To be stored with `heimdall_pipelines.store.iq_objects.put_sidecar`.
    """
    assert recording.location is not None
    station, form = recording.station, IqForm.of_key(recording.location.key)
    sidecar = sigmf_meta(
        dataset_name=form.dataset_name(station.rx_id),
        header_bytes=len(form.header(recording.samples_count)),
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
    return sidecar if source is None else merged_metadata(sidecar, source)


def corrected_sidecar(sidecar: dict[str, Any], recording: StationRecording, frequency_hz: float) -> dict[str, Any]:
    """Return a station's description with the start, rate, frequency and level that a correction gives it."""
    core = sidecar.get("global", {}) | {
        "core:sample_rate": recording.sample_rate_hz,
        "heimdall:full_scale_dbm": recording.full_scale_dbm,
    }
    first, *others = sidecar.get("captures") or [{"core:sample_start": 0}]
    first = first | {
        "core:frequency": frequency_hz,
        "core:datetime": iso_from_unix_ns(recording.start_time_unix_ns),
    }
    for capture in others:
        if "core:frequency" in capture:
            capture["core:frequency"] = frequency_hz
        if "core:datetime" in capture:
            since_ns = round(capture["core:sample_start"] / recording.sample_rate_hz * 1e9)
            capture["core:datetime"] = iso_from_unix_ns(recording.start_time_unix_ns + since_ns)
    return sidecar | {"global": core, "captures": [first, *others]}
