"""Edits of a session's rows, sidecars and objects. IQ of recordings cannot be regenerated: nothing is repaired."""

from collections.abc import Callable

from heimdall_pipelines_tests.edits.place import SOURCE, STATIONS, Edit, Place

Do = Callable[[Place], object]

ROWS, SIDECARS, CURRENT, OBJECTS = "rows_as_committed", "sidecars_as_committed", "features_are_current", "objects_agree"
BOTH = f"{ROWS} {CURRENT}"
GENOVA, _, TORINO = STATIONS
UNUSED = "coazze"  # of the network, but not of the session
_OF = "websdr_station_id = (SELECT id FROM heimdall.websdr_stations WHERE rx_id = '{}')"


def measurement(change: str, rx_id: str = TORINO) -> Do:
    return lambda place: place.sql(
        f"UPDATE heimdall.measurements SET {change} WHERE recording_session_id = :session AND {_OF.format(rx_id)}"
    )


def session(change: str) -> Do:
    return lambda place: place.sql(f"UPDATE heimdall.recording_sessions SET {change} WHERE id = :session")


def segments(change: str, where: str = "segment_idx = 4") -> Do:
    return lambda place: place.sql(
        f"UPDATE heimdall.measurement_features SET {change} WHERE recording_session_id = :session AND {where}"
    )


def receiver(path: str, value: str, where: str = "segment_idx = 4") -> Do:
    new = value.replace("OLD", f"(receiver_features #> '{{{path}}}')")
    return segments(f"receiver_features = jsonb_set(receiver_features, '{{{path}}}', {new})", where)


def plus(number: float) -> str:
    return f"to_jsonb(CAST(OLD AS numeric) + {number})"


def station(change: str) -> Do:
    return lambda place: place.sql(f"UPDATE heimdall.websdr_stations SET {change} WHERE rx_id = '{TORINO}'")


def source(change: str) -> Do:
    return lambda place: place.sql(f"UPDATE heimdall.known_sources SET {change} WHERE name = '{SOURCE}'")


def extraction(change: str) -> Do:
    return lambda place: place.sql(
        f"UPDATE heimdall.session_extractions SET {change} WHERE recording_session_id = :session"
    )


def in_turn(*edits: Do) -> Do:
    def do(place: Place) -> None:
        for edit in edits:
            edit(place)

    return do


def flipped(content: bytes) -> bytes:
    return content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]


def flip_iq(place: Place) -> None:
    place.change(place.recording(TORINO), flipped)


def sidecar(path: str, value: object) -> Do:
    def do(place: Place) -> None:
        def set_value(document: dict) -> None:
            *parents, last = path.split("/")
            for key in parents:
                document = document[int(key) if key.isdigit() else key]
            document[last] = value

        place.describe_otherwise(place.recording(TORINO, sidecar=True), set_value)

    return do


def exchange_measurements(columns: str) -> Do:
    """Exchange columns of the measurements of two stations."""
    sources = ", ".join(f"{column} = o.{column}" for column in columns.split())
    return lambda place: place.sql(
        f"UPDATE heimdall.measurements t SET {sources} FROM heimdall.measurements o"
        " WHERE t.recording_session_id = :session AND o.recording_session_id = :session"
        f" AND t.{_OF.format(GENOVA)} AND o.{_OF.format(TORINO)}"
        f" OR t.recording_session_id = :session AND o.recording_session_id = :session"
        f" AND t.{_OF.format(TORINO)} AND o.{_OF.format(GENOVA)}"
    )


def given_to(rx_id: str, other: str) -> Do:
    """Say that another station made a station's measurement."""
    return measurement(f"websdr_station_id = (SELECT id FROM heimdall.websdr_stations WHERE rx_id = '{other}')", rx_id)


