"""Errors of the baselines as a Markdown table."""

from collections.abc import Mapping
from typing import Any


def baseline_table(baselines: Mapping[str, Any]) -> str:
    """Table of the errors of every baseline on every split, and the gap between random and region.

    Parameters
    ----------
    baselines : mapping
        As `learning.baselines.BaselineReport.to_json` gives it.
    """
    lines = [
        "| split | baseline | median, m | 90 %, m | mean, m | within 1 km | test samples |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in baselines["rows"]:
        if row["num"]:
            values = " | ".join(f"{row[name]:.0f}" for name in ("median_m", "p90_m", "mean_m"))
            lines.append(f"| {row['split']} | {row['baseline']} | {values} | {row['within_1km']:.1%} | {row['num']} |")
        else:
            lines.append(f"| {row['split']} | {row['baseline']} | {row['reason']} | | | | 0 |")
    headline = "\n".join(f"**{line}**\n" for line in headlines(baselines))
    return f"{headline}\n" + "\n".join(lines) + f"\n\nSeed {baselines['seed']}.\n"


def headlines(baselines: Mapping[str, Any]) -> list[str]:
    """How much worse the learned baselines are where positions are held out by region."""
    medians = {(row["split"], row["baseline"]): row["median_m"] for row in baselines["rows"] if row["num"]}
    return [
        f"{baseline}: median {medians['random', baseline]:.0f} m on the random split, "
        f"{medians['region', baseline]:.0f} m on the region split "
        f"({medians['region', baseline] / medians['random', baseline]:.2f} times)"
        for baseline in baselines["learned"]
        if ("random", baseline) in medians and ("region", baseline) in medians and medians["random", baseline]
    ]
