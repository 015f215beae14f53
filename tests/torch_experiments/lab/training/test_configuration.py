"""Settings of a run that cannot be are named."""

import pytest

from torch_experiments.lab import records
from torch_experiments.lab.campaign import items
from torch_experiments.lab.training import Config, run_identity
from torch_experiments.lab.training.configuration import LATER


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arch": "mpl"}, r"arch: got 'mpl'; allowed are 'mlp', 'cnn', 'resnet18', 'vit'"),
        ({"stream": "x"}, r"stream: got 'x'; allowed are 'class_split'"),
        ({"remedy": "x"}, r"remedy: got 'x'; allowed are 'none', 'l2'"),
        (
            {"remedy": "l2", "remedy_settings": (("decay", 1),)},
            r"settings of the remedy 'l2': got 'decay'; allowed",
        ),
        ({"protocol": "mine"}, r"protocol: got 'mine'; allowed are 'corrected', 'published'"),
        ({"first": -1}, r"first: got -1; the tasks of a stream are numbered from 0"),
        ({"steps": 0}, r"steps: got 0; it has to be at least 1"),
        ({"padding": -1}, r"augmentation: got padding -1"),
    ],
)
def test_a_wrong_setting_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        Config(**change)


def test_younger_fields_leave_the_names_of_old_records_as_they_are():
    old = "10790b045efb8b12"
    about = run_identity(Config(), 0, "0123456789abcdef")
    assert not set(LATER).intersection(about)
    assert records.key(about) == old
    changed = {"size": 4, "trapped": True, "betas": (0.9, 0.9)}
    keys = {
        records.key(run_identity(Config(**{name: value}), 0, "0123456789abcdef")) for name, value in changed.items()
    }
    decayed = run_identity(Config(optimizer="adamw", weight_decay=0.1), 0, "0123456789abcdef")
    assert len({old, *keys, records.key(decayed)}) == 5


@pytest.mark.parametrize("name", ["streams", "remedies"])
def test_committed_records_are_found(name):
    item = items.item(name)
    label, config = next(iter(item.configs("").items()))
    about = run_identity(config, item.seeds[0], item.fingerprint)
    assert records.find(items.RESULTS / name, about) is not None, label
