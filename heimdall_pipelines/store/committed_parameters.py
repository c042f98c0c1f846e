"""Parameters that a dataset was created with: their digest, copies of them, and how the row differs from these."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.model.receiver_sites import sites_from_json
from heimdall_pipelines.store.changes import changing
from heimdall_pipelines.store.digests import as_stored, digest_of
from heimdall_pipelines.store.sql import text

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from heimdall_pipelines.store.database import Database
    from heimdall_pipelines.store.datasets import Dataset

PARAMETERS = ("id", "name", "dataset_type", "spec", "receivers", "seed", "generator_version", "terrain_tiles")
_JSON_PARAMETERS = frozenset({"spec", "receivers", "terrain_tiles"})
_OF_DATASET = "id = :dataset_id"


class ParametersEditedError(HeimdallError):
    """The parameters of a dataset are not those that it was created with, so that it would get other samples."""


@dataclass(frozen=True)
class CommittedParameters:
    """A copy of a dataset's parameters whose content matches its digest.

    Attributes
    ----------
    values : dict
        By column, those of `PARAMETERS`; ids as text.
    """

    values: dict[str, Any]

    def differences(self, row: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        """Columns in which a dataset's row differs from the copy: its value now, and the committed one."""
        pairs = {name: (_as_json(row[name]), self.values.get(name)) for name in PARAMETERS}
        return {name: (now, committed) for name, (now, committed) in pairs.items() if _text(now) != _text(committed)}

    def of(self, dataset: Dataset) -> Dataset:
        """A dataset with these parameters instead of those in its row, its name and id as they are."""
        return replace(
            dataset,
            dataset_type=self.values["dataset_type"],
            spec_json=self.values["spec"],
            receivers=sites_from_json(self.values["receivers"]),
            seed=self.values["seed"],
            generator_version=self.values["generator_version"],
            terrain_tiles=tuple(self.values["terrain_tiles"]),
        )


def keep_parameters(connection: Connection, dataset_id: UUID) -> None:
    """Write a dataset's parameters digest from its row as it is, and a copy of the parameters under it."""
    row = _parameters(connection, dataset_id)
    digest = digest_of(PARAMETERS, "synthetic_datasets", row)
    connection.execute(
        text(
            "INSERT INTO heimdall.dataset_parameters (dataset_id, digest, parameters)"
            " VALUES (:dataset_id, :digest, CAST(:parameters AS jsonb)) ON CONFLICT DO NOTHING"
        ),
        {
            "dataset_id": dataset_id,
            "digest": digest,
            "parameters": json.dumps({name: _as_json(row[name]) for name in PARAMETERS}),
        },
    )
    connection.execute(
        text(f"UPDATE heimdall.synthetic_datasets SET parameters_digest = :digest WHERE {_OF_DATASET}"),
        {"dataset_id": dataset_id, "digest": digest},
    )


@dataclass(frozen=True)
class ParametersState:
    """A dataset's parameters against their digest.

    Attributes
    ----------
    digest : bytes or None
        The digest that is believed; None where neither dataset nor batches have one.
    edited : dict of str to (object, object)
        Column: value in the row now, committed value. Empty where the row is as it was created, or there is no copy.
    committed : CommittedParameters or None
        None where no intact copy exists.
    problems : tuple of str
        In words; empty where all is as it was created.
    are_as_created : bool
        Whether the row has the digest that is believed; digests or copies of others may have been edited.
    num_copies : int
        Copies of parameters, intact or not.
    damaged_copies : tuple of bytes
        Digests of the copies whose content was edited.
    """

    digest: bytes | None
    edited: dict[str, tuple[Any, Any]]
    committed: CommittedParameters | None
    problems: tuple[str, ...]
    are_as_created: bool
    num_copies: int
    damaged_copies: tuple[bytes, ...]


def parameters_state(connection: Connection, dataset_id: UUID) -> ParametersState:
    """Compare a dataset's parameters with the digests and copies that the dataset and its batches carry."""
    row = _parameters(connection, dataset_id)
    now = digest_of(PARAMETERS, "synthetic_datasets", row)
    of_dataset = None if row["parameters_digest"] is None else bytes(row["parameters_digest"])
    of_batches = _digests_of_batches(connection, dataset_id)
    copies = {
        bytes(copy.digest): copy.parameters
        for copy in connection.execute(
            text("SELECT digest, parameters FROM heimdall.dataset_parameters WHERE dataset_id = :dataset_id"),
            {"dataset_id": dataset_id},
        )
    }
    intact = {
        digest: CommittedParameters(values)
        for digest, values in copies.items()
        if isinstance(values, dict) and digest_of(PARAMETERS, "synthetic_datasets", values) == digest
    }
    problems = [
        f"the copy of the parameters with digest {digest.hex()[:12]} was edited" for digest in copies.keys() - intact
    ]
    believed = _believed(of_dataset, of_batches, intact, now)
    committed = intact.get(believed) if believed else None
    edited: dict[str, tuple[Any, Any]] = {}
    if believed is None:
        problems.append("the dataset has no digest of its parameters: it was not created by heimdall")
    elif now != believed:
        edited = committed.differences(row) if committed else {}
        problems += [
            f"{where} is {_short(ours)}, the dataset was created with {_short(theirs)}"
            for name, pair in edited.items()
            for where, ours, theirs in _edited_values(name, *pair)
        ] or ["the parameters are not those that the dataset was created with, and no copy of these exists"]
    elif committed is None:
        problems.append(f"the copy of the parameters with digest {believed.hex()[:12]} is missing")
    if believed is not None:
        if of_dataset != believed:
            problems.append("parameters_digest of the dataset was edited")
        problems += [
            f"parameters_digest of {num} batches from batch {first} on is not that of the dataset"
            for digest, (first, num) in of_batches.items()
            if digest != believed
        ]
    damaged = tuple(copies.keys() - intact)
    return ParametersState(believed, edited, committed, tuple(problems), now == believed, len(copies), damaged)


