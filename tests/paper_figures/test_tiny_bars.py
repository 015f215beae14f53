import pyarrow as pa

from paper_figures import tiny_bars
from paper_figures.support import style
from tests.paper_figures.finished_cases import mlp, put, table
from torch_experiments.lab.report import series


def test_settings_that_hardly_differ_are_no_agreement():
    data = mlp()
    assert tiny_bars.agreement(data, series.ACCURACY) == (4, 5)  # dropout is published lower, and is higher here
    assert tiny_bars.agreement(put(0.5, metric=series.UNMASKED)(data), series.ACCURACY) == (0, 5)
    apart = pa.concat_tables([table({"none": (0,)}), table({"batch": (0,), "layer": (1,)})])
    assert tiny_bars.agreement(apart, series.ACCURACY) == (1, 1)


def test_every_bar_is_drawn():
    with style.context():
        axes = tiny_bars.draw(mlp()).axes
    assert [len(axis.patches) // 6 for axis in axes] == [3, 3, 2, 3, 1]
    assert [axis.get_xlabel() for axis in axes] == [""] * 4 + ["(not published)"]
