"""The cloning experiment in small: what it measures, that it resumes, and that a user's folder works."""

import dataclasses
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from claims.evidence import witness
from torch_experiments.lab import records
from torch_experiments.lab.experiments import e01_cloning
from torch_experiments.lab.experiments.e01_cloning import Config

CIFAR = Path(__file__).parents[5] / "shared/data/cifar10-part"
SETTINGS = (("width", 16), ("depth", 2))
SMALL = Config(arch_settings=SETTINGS, base_epochs=1, epochs=3, log_every=2, probe=100, dtype="float64", seeds=(0,))


@pytest.fixture(scope="module")
def measured():
    return e01_cloning.run(SMALL)


def end(table, metric, network="clone"):
    rows = e01_cloning.end_values(table)
    return {r["regime"]: r["mean"] for r in rows if r["metric"] == metric and r["network"] == network}


@pytest.mark.claim("C9", "training")
@pytest.mark.parametrize("regime", ["sgd", "momentum", "adam"])
def test_optimizers_without_noise_keep_the_clones(measured, regime):
    assert end(measured, "coset_residual")[regime] <= 1e-12
    for direction in ("forward", "backward"):
        assert end(measured, f"{direction}_score")[regime] == pytest.approx(1, abs=1e-12)
    witness(residual=end(measured, "coset_residual")[regime])


@pytest.mark.control("C9")
@pytest.mark.parametrize("regime", ["noisy-elementwise", "noisy-normwise", "dropout"])
def test_noise_and_dropout_leave_the_clones(measured, regime):
    assert end(measured, "coset_residual")[regime] > 1e-5
    assert end(measured, "forward_score")[regime] < 1 - 1e-10
    witness(residual=end(measured, "coset_residual")[regime])


def test_the_two_conventions_of_noise_differ_by_an_order(measured):
    found = end(measured, "coset_residual")
    assert found["noisy-elementwise"] > 5 * found["noisy-normwise"]


def test_the_clone_starts_as_its_base(measured):
    rows = measured.to_pylist()
    assert max(r["value"] for r in rows if r["metric"] == "function_gap") <= 1e-12
    start = {
        (r["regime"], r["network"]): r["value"] for r in rows if r["metric"] == "train_loss" and r["epoch"] == 0
    }
    assert max(start.values()) - min(start.values()) <= 1e-12


def test_metrics_cover_both_ends_and_every_layer(measured):
    rows = measured.to_pylist()
    assert {r["epoch"] for r in rows} == {0, 2, 3}
    assert {r["layer"] for r in rows if r["metric"] == "forward_score"} == {0, 1, 2}
    assert {r["layer"] for r in rows if r["metric"] == "coset_residual"} == {0, 1, 2, 3}
    assert {r["regime"] for r in rows} == set(e01_cloning.REGIMES)
    assert measured.column_names == ["regime", "seed", "network", "epoch", "layer", "metric", "value"]


def test_float32_clones_stay_clones_as_well():
    table = e01_cloning.run(dataclasses.replace(SMALL, dtype="float32", regimes=("momentum", "adam")))
    assert max(end(table, "coset_residual").values()) <= 1e-5


