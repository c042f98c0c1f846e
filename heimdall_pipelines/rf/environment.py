"""Noise at a receiver: its own, and man-made noise of its environment."""

import math
from typing import Literal, get_args

Environment = Literal["city", "residential", "rural"]
ENVIRONMENTS: tuple[Environment, ...] = get_args(Environment)

_BOLTZMANN_J_PER_K = 1.380649e-23
_REFERENCE_TEMPERATURE_K = 290.0  # to which noise figures refer
_MAN_MADE_C: dict[Environment, float] = {"city": 76.8, "residential": 72.5, "rural": 67.2}  # P.372-16, dB at 1 MHz
_MAN_MADE_D = 27.7


def man_made_noise_figure_db(frequency_hz: float, environment: Environment) -> float:
    """Median external noise figure of man-made noise in a vertical antenna.

    Parameters
    ----------
    frequency_hz : float
        0.3 to 250 MHz; above that the line is extrapolated.
    environment : {"city", "residential", "rural"}

    Returns
    -------
    float
        ``Fam = c - d log10(f / MHz)``, dB above k T0 B.

    References
    ----------
    ITU-R P.372-16, man-made noise, its table of c and d (0.3 to 250 MHz).

    Examples
    --------
    >>> round(man_made_noise_figure_db(145e6, "residential"), 1)
    12.6
    """
    return _MAN_MADE_C[environment] - _MAN_MADE_D * math.log10(frequency_hz / 1e6)


def noise_power_dbm(
    frequency_hz: float, bandwidth_hz: float, environment: Environment, noise_figure_db: float = 6.0
) -> float:
    """Noise at the input of a receiver in a band around one frequency.

    Parameters
    ----------
    frequency_hz, bandwidth_hz : float
        Centre and width of the band; the width must be small compared to the frequency.
    environment : {"city", "residential", "rural"}
        Of the receiver.
    noise_figure_db : float
        Of the receiver; its antenna and cable are lossless.

    Returns
    -------
    float
        ``k T0 B (fa + fr - 1)``, dBm, with fa and fr the factors of external noise and of the receiver. fa is that of
        man-made noise or, where this is less (above 270 to 590 MHz), 1: an antenna among warm ground and houses.

    References
    ----------
    ITU-R P.372-16 section 2, equation (1) with a lossless antenna and cable.

    Examples
    --------
    In 200 kHz at 145 MHz:

    >>> round(noise_power_dbm(145e6, 200e3, "residential"), 1)
    -107.7
    """
    external_db = max(man_made_noise_figure_db(frequency_hz, environment), 0.0)
    factor = 10 ** (external_db / 10) + 10 ** (noise_figure_db / 10) - 1
    return 10 * math.log10(_BOLTZMANN_J_PER_K * _REFERENCE_TEMPERATURE_K * bandwidth_hz * factor * 1e3)
