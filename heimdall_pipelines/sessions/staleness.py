"""Checks whether a session's features were computed from its present inputs."""

from heimdall_pipelines.model.checks import CheckOutcome
from heimdall_pipelines.model.feature_inputs import FeatureInputs
from heimdall_pipelines.store.session_features import StoredSessionRow
from heimdall_pipelines.store.session_inputs import StoredExtraction


class CurrencyCheck:
    """The check `features_are_current`, called for each row in the order of segments.

    Parameters
    ----------
    outcome : CheckOutcome
        Added to.
    stored : StoredExtraction or None
        The record of the session's last extraction.
    present : FeatureInputs
        What an extraction would read now.
    """

    def __init__(self, outcome: CheckOutcome, stored: StoredExtraction | None, present: FeatureInputs) -> None:
        self._outcome = outcome
        self._stored = stored
        self._present = present
        self._reported: set[str] = set()

    def check(self, row: StoredSessionRow) -> None:
        """Compare a row with the record of its extraction: digest of the inputs, and the positions in the row."""
        self._outcome.count("rows")
        self._outcome.count("rows_of_older_features", int(row.feature_version < self._present.feature_version))
        stored = self._stored
        if stored is None or row.unreadable is not None:
            return
        recorded = row.extraction_metadata.inputs_sha256
        if recorded != stored.inputs_sha256 and (recorded is not None or stored.extracted_at is not None):
            self._outcome.problem(
                f"segment {row.segment_idx}: it was extracted from other inputs than the recorded ones"
            )
        if row.session_revision != stored.session_revision:
            self._outcome.problem(
                f"segment {row.segment_idx}: it is of revision {row.session_revision}, the recorded inputs are of "
                f"{stored.session_revision}"
            )
        for receiver in row.receivers:
            self._position(receiver.rx_id, (receiver.rx_lat, receiver.rx_lon, receiver.rx_alt_m))

    def end(self) -> None:
        """Compare the recorded inputs with the present ones, after the last row."""
        stored = self._stored
        if stored is None:
            if self._outcome.numbers.get("rows"):
                self._outcome.problem("there is no record of what the features were computed from")
            return
        if stored.inputs.sha256 != stored.inputs_sha256:
            self._outcome.problem("the recorded inputs do not have their digest: session_extractions was edited")
        for change in stored.inputs.changes(self._present):
            if not change.startswith("feature_version "):  # counted: features of an older version stay valid
                self._outcome.problem(f"changed since the extraction: {change}")

    def _position(self, rx_id: str, position: tuple[float, float, float]) -> None:
        """Compare a receiver's position in a row with the recorded one; reported once for each position."""
        assert self._stored is not None
        recorded = self._stored.inputs.position(rx_id)
        key = f"{rx_id} {position}"
        if recorded is None or recorded == position or key in self._reported:
            return
        self._reported.add(key)
        self._outcome.problem(f"changed since the extraction: {rx_id}: position {position} -> {recorded}")
