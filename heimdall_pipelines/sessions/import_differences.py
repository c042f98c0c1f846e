"""What differs when files that a session holds already are imported again with other values."""

from collections.abc import Sequence
from dataclasses import dataclass

from heimdall_pipelines.formats.utc import iso_from_unix_ns
from heimdall_pipelines.sessions.import_request import ImportOptions, ImportRefusedError
from heimdall_pipelines.store.measurements import StationRecording
from heimdall_pipelines.store.sessions import RecordingSession

_SAME_HZ = 1e-6


@dataclass(frozen=True)
class FileValues:
    """Values that a file would be imported with now."""

    rx_id: str
    sample_rate_hz: float
    start_time_unix_ns: int
    full_scale_dbm: float | None


@dataclass(frozen=True)
class _Difference:
    text: str
    option: str


def refuse_other_values(
    session: RecordingSession,
    stored: Sequence[StationRecording],
    files: Sequence[FileValues],
    frequency_hz: float,
    options: ImportOptions,
) -> None:
    """Refuse an import whose samples are stored already, with other values than now.

    Raises
    ------
    ImportRefusedError
        Says what differs, and the command that corrects it.
    """
    differences = [
        *_of_session(session, frequency_hz, options),
        *(
            difference
            for recording in stored
            for file in files
            if file.rx_id == recording.station.rx_id
            for difference in _of_station(recording, file, options)
        ),
    ]
    if differences:
        raise ImportRefusedError(
            f"already imported as session {session.slug}, with other values: "
            f"{'; '.join(difference.text for difference in differences)}; nothing was changed. To correct the session: "
            f"heimdall session correct {session.slug} {' '.join(difference.option for difference in differences)}; "
            f"to import the files anew, first: heimdall session delete {session.slug}"
        )


def _of_session(session: RecordingSession, frequency_hz: float, options: ImportOptions) -> list[_Difference]:
    return [
        _Difference(f"{what} is {old:.12g} Hz there, {new:.12g} Hz here", f"{option} {new:.12g}")
        for what, option, old, new in (
            ("the frequency", "--frequency", session.frequency_hz, frequency_hz),
            ("the channel's width", "--bandwidth", session.bandwidth_hz, options.bandwidth_hz),
        )
        if new is not None and abs(old - new) > _SAME_HZ
    ]


def _of_station(recording: StationRecording, file: FileValues, options: ImportOptions) -> list[_Difference]:
    rx_id = file.rx_id
    found = []
    if abs(recording.sample_rate_hz - file.sample_rate_hz) > _SAME_HZ:
        old, new = recording.sample_rate_hz, file.sample_rate_hz
        found.append(
            _Difference(
                f"the rate of {rx_id} is {old:.10g} Hz there, {new:.10g} Hz here", f"--sample-rate {rx_id}={new!r}"
            )
        )
    if recording.start_time_unix_ns != file.start_time_unix_ns:
        old_start, new_start = iso_from_unix_ns(recording.start_time_unix_ns), iso_from_unix_ns(file.start_time_unix_ns)
        found.append(
            _Difference(f"{rx_id} starts at {old_start} there, {new_start} here", f"--start {rx_id}={new_start}")
        )
    level = file.full_scale_dbm
    if level is not None and (not recording.is_calibrated or recording.full_scale_dbm != level):
        old_level = f"{recording.full_scale_dbm:g} dBm" if recording.is_calibrated else "uncalibrated"
        found.append(
            _Difference(
                f"full scale of {rx_id} is {old_level} there, {level:g} dBm here", f"--full-scale-dbm {rx_id}={level:g}"
            )
        )
    if options.passband_hz is not None and recording.passband_hz != options.passband_hz:
        old_text = "not set" if recording.passband_hz is None else f"{recording.passband_hz:g} Hz"
        found.append(
            _Difference(
                f"the passband of {rx_id} is {old_text} there, {options.passband_hz:g} Hz here",
                f"--passband {rx_id}={options.passband_hz:g}",
            )
        )
    return found
