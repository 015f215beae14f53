"""Theorem 2.2 module by module (M1), and where it fails (M2): forward, backward, and after training."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import linear, scaled_dot_product_attention

from claims.evidence import witness
from torch_experiments.cloning.exact import clone, layout, residuals
from torch_experiments.cloning.layouts import widened
from torch_experiments.cloning.modulewise import deviations
from torch_experiments.cloning.partition import coarsest_blocks
from torch_experiments.cloning.widen import gap, outputs
from torch_experiments.support.noise import GradientNoise
from torch_experiments.units.inputs import call, flatten

EXACT, TRAINED = 1e-12, 1e-10
CASES = [(factor, mode) for factor in (2, 3) for mode in ("equal", "equitable")]
IMAGE, TOKENS, FEATURES = (4, 3, 8, 8), (3, 5, 4), (6, 4)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


def network(*layers, seed=0):
    """Return the layers one after another in float64, all parameters and statistics off their defaults."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(*layers).double()
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if tensor.is_floating_point() and tensor.ndim:
                tensor.data.add_(torch.rand_like(tensor) * (0.5 if "var" in name else 0.2))
    return model


def loss(output):
    """Return a smooth loss that tells all outputs apart."""
    return sum(
        (f - torch.linspace(-1, 1, f.numel(), dtype=f.dtype).view_as(f)).square().mean() for f in flatten(output)
    )


def train(model, inputs, steps=50, optimizer=None):
    rule = optimizer or torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for _ in range(steps):
        rule.zero_grad()
        loss(call(model, inputs)).backward()
        nn.utils.clip_grad_norm_(
            model.parameters(), 10.0
        )  # deep draws without norm would overflow; it keeps clones
        rule.step()


def worst(model, place, inputs, start=None):
    """Return the largest violation: copies of activations and errors, rows, columns and coset of parameters."""
    found = [max(d.forward, d.backward) for d in deviations(model, place, inputs, loss)]
    assert found, "no module has copied axes at its output"
    parameters = [max(r.rows, r.columns, r.coset if start else 0.0) for r in residuals(model, place, start)]
    return max(found + parameters)


def holds(model, inputs, cases=CASES):
    """Check function, forward, backward and invariance for clones of ``model``; witness each case."""
    for factor, mode in cases:
        twin, place = (
            clone(model, factor, mode, rng(), example_inputs=inputs),
            layout(model, factor, example_inputs=inputs),
        )
        assert gap(outputs(model, inputs), outputs(twin, inputs)) <= EXACT
        twin.train()
        assert worst(twin, place, inputs) <= EXACT
        start = {name: value.clone() for name, value in twin.state_dict().items()}
        train(twin, inputs)
        after = worst(twin, place, inputs, start)
        assert after <= TRAINED
        assert any(not torch.equal(start[name], p) for name, p in twin.named_parameters())
        witness(residual=after)


@pytest.mark.claim("M1", "property")
@pytest.mark.parametrize("seed", [0, 1])
def test_linear_layers(seed):
    layers = [nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 6, bias=False), nn.ReLU(), nn.Linear(6, 3)]
    holds(network(*layers, seed=seed), randn(*FEATURES, seed=seed))


CONVOLUTIONS = {
    "stride and padding": [nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Tanh(), nn.Conv2d(4, 6, 3, padding="same")],
    "groups": [nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Conv2d(4, 6, 3, groups=2)],
    "depthwise": [nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 8, 1, groups=4)],
    "dilation": [nn.Conv2d(3, 4, 3, dilation=2), nn.Tanh(), nn.Conv2d(4, 4, 3, padding=1, bias=False)],
    "transposed": [
        nn.Conv2d(3, 4, 3),
        nn.Tanh(),
        nn.ConvTranspose2d(4, 4, 2),
        nn.ConvTranspose2d(4, 6, 2, groups=2),
    ],
}


@pytest.mark.claim("M1", "property")
@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_convolutions(kind):
    body = CONVOLUTIONS[kind]
    holds(network(*body, nn.Tanh(), nn.Conv2d(body[-1].out_channels, 3, 1)), randn(*IMAGE))


def test_convolutions_in_one_and_three_dimensions():
    holds(network(nn.Conv1d(3, 4, 3), nn.Tanh(), nn.Conv1d(4, 2, 2)), randn(2, 3, 8), [(2, "equitable")])
    holds(network(nn.Conv3d(3, 4, 2), nn.Tanh(), nn.Conv3d(4, 2, 2)), randn(2, 3, 4, 4, 4), [(3, "equitable")])


