"""What the tests of integrity share: a small sound dataset, all that is stored, and a repair seen from outside."""

import io
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256

from sqlalchemy import text

from heimdall_pipelines.datasets.repair import plan_repair, repair_dataset
from heimdall_pipelines.datasets.repair_plan import RepairPlan
from heimdall_pipelines.datasets.validation import DatasetValidation, validate_dataset
from heimdall_pipelines.datasets.workers import Workers
from heimdall_pipelines.model.checks import MAX_EXAMPLES
from heimdall_pipelines.settings import Settings
from heimdall_pipelines.store.dataset_digests import sealing_dataset
from heimdall_pipelines.store.datasets import Dataset, get_dataset
from heimdall_pipelines.store.iq_objects import sample_iq_location, sidecar_location
from heimdall_pipelines.store.objects import ObjectLocation
from heimdall_pipelines.store.stores import Stores, open_stores
from heimdall_pipelines_tests.datasets.support import THREE, add, database_of_module, empty, execute, make, query
from heimdall_pipelines_tests.remembered import Contents
from heimdall_pipelines_tests.waiting import TIMEOUT_S

NAME = "night"
BYSTANDER = "bystander"
NUM_SAMPLES = 12
BATCH_SIZE = 5  # 5, 5 and 2
RX_IDS = tuple(site.rx_id for site in THREE)
OBJECTS_OF_BATCH = BATCH_SIZE * len(RX_IDS) * 2
AS_BEFORE = "healthy, every row and byte as before"

# Columns that say when, or what the last validation saw.
_TABLES = {
    "synthetic_datasets": (
        "name",
        ["created_at", "health_status", "last_validated_at", "validation_issues", "storage_size_bytes"],
    ),
    "synthetic_batches": ("dataset_id, batch_no", ["created_at", "committed_at"]),
    "measurement_features": ("dataset_id, sample_idx", ["created_at"]),
    "synthetic_iq_samples": ("dataset_id, sample_idx", []),
}


@dataclass(frozen=True)
class Snapshot:
    """Every row of every dataset but the times of writing, and the bytes of every object, as SHA-256."""

    rows: dict[str, list[str]]
    objects: dict[str, str]


class Night:
    """The dataset that faults are done to; a second one beside it must never change."""

    def __init__(self, stores: Stores) -> None:
        self.stores = stores
        self.dataset = self._make()
        self.sound = self.snapshot()
        self._contents = Contents(stores, (self.bucket,))

    def _make(self) -> Dataset:
        add(self.stores, BYSTANDER, 2)
        make(self.stores, BYSTANDER)
        dataset = add(self.stores, NAME, NUM_SAMPLES, batch_size=BATCH_SIZE)
        for batch_no in range(3):
            make(self.stores, NAME, batch_no)
        return get_dataset(self.stores.database, dataset.name)

    def make_sound(self) -> None:
        """Put back every row and every object, whatever the test before left, as it is before the first validation."""
        self._contents.put_back(self.stores)

    def clear(self) -> None:
        """Leave no dataset and no object."""
        execute(self.stores, "DELETE FROM heimdall.synthetic_datasets")
        self.stores.objects.remove(self.bucket, "")

    @property
    def bucket(self) -> str:
        return self.stores.objects.synthetic_iq_bucket

    def rows(self) -> dict[str, list[str]]:
        return {
            table: [
                row["columns"]
                for row in query(
                    self.stores,
                    f"SELECT (to_jsonb(t) - CAST(:without AS text[]))::text AS columns FROM heimdall.{table} t"
                    f" ORDER BY {order}",
                    without=without,
                )
            ]
            for table, (order, without) in _TABLES.items()
        }

    def entries(self) -> dict[str, tuple[int, str]]:
        """Size and ETag of each object."""
        listed = self.stores.objects.entries(self.bucket, "")
        return {entry.key: (entry.size_bytes, entry.etag) for entry in listed}

    def snapshot(self) -> Snapshot:
        entries = self.entries()
        with ThreadPoolExecutor(4) as threads:
            contents = threads.map(lambda key: self.read(key, entries[key][0]), entries)
            checksums = {key: sha256(content).hexdigest() for key, content in zip(entries, contents, strict=True)}
        return Snapshot(self.rows(), checksums)

    def execute(self, statement: str, **values: object) -> None:
        """Run a statement in which ``:id`` is the dataset's."""
        execute(self.stores, statement, id=self.dataset.id, **values)

    def key(self, sample_idx: int, receiver: int = 0, *, sidecar: bool = False) -> str:
        location = sample_iq_location(self.stores.objects, self.dataset.id, sample_idx, RX_IDS[receiver])
        return sidecar_location(location).key if sidecar else location.key

    def read(self, key: str, size_bytes: int | None = None) -> bytes:
        location = ObjectLocation(self.bucket, key)
        return self.stores.objects.read(location, 0, size_bytes or self.stores.objects.size_bytes(location))

    def put(self, key: str, content: bytes) -> None:
        self.stores.objects.put(ObjectLocation(self.bucket, key), io.BytesIO(content), len(content), "application/any")

    def delete(self, *keys: str) -> None:
        self.stores.objects.remove_keys(self.bucket, keys)

    def unmake(self, batch_no: int) -> None:
        """Leave it as if a batch had never been made."""
        span = {"first": batch_no * BATCH_SIZE, "end": (batch_no + 1) * BATCH_SIZE, "batch_no": batch_no}
        of_dataset = {"id": self.dataset.id}
        with (
            self.stores.database.transaction() as connection,
            sealing_dataset(connection, self.dataset.id),
        ):
            for table in ("measurement_features", "synthetic_iq_samples"):
                statement = f"DELETE FROM heimdall.{table} WHERE dataset_id = :id AND sample_idx >= :first"
                connection.execute(text(f"{statement} AND sample_idx < :end"), span | of_dataset)
            for statement in (
                "DELETE FROM heimdall.synthetic_batches WHERE dataset_id = :id AND batch_no = :batch_no",
                "UPDATE heimdall.synthetic_datasets SET num_samples = (SELECT sum(num_samples)"
                " FROM heimdall.synthetic_batches WHERE dataset_id = :id) WHERE id = :id",
            ):
                connection.execute(text(statement), span | of_dataset)
        idxs = range(span["first"], min(span["end"], NUM_SAMPLES))
        self.delete(
            *(self.key(idx, rx, sidecar=sidecar) for idx in idxs for rx in range(3) for sidecar in (False, True))
        )

    def health(self) -> tuple[str, object]:
        """Status and time of the last validation."""
        (row,) = query(
            self.stores,
            "SELECT health_status, last_validated_at FROM heimdall.synthetic_datasets WHERE id = :id",
            id=self.dataset.id,
        )
        return row["health_status"], row["last_validated_at"]

    def forget_health(self) -> None:
        """As it is before the first validation."""
        self.execute(
            "UPDATE heimdall.synthetic_datasets SET health_status = 'unknown', last_validated_at = NULL,"
            " validation_issues = '[]' WHERE id = :id"
        )

    def validate(self, stores: Stores | None = None, *, checksums: bool = False) -> DatasetValidation:
        """Validate, the samples that are regenerated always the same ones."""
        validation = validate_dataset(stores or self.stores, NAME, checksums=checksums, seed=1)
        assert self.health()[0] == validation.health_status
        for outcome in validation.outcomes:
            assert len(outcome.examples) == min(outcome.num_problems, MAX_EXAMPLES)
        return validation

    def plan(self, *, checksums: bool = False) -> RepairPlan:
        """Plan a repair; it must not change anything."""
        before = self.rows(), self.entries(), self.health()
        plan = plan_repair(self.stores, NAME, checksums=checksums)
        assert (self.rows(), self.entries(), self.health()) == before
        return plan

    def repair(self, stores: Stores | None = None, **more) -> RepairPlan:
        """Repair, objects without rows removed however young."""
        return repair_with(stores or self.stores, **({"min_orphan_age": timedelta(0)} | more))

    def assert_sound(self) -> None:
        """Healthy to the last byte, everything as it was, nothing left to repair."""
        validation = self.validate(checksums=True)
        assert failed(validation) == {}
        assert validation.health_status == "healthy"
        assert self.snapshot() == self.sound
        assert self.plan(checksums=True).is_empty


