"""A dataset and a session that edits are done to, put back after each: rows from copies, objects from memory."""

import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from heimdall_pipelines.datasets.checks import check_dataset
from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.model.checks import CheckOutcome
from heimdall_pipelines.sessions.checks import check_session
from heimdall_pipelines.sessions.extraction import extract_session
from heimdall_pipelines.settings import Settings
from heimdall_pipelines.store.iq_objects import sample_iq_key, session_iq_location, sidecar_key
from heimdall_pipelines.store.objects import ObjectLocation
from heimdall_pipelines.store.positions import replace_positions
from heimdall_pipelines.store.session_revisions import SessionRevision
from heimdall_pipelines.store.sessions import get_session
from heimdall_pipelines.store.stores import Stores, open_stores
from heimdall_pipelines_tests.datasets.support import database_of_module, empty, execute, query
from heimdall_pipelines_tests.integrity import NAME, RX_IDS, Night
from heimdall_pipelines_tests.sessions.support import import_files, quiet, unlocated_rows

STATIONS = ("genova", "milano-baggio", "torino")  # of the session, by rx_id
SOURCE = "DCF77"
# Where no edit is expected to be found: Alembic's own table, and what other tests are about.
WITHOUT = ("schema_version", "changes", "alerts", "alert_deliveries", "station_checks")
SEED = 1  # for the choice of the samples that a check regenerates


@dataclass(frozen=True)
class Edit:
    """What somebody does to rows or objects, and which checks must find it, and no other.

    ``named`` is a regular expression that an example of these checks must match. ``repaired`` describes what
    ``dataset repair --apply`` does about an edit of a dataset, which is then as before; None: it is left to a person.
    """

    title: str
    do: Callable[["Place"], object]
    found_by: str
    named: str
    repaired: str | None = None
    only_with_checksums: bool = False


