"""Run every benchmark and print one table."""

from benchmarks import bench_checks, bench_datasets, bench_features, bench_sessions, bench_synthesis

for measure in (bench_features.run, bench_synthesis.run, bench_sessions.run, bench_datasets.run, bench_checks.run):
    for what, amount, unit in measure():
        print(f"{what:<36}{amount:10.3f}  {unit}", flush=True)
