"""What tests of datasets share: small samples, rows and objects as they are stored, a look at whether they agree."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from uuid import UUID, uuid4

from sqlalchemy import text

from heimdall_pipelines.datasets.generating import BatchReport, make_batch
from heimdall_pipelines.datasets.samples import DrawnSample, Recipe, draw_sample, keeps_iq, make_sample
from heimdall_pipelines.datasets.workers import Workers
from heimdall_pipelines.model.dataset_spec import parse_spec
from heimdall_pipelines.model.truth import LinkTruth, SampleTruth
from heimdall_pipelines.rf.philox import Purpose, generator
from heimdall_pipelines.rf.receiver_site import ReceiverSite
from heimdall_pipelines.rf.receivers import draw_receiver_sites
from heimdall_pipelines.rf.scene import draw_scene
from heimdall_pipelines.rf.synthesis import GENERATOR_VERSION
from heimdall_pipelines.settings import Settings
from heimdall_pipelines.store.batches import list_batches
from heimdall_pipelines.store.dataset_snapshot import StoredIq, open_snapshot
from heimdall_pipelines.store.datasets import Dataset, add_dataset, get_dataset, raise_target
from heimdall_pipelines.store.iq_form import IqForm
from heimdall_pipelines.store.stores import Stores, open_stores
from heimdall_pipelines_tests.conftest import TEMPLATE, execute_on_server
from heimdall_pipelines_tests.remembered import Remembered

SEED = 20_260_101
DATASET_ID = UUID(int=7)
# The least that the extractor takes, nearly: a receiver's IQ is 20 kB and a millisecond of work.
SMALL = {"sample_rate_hz": 25_000, "duration_ms": 100, "chunk_duration_ms": 20, "num_chunks": 5}
# Where the shipped stations stood when these tests were written; golden checksums hold for these.
SEVEN = (
    ReceiverSite("aquila-di-giaveno", 45.030, 7.270, 600.0),
    ReceiverSite("coazze", 45.048, 7.238, 700.0),
    ReceiverSite("genova", 44.395, 8.956, 100.0),
    ReceiverSite("milano-baggio", 45.478, 9.123, 120.0),
    ReceiverSite("montanaro", 45.234, 7.857, 300.0),
    ReceiverSite("passo-del-giovi", 44.561, 8.956, 480.0),
    ReceiverSite("torino", 45.044, 7.672, 250.0),
)
THREE = (SEVEN[0], SEVEN[3], SEVEN[5])


@contextmanager
def database_of_module(server_settings: Settings) -> Iterator[Settings]:
    """A migrated database for the tests of a module: one for each would take longer than most of them."""
    name = f"test_{uuid4().hex[:12]}"
    execute_on_server(server_settings, f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY file_copy")
    own = server_settings.model_copy(update={"pg_database": name})
    with open_stores(own) as stores:
        stores.objects.create_buckets()
    yield own
    execute_on_server(server_settings, f"DROP DATABASE {name} WITH (FORCE)")


def empty(settings: Settings) -> None:
    """Leave no dataset, no station and no object to the next test."""
    with open_stores(settings) as stores:
        execute(stores, "DELETE FROM heimdall.synthetic_datasets")
        execute(stores, "DELETE FROM heimdall.websdr_stations")
        stores.objects.remove(stores.objects.synthetic_iq_bucket, "")


def recipe(*, sites: tuple[ReceiverSite, ...] = SEVEN, seed: int = SEED, **parameters) -> Recipe:
    """A recipe without a dataset."""
    return Recipe(DATASET_ID, seed, parse_spec(parameters), sites)


def drawn(of: Recipe, sample_idx: int = 0) -> DrawnSample:
    """The first acceptable scene of a sample."""
    return draw_sample(of, sample_idx, 1000)


def any_scene(of: Recipe) -> DrawnSample:
    """The first scene of sample 0, acceptable or not."""
    spec, sites = of.spec, of.sites
    rng = generator(seed=of.seed, sample_idx=0, purpose=Purpose.SCENE)
    if spec.use_random_receivers:
        sites = draw_receiver_sites(
            sites, min_count=spec.min_receivers_count, max_count=spec.max_receivers_count, rng=rng
        )
    return DrawnSample(0, sites, draw_scene(spec.scene_spec(), sites, rng), 1)


def sample_digest(of: Recipe, sample_idx: int) -> str:
    """SHA-256 of all that a sample is: every receiver's IQ, its features, its truth."""
    digest = hashlib.sha256()
    row = make_sample(of, drawn(of, sample_idx), lambda _site, iq: digest.update(iq.tobytes()))
    digest.update(json.dumps(row.columns()).encode())
    return digest.hexdigest()


