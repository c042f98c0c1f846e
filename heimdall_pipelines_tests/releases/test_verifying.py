"""Verification of exports: every change is found and named, without any server."""

import shutil

import pyarrow.parquet as pq
import pytest

from heimdall_pipelines.learning.description import ExportDescription, NotAnExportError
from heimdall_pipelines.releases.arrow_rows import MalformedRowsError
from heimdall_pipelines.releases.exporting import export_dataset
from heimdall_pipelines.releases.names import ReleaseName, ReleaseNameError, parse_release_name
from heimdall_pipelines.releases.verifying import ShareError, verify_export
from heimdall_pipelines.releases.verifying_stored import verify_release
from heimdall_pipelines.store.releases import ReleaseNotFoundError
from heimdall_pipelines_tests.datasets.support import execute
from heimdall_pipelines_tests.releases.support import NAME, change_json, change_table, flip_byte, resum


def problems(folder, share=0.0, **more):
    return "\n".join(verify_export(folder, share=share, seed=1, **more).problems)


def test_an_export_is_verified_and_all_its_samples_regenerated(exported, monkeypatch):
    monkeypatch.setattr("heimdall_pipelines.store.database.Database", None)  # no server is asked
    monkeypatch.setattr("heimdall_pipelines.store.objects.ObjectStore", None)
    found = verify_export(exported.folder, share=1.0, expected_root=exported.release.root.hex())
    assert (found.problems, found.notes) == ([], [])
    assert (found.num_samples, found.num_regenerated, found.num_files) == (12, 12, 10)


@pytest.mark.slow
def test_workers_regenerate_the_same(exported):
    found = verify_export(exported.folder, share=1.0, num_workers=2)
    assert (found.problems, found.num_regenerated) == ([], 12)


def test_one_percent_of_few_samples_is_one(exported):
    assert verify_export(exported.folder, share=0.01).num_regenerated == 1


@pytest.mark.fault("a byte of an exported file is changed")
def test_a_changed_byte_of_any_file_is_named(exported, folder, fault):
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    for name in names:
        path = folder / name
        before = path.read_bytes()
        for at in {0, len(before) // 2, len(before) - 1}:
            flip_byte(path, at)
            try:
                assert name in problems(folder)
            except NotAnExportError as error:
                assert name in str(error)  # noqa: PT017
            path.write_bytes(before)
    assert problems(folder) == ""
    fault.record(detected_by=["dataset verify"], result="each file is named")


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("samples", "tx_latitude", 45.0),
        ("samples", "gdop", 1.0),
        ("samples", "attempts", 99),
        ("links", "snr_db_max", 12.5),
        ("links", "rx_altitude_m", 1.0),
        ("links", "truth_clock_offset_ns", 0.5),
        ("links", "flags", ["x"]),
        ("links", "signal_present", None),
        ("iq", "sha256", "0" * 64),
    ],
)
def test_a_changed_value_with_new_checksums_does_not_give_the_root(folder, table, column, value):
    change_table(folder, table, column, 3, value)
    resum(folder)
    found = problems(folder)
    assert "samples 0 to 11: the rows" in found
    assert "release.json: the root is" in found


@pytest.mark.fault("rows of an export are changed, with checksums, groups and root")
def test_changed_rows_checksums_and_root_are_found_by_regeneration(folder, fault):
    value = pq.read_table(folder / "links.parquet")["snr_db"][7 * 5].as_py()
    change_table(folder, "links", "snr_db", 7 * 5, value + 0.01)
    root = verify_export(folder, share=0).root
    groups = _groups(folder)
    change_json(folder, "merkle.json", groups=groups)
    change_json(folder, "release.json", root=root)
    resum(folder)
    assert problems(folder) == ""
    found = problems(folder, share=1.0)
    assert "sample 5: features of" in found
    assert found.count("\n") == 0
    assert "is expected" in problems(folder, expected_root="0" * 64)
    fault.record(detected_by=["dataset verify"], result="the sample is named once it is regenerated")


