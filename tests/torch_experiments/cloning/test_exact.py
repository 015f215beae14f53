"""Cloning whole networks: the four architectures, strangers from Hugging Face, long training, and bad input."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import prune

from claims.evidence import witness
from tests.torch_experiments.cloning.test_modulewise import Heads, loss, network, randn, rng, trained_residual
from tests.torch_experiments.heads import NETWORKS, Noisy, made
from theory.tolerances import float32_identity
from torch_experiments import TraceError, clone, layout, residuals, trace
from torch_experiments.cloning import verify
from torch_experiments.cloning.modulewise import deviations
from torch_experiments.cloning.widen import gap, outputs
from torch_experiments.lab.models import cnn, mlp, resnet18, vit
from torch_experiments.support.noise import GradientNoise
from torch_experiments.units import Call, Value, operation
from torch_experiments.units.inputs import call
from torch_experiments.units.registry import OPERATIONS

ARCHITECTURES = {
    "mlp": lambda **options: mlp(3 * 16 * 16, 5, width=8, depth=3, **options),
    "cnn": lambda **options: cnn(16, 5, width=4, hidden=8, **options),
    "resnet18": lambda **options: resnet18(5, width=4, **options),
    "vit": lambda **options: vit(16, 5, width=12, heads=3, depth=2, **options),
}
IMAGES = (6, 3, 16, 16)


def off_defaults(model, seed=0):
    """Move all parameters and statistics off their defaults."""
    generator = rng(seed)
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.is_floating_point() and tensor.ndim:
            tensor.data.add_(0.1 * torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype))
    return model.eval()


def base_of(arch, norm="batch", dtype=torch.float64, **options):
    return off_defaults(ARCHITECTURES[arch](norm=norm, dtype=dtype, **options))


@pytest.mark.claim("M1", "property")
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_four_architectures_keep_their_function(arch, norm, affine):
    model, x = base_of(arch, norm, affine=affine), randn(*IMAGES)
    for factor, mode in ((2, "equal"), (3, "equitable")):
        twin = clone(model, factor, mode, rng(), example_inputs=x)
        found = gap(outputs(model, x), outputs(twin, x))
        assert found <= 1e-12
        witness(residual=found)


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_four_architectures_keep_their_function_in_float32(arch, norm):
    model, x = base_of(arch, norm, torch.float32), randn(*IMAGES).float()
    assert gap(outputs(model, x), outputs(clone(model, example_inputs=x), x)) <= 1e-5 < float32_identity()


@pytest.mark.parametrize("norm", ["none", "layer"])
def test_the_vit_can_copy_the_features_of_its_heads(norm):
    model, x = base_of("vit", norm), randn(*IMAGES)
    twin = clone(model, 3, example_inputs=x, attention="features")
    assert gap(outputs(model, x), outputs(twin, x)) <= 1e-12
    assert twin.block1.attention.head_dim == 12
    assert clone(model, 3, example_inputs=x).block1.attention.head_dim == 4


def test_every_hidden_axis_is_copied():
    """Parameters grow by the square of the factor but for first and last layers, norms and biases."""
    for arch in ARCHITECTURES:
        model, x = base_of(arch), randn(*IMAGES)
        twin = clone(model, 2, example_inputs=x)
        for (name, mine), theirs in zip(model.named_parameters(), twin.parameters(), strict=True):
            first, last = mine.shape[1:2] in ((3,), (768,)), name.startswith("head")
            outer = 1 if last else 2
            inner = 1 if first or mine.ndim == 1 or mine.shape[0] == 1 else 2
            assert theirs.numel() == mine.numel() * outer * inner or "token" in name, name


def follow(model, x, optimizer, steps, hook=None, lr=1e-3):
    """Train on random labels, and return the state before."""
    start = {name: value.clone() for name, value in model.state_dict().items()}
    rule = optimizer(model.parameters(), lr=lr)
    if hook is not None:
        rule.register_step_pre_hook(hook)
    y = torch.randint(5, (len(x),), generator=rng())
    for _ in range(steps):
        rule.zero_grad()
        cross_entropy(model(x), y).backward()
        rule.step()
    return start


def residual(model, place, start):
    return max(max(r.rows, r.columns, r.coset) for r in residuals(model, place, start))


LONG = [("mlp", "batch"), ("cnn", "layer"), ("resnet18", "none"), ("vit", "layer")]
RULES = {"SGD": torch.optim.SGD, "Adam": torch.optim.Adam}


@pytest.mark.claim("M1", "training")
@pytest.mark.parametrize("optimizer", RULES)
@pytest.mark.parametrize(("arch", "norm"), LONG)
def test_a_clone_stays_on_its_manifold_for_200_steps(arch, norm, optimizer):
    """For Adam before a norm: the gradient of a bias that BatchNorm removes is rounding alone, so that has none."""
    model, x = base_of(arch, norm), randn(3, *IMAGES[1:])
    if arch == "mlp":
        for layer in (model.linear1, model.linear2, model.linear3):
            layer.bias = None
    twin, place = clone(model, 2, "equitable", rng(), example_inputs=x), layout(model, 2, example_inputs=x)
    start = follow(twin.train(), x, RULES[optimizer], 200)
    found = residual(twin, place, start)
    assert found <= 1e-9
    assert max(max(d.forward, d.backward) for d in deviations(twin, place, x, loss)) <= 1e-8
    witness(residual=found)


@pytest.mark.control("M1")
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_noise_leaves_the_manifold(arch):
    model, x = base_of(arch, "layer"), randn(*IMAGES)
    twin, place = clone(model, 2, example_inputs=x), layout(model, 2, example_inputs=x)
    start = follow(twin.train(), x, torch.optim.SGD, 10, GradientNoise(0.01, generator=rng()))
    assert residual(twin, place, start) > 1e-6


@pytest.mark.control("M1")
@pytest.mark.parametrize("arch", ["mlp", "cnn", "vit"])
def test_dropout_on_copies_leaves_the_manifold(arch):
    model, x = base_of(arch, "none", dropout=0.1), randn(*IMAGES)
    twin, place = clone(model, 2, example_inputs=x), layout(model, 2, example_inputs=x)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        start = follow(twin.train(), x, torch.optim.SGD, 10, lr=0.01)
    assert residual(twin, place, start) > 1e-6


def hugging_face(kind):
    """Return a small random model of a kind, built from its configuration alone, and inputs; skip without it."""
    pytest.importorskip("transformers", reason="transformers is not installed: pip install 'lop-companion[hf]'")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, x = HUGGING_FACE[kind]()
    return off_defaults(model.double()), x


def hf_vit():
    from transformers.models.vit import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=12,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=24,
        image_size=16,
        patch_size=8,
    )
    return ViTForImageClassification(config), randn(*IMAGES)


def hf_resnet(layer_type="basic"):
    from transformers.models.resnet import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type=layer_type)
    return ResNetForImageClassification(config), randn(2, 3, 32, 32)


def hf_gpt2(**options):
    from transformers.models.gpt2 import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        n_embd=12, n_layer=2, n_head=3, vocab_size=20, n_positions=16, bos_token_id=0, eos_token_id=0, **options
    )
    return GPT2LMHeadModel(config), torch.randint(20, (2, 5), generator=rng())


HUGGING_FACE = {
    "ViTForImageClassification": hf_vit,
    "ResNetForImageClassification, basic": hf_resnet,
    "ResNetForImageClassification, bottleneck": lambda: hf_resnet("bottleneck"),
    "GPT2LMHeadModel": hf_gpt2,
    "GPT2LMHeadModel, eager, untied": lambda: hf_gpt2(attn_implementation="eager", tie_word_embeddings=False),
}


@pytest.mark.parametrize("attention", ["heads", "features"])
@pytest.mark.parametrize("kind", HUGGING_FACE)
def test_strangers_from_hugging_face_keep_their_function(kind, attention):
    model, x = hugging_face(kind)
    for factor, mode in ((2, "equal"), (3, "equitable")):
        twin = clone(model, factor, mode, rng(), example_inputs=x, attention=attention)
        assert gap(outputs(model, x), outputs(twin, x)) <= 1e-12
    assert sum(p.numel() for p in twin.parameters()) > 4 * sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("kind", ["ViTForImageClassification", "GPT2LMHeadModel"])
def test_strangers_in_float32(kind):
    model, x = hugging_face(kind)
    model, x = model.float(), x.float() if x.is_floating_point() else x
    assert gap(outputs(model, x), outputs(clone(model, example_inputs=x), x)) <= 1e-5


@pytest.mark.parametrize("kind", ["ViTForImageClassification", "GPT2LMHeadModel"])
def test_a_stranger_stays_a_clone_in_training(kind):
    model, x = hugging_face(kind)
    twin, place = clone(model, 2, "equitable", rng(), example_inputs=x), layout(model, 2, example_inputs=x)
    start = {name: value.clone() for name, value in twin.state_dict().items()}
    rule = torch.optim.Adam(twin.parameters(), lr=1e-3)
    for _ in range(50):
        rule.zero_grad()
        loss(call(twin, x)).backward()
        rule.step()
    assert residual(twin, place, start) <= 1e-9


def test_tied_weights_stay_tied_and_the_last_norm_divides():
    model, x = hugging_face("GPT2LMHeadModel")
    twin = clone(model, 2, example_inputs=x)
    assert twin.lm_head.weight is twin.transformer.wte.weight
    assert torch.equal(twin.transformer.wte.weight, model.transformer.wte.weight.repeat_interleave(2, 1))
    assert torch.equal(twin.transformer.ln_f.weight, model.transformer.ln_f.weight.repeat_interleave(2) / 2)


def test_several_inputs_by_name():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.head = nn.Linear(3, 5), nn.Linear(4, 5), nn.Linear(5, 2)

        def forward(self, x, y):
            return {"out": self.head((self.a(x) * torch.sigmoid(self.b(y))).tanh())}

    model, inputs = Two().double(), {"x": randn(6, 3), "y": randn(6, 4)}
    assert gap(outputs(model, inputs), outputs(clone(model, 3, example_inputs=inputs), inputs)) <= 1e-12


def test_the_base_the_global_generator_and_the_mode_are_left_alone():
    model, x = base_of("vit", "layer").train(), randn(*IMAGES)
    before, state = copy.deepcopy(model.state_dict()), torch.random.get_rng_state()
    twin = clone(model, 2, "equitable", rng(), example_inputs=x)
    assert twin.training
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_what_is_not_copied_is_reported_with_its_reason():
    from torch_experiments.cloning import make_plan

    kept = make_plan(trace(base_of("mlp"), randn(*IMAGES)), 2).kept()
    assert kept == {"head.bias": "the network: an axis of an output"}


class Layer(nn.Module):
    """A layer between two Linear ones that does ``act``."""

    def __init__(self, act):
        super().__init__()
        self.first, self.act, self.last = nn.Linear(4, 6), Act(act), nn.Linear(6, 3)

    def forward(self, x):
        return self.last(self.act(self.first(x)))


class Act(nn.Module):
    """A function as a module."""

    def __init__(self, act):
        super().__init__()
        self.function = act

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (
            lambda x: torch.fft.fft(x).real,
            r"no unit that could be copied: .*act: aten::_fft_.* tells its indices apart",
        ),
        (lambda x: torch.linalg.qr(x.T)[0].T, r"act: there is no rule for aten::linalg_qr \(add one with @torch"),
        (lambda x: x if x.sum() > 0 else -x, r"layer 'act': aten::.* reads a number out of a tensor.*torch.where"),
        (lambda x: x.view(-1, 6).clone(), r"layer 'last' \(Linear\): does not run .*; sizes named: 6 in 'act'"),
        (lambda x: x * len(x[0]) ** 0.5, None),
        (lambda x: x.unflatten(1, (2, 3)).flatten(1), r"layer 'act' \(Act\): does not run at its new size"),
        (lambda x: x * torch.arange(6), r"no unit that could be copied: .*act: a result of aten::arange"),
        (lambda x: x / 0, r"layer 'act': its activations are not finite"),
    ],
)
def test_what_cannot_be_cloned_is_named(act, message):
    model, x = Layer(act).double(), randn(5, 4)
    if message is None:
        assert gap(outputs(model, x), outputs(clone(model, example_inputs=x), x)) <= 1e-12
        return
    with pytest.raises(TraceError, match=message):
        clone(model, example_inputs=x)


def test_a_formula_of_the_width_is_named():
    model = Layer(lambda x: torch.sin(x + x.shape[1])).double()
    with pytest.raises(TraceError, match=r"the clone runs but computes something else"):
        clone(model, example_inputs=randn(5, 4))


def test_attention_whose_heads_cannot_follow_is_reported():
    """The input's width is fixed, `nn.MultiheadAttention` ties its heads to it; only its neighbours are copied."""
    model = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True).double()
    x = randn(3, 5, 6)
    twin = clone(model, example_inputs=x)
    assert gap(outputs(model, x), outputs(twin, x)) <= 1e-12
    assert twin.self_attn.num_heads == 2
    assert twin.linear1.out_features == 16
    alone = nn.Sequential(nn.MultiheadAttention(6, 2, batch_first=True)).double()
    with pytest.raises(TraceError, match=r"nn.MultiheadAttention has one embed_dim for input and heads"):
        clone(alone[0], example_inputs=(x, x, x))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"factor": 1}, r"factor: got 1; it has to be at least 2"),
        ({"mode": "same"}, r"mode: got 'same'; allowed are 'equal', 'equitable', 'rows'"),
        ({"attention": "dims"}, r"attention: got 'dims'; allowed are 'heads', 'features'"),
        ({"example_inputs": None}, r"example_inputs: is missing; pass a batch that Heads can be called with"),
        ({"example_inputs": randn(2, 5, 6).to("meta")}, r"layer 'q': its parameters are on cpu, an input on meta"),
    ],
)
def test_a_wrong_argument_is_named(given, message):
    with pytest.raises(ValueError, match=message):
        clone(Heads().double(), **{"example_inputs": randn(2, 5, 6)} | given)