def add(
    stores: Stores,
    name: str,
    target_num_samples: int,
    *,
    sites: Iterable[ReceiverSite] = THREE,
    generator_version: int = GENERATOR_VERSION,
    **parameters,
) -> Dataset:
    """A dataset of small samples, without the thousand scenes that `request_dataset` draws first."""
    return add_dataset(
        stores.database,
        name=name,
        spec=parse_spec(SMALL | parameters),
        receivers=tuple(sites),
        seed=SEED,
        target_num_samples=target_num_samples,
        generator_version=generator_version,
    )


def truth_of(*rx_ids: str) -> SampleTruth:
    """Some truth of a sample with these receivers."""
    links = tuple(
        LinkTruth(
            rx_id=rx_id,
            delay_s=1e-4,
            mean_received_power_dbm=-90.0,
            signal_power_dbm=-91.5,
            noise_power_dbm=-110.0,
            snr_db=18.5,
            frequency_offset_hz=-12.0,
            rice_k=None,
            rice_k_db=None,
            doppler_hz=0.0,
            rms_delay_spread_s=0.0,
            line_of_sight=True,
            detected=True,
        )
        for rx_id in rx_ids
    )
    return SampleTruth(
        tx_latitude=45.0,
        tx_longitude=8.0,
        tx_altitude_m=200.0,
        tx_antenna_height_m=10.0,
        tx_kind="base",
        tx_power_dbm=0.0,
        tx_antenna_gain_dbi=2.0,
        audio="tone",
        gdop=1.5,
        mean_snr_db=20.0,
        receivers=links,
    )


def stored_iq(stores: Stores, name: str, sample_idx: int) -> StoredIq | None:
    with open_snapshot(stores.database, name) as snapshot:
        return snapshot.iq_of(sample_idx)


def expand(stores: Stores, dataset: Dataset, target_num_samples: int) -> Dataset:
    return raise_target(stores.database, dataset, target_num_samples)


def make(stores: Stores, name: str, batch_no: int = 0, **more) -> BatchReport:
    """Make a batch right here."""
    with Workers(1) as workers:
        return make_batch(stores, name, batch_no, workers, **more)


def have_made(stores: Stores, remembered: Remembered, name: str, num_samples: int, batch_size: int) -> None:
    """Have a dataset with all its samples in the stores, and nothing else; it is made once in a process."""

    def make_all(stores: Stores) -> None:
        dataset = add(stores, name, num_samples, batch_size=batch_size)
        for batch_no in range(dataset.grid.num_batches):
            make(stores, name, batch_no)

    remembered(stores, ("made", name, num_samples, batch_size), make_all)


def make_with_own_stores(settings: Settings, name: str, batch_no: int = 0, **more) -> BatchReport:
    """Make a batch as another process or thread would."""
    with open_stores(settings) as stores:
        return make(stores, name, batch_no, **more)


def query(stores: Stores, statement: str, **values: object) -> list[dict[str, object]]:
    with stores.database.transaction() as connection:
        return [dict(row._mapping) for row in connection.execute(text(statement), values)]


def execute(stores: Stores, statement: str, **values: object) -> None:
    with stores.database.transaction() as connection:
        connection.execute(text(statement), values)


def feature_rows(stores: Stores, dataset: Dataset) -> dict[int, str]:
    """Every column of every sample as text, but those that name the dataset or the moment, and the digest."""
    rows = query(
        stores,
        "SELECT sample_idx, (to_jsonb(f) - 'id' - 'dataset_id' - 'created_at' - 'digest')::text AS columns"
        " FROM heimdall.measurement_features f WHERE dataset_id = :id ORDER BY sample_idx",
        id=dataset.id,
    )
    return {row["sample_idx"]: row["columns"] for row in rows}


def object_sizes(stores: Stores, dataset: Dataset) -> dict[str, int]:
    """Bytes of each object of a dataset; they come with the listing."""
    bucket, prefix = stores.objects.synthetic_iq_bucket, f"synthetic/{dataset.id}/"
    listed = stores.objects._client.list_objects(bucket, prefix=prefix, recursive=True)
    return {entry.object_name.removeprefix(prefix): entry.size for entry in listed}


