"""The code on the pages runs and prints what its comments say."""

import ast
import re

import pytest

from tests.docs.pages import GUIDES, blocks, read

PYTHON = [
    pytest.param(text, id=f"{page}-{k}")
    for page in GUIDES
    for k, text in enumerate(blocks(read(page), "python"), start=1)
]


@pytest.mark.parametrize("text", PYTHON)
def test_python_prints_what_its_comments_say(text, capsys):
    said = re.findall(r"^ *print\(.*\)  # (.*)$", text, flags=re.MULTILINE)
    assert len(said) == len(re.findall(r"^ *print\(", text, flags=re.MULTILINE)) > 0
    exec(compile(text, "page", "exec"), {})
    assert capsys.readouterr().out.splitlines()[-len(said) :] == said


def test_the_module_rule_in_the_guide_for_contributors_imports_what_is_there():
    (text,) = blocks(read("CONTRIBUTING.md"), "python")
    imports = [node for node in ast.parse(text).body if isinstance(node, ast.Import | ast.ImportFrom)]
    exec(compile(ast.Module(imports, []), "page", "exec"), {})


TEXT_MODEL = """
from transformers import DistilBertConfig, DistilBertForSequenceClassification

sizes = {"vocab_size": 99, "dim": 32, "hidden_dim": 64, "n_heads": 4, "n_layers": 2, "max_position_embeddings": 32}
model = DistilBertForSequenceClassification(DistilBertConfig(activation="relu", num_labels=5, **sizes))
"""
TOKENIZED = """
ids, y = torch.randint(1, 99, (64, 12)), torch.randint(0, 5, (64,))
mask = torch.ones_like(ids)
mask[::2, 8:] = 0
x = {"input_ids": ids * mask, "attention_mask": mask}
"""


def test_the_lines_of_the_readme_run_with_a_text_model_and_the_batch_of_a_tokenizer(capsys):
    pytest.importorskip("transformers")
    text = next(block for block in blocks(read("README.md"), "python") if "Recovery(monitor" in block)
    for old, new in ((r"model = .*", TEXT_MODEL), (r"x, y = .*", TOKENIZED), (r"model\(x\)", "model(**x).logits")):
        text, count = re.subn(old, new, text)
        assert count
    exec(compile(text, "page", "exec"), {})
    freed, held = capsys.readouterr().out.splitlines()[-2:]
    assert re.fullmatch(r"[1-9]\d* dead units freed, loss moved by 0\.000", freed)
    assert held.startswith("held by dead or cloned units: ")
