"""Batched augmentation against a per-image reference in NumPy and Pillow."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from torch_experiments.lab.images import augment
from torch_experiments.lab.images.augment import Augmentation, Draw
from torch_experiments.support.generators import generator


def batch(n=16, channels=3, size=12):
    return torch.randint(0, 256, (n, channels, size, size), generator=generator(1), dtype=torch.uint8)


def reference(x, draw, padding):
    """Crop and flip one image after the other, padded by NumPy."""
    out = []
    for image, top, left, flip in zip(x.numpy(), *(t.tolist() for t in draw[:3]), strict=True):
        padded = np.pad(image, ((0, 0), (padding, padding), (padding, padding)))
        crop = padded[:, top : top + x.shape[2], left : left + x.shape[3]]
        out.append(crop[:, :, ::-1] if flip else crop)
    return np.stack(out)


@pytest.mark.parametrize("padding", [0, 1, 4])
@pytest.mark.parametrize("crop", [augment.crop_flip, augment.gathered])
def test_crops_and_flips_are_those_of_each_image(padding, crop):
    x, change = batch(), Augmentation(padding=padding, flip=True)
    draw = change.draw(len(x), generator(0))
    assert np.array_equal(crop(x, draw, padding).numpy(), reference(x, draw, padding))


def test_a_crop_off_by_one_is_noticed():
    x, change = batch(), Augmentation(padding=2, flip=True)
    draw = change.draw(len(x), generator(0))
    shifted = draw._replace(top=(draw.top + 1) % 5)
    assert not np.array_equal(augment.crop_flip(x, shifted, 2).numpy(), reference(x, draw, 2))


@pytest.mark.parametrize("kind", ["Brightness", "Contrast", "Color"])
def test_jitter_agrees_with_pillow_to_its_rounding(kind):
    x = batch(size=16)
    row = ("Brightness", "Contrast", "Color").index(kind)
    factors = torch.ones(3, len(x))
    factors[row] = torch.linspace(0.6, 1.4, len(x))
    found = augment.jitter(x.float(), factors)
    for k, image in enumerate(x.permute(0, 2, 3, 1).numpy()):
        enhanced = getattr(ImageEnhance, kind)(Image.fromarray(image)).enhance(float(factors[row, k]))
        assert np.abs(found[k].permute(1, 2, 0).numpy() - np.asarray(enhanced)).max() <= 1.5


def test_the_three_factors_follow_each_other():
    x, factors = batch(4), torch.tensor([[1.2], [0.7], [1.3]]).expand(3, 4)
    found = x.double()
    for row in range(3):
        one = torch.ones(3, 4)
        one[row] = factors[row]
        found = augment.jitter(found, one)
    assert torch.allclose(augment.jitter(x.double(), factors), found)


def test_grey_images_are_brightened_and_contrasted():
    x = batch(4, channels=1)
    found = augment.jitter(x.double(), torch.tensor([[1.0], [0.5], [9.0]]).expand(3, 4))
    mean = x.double().mean(dim=(2, 3), keepdim=True)
    assert torch.allclose(found, 0.5 * x + 0.5 * mean, rtol=1e-6)


def test_draws_have_their_ranges_and_half_are_flipped():
    draw = Augmentation(padding=3, flip=True, jitter=0.1).draw(4000, generator(0))
    assert set(draw.top.tolist()) == set(draw.left.tolist()) == set(range(7))
    assert abs(float(draw.flip.double().mean()) - 0.5) < 0.04
    assert 0.9 <= float(draw.factors.min()) < 0.901 < 1.099 < float(draw.factors.max()) <= 1.1


def test_nothing_changes_nothing_and_leaves_the_images_alone():
    x = batch()
    kept = x.clone()
    assert torch.equal(augment.NOTHING(x, generator(0)), x.float())
    Augmentation(2, True, 0.5)(x, generator(0))
    assert torch.equal(x, kept)


def test_equal_generators_give_equal_batches():
    x, change = batch(), Augmentation(2, True, 0.1)
    assert torch.equal(change(x, generator(3)), change(x, generator(3)))
    assert not torch.equal(change(x, generator(3)), change(x, generator(4)))


@pytest.mark.parametrize("wrong", [{"padding": -1}, {"jitter": 1.0}, {"jitter": -0.1}])
def test_wrong_settings_are_named(wrong):
    with pytest.raises(ValueError, match=r"augmentation: got padding .*allowed are padding ≥ 0 and 0 ≤ jitter < 1"):
        Augmentation(**wrong)


def test_a_draw_outside_the_padding_is_silent_outside_the_image():
    x = batch(1, size=3)
    far = Draw(torch.tensor([8]), torch.tensor([0]), torch.tensor([False]), torch.ones(3, 1))
    assert not augment.crop_flip(x, far, 4).any()
