"""The page of the reference dataset, docs/reference.md: made from spec.json and result.json, never by hand."""

from heimdall_pipelines.releases.baseline_tables import baseline_table
from reference.result import ReferenceResult
from reference.specification import FOLDER, RESULT_FILE, ReferenceSpec, read_spec

PAGE = FOLDER.parent / "docs" / "reference.md"


def write_result(result: ReferenceResult) -> None:
    """Write result.json and the page."""
    RESULT_FILE.write_text(result.to_text())
    PAGE.write_text(page_text(read_spec(), result))


def page_text(spec: ReferenceSpec, result: ReferenceResult) -> str:
    """Content of the page."""
    leaks = "\n".join(
        f"| {kind} | {split['sizes'].get('train', 0)} | {split['sizes'].get('test', 0)} "
        f"| {split['num_too_close']} | {split['share_near'] or 0:.1%} |"
        for kind, split in result.splits.items()
    )
    seconds = ", ".join(f"{what} {value:.0f} s" for what, value in result.seconds.items())
    return _PAGE.format(
        label=spec.label,
        spec=spec,
        result=result,
        seconds=seconds,
        baselines=baseline_table(result.baselines),
        located=_located(spec),
        num_compared=len(result.samples),
        leaks=leaks,
    )


def _located(spec: ReferenceSpec) -> str:
    most = spec.baselines["max_tdoa"]
    return "every test sample" if most >= spec.num_samples else f"at most {most} test samples"


_PAGE = """# Reference dataset

`make reference` writes this page: it generates the dataset of `reference/spec.json`, releases it as `{label}`, exports
it, scores the baselines on every split, and writes `reference/result.json`, from which all figures here are.

## Baselines

{baselines}
Robust TDoA locates {located} of each split.

## Splits

| split | train | test | test samples within the margin of a training sample | with a training sample in 1 km |
|---|---|---|---|---|
{leaks}

## Identity

| | |
|---|---|
| samples | {result.num_samples} |
| seed | {spec.seed} |
| generator version, feature version | {result.generator_version}, {result.feature_version} |
| root | `{result.root}` |
| root of truth | `{result.truth_root}` |
| licence | {spec.licence} |
| time | {seconds}: {result.ratio:.2f} times what making the samples took |

The **root** covers everything, features to the last digit, which may differ between processors. The **root of truth**
covers parameters, seed, truth (to six significant digits, without sums over the IQ) and the SHA-256 of the stored IQ.
It is the same on every processor, except where a digit of a truth rounds to the other side, in one of some 10,000
samples.

To compare a reproduction: `heimdall dataset verify FOLDER --root ROOT`, with either root; with the root of truth
features are compared where they are regenerated, within 1e-4. A test regenerates {num_compared} samples spread over the
dataset and compares truth, IQ and features with `result.json`.
"""
