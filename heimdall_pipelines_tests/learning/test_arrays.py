"""Samples as arrays: masks of absent receivers, local frames and the way back, the models' form."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

from heimdall_pipelines.learning.arrays import MODEL_FEATURES, load_arrays, model_inputs
from heimdall_pipelines.learning.description import NotAnExportError
from heimdall_pipelines.learning.folder import ExportFolder, UnknownPartError
from heimdall_pipelines.learning.frames import LocalFrame
from heimdall_pipelines.learning.time_differences import load_pairs
from heimdall_pipelines.learning.torch_data import FeatureDataset, IqDataset, PairDataset, stack
from heimdall_pipelines.rf.geodesy import distance_m
from heimdall_pipelines_tests.learning.made_exports import RECEIVERS, written_export

FEATURES = ("snr_db", "psd_dbm_per_hz", "frequency_offset_hz")


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    return written_export(tmp_path_factory.mktemp("made") / "export", iq=True)


@pytest.mark.long
def test_loading_needs_neither_dagster_nor_servers():
    code = (
        "import sys, importlib, pkgutil, heimdall_pipelines.learning as room\n"
        "for one in pkgutil.iter_modules(room.__path__): importlib.import_module(f'{room.__name__}.{one.name}')\n"
        "bad = {'dagster', 'psycopg2', 'minio', 'sqlalchemy', 'torch', 'sklearn'}\n"
        "bad &= {name.split('.')[0] for name in sys.modules}\n"
        "print(sorted(bad))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n"


def test_arrays_have_masks_and_units(export):
    arrays = load_arrays(export, FEATURES)
    assert arrays.features.shape == (200, 5, 3)
    assert arrays.features.dtype == np.float32
    assert arrays.mask.all()
    assert arrays.detected[0].all()
    assert not arrays.detected[1, -1]
    assert np.isnan(arrays.features[1, -1, 0])
    assert list(arrays.rx_ids[0]) == list(RECEIVERS)


def test_parts_of_a_split_are_disjoint_and_in_one_frame(export):
    parts = [load_arrays(export, FEATURES, split="region", part=part) for part in ("train", "validation", "test")]
    indices = [set(part.sample_idx.tolist()) for part in parts]
    assert all(indices)
    assert len(set.union(*indices)) == sum(map(len, indices))
    assert len({part.frame for part in parts}) == 1
    everything = load_arrays(export, FEATURES, split="region")
    assert set(everything.sample_idx.tolist()) == indices[0] | indices[1] | indices[2]


def test_the_frame_leads_back_to_degrees(export):
    arrays = load_arrays(export)
    lats, lons = arrays.frame.to_degrees(arrays.targets_m)
    assert np.abs(lats - arrays.tx_lats_deg).max() < 1e-9
    assert np.abs(lons - arrays.tx_lons_deg).max() < 1e-9


def test_distances_in_the_frame_are_those_on_the_ground():
    frame = LocalFrame.around([44.3, 45.8], [7.2, 9.3])
    one, other = frame.to_metres(45.2, 8.1), frame.to_metres(44.6, 8.9)
    # Azimuthal equidistant: the scale is wrong by (r / R)^2 / 6, less than 4e-5 within 100 km.
    assert np.hypot(*(one - other)) == pytest.approx(distance_m(45.2, 8.1, 44.6, 8.9), rel=1e-4)


def test_frames_work_across_the_antimeridian():
    frame = LocalFrame.around([0.0, 0.0], [179.5, -179.5])
    assert abs(frame.longitude) == 180
    assert frame.to_metres(0.0, -179.9)[0] == pytest.approx(distance_m(0, 180, 0, -179.9))


def test_model_inputs_have_ten_receivers_the_strongest_first(export):
    arrays = load_arrays(export, FEATURES)
    found = model_inputs(arrays)
    assert found.inputs.shape == (200, 10, len(MODEL_FEATURES))
    assert (found.inputs[:, 5:] == 0).all()
    snr_db, present = found.inputs[..., 0], found.inputs[..., 5]
    assert (np.diff(snr_db[::2, :5], axis=1) <= 0).all()
    assert (present[1::2, 4] == 0).all()
    assert (present[:, :4] == 1).all()
    centre = np.mean([place[0] for place in list(RECEIVERS.values())[:4]])
    assert found.centroids_deg[1, 0] == pytest.approx(centre)
    back = found.positions_deg(found.targets_deg)
    assert back[:, 0] == pytest.approx(arrays.tx_lats_deg)
    assert back[:, 1] == pytest.approx(arrays.tx_lons_deg)


def test_unknown_splits_columns_and_tables_are_named(export):
    with pytest.raises(UnknownPartError, match="there is no split terrain; there are: random, region"):
        load_arrays(export, split="terrain", part="test")
    with pytest.raises(UnknownPartError, match="links has no column snr"):
        load_arrays(export, ("snr",))
    with pytest.raises(UnknownPartError, match="there is no table sample"):
        export.table("sample")


def test_a_folder_that_is_no_export_is_refused(tmp_path):
    with pytest.raises(NotAnExportError):
        ExportFolder.open(tmp_path)


def test_features_are_served_one_by_one_as_in_batches(export):
    data = FeatureDataset(load_arrays(export, FEATURES))
    batch, single = data.__getitems__([3, 8, 5]), stack([data[3], data[8], data[5]])
    assert {name: values.shape for name, values in batch.items()} == {
        "features": (3, 5, 3),
        "observed": (3, 5, 3),
        "mask": (3, 5),
        "detected": (3, 5),
        "rx_m": (3, 5, 2),
        "target_m": (3, 2),
        "sample_idx": (3,),
    }
    assert all(np.array_equal(batch[name], single[name]) for name in batch)
    assert np.isfinite(batch["features"]).all()
    assert not batch["observed"][0, -1, 0]


def test_pairs_have_their_differences_and_places(export):
    arrays = load_arrays(export)
    batch = PairDataset(arrays, load_pairs(export)).__getitems__([0, 1])
    assert batch["mask"].sum(axis=1).tolist() == [10, 6]  # of five receivers, and of four
    for row in range(2):
        for at in np.flatnonzero(batch["mask"][row]):
            ways_m = [np.hypot(*(batch[name][row, at] - batch["target_m"][row])) for name in ("a_m", "b_m")]
            # 50 ns of noise at each receiver, five standard deviations; the frame is exact to 20 m.
            assert batch["tdoa_us"][row, at] == pytest.approx((ways_m[1] - ways_m[0]) / 299.792458, abs=0.45)


def test_iq_is_mapped_from_the_shards(export):
    data = pickle.loads(pickle.dumps(IqDataset(export, load_arrays(export))))
    assert len(data) == 100
    batch = data.__getitems__([0, 7])
    assert batch["iq"].shape == (2, 5, 64)
    assert batch["sample_idx"].tolist() == [0, 14]
    assert np.array_equal(batch["iq"][1, :, 0], 14 + 1j * np.arange(5))
    assert (batch["iq"] == batch["iq"][..., :1]).all()


def test_samples_without_iq_are_refused(export):
    arrays = load_arrays(export).take(np.array([1, 3]))
    with pytest.raises(UnknownPartError, match="none of these samples has IQ"):
        IqDataset(export, arrays)


def test_torch_loads_features_and_iq_in_several_workers(export):
    torch = pytest.importorskip("torch", reason="PyTorch is not in the lock file: its only wheel on PyPI brings CUDA")
    from heimdall_pipelines.learning.torch_data import collate

    arrays = load_arrays(export, FEATURES)
    for data in (FeatureDataset(arrays), IqDataset(export, arrays), PairDataset(arrays, load_pairs(export))):
        loader = torch.utils.data.DataLoader(data, batch_size=64, num_workers=2, collate_fn=collate)
        batches = list(loader)
        assert sum(len(batch["sample_idx"]) for batch in batches) == len(data)
        assert batches[0]["target_m"].dtype == torch.float32
        again = data.__getitems__(range(min(64, len(data))))
        for name, tensor in batches[0].items():
            assert np.array_equal(tensor.numpy(), again[name]), name
            assert tensor.dtype == torch.from_numpy(again[name]).dtype


def test_torch_learns_from_features(export):
    torch = pytest.importorskip("torch", reason="PyTorch is not in the lock file: its only wheel on PyPI brings CUDA")
    from heimdall_pipelines.learning.torch_data import collate

    torch.manual_seed(0)
    data = FeatureDataset(load_arrays(export, FEATURES, split="random", part="train"))
    model = torch.nn.Linear(5 * len(FEATURES), 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    losses = []
    for _ in range(15):
        for batch in torch.utils.data.DataLoader(data, batch_size=32, shuffle=True, collate_fn=collate):
            inputs = batch["features"].flatten(1) / 100
            loss = ((model(inputs) - batch["target_m"] / 1e5) ** 2)[batch["mask"].any(dim=1)].mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
