"""A process that executes random commands on datasets and sessions, one after the other, until it is killed."""

import json
import random
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np

from heimdall_pipelines.datasets.deleting import delete_dataset
from heimdall_pipelines.datasets.generating import make_batch
from heimdall_pipelines.datasets.repair import repair_dataset
from heimdall_pipelines.datasets.validation import validate_dataset
from heimdall_pipelines.datasets.workers import Workers
from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.sessions.deleting import delete_session
from heimdall_pipelines.sessions.extraction import extract_session
from heimdall_pipelines.sessions.importing import ImportFile
from heimdall_pipelines.sessions.validation import validate_session
from heimdall_pipelines.settings import Settings
from heimdall_pipelines.store.batches import list_batches
from heimdall_pipelines.store.datasets import get_dataset, list_datasets, raise_target
from heimdall_pipelines.store.sessions import list_sessions
from heimdall_pipelines.store.stores import Stores, open_stores
from heimdall_pipelines_tests.datasets.support import add
from heimdall_pipelines_tests.sessions.support import import_files, noise, npy_options, quiet

NAMES = ("dawn", "noon", "dusk")
MOST_SAMPLES = 20
BATCH_SIZE = 5
NUM_RECORDINGS = 3
RATE_HZ = 25_000.0


class Soak:
    """Random commands, as people and the daemon give them."""

    def __init__(self, stores: Stores, folder: Path, choose: random.Random) -> None:
        self._stores = stores
        self._folder = folder
        self._choose = choose

    def commands(self) -> list[Callable[[], object]]:
        return [
            self.create,
            self.expand,
            *[self.make] * 4,
            self.validate,
            self.repair,
            self.delete,
            *[self.import_session] * 2,
            *[self.extract] * 2,
            self.validate_session,
            self.delete_session,
        ]

    def one(self) -> str:
        """Execute a command; one that is refused is as good as one that is done."""
        command = self._choose.choice(self.commands())
        try:
            command()
        except HeimdallError as error:
            return f"{command.__name__}: {type(error).__name__}"
        return command.__name__

    def create(self) -> None:
        name = self._choose.choice(NAMES)
        add(self._stores, name, self._choose.randint(1, MOST_SAMPLES), batch_size=BATCH_SIZE)

    def expand(self) -> None:
        dataset = get_dataset(self._stores.database, self._choose.choice(NAMES))
        raise_target(self._stores.database, dataset, self._choose.randint(1, MOST_SAMPLES))

    def make(self) -> None:
        name = self._choose.choice(NAMES)
        dataset = get_dataset(self._stores.database, name)
        missing = dataset.grid.missing(list_batches(self._stores.database, dataset.id)) or dataset.grid.all()
        with Workers(1) as workers:
            make_batch(self._stores, name, self._choose.choice(missing).batch_no, workers)

    def validate(self) -> None:
        validate_dataset(self._stores, self._choose.choice(NAMES))

    def repair(self) -> None:
        with Workers(1) as workers:
            repair_dataset(self._stores, self._choose.choice(NAMES), workers)

    def delete(self) -> None:
        if self._choose.random() < 0.3:
            delete_dataset(self._stores, self._choose.choice(NAMES))

    def import_session(self) -> None:
        number = self._choose.randrange(NUM_RECORDINGS)
        files = [ImportFile(path, rx_id=path.stem) for path in sorted((self._folder / str(number)).glob("*.npy"))]
        import_files(self._stores, files, **npy_options(sample_rate_hz=RATE_HZ))

    def extract(self) -> None:
        extract_session(self._stores, self._session(), quiet)

    def validate_session(self) -> None:
        validate_session(self._stores, self._session())

    def delete_session(self) -> None:
        if self._choose.random() < 0.3:
            delete_session(self._stores, self._session(), lambda _key: None, quiet)

    def _session(self) -> str:
        sessions = list_sessions(self._stores.database)
        return self._choose.choice([session.slug for session in sessions] or ["no-session"])


def write_recordings(folder: Path) -> None:
    """Files of a few sessions of two stations and one second."""
    for number in range(NUM_RECORDINGS):
        (folder / str(number)).mkdir()
        for station, rx_id in enumerate(("torino", "genova")):
            np.save(folder / str(number) / f"{rx_id}.npy", noise(int(RATE_HZ), key=10 * number + station))


def dataset_names(stores: Stores) -> list[str]:
    """Datasets that are not being deleted."""
    return [one.name for one in list_datasets(stores.database) if one.deletion_began_at is None]


def work(settings: Settings, folder: Path, seed: str, log: Path) -> None:
    """Execute commands until killed; an error that is no refusal ends the process, and is the last line of its log."""
    with open_stores(settings) as stores, log.open("a") as lines:
        soak = Soak(stores, folder, random.Random(seed))
        while True:
            try:
                said = {"done": soak.one()}
            except BaseException:
                said = {"error": traceback.format_exc()}
            print(json.dumps(said), file=lines, flush=True)
            if "error" in said:
                return
