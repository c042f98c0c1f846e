"""Why a run failed, in the words of the step that failed."""

import re

import dagster as dg


def step_failure_words(event: dg.DagsterEvent) -> str:
    """The error of a failed step: one of this project without the name of its class, any other as it is."""
    error = event.step_failure_data.error
    if error is None:
        return f"{event.step_key} failed"
    if error.cause is not None:
        error = error.cause  # out of Dagster's frame; causes below it are libraries' words
    return re.sub(r"^heimdall_pipelines\.[\w.]+: ", "", error.message.strip())
