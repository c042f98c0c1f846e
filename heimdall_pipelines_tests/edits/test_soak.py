"""Two processes execute random commands; they and the servers are killed at random; what they leave is never a lie.

HEIMDALL_TEST_SOAK_S is how long (ten minutes by default), HEIMDALL_TEST_SOAK_SEED repeats a run.
"""

import json
import multiprocessing
import os
import random
import time
from collections import Counter
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from heimdall_pipelines.datasets.repair import repair_dataset
from heimdall_pipelines.datasets.validation import validate_dataset
from heimdall_pipelines.datasets.workers import Workers
from heimdall_pipelines.sessions.deleting import delete_session
from heimdall_pipelines.sessions.extraction import extract_session
from heimdall_pipelines.sessions.validation import validate_session
from heimdall_pipelines.settings import load_settings
from heimdall_pipelines.store.batches import list_batches
from heimdall_pipelines.store.datasets import get_dataset
from heimdall_pipelines.store.migrate import migrate
from heimdall_pipelines.store.objects import ObjectLocation
from heimdall_pipelines.store.stores import open_stores
from heimdall_pipelines_tests.datasets.support import make, query
from heimdall_pipelines_tests.edits import soaking
from heimdall_pipelines_tests.edits.soaking import dataset_names, write_recordings
from heimdall_pipelines_tests.own_servers import OwnServers
from heimdall_pipelines_tests.sessions.support import quiet
from heimdall_pipelines_tests.waiting import wait_for

DURATION_S = float(os.environ.get("HEIMDALL_TEST_SOAK_S", "600"))
SEED = os.environ.get("HEIMDALL_TEST_SOAK_SEED") or str(random.SystemRandom().randrange(10**9))
STORM_S = 12.0
NUM_PROCESSES = 2
SERVER_SHARE = 0.15  # of the kills

# It has all modules imported before the first child is asked for: a child starts in a tenth of a second.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["heimdall_pipelines_tests.edits.soaking"])


class Storm:
    """Processes that execute random commands; each is killed now and then, and replaced, and so are the servers."""

    def __init__(self, servers: OwnServers, folder: Path, choose: random.Random) -> None:
        self._servers = servers
        self._settings = load_settings()
        self._folder = folder
        self._choose = choose
        self._logs: dict[BaseProcess, Path] = {}
        self.num_killed: Counter[str] = Counter()
        self.done: list[str] = []

    def rage(self, duration_s: float) -> None:
        """Let them work for some time, killing one every second or so; at the end all are killed."""
        processes = [self._start() for _ in range(NUM_PROCESSES)]
        ends = time.monotonic() + duration_s
        try:
            while time.monotonic() < ends:
                which = self._choose.randrange(NUM_PROCESSES)
                log = self._logs[processes[which]]
                wait_for("a first command", lambda log=log: log.exists() and log.stat().st_size)
                time.sleep(self._choose.uniform(0.1, 2.0))  # any moment of its work
                if self._choose.random() < SERVER_SHARE:
                    self._restart_a_server()
                else:
                    self._end(processes[which])
                    processes[which] = self._start()
        finally:
            for process in processes:
                self._end(process)

    def _restart_a_server(self) -> None:
        """Kill a server as kill -9 does; what the processes do meanwhile is refused."""
        name, kill = self._choose.choice(
            [("PostgreSQL", self._servers.kill_postgres), ("S3 server", self._servers.kill_s3)]
        )
        kill()
        self.num_killed[name] += 1
        time.sleep(self._choose.uniform(0.0, 1.0))  # for how long it is away
        self._servers.start()

    def _start(self) -> BaseProcess:
        number = len(self._logs)
        log = self._folder / f"{number}.log"
        process = _CONTEXT.Process(
            target=soaking.work, args=(self._settings, self._folder, f"{SEED}-{number}", log), daemon=True
        )
        process.start()
        self._logs[process] = log
        return process

    def _end(self, process: BaseProcess) -> None:
        """Kill a process as kill -9 does, and read what it did."""
        process.kill()
        process.join()
        self.num_killed["processes"] += 1
        log = self._logs[process]
        for line in log.read_text().splitlines() if log.exists() else ():
            if not line.endswith("}"):
                continue  # killed while it wrote
            said = json.loads(line)
            assert "error" not in said, f"seed {SEED}: {said['error']}"
            self.done.append(said["done"])


@pytest.mark.slow
@pytest.mark.timeout(DURATION_S + 3600)
@pytest.mark.fault("random commands in two processes; they and the servers are killed at random")
def test_random_commands_and_kills_leave_nothing_that_disagrees(own_servers, tmp_path, fault):
    print(f"HEIMDALL_TEST_SOAK_SEED={SEED}")
    write_recordings(tmp_path)
    with open_stores(load_settings()) as stores:
        migrate(stores.database)
        storm = Storm(own_servers, tmp_path, random.Random(SEED))
        ends = time.monotonic() + DURATION_S
        while time.monotonic() < ends:
            storm.rage(min(STORM_S, max(5.0, ends - time.monotonic())))
            own_servers.start_s3_again(stored_objects(stores))
            assert_no_lie(stores)
        print(f"{len(storm.done)} commands: {dict(Counter(storm.done))}; killed: {dict(storm.num_killed)}")
        assert storm.done
        finish(stores)
    fault.record(
        detected_by="nothing to detect",
        result="after each storm rows, digests and objects agree; in the end everything is complete and healthy",
    )


