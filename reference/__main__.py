"""`make reference`: make, release, export and score the reference dataset, then write result.json and its page.

With fewer samples than spec.json has, or without --write, nothing in the repository changes.
"""

import argparse
import sys
from pathlib import Path

from reference.making import make_reference
from reference.pages import write_result
from reference.specification import read_spec

PARSER = argparse.ArgumentParser(prog="python -m reference", description=__doc__)
PARSER.add_argument("-o", "--output", type=Path, required=True, help="folder of the export; must not exist")
PARSER.add_argument("--num-samples", type=int, help="fewer than the reference has, to try the command")
PARSER.add_argument("--workers", type=int, default=2, help="processes that generate samples")
PARSER.add_argument("--write", action="store_true", help="write reference/result.json and docs/reference.md")

if __name__ == "__main__":
    arguments = PARSER.parse_args()
    if arguments.output.exists():
        PARSER.error(f"{arguments.output} exists already: give another --output, or remove it")
    spec = read_spec()
    result = make_reference(
        spec,
        arguments.output,
        num_samples=arguments.num_samples or spec.num_samples,
        num_workers=arguments.workers,
        progress=lambda line: print(line, file=sys.stderr, flush=True),
    )
    if arguments.write:
        write_result(result)
    print(f"root {result.root}\nroot of truth {result.truth_root}")
    print(", ".join(f"{what} {seconds:.1f} s" for what, seconds in result.seconds.items()))
    print(f"altogether {result.ratio:.2f} times what making the samples took, limit 1.3")
