"""The entropy of attention against a slow oracle in NumPy, and on cases with a known answer."""

import math

import numpy as np
import pytest
import torch

from torch_experiments.metrics.attention import attention_entropy


def slow(q, k, causal):
    """Return the entropy head by head and query by query."""
    batch, heads, tokens, d = q.shape
    found = np.zeros(heads)
    for h in range(heads):
        shares = []
        for b in range(batch):
            for t in range(tokens):
                seen = t + 1 if causal else tokens
                if seen > 1:
                    scores = [float(q[b, h, t] @ k[b, h, s]) / math.sqrt(d) for s in range(seen)]
                    p = np.exp(np.array(scores) - max(scores))
                    p /= p.sum()
                    shares.append(-sum(x * math.log(x) for x in p if x > 0) / math.log(seen))
        found[h] = np.mean(shares)
    return found


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("scale", [0.1, 3.0, 200.0])
def test_it_is_the_mean_over_queries_of_the_share_of_the_largest_entropy(causal, scale):
    source = torch.Generator().manual_seed(1)
    q, k = (scale * torch.randn(2, 3, 5, 4, dtype=torch.float64, generator=source) for _ in range(2))
    expected = slow(q.numpy(), k.numpy(), causal)
    assert attention_entropy(q, k, causal=causal).numpy() == pytest.approx(expected, rel=1e-12, abs=1e-15)
    if scale == 3.0:
        assert attention_entropy(q, -k, causal=causal).numpy() != pytest.approx(expected, rel=1e-6)
        assert attention_entropy(q, k, causal=not causal).numpy() != pytest.approx(expected, rel=1e-6)


def test_attention_to_one_key_has_none_and_to_all_alike_has_all():
    eye = torch.eye(4)[None, None]
    assert float(attention_entropy(1e4 * eye, eye, causal=True)) == 0
    assert float(attention_entropy(0 * eye, eye, causal=False)) == pytest.approx(1)


def test_a_single_token_has_no_entropy_to_speak_of():
    assert attention_entropy(torch.ones(1, 2, 1, 4), torch.ones(1, 2, 1, 4), causal=True).isnan().all()
