"""Summarises a dataset: counts, acceptance of scenes, and errors of estimates."""

import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.datasets.baseline_summary import BaselineColumns, BaselineSummary
from heimdall_pipelines.datasets.difference_summary import DifferenceColumns, DifferenceErrors
from heimdall_pipelines.model.batches import total_rejections
from heimdall_pipelines.model.truth import LinkTruth
from heimdall_pipelines.store.batches import list_batches
from heimdall_pipelines.store.database import Database
from heimdall_pipelines.store.dataset_samples import DatasetCounts, StoredSample, count_rows, stream_samples
from heimdall_pipelines.store.dataset_summaries import content_sha256
from heimdall_pipelines.store.datasets import Dataset, get_dataset
from heimdall_pipelines.store.features import ReceiverFeatures, mean_of

_HEARD_DB = 0.0  # least true SNR at which levels are compared
_STRONG_DB = 10.0  # and at which frequency and delay spread are
_CONFIDENT = 0.5
_FEWEST_FOR_CORRELATION = 10


@dataclass(frozen=True)
class EstimateError:
    """Errors of the estimates of a feature: estimate minus truth.

    Attributes
    ----------
    feature, unit : str
    num : int
        Estimates compared, at least one.
    bias, rmse, worst : float
        Mean, root mean square, and greatest magnitude with its sign.
    note : str
        Which estimates were compared with what.
    """

    feature: str
    unit: str
    num: int
    bias: float
    rmse: float
    worst: float
    note: str


@dataclass(frozen=True)
class DelaySpread:
    """Relation of `multipath_delay_spread_us` to the true rms delay spread; it grows with it, but does not estimate it.

    One narrow-band signal at one receiver shows how the amplitude varies with the frequency, of which the expected
    median is 0.45 of the spread. Compared are links without a direct path, whose echoes alone make the spread, with a
    true SNR of 10 dB or more and a `delay_spread_confidence` of 0.5 or more.

    Attributes
    ----------
    num : int
        Links compared.
    median_ratio : float
        Of the feature to the true spread.
    rank_correlation : float
        Spearman's, of the two.
    """

    num: int
    median_ratio: float
    rank_correlation: float


@dataclass(frozen=True)
class Detection:
    """Number of links with a detected signal (`signal_present`), above and below a true SNR.

    Attributes
    ----------
    min_snr_db : float
        The dataset's.
    num_above, present_above : int
        Links with that true SNR or more, and those of them with a detected signal.
    num_below, present_below : int
        The same for links below. A detection there is not an error: every link carries the transmission, and the
        detector works well below a usual `min_snr_db`.
    """

    min_snr_db: float
    num_above: int
    present_above: int
    num_below: int
    present_below: int


@dataclass(frozen=True, eq=False)
class Transmissions:
    """One value per sample, in the order of sample_idx.

    Attributes
    ----------
    latitude, longitude : ndarray of float32, shape (num_samples,)
        Degrees.
    num_detected : ndarray of int16, shape (num_samples,)
        Receivers whose mean SNR reaches the dataset's `min_snr_db`.
    gdop : ndarray of float32, shape (num_samples,)
        Of those receivers.
    """

    latitude: NDArray[np.float32]
    longitude: NDArray[np.float32]
    num_detected: NDArray[np.int16]
    gdop: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Links:
    """One value per receiver of every sample; errors are estimate minus truth, NaN where nothing was estimated.

    Attributes
    ----------
    rx_latitude, rx_longitude : ndarray of float32, shape (num_links,)
        Degrees.
    snr_db : ndarray of float32, shape (num_links,)
        Truth.
    signal_present : ndarray of bool, shape (num_links,)
    snr_error_db, frequency_error_hz : ndarray of float32, shape (num_links,)
    """

    rx_latitude: NDArray[np.float32]
    rx_longitude: NDArray[np.float32]
    snr_db: NDArray[np.float32]
    signal_present: NDArray[np.bool_]
    snr_error_db: NDArray[np.float32]
    frequency_error_hz: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class DatasetSummary:
    """A dataset in numbers, and the data of its pictures.

    Attributes
    ----------
    dataset : Dataset
    counts : DatasetCounts
        Counted row by row.
    attempts : int
        Scenes drawn for committed samples and for batches that stopped.
    rejections : dict of str to int
        Number of rejections by reason.
    acceptance : float
        Share of the attempts that was accepted; 1 without attempts.
    errors : tuple of EstimateError
        Only of features that can be compared.
    delay_spread : DelaySpread or None
        None where fewer than ten links can be compared.
    detection : Detection
    transmissions : Transmissions
    links : Links
    differences : DifferenceErrors
    baselines : BaselineSummary or None
        None without samples.
    content_sha256 : str or None
        Root digest of the dataset before its rows were read.
    """

    dataset: Dataset
    counts: DatasetCounts
    attempts: int
    rejections: dict[str, int]
    acceptance: float
    errors: tuple[EstimateError, ...]
    delay_spread: DelaySpread | None
    detection: Detection
    transmissions: Transmissions
    links: Links
    differences: DifferenceErrors
    baselines: BaselineSummary | None
    content_sha256: str | None = None


