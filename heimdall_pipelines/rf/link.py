"""What lies between one transmitter and one receiver: the quantities that a scene draws and a synthesis plays."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Link:
    """One receiver's view of one transmission; the truth that estimates are compared with.

    Attributes
    ----------
    delay_s : float
        Time of flight along the straight line.
    received_power_dbm : float
        Mean power at the receiver's input, path loss, antennas and shadowing included.
    noise_power_dbm : float
        Power of the receiver's and the environment's noise over the sampled band.
    rice_k_db : float
        Power of the steady over that of the scattered part; infinite for no fading, minus infinity for Rayleigh.
    doppler_hz : float
        Greatest Doppler shift of the scattered part.
    rms_delay_spread_s : float
        Of the echoes; 0 for none.
    frequency_offset_hz : float
        Of the receiver's oscillator against the transmitter's.
    """

    delay_s: float
    received_power_dbm: float
    noise_power_dbm: float
    rice_k_db: float
    doppler_hz: float
    rms_delay_spread_s: float
    frequency_offset_hz: float

    @property
    def snr_db(self) -> float:
        """Signal over noise in the whole sampled band."""
        return self.received_power_dbm - self.noise_power_dbm