def exchange_segments(columns: str) -> Do:
    """Exchange columns of the segments 3 and 4."""
    sources = ", ".join(f"{column} = o.{column}" for column in columns.split())
    return lambda place: place.sql(
        f"UPDATE heimdall.measurement_features t SET {sources} FROM heimdall.measurement_features o"
        " WHERE t.recording_session_id = :session AND o.recording_session_id = :session"
        " AND t.segment_idx IN (3, 4) AND o.segment_idx = 7 - t.segment_idx"
    )


def delete_last_segment_with_its_count(place: Place) -> None:
    place.sql("DELETE FROM heimdall.measurement_features WHERE recording_session_id = :session AND segment_idx = 11")
    segments("extraction_metadata = jsonb_set(extraction_metadata, '{num_segments}', '11')", "true")(place)


STATION_FEATURES_EXCHANGED = (
    "receiver_features = jsonb_build_array("
    "(receiver_features -> 2) || jsonb_build_object('rx_id', receiver_features #> '{0,rx_id}', 'rx_lat',"
    " receiver_features #> '{0,rx_lat}', 'rx_lon', receiver_features #> '{0,rx_lon}', 'rx_alt_m',"
    " receiver_features #> '{0,rx_alt_m}'), receiver_features -> 1, (receiver_features -> 0) ||"
    " jsonb_build_object('rx_id', receiver_features #> '{2,rx_id}', 'rx_lat', receiver_features #> '{2,rx_lat}',"
    " 'rx_lon', receiver_features #> '{2,rx_lon}', 'rx_alt_m', receiver_features #> '{2,rx_alt_m}'))"
)
IN_ALL = (ROWS, "torino.*{}")