@pytest.mark.claim("M1", "property")
@pytest.mark.claim("M2", "property")
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm(affine):
    """The function is compared with running statistics, training uses those of the batch."""
    holds(network(nn.Linear(4, 5), nn.BatchNorm1d(5, affine=affine), nn.Tanh(), nn.Linear(5, 3)), randn(*FEATURES))
    convolutions = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=affine), nn.ReLU(), nn.Conv2d(4, 3, 3)
    model, x = network(*convolutions), randn(*IMAGE)
    holds(model, x)
    twin = clone(model, 2, example_inputs=x).train()
    model.train()
    found = gap([model(x).detach()], [twin(x).detach()])
    assert found <= EXACT
    assert torch.allclose(model[1].running_var.repeat_interleave(2), twin[1].running_var, rtol=1e-12)
    witness(residual=found)


NORMS = {
    "layer": lambda width: nn.LayerNorm(width),
    "layer, not affine": lambda width: nn.LayerNorm(width, elementwise_affine=False),
    "rms": lambda width: nn.RMSNorm(width),
}


@pytest.mark.claim("M1", "property")
@pytest.mark.parametrize("kind", NORMS)
def test_layer_and_rms_norm(kind):
    holds(network(nn.Linear(4, 6), NORMS[kind](6), nn.Tanh(), nn.Linear(6, 3)), randn(*TOKENS))


@pytest.mark.claim("M1", "property")
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_group_norm(groups):
    holds(network(nn.Conv2d(3, 6, 3), nn.GroupNorm(groups, 6), nn.Tanh(), nn.Conv2d(6, 3, 3)), randn(*IMAGE))


class Sum(nn.Module):
    """``a(x) + b(x)``."""

    def __init__(self, a, b):
        super().__init__()
        self.a, self.b = a, b

    def forward(self, x):
        return self.a(x) + self.b(x)


class Positions(nn.Module):
    """Tokens and learnt positions by embedding."""

    def __init__(self):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(7, 4), nn.Embedding(5, 4)

    def forward(self, index):
        return self.tokens(index) + self.positions(torch.arange(index.shape[1], device=index.device))


@pytest.mark.claim("M1", "property")
def test_embeddings_of_tokens_and_positions():
    index = torch.randint(7, (3, 5), generator=rng())
    holds(network(Positions(), nn.LayerNorm(4), nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)), index)


class Patches(nn.Module):
    """Patch embedding with a class token and learnt positions."""

    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 6, 4, stride=4)
        self.first, self.place = nn.Parameter(torch.zeros(1, 1, 6)), nn.Parameter(torch.zeros(1, 5, 6))

    def forward(self, x):
        patches = self.patch(x).flatten(2).transpose(1, 2)
        return torch.cat([self.first.expand(len(x), -1, -1), patches], dim=1) + self.place


@pytest.mark.claim("M1", "property")
def test_patch_embedding():
    holds(network(Patches(), nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3)), randn(*IMAGE))


class Self(nn.Module):
    """`nn.MultiheadAttention` of a sequence with itself."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


class Grouped(nn.Module):
    """Causal attention with two queries a key, separate projections."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = nn.Linear(6, 12), nn.Linear(6, 6), nn.Linear(6, 6)
        self.o = nn.Linear(12, 6)

    def forward(self, x):
        q, k, v = (f(x).unflatten(-1, (-1, 3)).transpose(1, 2) for f in (self.q, self.k, self.v))
        y = scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.o(y.transpose(1, 2).flatten(2))


class Eager(nn.Module):
    """Attention written out, one Linear layer cut in three."""

    def __init__(self):
        super().__init__()
        self.qkv, self.o = nn.Linear(6, 18), nn.Linear(6, 6)

    def forward(self, x):
        q, k, v = (part.reshape(*x.shape[:2], -1, 3).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=-1))
        weights = torch.softmax(torch.einsum("bhld,bhsd->bhls", q, k) / 3**0.5, dim=-1)
        return self.o((weights @ v).transpose(1, 2).reshape(*x.shape[:2], -1))


ATTENTION = {"nn.MultiheadAttention": Self, "grouped queries": Grouped, "eager, fused qkv": Eager}


@pytest.mark.claim("M1", "property")
@pytest.mark.parametrize("kind", ATTENTION)
def test_attention(kind):
    holds(network(nn.Linear(4, 6), ATTENTION[kind](), nn.Linear(6, 3)), randn(*TOKENS))


POOLS = {
    "max": nn.MaxPool2d(2),
    "average": nn.AvgPool2d(2),
    "adaptive": nn.AdaptiveAvgPool2d(2),
    "global": nn.AdaptiveAvgPool2d(1),
    "adaptive max": nn.AdaptiveMaxPool2d(2),
}


