"""Why a run failed, by the error of the step that failed."""

import re

import dagster as dg


def step_failure_text(event: dg.DagsterEvent) -> str:
    """The error of a failed step: one of this project without the name of its class, any other as it is."""
    error = event.step_failure_data.error
    if error is None:
        return f"{event.step_key} failed"
    if error.cause is not None:
        error = error.cause  # the error inside Dagster's wrapper; causes below it are those of libraries
    return re.sub(r"^heimdall_pipelines\.[\w.]+: ", "", error.message.strip())
