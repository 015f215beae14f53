"""Lanczos' method against dense eigenvalues."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torch_experiments.support.lanczos import ends, krylov, quadrature


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def symmetric(size, seed):
    A = randn(size, size, seed=seed)
    return A + A.T


def unit(size, seed):
    v = randn(size, seed=seed)
    return v / v.norm()


@given(st.integers(2, 12), st.integers(0, 100))
def test_lanczos_finds_the_ends_and_its_residuals_bound_the_error(size, seed):
    A = symmetric(size, seed)
    values = torch.linalg.eigvalsh(A)
    start = unit(size, seed + 1)
    whole = ends(A.mv, start, size)
    assert whole[0].value == pytest.approx(float(values[0]), abs=1e-10)
    assert whole[1].value == pytest.approx(float(values[-1]), abs=1e-10)
    for end in ends(A.mv, start, 2):
        assert float((values - end.value).abs().min()) <= end.residual + 1e-12
        assert values[0] - 1e-12 <= end.value <= values[-1] + 1e-12


@pytest.mark.parametrize("A", [torch.zeros(4, 4), torch.eye(4), torch.diag(torch.tensor([1.0, 1, 1, -2]))])
def test_lanczos_stops_where_the_krylov_space_is_exhausted(A):
    calls = []
    low, high = ends(lambda v: (calls.append(1), A.double() @ v)[1], torch.full((4,), 0.5, dtype=torch.float64), 4)
    assert (low.value, high.value) == pytest.approx((float(A.diag().min()), float(A.diag().max())), abs=1e-12)
    assert len(calls) <= 2 + len(set(A.diag().tolist()))


@given(st.integers(2, 40), st.integers(1, 40), st.integers(0, 100))
def test_the_basis_is_orthonormal_and_the_matrix_tridiagonal_in_it(size, iterations, seed):
    A = symmetric(size, seed)
    Q, diagonal, beside = krylov(A.mv, unit(size, seed + 1), iterations)
    assert len(diagonal) == len(beside) + 1 == len(Q) <= min(size, iterations)
    T = torch.diag(diagonal) + torch.diag(beside, 1) + torch.diag(beside, -1)
    assert torch.allclose(Q @ Q.T, torch.eye(len(Q), dtype=Q.dtype), atol=1e-13)
    assert torch.allclose(Q @ A @ Q.T, T, atol=1e-12 * float(A.norm()))


@given(st.integers(2, 20), st.integers(1, 6), st.integers(0, 100))
def test_quadrature_is_exact_for_polynomials_of_degree_below_twice_the_steps(size, iterations, seed):
    A, start = symmetric(size, seed) / size, unit(size, seed + 1)
    theta, tau = quadrature(A.mv, start, iterations)
    for power in range(2 * iterations):
        exact = start @ torch.linalg.matrix_power(A, power) @ start
        assert float((tau * theta**power).sum()) == pytest.approx(float(exact), abs=1e-10)


def test_quadrature_finds_all_eigenvalues_and_stops_in_an_invariant_space():
    A = torch.diag(torch.tensor([3.0, 1, 1, -2], dtype=torch.float64))
    theta, tau = quadrature(A.mv, torch.full((4,), 0.5, dtype=torch.float64), 10)
    assert torch.allclose(theta, torch.tensor([-2.0, 1, 3], dtype=torch.float64))
    assert torch.allclose(tau, torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64))