@pytest.mark.claim("M1", "property")
@pytest.mark.parametrize("kind", POOLS)
def test_pooling(kind):
    holds(network(nn.Conv2d(3, 4, 3), nn.Tanh(), POOLS[kind], nn.Conv2d(4, 3, 1)), randn(*IMAGE))


@pytest.mark.claim("M1", "property")
def test_flatten_keeps_the_copies_of_a_channel_together():
    model = network(
        nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 5), nn.Tanh(), nn.Linear(5, 3)
    )
    holds(model, randn(*IMAGE))
    block = layout(model, 2, example_inputs=randn(*IMAGE)).placements["3.weight"].profiles[1].block
    assert block.tolist() == [9 * c + p for c in range(4) for _ in range(2) for p in range(9)]


@pytest.mark.claim("M1", "property")
def test_residual_sums():
    block = Sum(nn.Identity(), nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 5)))
    holds(network(nn.Linear(4, 5), block, nn.Tanh(), nn.Linear(5, 3)), randn(*FEATURES))


@pytest.mark.claim("M1", "property")
@pytest.mark.parametrize(
    "kind", [nn.ReLU, nn.GELU, nn.SiLU, nn.Softplus, nn.Tanh, nn.Sigmoid, nn.LeakyReLU, nn.ELU]
)
def test_elementwise_activations(kind):
    holds(network(nn.Linear(4, 5), kind(), nn.Linear(5, 3)), randn(*FEATURES), [(2, "equal"), (3, "equitable")])


@pytest.mark.claim("M1", "property")
@pytest.mark.parametrize("slopes", [1, 5])
def test_prelu(slopes):
    holds(network(nn.Linear(4, 5), nn.PReLU(slopes), nn.Linear(5, 3)), randn(*FEATURES))


@pytest.mark.claim("M1", "property")
def test_dropout_that_is_off():
    holds(network(nn.Linear(4, 5), nn.Tanh(), nn.Dropout(0.0), nn.Linear(5, 3)), randn(*FEATURES))


@st.composite
def compositions(draw):
    """Draw a network of up to five cloned modules in a row, nested in residual sums; every draw can be cloned."""
    width = draw(st.sampled_from([4, 6]))
    layers = [nn.Conv2d(3, width, 3, padding=1)]
    for _ in range(draw(st.integers(1, 5))):
        block = draw(st.sampled_from(sorted(BLOCKS)))
        layer = BLOCKS[block](width)
        layers.append(Sum(nn.Identity(), layer) if draw(st.booleans()) else layer)
    return network(*layers, nn.Conv2d(width, 2, 1), seed=draw(st.integers(0, 99)))


BLOCKS = {
    "convolution": lambda width: nn.Conv2d(width, width, 3, padding=1),
    "wider and back": lambda width: nn.Sequential(
        nn.Conv2d(width, 2 * width, 1), nn.Tanh(), nn.Conv2d(2 * width, width, 1)
    ),
    "groups": lambda width: nn.Conv2d(width, width, 3, padding=1, groups=2),
    "depthwise": lambda width: nn.Conv2d(width, width, 3, padding=1, groups=width),
    "batch norm": nn.BatchNorm2d,
    "layer norm": lambda width: nn.GroupNorm(1, width),
    "group norm": lambda width: nn.GroupNorm(2, width),
    "tanh": lambda width: nn.Tanh(),
    "prelu": nn.PReLU,
    "pool": lambda width: nn.AvgPool2d(3, stride=1, padding=1),
}


@pytest.mark.claim("M1", "property")
@given(compositions(), st.sampled_from(CASES), st.integers(0, 2**31))
def test_networks_of_cloned_modules_are_cloned(model, case, seed):
    (factor, mode), x = case, randn(2, 3, 5, 5)
    twin, place = clone(model, factor, mode, rng(seed), example_inputs=x), layout(model, factor, example_inputs=x)
    assert gap(outputs(model, x), outputs(twin, x)) <= EXACT
    train(twin.eval(), x, steps=3)
    found = max(max(r.rows, r.columns) for r in residuals(twin, place))
    assert found <= TRAINED
    witness(residual=found)


EVERY_ACTIVATION = [
    getattr(nn, name)
    for name in nn.modules.activation.__all__
    if name not in ("GLU", "MultiheadAttention", "Threshold", "Softmax2d", "PReLU")
]


@pytest.mark.parametrize("kind", EVERY_ACTIVATION, ids=lambda kind: kind.__name__)
def test_every_activation_of_torch_has_a_rule(kind):
    """Softmax and its kin over the features are reported, over the tokens they are cloned."""
    softmax = kind.__name__ in ("Softmax", "Softmin", "LogSoftmax")
    model, x = network(nn.Linear(4, 5), kind(dim=1) if softmax else kind(), nn.Linear(5, 3)), randn(*TOKENS)
    assert gap(outputs(model, x), outputs(clone(model, 2, "equitable", rng(), example_inputs=x), x)) <= EXACT
    if softmax:
        with pytest.raises(ValueError, match="a softmax runs over this axis"):
            clone(network(nn.Linear(4, 5), kind(dim=-1), nn.Linear(5, 3)), example_inputs=x)


