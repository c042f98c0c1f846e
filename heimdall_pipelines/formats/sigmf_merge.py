"""Keeps what an imported SigMF file says in the description of the object that its samples are stored in."""

from collections.abc import Mapping
from typing import Any

from heimdall_pipelines.formats.iq_recording import SourceMetadata

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


def merged_metadata(sidecar: dict[str, Any], source: SourceMetadata) -> dict[str, Any]:
    """Add what a file said to the description of its stored samples.

    Parameters
    ----------
    sidecar : dict
        As `heimdall_pipelines.formats.sigmf_files.sigmf_meta` builds it: its rate, frequency, start and position hold.
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
