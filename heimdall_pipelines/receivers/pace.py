"""The number of samples wanted, and the check that they arrive in time."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from heimdall_pipelines.receivers.stream import ReceiverAddress, ReceiverError, Tuning, WaitLimits

_RATE_MARGIN = 1e-4  # a receiver's true rate is that close to the nominal one


class Pace:
    """Counts received samples and the time spent waiting for them.

    Only waiting counts, not the recorder's work between two blocks: a slow store is not a fault of the receiver.
    """

    def __init__(self, address: ReceiverAddress, tuning: Tuning, rate_hz: float, limits: WaitLimits) -> None:
        self._address = address
        self._duration_s = tuning.duration_s
        self._rate_hz = rate_hz
        self._limits = limits
        self._waited_s = 0.0
        self._num_samples = 0
        self.num_wanted = math.ceil(tuning.duration_s * rate_hz * (1 + _RATE_MARGIN))

    @property
    def num_missing(self) -> int:
        """Samples that are still wanted; 0 or less when all have arrived."""
        return self.num_wanted - self._num_samples

    def count(self, num_samples: int) -> None:
        """Count samples that arrived or are known to be lost."""
        self._num_samples += num_samples

    @asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """Bound a wait for samples in the context by the limits.

        Raises
        ------
        ReceiverError
            Nothing arrived for `WaitLimits.silence_s`, or samples lag by more than `WaitLimits.lag_s`; transient.
        """
        may_lag_s = self._limits.lag_s + self._num_samples / self._rate_hz - self._waited_s
        limit_s = min(self._limits.silence_s, max(may_lag_s, 0.0))
        clock_s = asyncio.get_running_loop().time  # that of the limit as well
        began = clock_s()
        try:
            async with asyncio.timeout(limit_s) as limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise self._too_slow(limit_s) from None
        finally:
            self._waited_s += clock_s() - began

    def broke_off(self, how: str) -> ReceiverError:
        """Make the transient error for a stream that ended early."""
        return ReceiverError(self._address.rx_id, f"{how} {self._so_far()}", is_transient=True)

    def _too_slow(self, limit_s: float) -> ReceiverError:
        if limit_s == self._limits.silence_s:
            return self.broke_off(f"sent nothing for {limit_s:g} s,")
        return self.broke_off(f"sends too slowly: more than {self._limits.lag_s:g} s behind,")

    def _so_far(self) -> str:
        return f"after {self._num_samples / self._rate_hz:.1f} s of {self._duration_s:g} s"