def test_a_batch_of_one_can_be_traced_under_batch_norm():
    """Tracing and checking are in eval mode, where BatchNorm takes one sample; training on it is torch's error."""
    model, x = network(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 2)), randn(1, 4)
    assert gap(outputs(model, x), outputs(clone(model, example_inputs=x), x)) <= 1e-12


@torch.library.custom_op("lop_test::double", mutates_args=())
def double(x: torch.Tensor) -> torch.Tensor:
    """Return ``2 x``, in a way that no trace can look into."""
    return torch.from_numpy(2 * x.detach().numpy())


def test_a_rule_of_ones_own_takes_a_few_lines():
    model, x = Layer(lambda x: double(x)).double(), randn(5, 4)
    with pytest.raises(TraceError, match=r"there is no rule for lop_test::double"):
        clone(model, example_inputs=x)

    @operation("lop_test::double")
    def rule(call: Call) -> Value:
        x = call.value("x")
        return Value(x.axes, x.gauge)

    try:
        assert gap(outputs(model, x), outputs(clone(model, example_inputs=x), x)) <= 1e-12
    finally:
        del OPERATIONS["lop_test::double"]


def test_noise_on_nothing_keeps_a_clone():
    model = network(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    assert trained_residual(model, randn(6, 4), sigma=0.0) <= 1e-10


def test_a_pruned_layer_that_names_a_size_is_cloned():
    """Its weight is a plain attribute, a tensor, beside the integers that may be sizes."""

    class Split(nn.Linear):
        def forward(self, x):
            return super().forward(x).view(len(x), self.width)

    layer = prune.random_unstructured(Split(4, 6), "weight", amount=0.5)
    layer.width = 6
    model, x = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), layer, nn.ReLU(), nn.Linear(6, 2)).double(), randn(5, 3)
    wide = clone(model, 2, example_inputs=x)
    assert float((wide(x) - model(x)).detach().abs().max()) < 1e-12


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_all_heads_keep_their_function_if_all_are_read(name):
    model, examples, unread = made(name)
    for factor, mode, order in ((2, "equal", "interleaved"), (3, "equitable", "tiled")):
        wide = clone(model, factor, mode, rng(), example_inputs=examples, order=order)
        for example in examples:
            assert gap(outputs(model, example), outputs(wide, example)) < 1e-12
        place = layout(model, factor, example_inputs=examples, order=order)
        assert verify(wide, model, place, examples).kept
    with pytest.raises(TraceError, match=rf"no operation reads {unread}.*Give a list of examples"):
        clone(model, example_inputs=examples[0])


