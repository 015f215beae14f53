import matplotlib

from paper_figures.support import style


def test_the_style_holds_inside_its_context_only():
    before = dict(matplotlib.rcParams)
    with style.context():
        assert matplotlib.rcParams["font.family"] == ["STIXGeneral", "DejaVu Sans"]
        assert not matplotlib.rcParams["text.usetex"]
    assert dict(matplotlib.rcParams) == before
