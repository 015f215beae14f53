"""Settings of a run that cannot be are named."""

import pytest

from torch_experiments.lab.training import Config


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