def stored_objects(stores) -> list[ObjectLocation]:
    return [
        ObjectLocation(bucket, entry.key)
        for bucket in (stores.objects.synthetic_iq_bucket, stores.objects.raw_iq_bucket)
        for entry in stores.objects.entries(bucket, "")
    ]


def assert_no_lie(stores) -> None:
    """What rows say is true: counts, samples without gap, digests, and every object that a row names is there."""
    where = f"seed {SEED}"
    for batch in query(
        stores,
        "SELECT d.name, b.batch_no, b.first_sample_idx, b.num_samples, b.digest IS NULL AS has_no_digest,"
        " count(f.sample_idx) AS num, coalesce(max(f.sample_idx) + 1, b.first_sample_idx) AS after_last"
        " FROM heimdall.synthetic_batches b JOIN heimdall.synthetic_datasets d ON d.id = b.dataset_id"
        " LEFT JOIN heimdall.measurement_features f ON f.dataset_id = b.dataset_id"
        " AND f.sample_idx / 5 = b.batch_no GROUP BY d.name, b.dataset_id, b.batch_no",
    ):
        assert batch["num"] == batch["num_samples"] == batch["after_last"] - batch["first_sample_idx"], (
            f"{where}: {batch}"
        )
        assert not batch["has_no_digest"], f"{where}: {batch}"
    for dataset in query(
        stores,
        "SELECT d.name, d.num_samples, (SELECT count(*) FROM heimdall.measurement_features f WHERE f.dataset_id = d.id)"
        " AS num, (SELECT count(*) FROM heimdall.synthetic_iq_samples s WHERE s.dataset_id = d.id) AS num_iq"
        " FROM heimdall.synthetic_datasets d",
    ):
        assert dataset["num_samples"] == dataset["num"] == dataset["num_iq"], f"{where}: {dataset}"
    tables = ("measurement_features", "synthetic_iq_samples", "measurements", "synthetic_datasets")
    for table in tables:
        assert query(stores, f"SELECT count(*) AS num FROM heimdall.{table} WHERE digest IS NULL") == [{"num": 0}], (
            where
        )
    named = query(
        stores,
        "SELECT :synthetic || '/' || path.value AS key FROM heimdall.synthetic_iq_samples s"
        " JOIN heimdall.synthetic_datasets d ON d.id = s.dataset_id AND d.deletion_began_at IS NULL,"
        " jsonb_each_text(s.iq_storage_paths) AS path"
        " UNION SELECT m.iq_data_location FROM heimdall.measurements m JOIN heimdall.recording_sessions r"
        " ON r.id = m.recording_session_id AND r.deletion_began_at IS NULL",
        synthetic=stores.objects.synthetic_iq_bucket,
    )
    there = {f"{stored.bucket}/{stored.key}" for stored in stored_objects(stores)}
    keys = {str(row["key"]) for row in named}
    assert keys <= there, f"{where}: rows name objects that do not exist: {sorted(keys - there)[:5]}"
    sidecars = {key.removesuffix(".sigmf-data") + ".sigmf-meta" for key in keys}
    assert sidecars <= there, f"{where}: {sorted(sidecars - there)[:5]}"
    stale = query(
        stores,
        "SELECT r.slug FROM heimdall.measurement_features f JOIN heimdall.recording_sessions r"
        " ON r.id = f.recording_session_id LEFT JOIN heimdall.session_extractions e ON e.recording_session_id = r.id"
        " WHERE f.extraction_metadata ->> 'inputs_sha256' IS DISTINCT FROM e.inputs_sha256",
    )
    assert stale == [], f"{where}: {stale}"


def finish(stores) -> None:
    """Complete everything: datasets are made, repaired and healthy, sessions extracted and healthy."""
    for name in dataset_names(stores):
        dataset = get_dataset(stores.database, name)
        for span in dataset.grid.missing(list_batches(stores.database, dataset.id)):
            make(stores, name, span.batch_no)
        with Workers(1) as workers:
            repair_dataset(stores, name, workers, min_orphan_age=timedelta(0))
        found = validate_dataset(stores, name, checksums=True)
        assert found.health_status == "healthy", f"seed {SEED}: {found.to_json()}"
    for session in query(stores, "SELECT slug, status, deletion_began_at FROM heimdall.recording_sessions"):
        if session["status"] != "completed" or session["deletion_began_at"] is not None:
            delete_session(stores, session["slug"], lambda _key: None, quiet)
            continue
        extract_session(stores, session["slug"], quiet)
        found = validate_session(stores, session["slug"], checksums=True)
        assert found.health_status == "healthy", f"seed {SEED}: {found.to_json()}"
