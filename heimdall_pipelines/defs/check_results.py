"""A check outcome as Dagster stores it: numbers, examples, and the command that repairs."""

from typing import Any

import dagster as dg

from heimdall_pipelines.model.checks import CheckOutcome


def check_result(outcome: CheckOutcome, asset: dg.AssetKey) -> dg.AssetCheckResult:
    """Return the result that a check yields in a run of its partition."""
    return dg.AssetCheckResult(asset_key=asset, **_values(outcome))


def check_evaluation(outcome: CheckOutcome, asset: dg.AssetKey, partition: str) -> dg.AssetCheckEvaluation:
    """Return the event that reports a check made outside of Dagster, or for another partition."""
    return dg.AssetCheckEvaluation(asset_key=asset, partition=partition, **_values(outcome))


def _values(outcome: CheckOutcome) -> dict[str, Any]:
    metadata: dict[str, dg.MetadataValue] = {
        name: dg.MetadataValue.int(number) for name, number in outcome.numbers.items()
    }
    if outcome.note:
        metadata["note"] = dg.MetadataValue.text(outcome.note)
    metadata["problems"] = dg.MetadataValue.int(outcome.num_problems)
    if not outcome.passed:
        metadata["examples"] = dg.MetadataValue.md("\n".join(f"- {example}" for example in outcome.examples))
        metadata["to_repair"] = dg.MetadataValue.text(outcome.repair)
    return {
        "check_name": outcome.name,
        "passed": outcome.passed,
        "severity": dg.AssetCheckSeverity[outcome.severity],
        "metadata": metadata,
        "description": None if outcome.passed else outcome.examples[0],
    }