class Place:
    """The dataset ``night`` of 12 samples, a session of three stations that is extracted, and a copy of everything."""

    def __init__(self, stores: Stores, recordings: list[Path]) -> None:
        self.stores = stores
        self.night = Night(stores)
        self.dataset_id = self.night.dataset.id
        self.session_id: UUID = import_files(stores, recordings, known_source=SOURCE).session_id
        extract_session(stores, self.session_id, quiet)
        # Rows without a position: the session's source is not the one that is stated here.
        session = get_session(stores.database, self.session_id)
        replace_positions(
            stores.database, SessionRevision(session.id, session.slug, session.revision), unlocated_rows(3)
        )
        self._tables = [
            row["name"]
            for row in query(
                stores,
                "SELECT tablename AS name FROM pg_tables WHERE schemaname = 'heimdall'"
                " AND NOT tablename = ANY(:without) ORDER BY tablename",
                without=list(WITHOUT),
            )
        ]
        self._objects: dict[ObjectLocation, bytes] = {}
        self.keep()

    def keep(self) -> None:
        """Copy everything, to be put back by `put_back`."""
        execute(self.stores, "DROP SCHEMA IF EXISTS kept CASCADE; CREATE SCHEMA kept")
        for table in self._tables:
            execute(self.stores, f"CREATE TABLE kept.{table} AS TABLE heimdall.{table}")
        self._entries = self._listed()
        self._objects = {location: self.read(location) for location in self._entries}

    def put_back(self) -> None:
        """Undo what was done since, whatever it was."""
        statements = ["SET LOCAL session_replication_role = replica"]  # no triggers, no foreign keys
        for table in self._tables:
            statements.append(f"DELETE FROM heimdall.{table}")
            statements.append(f"INSERT INTO heimdall.{table} SELECT * FROM kept.{table}")
        execute(self.stores, ";".join(statements))
        now = self._listed()
        for location in now.keys() - self._entries.keys():
            self.delete(location)
        for location, entry in self._entries.items():
            if now.get(location) != entry:
                self.put(location, self._objects[location])

    def sql(self, statement: str, **values: object) -> None:
        """Run a statement in which ``:id`` is the dataset's and ``:session`` the session's."""
        names = {"id": self.dataset_id, "session": self.session_id}
        execute(
            self.stores,
            statement,
            **{name: value for name, value in names.items() if f":{name}" in statement},
            **values,
        )

    def iq(self, sample_idx: int, receiver: int = 0, *, sidecar: bool = False) -> ObjectLocation:
        """Object of a sample."""
        key = sample_iq_key(self.dataset_id, sample_idx, RX_IDS[receiver])
        return ObjectLocation(self.stores.objects.synthetic_iq_bucket, sidecar_key(key) if sidecar else key)

    def recording(self, rx_id: str, *, sidecar: bool = False) -> ObjectLocation:
        """Object of a station of the session."""
        location = session_iq_location(self.stores.objects, self.session_id, rx_id)
        return ObjectLocation(location.bucket, sidecar_key(location.key)) if sidecar else location

    def read(self, location: ObjectLocation) -> bytes:
        return self.stores.objects.read(location, 0, self.stores.objects.size_bytes(location))

    def put(self, location: ObjectLocation, content: bytes) -> None:
        self.stores.objects.put(location, io.BytesIO(content), len(content), "application/any")

    def delete(self, location: ObjectLocation) -> None:
        self.stores.objects.remove_keys(location.bucket, [location.key])

    def change(self, location: ObjectLocation, change: Callable[[bytes], bytes]) -> None:
        """Replace the bytes of an object."""
        before = self.read(location)
        after = change(before)
        assert after != before
        self.put(location, after)

    def describe_otherwise(self, location: ObjectLocation, change: Callable[[dict], object]) -> None:
        """Edit the JSON of a sidecar."""

        def edited(content: bytes) -> bytes:
            document = json.loads(content)
            change(document)
            return json.dumps(document, indent=2).encode()

        self.change(location, edited)

    def exchange(self, one: ObjectLocation, other: ObjectLocation) -> None:
        """Exchange the bytes of two objects."""
        ours, theirs = self.read(one), self.read(other)
        assert ours != theirs
        self.put(one, theirs)
        self.put(other, ours)

    def name(self) -> str:
        """The dataset's name as it is now."""
        rows = query(self.stores, "SELECT name FROM heimdall.synthetic_datasets WHERE id = :id", id=self.dataset_id)
        return str(rows[0]["name"]) if rows else NAME

    def found_in_dataset(self, *, checksums: bool = False) -> dict[str, list[str]]:
        """Examples of the failed checks of the dataset; an error counts as a check of that name."""
        look = lambda: check_dataset(self.stores, self.name(), checksums=checksums, seed=SEED)  # noqa: E731
        return _failed(lambda: look().outcomes.values())

    def found_in_session(self, *, checksums: bool = False) -> dict[str, list[str]]:
        """Examples of the failed checks of the session."""
        return _failed(lambda: check_session(self.stores, self.session_id, checksums=checksums).outcomes)

    def found(self, *, checksums: bool = False) -> dict[str, list[str]]:
        """Examples of all failed checks."""
        of_dataset, of_session = (look(checksums=checksums) for look in (self.found_in_dataset, self.found_in_session))
        names = [*of_dataset, *(name for name in of_session if name not in of_dataset)]
        return {name: of_dataset.get(name, []) + of_session.get(name, []) for name in names}

    def rows(self) -> dict[str, list[str]]:
        """Every row of every table, but columns of times of writing and of health."""
        volatile = [
            "created_at",
            "committed_at",
            "health_status",
            "last_validated_at",
            "validation_issues",
            "storage_size_bytes",
        ]
        return {
            table: sorted(
                str(row["columns"])
                for row in query(
                    self.stores,
                    f"SELECT (to_jsonb(t) - CAST(:w AS text[]))::text AS columns FROM heimdall.{table} t",
                    w=volatile,
                )
            )
            for table in self._tables
        }

    def objects(self) -> dict[ObjectLocation, tuple[int, str]]:
        """Size and ETag of each object."""
        return self._listed()

    def _listed(self) -> dict[ObjectLocation, tuple[int, str]]:
        objects = self.stores.objects
        return {
            ObjectLocation(bucket, entry.key): (entry.size_bytes, entry.etag)
            for bucket in (objects.raw_iq_bucket, objects.synthetic_iq_bucket)
            for entry in objects.entries(bucket, "")
        }


def _failed(check: Callable[[], object]) -> dict[str, list[str]]:
    try:
        outcomes: list[CheckOutcome] = list(check())
    except HeimdallError as error:
        return {type(error).__name__: [str(error)]}
    return {outcome.name: outcome.examples for outcome in outcomes if not outcome.passed}


@contextmanager
def place_of_module(server_settings: Settings, recordings: list[Path]) -> Iterator[tuple[Settings, Place]]:
    """Make dataset and session once for the tests of a module."""
    with database_of_module(server_settings) as settings, open_stores(settings) as stores:
        _clear(settings, stores)
        yield settings, Place(stores, recordings)
        _clear(settings, stores)


def _clear(settings: Settings, stores: Stores) -> None:
    execute(stores, "DELETE FROM heimdall.recording_sessions")
    stores.objects.remove(stores.objects.raw_iq_bucket, "")
    empty(settings)
