import pytest

from torch_experiments.support.choices import choose


def test_a_choice_is_returned_and_a_wrong_one_lists_what_is_allowed():
    assert choose("mode", "fast", {"fast": 1, "slow": 2}) == 1
    with pytest.raises(ValueError, match=r"^mode: got 'quick'; allowed are 'fast', 'slow'$"):
        choose("mode", "quick", {"fast": 1, "slow": 2})