class Last(nn.Module):
    """The last output of a recurrent network."""

    def __init__(self, kind):
        super().__init__()
        self.cells = kind(4, 3, num_layers=2, batch_first=True)

    def forward(self, x):
        return self.cells(x)[0][:, -1]


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_recurrent_layers(kind):
    holds(network(Last(kind), nn.Linear(3, 2)), randn(*TOKENS), [(2, "equal"), (3, "equitable")])


def test_lstm_cells_in_float32_are_seen_through_though_onednn_fuses_them():
    base, x = network(Last(nn.LSTM), nn.Linear(3, 2)).float(), randn(*TOKENS).float()
    with torch.no_grad():
        expected = base(x)
        assert torch.allclose(clone(base, 2, example_inputs=x)(x), expected, atol=1e-6)
    assert torch.backends.mkldnn.enabled


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
@pytest.mark.parametrize("wrap", [nn.utils.parametrizations.weight_norm, nn.utils.weight_norm])
@pytest.mark.parametrize("dim", [0, 1])
def test_weight_norm(wrap, dim):
    model = network(
        wrap(nn.Linear(4, 6), dim=dim), nn.ReLU(), wrap(nn.Linear(6, 5), dim=dim), nn.Tanh(), nn.Linear(5, 2)
    )
    holds(model, randn(9, 4), [(2, "equal"), (3, "equal")])


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
@pytest.mark.parametrize("wrap", [nn.utils.parametrizations.weight_norm, nn.utils.weight_norm])
def test_weight_norm_of_convolutions_in_groups(wrap):
    model = network(
        wrap(nn.Conv2d(2, 6, 3)), nn.ReLU(), wrap(nn.Conv2d(6, 4, 1, groups=2)), nn.Flatten(), nn.Linear(16, 2)
    )
    holds(model, randn(9, 2, 4, 4), [(2, "equal"), (3, "equal")])


@pytest.mark.parametrize("wrap", [nn.utils.parametrizations.spectral_norm, nn.utils.spectral_norm])
def test_spectral_norm(wrap):
    """Also where training finds the singular vectors anew: tanh carries no factor √n from inputs on, ReLU does."""
    model = network(wrap(nn.Linear(4, 6)), nn.ReLU(), wrap(nn.Linear(6, 5)), nn.Tanh(), nn.Linear(5, 2))
    for _ in range(20):
        model(randn(9, 4))  # power iterations, which `network` has moved away from their limit
    holds(model, randn(9, 4), [(2, "equal"), (3, "equal")])
    first = network(wrap(nn.Linear(4, 6)), nn.Tanh(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 2))
    twin = clone(first, 2, example_inputs=randn(9, 4))
    assert (twin[0].out_features, twin[2].out_features) == (6, 10)


class Function(nn.Module):
    """A network of three layers in float64 that a function puts together, with inputs of its own."""

    def __init__(self, function, first=None, middle=None, last=None):
        super().__init__()
        self.first, self.middle, self.last = (
            first or nn.Linear(4, 6),
            middle or nn.Linear(6, 6),
            last or nn.Linear(6, 3),
        )
        self.function = function

    def forward(self, *inputs):
        return self.function(self, *inputs)


IDS, EDGES = torch.randint(9, (7, 5), generator=rng()), torch.randint(7, (2, 20), generator=rng())
MASK = torch.rand(7, 5, generator=rng()) > 0.4


def embedded(pick):
    """Return a network that picks entries of the hidden features of tokens."""

    def forward(net, ids, *rest):
        return net.last(net.middle(pick(torch.tanh(net.first[1](net.first[0](ids))), *rest)).tanh())

    return Function(forward, nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 6)))


def passed(reduce):
    """Return a network of two rounds of messages along edges of a graph."""

    def forward(net, x, edges):
        h = torch.tanh(net.first(x))
        return net.last(torch.tanh(net.middle(reduce(h, edges))))

    return Function(forward)


def bag(mode):
    """Return a network that reads bags of tokens."""

    def forward(net, ids, offsets=None):
        return net.last(net.middle(net.first[1](net.first[0](ids, offsets).tanh())).tanh())

    return Function(forward, nn.ModuleList([nn.EmbeddingBag(9, 4, mode=mode), nn.Linear(4, 6)]))