def repair_with(stores: Stores, **more) -> RepairPlan:
    with Workers(1) as workers:
        return repair_dataset(stores, NAME, workers, **more)


def failed(validation: DatasetValidation) -> dict[str, list[str]]:
    """Examples of the checks that failed."""
    return {outcome.name: outcome.examples for outcome in validation.outcomes if not outcome.passed}


def numbers(validation: DatasetValidation, check: str) -> dict[str, int]:
    (outcome,) = (outcome for outcome in validation.outcomes if outcome.name == check)
    return outcome.numbers


def in_words(done: RepairPlan) -> str:
    """What a repair did, in numbers."""
    parts = [
        _counted(len(done.to_regenerate), "sample", "regenerated"),
        _counted(len(done.iq_rows_to_remove), "IQ row", "removed"),
        _counted(done.num_orphans, "orphan", "removed"),
        _counted(done.num_young_orphans, "young orphan", "kept"),
        _counted(len(done.batches_to_count), "batch", "counted", "es"),
        "num_samples counted" if done.changes_num_samples else "",
        "target raised to the number of samples" if done.raises_target else "",
    ]
    return ", ".join(part for part in parts if part) or "nothing to do"


def _counted(number: int, what: str, done: str, plural: str = "s") -> str:
    return f"{number} {what}{plural if number > 1 else ''} {done}" if number else ""


@contextmanager
def night_of_module(server_settings: Settings) -> Iterator[tuple[Settings, Night]]:
    """Make the dataset once for the tests of a module."""
    with database_of_module(server_settings) as settings, open_stores(settings) as stores:
        empty(settings)
        yield settings, Night(stores)
        empty(settings)


class Held:
    """Blocks its caller, once, until it is released."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._let_go = threading.Event()

    def __call__(self, *_: object) -> None:
        self.reached.set()
        assert self._let_go.wait(TIMEOUT_S)

    def let_go(self) -> None:
        self._let_go.set()


@contextmanager
def held(work: Callable[[Held], object]) -> Iterator[tuple[Held, Callable[[], object]]]:
    """Let work run in a thread until it calls what it is given; gives how to let it go, and its result."""
    hold = Held()
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(work, hold)
        try:
            while not hold.reached.wait(0.01):
                assert not running.done(), running.result()
            yield hold, lambda: running.result(TIMEOUT_S)
        finally:
            hold.let_go()
