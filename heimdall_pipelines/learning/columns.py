"""Columns of exported tables: name, type, unit and meaning of each, and their Arrow schemas."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from heimdall_pipelines.rf.feature_registry import FEATURES, STATISTICS

if TYPE_CHECKING:
    import pyarrow as pa

TABLES = ("samples", "links", "time_differences", "iq")
SPLIT_PREFIX = "split_"
_STATISTIC_TEXTS = {
    "mean": "mean over the chunks",
    "std": "standard deviation over the chunks",
    "min": "least value of a chunk",
    "max": "greatest value of a chunk",
}


@dataclass(frozen=True)
class Column:
    """A column of an exported table.

    Attributes
    ----------
    name : str
    kind : str
        Arrow type by its name, ``list<string>`` for texts.
    unit : str
        Empty for plain numbers and texts.
    definition : str
    """

    name: str
    kind: str
    unit: str
    definition: str


def feature_column(feature: str, statistic: str = "mean") -> str:
    """Name of the column of a feature's statistic; the mean has the feature's own name.

    >>> feature_column("snr_db", "std")
    'snr_db_std'
    """
    return feature if statistic == "mean" else f"{feature}_{statistic}"


_SAMPLE_IDX = Column("sample_idx", "int32", "", "Index of the sample; joins the tables")
_ERROR_MESSAGE = Column("error_message", "string", "", "Why there are no features; else null")
_OF_SAMPLE = (
    _SAMPLE_IDX,
    Column("start_time_unix_us", "int64", "us", "Time of the first IQ value; of synthetic samples it is made up"),
    Column("feature_version", "int16", "", "Version of the set of features"),
    Column("tx_latitude", "double", "deg", "Truth: latitude of the transmitter, WGS84, north"),
    Column("tx_longitude", "double", "deg", "Truth: longitude of the transmitter, WGS84, east"),
    Column("tx_altitude_m", "double", "m", "Truth: altitude of the transmitter's antenna"),
    Column("tx_power_dbm", "double", "dBm", "Truth: power of the transmitter"),
    Column("tx_antenna_height_m", "double", "m", "Truth: height of the transmitter's antenna above the ground"),
    Column("tx_antenna_gain_dbi", "double", "dBi", "Truth: gain of the transmitter's antenna"),
    Column("tx_kind", "string", "", "Truth: base station or vehicle"),
    Column("audio", "string", "", "Truth: what was modulated"),
    Column("truth_gdop", "double", "", "Truth: GDOP of the receivers that detect"),
    Column("truth_mean_snr_db", "double", "dB", "Truth: mean SNR of the receivers that detect"),
    Column("num_receivers_in_sample", "int32", "", "Receivers of the sample: its rows of links"),
    Column("num_receivers_detected", "int32", "", "Receivers that detected the signal"),
    Column("overall_confidence", "double", "", "Estimate: mean of confidence_score over the receivers"),
    Column("mean_snr_db", "double", "dB", "Estimate: mean SNR of the receivers that detected"),
    Column("gdop", "double", "", "GDOP of the receivers that detected, at the true position"),
    Column("extraction_failed", "bool", "", "Whether no receiver has features"),
    _ERROR_MESSAGE,
    Column("bandwidth_hz", "double", "Hz", "Width of the channel in which the features were measured"),
    Column("segment_ms", "int32", "ms", "Length of the IQ"),
    Column("chunk_ms", "int32", "ms", "Length of a chunk"),
    Column("num_chunks", "int32", "", "Chunks that the features are statistics over"),
    Column("attempts", "int32", "", "Scenes drawn until one was accepted"),
    Column("rejections", "string", "", "JSON: rejected scenes by reason"),
    Column(
        "bound_semi_major_m", "double", "m", "Cramer-Rao bound from arrival times: ellipse of 95 %, semi-major axis"
    ),
    Column("bound_semi_minor_m", "double", "m", "The bound's semi-minor axis; null where there is no bound"),
    Column("bound_azimuth_deg", "double", "deg", "Azimuth of the bound's semi-major axis, clockwise from north"),
)
_OF_LINK = (
    _SAMPLE_IDX,
    Column("receiver_idx", "int16", "", "Index of the receiver within the sample"),
    Column("rx_id", "string", "", "The receiver; of random networks its name says nothing about its place"),
    Column("rx_latitude", "double", "deg", "Latitude of the receiver, WGS84, north"),
    Column("rx_longitude", "double", "deg", "Longitude of the receiver, WGS84, east"),
    Column("rx_altitude_m", "double", "m", "Altitude of the receiver's antenna"),
    Column("signal_present", "bool", "", "Estimate: whether the chunks together hold a signal in the channel"),
    Column("flags", "list<string>", "", "What limits the values, in words"),
    _ERROR_MESSAGE,
)
_OF_FEATURES = tuple(
    Column(feature_column(one.name, kind), "double", one.unit, f"{_STATISTIC_TEXTS[kind]}: {one.definition}")
    for one in FEATURES
    for kind in STATISTICS
)
# Truth of a link: column, its name in the truth's JSON is that without the prefix.
TRUTH_PREFIX = "truth_"
_OF_LINK_TRUTH = (
    Column("truth_delay_s", "double", "s", "Delay of the direct path"),
    Column("truth_mean_received_power_dbm", "double", "dBm", "Received power before fading"),
    Column("truth_signal_power_dbm", "double", "dBm", "Received power with this sample's fading"),
    Column("truth_noise_power_dbm", "double", "dBm", "Noise over the sampled band"),
    Column("truth_snr_db", "double", "dB", "Signal to noise over the sampled band"),
    Column("truth_frequency_offset_hz", "double", "Hz", "Offset of the frequency from the tuned one"),
    Column("truth_rice_k", "double", "", "Rice factor as a ratio; 0 for Rayleigh fading, null for no fading"),
    Column("truth_rice_k_db", "double", "dB", "Rice factor; null where it is not finite"),
    Column("truth_doppler_hz", "double", "Hz", "Greatest Doppler shift"),
    Column("truth_rms_delay_spread_s", "double", "s", "Spread of the echoes' delays, rms"),
    Column("truth_line_of_sight", "bool", "", "Whether the path is free"),
    Column("truth_detected", "bool", "", "Whether the receiver counts as detecting in the scene"),
    Column("truth_path_loss_db", "double", "dB", "Loss of the whole path without shadowing"),
    Column("truth_diffraction_loss_db", "double", "dB", "What diffraction adds to free space"),
    Column("truth_clock_offset_ns", "double", "ns", "Error of the receiver's clock"),
)
_OF_DIFFERENCE = (
    _SAMPLE_IDX,
    Column("rx_a", "string", "", "First receiver of the pair"),
    Column("rx_b", "string", "", "Second receiver of the pair"),
    Column("tdoa_us", "double", "us", "Time of arrival at b less that at a; null where it is not known"),
    Column("std_us", "double", "us", "Its standard deviation"),
    Column("peak", "double", "", "Normalised correlation, 0 to 1"),
    Column("ambiguity", "double", "", "Second peak of the correlation relative to the first"),
    Column("reason", "string", "", "Why tdoa_us is null"),
)
_OF_IQ = (
    _SAMPLE_IDX,
    Column("rx_id", "string", "", "The receiver"),
    Column("num_samples", "int32", "", "Complex samples"),
    Column("sha256", "string", "", "SHA-256 of the complex64 values, in datasets of before of the whole .npy file"),
    Column("in_release", "bool", "", "Whether the root covers the checksum; else the IQ was regenerated by the export"),
    Column("shard", "string", "", "The tar file that holds the .npy; null where the IQ was not exported"),
    Column("offset_bytes", "int64", "bytes", "Where the complex64 values begin in the shard"),
)
COLUMNS: dict[str, tuple[Column, ...]] = {
    "samples": _OF_SAMPLE,
    "links": (*_OF_LINK, *_OF_FEATURES, *_OF_LINK_TRUTH),
    "time_differences": _OF_DIFFERENCE,
    "iq": _OF_IQ,
}
LINK_TRUTH = tuple(column.name.removeprefix(TRUTH_PREFIX) for column in _OF_LINK_TRUTH)


def split_column(kind: str) -> Column:
    """Column of samples, and of links for `receivers`, with the part of a split."""
    return Column(f"{SPLIT_PREFIX}{kind}", "string", "", f"Part in the split {kind}: train, validation, test or none")


def columns_of(table: str, splits: Sequence[str] = ()) -> tuple[Column, ...]:
    """Columns of a table, those of the splits last."""
    kinds = [kind for kind in splits if table == "samples" or (table == "links" and kind == "receivers")]
    return (*COLUMNS[table], *map(split_column, kinds))


def schema_of(table: str, splits: Sequence[str] = ()) -> pa.Schema:
    """Arrow schema of a table: each field's metadata has unit and definition.

    Parameters
    ----------
    table : str
        One of `TABLES`.
    splits : sequence of str, optional
        Kinds of splits that the export has.
    """
    import pyarrow as pa

    columns = columns_of(table, splits)
    fields = [
        pa.field(one.name, arrow_type(one.kind), metadata={"unit": one.unit, "definition": one.definition})
        for one in columns
    ]
    listed = [{"name": one.name, "unit": one.unit, "definition": one.definition} for one in columns]
    return pa.schema(fields, metadata={"columns": json.dumps(listed)})


@cache
def arrow_type(kind: str) -> pa.DataType:
    """Arrow type of a column's kind."""
    import pyarrow as pa

    if kind == "list<string>":
        return pa.list_(pa.string())
    return {"double": pa.float64(), "string": pa.string(), "bool": pa.bool_()}.get(kind) or getattr(pa, kind)()
