"""Problems of pydantic, field by field."""

import pytest
from pydantic import BaseModel, ValidationError, model_validator

from heimdall_pipelines.field_problems import FieldProblem, field_problems


class Inner(BaseModel):
    rate_hz: int


class Outer(BaseModel):
    inner: tuple[Inner, ...] = ()
    name: str = "a"

    @model_validator(mode="after")
    def _fits(self):
        if self.name == "b":
            raise ValueError("no b")
        return self


def problems_of(value: dict) -> list[FieldProblem]:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(value)
    return field_problems(caught.value)


def test_a_field_is_named_with_those_that_contain_it():
    missing, wrong = problems_of({"inner": [{}, {"rate_hz": "x"}]})
    assert (missing.path, missing.is_missing) == ("inner.0.rate_hz", True)
    assert (wrong.path, wrong.is_missing, wrong.value) == ("inner.1.rate_hz", False, "x")


def test_fields_that_do_not_fit_together_have_no_path():
    (problem,) = problems_of({"name": "b"})
    assert (problem.location, problem.message) == ((), "no b")
