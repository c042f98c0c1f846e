"""Edits of a dataset's rows, sidecars and objects, most of which no comparison of rows with each other can find."""

from collections.abc import Callable
from functools import partial

from heimdall_pipelines_tests.edits.place import Edit, Place
from heimdall_pipelines_tests.integrity import RX_IDS

Do = Callable[[Place], object]

RX, OTHER = RX_IDS[:2]
ONE_SAMPLE = "1 sample regenerated"
ONE_BATCH = "1 batch counted"
ROWS, SIDECARS, PARAMETERS = "rows_as_committed", "sidecars_as_committed", "parameters_as_created"
MEASURED = "receiver_features time_differences overall_confidence mean_snr_db num_receivers_detected gdop"
OTHER_POSITION = '{"rx_id": "torino", "latitude": 40.0, "longitude": 10.0, "altitude_m": 1.0}'


def _update(table: str, change: str, *idxs: int) -> Do:
    return lambda place: place.sql(
        f"UPDATE heimdall.{table} SET {change} WHERE dataset_id = :id AND sample_idx = ANY(:idxs)",
        idxs=list(idxs or (3,)),
    )


features = partial(_update, "measurement_features")
iq_row = partial(_update, "synthetic_iq_samples")


def receiver(path: str, value: str) -> Do:
    """Set a value of the first receiver's features of sample 3 by SQL in which OLD is the one before."""
    new = value.replace("OLD", f"(receiver_features #> '{{{path}}}')")
    return features(f"receiver_features = jsonb_set(receiver_features, '{{{path}}}', {new})")


def plus(number: float) -> str:
    return f"to_jsonb(CAST(OLD AS numeric) + {number})"


def in_turn(*edits: Do) -> Do:
    def do(place: Place) -> None:
        for edit in edits:
            edit(place)

    return do


def truth(change: str, also: str = "") -> Do:
    """Edit the truth of sample 3 alike in both tables."""
    return in_turn(features(f"truth = {change}{also}"), iq_row(f"truth = {change}"))


def link_plus_1(name: str) -> str:
    """SQL of the truth with 1 more in a field of its first link."""
    path = f"'{{receivers,0,{name}}}'"
    return f"jsonb_set(truth, {path}, to_jsonb(CAST(truth #> {path} AS numeric) + 1))"


def metadata(path: str, value: str) -> Do:
    return iq_row(f"iq_metadata = jsonb_set(iq_metadata, '{{{path}}}', {value})")


def batch(change: str, batch_no: int = 1) -> Do:
    return lambda place: place.sql(
        f"UPDATE heimdall.synthetic_batches SET {change} WHERE dataset_id = :id AND batch_no = :batch_no",
        batch_no=batch_no,
    )


def dataset(change: str) -> Do:
    return lambda place: place.sql(f"UPDATE heimdall.synthetic_datasets SET {change} WHERE id = :id")


def sidecar(path: str, value: object) -> Do:
    """Set a value of a sidecar, by the keys that lead to it."""

    def do(place: Place) -> None:
        def set_value(document: dict) -> None:
            *parents, last = path.split("/")
            for key in parents:
                document = document[int(key) if key.isdigit() else key]
            assert document[last] != value
            document[last] = value

        place.describe_otherwise(place.iq(3, sidecar=True), set_value)

    return do


def exchanged(table: str, columns: str) -> Do:
    """Exchange columns of samples 3 and 4."""
    sources = ", ".join(f"{column} = o.{column}" for column in columns.split())
    return lambda place: place.sql(
        f"UPDATE heimdall.{table} t SET {sources} FROM heimdall.{table} o WHERE t.dataset_id = :id"
        " AND o.dataset_id = :id AND t.sample_idx IN (3, 4) AND o.sample_idx = 7 - t.sample_idx"
    )


