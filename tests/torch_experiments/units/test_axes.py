"""The algebra of axes: identification finds structure, alignment refines it, and what does not fit is fixed."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torch_experiments.units.axes import (
    Axis,
    atoms,
    block,
    cut,
    exponent,
    factors,
    find,
    is_fixed,
    multiplicity,
    product,
    single,
    summands,
    total,
    unify,
)


def sizes(axes):
    return [axis.size for axis in axes]


def test_a_view_splits_an_atom_wherever_it_occurs():
    whole = Axis(12)
    unify(product([Axis(3), Axis(4)]), whole)
    assert sizes(factors(whole)) == [3, 4]


def test_products_are_aligned_by_their_common_refinement():
    one, other = product([Axis(4), Axis(6)]), product([Axis(8), Axis(3)])
    unify(one, other)
    assert sizes(factors(one)) == sizes(factors(other)) == [4, 2, 3]
    assert [find(a) for a in factors(one)] == [find(a) for a in factors(other)]


def test_products_without_a_common_refinement_are_fixed():
    one, other = product([Axis(4), Axis(3)]), product([Axis(3), Axis(4)])
    unify(one, other, "why")
    assert is_fixed(one)
    assert is_fixed(other)
    assert {atom.fixed for atom in atoms(one)} == {"why"}


def test_sums_are_aligned_by_their_common_refinement():
    whole = Axis(10)
    first = cut(whole, [4, 6], "why")
    second = cut(whole, [2, 2, 6], "why")
    assert sizes(summands(whole)) == [2, 2, 6]
    assert find(first[1]) is find(second[2])


def test_equal_parts_of_a_sum_are_the_inner_factor_of_a_grid():
    """A fused projection, cut in three in one place and viewed as 3 × 4 in another: three is no unit."""
    inner = Axis(4)
    whole, parts = product([Axis(3), inner]), [Axis(4), Axis(4), Axis(4)]
    unify(total(parts), whole)
    assert {find(part) for part in parts} == {find(inner)}
    assert factors(whole)[0].fixed
    assert not inner.fixed


def test_fixing_spreads_to_what_is_identified():
    one, other = Axis(5, fixed="an axis of an input"), Axis(5)
    unify(one, other)
    assert is_fixed(other)
    assert not is_fixed(Axis(5))


def test_an_axis_of_size_one_is_never_copied():
    assert is_fixed(single())
    assert factors(product([single(), single()])) == []


@given(st.lists(st.integers(2, 4), min_size=1, max_size=4), st.integers(2, 3), st.data())
def test_blocks_count_what_multiplicities_say(shape, factor, data):
    parts = [Axis(n) for n in shape]
    chosen = set(data.draw(st.lists(st.sampled_from(parts), unique=True)))
    axis = product(parts)
    for order in ("interleaved", "tiled"):
        index = block(axis, factor, chosen, order)
        assert len(index) == multiplicity(axis, factor, chosen)
        assert torch.equal(index.bincount(), torch.full((axis.size,), factor ** exponent(axis, chosen)))
        inner = torch.arange(axis.size).reshape(shape)
        for dim, part in enumerate(parts):
            each = torch.arange(part.size)
            each = each.repeat_interleave(factor) if order == "interleaved" else each.repeat(factor)
            inner = inner.index_select(dim, each if part in chosen else torch.arange(part.size))
        assert torch.equal(index, inner.flatten())


def test_uneven_copies_of_a_concatenation_have_no_exponent():
    one, other = Axis(2), Axis(3)
    assert exponent(total([one, other]), {one}) is None
    assert exponent(total([one, other]), {one, other}) == 1
    assert block(total([one, other]), 2, {one}).tolist() == [0, 0, 1, 1, 2, 3, 4]


def test_the_package_imports_without_torch():
    code = "import sys, torch_experiments; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_name_of_the_package_is_found():
    import torch_experiments

    assert all(getattr(torch_experiments, name) for name in torch_experiments.__all__)


def test_an_unknown_name_is_an_attribute_error():
    import torch_experiments

    with pytest.raises(AttributeError, match="has no attribute 'cloen'"):
        _ = torch_experiments.cloen
