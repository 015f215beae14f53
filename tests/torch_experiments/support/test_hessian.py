"""Hessian-vector products against dense Hessians."""

import torch
from torch import nn
from torch.autograd.functional import hessian as dense

from torch_experiments.support.hessian import hessian


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def loss(W, b, x):
    return (torch.tanh(x @ W + b) ** 2).mean()


def test_products_are_those_of_the_dense_hessian():
    W, b, x = randn(3, 2).requires_grad_(), randn(2, seed=1).requires_grad_(), randn(5, 3, seed=2)
    H = hessian(loss(W, b, x), [W, b])
    rows = dense(lambda W, b: loss(W, b, x), (W.detach(), b.detach()))
    whole = torch.cat([torch.cat([part.reshape(n, -1) for part in rows[k]], 1) for k, n in enumerate((6, 2))])
    v = randn(8, seed=3)
    assert torch.allclose(H.product(v), whole @ v, atol=1e-15)
    assert H.products == 1
    assert [part.shape for part in H.split(v)] == [W.shape, b.shape]


def test_rows_of_what_enters_linearly_or_not_at_all_are_zero():
    curved, linear, unused = (nn.Parameter(torch.ones(2)) for _ in range(3))
    H = hessian((curved**2).sum() + linear.sum(), [curved, linear, unused])
    assert H.product(torch.ones(6)).tolist() == [2, 2, 0, 0, 0, 0]
    bent = H.bent()
    assert (bent.parameters[0] is curved, len(bent.parameters), bent.size) == (True, 1, 2)
    assert bent.product(torch.ones(2)).tolist() == [2, 2]


def test_a_constant_has_no_curvature():
    w = nn.Parameter(torch.ones(2))
    H = hessian(torch.ones(()), [w])
    assert H.slopes == [None]
    assert H.product(torch.ones(2)).tolist() == [0, 0]
    assert H.bent().size == 0


def test_vectors_keep_their_dtype_where_parameters_differ():
    one, other = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1, dtype=torch.float64))
    H = hessian((one * other).sum() ** 2, [one, other])
    v = torch.tensor([1.0, 0.0], dtype=torch.float64)
    assert H.product(v).tolist() == [2, 4]
    assert H.product(v).dtype == torch.float64
