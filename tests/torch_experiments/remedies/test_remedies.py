"""Remedies by name."""

from torch_experiments import remedies


def test_every_remedy_is_made_by_name():
    assert all(isinstance(remedies.make(name), remedies.Remedy) for name in remedies.REMEDIES)
    assert not remedies.make("none").edits_gradients
    assert remedies.make("l2").edits_gradients
    assert remedies.make("cbp").watches
