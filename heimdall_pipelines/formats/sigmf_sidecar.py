"""The SigMF metadata of our own objects, and in them what an imported SigMF file said."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import sigmf

from heimdall_pipelines.formats.iq_recording import SourceMetadata
from heimdall_pipelines.formats.utc import iso_from_unix_ns

_EXTENSION = {"name": "heimdall", "version": "1.0.0", "optional": True}
_OF_THE_FILE = {  # describe the bytes of the file that was imported, not the samples
    "core:datatype",
    "core:version",
    "core:num_channels",
    "core:dataset",
    "core:sha512",
    "core:offset",
    "core:trailing_bytes",
    "core:metadata_only",
}
_OF_THE_SOURCE = ("core:description", "core:recorder")  # the file's own words before ours


def sigmf_meta(
    *,
    dataset_name: str | None = None,
    header_bytes: int = 0,
    num_samples: int,
    sample_rate_hz: float,
    frequency_hz: float,
    start_time_unix_ns: int,
    lat: float,
    lon: float,
    alt_m: float,
    description: str,
    recorder: str,
    extra: Mapping[str, object] | None = None,
    holes: Sequence[tuple[int, int]] = (),
) -> dict[str, Any]:
    """Build the .sigmf-meta of a complex64 file: a .sigmf-data, or another one, such as a .npy.

    Parameters
    ----------
    dataset_name : str, optional
        Bare name of the file, in the same folder as the metadata, if it is not the .sigmf-data of the same name.
    header_bytes : int, optional
        Of such a file, bytes before the first sample (`NpyHeader.header_bytes`).
    num_samples : int
        Stored as ``heimdall:num_samples``, to detect a truncated file.
    sample_rate_hz, frequency_hz : float
        Complex samples per second; centre frequency.
    start_time_unix_ns : int
        UTC of the first sample.
    lat, lon, alt_m : float
        Of the receiver: degrees, m.
    description, recorder : str
        What was recorded; the recording software.
    extra : Mapping[str, object], optional
        Further values by bare name; each becomes ``heimdall:NAME`` of the global object.
    holes : sequence of tuple of int
        First sample and number of samples that were lost and are zeros; each becomes an annotation.

    Returns
    -------
    dict
        To be written with ``json.dumps``.

    Raises
    ------
    ValueError
        If a number is NaN or infinite, or the time outside the years 1 to 9999.
    TypeError
        If a value of `extra` cannot be written as JSON.
    """
    core: dict[str, Any] = {
        "core:datatype": "cf32_le",
        "core:version": sigmf.__specification__,
        "core:sample_rate": sample_rate_hz,
        "core:num_channels": 1,
        **({} if dataset_name is None else {"core:dataset": dataset_name}),
        "core:description": description,
        "core:recorder": recorder,
        "core:extensions": [dict(_EXTENSION)],
        "heimdall:num_samples": num_samples,
    }
    core |= {f"heimdall:{name}": value for name, value in (extra or {}).items()}
    capture: dict[str, Any] = {
        "core:sample_start": 0,
        **({} if dataset_name is None else {"core:header_bytes": header_bytes}),
        "core:frequency": frequency_hz,
        "core:datetime": iso_from_unix_ns(start_time_unix_ns),
        "core:geolocation": {"type": "Point", "coordinates": [lon, lat, alt_m]},
    }
    annotations = [
        {
            "core:sample_start": first,
            "core:sample_count": count,
            "core:label": "hole",
            "core:comment": "samples lost between receiver and recorder, filled with zeros",
        }
        for first, count in holes
    ]
    meta = {"global": core, "captures": [capture], "annotations": annotations}
    json.dumps(meta, allow_nan=False)  # JSON has no NaN: refuse it here
    return meta


def merged_metadata(sidecar: dict[str, Any], source: SourceMetadata) -> dict[str, Any]:
    """Add what a file said to the description of its stored samples.

    Parameters
    ----------
    sidecar : dict
        As `sigmf_meta` builds it: its rate, frequency, start and position hold.
    source : SourceMetadata
        What the file said.

    Returns
    -------
    dict
        With author, licence, hardware, description, extension keys and annotations of the file; their sample numbers
        count from the first stored sample.
    """
    kept = {key: value for key, value in source.global_.items() if key not in _OF_THE_FILE}
    core = kept | sidecar["global"]
    for key in _OF_THE_SOURCE:
        if isinstance(kept.get(key), str) and kept[key]:
            core[f"heimdall:{key.removeprefix('core:')}"] = sidecar["global"][key]
            core[key] = kept[key]
    core["core:extensions"] = _extensions(kept.get("core:extensions"), sidecar["global"]["core:extensions"])
    ours = sidecar["captures"][0]
    first, *others = source.captures
    captures = [{key: value for key, value in first.items() if key != "core:global_index"} | ours]
    if "core:global_index" in first:
        captures[0]["core:global_index"] = first["core:global_index"]
    captures += [_shifted_capture(capture, source.first_sample) for capture in others]
    annotations = [shifted for entry in source.annotations if (shifted := _shifted(entry, source.first_sample))]
    return {
        "global": core,
        "captures": captures,
        "annotations": sorted(annotations + sidecar["annotations"], key=_sample_start),
    }


def _extensions(theirs: object, ours: list[dict[str, Any]]) -> list[Any]:
    names = {extension["name"] for extension in ours}
    kept = (
        [entry for entry in theirs if isinstance(entry, dict) and entry.get("name") not in names]
        if isinstance(theirs, list)
        else []
    )
    return kept + ours


def _shifted_capture(capture: Mapping[str, Any], first_sample: int) -> dict[str, Any]:
    kept = {key: value for key, value in capture.items() if key != "core:header_bytes"}
    return kept | {"core:sample_start": max(0, int(capture["core:sample_start"]) - first_sample)}


def _shifted(annotation: Mapping[str, Any], first_sample: int) -> dict[str, Any] | None:
    """An annotation with its samples counted from the first stored one; None if it ends before."""
    start, count = annotation.get("core:sample_start", 0), annotation.get("core:sample_count")
    if isinstance(start, bool) or not isinstance(start, int | float):
        return dict(annotation) | {"core:sample_start": 0, "heimdall:sample_start_as_read": str(start)[:100]}
    begin = int(start) - first_sample
    changed: dict[str, Any] = {"core:sample_start": max(0, begin)}
    if isinstance(count, int) and begin < 0:
        if begin + count <= 0:
            return None
        changed["core:sample_count"] = begin + count
    return dict(annotation) | changed


def _sample_start(annotation: Mapping[str, Any]) -> int:
    return int(annotation["core:sample_start"])