def objects_and_sums_exchanged(place: Place) -> None:
    """Exchange two receivers' objects of a sample and all that the row says of them."""
    place.exchange(place.iq(3, 0), place.iq(3, 1))
    for name in ("sha256", "etag"):
        metadata(
            name,
            f"(iq_metadata -> '{name}') || jsonb_build_object('{RX}', iq_metadata #> '{{{name},{OTHER}}}',"
            f" '{OTHER}', iq_metadata #> '{{{name},{RX}}}')",
        )(place)


def object_and_sum_replaced(place: Place) -> None:
    """Replace an object by that of another sample, with its checksum and its ETag."""
    place.put(place.iq(3), place.read(place.iq(4)))
    for name in ("sha256", "etag"):
        place.sql(
            "UPDATE heimdall.synthetic_iq_samples t SET iq_metadata ="
            f" jsonb_set(t.iq_metadata, '{{{name},{RX}}}', o.iq_metadata #> '{{{name},{RX}}}')"
            " FROM heimdall.synthetic_iq_samples o WHERE t.dataset_id = :id AND o.dataset_id = :id"
            " AND t.sample_idx = 3 AND o.sample_idx = 4"
        )


def sidecar_and_sum_replaced(place: Place) -> None:
    """Replace a sidecar and its checksum in the row."""
    content = place.read(place.iq(4, sidecar=True))
    place.put(place.iq(3, sidecar=True), content)
    place.sql(
        "UPDATE heimdall.synthetic_iq_samples SET iq_metadata = jsonb_set(iq_metadata,"
        f" '{{sidecar_sha256,{RX}}}', to_jsonb(encode(sha256(CAST(:content AS bytea)), 'hex')))"
        " WHERE dataset_id = :id AND sample_idx = 3",
        content=content,
    )


