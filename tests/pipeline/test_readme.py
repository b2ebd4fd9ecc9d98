"""The README's Python does what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest


def blocks(repository: Path, language: str) -> list[str]:
    text = (repository / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def test_python_runs(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    [code] = blocks(repository, "python")
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["result"]["counts"]["evaluated"] == 20
    assert str(names["result"]["best"]["fitness"]) in capsys.readouterr().out
    fewest = names["space"].cost(names["space"].parse(names["smallest"]["best"]["arch"]))["params"]
    assert -fewest == names["smallest"]["best"]["fitness"]


def test_yaml_is_a_space(repository: Path, tmp_path: Path) -> None:
    from collm_nas import spaces

    [text] = blocks(repository, "yaml")
    path = tmp_path / "my-space.yaml"
    path.write_text(text, encoding="utf-8")
    space = spaces.load(str(path))
    assert space.size == 3 + 9
    assert space.format(space.parse("2:mb3_k3+identity")) == "2:mb3_k3+identity"


def test_the_tree_names_what_is_there(repository: Path) -> None:
    text = (repository / "README.md").read_text(encoding="utf-8")
    tree = text.partition("## The tree")[2].partition("## ")[0]
    for name in re.findall(r"^  (\w+\.py|[\w/]+/) ", tree, flags=re.MULTILINE):
        assert (repository / "collm_nas" / name).exists(), name
    for name in re.findall(r"^(\w+/) ", tree, flags=re.MULTILINE):
        assert (repository / name).is_dir(), name
