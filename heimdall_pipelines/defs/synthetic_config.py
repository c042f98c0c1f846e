"""Config of a synthetic dataset in the launchpad, made from the parameters of `DatasetSpec`."""

import enum
import json
from typing import Any, Literal, get_args, get_origin

import dagster as dg
from pydantic import Field, create_model
from pydantic.fields import FieldInfo

from heimdall_pipelines.model.dataset_parameters import allowed_values
from heimdall_pipelines.model.dataset_spec import MAX_NUM_SAMPLES, DatasetSpec


def _optional(name: str, field: FieldInfo) -> tuple[Any, Any]:
    """A parameter of a dataset as a field of run config that may be left out; its value is validated later."""
    kind: Any = field.annotation
    allowed = allowed_values(name)
    if get_origin(kind) is Literal:
        choices = get_args(kind)
        # Dagster does not support an optional Literal. It offers the names of an enumeration instead.
        kind = enum.Enum(name, {choice: choice for choice in choices}) if isinstance(choices[0], str) else int
    default = field.default if isinstance(field.default, str) else json.dumps(field.default)
    details = f"default {default}" + (f"; {allowed}" if allowed else "")
    return kind | None, Field(default=None, description=f"{field.description} ({details})")


_fields: Any = {name: _optional(name, field) for name, field in DatasetSpec.model_fields.items()}
_Parameters: Any = create_model("_Parameters", __base__=dg.Config, **_fields)


class SyntheticDatasetConfig(_Parameters):  # type: ignore[misc]  # made at run time
    """A request for a dataset. A parameter left out has its default or, for an existing dataset, stays as it is."""

    target_num_samples: int | None = Field(
        default=None, description=f"Total number of samples, 1 to {MAX_NUM_SAMPLES}; a new dataset needs it"
    )
    seed: int | None = Field(default=None, description="Seed of a new dataset (drawn at random if left out)")

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of `DatasetSpec` that were given; 0 and false are values."""
        values = {name: getattr(self, name) for name in DatasetSpec.model_fields}
        return {
            name: value.value if isinstance(value, enum.Enum) else value
            for name, value in values.items()
            if value is not None
        }