def summarise_dataset(database: Database, name: str) -> DatasetSummary:
    """Read a dataset in one pass, and locate a choice of its samples.

    Memory is about 300 bytes for a sample with 7 receivers, and 20 MB for the samples that are located.

    Raises
    ------
    DatasetNotFoundError
        There is no such dataset.
    """
    dataset = get_dataset(database, name)
    spec = dataset.spec
    content = content_sha256(database, dataset.id)  # before the rows: what is committed meanwhile makes it outdated
    columns = _Columns(spec.sample_rate_hz)
    of_pairs = DifferenceColumns(() if spec.use_random_receivers else tuple(x.rx_id for x in dataset.receivers))
    of_baselines = BaselineColumns(spec)
    for sample in stream_samples(database, dataset.id):
        columns.add(sample)
        of_pairs.add(sample)
        of_baselines.add(sample)
    batches = list_batches(database, dataset.id)
    rejections = total_rejections(batch.rejections for batch in batches)
    attempts = sum(batch.attempts for batch in batches)
    links = columns.links()
    differences = of_pairs.errors()
    return DatasetSummary(
        dataset=dataset,
        counts=count_rows(database, dataset.id),
        attempts=attempts,
        rejections=rejections,
        acceptance=1 - sum(rejections.values()) / attempts if attempts else 1.0,
        errors=(*_errors(columns, links), *_error("tdoa_us", "us", differences.error_us, differences.note())),
        delay_spread=_delay_spread(columns, links),
        detection=_detection(links, spec.min_snr_db),
        transmissions=columns.transmissions(),
        links=links,
        differences=differences,
        baselines=of_baselines.summary(),
        content_sha256=content,
    )


class _Columns:
    """Values of the samples that are plotted or summarised, as flat arrays, mostly float32."""

    def __init__(self, sample_rate_hz: float) -> None:
        self._band_db = 10 * math.log10(sample_rate_hz)  # band of noise_power_dbm
        self._sample = {name: array("f") for name in ("latitude", "longitude", "gdop", "gdop_error")}
        self._num_detected = array("h")
        self._present = array("b")
        self._link = {
            name: array("f")
            for name in (
                "rx_latitude",
                "rx_longitude",
                "snr_db",
                "snr_error_db",
                "rssi_error_db",
                "noise_error_db",
                "cn0_error_db",
                "frequency_error_hz",
                "doppler_hz",
                "spread_us",
                "estimated_spread_us",
            )
        }

    def add(self, sample: StoredSample) -> None:
        """Add one sample."""
        truth = sample.truth
        values = {
            "latitude": truth.tx_latitude,
            "longitude": truth.tx_longitude,
            "gdop": truth.gdop,
            "gdop_error": _difference(sample.gdop, truth.gdop),
        }
        for name, value in values.items():
            self._sample[name].append(value)
        self._num_detected.append(sum(link.detected for link in truth.receivers))
        for link, receiver in zip(truth.receivers, sample.receivers, strict=True):
            self._present.append(receiver.signal_present)
            for name, value in _link_values(link, receiver, self._band_db).items():
                self._link[name].append(value)

    def of_sample(self, name: str) -> NDArray[np.float32]:
        """A column with one value per sample."""
        return np.array(self._sample[name], np.float32)

    def of_link(self, name: str) -> NDArray[np.float32]:
        """A column with one value per link."""
        return np.array(self._link[name], np.float32)

    def transmissions(self) -> Transmissions:
        """Values of each sample."""
        return Transmissions(
            latitude=self.of_sample("latitude"),
            longitude=self.of_sample("longitude"),
            num_detected=np.array(self._num_detected, np.int16),
            gdop=self.of_sample("gdop"),
        )

    def links(self) -> Links:
        """Values of each link."""
        return Links(
            rx_latitude=self.of_link("rx_latitude"),
            rx_longitude=self.of_link("rx_longitude"),
            snr_db=self.of_link("snr_db"),
            signal_present=np.array(self._present, np.bool_),
            snr_error_db=self.of_link("snr_error_db"),
            frequency_error_hz=self.of_link("frequency_error_hz"),
        )


