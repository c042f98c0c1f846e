"""Compares a sample's stored truth with the scene that its seed gives, and makes the sample from the stored truth.

What a scene computes with the libraries for geodesy and propagation may differ in the last digit between processors,
and rounding may carry it into the last digit that is stored. Samples are made from the stored digits; a scene that is
drawn again only shows whether these are intact.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Any

from heimdall_pipelines.datasets.samples import DrawnSample, Recipe, draw_sample, scene_truth
from heimdall_pipelines.model.truth import LinkTruth, SampleTruth
from heimdall_pipelines.store.dataset_snapshot import SampleRow

TRUTH_TOLERANCE = 1e-6  # relative: ten times the greatest difference seen between processors, in nine digits
_LAST_DIGITS = 2e-6  # absolute: two units of the last digit of levels, frequencies and lengths that are stored
_LAST_DIGITS_S = 2e-12  # of times
_NOT_OF_SCENE = frozenset({"audio", "signal_power_dbm", "snr_db", "position_bound"})  # known when the IQ is made


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


def truths_agree(stored: SampleTruth, made: SampleTruth, relative: float) -> bool:
    """Whether a stored truth is the regenerated one, numbers within a tolerance; a bound only if it is stored."""
    return agrees(stored.to_json(), made.in_form_of(stored).to_json(), relative)


def truth_difference(
    one: SampleTruth, other: SampleTruth, same: Callable[[str, Any, Any], bool] = lambda _, x, y: bool(x == y)
) -> str | None:
    """Name the first field in which two truths differ, with both values; None where they agree.

    A bound counts only where both have one.
    """
    for where, name, ours, theirs in _pairs(one, other):
        if not same(name, ours, theirs):
            return f"{where}{name} ({ours} and {theirs})"
    return None


def difference_from_seed(truth: SampleTruth, drawn: DrawnSample) -> str | None:
    """Name the first field of a stored truth that is not what the seed gives, up to the last digits that are stored."""

    def same(name: str, from_seed: Any, stored: Any) -> bool:
        tolerance = _LAST_DIGITS_S if name.endswith("_s") else _LAST_DIGITS
        return name in _NOT_OF_SCENE or agrees(stored, from_seed, TRUTH_TOLERANCE, tolerance)

    return truth_difference(scene_truth(drawn), truth, same)


def redrawn(recipe: Recipe, row: SampleRow) -> DrawnSample:
    """The scene of a stored sample from its seed, in as many attempts as it took."""
    return draw_sample(recipe, row.sample_idx, max(1, row.attempts or 1))


def stored_sample(recipe: Recipe, row: SampleRow) -> DrawnSample:
    """The sample from which a stored row was made, see `from_stored_truth`."""
    return from_stored_truth(redrawn(recipe, row), row.truth)


def from_stored_truth(drawn: DrawnSample, truth: SampleTruth | None) -> DrawnSample:
    """Give a drawn sample the scene of its stored truth, if that is what the seed gives up to the last digits.

    Parameters
    ----------
    drawn : DrawnSample
    truth : SampleTruth or None
        As stored; None where there is none.

    Returns
    -------
    DrawnSample
        The drawn one itself where the truth is missing or differs.
    """
    if drawn.scene is None or truth is None or difference_from_seed(truth, drawn) is not None:
        return drawn
    return replace(drawn, scene=truth.scene())


def _pairs(one: SampleTruth, other: SampleTruth) -> Iterator[tuple[str, str, Any, Any]]:
    """Receiver, name and both values of every field; the receivers themselves where their number differs."""
    for field in fields(SampleTruth):
        if field.name == "position_bound" and None in (one.position_bound, other.position_bound):
            continue
        if field.name != "receivers":
            yield "", field.name, getattr(one, field.name), getattr(other, field.name)
    if len(one.receivers) != len(other.receivers):
        yield "", "number of receivers", len(one.receivers), len(other.receivers)
    for ours, theirs in zip(one.receivers, other.receivers, strict=False):
        for field in fields(LinkTruth):
            yield f"{ours.rx_id} ", field.name, getattr(ours, field.name), getattr(theirs, field.name)