def as_another_processor_would(folder, change):
    """Change a feature, with everything that depends on it, as if another processor had made the export."""
    value = pq.read_table(folder / "links.parquet")["snr_db"][7 * 5].as_py()
    change_table(folder, "links", "snr_db", 7 * 5, value * (1 + change))
    change_json(folder, "merkle.json", groups=_groups(folder))
    change_json(folder, "release.json", root=verify_export(folder, share=0).root)
    resum(folder)


def test_last_digits_of_features_change_the_root_and_not_that_of_truth(folder, exported):
    published = ExportDescription.read(exported.folder)
    as_another_processor_would(folder, 1e-6)
    found = verify_export(folder, share=1.0, expected_root=published.truth_root)
    assert found.problems == []
    assert (found.truth_root, found.num_regenerated) == (published.truth_root, 12)
    assert found.root != published.root
    assert "features were compared where regenerated" in found.notes[0]
    assert "is expected" in problems(folder, expected_root=published.root)


def test_more_than_last_digits_are_found_under_the_root_of_truth(folder, exported):
    as_another_processor_would(folder, 1e-3)
    found = problems(folder, share=1.0, expected_root=ExportDescription.read(exported.folder).truth_root)
    assert "sample 5: features of" in found


@pytest.mark.parametrize(
    ("table", "column"), [("samples", "tx_latitude"), ("links", "truth_delay_s"), ("iq", "sha256")]
)
def test_a_changed_truth_changes_the_root_of_truth(folder, table, column):
    before = ExportDescription.read(folder).truth_root
    value = pq.read_table(folder / f"{table}.parquet")[column][3].as_py()
    change_table(folder, table, column, 3, "0" * 64 if table == "iq" else value * (1 + 1e-4))
    resum(folder)
    assert verify_export(folder, share=0).truth_root != before
    assert "release.json: the root of truth is" in problems(folder)


def test_last_digits_of_a_truth_do_not_change_its_root(folder):
    before = ExportDescription.read(folder).truth_root
    value = pq.read_table(folder / "samples.parquet")["tx_latitude"][3].as_py()
    change_table(folder, "samples", "tx_latitude", 3, value * (1 + 1e-15))
    assert verify_export(folder, share=0).truth_root == before


def _groups(folder):
    from heimdall_pipelines.releases.merkle import group_hashes
    from heimdall_pipelines.releases.reading import groups_of_export

    groups = groups_of_export(folder, has_differences=_has_differences(folder))
    return [found.hex() for found in group_hashes(leaf for group in groups for leaf in group.leaves())]


def _has_differences(folder):
    return ExportDescription.read(folder).has_time_differences


def test_another_seed_in_the_card_is_found(folder):
    change_json(folder, "release.json", seed=7)
    resum(folder)
    found = problems(folder, share=0.1)
    assert "parameters or seed in release.json give" in found
    assert "its truth is not what the seed gives" in found


def test_changed_iq_with_new_checksums_is_named(folder):
    flip_byte(folder / "iq/iq-00000.tar", 2000)
    resum(folder)
    assert "iq/iq-00000.tar: 0000000.aquila-di-giaveno.npy was changed" in problems(folder)


def test_missing_truncated_and_added_files_are_named(folder):
    (folder / "README.md").unlink()
    with (folder / "links.parquet").open("r+b") as file:
        file.truncate(100)
    (folder / "iq" / "more.tar").write_bytes(b"x")
    found = problems(folder)
    assert "README.md: is missing" in found
    assert "links.parquet: was changed" in found
    assert "iq/more.tar: is not part of the export" in found


def test_lost_samples_are_named(folder):
    for table in ("samples", "links"):
        read = pq.read_table(folder / f"{table}.parquet")
        pq.write_table(
            read.filter([index != 4 for index in read["sample_idx"].to_pylist()]), folder / f"{table}.parquet"
        )
    resum(folder)
    assert "samples.parquet: samples are missing or doubled between 0 and 10" in problems(folder)


