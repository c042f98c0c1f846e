"""The link between a transmitter and a receiver: the quantities that a scene draws and the synthesis uses."""

from dataclasses import dataclass

_DECIMALS_OF_SECONDS = 12  # 1 ps, 0.3 mm of path
_DECIMALS = 6  # of dB and Hz
_DECIMALS_OF_NANOSECONDS = 3
_S_PER_NS = 1e-9


@dataclass(frozen=True)
class Link:
    """The link of one transmission to one receiver; the truth that estimates are compared with.

    Attributes
    ----------
    delay_s : float
        Time of flight along the straight line.
    received_power_dbm : float
        Mean power at the receiver's input, path loss, antennas and shadowing included.
    noise_power_dbm : float
        Power of the receiver's and the environment's noise over the sampled band.
    rice_k_db : float
        Power of the steady relative to the scattered part; infinite for no fading, minus infinity for Rayleigh.
    doppler_hz : float
        Greatest Doppler shift of the scattered part.
    rms_delay_spread_s : float
        Of the echoes; 0 for none.
    frequency_offset_hz : float
        Of the receiver's oscillator relative to the transmitter's.
    clock_offset_ns : float
        Of the receiver's clock, positive if it is ahead: its samples then have later times, as after a longer delay.
    """

    delay_s: float
    received_power_dbm: float
    noise_power_dbm: float
    rice_k_db: float
    doppler_hz: float
    rms_delay_spread_s: float
    frequency_offset_hz: float
    clock_offset_ns: float = 0.0

    def rounded(self) -> "Link":
        """Round to 1 ps, 1e-6 dB and 1e-6 Hz.

        A scene's geodesy and propagation may differ in the last digit between processors. Its links are rounded
        here; samples are generated from the rounded links, and the stored truth has the same numbers.
        """
        return Link(
            delay_s=_rounded(self.delay_s, _DECIMALS_OF_SECONDS),
            received_power_dbm=_rounded(self.received_power_dbm, _DECIMALS),
            noise_power_dbm=_rounded(self.noise_power_dbm, _DECIMALS),
            rice_k_db=_rounded(self.rice_k_db, _DECIMALS),
            doppler_hz=_rounded(self.doppler_hz, _DECIMALS),
            rms_delay_spread_s=_rounded(self.rms_delay_spread_s, _DECIMALS_OF_SECONDS),
            frequency_offset_hz=_rounded(self.frequency_offset_hz, _DECIMALS),
            clock_offset_ns=_rounded(self.clock_offset_ns, _DECIMALS_OF_NANOSECONDS),
        )

    @property
    def clock_delay_s(self) -> float:
        """Delay of the direct path by the receiver's clock; negative if this is far behind and the path short."""
        return self.delay_s + self.clock_offset_ns * _S_PER_NS

    @property
    def snr_db(self) -> float:
        """Signal-to-noise ratio in the whole sampled band."""
        return self.received_power_dbm - self.noise_power_dbm


def _rounded(value: float, decimals: int) -> float:
    """Round, without negative zero, which JSON in PostgreSQL does not preserve."""
    return round(value, decimals) + 0.0