def test_copies_of_shared_units_stay_copies_while_all_heads_are_trained():
    model, examples, _ = made("tasks")
    wide = clone(model, 2, "equitable", rng(), example_inputs=examples)
    place = layout(model, 2, example_inputs=examples)
    optimizer = torch.optim.SGD(wide.parameters(), 0.05)
    for step in range(30):
        optimizer.zero_grad()
        (call(wide, examples[step % 3]) ** 2).mean().backward()
        optimizer.step()
    assert max(max(r.rows, r.columns) for r in residuals(wide, place)) < 1e-9


def test_what_only_training_reads_is_named_and_other_sizes_are_left_alone():
    model, x = nn.Sequential(Noisy(4, 8), nn.ReLU(), Noisy(8, 3)), torch.randn(5, 4)
    with pytest.raises(TraceError, match=r"no operation reads 0\.sigma, 2\.sigma, which may belong to units"):
        clone(model, example_inputs=x)
    plain = network(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    plain.register_buffer("count", torch.zeros(()))
    plain.register_buffer("ids", torch.arange(8))  # as many as units, but no weight
    plain.register_parameter("temperature", nn.Parameter(torch.ones(5, 7)))
    wide = clone(plain, example_inputs=x.double())
    assert wide.temperature.shape == (5, 7)