def test_a_folder_that_is_no_export_is_refused(tmp_path, folder):
    (tmp_path / "file").touch()
    for path, why in (
        (tmp_path, r"is not an export of heimdall: it has no release\.json"),
        (tmp_path / "nothing", "nothing does not exist"),
        (tmp_path / "file", "file is no folder"),
    ):
        with pytest.raises(NotAnExportError, match=why):
            verify_export(path)
    (folder / "SHA256SUMS").unlink()
    with pytest.raises(NotAnExportError, match="is not a complete export: SHA256SUMS is missing"):
        verify_export(folder)


def test_sums_that_lead_outside_the_folder_are_refused(folder):
    (folder / "SHA256SUMS").write_text(f"{'0' * 64}  ../secret\n")
    with pytest.raises(NotAnExportError, match="line 1 is malformed"):
        verify_export(folder)


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_an_impossible_share_is_refused(folder, share):
    with pytest.raises(ShareError):
        verify_export(folder, share=share)


def test_a_sample_over_terrain_that_is_not_there_is_not_regenerated(folder):
    change_json(folder, "release.json", terrain_tiles=["0" * 64])
    found = verify_export(folder, share=1.0)
    assert found.num_regenerated == 0
    assert "no sample was regenerated" in found.notes[0]
    assert "0" * 12 in found.notes[0]


def test_another_generator_version_is_said(folder):
    change_json(folder, "release.json", generator_version=1)
    assert "made by generator version 1" in verify_export(folder, share=1.0).notes[0]


def test_a_release_in_the_database_is_verified(exported):
    found = verify_release(exported.stores, ReleaseName(NAME, 1), share=1.0)
    assert (found.problems, found.num_regenerated, found.root) == ([], 12, exported.release.root.hex())


@pytest.mark.parametrize(
    ("edit", "undo"),
    [
        (
            "truth = jsonb_set(truth, '{tx_latitude}', '45')",
            "truth = jsonb_set(truth, '{tx_latitude}', to_jsonb(tx_latitude))",
        ),
        (
            """extraction_metadata = extraction_metadata || '{"notes": []}'""",
            "extraction_metadata = extraction_metadata - 'notes'",
        ),
    ],
)
def test_an_edit_that_no_exported_column_shows_is_found(exported, tmp_path, edit, undo):
    update = "UPDATE heimdall.measurement_features SET {} WHERE sample_idx = 3"
    execute(exported.stores, update.format(edit))
    try:
        found = verify_release(exported.stores, ReleaseName(NAME, 1), share=0.0)
        with pytest.raises(MalformedRowsError, match="sample 3 cannot be exported"):
            export_dataset(exported.stores, f"{NAME}@1", tmp_path / "export")
    finally:
        execute(exported.stores, update.format(undo))
    assert "sample 3 cannot be exported" in found.problems[0]
    assert "not as committed" in found.problems[1]
    assert verify_release(exported.stores, ReleaseName(NAME, 1), share=0.0).passed


@pytest.mark.fault("a row of a release is edited with SQL")
def test_an_edited_row_of_a_release_is_named(exported, fault):
    stores = exported.stores
    edit = "UPDATE heimdall.measurement_features SET gdop = gdop {} 1 WHERE sample_idx = 3"
    execute(stores, edit.format("+"))
    found = verify_release(stores, ReleaseName(NAME, 1), share=0.0)
    execute(stores, edit.format("-"))
    assert found.problems[0] == "samples 0 to 11: the rows are not those of the root"
    assert found.problems[1] == "sample 3: gdop is not as committed"
    fault.record(detected_by=["dataset verify"], result="sample and column are named")


def test_an_unknown_version_names_those_that_exist(exported):
    with pytest.raises(ReleaseNotFoundError, match="no release 7: it has night@1"):
        verify_release(exported.stores, ReleaseName(NAME, 7))


@pytest.mark.parametrize("text", ["night@", "night@0", "night@x", "@1", "night@1@2"])
def test_a_malformed_name_of_a_release_is_refused(text):
    with pytest.raises(ReleaseNameError):
        parse_release_name(text)


def test_exports_can_be_moved(exported, tmp_path):
    assert verify_export(shutil.copytree(exported.folder, tmp_path / "elsewhere"), share=0).passed