def routed(net, x):
    """Send every row through the two experts of three that it scores highest."""
    h = torch.tanh(net.first(x))
    weight, chosen = net.middle[0](h).softmax(-1).topk(2)
    out = torch.zeros_like(h)
    for k, expert in enumerate(net.middle[1:]):
        row, slot = torch.where(chosen == k)
        out.index_add_(0, row, expert(h[row]).tanh() * weight[row, slot, None])
    return net.last(out)


def swapped_halves(net, x):
    """Write the halves of the hidden features into a tensor, in the other order."""
    h = torch.tanh(net.first(x))
    a, b = h.chunk(2, dim=1)
    out = torch.zeros_like(h)
    out[:, : a.shape[1]], out[:, a.shape[1] :] = b, a
    return net.last(net.middle(out).tanh())


INDEXED = {
    "one token of each row": (lambda: embedded(lambda h, n: h[torch.arange(len(h)), n]), (IDS, IDS[:, 0] % 5)),
    "some tokens": (lambda: embedded(lambda h: h[:, torch.tensor([0, 2, 3])]), (IDS,)),
    "tokens under a mask": (lambda: embedded(lambda h, mask: h[mask]), (IDS, MASK)),
    "tokens filled in": (
        lambda: embedded(lambda h, mask: h.index_put((mask,), torch.zeros(()).double())),
        (IDS, MASK),
    ),
    "sorted tokens": (lambda: embedded(lambda h: h.sort(dim=1)[0]), (IDS,)),
    "tokens by Fourier": (lambda: embedded(lambda h: torch.fft.fft(h, dim=1).real), (IDS,)),
    "sums of messages": (
        lambda: passed(lambda h, e: torch.zeros_like(h).index_add(0, e[1], h[e[0]])),
        (randn(7, 4), EDGES),
    ),
    "scattered messages": (
        lambda: passed(lambda h, e: torch.zeros_like(h).scatter_add_(0, e[1][:, None].expand_as(h[e[0]]), h[e[0]])),
        (randn(7, 4), EDGES),
    ),
    "means of messages": (
        lambda: passed(
            lambda h, e: h.scatter_reduce(0, e[1][:, None].expand_as(h[e[0]]), h.index_select(0, e[0]), "mean")
        ),
        (randn(7, 4), EDGES),
    ),
    "gathered": (
        lambda: passed(lambda h, e: h.gather(0, e[0][:, None].expand(-1, h.shape[1]))),
        (randn(7, 4), EDGES),
    ),
    "bags by mean": (lambda: bag("mean"), (IDS,)),
    "bags by sum with offsets": (lambda: bag("sum"), (IDS.flatten(), torch.tensor([0, 3, 9]))),
    "bags by maximum": (lambda: bag("max"), (IDS,)),
    "experts by rows": (
        lambda: Function(routed, middle=nn.ModuleList([nn.Linear(6, 3), *(nn.Linear(6, 6) for _ in range(3))])),
        (randn(24, 4),),
    ),
    "halves written into a tensor": (lambda: Function(swapped_halves), (randn(7, 4),)),
}


@pytest.mark.parametrize("kind", INDEXED)
def test_entries_chosen_or_written_by_an_index(kind):
    make, inputs = INDEXED[kind]
    holds(network(make())[0], inputs, [(2, "equal"), (3, "equitable")])


def test_what_is_written_into_a_part_of_a_tensor_is_the_same_axis():
    """Else copies would be told by the columns of other units."""

    def shifted(net, x):
        h = torch.relu(net.first(x))
        out = torch.zeros_like(h)
        out[:, 1:] = h[:, :-1]
        return net.last(out)

    model = network(Function(shifted))[0]
    with torch.no_grad():
        for tensor in (model.first.weight, model.first.bias, model.last.weight.T):
            tensor[3] = tensor[1]
    blocks = coarsest_blocks(model, (randn(9, 4),))
    assert not any(profile.copied for profile in blocks.groups.values())


@pytest.mark.parametrize("order", [2.0, 3.0, float("inf")])
def test_distances_to_prototypes(order):
    def forward(net, x):
        h = net.middle[0](net.first(x).tanh()).tanh()
        return net.last(torch.cdist(h, net.middle[1].weight, p=order))

    prototypes = nn.ModuleList([nn.Linear(6, 6), nn.Linear(6, 5, bias=False)])
    model = network(Function(forward, middle=prototypes, last=nn.Linear(5, 3)))[0]
    assert clone(model, 2, example_inputs=(randn(9, 4),)).middle[0].out_features == 12
    holds(model, (randn(9, 4),), [(2, "equal")])


def images(*layers):
    """Return a network with a convolution before these layers, and one after them that reads some channels."""
    *between, channels = layers
    return network(nn.Conv2d(3, 4, 3), *between, nn.Conv2d(channels, 3, 1))


