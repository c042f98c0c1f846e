"""The tables of the data model: stations, sources, sessions, measurements, datasets, features."""

from alembic import op

revision = "0001"
down_revision = None

SLUG = "'^[a-z0-9]+([-_][a-z0-9]+)*$'"

# Frozen here on purpose: a migration says what was, whatever rf.features names later.
FEATURES = (
    "rssi_dbm",
    "snr_db",
    "noise_floor_dbm",
    "frequency_offset_hz",
    "bandwidth_hz",
    "psd_dbm_per_hz",
    "spectral_centroid_hz",
    "spectral_rolloff_hz",
    "envelope_mean",
    "envelope_std",
    "envelope_max",
    "peak_to_avg_ratio_db",
    "zero_crossing_rate",
    "multipath_delay_spread_us",
    "coherence_bandwidth_khz",
    "delay_spread_confidence",
    "confidence_score",
)


def upgrade() -> None:
    """Create every table, view, trigger and comment."""
    _execute(f"""
        CREATE TABLE heimdall.websdr_stations (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            rx_id text NOT NULL UNIQUE CHECK (rx_id ~ {SLUG}),
            name text NOT NULL CHECK (name <> ''),
            url text,
            api_type text NOT NULL DEFAULT 'none' CHECK (api_type IN ('kiwisdr', 'http_iq', 'none')),
            latitude double precision NOT NULL CHECK (latitude BETWEEN -90 AND 90),
            longitude double precision NOT NULL CHECK (longitude BETWEEN -180 AND 180),
            altitude_m double precision NOT NULL DEFAULT 0 CHECK (altitude_m BETWEEN -500 AND 10000),
            frequency_ranges_hz jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(frequency_ranges_hz) = 'array'),
            full_scale_dbm double precision,
            is_active boolean NOT NULL DEFAULT true,
            timeout_seconds double precision NOT NULL DEFAULT 30 CHECK (timeout_seconds > 0),
            retry_count integer NOT NULL DEFAULT 3 CHECK (retry_count >= 0),
            created_at timestamptz NOT NULL DEFAULT now()
        )""")
    _execute("""
        CREATE TABLE heimdall.known_sources (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            name text NOT NULL UNIQUE CHECK (name <> ''),
            frequency_hz double precision NOT NULL CHECK (frequency_hz > 0),
            latitude double precision NOT NULL CHECK (latitude BETWEEN -90 AND 90),
            longitude double precision NOT NULL CHECK (longitude BETWEEN -180 AND 180),
            altitude_m double precision NOT NULL DEFAULT 0,
            power_dbm double precision,
            created_at timestamptz NOT NULL DEFAULT now()
        )""")
    _execute("""
        CREATE TABLE heimdall.recording_sessions (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            name text NOT NULL CHECK (name <> ''),
            status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'in_progress', 'completed', 'failed')),
            frequency_hz double precision NOT NULL CHECK (frequency_hz >= 0),
            bandwidth_hz double precision NOT NULL CHECK (bandwidth_hz > 0),
            start_time timestamptz,
            end_time timestamptz,
            duration_s double precision CHECK (duration_s > 0),
            known_source_id uuid REFERENCES heimdall.known_sources (id) ON DELETE SET NULL,
            revision integer NOT NULL DEFAULT 0 CHECK (revision >= 0),
            completed_at timestamptz,
            content_sha256 text UNIQUE,
            error_message text,
            created_at timestamptz NOT NULL DEFAULT now(),
            CHECK (end_time >= start_time),
            CHECK (status <> 'completed' OR (revision >= 1 AND completed_at IS NOT NULL))
        )""")
    _execute("""
        CREATE INDEX recording_sessions_completed ON heimdall.recording_sessions (completed_at, id)
        WHERE status = 'completed'""")
    _execute("""
        CREATE FUNCTION heimdall.count_session_revision() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.status = 'completed' AND (TG_OP = 'INSERT' OR OLD.status <> 'completed') THEN
                NEW.revision := CASE TG_OP WHEN 'INSERT' THEN 1 ELSE OLD.revision + 1 END;
                NEW.completed_at := clock_timestamp();
            END IF;
            RETURN NEW;
        END $$""")
    _execute("""
        CREATE TRIGGER recording_sessions_revision BEFORE INSERT OR UPDATE ON heimdall.recording_sessions
        FOR EACH ROW EXECUTE FUNCTION heimdall.count_session_revision()""")
    _execute("""
        CREATE TABLE heimdall.measurements (
            id uuid NOT NULL DEFAULT gen_random_uuid(),
            timestamp timestamptz NOT NULL,
            recording_session_id uuid NOT NULL REFERENCES heimdall.recording_sessions (id) ON DELETE CASCADE,
            websdr_station_id uuid NOT NULL REFERENCES heimdall.websdr_stations (id) ON DELETE RESTRICT,
            start_time_unix_ns bigint NOT NULL,
            time_source text NOT NULL CHECK (time_source IN ('gnss', 'file', 'given')),
            time_uncertainty_ns double precision CHECK (time_uncertainty_ns >= 0),
            sample_rate_hz double precision NOT NULL CHECK (sample_rate_hz > 0),
            samples_count bigint NOT NULL CHECK (samples_count >= 0),
            iq_data_location text,
            iq_data_format text CHECK (iq_data_format IN ('npy', 'bin')),
            sha256 text CHECK (sha256 ~ '^[0-9a-f]{64}$'),
            full_scale_dbm double precision NOT NULL,
            is_calibrated boolean NOT NULL,
            quantisation_step double precision CHECK (quantisation_step > 0),
            passband_hz double precision CHECK (passband_hz > 0),
            snr_db double precision,
            signal_strength_db double precision,
            frequency_offset_hz double precision,
            error_message text,
            PRIMARY KEY (timestamp, id),
            UNIQUE (recording_session_id, websdr_station_id, timestamp),
            CHECK (error_message IS NOT NULL OR (iq_data_location IS NOT NULL AND iq_data_format IS NOT NULL))
        )""")
    _execute("CREATE INDEX measurements_station ON heimdall.measurements (websdr_station_id, timestamp)")
    _execute("CREATE INDEX measurements_sha256 ON heimdall.measurements (sha256)")

    _execute(f"""
        CREATE TABLE heimdall.synthetic_datasets (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            name text NOT NULL UNIQUE CHECK (name ~ {SLUG}),
            dataset_type text NOT NULL CHECK (dataset_type IN ('feature_based', 'iq_raw')),
            spec jsonb NOT NULL CHECK (jsonb_typeof(spec) = 'object'),
            receivers jsonb NOT NULL CHECK (jsonb_typeof(receivers) = 'array'),
            seed bigint NOT NULL CHECK (seed >= 0),
            target_num_samples integer NOT NULL CHECK (target_num_samples BETWEEN 1 AND 5000000),
            num_samples integer NOT NULL DEFAULT 0 CHECK (num_samples >= 0),
            health_status text NOT NULL DEFAULT 'unknown'
                CHECK (health_status IN ('unknown', 'healthy', 'warning', 'critical')),
            validation_issues jsonb NOT NULL DEFAULT '[]',
            last_validated_at timestamptz,
            storage_size_bytes bigint CHECK (storage_size_bytes >= 0),
            created_at timestamptz NOT NULL DEFAULT now()
        )""")
    _execute("""
        CREATE TABLE heimdall.synthetic_batches (
            dataset_id uuid NOT NULL REFERENCES heimdall.synthetic_datasets (id) ON DELETE CASCADE,
            batch_no integer NOT NULL CHECK (batch_no >= 0),
            first_sample_idx integer NOT NULL CHECK (first_sample_idx >= 0),
            num_samples integer NOT NULL CHECK (num_samples >= 0),
            partition_key text NOT NULL UNIQUE,
            attempts integer NOT NULL CHECK (attempts >= 0),
            rejections jsonb NOT NULL DEFAULT '{}',
            stopped_reason text,
            generator_version text NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (dataset_id, batch_no),
            UNIQUE (dataset_id, first_sample_idx)
        )""")
    _execute("""
        CREATE TABLE heimdall.synthetic_iq_samples (
            dataset_id uuid NOT NULL REFERENCES heimdall.synthetic_datasets (id) ON DELETE CASCADE,
            sample_idx integer NOT NULL CHECK (sample_idx >= 0),
            timestamp timestamptz NOT NULL,
            truth jsonb NOT NULL,
            receivers_metadata jsonb NOT NULL,
            iq_metadata jsonb NOT NULL,
            iq_storage_paths jsonb NOT NULL CHECK (jsonb_typeof(iq_storage_paths) = 'object'),
            PRIMARY KEY (dataset_id, sample_idx)
        )""")
    _execute("""
        CREATE TABLE heimdall.measurement_features (
            id uuid PRIMARY KEY,
            timestamp timestamptz NOT NULL,
            dataset_id uuid REFERENCES heimdall.synthetic_datasets (id) ON DELETE CASCADE,
            sample_idx integer CHECK (sample_idx >= 0),
            recording_session_id uuid REFERENCES heimdall.recording_sessions (id) ON DELETE CASCADE,
            segment_idx integer CHECK (segment_idx >= 0),
            session_revision integer CHECK (session_revision >= 1),
            receiver_features jsonb NOT NULL CHECK (jsonb_typeof(receiver_features) = 'array'),
            tx_latitude double precision CHECK (tx_latitude BETWEEN -90 AND 90),
            tx_longitude double precision CHECK (tx_longitude BETWEEN -180 AND 180),
            tx_altitude_m double precision,
            tx_power_dbm double precision,
            tx_known boolean NOT NULL,
            extraction_metadata jsonb NOT NULL,
            overall_confidence double precision CHECK (overall_confidence BETWEEN 0 AND 1),
            mean_snr_db double precision,
            num_receivers_detected integer NOT NULL CHECK (num_receivers_detected >= 0),
            num_receivers_in_sample integer NOT NULL CHECK (num_receivers_in_sample >= num_receivers_detected),
            gdop double precision CHECK (gdop > 0),
            extraction_failed boolean NOT NULL DEFAULT false,
            error_message text,
            created_at timestamptz NOT NULL DEFAULT now(),
            UNIQUE (dataset_id, sample_idx),
            UNIQUE (recording_session_id, segment_idx),
            CHECK (
                (dataset_id IS NOT NULL AND sample_idx IS NOT NULL
                 AND recording_session_id IS NULL AND segment_idx IS NULL AND session_revision IS NULL)
                OR
                (dataset_id IS NULL AND sample_idx IS NULL
                 AND recording_session_id IS NOT NULL AND segment_idx IS NOT NULL AND session_revision IS NOT NULL)
            ),
            CHECK (tx_known = (tx_latitude IS NOT NULL AND tx_longitude IS NOT NULL)),
            CHECK (NOT extraction_failed OR error_message IS NOT NULL)
        )""")
    _execute("CREATE INDEX measurement_features_timestamp ON heimdall.measurement_features (timestamp)")
    columns = ",\n".join(
        f"(receiver #>> '{{{feature},mean}}')::double precision AS {feature},"
        f"(receiver #>> '{{{feature},std}}')::double precision AS {feature}_std"
        for feature in FEATURES
    )
    _execute(f"""
        CREATE VIEW heimdall.receiver_features AS
        SELECT f.id AS measurement_features_id, f.timestamp, f.dataset_id, f.sample_idx,
               f.recording_session_id, f.segment_idx, (element.position - 1)::integer AS receiver_idx,
               receiver ->> 'rx_id' AS rx_id,
               (receiver ->> 'rx_lat')::double precision AS rx_lat,
               (receiver ->> 'rx_lon')::double precision AS rx_lon,
               (receiver ->> 'rx_alt_m')::double precision AS rx_alt_m,
               (receiver ->> 'signal_present')::boolean AS signal_present,
               receiver -> 'flags' AS flags,
               receiver ->> 'error_message' AS error_message,
               {columns},
               f.tx_latitude, f.tx_longitude, f.tx_altitude_m, f.tx_power_dbm, f.tx_known
        FROM heimdall.measurement_features f
        CROSS JOIN LATERAL jsonb_array_elements(f.receiver_features) WITH ORDINALITY AS element (receiver, position)
        """)
    for subject, comment in COMMENTS.items():
        kind = "COLUMN" if subject.count(".") == 2 else "VIEW" if subject in VIEWS else "TABLE"
        _execute(f"COMMENT ON {kind} {subject} IS '{comment}'")


