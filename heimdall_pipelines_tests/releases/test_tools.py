"""Tools for learning open an export: datasets, pandas, DuckDB, polars and mlcroissant."""

import json
import subprocess
import sys

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


# In a process of its own: a handler of absl's log closes what was standard error when it was loaded.
CROISSANT = """
import json, sys
import mlcroissant
dataset = mlcroissant.Dataset(jsonld=sys.argv[1])
link = next(iter(dataset.records("links")))["links/rx_id"]
print(json.dumps({
    "errors": sorted(map(str, dataset.metadata.ctx.issues.errors)),
    "warnings": sorted(map(str, dataset.metadata.ctx.issues.warnings)),
    "samples": [int(record["samples/sample_idx"]) for record in dataset.records("samples")],
    "link": link.decode() if isinstance(link, bytes) else link,
}))
"""


def test_croissant_is_valid_without_errors_or_warnings_and_gives_records(exported):
    given = [sys.executable, "-c", CROISSANT, str(exported.folder / "croissant.json")]
    done = subprocess.run(given, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "errors": [],
        "warnings": [],
        "samples": list(range(12)),
        "link": "aquila-di-giaveno",
    }


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
