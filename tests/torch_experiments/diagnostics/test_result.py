"""The result is a mapping, a table and a picture."""

import pytest

from tests.torch_experiments.diagnostics.samples import rendered, small
from torch_experiments import diagnose
from torch_experiments.diagnostics.result import SHOWN, About, Diagnosis


def test_the_table_keeps_every_name_whole_at_eighty_columns():
    values = dict.fromkeys(SHOWN, 0.06789)
    found = Diagnosis({"transformer.h.10.mlp.act": values}, About(9, 0, {}, {}, (), 0.0))
    words = {part for name in SHOWN for part in name.removesuffix("_fraction").split("_")}
    for width, whole in ((80, True), (40, False)):
        page = rendered(found, width)
        assert all(word in page for word in words) == whole
        assert ("…" not in page) == whole


def test_a_result_is_a_mapping_a_table_and_a_picture():
    model, x, y = small()
    found = diagnose(model, x, y, metrics=["dead_fraction", "weight_norm"])
    assert found["act1"] == {"dead_fraction": 0.0}
    table = found.to_table()
    assert table.column_names == ["layer", "metric", "value"]
    assert table.num_rows == sum(map(len, found.values()))
    assert "act1" in rendered(found)
    with pytest.raises(KeyError, match="sign_entropy"):
        found.mean("sign_entropy")
