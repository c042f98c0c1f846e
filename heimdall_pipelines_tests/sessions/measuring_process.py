"""A process that loads what measures levels, then measures, and prints how much was compiled or loaded by then."""

import sys

import numpy as np
from numba.core.dispatcher import Dispatcher

from heimdall_pipelines.sessions.live_samples import LiveLevels, load_kernels


def num_loaded() -> int:
    """Versions of compiled functions in this process, each for its own types of arguments."""
    modules = [module for name, module in sys.modules.items() if name.startswith("heimdall_pipelines.")]
    functions = {f for module in modules for f in vars(module).values() if isinstance(f, Dispatcher)}
    return sum(len(function.signatures) for function in functions)


load_kernels()
loaded_before = num_loaded()
for rate_hz in (8_000.0, 12_001.2, 200_000.0):
    for carrier in (0.0, 1.0):
        levels = LiveLevels(rate_hz, None, -20.0)
        noise = np.random.default_rng(1).standard_normal(2 * round(rate_hz), np.float32).view(np.complex64)
        levels.add(np.complex64(carrier) + np.float32(0.01) * noise)
        levels.measure()
        assert (levels.mean("snr_db") is None) == (carrier == 0)
print(loaded_before, num_loaded())
