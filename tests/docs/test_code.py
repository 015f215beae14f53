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
