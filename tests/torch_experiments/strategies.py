"""Networks and the cloned manifolds that they can be on."""

import torch
from hypothesis import strategies as st

from torch_experiments.lab.models import NORMS, mlp

UNCOUPLED = ("none", "batch")
ACTIVATIONS = ("relu", "leaky_relu", "tanh", "gelu", "softplus")


@st.composite
def networks(draw, norms=tuple(NORMS), activations=ACTIVATIONS, dtype=torch.float64):
    """Draw an MLP of one to three narrow hidden layers, its norms' statistics and parameters off their defaults.

    LayerNorm over few units can have almost no derivative, or one of 1/√eps: leave it out where rounding counts.
    """
    model = mlp(
        draw(st.integers(1, 6)),
        draw(st.integers(2, 4)),
        width=draw(st.integers(3, 6)),
        depth=draw(st.integers(1, 3)),
        norm=draw(st.sampled_from(norms)),
        affine=draw(st.booleans()),
        activation=draw(st.sampled_from(activations)),
        seed=draw(st.integers(0, 2**31)),
        dtype=dtype,
    )
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if name.startswith("norm") and tensor.ndim:
            tensor.data.uniform_(0.5, 2, generator=generator)
    return model


def batch(model, samples=12, seed=0):
    """Return Gaussian inputs and class indices for ``model``."""
    generator = torch.Generator().manual_seed(seed)
    dtype = next(model.parameters()).dtype
    x = torch.randn(samples, model.linear1.in_features, generator=generator, dtype=dtype)
    return x, torch.randint(model.head.out_features, (samples,), generator=generator)


def rounded(gradient, generator, ulps=1.0):
    """Return a gradient with noise of the size of rounding: a processor's own rounding of it may be zero."""
    noise = torch.randn(gradient.shape, generator=generator, dtype=gradient.dtype)
    return gradient + ulps * torch.finfo(gradient.dtype).eps * noise