POSITIONS = {
    "pixel unshuffle": lambda: images(nn.Tanh(), nn.PixelUnshuffle(2), 16),
    "adaptive pooling to a size that does not divide": lambda: images(nn.AdaptiveAvgPool2d((4, 5)), nn.Tanh(), 4),
    "patches": lambda: images(nn.Tanh(), nn.Unfold(2), nn.Unflatten(2, (5, 5)), 16),
    "patches and back": lambda: images(nn.Tanh(), nn.Unfold(2), nn.Fold((6, 6), 2), 4),
    "unpooling": lambda: network(Function(unpooled, *(nn.Conv2d(n, m, 1) for n, m in ((3, 4), (4, 4), (4, 3)))))[0],
    "instance norm": lambda: images(nn.InstanceNorm2d(4, affine=True), nn.Tanh(), 4),
    "standardised weights": lambda: images(nn.Tanh(), Standardised(4, 5, 3), nn.ReLU(), 5),
    "spectral norm": lambda: images(
        nn.Tanh(), nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 5, 3)), nn.Tanh(), 5
    ),
    "rounded to a grid": lambda: images(
        Gate(lambda x: torch.fake_quantize_per_tensor_affine(x, 0.01, 0, -999, 999)), 4
    ),
}


def unpooled(net, x):
    pooled, places = nn.functional.max_pool2d(net.first(x).tanh(), 2, return_indices=True)
    return net.last(nn.functional.max_unpool2d(net.middle(pooled), places, 2).tanh())


class Standardised(nn.Conv2d):
    """A convolution whose filters have mean zero and variance one."""

    def forward(self, x):
        spread, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True, correction=0)
        return nn.functional.conv2d(x, (self.weight - mean) / (spread + 1e-5).sqrt(), self.bias)


@pytest.mark.parametrize("kind", POSITIONS)
def test_what_moves_between_positions_and_channels(kind):
    model, x = POSITIONS[kind](), randn(*IMAGE)
    twin = clone(model, 2, example_inputs=x)
    assert gap(outputs(model, x), outputs(twin, x)) <= EXACT
    assert sum(p.numel() for p in twin.parameters()) > 1.2 * sum(p.numel() for p in model.parameters())
    if kind != "rounded to a grid":  # which may round two errors to two sides
        holds(model, x, [(2, "equal")])


def test_recurrent_layers_with_projections_and_cells():
    holds(network(Projected())[0], randn(*TOKENS), [(2, "equal")])


class Projected(nn.Module):
    """An LSTM that returns fewer features than it has cells, then a cell, on packed sequences."""

    def __init__(self):
        super().__init__()
        self.layer, self.cell, self.last = (
            nn.LSTM(4, 6, proj_size=3, batch_first=True),
            nn.GRUCell(3, 5),
            nn.Linear(5, 2),
        )

    def forward(self, x):
        lengths = torch.arange(len(x), 0, -1) + 1
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
        h, _ = nn.utils.rnn.pad_packed_sequence(self.layer(packed)[0], batch_first=True)
        state = None
        for k in range(h.shape[1]):
            state = self.cell(h[:, k], state)
        return self.last(state)


class Gate(nn.Module):
    """A function of features as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


GATES = {
    "glu": (lambda x: nn.functional.glu(x, dim=1), 4),
    "CReLU": (lambda x: torch.cat([x.relu(), (-x).relu()], dim=1), 16),
    "cosine": (lambda x: nn.functional.normalize(x, dim=1), 8),
    "pixel shuffle": (lambda x: nn.functional.pixel_shuffle(x, 2), 2),
    "channel shuffle": (nn.ChannelShuffle(2), 8),
    "squeeze and excite": (lambda x: x * x.mean((2, 3), keepdim=True).sigmoid(), 8),
    "sum of channel pairs": (lambda x: x.unflatten(1, (-1, 2)).sum(2), 4),
}


@pytest.mark.parametrize("kind", GATES)
def test_gates_shuffles_and_norms_of_features(kind):
    function, width = GATES[kind]
    cases = [(2, "equal"), (3, "equitable")]
    holds(network(nn.Conv2d(3, 8, 3), Gate(function), nn.Conv2d(width, 3, 1)), randn(*IMAGE), cases)


class Pair(nn.Module):
    """A bilinear form of two functions of the input."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 5), nn.Bilinear(5, 5, 3)

    def forward(self, x):
        return self.b(self.a(x).tanh(), self.a(x).sin())


def test_bilinear_layers():
    holds(network(Pair()), randn(*FEATURES), [(2, "equal"), (3, "equitable")])