def _feature_rows() -> list[Edit]:
    def edit(title: str, do: Do, named: str = "", found_by: str = ROWS) -> Edit:
        return Edit(title, do, found_by, rf"sample 3\b.*{named}", ONE_SAMPLE)

    return [
        edit(
            "an SNR is raised by 1 dB",
            receiver("0,snr_db,mean", plus(1)),
            "receiver_features",
            f"{ROWS} numbers_in_range",
        ),
        edit("the last digit of a level changes", receiver("0,rssi_dbm,mean", plus(0.001)), "receiver_features"),
        edit("a standard deviation is set to 5", receiver("0,snr_db,std", "'5'"), "receiver_features"),
        edit("a minimum is above the maximum", receiver("0,snr_db,min", "'150'"), "receiver_features"),
        edit(
            "a receiver is moved in the features",
            receiver("0,rx_lat", plus(0.01)),
            "receiver_features",
            f"{ROWS} numbers_in_range",
        ),
        edit("rx_alt_m is edited", receiver("0,rx_alt_m", plus(100)), "receiver_features"),
        edit("a flag is added to a receiver", receiver("0,flags", "'[\"overdriven\"]'"), "receiver_features"),
        edit("an error is noted for a receiver", receiver("0,error_message", "'\"it was off\"'"), "receiver_features"),
        edit(
            "a feature is nulled",
            receiver("0,frequency_offset_hz", '\'{"mean": null, "std": null, "min": null, "max": null}\''),
            "receiver_features",
        ),
        edit(
            "features of two receivers are exchanged",
            features(
                "receiver_features = jsonb_build_array("
                "(receiver_features -> 1) || jsonb_build_object('rx_id', receiver_features #> '{0,rx_id}', 'rx_lat',"
                " receiver_features #> '{0,rx_lat}', 'rx_lon', receiver_features #> '{0,rx_lon}', 'rx_alt_m',"
                " receiver_features #> '{0,rx_alt_m}'), (receiver_features -> 0) || jsonb_build_object('rx_id',"
                " receiver_features #> '{1,rx_id}', 'rx_lat', receiver_features #> '{1,rx_lat}', 'rx_lon',"
                " receiver_features #> '{1,rx_lon}', 'rx_alt_m', receiver_features #> '{1,rx_alt_m}'),"
                " receiver_features -> 2)"
            ),
            "receiver_features",
            f"{ROWS} estimates_agree_with_truth",
        ),
        edit("the time of a feature row is edited", features("timestamp = timestamp + INTERVAL '1 s'"), "timestamp"),
        edit("the id of a feature row is edited", features("id = gen_random_uuid()"), "id"),
        edit(
            "attempts of a sample are edited",
            features("extraction_metadata = jsonb_set(extraction_metadata, '{attempts}', '50')"),
            "extraction_metadata",
        ),
        edit(
            "a rejection is invented",
            features("extraction_metadata = jsonb_set(extraction_metadata, '{rejections,invented}', '1')"),
            "extraction_metadata",
        ),
        edit(
            "the length of a chunk is edited",
            features("extraction_metadata = jsonb_set(extraction_metadata, '{chunk_ms}', '21')"),
            "extraction_metadata",
        ),
        edit(
            "the column overall_confidence is edited in its sixth digit",
            features("overall_confidence = overall_confidence * (1 - 1e-6)"),
            "overall_confidence",
        ),
        edit(
            "the column mean_snr_db is edited in its sixth digit",
            features("mean_snr_db = mean_snr_db * (1 + 1e-6)"),
            "mean_snr_db",
        ),
        edit(
            "a time difference changes by 1 ns",
            features(
                "time_differences = jsonb_set(time_differences, '{0,tdoa_us}',"
                " to_jsonb((time_differences #>> '{0,tdoa_us}')::float8 + 0.001))"
            ),
            "time_differences",
        ),
        edit("the column gdop is edited in its sixth digit", features("gdop = gdop * (1 + 1e-6)"), "gdop"),
        edit(
            "a row is turned into one of the first feature version",
            features(
                "feature_version = 1, time_differences = NULL,"
                " receiver_features = (SELECT jsonb_agg(element - 'cn0_dbhz' ORDER BY position) FROM"
                " jsonb_array_elements(receiver_features) WITH ORDINALITY AS elements (element, position))"
            ),
            "feature_version",
        ),
        edit(
            "a row is marked as failed",
            features("extraction_failed = true, error_message = 'it failed'"),
            "extraction_failed",
        ),
        edit("an error is noted in a row", features("error_message = 'it failed'"), "error_message"),
        edit(
            "the truth says 1 dB more in both tables",
            truth(link_plus_1("signal_power_dbm")),
            "truth",
        ),
        edit(
            "the true SNR is 1 dB more in both tables",
            truth(link_plus_1("snr_db")),
            "truth",
        ),
        edit("the audio is another one in both tables", truth("jsonb_set(truth, '{audio}', '\"silence\"')"), "truth"),
        edit(
            "a field is invented in the truth of both tables",
            truth("jsonb_set(truth, '{weather}', '\"fog\"')"),
            "truth",
        ),
        edit(
            "a field of a link is invented in both tables",
            truth("jsonb_set(truth, '{receivers,0,weather}', '1')"),
            "truth",
        ),
        edit("the digest of a feature row is removed", features("digest = NULL"), "digest"),
        edit(
            "the digest of a feature row is that of another",
            lambda place: place.sql(
                "UPDATE heimdall.measurement_features t SET digest = o.digest FROM heimdall.measurement_features o"
                " WHERE t.dataset_id = :id AND o.dataset_id = :id AND t.sample_idx = 3 AND o.sample_idx = 4"
            ),
        ),
    ]


