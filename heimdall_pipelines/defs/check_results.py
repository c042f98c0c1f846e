"""What a check saw, as Dagster keeps it: numbers, examples, and the command that mends."""

from collections.abc import Iterable
from typing import cast

import dagster as dg

from heimdall_pipelines.checks import CheckOutcome

_QUIET = {"log_level": "WARNING"}


def check_result(outcome: CheckOutcome, asset: dg.AssetKey) -> dg.AssetCheckResult:
    """Give the result that a check yields in a run of its partition."""
    return dg.AssetCheckResult(
        asset_key=asset,
        check_name=outcome.name,
        passed=outcome.passed,
        severity=dg.AssetCheckSeverity[outcome.severity],
        metadata=_metadata(outcome),
        description=_description(outcome),
    )


def check_evaluation(outcome: CheckOutcome, asset: dg.AssetKey, partition: str) -> dg.AssetCheckEvaluation:
    """Give the event that tells Dagster of a check that was made without it, or for another partition."""
    return dg.AssetCheckEvaluation(
        asset_key=asset,
        check_name=outcome.name,
        passed=outcome.passed,
        severity=dg.AssetCheckSeverity[outcome.severity],
        metadata=_metadata(outcome),
        description=_description(outcome),
        partition=partition,
    )


def log_evaluation(context: dg.OpExecutionContext, evaluation: dg.AssetCheckEvaluation) -> None:
    """Record a check in a run that was not planned with it; Dagster takes it, though its annotations leave it out."""
    context.log_event(cast("dg.AssetObservation", evaluation))


def record_evaluations(
    instance: dg.DagsterInstance, job_name: str, evaluations: Iterable[dg.AssetCheckEvaluation]
) -> None:
    """Tell Dagster of checks that were made outside of it, as a run of that name.

    A run, since Dagster 1.13 takes only one evaluation without a run of a check and partition, ever.
    """

    @dg.op(name=job_name)
    def record(context: dg.OpExecutionContext) -> None:
        for evaluation in evaluations:
            log_evaluation(context, evaluation)

    @dg.job(name=job_name)
    def recording() -> None:
        record()

    recording.execute_in_process(instance=instance, run_config={"loggers": {"console": {"config": _QUIET}}})


def _metadata(outcome: CheckOutcome) -> dict[str, dg.MetadataValue]:
    metadata: dict[str, dg.MetadataValue] = {
        name: dg.MetadataValue.int(number) for name, number in outcome.numbers.items()
    }
    metadata["problems"] = dg.MetadataValue.int(outcome.num_problems)
    if not outcome.passed:
        metadata["examples"] = dg.MetadataValue.md("\n".join(f"- {example}" for example in outcome.examples))
        metadata["to_mend"] = dg.MetadataValue.text(outcome.mend)
    return metadata


def _description(outcome: CheckOutcome) -> str | None:
    return None if outcome.passed else outcome.examples[0]