def trained_residual(model, inputs, mode="equal", **noise):
    """Return the largest coset residual of a clone after 50 noisy steps."""
    twin, place = clone(model, 2, mode, rng(), example_inputs=inputs), layout(model, 2, example_inputs=inputs)
    start = {name: value.clone() for name, value in twin.state_dict().items()}
    rule = torch.optim.SGD(twin.parameters(), lr=0.01)
    if noise:
        rule.register_step_pre_hook(GradientNoise(generator=rng(), **noise))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        train(twin.train(), inputs, optimizer=rule)
    return max(r.coset for r in residuals(twin, place, start))


def plain():
    return network(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)), randn(*FEATURES)


@pytest.mark.control("M1")
def test_rows_alone_keep_the_function_and_lose_the_errors():
    model, x = plain()
    twin, place = clone(model, 2, "rows", rng(), example_inputs=x), layout(model, 2, example_inputs=x)
    found = deviations(twin, place, x, loss)
    assert gap(outputs(model, x), outputs(twin, x)) <= EXACT
    assert max(d.forward for d in found) <= EXACT
    assert max(d.backward for d in found) > 1e-2
    assert trained_residual(model, x, "rows") > 1e-4
    witness(residual=trained_residual(model, x, "rows"))


@pytest.mark.control("M1")
@pytest.mark.parametrize("mode", ["columns", "broken"])
def test_without_equitable_rows_the_function_is_lost(mode):
    model, x = plain()
    twin, place = clone(model, 2, mode, rng(), example_inputs=x), layout(model, 2, example_inputs=x)
    assert gap(outputs(model, x), outputs(twin, x)) > 1e-2
    assert max(d.forward for d in deviations(twin, place, x, loss)) > 1e-2


@pytest.mark.control("M1")
def test_profiles_that_do_not_match_lose_the_function():
    """Copies of a channel in another order after flatten than before: a mismatch of profiles."""
    layers = [nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3)]
    model, x = network(*layers), randn(*IMAGE)
    twin = clone(model, 2, example_inputs=x)
    twin[3].weight.data = model[3].weight.detach().repeat_interleave(2, 1) / 2
    assert gap(outputs(model, x), outputs(twin, x)) > 1e-2


@pytest.mark.control("M1")
def test_gradient_noise_leaves_the_manifold():
    assert trained_residual(*plain()) <= TRAINED
    assert trained_residual(*plain(), sigma=0.01) > 1e-4


def uneven(norm, features=6):
    """Return how much a norm changes when one feature has two copies and the others one."""
    x, block = randn(8, features, seed=1), torch.tensor([0, *range(features)])
    return gap([norm(features)(x)[:, block]], [norm(features + 1)(x[:, block])])


@pytest.mark.claim("M2", "property")
@pytest.mark.parametrize("kind", ["layer", "rms", "group"])
def test_norms_change_the_function_under_unequal_multiplicities(kind):
    norm = {**NORMS, "group": lambda width: nn.GroupNorm(1, width)}[kind]
    found = uneven(lambda width: norm(width).double())
    assert found > 1e-2
    witness()


@pytest.mark.control("M2")
@pytest.mark.parametrize("kind", ["layer", "rms", "group"])
def test_norms_keep_the_function_under_equal_multiplicities(kind):
    norm = {**NORMS, "group": lambda width: nn.GroupNorm(1, width)}[kind]
    x = randn(8, 6)
    repeated = norm(12).double()(x.repeat_interleave(2, 1))
    assert gap([norm(6).double()(x).repeat_interleave(2, 1)], [repeated]) <= 1e-4  # up to eps
    assert uneven(lambda width: nn.BatchNorm1d(width).double()) <= EXACT


class Joined(nn.Module):
    """A norm over inputs and hidden features side by side: the inputs may not be copied."""

    def __init__(self, norm):
        super().__init__()
        self.hidden, self.norm, self.head = nn.Linear(4, 5), norm(9), nn.Linear(9, 3)

    def forward(self, x):
        return self.head(self.norm(torch.cat([x, self.hidden(x).tanh()], dim=-1)))


@pytest.mark.claim("M2", "property")
@pytest.mark.parametrize("kind", [nn.LayerNorm, nn.RMSNorm])
def test_features_that_share_a_norm_with_inputs_are_not_copied(kind):
    model = network(Joined(kind))
    with pytest.raises(ValueError, match=r"0\.norm: it (needs equally many copies|averages)"):
        clone(model, example_inputs=randn(*FEATURES))
    witness()


def test_batch_norm_over_inputs_and_hidden_features_is_cloned_unevenly():
    holds(network(Joined(nn.BatchNorm1d)), randn(*FEATURES))


