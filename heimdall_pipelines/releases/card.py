"""Data card of an export: README.md with front matter that Hugging Face and `datasets` read."""

import json
from collections.abc import Iterator, Mapping

from heimdall_pipelines.learning.columns import columns_of
from heimdall_pipelines.learning.description import ExportDescription
from heimdall_pipelines.releases.baseline_tables import baseline_table, headlines
from heimdall_pipelines.releases.export_tables import table_file
from heimdall_pipelines.releases.licences import licence_on_hub

TABLE_TEXTS = {
    "samples": "one row per sample: truth, bound of the position, split",
    "links": "one row per sample and receiver: features, and their truth as `truth_*`",
    "time_differences": "one row per sample and pair of receivers that both detected",
    "iq": "one row per sample and receiver with IQ: checksum, and where it is",
}
_SPLIT_TEXTS = {
    "random": "each sample by itself. Test positions lie beside training positions: errors are too small",
    "region": "blocks of the map; samples closer than the margin to a held-out one belong to no part",
    "receivers": "receivers of a block of the map are used in one part only (`split_receivers` of `links`)",
    "terrain": "whole valleys are held out",
    "day": "whole UTC days are held out",
}
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def card_text(description: ExportDescription, rows: Mapping[str, int]) -> str:
    """Content of README.md.

    Parameters
    ----------
    description : ExportDescription
    rows : mapping of str to int
        Rows of each table.
    """
    parts = [
        _front_matter(description, rows),
        f"# {description.label}\n",
        _what(description),
        _files(description, rows),
        _how_made(description),
        limits_text(description),
        _splits(description),
        _baselines(description),
        _verification(description),
        f"## Licence\n\n{_licence_line(description)}\n",
        _citation(description),
        _columns(description),
    ]
    return "\n".join(part for part in parts if part)


def _front_matter(description: ExportDescription, rows: Mapping[str, int]) -> str:
    size = next((text for limit, text in _SIZES if description.num_samples < limit), "n>1M")
    configs = "".join(
        f"- config_name: {table}\n  data_files: {table_file(table)}\n"
        + ("  default: true\n" if table == "samples" else "")
        for table in TABLE_TEXTS
        if rows[table]
    )
    return (
        "---\n"
        f"pretty_name: {json.dumps(description.label)}\n"
        f"license: {licence_on_hub(description.licence)}\n"
        "tags:\n- radio\n- rf-localization\n- tdoa\n- rss\n"
        f"size_categories:\n- {size}\n"
        f"configs:\n{configs}---\n"
    )


def _what(description: ExportDescription) -> str:
    if description.kind == "sessions":
        what = (
            f"Features of {description.num_samples} segments of one second, recorded at the same time by several "
            f"receivers: {len(description.sessions)} sessions. "
        )
    else:
        what = (
            f"{description.num_samples} simulated transmissions with known truth: a transmitter at a random place, and "
            "the features of its signal at several receivers. "
        )
    forced = f"\n**Exported with --force: {description.forced_because}.**\n" if description.forced_because else ""
    return f"{what}The task is to locate the transmitter.\n{forced}{_headline(description)}"


def _headline(description: ExportDescription) -> str:
    """How much held-out regions cost: without it the errors of the random split would pass for what a model does."""
    lines = headlines(description.baselines) if description.baselines is not None else []
    return "".join(f"\n**{line}**\n" for line in lines)


def _files(description: ExportDescription, rows: Mapping[str, int]) -> str:
    lines = [f"| `{table_file(table)}` | {rows[table]} | {text} |" for table, text in TABLE_TEXTS.items()]
    iq = (
        ""
        if description.iq == "none"
        else (
            "\nIQ is in `iq/iq-*.tar`, as WebDataset reads it: `SAMPLE.RECEIVER.npy` (complex64, square roots of watts "
            "for synthetic samples) with `.sigmf-meta`.\n"
        )
    )
    return "## Files\n\n| file | rows | content |\n|---|---|---|\n" + "\n".join(lines) + "\n" + iq


def _how_made(description: ExportDescription) -> str:
    if description.kind == "sessions":
        listed = "\n".join(f"- {slug}" for slug in description.sessions)
        return f"## How it was made\n\nRecorded and extracted with heimdall-pipelines. Sessions:\n\n{listed}\n"
    spec = json.dumps(description.spec, indent=1, sort_keys=True)
    receivers = "\n".join(
        f"| {one['rx_id']} | {one['latitude']} | {one['longitude']} | {one['altitude_m']} |"
        for one in description.receivers or ()
    )
    tiles = "\n".join(f"- `{sha256}`: {text}" for sha256, text in sorted(description.tile_sources.items()))
    return (
        "## How it was made\n\n"
        f"With generator version {description.generator_version} and feature version {description.feature_version} of "
        f"heimdall-pipelines, seed {description.seed}. Every sample is a function of the seed, its index and these "
        f"parameters:\n\n```json\n{spec}\n```\n\n"
        f"| receiver | latitude | longitude | altitude, m |\n|---|---|---|---|\n{receivers}\n\n"
        f"Terrain: {'a smooth Earth' if not tiles else ''}\n{tiles}\n"
    )