def test_finished_cells_are_read_and_not_trained_again(tmp_path, monkeypatch):
    config = dataclasses.replace(SMALL, regimes=("sgd", "adam"))
    first = e01_cloning.run(config, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    monkeypatch.setattr(e01_cloning, "train_base", lambda *args: pytest.fail("trained again"))
    assert e01_cloning.run(config, tmp_path).equals(first)


def under(table, regimes):
    """Return the rows of some regimes."""
    return table.filter(pc.is_in(table["regime"], pa.array(regimes)))


def test_an_interrupted_run_goes_on_where_it_stopped(measured, tmp_path, monkeypatch):
    config = dataclasses.replace(SMALL, regimes=("sgd", "dropout"))
    real = e01_cloning.run_cell

    def interrupted(config, seed, regime, *rest):
        if regime == "dropout":
            raise KeyboardInterrupt
        return real(config, seed, regime, *rest)

    monkeypatch.setattr(e01_cloning, "run_cell", interrupted)
    with pytest.raises(KeyboardInterrupt):
        e01_cloning.run(config, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr(e01_cloning, "run_cell", real)
    assert e01_cloning.run(config, tmp_path).equals(under(measured, config.regimes))


def test_a_changed_config_never_meets_an_old_record():
    data = "fingerprint"
    cells = [e01_cloning.cell_identity(c, 0, "sgd", data) for c in (SMALL, dataclasses.replace(SMALL, lr=0.1))]
    cells += [e01_cloning.cell_identity(SMALL, 1, "sgd", data), e01_cloning.cell_identity(SMALL, 0, "adam", data)]
    cells += [e01_cloning.cell_identity(SMALL, 0, "sgd", "other")]
    assert len({records.key(cell) for cell in cells}) == len(cells)
    more = dataclasses.replace(SMALL, seeds=(0, 1), regimes=("sgd",), data="elsewhere")
    assert e01_cloning.cell_identity(more, 0, "sgd", data) == cells[0]


def test_the_run_leaves_threads_and_the_global_generator_alone():
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    e01_cloning.run(dataclasses.replace(SMALL, epochs=1, regimes=("dropout",)))
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_norms_keep_the_clones_too(norm):
    table = e01_cloning.run(dataclasses.replace(SMALL, norm=norm, regimes=("momentum", "noisy-elementwise")))
    found = end(table, "coset_residual")
    assert found["momentum"] <= 1e-12
    assert found["noisy-elementwise"] > 1e-3


TINY = {
    "cnn": ("batch", (("width", 4), ("depth", 2), ("hidden", 12))),
    "resnet18": ("batch", (("width", 3), ("stages", (1, 1)))),
    "vit": ("layer", (("patch", 4), ("width", 8), ("depth", 2), ("heads", 2))),
}


def in_small(arch):
    norm, settings = TINY[arch]
    regimes = ("sgd", "adam", "noisy-elementwise", "dropout")
    return dataclasses.replace(SMALL, arch=arch, norm=norm, arch_settings=settings, epochs=2, regimes=regimes)


@pytest.fixture(scope="module", params=TINY)
def architecture(request):
    config = in_small(request.param)
    return request.param, e01_cloning.run(config, task=e01_cloning.load_task(config, limit=300))


@pytest.mark.claim("C9", "training")
def test_every_architecture_keeps_its_clones_under_sgd_and_adam(architecture):
    _, table = architecture
    for regime in ("sgd", "adam"):
        assert end(table, "coset_residual")[regime] <= 1e-9
        for direction in ("forward", "backward"):
            assert end(table, f"{direction}_score")[regime] == pytest.approx(1, abs=1e-6)
        witness(residual=end(table, "coset_residual")[regime])


@pytest.mark.control("C9")
def test_every_architecture_leaves_its_clones_under_noise_and_dropout(architecture):
    _, table = architecture
    for regime in ("noisy-elementwise", "dropout"):
        assert end(table, "coset_residual")[regime] > 1e-5
        assert end(table, "backward_score")[regime] < 1 - 1e-6
        witness(residual=end(table, "coset_residual")[regime])


def test_scores_are_of_the_activations_of_a_cnn_and_of_the_blocks_of_the_others(architecture):
    arch, table = architecture
    layers = {r["layer"] for r in table.to_pylist() if r["metric"] == "forward_score"}
    assert len(layers) - 1 == {"cnn": 3, "resnet18": 2, "vit": 2}[arch]


def test_the_profile_of_a_block_says_which_channels_are_copies():
    config = in_small("resnet18")
    task = e01_cloning.load_task(config, limit=100)
    pair = e01_cloning.cloned(config, e01_cloning.train_base(config, 0, task), task)
    found = [p.block.tolist() for p in e01_cloning.hidden_profiles(pair.twin, pair.axes)]
    assert found == [[k // 2 for k in range(6)], [k // 2 for k in range(12)]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arch": "lstm"}, r"arch: got 'lstm'; allowed are 'mlp', 'cnn', 'resnet18', 'vit'"),
        ({"dtype": "float16"}, r"dtype: got 'float16'; allowed are 'float32', 'float64'"),
        ({"regimes": ("sgd", "sgdm")}, r"regimes: got 'sgdm'; allowed are 'sgd', 'momentum'"),
        ({"epochs": 0}, r"epochs: got 0; it has to be at least 1"),
    ],
)
def test_a_wrong_setting_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        Config(**change)


@pytest.mark.skipif(not CIFAR.is_dir(), reason="the development copy of CIFAR-10 is not on this machine")
def test_a_folder_of_parquet_files_runs_like_the_digits():
    regimes = ("momentum", "noisy-elementwise")
    config = dataclasses.replace(SMALL, data=str(CIFAR), dtype="float32", epochs=1, regimes=regimes)
    found = end(e01_cloning.run(config, task=e01_cloning.load_task(config, limit=500)), "coset_residual")
    assert found["momentum"] <= 1e-5
    assert found["noisy-elementwise"] > 1e-3
