"""Whether a station's clock carries time differences: the one rule for features and positions."""

from heimdall_pipelines.model.receiver_kind import ReceiverKind
from heimdall_pipelines.store.measurements import StationRecording

MAX_CLOCK_UNCERTAINTY_US = 20.0
_SOURCES = {"file": "comes from its file", "given": "was given by hand", "arrival": "is that of arrival here"}


def reason_against_clock(recording: StationRecording, *, is_trusted: bool = False, hint: str = "") -> str | None:
    """Why a recording's times carry no time difference.

    Parameters
    ----------
    recording : StationRecording
    is_trusted : bool, optional
        Its times are used although nothing vouches for them.
    hint : str, optional
        Follows a reason that trust would remove.

    Returns
    -------
    str or None
        None where they carry time differences.
    """
    if recording.station.api_type == ReceiverKind.OPENWEBRX and recording.time_source == "arrival":
        return "OpenWebRX sends audio without time stamps, delayed by its buffers: never used for time differences"
    if is_trusted:
        return None
    if recording.time_source != "gnss":
        source = _SOURCES.get(recording.time_source, recording.time_source)
        return f"its time {source}: nothing says that it is right to {MAX_CLOCK_UNCERTAINTY_US:g} us{hint}"
    uncertainty_us = (recording.time_uncertainty_ns or 0.0) / 1e3
    if uncertainty_us > MAX_CLOCK_UNCERTAINTY_US:
        return f"its clock is uncertain by {uncertainty_us:.0f} us, above {MAX_CLOCK_UNCERTAINTY_US:g} us"
    return None