def _execute(statement: str) -> None:
    op.get_bind().exec_driver_sql(statement)  # op.execute would take ":word" for a parameter


VIEWS = {"heimdall.receiver_features"}

_TABLES = {
    "websdr_stations": (
        "A receiver",
        {
            "rx_id": "Slug, the receiver''s name in object keys and features",
            "url": "Where the receiver is reached; null for one that is only imported from files",
            "api_type": "Client that fetches IQ from it; none: no client exists",
            "latitude": "WGS84, degrees north",
            "longitude": "WGS84, degrees east",
            "altitude_m": "Antenna height above sea level, m",
            "frequency_ranges_hz": "Array of [lowest, highest] in Hz; empty: any frequency",
            "full_scale_dbm": "Power of a full-scale sample, abs(x) = 1; null: uncalibrated",
            "is_active": "Asked when a session is recorded",
            "timeout_seconds": "Longest wait for this receiver, s",
            "retry_count": "Further attempts after a failed one",
        },
    ),
    "known_sources": (
        "A transmitter with known position",
        {
            "frequency_hz": "Carrier frequency, Hz",
            "latitude": "WGS84, degrees north",
            "longitude": "WGS84, degrees east",
            "altitude_m": "Antenna height above sea level, m",
            "power_dbm": "Transmitter power, dBm; null: unknown",
        },
    ),
    "recording_sessions": (
        "One recording by several stations at the same time",
        {
            "status": "pending, in_progress, completed or failed",
            "frequency_hz": "Centre frequency, Hz",
            "bandwidth_hz": "Width of the channel that features are taken from, Hz",
            "start_time": "Earliest sample of any station",
            "end_time": "End of the latest sample of any station",
            "duration_s": "end_time - start_time, s",
            "known_source_id": "The transmitter, where it is known",
            "revision": "Counted up by a trigger each time the session becomes completed; features carry it",
            "completed_at": "When it last became completed",
            "content_sha256": "Digest of an imported session''s content: importing it again is noticed",
            "error_message": "What went wrong, also when some stations did record",
        },
    ),
    "measurements": (
        "One station''s IQ of a session; a hypertable by timestamp where TimescaleDB is installed",
        {
            "timestamp": "Time of the first sample, rounded to microseconds",
            "start_time_unix_ns": "Time of the first sample, ns since 1970-01-01 UTC",
            "time_source": "gnss: fitted to time stamps of a satellite clock; file: from the file; given: by a person",
            "time_uncertainty_ns": "RMS residual of the fit, ns; null: unknown",
            "sample_rate_hz": "True sample rate, fitted where a satellite clock allows, Hz",
            "samples_count": "Complex samples in the object",
            "iq_data_location": "bucket/key of the object",
            "iq_data_format": "npy: complex64 NumPy file; bin: headerless little-endian complex64",
            "sha256": "Digest of the object''s bytes",
            "full_scale_dbm": "Power of abs(x) = 1, dBm; +30 where samples are in square roots of watts",
            "quantisation_step": "Step of the integers that the samples were, in full scales; null: floating point",
            "passband_hz": "Width around the centre that the receiver lets through, Hz; null: the sampled band",
            "is_calibrated": "false: full_scale_dbm is a guess (0), levels are relative to full scale",
            "snr_db": "Mean over the extracted segments, dB over the sampled band",
            "signal_strength_db": "Mean received power over the extracted segments, dBm",
            "frequency_offset_hz": "Mean offset from the centre frequency over the extracted segments, Hz",
            "error_message": "Why this station has no IQ, or what is wrong with it",
        },
    ),
    "synthetic_datasets": (
        "A dataset of synthetic transmissions",
        {
            "dataset_type": "feature_based keeps the IQ of sample_idx < 100; iq_raw keeps all",
            "spec": "Parameters, frozen at creation",
            "receivers": "Snapshot of the receivers at creation",
            "seed": "With sample_idx and spec it determines every sample",
            "target_num_samples": "Samples wanted in all",
            "num_samples": "Samples committed",
            "health_status": "Result of the last validation",
            "validation_issues": "What the last validation found",
            "last_validated_at": "When it was validated",
            "storage_size_bytes": "Bytes of its objects and rows at the last validation",
        },
    ),
    "synthetic_batches": (
        "A committed range of sample_idx",
        {
            "first_sample_idx": "First sample_idx of the range",
            "num_samples": "Samples in the range",
            "partition_key": "Dagster''s partition key, {dataset}__{batch_no:05d}",
            "attempts": "Scenes drawn",
            "rejections": "Scenes rejected, by reason",
            "stopped_reason": "Why the batch ended early, if it did",
            "generator_version": "Version of the code that made it",
        },
    ),
    "synthetic_iq_samples": (
        "Stored IQ of one synthetic sample",
        {
            "truth": "Ground truth of the scene",
            "receivers_metadata": "Truth per receiver",
            "iq_metadata": "Sample rate, format and levels",
            "iq_storage_paths": "{rx_id: key}",
        },
    ),
    "measurement_features": (
        "One transmission heard by several receivers: a synthetic sample or a segment of a session",
        {
            "timestamp": "Start of the segment",
            "session_revision": "Revision of the session that the row was extracted from",
            "receiver_features": "Array, one object per receiver: position, signal_present, {mean, std, min, max}",
            "tx_latitude": "True position of the transmitter where it is known, degrees north",
            "tx_longitude": "True position of the transmitter where it is known, degrees east",
            "tx_altitude_m": "True height of the transmitter above sea level, m",
            "tx_power_dbm": "True transmitter power, dBm",
            "tx_known": "Whether the transmitter''s position is known",
            "extraction_metadata": "How the features were taken",
            "overall_confidence": "Mean confidence_score over the receivers, 0 to 1",
            "mean_snr_db": "Mean SNR of the receivers that detected the signal, dB",
            "num_receivers_detected": "Receivers with signal_present",
            "num_receivers_in_sample": "Receivers asked",
            "gdop": "Geometric dilution of precision of the detecting receivers; null: too few or unknown position",
            "extraction_failed": "No receiver could be extracted",
            "error_message": "Why",
        },
    ),
    "receiver_features": (
        "measurement_features with one row per receiver: mean and standard deviation over chunks",
        {},
    ),
}
COMMENTS = {f"heimdall.{table}": comment for table, (comment, _) in _TABLES.items()} | {
    f"heimdall.{table}.{column}": comment
    for table, (_, columns) in _TABLES.items()
    for column, comment in columns.items()
}