def require_parameters_as_created(database: Database, dataset: Dataset) -> None:
    """Refuse to make samples from edited parameters.

    Raises
    ------
    ParametersEditedError
        The message has each difference, and what to do.
    """
    with database.transaction() as connection:
        state = parameters_state(connection, dataset.id)
    if state.problems:
        raise ParametersEditedError(
            f"dataset {dataset.name}: nothing is generated from parameters that were edited:\n"
            + "\n".join(f"  {problem}" for problem in state.problems)
            + f"\nTo restore them: heimdall dataset repair {dataset.name} --restore-parameters --apply\n"
            "To take the present ones, and replace every sample: "
            f"heimdall dataset repair {dataset.name} --overwrite {dataset.name} --apply"
        )


def restore_parameters(database: Database, dataset: Dataset, *, reason: str) -> dict[str, tuple[Any, Any]]:
    """Write the committed parameters back into a dataset's row, from the copy that its digest names.

    Returns
    -------
    dict
        The restored columns with their values before and after; empty where nothing was edited.

    Raises
    ------
    ParametersEditedError
        There is no intact copy.
    """
    with database.transaction() as connection:
        state = parameters_state(connection, dataset.id)
        if state.committed is None:
            raise ParametersEditedError(
                f"dataset {dataset.name}: there is no intact copy of the parameters that it was created with: take "
                "them from a release or a backup"
            )
        restored = {name: pair for name, pair in state.edited.items() if name != "id"}
        if state.problems:
            changes = ", ".join(
                [
                    "parameters_digest = :digest",
                    *(
                        f"{name} = CAST(:{name} AS jsonb)" if name in _JSON_PARAMETERS else f"{name} = :{name}"
                        for name in restored
                    ),
                ]
            )
            committed = {
                name: json.dumps(value) if name in _JSON_PARAMETERS else value for name, (_, value) in restored.items()
            }
            values = {"dataset_id": dataset.id, "digest": state.digest} | committed
            with changing(connection, "synthetic_batches", "dataset_id = :dataset_id", values, reason=reason):
                connection.execute(
                    text(
                        "UPDATE heimdall.synthetic_batches SET parameters_digest = :digest"
                        " WHERE dataset_id = :dataset_id AND parameters_digest IS DISTINCT FROM :digest"
                    ),
                    values,
                )
            with changing(connection, "synthetic_datasets", _OF_DATASET, values, reason=reason):
                connection.execute(
                    text(f"UPDATE heimdall.synthetic_datasets SET {changes} WHERE {_OF_DATASET}"), values
                )
        return restored


def _parameters(connection: Connection, dataset_id: UUID) -> dict[str, Any]:
    row = connection.execute(
        text(f"SELECT {', '.join(PARAMETERS)}, parameters_digest FROM heimdall.synthetic_datasets WHERE {_OF_DATASET}"),
        {"dataset_id": dataset_id},
    ).one()
    return dict(row._mapping)


def _digests_of_batches(connection: Connection, dataset_id: UUID) -> dict[bytes | None, tuple[int, int]]:
    """First batch, and number of batches, by the digest of parameters that they carry."""
    rows = connection.execute(
        text(
            "SELECT parameters_digest, min(batch_no) AS first, count(*) AS num FROM heimdall.synthetic_batches"
            " WHERE dataset_id = :dataset_id GROUP BY 1 ORDER BY 2"
        ),
        {"dataset_id": dataset_id},
    )
    return {row.parameters_digest and bytes(row.parameters_digest): (row.first, row.num) for row in rows}


def _believed(
    of_dataset: bytes | None, of_batches: Iterable[bytes | None], intact: Mapping[bytes, object], now: bytes
) -> bytes | None:
    """The digest to trust: that of the dataset if a copy has it or it fits the row, else that of the first batch."""
    candidates = [of_dataset, *of_batches]
    for digest in candidates:
        if digest is not None and (digest in intact or digest == now):
            return digest
    return next((digest for digest in candidates if digest is not None), None)


def _as_json(value: Any) -> Any:
    return str(value) if isinstance(value, UUID) else as_stored(value)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)  # 145 and 145.0 are equal for Python, not for a digest


def _edited_values(name: str, ours: Any, theirs: Any) -> Iterator[tuple[str, Any, Any]]:
    """Values within a column that differ: parameters of the spec, fields of a receiver."""
    if ours and isinstance(ours, dict) and isinstance(theirs, dict):
        for key in [*theirs, *(key for key in ours if key not in theirs)]:
            if key not in ours or key not in theirs or _text(ours[key]) != _text(theirs[key]):
                yield from _edited_values(f"{name} {key}", ours.get(key), theirs.get(key))
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for number, (our, their) in enumerate(zip(ours, theirs, strict=True)):
            if _text(our) != _text(their):
                yield from _edited_values(f"{name} {number}", our, their)
    elif isinstance(ours, list) and isinstance(theirs, list):
        yield f"number of {name}", len(ours), len(theirs)
    else:
        yield name, ours, theirs


def _short(value: Any) -> str:
    shown = json.dumps(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."
