"""Leaves of a release's Merkle tree: SHA-256 over the values of each sample's rows in the exported tables.

Values are encoded column by column, never sample by sample: a number is eight bytes (IEEE 754 double or integer, little
endian), a text the SHA-256 of its UTF-8. A column that is null in all rows of a sample adds nothing, so that a column
added later leaves the roots of releases without it as they are. Ids of rows and datasets are not part of a leaf, so
that the same samples have the same root in every database.

Leaves of the truth cover what a scene is made of, to six significant digits: features, whose last digits depend on the
processor, are left out, so that the same parameters and seed give the same root of truth on every processor.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from heimdall_pipelines.learning.columns import COLUMNS, TRUTH_PREFIX, Column
from heimdall_pipelines.learning.description import PARAMETERS
from heimdall_pipelines.releases.merkle import HASH_BYTES, leaf_hash
from heimdall_pipelines.store.digests import as_stored, digest_of

# Columns that no leaf covers, and why; those of splits neither: a release has the checksums of their labels.
NOT_COVERED = {
    "samples": frozenset({"bound_semi_major_m", "bound_semi_minor_m", "bound_azimuth_deg"}),  # computed by the export
    "iq": frozenset({"num_samples", "in_release", "shard", "offset_bytes"}),  # where the export has put the IQ
}
SIGNIFICANT_DIGITS = 6  # of the truth: a libm's last digits change one of 1e9 such roundings
_SCENE = {
    "samples": frozenset({"sample_idx", "truth_gdop", "truth_mean_snr_db", "attempts", "rejections"}),
    "links": frozenset({"sample_idx", "rx_id", "rx_latitude", "rx_longitude", "rx_altitude_m"}),
}
_WITH_IQ = frozenset({"truth_signal_power_dbm", "truth_snr_db"})  # sums over the IQ, not of the scene
_NUMBER_BYTES = 8
_NULL_BITS = np.int64(-(2**63))  # as a double -0.0, which is encoded as 0.0
_NAN_BITS = np.array(np.nan).view(np.int64)[()]
_NO_ROWS = bytes(HASH_BYTES)
_EXPONENTS = range(-307, 309)
_POWERS = np.array([float(f"1e{exponent}") for exponent in _EXPONENTS])

Encode = Callable[[NDArray[np.float64]], NDArray[np.int64]]


class LeafError(ValueError):
    """The rows of a table do not belong to the samples."""


def parameters_hash(values: Mapping[str, Any]) -> bytes:
    """Digest of what determines a dataset's samples; values by the names of `PARAMETERS`."""
    return digest_of(PARAMETERS, "synthetic_datasets", {name: as_stored(value) for name, value in values.items()})


def leaves_of_tables(samples: pa.Table, links: pa.Table, differences: pa.Table | None, iq: pa.Table) -> list[bytes]:
    """Leaves of successive samples.

    Parameters
    ----------
    samples, links : pyarrow.Table
        The same samples, in order.
    differences : pyarrow.Table or None
        Time differences of these samples, in order; None where the release has none.
    iq : pyarrow.Table
        Checksums that are part of the release, in order: at least ``sample_idx``, ``rx_id`` and ``sha256``.

    Raises
    ------
    LeafError
        A row belongs to no sample, or the rows are not in the order of the samples.
    """
    indices = samples["sample_idx"].to_numpy()
    given = {"samples": samples, "links": links, "time_differences": differences, "iq": iq}
    digests = [
        [_NO_ROWS] * len(indices) if table is None else _digests(name, table, indices, covered_columns(name), _exactly)
        for name, table in given.items()
    ]
    return [leaf_hash(*contents) for contents in zip(*digests, strict=True)]


def truth_leaves_of_tables(samples: pa.Table, links: pa.Table) -> list[bytes]:
    """Leaves of what is true of successive samples; parameters and errors as of `leaves_of_tables`."""
    indices = samples["sample_idx"].to_numpy()
    digests = [
        _digests(name, table, indices, scene_columns(name), _rounded)
        for name, table in (("samples", samples), ("links", links))
    ]
    return [leaf_hash(*contents) for contents in zip(*digests, strict=True)]


def iq_digest(tables: Iterable[pa.Table]) -> bytes:
    """SHA-256 over the checksums of IQ that are part of a release, in the order of the samples.

    Parameters
    ----------
    tables : iterable of pyarrow.Table
        At least of ``sample_idx``, ``rx_id`` and ``sha256``; those of one release may be cut anywhere.
    """
    digest = sha256()
    for table in tables:
        for row in zip(*(table[name].to_pylist() for name in ("sample_idx", "rx_id", "sha256")), strict=True):
            digest.update(f"{json.dumps(row)}\n".encode())
    return digest.digest()


@cache
def covered_columns(table: str) -> tuple[Column, ...]:
    """Columns of a table that leaves cover: first numbers, then texts, each by name."""
    left_out = NOT_COVERED.get(table, frozenset())
    columns = [one for one in COLUMNS[table] if one.name not in left_out]
    return tuple(sorted(columns, key=lambda one: (_is_text(one), one.name)))


