"""Whether a station's clock carries time differences: the one rule for features and positions."""

from heimdall_pipelines.model.clock import MAX_CLOCK_UNCERTAINTY_US, ClockClass
from heimdall_pipelines.model.receiver_kind import ReceiverKind
from heimdall_pipelines.store.measurements import StationRecording

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
    clock = recording.clock
    if is_trusted or clock.carries_time_differences:
        return None
    if clock.uncertainty_us is not None and clock.kind is not ClockClass.ARRIVAL:
        return (
            f"its clock ({clock.kind}) is uncertain by {clock.uncertainty_us:.0f} us, above "
            f"{MAX_CLOCK_UNCERTAINTY_US:g} us{hint}"
        )
    source = _SOURCES.get(recording.time_source, recording.time_source)
    why = f" ({recording.note})" if clock.kind is ClockClass.ARRIVAL and recording.note else ""
    return f"its time {source}{why}: nothing says that it is right to {MAX_CLOCK_UNCERTAINTY_US:g} us{hint}"