def _iq_rows() -> list[Edit]:
    def edit(title: str, do: Do, named: str = "", found_by: str = ROWS, repaired: str | None = ONE_SAMPLE) -> Edit:
        return Edit(title, do, found_by, rf"(sample 3\b|/3/).*{named}", repaired)

    return [
        edit("the time of an IQ row is edited", iq_row("timestamp = timestamp + INTERVAL '1 s'"), "timestamp"),
        edit(
            "a receiver is moved in an IQ row",
            iq_row("receivers_metadata = jsonb_set(receivers_metadata, '{0,latitude}', '40')"),
            "receivers_metadata",
        ),
        edit("the receivers of an IQ row are emptied", iq_row("receivers_metadata = '[]'"), "receivers_metadata"),
        edit("the rate in an IQ row is edited", metadata("sample_rate_hz", "'48000'"), "iq_metadata"),
        edit("the frequency in an IQ row is edited", metadata("frequency_hz", "'1'"), "iq_metadata"),
        edit("the type of samples in an IQ row is edited", metadata("dtype", "'\"int16\"'"), "iq_metadata"),
        edit(
            "the format in an IQ row is edited",
            metadata("format", "'\"bin\"'"),
            found_by=f"{ROWS} iq_of_every_sample objects_agree",
        ),
        edit("the full scale in an IQ row is edited", metadata("full_scale_dbm", "'0'"), "iq_metadata"),
        edit("a field is invented in an IQ row", metadata("weather", "'1'"), "iq_metadata"),
        edit(
            "an ETag is removed from an IQ row", iq_row(f"iq_metadata = iq_metadata #- '{{etag,{RX}}}'"), "iq_metadata"
        ),
        edit("all ETags are removed from an IQ row", iq_row("iq_metadata = iq_metadata - 'etag'"), "iq_metadata"),
        edit(
            "the checksum of a sidecar is removed",
            iq_row(f"iq_metadata = iq_metadata #- '{{sidecar_sha256,{RX}}}'"),
            "iq_metadata",
        ),
        edit("the digest of an IQ row is removed", iq_row("digest = NULL"), "digest"),
        edit("two objects and their sums are exchanged together", objects_and_sums_exchanged, "iq_metadata"),
        edit("an object and its sums are replaced together", object_and_sum_replaced, "iq_metadata"),
        edit(
            "the paths of two receivers are exchanged",
            iq_row(
                f"iq_storage_paths = iq_storage_paths || jsonb_build_object('{RX}', iq_storage_paths -> '{OTHER}',"
                f" '{OTHER}', iq_storage_paths -> '{RX}')"
            ),
            found_by=f"{ROWS} {SIDECARS} iq_of_every_sample objects_agree",
        ),
        edit("a sidecar has another rate", sidecar("global/core:sample_rate", 1.0), found_by=SIDECARS),
        edit("a sidecar has another frequency", sidecar("captures/0/core:frequency", 1.0), found_by=SIDECARS),
        edit(
            "a sidecar has another time", sidecar("captures/0/core:datetime", "2001-01-01T00:00:00Z"), found_by=SIDECARS
        ),
        edit(
            "a sidecar is that of another receiver",
            lambda place: place.put(place.iq(3, sidecar=True), place.read(place.iq(3, 1, sidecar=True))),
            found_by=SIDECARS,
        ),
        edit(
            "sidecars of two samples are exchanged",
            lambda place: place.exchange(place.iq(3, sidecar=True), place.iq(4, sidecar=True)),
            found_by=SIDECARS,
            repaired="2 samples regenerated",
        ),
        edit(
            "a sidecar is the word garbage",
            lambda place: place.put(place.iq(3, sidecar=True), b"garbage"),
            found_by=SIDECARS,
        ),
        edit(
            "a byte of a sidecar changes",
            lambda place: place.change(
                place.iq(3, sidecar=True), lambda content: content[:40] + bytes([content[40] ^ 1]) + content[41:]
            ),
            found_by=SIDECARS,
        ),
        edit("a sidecar and its sum are replaced together", sidecar_and_sum_replaced, "iq_metadata"),
    ]