@cache
def scene_columns(table: str) -> tuple[Column, ...]:
    """Columns of a table that leaves of the truth cover."""
    return tuple(
        one
        for one in covered_columns(table)
        if one.name not in _WITH_IQ
        and (one.name in _SCENE[table] or one.name.startswith(TRUTH_PREFIX) or one.definition.startswith("Truth: "))
        and not one.name.startswith("bound_")
    )


def _is_text(column: Column) -> bool:
    return "string" in column.kind


def _digests(
    name: str, table: pa.Table, indices: NDArray[np.integer], columns: Sequence[Column], encode: Encode
) -> list[bytes]:
    """Digest of each sample's rows in a table; `_NO_ROWS` where it has none."""
    of_row = table["sample_idx"].to_numpy()
    counts = np.searchsorted(of_row, indices, "right") - np.searchsorted(of_row, indices, "left")
    if counts.sum() != len(of_row) or not np.array_equal(np.repeat(indices, counts), of_row):
        raise LeafError(f"{name}: rows do not belong to the samples {indices[0]} to {indices[-1]}")
    digests = [_NO_ROWS] * len(indices)
    if not len(of_row):
        return digests
    encoded, known = zip(*(_encoded(table[one.name], one, encode) for one in columns), strict=True)
    starts = np.cumsum(counts) - counts
    has_rows = np.flatnonzero(counts)
    used = np.packbits(np.logical_or.reduceat(np.stack(known, axis=1), starts[has_rows], axis=0), axis=1)
    for pattern in {row.tobytes() for row in used}:  # hardly ever more than a few
        mine = np.zeros(len(indices), bool)
        mine[has_rows[(used == np.frombuffer(pattern, np.uint8)).all(axis=1)]] = True
        chosen = np.flatnonzero(np.unpackbits(np.frombuffer(pattern, np.uint8), count=len(columns))).tolist()
        rows = _side_by_side([encoded[at] for at in chosen], np.repeat(mine, counts))
        header = _header(tuple(columns[at] for at in chosen))
        content = rows.data.cast("B")
        ends = (np.cumsum(counts[mine]) * rows.shape[1]).tolist()
        for at, start, end in zip(np.flatnonzero(mine).tolist(), [0, *ends[:-1]], ends, strict=True):
            digest = sha256(header)
            digest.update(content[start:end])
            digests[at] = digest.digest()
    return digests


def _side_by_side(columns: Sequence[NDArray[np.uint8]], wanted: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Rows of the bytes of several columns."""
    rows = np.empty((int(wanted.sum()), sum(column.shape[1] for column in columns)), np.uint8)
    start = 0
    for column in columns:
        rows[:, start : start + column.shape[1]] = column if len(rows) == len(column) else column[wanted]
        start += column.shape[1]
    return rows


@cache
def _header(columns: Sequence[Column]) -> bytes:
    """Names and types of the columns that a digest covers."""
    return sha256(json.dumps([[one.name, one.kind] for one in columns]).encode()).digest()


def _encoded(
    column: pa.ChunkedArray, description: Column, encode: Encode
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Bytes of each value, shape (num_rows, 8) or (num_rows, 32), and whether it is not null."""
    array = column.combine_chunks()
    known: NDArray[np.bool_] = array.is_valid().to_numpy(zero_copy_only=False)
    if _is_text(description):
        return _encoded_texts(array), known
    if description.kind == "double":
        bits = encode(pc.fill_null(array, 0.0).to_numpy())
    else:
        bits = pc.fill_null(array.cast(pa.int64()), 0).to_numpy().copy()
    bits[~known] = _NULL_BITS
    return bits.astype("<i8", copy=False).view(np.uint8).reshape(-1, _NUMBER_BYTES), known


def _exactly(values: NDArray[np.float64]) -> NDArray[np.int64]:
    positive_zero = values + 0.0
    bits = positive_zero.view(np.int64)
    bits[np.isnan(positive_zero)] = _NAN_BITS
    return bits


def _rounded(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Six significant digits and the exponent, as one integer."""
    size = np.abs(values)
    is_usual = (size >= 1e-290) & (size <= 1e290)
    usual = np.where(is_usual, size, 1.0)
    exponents = np.floor(np.log10(usual)).astype(np.int64)
    digits = np.rint(usual / _POWERS[exponents - (SIGNIFICANT_DIGITS - 1) - _EXPONENTS.start]).astype(np.int64)
    is_next = digits >= 10**SIGNIFICANT_DIGITS
    digits, exponents = np.where(is_next, digits // 10, digits), exponents + is_next
    encoded = np.sign(values).astype(np.int64) * digits * 1024 + exponents
    return np.where(is_usual, encoded, _exactly(values))


def _encoded_texts(array: pa.Array) -> NDArray[np.uint8]:
    if pa.types.is_list(array.type):
        # The number of items makes the text unambiguous: none of them has a zero character.
        numbers = pc.list_value_length(array).cast(pa.string())
        array = pc.binary_join_element_wise(numbers, pc.binary_join(array, "\0"), "\0")
    coded = array.dictionary_encode()
    digests = [sha256(text.encode("utf-8", "surrogatepass")).digest() for text in coded.dictionary.to_pylist()]
    table = np.frombuffer(b"".join([*digests, _NO_ROWS]), np.uint8).reshape(-1, HASH_BYTES)
    encoded: NDArray[np.uint8] = table[pc.fill_null(coded.indices, len(digests)).to_numpy()]
    return encoded
