"""Tools for learning open an export: datasets, pandas, DuckDB, polars and mlcroissant."""

import json

import pyarrow.parquet as pq
import pytest

from heimdall_pipelines_tests.datasets.support import SEVEN


def test_pandas_reads_every_table(exported):
    pandas = pytest.importorskip("pandas")
    samples = pandas.read_parquet(exported.folder / "samples.parquet")
    links = pandas.read_parquet(exported.folder / "links.parquet")
    assert len(samples.merge(links, on="sample_idx")) == 12 * 7
    assert set(links.rx_id) == {site.rx_id for site in SEVEN}
    assert samples.split_region.isin(["train", "validation", "test", "none"]).all()


def test_duckdb_joins_the_tables(exported):
    duckdb = pytest.importorskip("duckdb")
    query = (
        f"SELECT count(*), count(DISTINCT sample_idx) FROM '{exported.folder}/samples.parquet'"
        f" JOIN '{exported.folder}/links.parquet' USING (sample_idx)"
    )
    assert duckdb.sql(query).fetchall() == [(84, 12)]
    keys = f"SELECT decode(value) FROM parquet_kv_metadata('{exported.folder}/links.parquet') WHERE key = 'columns'"
    columns = {one["name"]: one for one in json.loads(duckdb.sql(keys).fetchall()[0][0])}
    assert columns["snr_db"]["unit"] == "dB"


def test_polars_reads_every_table(exported):
    polars = pytest.importorskip("polars")
    links = polars.scan_parquet(exported.folder / "links.parquet").filter(polars.col("signal_present")).collect()
    expected = sum(pq.read_table(exported.folder / "links.parquet")["signal_present"].to_pylist())
    assert len(links) == expected > 0


def test_datasets_loads_the_folder(exported, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    samples = datasets.load_dataset(str(exported.folder), cache_dir=str(tmp_path))["train"]
    assert samples["sample_idx"] == list(range(12))
    links = datasets.load_dataset(str(exported.folder), "links", cache_dir=str(tmp_path))["train"]
    assert len(links) == 84
    assert links.features["flags"].feature.dtype == "string"


def test_croissant_is_valid_without_errors_or_warnings_and_gives_records(exported):
    mlcroissant = pytest.importorskip("mlcroissant")
    dataset = mlcroissant.Dataset(jsonld=str(exported.folder / "croissant.json"))
    issues = dataset.metadata.ctx.issues
    assert not issues.errors, issues.errors
    assert not issues.warnings, issues.warnings
    records = list(dataset.records("samples"))
    assert [record["samples/sample_idx"] for record in records] == list(range(12))
    first_link = next(iter(dataset.records("links")))
    assert first_link["links/rx_id"] in (b"aquila-di-giaveno", "aquila-di-giaveno")


def test_croissant_has_the_checksums_of_the_files(exported):
    document = json.loads((exported.folder / "croissant.json").read_text())
    sums = dict(line.split("  ")[::-1] for line in (exported.folder / "SHA256SUMS").read_text().splitlines())
    for file in document["distribution"]:
        assert file["sha256"] == sums[file["@id"]]
    assert {key for key in document if key.startswith("rai:")} >= {
        "rai:dataCollection", "rai:dataLimitations", "rai:dataBiases", "rai:dataUseCases",
        "rai:personalSensitiveInformation", "rai:dataSocialImpact",
    }  # fmt: skip


def test_the_card_says_how_to_make_the_samples_again(exported):
    card = (exported.folder / "README.md").read_text()
    assert exported.release.root.hex() in card
    for text in (
        "license: cc-by-4.0",
        "## Known limits",
        "## Splits",
        "## Citation",
        "seed 20260101",
        '"tx_power_dbm"',
    ):
        assert text in card
