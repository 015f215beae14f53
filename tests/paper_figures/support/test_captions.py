import pytest

from paper_figures.support import captions
from paper_figures.support.captions import Caption, CaptionError, Check


def test_a_nan_makes_no_statement_true():
    with pytest.raises(CaptionError, match="figure 'f'"):
        captions.verify("f", [Check("fine", True), Check("less", float("nan") < 1)])


def test_an_untrue_check_is_quoted_and_a_true_one_is_not():
    with pytest.raises(CaptionError, match=r"figure 'f': .* Two is 3\.") as caught:
        captions.verify("f", [Check("One is 1.", True), Check("Two is 3.", False)])
    assert "One is 1." not in str(caught.value)
    captions.verify("f", [Check("One is 1.", True)])


def test_checks_and_notes_are_paragraphs_of_their_own():
    caption = Caption(
        "Two are shown.", [Check("One is 1.", True), Check("Two is 2.", True)], ["Three is measured."]
    )
    assert str(caption).split("\n\n") == [
        "Two are shown.",
        "Checked: One is 1. Two is 2.",
        "Noted, not checked: Three is measured.\n",
    ]
    assert "Noted" not in str(Caption("Two are shown.", [Check("One is 1.", True)]))


def test_lines_are_short_and_break_no_name():
    text = str(Caption("shrink-perturb " * 40, []))
    assert max(map(len, text.splitlines())) <= captions.WIDTH
    assert text.split() == ["shrink-perturb"] * 40
