"""The collector is paused for a block, and is as it was after it."""

import gc

import pytest

from torch_experiments.support.collection import uncollected


def failing():
    with uncollected():
        raise KeyError(gc.isenabled())


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_as_it_was_after_an_error(enabled):
    before = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        with pytest.raises(KeyError, match="False"):
            failing()
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if before else gc.disable)()
