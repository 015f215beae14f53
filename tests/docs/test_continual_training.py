"""What the pages say of training runs is what their records show."""

from tests.docs.pages import read
from torch_experiments.lab import records, training
from torch_experiments.lab.campaign import items
from torch_experiments.lab.experiments import e02_symptoms
from torch_experiments.lab.report import findings, lost, published, series

TRAINING, FOUND = "docs/continual-training.md", "docs/findings.md"


def told(text, page=TRAINING):
    assert text in " ".join(read(page).split())


def lengths_of_tasks():
    """Return the rows of the table of the plain MLP, by steps a task."""
    found = [
        "| steps a task | first task | accuracy while learning | silent units | effective rank |",
        "|---|---:|---:|---:|---:|",
    ]
    for name in ("mlp", "mlp-medium", "mlp-paper"):
        runs = series.runs(name)
        accuracy, silent, rank = (runs.over("none", m) for m in (series.ACCURACY, series.SILENT, series.RANK))
        about = f"{runs.item.configs('')['none'].steps:,}, {series.counted(len(accuracy))}"
        ends = f"{findings.ends(accuracy)} | {findings.ends(silent)} | {findings.ends(rank, 0)}"
        found.append(f"| {about} | {accuracy[:, 0].mean():.2f} | {ends} |")
    accuracy, dead, rank = (published.streams()["mlp", "none", what] for what in ("accuracy", "dead", "rank"))
    ends = f"{accuracy.start:.2f} → {accuracy.end:.2f} | {dead.start:.2f} → {dead.end:.2f}"
    found.append(f"| JL25, figure 3.1 | {accuracy.start:.2f} | {ends} | {rank.start:.0f} → {rank.end:.0f} |")
    return found


def test_the_numbers_of_the_runs_on_tiny_imagenet_are_those_of_their_records():
    assert "\n".join(lengths_of_tasks()) in read(TRAINING)
    short, medium = series.runs("mlp"), series.runs("mlp-medium")
    ahead = -lost.behind(short, "none")
    low, high = series.interval(ahead)
    told(f"a fresh network learns the last five tasks *worse*, by {ahead.mean():.3f} [{low:.3f}, {high:.3f}]")
    accuracy, normed = (medium.over(cell, series.ACCURACY) for cell in ("none", "layer, affine"))
    ends = f"{series.end(accuracy)[0]:.2f}", f"{series.end(normed)[0]:.2f}"
    told(f"it ends at {ends[0]}, while with layer norm the same tasks end at {ends[1]}")


def test_the_first_task_tells_the_length_of_the_published_ones():
    names = ("mlp", "mlp-medium", "mlp-paper")
    firsts = {name: series.runs(name).over("none", series.ACCURACY)[:, 0].mean() for name in names}
    start = published.streams()["mlp", "none", "accuracy"].start
    assert min(firsts, key=lambda name: abs(firsts[name] - start)) == "mlp-paper"


def test_what_is_said_of_remedies_is_what_the_records_show():
    runs = series.runs("remedies")
    learnt = {cell: series.second_half(runs.over(cell, series.ACCURACY)) for cell in runs.cells}
    low, high = series.interval(learnt["parseval"] - learnt["fresh"])
    assert 0 < low < high < 0.05, "a little better"
    low, high = series.interval(learnt["spectral"] - learnt["fresh"])
    assert low < 0 < high, "as well"
    assert series.interval(learnt["batch-norm"] - learnt["none"])[0] > 0.1, "far above"
    lost = learnt["fresh, batch-norm"] - learnt["batch-norm"]
    low, high = series.interval(lost)
    told(f"still {lost.mean():.3f} [{low:.3f}, {high:.3f}] below a fresh network with batch norm")
    rank = {cell: series.second_half(runs.over(cell, series.RANK)) for cell in ("none", "cbp", "cbp-mean")}
    low, high = series.interval(rank["cbp"] - rank["none"])
    assert low < 0 < high, "the records cannot tell"
    low, high = series.interval(rank["cbp-mean"] - rank["none"])
    told(f"the rank is larger by {(rank['cbp-mean'] - rank['none']).mean():.1f} [{low:.1f}, {high:.1f}]", FOUND)
    low, high = series.interval(learnt["noise"] - learnt["none"])
    assert low < -0.1 < 0.1 < high, "may help or harm"


def test_the_command_on_the_page_finds_a_committed_record():
    config = e02_symptoms.configs("text", "mlp", "tiny-imagenet-200.zip")["none"]
    about = training.run_identity(config, 0, items.TINY_IMAGENET)
    assert records.find(items.RESULTS / "mlp", about) is not None
    assert "--arch mlp --profile text --data FOLDER --seeds 0 --resume --out results/mlp" in read(TRAINING)


def test_the_long_run_falls_by_a_third_of_the_published_fall():
    told("by a third of the published fall", FOUND)
    theirs = published.streams()["mlp", "none", "accuracy"]
    (ours,) = findings.change(series.runs("mlp-paper").over("none", series.UNMASKED))
    assert 0.3 < ours / (theirs.end - theirs.start) < 0.37


def test_a_plain_vit_makes_clones_at_once_and_parts_them():
    table = items.found("vit").table.to_pylist()
    rows = [
        row for row in table if (row["layer"], row["metric"], row["seed"]) == (training.WHOLE, series.DUPLICATE, 0)
    ]
    course = {(row["cell"], row["task"], row["step"]): row["value"] for row in rows}
    told(f"{course['none', 0, 100]:.0%} of its units are duplicates after 100 steps".replace("%", " %"), FOUND)
    normed = max(value for (cell, _, _), value in course.items() if cell == "layer, affine")
    told(f"With layer norm at most {normed:.0%} are duplicates at any time".replace("%", " %"), FOUND)
    assert series.end(series.runs("vit").over("none", series.DUPLICATE))[0] < 0.02, "parts them"
