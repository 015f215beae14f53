"""Operations, rooflines and measured speeds: known answers."""

import dataclasses

import pytest

from torch_experiments.lab.campaign import throughput
from torch_experiments.lab.images.pixels import load
from torch_experiments.lab.training.configuration import Config

DATA = load("digits")
MLP = Config(arch_settings=(("width", 16), ("depth", 1)), batch=32, steps=5, stream="permuted")
H200 = throughput.PEAKS["H200"]


def test_the_operations_of_an_mlp_are_counted():
    forward, inner = 2 * (64 * 16 + 16 * 10), 2 * 16 * 10
    assert throughput.operations(MLP, (1, 8, 8), 10) == forward + forward + inner  # no gradient of the images
    assert throughput.parameters(MLP, (1, 8, 8), 10) == 64 * 16 + 16 + 16 * 10 + 10
    work = throughput.operations(MLP, (1, 8, 8), 10) * 32 * 5 * MLP.tasks
    assert throughput.arithmetic(MLP) == work
    assert throughput.arithmetic(dataclasses.replace(MLP, steps=10, device="cuda")) == 2 * work


def test_published_sizes_have_the_known_operations():
    shape = (3, 64, 64)
    assert throughput.operations(Config(arch="resnet18"), shape, 200) == pytest.approx(1.33e10, rel=0.02)
    assert throughput.operations(Config(arch="vit"), shape, 200) == pytest.approx(4.3e9, rel=0.05)
    assert throughput.parameters(Config(), shape, 200) == pytest.approx(1.66e6, rel=0.01)


def test_the_roofline_is_the_tighter_of_two_bounds():
    mlp, resnet = Config(), Config(arch="resnet18", precision="bf16")
    shape = (3, 64, 64)
    moving = 4.8e12 / (40 * throughput.parameters(mlp, shape, 200)) * 128
    computing = 67e12 / throughput.operations(mlp, shape, 200)
    assert throughput.roofline(mlp, shape, 200, 100, H200) == pytest.approx(min(moving, computing))
    assert throughput.roofline(mlp, shape, 200, 1, H200) == pytest.approx(min(moving, computing))
    found = throughput.roofline(resnet, shape, 200, 1, H200)
    assert found == pytest.approx(989e12 / throughput.operations(resnet, shape, 200))


def test_a_speed_is_measured_once_and_shown_with_its_share(tmp_path):
    rate = throughput.measured(MLP, 2, DATA, tmp_path, steps=3)
    assert rate > 0
    assert throughput.known(MLP, 2, DATA, tmp_path) == throughput.measured(MLP, 2, DATA, tmp_path) == rate
    assert throughput.known(MLP, 3, DATA, tmp_path) is None
    unknown = throughput.speed("a", MLP, 2, DATA, rate, None)
    assert unknown.bound is None
    assert unknown.row() == ("a", "cpu", "2", f"{rate:,.0f}", "", "", "")
    shown = dataclasses.replace(unknown, bound=2 * rate, whole=10.0).row()
    assert shown[4:] == ("10", f"{2 * rate:,.0f}", "50.0%")


def test_the_speed_of_a_whole_run_counts_all_networks():
    assert throughput.of_record(MLP, {"stacked": 4, "seconds": 8.0}) == 32 * 5 * 5 * 4 / 8


@pytest.mark.parametrize(("name", "bandwidth"), [("NVIDIA H200", 4.8e12), ("NVIDIA H100 80GB HBM3", 3.35e12)])
def test_a_device_is_known_by_its_name(name, bandwidth):
    assert throughput.peak_of(name).bytes == bandwidth
    assert throughput.peak_of("cpu") is None
