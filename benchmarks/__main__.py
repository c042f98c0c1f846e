"""Run every benchmark and print one table; `python -m benchmarks datasets checks` runs some, `scale` the long one.

HEIMDALL_BENCH_SMALL=1 makes those that know of it run in a minute or two, with figures of no use.
"""

import sys

from benchmarks import (
    bench_checks,
    bench_cluster,
    bench_command_line,
    bench_datasets,
    bench_features,
    bench_importing,
    bench_locating,
    bench_positions,
    bench_recording,
    bench_releases,
    bench_scale,
    bench_sessions,
    bench_synthesis,
    bench_terrain,
)
from benchmarks.stack import nothing_left_running

MEASURES = (
    bench_features,
    bench_synthesis,
    bench_terrain,
    bench_sessions,
    bench_locating,
    bench_importing,
    bench_positions,
    bench_recording,
    bench_datasets,
    bench_checks,
    bench_releases,
    bench_cluster,
    bench_command_line,
)
BY_NAME = {module.__name__.removeprefix("benchmarks.bench_"): module for module in (*MEASURES, bench_scale)}

if unknown := set(sys.argv[1:]) - set(BY_NAME):
    sys.exit(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(BY_NAME)}")
with nothing_left_running():
    for benchmark in [BY_NAME[name] for name in sys.argv[1:]] or MEASURES:
        for what, amount, unit in benchmark.run():
            print(f"{what:<36}{amount:10.3f}  {unit}", flush=True)
