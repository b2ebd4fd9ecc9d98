"""The house stands: imports point downward, the core is light, the stages are ours."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

PACKAGES = ("collm_nas", "data_gen", "finetune", "inference", "eval")
STAGES = PACKAGES[1:]
HEAVY = {
    "numpy",
    "pandas",
    "torch",
    "transformers",
    "scipy",
    "sklearn",
    "pyarrow",
    "outlines",
    "peft",
    "trl",
    "datasets",
}


def tool(name: str) -> Path:
    return Path(sysconfig.get_path("scripts")) / name


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)


def loaded_after(code: str) -> set[str]:
    """Top-level names in `sys.modules` once a fresh interpreter has run `code` (whose own output comes before)."""
    done = python(f"{code}\nimport sys\nprint()\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))")
    return set(done.stdout.splitlines()[-1].split())


def sources(repository: Path) -> list[Path]:
    return [p for top in (*PACKAGES, "tests") for p in sorted((repository / top).rglob("*.py"))]


def test_imports_point_downward(repository: Path) -> None:
    done = subprocess.run(
        [tool("lint-imports"), "--no-cache"], cwd=repository, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_import_is_light() -> None:
    assert not loaded_after("import collm_nas") & HEAVY


def test_help_is_light() -> None:
    code = "from collm_nas.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit as e:\n    assert not e.code"
    assert not loaded_after(code) & HEAVY


def test_the_light_test_can_fail() -> None:
    assert "numpy" in loaded_after("import numpy")


def test_console_script_answers() -> None:
    done = subprocess.run([tool("collm-nas"), "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for command in ("search", "mine", "finetune", "bench", "report", "replay"):
        assert command in done.stdout


@pytest.mark.parametrize("stage", STAGES)
def test_stage_is_ours(stage: str, repository: Path) -> None:
    package = importlib.import_module(stage)
    assert package.PROJECT == "collm-nas"
    assert package.__doc__
    assert Path(str(package.__file__)).is_relative_to(repository)


@pytest.mark.parametrize("package", PACKAGES)
def test_typed(package: str, repository: Path) -> None:
    assert (repository / package / "py.typed").is_file()


def test_eval_is_never_imported_bare(repository: Path) -> None:
    """`import eval` would shadow the built-in in that module."""
    for path in sources(repository):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.asname or alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not any(name.partition(".")[0] == "eval" for name in names), f"{path}:{node.lineno}"


def test_variants_know_the_coordinator_by_its_seams_alone() -> None:
    """They overrode its private methods, so that none of these could be changed without reading all of eval."""
    from collm_nas.coordinator import Coordinator
    from eval.variants import COORDINATORS

    private = set(re.findall(r"(?:self\.|def )(_[a-z]\w*)", inspect.getsource(Coordinator)))
    assert {"_allowed", "_plan_of", "_round", "_read"} <= private
    for name, kind in COORDINATORS.items():
        for own in kind.__mro__[: kind.__mro__.index(Coordinator)]:
            used = set(re.findall(r"(?:self\.|super\(\)\.|def )(_[a-z]\w*)", inspect.getsource(own)))
            assert not used & private, f"{name} ({own.__name__})"


def test_test_folders_are_packages(repository: Path) -> None:
    """Without `__init__.py`, tests/inference would be the package `inference`."""
    folders = {path.parent for path in (repository / "tests").rglob("*.py")}
    assert not [folder for folder in folders if not (folder / "__init__.py").is_file()]


def test_every_dependency_is_used_by_someone(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    modules = {"scikit-learn": "sklearn", "pyyaml": "yaml", "pillow": "PIL"}
    code = "\n".join(p.read_text(encoding="utf-8") for p in sources(repository) if "tests" not in p.parts)
    for requirement in project["dependencies"]:
        name = re.split(r"[<>=\[ ]", requirement)[0]
        pattern = rf"(import|from) ({modules.get(name, name)}|{name})\b"
        assert re.search(pattern, code), f"nobody imports {name}"


def test_every_dependency_is_pinned(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    text = (repository / "constraints.txt").read_text()
    pins = {line.partition("==")[0].lower().replace("_", "-") for line in text.splitlines() if "==" in line}
    assert "+" not in text, "a local version label is on one machine's index alone"
    for requirement in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
        assert re.split(r"[<>=\[ ]", requirement)[0].lower() in pins, requirement