def iq_sha256(stores: Stores, dataset: Dataset) -> dict[str, str]:
    """Checksum of each IQ object as it lies in the store, by ``{sample_idx}/{rx_id}.sigmf-data``."""
    client, bucket = stores.objects._client, stores.objects.synthetic_iq_bucket
    found = {}
    for key in object_sizes(stores, dataset):
        if not key.endswith(".sigmf-meta"):
            response = client.get_object(bucket, f"synthetic/{dataset.id}/{key}")
            found[key] = hashlib.sha256(response.read()).hexdigest()
            response.close()
            response.release_conn()
    return found


def assert_agrees(stores: Stores, name: str, sample_idxs: Iterable[int]) -> None:
    """Rows, counts and objects of a dataset say the same, and these samples are there, no other."""
    dataset = get_dataset(stores.database, name)
    spec = dataset.spec
    expected = sorted(sample_idxs)
    kept = [idx for idx in expected if keeps_iq(spec, idx)]
    features = query(
        stores,
        "SELECT sample_idx, truth, extraction_metadata, num_receivers_in_sample,"
        " jsonb_path_query_array(receiver_features, '$[*].rx_id') AS rx_ids"
        " FROM heimdall.measurement_features WHERE dataset_id = :id ORDER BY sample_idx",
        id=dataset.id,
    )
    iq = query(
        stores, "SELECT * FROM heimdall.synthetic_iq_samples WHERE dataset_id = :id ORDER BY sample_idx", id=dataset.id
    )
    assert [row["sample_idx"] for row in features] == expected
    assert [row["sample_idx"] for row in iq] == kept
    assert dataset.num_samples == len(expected)

    for row in features:
        assert [link["rx_id"] for link in row["truth"]["receivers"]] == row["rx_ids"]
        assert row["num_receivers_in_sample"] == len(row["rx_ids"])
    by_idx = {row["sample_idx"]: row for row in features}
    promised, num_bytes = {}, {}
    for row in iq:
        sample = by_idx[row["sample_idx"]]
        assert row["truth"] == sample["truth"]
        assert [site["rx_id"] for site in row["receivers_metadata"]] == sample["rx_ids"]
        assert sorted(row["iq_storage_paths"]) == sorted(row["iq_metadata"]["sha256"]) == sorted(sample["rx_ids"])
        assert row["iq_metadata"]["num_samples"] == spec.num_iq_samples
        for rx_id, key in row["iq_storage_paths"].items():
            form = IqForm.named(row["iq_metadata"]["format"])
            promised[key] = f"synthetic/{dataset.id}/{row['sample_idx']}/{rx_id}{form.suffix}"
            num_bytes[key] = form.object_bytes(spec.num_iq_samples)
    assert all(key == expected_key for key, expected_key in promised.items())

    sizes = object_sizes(stores, dataset)
    data = {key for key in sizes if not key.endswith(".sigmf-meta")}
    assert {f"synthetic/{dataset.id}/{key}": sizes[key] for key in data} == num_bytes
    assert set(sizes) - data == {key.rsplit(".", 1)[0] + ".sigmf-meta" for key in data}

    assert_batches_agree(stores, dataset, features)


def assert_batches_agree(stores: Stores, dataset: Dataset, features: list[dict]) -> None:
    """Batches count what is committed of each, attempts and reasons included."""
    size = dataset.grid.batch_size
    batches = list_batches(stores.database, dataset.id)
    assert {batch.batch_no for batch in batches} == {row["sample_idx"] // size for row in features}
    for batch in batches:
        rows = [row["extraction_metadata"] for row in features if row["sample_idx"] // size == batch.batch_no]
        reasons: dict[str, int] = {}
        for row in rows:
            for reason, number in row["rejections"].items():
                reasons[reason] = reasons.get(reason, 0) + number
        assert (batch.first_sample_idx, batch.stopped_reason) == (batch.batch_no * size, None)
        assert batch.num_samples == len(rows)
        assert batch.attempts == sum(row["attempts"] for row in rows) == len(rows) + sum(reasons.values())
        assert batch.rejections == reasons


def assert_nothing_stored(stores: Stores, dataset: Dataset) -> None:
    """No sample, no IQ row, no object, and no count of any."""
    assert_nothing_committed(stores, dataset)
    assert object_sizes(stores, dataset) == {}


def assert_nothing_committed(stores: Stores, dataset: Dataset) -> None:
    """No sample, no IQ row, and no count of any; what was broken off may leave objects that no row names."""
    for table in ("measurement_features", "synthetic_iq_samples"):
        assert query(stores, f"SELECT 1 FROM heimdall.{table} WHERE dataset_id = :id", id=dataset.id) == []
    assert query(stores, "SELECT num_samples FROM heimdall.synthetic_datasets WHERE id = :id", id=dataset.id) in (
        [{"num_samples": 0}],
        [],
    )
