"""Run every benchmark and print one table; `python -m benchmarks scale` runs the long one instead."""

import sys

from benchmarks import (
    bench_checks,
    bench_cluster,
    bench_command_line,
    bench_datasets,
    bench_features,
    bench_recording,
    bench_scale,
    bench_sessions,
    bench_synthesis,
)

MEASURES = (
    bench_features,
    bench_synthesis,
    bench_sessions,
    bench_recording,
    bench_datasets,
    bench_checks,
    bench_cluster,
    bench_command_line,
)

for benchmark in (bench_scale,) if sys.argv[1:] == ["scale"] else MEASURES:
    for what, amount, unit in benchmark.run():
        print(f"{what:<36}{amount:10.3f}  {unit}", flush=True)
