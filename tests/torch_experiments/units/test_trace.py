"""What a trace follows: numbers read out of inputs decide no path of the weights, numbers made of weights may."""

import pytest
import torch
from torch import nn

from torch_experiments import TraceError, certify, clone
from torch_experiments.certificates.display import copies
from torch_experiments.support.draws import seeded
from torch_experiments.units import trace
from torch_experiments.units.axes import atoms


class Padded(nn.Module):
    """Attention that skips its mask where the mask hides nothing."""

    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Embedding(9, 6), nn.Linear(6, 2)

    def forward(self, ids, mask):
        h = self.embed(ids)
        scores = h @ h.transpose(1, 2)
        if not mask.all():
            rows = torch.arange(len(mask))[:, None, None]
            allowed = mask[rows, torch.arange(mask.shape[1])[None, None, :]]
            scores = scores.masked_fill(~allowed.expand_as(scores), -1e9)
        return self.out((scores.softmax(-1) @ h).mean(1))


class Reads(nn.Module):
    """Takes another path where a number that it read is large."""

    def __init__(self, read):
        super().__init__()
        self.first, self.out, self.read = nn.Linear(3, 4), nn.Linear(4, 2), read
        self.register_buffer("level", torch.zeros(()))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, x):
        h = self.first(x)
        return self.out(h.relu() if self.read(self, x, h) > 9 else h.tanh())


def view_written(model, x, h):
    """Read a number out of a constant into which, by a view of it, a number made of weights was written."""
    kept = torch.zeros(3)
    kept[:2].copy_(h[0, :2])
    return kept.sum().item()


@pytest.mark.parametrize("hidden", [0, 2])
def test_a_mask_that_is_asked_for_its_numbers_is_followed(hidden):
    torch.manual_seed(0)
    model, ids = Padded().double(), torch.randint(9, (3, 5))
    mask = torch.ones(3, 5, dtype=torch.bool)
    mask[0, 5 - hidden :] = False
    example = {"ids": ids, "mask": mask}
    wide = clone(model, 2, example_inputs=example)
    for other in (mask, torch.ones_like(mask)):  # of the other path too
        assert float((wide(ids, other) - model(ids, other)).detach().abs().max()) < 1e-12
    assert certify(model, example, parts=("frozen",)).dimension == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    "read",
    [
        lambda model, x, h: x.max().item(),
        lambda model, x, h: float((x > 0).sum()),
        lambda model, x, h: int(model.count),
        lambda model, x, h: int(torch.arange(4).sum()),
    ],
)
def test_numbers_of_inputs_counters_and_constants_are_read(read):
    assert trace(Reads(read), torch.randn(5, 3)).steps


@pytest.mark.parametrize(
    "read",
    [
        lambda model, x, h: h.max().item(),
        lambda model, x, h: model.first.weight.norm().item(),
        lambda model, x, h: float(h.detach().clone()[0, 0]),
        lambda model, x, h: float(model.level),
        view_written,
    ],
)
def test_numbers_that_weights_are_part_of_are_refused(read):
    with pytest.raises(TraceError, match="reads a number"):
        trace(Reads(read), torch.randn(5, 3))


class Sampler(nn.Module):
    """A variational autoencoder in small: draws in every mode, with hidden layers before and behind."""

    def __init__(self):
        super().__init__()
        self.inner, self.mean, self.spread = nn.Linear(6, 8), nn.Linear(8, 3), nn.Linear(8, 3)
        self.outer, self.out = nn.Linear(3, 8), nn.Linear(8, 6)

    def forward(self, x):
        h = torch.relu(self.inner(x))
        z = self.mean(h) + self.spread(h).exp() * torch.randn_like(self.spread(h))
        return self.out(torch.relu(self.outer(z)))


def test_what_draws_random_numbers_is_not_copied_and_all_else_is():
    torch.manual_seed(0)
    base, x = Sampler().double(), torch.randn(5, 6).double()
    wide = clone(base, 2, example_inputs=x)
    sizes = {name: tuple(p.shape) for name, p in wide.named_parameters() if p.ndim == 2}
    assert sizes == {
        "inner.weight": (16, 6),
        "mean.weight": (3, 16),
        "spread.weight": (3, 16),
        "outer.weight": (16, 3),
        "out.weight": (6, 16),
    }
    with seeded(base, 1):
        expected = base(x)
    with seeded(wide, 1):
        torch.testing.assert_close(wide(x), expected)


@pytest.mark.parametrize(
    "draw",
    [
        lambda h: h + torch.randn_like(h),
        lambda h: h * torch.bernoulli(torch.sigmoid(h)),
        lambda h: nn.functional.gumbel_softmax(h, dim=1),
    ],
)
def test_networks_that_draw_on_hidden_units_are_certified(draw):
    class Drawn(nn.Module):
        def forward(self, x):
            return draw(x)

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), Drawn(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 6))
    with torch.no_grad():
        model[2].bias[0] = -50
    found = certify(model, torch.randn(12, 6), torch.optim.SGD(model.parameters(), 0.1))
    assert ("3", 0) in {(u.layer, u.unit) for u in found.frozen.units}
    assert found.optimizer.frozen == "unknown"
    (rows,) = atoms(trace(model, torch.randn(4, 6)).parameters["0.weight"].axes[0])
    assert "draws a random number" in rows.fixed


MATRICES = {  # of the matrix a I + b 1 1^T of two rows, for every unit
    "cholesky": lambda m: torch.linalg.cholesky(m)[..., 1, 1],
    "inverse": lambda m: torch.linalg.inv(m)[..., 0, 1],
    "solve": lambda m: torch.linalg.solve_triangular(m, torch.ones(2, 1), upper=False)[..., 1, 0],
    "eigenvalues": lambda m: torch.linalg.eigh(m).eigenvalues[..., 0],
    "determinant": torch.linalg.det,
    "logarithm": torch.logdet,
}


@pytest.mark.parametrize("name", MATRICES)
def test_matrices_are_factored_unit_by_unit(name):
    class Factored(nn.Module):
        def forward(self, x):
            return MATRICES[name](x.exp()[..., None, None] * torch.eye(2) + torch.ones(2, 2) / 2)

    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(6, 8), Factored(), nn.Linear(8, 3)), torch.randn(12, 6)
    wide = clone(model, 2, example_inputs=x)
    assert wide[0].out_features == 16
    torch.testing.assert_close(wide(x), model(x))
    assert len(copies(certify(wide, x, parts=()).blocks)["0"]["copies"]) == 8


def test_units_across_which_a_matrix_is_inverted_are_not_copied():
    class Whitened(nn.Module):
        def forward(self, x):
            return torch.linalg.solve_triangular(torch.linalg.cholesky(x.T @ x), x.T, upper=False).T

    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), Whitened(), nn.Linear(8, 3))
    (rows,) = atoms(trace(model, torch.randn(40, 6)).parameters["0.weight"].axes[0])
    assert "which copies would make singular" in rows.fixed