def _batches() -> list[Edit]:
    def edit(title: str, change: str, named: str, found_by: str = ROWS) -> Edit:
        return Edit(title, batch(change), found_by, rf"batch 1\b.*{named}", ONE_BATCH)

    return [
        edit("attempts of a batch are edited", "attempts = attempts + 5", "attempts"),
        edit("rejections of a batch are edited", "rejections = '{\"gdop_too_high\": 77}'", "rejections"),
        edit("the first sample of a batch is edited", "first_sample_idx = 6", "first_sample_idx"),
        edit("the partition of a batch is edited", "partition_key = 'elsewhere__00001'", "partition_key"),
        edit("a batch is said to have stopped", "stopped_reason = 'max_attempts'", "stopped_reason"),
        edit("the generator version of a batch is edited", "generator_version = 99", "generator_version"),
        edit("the root of a batch is edited", "root = sha256('x')", "root"),
        edit("the root of a batch is removed", "root = NULL", "root"),
        edit(
            "the digest of a batch's parameters is edited",
            "parameters_digest = sha256('x')",
            "parameters_digest",
            f"{ROWS} {PARAMETERS}",
        ),
        Edit("the digest of a batch is removed", batch("digest = NULL"), ROWS, "batch 1: has no digest"),
    ]


def _datasets() -> list[Edit]:
    def edit(
        title: str, change: str, named: str, found_by: str = PARAMETERS, repaired: str | None = "restored"
    ) -> Edit:
        return Edit(title, dataset(change), found_by, named, repaired)

    return [
        edit("the seed is edited", "seed = seed + 1", "seed"),
        edit(
            "a receiver of the dataset is moved", "receivers = jsonb_set(receivers, '{0,latitude}', '44')", "receivers"
        ),
        edit("a receiver of the dataset is removed", "receivers = receivers - 0", "receivers"),
        edit("a receiver is added to the dataset", f"receivers = receivers || '[{OTHER_POSITION}]'", "receivers"),
        edit("a parameter is edited", "spec = jsonb_set(spec, '{tx_power_dbm}', '20')", "spec"),
        edit("a parameter is removed", "spec = spec - 'max_gdop'", "spec"),
        edit("a parameter is invented", "spec = jsonb_set(spec, '{weather}', '1')", "spec"),
        edit("the batch size is edited", "spec = jsonb_set(spec, '{batch_size}', '4')", "spec"),
        edit("the parameters are unreadable", 'spec = \'{"batch_size": "many"}\'', "spec"),
        edit(
            "the type of the dataset is edited",
            "dataset_type = CASE dataset_type WHEN 'iq_raw' THEN 'feature_based' ELSE 'iq_raw' END",
            "dataset_type",
        ),
        edit("the generator version of the dataset is edited", "generator_version = 99", "generator_version"),
        edit("the dataset is renamed", "name = 'another'", "name"),
        edit("the target is raised", "target_num_samples = 500", "target_num_samples", ROWS, None),
        edit("the dataset is marked as being deleted", "deletion_began_at = now()", "deletion_began_at", ROWS, None),
        edit(
            "the digest of the parameters is edited",
            "parameters_digest = sha256('x')",
            "parameters_digest",
            f"{ROWS} {PARAMETERS}",
        ),
        edit("the root of the dataset is edited", "root = sha256('x')", "root", ROWS, None),
        edit("the digest of the dataset is removed", "digest = NULL", "digest", ROWS, None),
    ]


def _whole_rows() -> list[Edit]:
    return [
        Edit(
            "features of two samples are exchanged",
            exchanged("measurement_features", MEASURED),
            f"{ROWS} numbers_in_range estimates_agree_with_truth",
            "sample [34].*receiver_features",
            "2 samples regenerated",
        ),
        Edit(
            "two feature rows are exchanged, digests included",
            exchanged(
                "measurement_features",
                f"{MEASURED} truth tx_latitude tx_longitude tx_altitude_m tx_power_dbm extraction_metadata timestamp"
                " digest",
            ),
            f"{ROWS} truths_agree",
            "sample [34]",
            "2 samples regenerated",
        ),
        Edit(
            "two IQ rows are exchanged, digests included",
            exchanged("synthetic_iq_samples", "truth iq_metadata iq_storage_paths receivers_metadata timestamp digest"),
            f"{ROWS} truths_agree iq_of_every_sample objects_agree",
            "sample [34]",
            "2 samples regenerated",
        ),
    ]


EDITS = [*_feature_rows(), *_iq_rows(), *_batches(), *_datasets(), *_whole_rows()]
