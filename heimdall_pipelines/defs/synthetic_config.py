"""What a person is asked in the launchpad for a synthetic dataset: made from the dataset's own parameters."""

import enum
import json
from typing import Any, Literal, get_args, get_origin

import dagster as dg
from pydantic import Field, create_model
from pydantic.fields import FieldInfo

from heimdall_pipelines.model.dataset_parameters import allowed_values
from heimdall_pipelines.model.dataset_spec import MAX_NUM_SAMPLES, DatasetSpec


def _optional(name: str, field: FieldInfo) -> tuple[Any, Any]:
    """A parameter of a dataset as a field of run config that may be left out; what it may be is checked later."""
    kind: Any = field.annotation
    allowed = allowed_values(name)
    if get_origin(kind) is Literal:
        choices = get_args(kind)
        # Dagster knows no optional Literal. It offers the names of an enumeration, which are words.
        kind = enum.Enum(name, {choice: choice for choice in choices}) if isinstance(choices[0], str) else int
    default = field.default if isinstance(field.default, str) else json.dumps(field.default)
    details = f"default {default}" + (f"; {allowed}" if allowed else "")
    return kind | None, Field(default=None, description=f"{field.description} ({details})")


_fields: Any = {name: _optional(name, field) for name, field in DatasetSpec.model_fields.items()}
_Parameters: Any = create_model("_Parameters", __base__=dg.Config, **_fields)


class SyntheticDatasetConfig(_Parameters):  # type: ignore[misc]  # made at run time
    """A request for a dataset. What is left out takes its default or, for a dataset that exists, is inherited."""

    target_num_samples: int | None = Field(
        default=None, description=f"Total of samples wanted, 1 to {MAX_NUM_SAMPLES}; a new dataset needs it"
    )
    seed: int | None = Field(default=None, description="Of a new dataset (drawn at random if left out)")

    def parameters(self) -> dict[str, Any]:
        """Give the parameters of `DatasetSpec` that were given: 0 and false are values."""
        values = {name: getattr(self, name) for name in DatasetSpec.model_fields}
        return {
            name: value.value if isinstance(value, enum.Enum) else value
            for name, value in values.items()
            if value is not None
        }