def limits_text(description: ExportDescription) -> str:
    """Known limits, as the card and Croissant have them."""
    if description.kind == "sessions":
        lines = [
            "- The position of a transmitter is only known where the session has a known source.",
            "- Levels of receivers without calibration are relative to their full scale.",
        ]
    else:
        lines = [
            "- Propagation, fading and noise are models (ITU-R P.525, P.526, P.372): real links deviate.",
            "- One transmitter at a time, without interference; receivers have no directional antennas.",
            "- Scenes that too few receivers detect, or with a poor geometry, were rejected: see `rejections`.",
            "- The time of a sample is made up.",
        ]
    return "## Known limits\n\n" + "\n".join(lines) + "\n"


def _splits(description: ExportDescription) -> str:
    if not description.splits:
        return ""
    rows = []
    for kind, split in description.splits.items():
        sizes = split.leaks.get("sizes", {})
        parts = [str(sizes.get(part, 0)) for part in ("train", "validation", "test", "none")]
        nearest, near = split.leaks.get("nearest_m"), split.leaks.get("share_near")
        rows.append(
            f"| {kind} | {' | '.join(parts)} | {split.definition.margin_m:g} | "
            f"{'' if nearest is None else nearest} | {'' if near is None else f'{near:.1%}'} | "
            f"{split.leaks.get('num_too_close', 0) + len(split.leaks.get('receivers_on_both_sides', ()))} |"
        )
    texts = "\n".join(f"- **{kind}**: {_SPLIT_TEXTS[kind]}." for kind in description.splits)
    seed = next(iter(description.splits.values())).definition.seed
    return (
        "## Splits\n\n"
        "| split | train | validation | test | none | margin, m | nearest train to test, m | test with train in 1 km | "
        "leaks |\n|---|---|---|---|---|---|---|---|---|\n" + "\n".join(rows) + f"\n\n{texts}\n\nSeed {seed}. "
        "Leaks: test samples within the margin of a training sample, and receivers on both sides.\n"
    )


def _baselines(description: ExportDescription) -> str:
    if description.baselines is None:
        return ""
    return f"## Baselines\n\n{baseline_table(description.baselines)}\n"


def _verification(description: ExportDescription) -> str:
    if description.root is None:
        return "## Verification\n\n`heimdall dataset verify .` compares every file with `SHA256SUMS`.\n"
    return (
        f"## Verification\n\nRoot: `{description.root}`\n\nRoot of truth, the same on every processor that makes these "
        f"samples: `{description.truth_root}`\n\n"
        "`heimdall dataset verify .` compares every file with `SHA256SUMS`, every row with the root, and regenerates a "
        "random share of the samples from the seed above.\n"
    )


def _licence_line(description: ExportDescription) -> str:
    known = "\n" not in description.licence and len(description.licence) < 40
    return f"{description.licence}, see LICENSE." if known else "See LICENSE."


def _citation(description: ExportDescription) -> str:
    return f"## Citation\n\n```bibtex\n{citation(description)}\n```\n"


def citation(description: ExportDescription) -> str:
    """BibTeX entry."""
    key = "".join(letter if letter.isalnum() else "-" for letter in description.label)
    root = f", root {description.root}" if description.root else ""
    return (
        f"@misc{{heimdall-{key},\n  title = {{{description.label}: radio localisation dataset}},\n"
        f"  author = {{heimdall-pipelines}},\n  year = {{{description.date[:4]}}},\n"
        f"  note = {{version {description.version or 'without release'}{root}}}\n}}"
    )


def _columns(description: ExportDescription) -> str:
    return "## Columns\n\nUnits and meaning are also in the metadata of the files.\n\n" + "\n".join(
        _column_tables(description)
    )


def _column_tables(description: ExportDescription) -> Iterator[str]:
    for table in TABLE_TEXTS:
        yield f"### {table}\n\n| column | type | unit | meaning |\n|---|---|---|---|"
        for one in columns_of(table, list(description.splits)):
            yield f"| {one.name} | {one.kind} | {one.unit} | {one.definition.replace('|', ' ')} |"
        yield ""
