"""The place of parameters on the manifold, and what is normal to it."""

import pytest
import torch

from tests.torch_experiments.certificates.clones import cloned, network, randn
from torch_experiments.certificates.manifold import check_on, places


def test_frozen_clones_count_whole_cells():
    """One frozen entry pins its cell: of two copies with two inputs each, all four entries become normal."""
    model, place = cloned(depth=2)
    mask = torch.zeros(6, 6, dtype=torch.bool)
    plain = places(model, place)["linear2.weight"]
    mask[0, 0] = True
    own = places(model, place, {"linear2.weight": mask})["linear2.weight"]
    assert own.codimension == plain.codimension + 1 == 28
    v = randn(6, 6)
    assert torch.equal(own.normal(v)[:2, :2], v[:2, :2])
    assert torch.equal(own.normal(v)[2:], plain.normal(v)[2:])
    assert torch.allclose(own.normal(own.normal(v)), own.normal(v), atol=1e-15)


def test_the_normal_part_is_a_projection_of_rank_codimension():
    model, place = cloned(factor=3)
    mask = torch.zeros(9, 9, dtype=torch.bool)
    mask[0, 4] = True
    for own in places(model, place, {"linear2.weight": mask}).values():
        shape = own.parameter.shape
        basis = torch.eye(own.parameter.numel(), dtype=torch.float64)
        N = torch.stack([own.normal(row.reshape(shape)).reshape(-1) for row in basis])
        assert torch.allclose(N, N.T, atol=1e-15)
        assert torch.allclose(N @ N, N, atol=1e-14)
        assert float(N.trace()) == pytest.approx(own.codimension)


def test_only_parameters_with_a_normal_direction_have_a_place():
    model = network()
    mask = torch.tensor([True, False])
    assert places(model, None) == places(model, None, {"head.bias": ~mask & mask}) == {}
    assert list(places(model, None, {"head.bias": mask})) == ["head.bias"]


def test_rounding_depends_on_the_dtype():
    model, place = cloned()
    check_on(model, place, 0.0)
    model.linear2.weight.data[0, 0] += 1e-6
    with pytest.raises(ValueError, match=r"layer 'linear2': its weights violate the equations of the layout"):
        check_on(model, place, 0.0)
    check_on(model.float(), place, 1e-5)