class Heads(nn.Module):
    """Attention with separate projections that knows the features of a head, as in most code."""

    def __init__(self):
        super().__init__()
        self.head_dim, self.q, self.k, self.v = 3, nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.o = nn.Linear(6, 6)

    def forward(self, x):
        q, k, v = (f(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2) for f in (self.q, self.k, self.v))
        return self.o(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


@pytest.mark.claim("M2", "property")
@pytest.mark.parametrize("factor", [2, 3])
def test_copied_features_of_heads_need_rescaled_queries_or_keys(factor):
    """Without it products grow by the factor and the scale shrinks by its root; with it the clone is exact."""
    model, x = network(nn.Linear(4, 6), Heads(), nn.Linear(6, 3)), 3 * randn(*TOKENS)
    options = {"example_inputs": x, "attention": "features"}
    twin, place = clone(model, factor, **options), layout(model, factor, **options)
    assert gap(outputs(model, x), outputs(twin, x)) <= EXACT
    assert twin[1].head_dim == 3 * factor
    start = {name: value.clone() for name, value in twin.state_dict().items()}
    train(twin, x)
    assert worst(twin, place, x, start) <= TRAINED
    witness(residual=worst(twin, place, x, start))
    naive = clone(model, factor, **options)
    moved = [n for n, p in place.placements.items() if p.exponent.denominator > 1]
    assert moved
    for name, parameter in naive.named_parameters():
        if name in moved:
            own = place.placements[name]
            plain = own._replace(exponent=Fraction(-1 if own.matrices else 0))
            parameter.data = widened(model.get_parameter(name).detach(), plain, factor)
    assert gap(outputs(model, x), outputs(naive, x)) > 1e-2


@pytest.mark.control("M2")
def test_copied_heads_need_no_rescaling():
    model, x = network(nn.Linear(4, 6), Heads(), nn.Linear(6, 3)), 3 * randn(*TOKENS)
    assert all(p.exponent in (0, -1) for p in layout(model, 2, example_inputs=x).placements.values())


class Tied(nn.Module):
    """Tokens in, logits of tokens out, by one table."""

    def __init__(self, norm):
        super().__init__()
        self.table, self.hidden, self.norm = nn.Embedding(7, 6), nn.Linear(6, 6), norm

    def forward(self, index):
        x = self.table(index)
        return linear(self.norm(x + self.hidden(x).tanh()), self.table.weight)


@pytest.mark.claim("M2", "property")
@pytest.mark.parametrize("factor", [2, 3])
def test_a_tied_table_leaves_the_division_to_the_norm(factor):
    model, index = network(Tied(nn.LayerNorm(6))), torch.randint(7, (3, 5), generator=rng())
    holds(model, index, [(factor, "equal"), (factor, "equitable")])
    twin = clone(model, factor, example_inputs=index)[0]
    assert torch.equal(twin.table.weight, model[0].table.weight.repeat_interleave(factor, 1))
    assert torch.equal(twin.norm.weight, model[0].norm.weight.repeat_interleave(factor) / factor)


@pytest.mark.control("M2")
def test_a_tied_table_without_such_a_norm_is_not_cloned():
    index = torch.randint(7, (3, 5), generator=rng())
    with pytest.raises(ValueError, match="no rescaling of parameters keeps the function"):
        clone(network(Tied(nn.LayerNorm(6, elementwise_affine=False))), example_inputs=index)


@pytest.mark.claim("M2", "property")
def test_dropout_on_copied_features_breaks_errors_and_invariance():
    model = network(nn.Linear(4, 5), nn.Tanh(), nn.Dropout(0.3), nn.Linear(5, 3))
    x = randn(*FEATURES)
    twin, place = clone(model, 2, example_inputs=x).train(), layout(model, 2, example_inputs=x)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found = {d.layer: d for d in deviations(twin, place, x, loss)}
    assert found["1"].forward <= EXACT
    assert found["1"].backward > 1e-2
    assert trained_residual(model, x) > 1e-4
    witness()


@pytest.mark.control("M2")
def test_dropout_on_inputs_and_after_the_last_copy_breaks_nothing():
    model = network(nn.Dropout(0.3), nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3), nn.Dropout(0.3))
    assert trained_residual(model, randn(*FEATURES)) <= TRAINED


@pytest.mark.claim("M1", "property")
def test_pooling_to_one_pixel_in_channels_last():
    model = network(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    holds(model, randn(*IMAGE).to(memory_format=torch.channels_last))


def test_a_view_by_strides_that_swaps_axes_is_reported():
    class Swapped(nn.Module):
        def forward(self, x):
            return x.clone().as_strided_((4, 4), (1, 4))

    with pytest.raises(ValueError, match="not followed; use view, permute or reshape"):
        clone(network(nn.Linear(4, 4), Swapped(), nn.Linear(4, 3)), example_inputs=randn(4, 4))
