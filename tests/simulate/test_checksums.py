"""A checksum is of all that is said and of nothing else."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulate.checksums import SEAL, checksum, of_array, sealed, unsealed

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
ABOUT = st.dictionaries(st.text(min_size=1, max_size=4), JSON, max_size=4)
PARTS = st.dictionaries(st.text(max_size=4), st.binary(max_size=20), max_size=4)


@given(ABOUT, PARTS)
def test_what_was_sealed_is_read_after_json(about, parts):
    about.pop(SEAL, None)
    read = json.loads(json.dumps(sealed(about, parts)))
    assert json.dumps(unsealed(read, parts), sort_keys=True) == json.dumps(about, sort_keys=True)


@given(ABOUT, PARTS, st.data())
def test_any_other_part_is_refused(about, parts, data):
    other = data.draw(PARTS.filter(lambda other: other != parts))
    with pytest.raises(ValueError, match="not that of its checksum"):
        unsealed(sealed(about, parts), other)


def test_parts_do_not_run_into_each_other():
    assert checksum({}, {"a": b"12", "b": b"3"}) != checksum({}, {"a": b"1", "b": b"23"})
    assert checksum({}, {"a": b'1\n"b" 1\n2'}) != checksum({}, {"a": b"1", "b": b"2"})


def test_what_has_no_checksum_is_read_as_it_is():
    assert unsealed({"seed": 0}, {"loss": b"0"}) == {"seed": 0}


@pytest.mark.parametrize("other", [np.ones(4), np.ones((2, 2), np.float32), np.array([[1, 1], [1, 1.5]])])
def test_type_shape_and_numbers_of_an_array_count(other):
    assert of_array(other) != of_array(np.ones((2, 2)))
    assert of_array(other) == of_array(np.repeat(other[None], 2, axis=0)[1])
