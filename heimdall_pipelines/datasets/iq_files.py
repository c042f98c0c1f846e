"""The IQ of one receiver as the bytes that are stored or written: an IQ object and its SigMF description."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.datasets.samples import FULL_SCALE_DBM, Recipe, start_time_unix_ns
from heimdall_pipelines.formats.sigmf_sidecar import sigmf_meta
from heimdall_pipelines.model.row_metadata import IqMetadata
from heimdall_pipelines.rf.receiver_site import ReceiverSite
from heimdall_pipelines.rf.synthesis import GENERATOR_VERSION
from heimdall_pipelines.store.iq_form import NEW_FORM, IqForm

RECORDER = f"heimdall-pipelines, generator version {GENERATOR_VERSION}"


@dataclass(frozen=True)
class IqFile:
    """A receiver's IQ of a sample.

    Attributes
    ----------
    form : IqForm
    data : bytes
        The whole object.
    sha256 : str
        Of these bytes.
    sigmf : dict
        Its SigMF sidecar, {rx_id}.sigmf-meta.
    """

    form: IqForm
    data: bytes
    sha256: str
    sigmf: dict[str, Any]


def iq_file(
    recipe: Recipe, sample_idx: int, site: ReceiverSite, iq: NDArray[np.complex64], form: IqForm = NEW_FORM
) -> IqFile:
    """Encode a receiver's samples, in square roots of watts, as they are stored."""
    data = b"".join((form.header(iq.size), iq.astype("<c8", copy=False).data.cast("B")))
    return IqFile(
        form=form,
        data=data,
        sha256=hashlib.sha256(data).hexdigest(),
        sigmf=iq_sidecar(recipe, sample_idx, site, iq.size, form),
    )


def iq_sidecar(recipe: Recipe, sample_idx: int, site: ReceiverSite, num_samples: int, form: IqForm) -> dict[str, Any]:
    """SigMF description of a receiver's IQ, which does not depend on the IQ itself."""
    spec = recipe.spec
    return sigmf_meta(
        dataset_name=form.dataset_name(site.rx_id),
        header_bytes=len(form.header(num_samples)),
        num_samples=num_samples,
        sample_rate_hz=float(spec.sample_rate_hz),
        frequency_hz=spec.frequency_hz,
        start_time_unix_ns=start_time_unix_ns(sample_idx),
        lat=site.latitude,
        lon=site.longitude,
        alt_m=site.altitude_m,
        description=f"synthetic transmission, sample {sample_idx} as {site.rx_id} hears it; the time is made up",
        recorder=RECORDER,
        extra={
            "dataset_id": str(recipe.dataset_id),
            "sample_idx": sample_idx,
            "seed": recipe.seed,
            "generator_version": GENERATOR_VERSION,
            "full_scale_dbm": FULL_SCALE_DBM,
        },
    )


def iq_metadata(
    recipe: Recipe,
    sha256: dict[str, str],
    etag: dict[str, str],
    sidecar_sha256: dict[str, str],
    form: IqForm = NEW_FORM,
) -> IqMetadata:
    """Format of the objects; for each receiver's object SHA-256 and ETag, and SHA-256 of its sidecar."""
    spec = recipe.spec
    return IqMetadata(
        num_samples=spec.num_iq_samples,
        sample_rate_hz=spec.sample_rate_hz,
        frequency_hz=spec.frequency_hz,
        full_scale_dbm=FULL_SCALE_DBM,
        format=form.value,
        sha256=sha256,
        etag=etag,
        sidecar_sha256=sidecar_sha256,
    )