MEASUREMENTS = [
    (
        "a measurement starts 1 s later",
        measurement("start_time_unix_ns = start_time_unix_ns + 1000000000, timestamp = timestamp + INTERVAL '1 s'"),
        BOTH,
        "start_time_unix_ns",
    ),
    (
        "a measurement starts 300 ns later",
        measurement("start_time_unix_ns = start_time_unix_ns + 300"),
        BOTH,
        "start_time_unix_ns",
    ),
    ("the time of a measurement is edited", measurement("timestamp = timestamp + INTERVAL '1 s'"), ROWS, "timestamp"),
    (
        "the rate of a measurement is 10 % higher",
        measurement("sample_rate_hz = sample_rate_hz * 1.1"),
        BOTH,
        "sample_rate_hz",
    ),
    ("a measurement is said to be calibrated", measurement("is_calibrated = NOT is_calibrated"), BOTH, "is_calibrated"),
    (
        "the full scale of a measurement is edited",
        measurement("full_scale_dbm = full_scale_dbm + 3"),
        BOTH,
        "full_scale_dbm",
    ),
    (
        "the stations of two measurements are exchanged",
        in_turn(given_to(TORINO, UNUSED), given_to(GENOVA, TORINO), given_to(UNUSED, GENOVA)),
        BOTH,
        "websdr_station_id",
    ),
    (
        "the objects of two measurements are exchanged",
        exchange_measurements("iq_data_location"),
        f"{ROWS} {SIDECARS} {OBJECTS}",
        "iq_data_location",
    ),
    (
        "the objects of two measurements are exchanged with their sums",
        exchange_measurements("iq_data_location sha256 sidecar_sha256 etag samples_count"),
        f"{BOTH}",
        "iq_data_location",
    ),
    ("the time source of a measurement is edited", measurement("time_source = 'given'"), BOTH, "time_source"),
    (
        "the time uncertainty of a measurement is edited",
        measurement("time_uncertainty_ns = 1e9"),
        BOTH,
        "time_uncertainty_ns",
    ),
    ("the quantisation of a measurement is edited", measurement("quantisation_step = 0.5"), BOTH, "quantisation_step"),
    ("the passband of a measurement is edited", measurement("passband_hz = 777"), BOTH, "passband_hz"),
    ("a note is added to a measurement", measurement("note = 'overdriven'"), BOTH, "note"),
    ("an error is noted in a measurement", measurement("error_message = 'it was off'"), BOTH, "error_message"),
    ("the mean SNR of a measurement is edited", measurement("snr_db = snr_db + 1"), ROWS, "snr_db"),
    (
        "the mean level of a measurement is edited",
        measurement("signal_strength_dbm = signal_strength_dbm + 1"),
        ROWS,
        "signal_strength_dbm",
    ),
    (
        "the mean offset of a measurement is edited",
        measurement("frequency_offset_hz = frequency_offset_hz + 1"),
        ROWS,
        "frequency_offset_hz",
    ),
    ("the id of a measurement is edited", measurement("id = gen_random_uuid()"), ROWS, "id"),
    ("a checksum is removed and a bit is flipped", in_turn(measurement("sha256 = NULL"), flip_iq), BOTH, "sha256"),
    ("the checksum of a recording is edited", measurement("sha256 = encode(sha256('x'), 'hex')"), BOTH, "sha256"),
    ("the ETag of a recording is removed", measurement("etag = NULL"), ROWS, "etag"),
    ("the checksum of a recording's sidecar is removed", measurement("sidecar_sha256 = NULL"), ROWS, "sidecar_sha256"),
    ("the digest of a measurement is removed", measurement("digest = NULL"), ROWS, "digest"),
    (
        "a measurement is deleted",
        lambda place: place.sql(
            f"DELETE FROM heimdall.measurements WHERE recording_session_id = :session AND {_OF.format(TORINO)}"
        ),
        f"{BOTH} stations_in_every_segment {OBJECTS}",
        "",
    ),
]
STATIONS_AND_SOURCES = [
    ("a station is moved by SQL", station("latitude = latitude + 0.01"), BOTH, "latitude"),
    ("the height of a station is edited", station("altitude_m = altitude_m + 10"), BOTH, "altitude_m"),
    ("a source is moved by SQL", source("latitude = latitude + 0.01"), BOTH, "latitude"),
    ("the power of a source is edited", source("power_dbm = 1"), BOTH, "power_dbm"),
]
SESSIONS = [
    ("the frequency of a session is edited", session("frequency_hz = frequency_hz + 1"), ROWS, "frequency_hz"),
    ("the channel of a session is edited", session("bandwidth_hz = 6000"), BOTH, "bandwidth_hz"),
    ("the source of a session is removed", session("known_source_id = NULL"), BOTH, "known_source"),
    ("the name of a session is edited", session("name = 'another'"), ROWS, "name"),
    ("the start of a session is edited", session("start_time = start_time - INTERVAL '1 s'"), ROWS, "start_time"),
    ("the end of a session is edited", session("end_time = end_time + INTERVAL '1 s'"), ROWS, "end_time"),
    ("the duration of a session is edited", session("duration_s = 99"), ROWS, "duration_s"),
    ("the time of completion is edited", session("completed_at = completed_at - INTERVAL '1 d'"), ROWS, "completed_at"),
    ("the digest of the content is edited", session("content_sha256 = 'x'"), ROWS, "content_sha256"),
    ("an error is noted in a session", session("error_message = 'it failed'"), ROWS, "error_message"),
    (
        "the revision is raised in session and rows",
        in_turn(session("revision = 2"), segments("session_revision = 2", "true")),
        BOTH,
        "revision",
    ),
    ("the session is marked as being deleted", session("deletion_began_at = now()"), ROWS, "deletion_began_at"),
    ("the session is marked as failed", session("status = 'failed'"), ROWS, "status"),
    ("the root of a session is edited", session("root = sha256('x')"), ROWS, "root"),
    ("the digest of a session is removed", session("digest = NULL"), ROWS, "digest"),
]
SEGMENTS = [
    ("the transmitter is moved in a row", segments("tx_latitude = tx_latitude + 1"), ROWS, "tx_latitude"),
    ("the transmitter's power is edited in a row", segments("tx_power_dbm = 3"), ROWS, "tx_power_dbm"),
    ("all segments are 1 h later", segments("timestamp = timestamp + INTERVAL '1 h'", "true"), ROWS, "timestamp"),
    ("features of two segments are exchanged", exchange_segments("receiver_features"), ROWS, "receiver_features"),
    (
        "two segments are exchanged, digests included",
        exchange_segments("receiver_features extraction_metadata mean_snr_db gdop overall_confidence digest"),
        ROWS,
        "segment [34]",
    ),
    ("features of two stations are exchanged", segments(STATION_FEATURES_EXCHANGED, "true"), ROWS, "receiver_features"),
    ("a level is raised by 1 dB", receiver("0,rssi_dbm,mean", plus(1)), ROWS, "receiver_features"),
    ("an SNR is set to 100 dB", receiver("0,snr_db,mean", "'100'"), ROWS, "receiver_features"),
    ("a station is moved in the rows", receiver("0,rx_lat", plus(0.01), "true"), BOTH, "receiver_features"),
    ("a flag is removed in a row", receiver("0,flags", "'[]'"), ROWS, "receiver_features"),
    ("the last segment is deleted with its count", delete_last_segment_with_its_count, ROWS, ""),
    (
        "the digest of the inputs is edited in a row",
        segments("extraction_metadata = jsonb_set(extraction_metadata, '{inputs_sha256}', '\"x\"')"),
        BOTH,
        "extraction_metadata",
    ),
    (
        "a note is added to a row",
        segments("extraction_metadata = jsonb_set(extraction_metadata, '{notes}', '[\"x\"]')"),
        ROWS,
        "extraction_metadata",
    ),
    ("the id of a segment is edited", segments("id = gen_random_uuid()"), ROWS, "id"),
    ("the digest of a segment is removed", segments("digest = NULL"), ROWS, "digest"),
    (
        "the recorded inputs are edited",
        extraction("inputs = jsonb_set(inputs, '{bandwidth_hz}', '1')"),
        CURRENT,
        "session_extractions was edited",
    ),
    (
        "the recorded inputs are edited with their digest",
        extraction("inputs_sha256 = encode(sha256('x'), 'hex')"),
        CURRENT,
        "other inputs",
    ),
    ("the revision of the recorded inputs is edited", extraction("session_revision = 2"), CURRENT, "of revision 1"),
    (
        "the record of the inputs is deleted",
        lambda place: place.sql("DELETE FROM heimdall.session_extractions WHERE recording_session_id = :session"),
        CURRENT,
        "no record",
    ),
]
FILES = [
    ("the sidecar of a recording has another rate", sidecar("global/core:sample_rate", 1.0), SIDECARS, TORINO),
    ("the sidecar of a recording has another frequency", sidecar("captures/0/core:frequency", 1.0), SIDECARS, TORINO),
    (
        "the sidecar of a recording is that of another station",
        lambda place: place.put(
            place.recording(TORINO, sidecar=True), place.read(place.recording(GENOVA, sidecar=True))
        ),
        SIDECARS,
        TORINO,
    ),
    (
        "the sidecar of a recording is the word garbage",
        lambda place: place.put(place.recording(TORINO, sidecar=True), b"garbage"),
        SIDECARS,
        TORINO,
    ),
    (
        "a byte of a recording's sidecar changes",
        lambda place: place.change(place.recording(TORINO, sidecar=True), flipped),
        SIDECARS,
        TORINO,
    ),
]
_ALL = [*MEASUREMENTS, *STATIONS_AND_SOURCES, *SESSIONS, *SEGMENTS, *FILES]

EDITS = [
    *(Edit(title, do, found_by, named) for title, do, found_by, named in _ALL),
    Edit("a bit of a recording is flipped", flip_iq, OBJECTS, TORINO),
]
