"""A sample's stored truth beside the scene that its seed gives: whether they agree, and the sample made from the truth.

What a scene computes with the libraries for geodesy and propagation may differ in the last digit between processors,
and rounding may carry it into the last digit that is stored. Samples are made from the stored digits; a scene that is
drawn again only says whether these are intact.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from heimdall_pipelines.datasets.samples import DrawnSample, Recipe, draw_sample, scene_of_truth, scene_truth
from heimdall_pipelines.store.dataset_snapshot import SampleRow

TRUTH_TOLERANCE = 1e-6  # relative: ten times what a scene's libraries were seen to differ by, in nine digits
_LAST_DIGITS = 2e-6  # absolute: two units of the last digit of levels, frequencies and lengths that are stored
_LAST_DIGITS_S = 2e-12  # of times


def agrees(stored: Any, made: Any, relative: float, absolute: float = 1e-15) -> bool:
    """Whether all that was regenerated is stored the same, numbers within a tolerance; more may be stored."""
    if isinstance(made, dict):
        return isinstance(stored, dict) and all(
            name in stored and agrees(stored[name], value, relative, absolute) for name, value in made.items()
        )
    if isinstance(made, list | tuple):
        return (
            isinstance(stored, list | tuple)
            and len(stored) == len(made)
            and all(agrees(one, other, relative, absolute) for one, other in zip(stored, made, strict=True))
        )
    if isinstance(made, float) and isinstance(stored, int | float):
        return math.isclose(stored, made, rel_tol=relative, abs_tol=absolute)
    return bool(stored == made)


def truth_agrees(stored: Any, made: Any, name: str = "") -> bool:
    """Whether a stored truth is the one regenerated, up to the last digits that are stored."""
    if isinstance(made, dict):
        return isinstance(stored, dict) and all(
            key in stored and truth_agrees(stored[key], value, key) for key, value in made.items()
        )
    if isinstance(made, list):
        return (
            isinstance(stored, list)
            and len(stored) == len(made)
            and all(truth_agrees(one, other, name) for one, other in zip(stored, made, strict=True))
        )
    return agrees(stored, made, TRUTH_TOLERANCE, _LAST_DIGITS_S if name.endswith("_s") else _LAST_DIGITS)


def redrawn(recipe: Recipe, row: SampleRow) -> DrawnSample:
    """The scene of a stored sample from its seed, in as many attempts as it took."""
    return draw_sample(recipe, row.sample_idx, max(1, int(row.extraction_metadata.get("attempts", 1))))


def stored_sample(recipe: Recipe, row: SampleRow) -> DrawnSample:
    """The sample that a stored row was made from, see `from_stored_truth`."""
    return from_stored_truth(redrawn(recipe, row), row.truth)


def from_stored_truth(drawn: DrawnSample, truth: Mapping[str, Any] | None) -> DrawnSample:
    """Give a drawn sample the scene of its stored truth, where that is intact: what the seed gives, up to last digits.

    Parameters
    ----------
    drawn : DrawnSample
    truth : mapping or None
        As stored; None where there is none.

    Returns
    -------
    DrawnSample
        The drawn one itself where the truth is missing or not intact.
    """
    if drawn.scene is None or truth is None or not truth_agrees(truth, scene_truth(drawn)):
        return drawn
    return replace(drawn, scene=scene_of_truth(truth))
