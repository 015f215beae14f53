import pytest

from paper_figures import tiny_symptoms
from paper_figures.support import registry, style
from tests.paper_figures.finished_cases import put, small_symptoms, table, told
from torch_experiments.lab.report import series


@pytest.mark.parametrize("items", [["mlp"], ["mlp-medium"], ["cnn", "vit"]], ids=str)
def test_symptoms_of_some_networks_are_drawn(items):
    data = {name: table({"none": (0,)}) for name in items}
    registry.check(tiny_symptoms, data)
    assert ("CNN of half width" in told(tiny_symptoms, data).split("finished runs: ")[1].split(". ")[0]) == (
        "cnn" not in items
    )
    with style.context():
        rows = {tiny_symptoms.COURSES[name].row for name in items}
        assert len(tiny_symptoms.draw(data).axes) == 4 * len(rows)


def test_both_ways_of_measuring_are_drawn():
    with style.context():
        axes = tiny_symptoms.draw(small_symptoms(None)).axes
    dashed = [len([line for line in axis.lines if line.get_linestyle() == "--"]) for axis in axes]
    assert dashed == [2, 2, 1, 2, *[1, 1, 0, 1] * 2]


def test_published_ends_are_filled_where_the_network_is_the_same():
    with style.context():
        axes = tiny_symptoms.draw(small_symptoms(None)).axes
    faces = [[line.get_markerfacecolor() for line in axis.lines if line.get_marker() == "<"] for axis in axes]
    assert faces[:4] == [[style.BLACK] * 2] * 3 + [[]]
    assert faces[4:] == [["white"]] * 8


def test_a_panel_without_dead_units_says_so():
    data = {"vit": put(0.0, metric=series.DEAD)(put(0.0, metric=series.SILENT)(table({"none": (0,)})))}
    with style.context():
        _, dead, *others = tiny_symptoms.draw(data).axes
    assert [text.get_text() for text in dead.texts] == ["none in any task"]
    assert dead.get_ylim() == (0, 1)
    assert not any(axis.texts for axis in others)


def test_directions_are_those_of_the_results_page():
    data = {"mlp": table({"none": (0, 1)})}
    assert tiny_symptoms._taken("mlp", data["mlp"]) == [series.ACCURACY, series.DEAD, series.RANK]
    still = put(0.5, metric=series.UNMASKED)(data["mlp"])
    assert tiny_symptoms._taken("mlp", still) == [series.DEAD, series.RANK]
