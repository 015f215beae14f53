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


def test_every_panel_asks_one_question():
    with style.context():
        figure = tiny_symptoms.draw(small_symptoms(None))
    lines = [[line for line in axis.lines if line.get_marker() != "<"] for axis in figure.axes]
    assert [len(drawn) for drawn in lines] == [2] * 4 + [1] * 8
    assert [axis.get_title(loc="left") for axis in figure.axes[8:]] == [
        "accuracy while learning",
        "duplicate units",
        "duplicates (JL25)",
        "effective rank",
    ]
    assert [axis.get_ylabel() for axis in figure.axes[::4]] == [
        "MLP\nseeds: 3, 1",
        "CNN, half width\none seed",
        "ViT, quarter width\none seed",
    ]


def test_published_ends_are_where_they_are_counted_alike_and_filled_where_the_network_is_the_same():
    with style.context():
        figure = tiny_symptoms.draw(small_symptoms(None))
    faces = [
        [line.get_markerfacecolor() for line in axis.lines if line.get_marker() == "<"] for axis in figure.axes
    ]
    assert faces == [[style.BLACK], [], [style.BLACK], [style.BLACK], *[["white"], [], ["white"], ["white"]] * 2]


def test_a_panel_without_dead_units_says_so():
    data = {"cnn": put(0.0, metric=series.DEAD)(table({"none": (0,)}))}
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