def _link_values(link: LinkTruth, receiver: ReceiverFeatures, band_db: float) -> dict[str, float]:
    """One receiver's values of the columns; NaN where there is nothing to compare."""
    confidence = mean_of(receiver, "delay_spread_confidence") or 0.0
    only_echoes = link.rice_k == 0 and link.rms_delay_spread_s > 0 and confidence >= _CONFIDENT
    spread_us = mean_of(receiver, "multipath_delay_spread_us") if only_echoes else None
    noise_dbm_per_hz = link.noise_power_dbm - band_db
    snr_db = math.nan if link.snr_db is None else link.snr_db
    signal_dbm = math.nan if link.signal_power_dbm is None else link.signal_power_dbm
    return {
        "rx_latitude": receiver.rx_lat,
        "rx_longitude": receiver.rx_lon,
        "snr_db": snr_db,
        "snr_error_db": _difference(mean_of(receiver, "snr_db"), snr_db),
        "rssi_error_db": _difference(mean_of(receiver, "rssi_dbm"), signal_dbm),
        "noise_error_db": _difference(mean_of(receiver, "noise_floor_dbm"), link.noise_power_dbm),
        "cn0_error_db": _difference(mean_of(receiver, "cn0_dbhz"), signal_dbm - noise_dbm_per_hz),
        "frequency_error_hz": _difference(mean_of(receiver, "frequency_offset_hz"), link.frequency_offset_hz),
        "doppler_hz": 0.0 if link.rice_k is None else link.doppler_hz,
        "spread_us": 1e6 * link.rms_delay_spread_s,
        "estimated_spread_us": math.nan if spread_us is None else spread_us,
    }


def _errors(columns: _Columns, links: Links) -> Iterator[EstimateError]:
    """Compare each feature where it can be compared."""
    heard = links.signal_present & (links.snr_db >= _HEARD_DB)
    strong = links.signal_present & (links.snr_db >= _STRONG_DB)
    heard_note = f"signal present, true SNR of {_HEARD_DB:g} dB or more"
    yield from _error("snr_db", "dB", links.snr_error_db[heard], heard_note)
    yield from _error("rssi_dbm", "dB", columns.of_link("rssi_error_db")[heard], heard_note)
    yield from _error("noise_floor_dbm", "dB", columns.of_link("noise_error_db"), "all links")
    yield from _error("cn0_dbhz", "dB", columns.of_link("cn0_error_db")[heard], heard_note)
    frequency_error_hz = links.frequency_error_hz[strong]
    yield from _error(
        "frequency_offset_hz",
        "Hz",
        frequency_error_hz,
        _frequency_note(frequency_error_hz, columns.of_link("doppler_hz")[strong]),
    )
    yield from _error(
        "gdop",
        "",
        columns.of_sample("gdop_error"),
        "of the receivers with a signal present, against that of those which reach min_snr_db on average: more "
        "receivers, so lower",
    )


def _error(feature: str, unit: str, errors: NDArray[np.float32], note: str) -> Iterator[EstimateError]:
    errors = errors[np.isfinite(errors)]
    if errors.size:
        yield EstimateError(
            feature=feature,
            unit=unit,
            num=errors.size,
            bias=float(errors.mean(dtype=np.float64)),
            rmse=math.sqrt(np.square(errors, dtype=np.float64).mean()),
            worst=float(errors[np.abs(errors).argmax()]),
            note=note,
        )


def _frequency_note(errors_hz: NDArray[np.float32], doppler_hz: NDArray[np.float32]) -> str:
    """Describe the effect of fading: the received signal has a Doppler shift, too, which the truth does not include."""
    note = f"signal present, true SNR of {_STRONG_DB:g} dB or more"
    errors_hz, doppler_hz = errors_hz[np.isfinite(errors_hz)], doppler_hz[np.isfinite(errors_hz)]
    if not np.any(doppler_hz > 0):
        return note
    half_hz, most_hz = np.percentile(np.abs(errors_hz), [50, 95])
    return (
        f"{note}; half within {half_hz:.2g} Hz, 95 % within {most_hz:.2g} Hz. The truth is the oscillators' offset; "
        f"fading adds Doppler shifts of up to {doppler_hz.max():.2g} Hz"
    )


def _delay_spread(columns: _Columns, links: Links) -> DelaySpread | None:
    from scipy.stats import rankdata  # slow to import

    estimates_us, truths_us = columns.of_link("estimated_spread_us"), columns.of_link("spread_us")
    compared = links.signal_present & (links.snr_db >= _STRONG_DB) & np.isfinite(estimates_us)
    estimates_us, truths_us = estimates_us[compared], truths_us[compared]
    if estimates_us.size < _FEWEST_FOR_CORRELATION:
        return None
    return DelaySpread(
        num=estimates_us.size,
        median_ratio=float(np.median(estimates_us / truths_us)),
        rank_correlation=float(np.corrcoef(rankdata(estimates_us), rankdata(truths_us))[0, 1]),
    )


def _detection(links: Links, min_snr_db: float) -> Detection:
    above = links.snr_db >= min_snr_db
    return Detection(
        min_snr_db=min_snr_db,
        num_above=int(above.sum()),
        present_above=int((above & links.signal_present).sum()),
        num_below=int((~above).sum()),
        present_below=int((~above & links.signal_present).sum()),
    )


def _difference(estimate: float | None, truth: float) -> float:
    return math.nan if estimate is None else estimate - truth
