import pytest
from matplotlib.figure import Figure

from paper_figures.support import drawing, legibility, style


def panel(*lines, **legend):
    """Return a figure of one panel with lines of these looks, and a legend of entries if there are some."""
    with style.context():
        figure = Figure(figsize=(3, 2))
        axis = figure.subplots()
        for k, look in enumerate(lines):
            axis.plot([0, 1], [k, k + 1], **look)
        entries = [drawing.entry(label, **look) for label, look in legend.items()]
        if entries:
            figure.legend(handles=entries, loc="outside lower center")
        return figure


def test_what_every_legend_names_is_no_problem():
    solid, dashed = {"color": style.BLUE}, {"color": style.ORANGE, "linestyle": "--"}
    assert legibility.problems(panel(solid)) == []
    assert legibility.problems(panel(solid, dashed, a=solid, b=dashed)) == []


def test_dashes_and_colours_may_be_named_apart():
    looks = [{"color": c, "linestyle": line} for c in (style.BLUE, style.ORANGE) for line in ("-", "--")]
    named = {"blue": {"color": style.BLUE}, "orange": {"color": style.ORANGE}}
    assert legibility.unexplained(panel(*looks, **named)) == ["panel '': nothing says what -- means"]
    assert legibility.unexplained(panel(*looks, **named, published={"linestyle": "--"})) == []


@pytest.mark.parametrize(
    ("look", "lacking"),
    [
        ({"color": style.ORANGE}, style.ORANGE),
        ({"color": style.BLUE, "linestyle": ":"}, ":"),
        ({"color": style.BLUE, "marker": ".", "linestyle": ""}, "marker ."),
        ({"color": style.BLUE, "marker": "o", "markerfacecolor": "white"}, "marker o hollow"),
    ],
)
def test_a_look_without_a_word_is_found(look, lacking):
    found = legibility.unexplained(panel({"color": style.BLUE}, look, a={"color": style.BLUE}))
    assert found == [f"panel '': nothing says what {lacking} means"]


def test_a_marker_of_a_named_colour_that_no_other_mark_has_is_told_by_it():
    dots = {"color": style.ORANGE, "marker": "x", "linestyle": ""}
    named = {"a": {"color": style.BLUE}, "b": {"color": style.ORANGE}}
    assert legibility.unexplained(panel({"color": style.BLUE}, dots, **named)) == []


def test_text_of_the_colour_names_a_line():
    figure = panel({"color": style.BLUE}, {"color": style.ORANGE}, a={"color": style.BLUE})
    assert legibility.unexplained(figure)
    figure.axes[0].text(0.5, 0.1, "theory", color=style.ORANGE)
    assert legibility.problems(figure) == []


def test_a_zero_line_is_no_mark_but_a_dotted_one_is():
    figure = panel({"color": style.BLUE})
    figure.axes[0].axhline(0, color=style.GREY)
    assert legibility.unexplained(figure) == []
    figure.axes[0].axvline(0, color=style.BLUE, linestyle=":")
    assert "panel '': nothing says what : means" in legibility.unexplained(figure)


def test_bars_hatches_and_edges_are_marks():
    figure = panel()
    axis = figure.axes[0]
    axis.bar([1, 2], [1, 1], color=style.BLUE, hatch=["", "///"], linewidth=0)
    axis.bar(3, 1, color=style.BLUE, edgecolor=style.GREEN, linewidth=2)
    assert legibility.unexplained(figure) == [
        "panel '': nothing says what #0072B2 means",
        "panel '': nothing says what #009E73 means",
        "panel '': nothing says what /// means",
    ]


def test_points_of_a_scatter_are_marks():
    figure = panel()
    figure.axes[0].scatter([1, 2], [1, 2], c=[style.BLUE, style.ORANGE])
    assert len(legibility.unexplained(figure)) == 2
    figure.axes[0].collections[0].set_array([0.0, 1.0])  # a scale of colours has a bar
    assert legibility.unexplained(figure) == []


def test_words_along_an_axis_name_its_rows():
    figure = panel({"color": style.BLUE, "marker": "o"}, {"color": style.ORANGE, "marker": "o"})
    assert legibility.unexplained(figure)
    figure.axes[0].set_yticks([0, 1], ["plain", "layer norm"])
    assert legibility.unexplained(figure) == []


def test_an_entry_with_two_meanings_is_found():
    figure = panel({"color": style.BLUE}, **{"forward score; clone": {"color": style.BLUE}})
    assert legibility.problems(figure) == ["one look has two meanings: 'forward score; clone'"]


def test_small_text_cut_text_and_text_on_text_are_found():
    figure = panel({"color": style.BLUE})
    axis = figure.axes[0]
    axis.text(0.4, 0.5, "tiny", fontsize=5)
    assert legibility.problems(figure) == ["'tiny' has 5 points"]
    axis.texts[0].set_fontsize(7)
    axis.text(0.41, 0.5, "over")
    assert legibility.problems(figure) == ["'tiny' lies on 'over'"]
    axis.texts[0].set_position((0.9, 0.5))
    axis.texts[0].set_text("a label that goes on beyond the edge")
    axis.texts[0].set_in_layout(False)
    assert legibility.problems(figure) == ["'a label that goes on beyond the edge' is cut off"]


def test_a_legend_on_data_is_found():
    figure = panel({"color": style.BLUE})
    figure.axes[0].legend(handles=[drawing.entry("a", color=style.BLUE)], loc="center")
    assert legibility.problems(figure) == ["panel '': the legend lies on data"]
    figure.axes[0].legend(handles=[drawing.entry("a", color=style.BLUE)], loc="upper left")
    assert legibility.problems(figure) == []
