"""Speed and memory, measured: `make bench` prints every figure that docs/performance.md quotes."""
