"""The transformers engine: seeds, adapters, and what it says about folders that don't fit."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from collm_nas.api import Constraint, Request, Role, UserError
from inference import backends, engines
from inference.engines.transformers import TransformersEngine

STRATEGIES = Constraint("regex", "(a[0-9]b[0-9]){6}")
REQUEST = Request("generator", "<a>a0b1<gen>", 5, 42, 0.9, 40, STRATEGIES)

ELSEWHERE = """
import json, sys
from pathlib import Path
from inference import engines
from collm_nas.api import Constraint, Request
engine = engines.load("transformers", sys.argv[1])
answers = engine.generate(Request("generator", "<a>a0b1<gen>", 5, 42, 0.9, 40, Constraint("regex", sys.argv[2])))
kernels = [name for name in sys.modules if name.startswith("outlines_core.kernels")]
print(json.dumps({"texts": [a.text for a in answers], "kernels": kernels, "describe": engine.describe()}))
"""


def texts(engine: TransformersEngine, request: Request = REQUEST) -> list[str]:
    return [answer.text for answer in engine.generate(request)]


def test_equal_requests_equal_answers_whatever_came_before(engine: TransformersEngine) -> None:
    first = texts(engine)
    torch.manual_seed(7)
    engine.generate(Request("navigator", "<dir>", 2, 1, 1.0, 10))
    state = torch.get_rng_state()
    assert texts(engine) == first
    assert torch.equal(torch.get_rng_state(), state)
    other = Request("generator", REQUEST.prompt, 5, 43, 0.9, 40, STRATEGIES)
    assert texts(engine, other) != first


def test_equal_answers_in_another_process_without_a_compiled_kernel(
    engine: TransformersEngine, model_folder: Path
) -> None:
    """Outlines' own mask kernel runs under torch.compile: seconds at first use, and it needs a C++ compiler."""
    command = [sys.executable, "-c", ELSEWHERE, str(model_folder), STRATEGIES.text]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    other = json.loads(done.stdout.splitlines()[-1])
    assert other == {"texts": texts(engine), "kernels": [], "describe": engine.describe()}


def logits(model: Any) -> torch.Tensor:
    ids = torch.arange(5, 45)[None]
    with torch.inference_mode():
        result: torch.Tensor = model(input_ids=ids).logits
    return result


def test_adapters_switch_and_equal_those_loaded_singly(engine: TransformersEngine, model_folder: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    found: dict[str, torch.Tensor] = {}
    roles: tuple[Role, ...] = ("navigator", "generator", "navigator")
    for role in roles:
        engine.generate(Request(role, "<dir>", 1, 0, 1.0, 2))
        found[role] = logits(engine.model)
        base = AutoModelForCausalLM.from_pretrained(model_folder / "base", local_files_only=True)
        plain = logits(base)
        alone = logits(PeftModel.from_pretrained(base, str(model_folder / role)).eval())
        torch.testing.assert_close(found[role], alone, rtol=1e-4, atol=1e-4)
        assert (found[role] - plain).abs().max() > 0.1
    assert (found["navigator"] - found["generator"]).abs().max() > 0.1


def test_a_chat_template_wraps_the_prompt(engine: TransformersEngine) -> None:
    talking = TransformersEngine(engine.folder, engine.model, copy.deepcopy(engine.tokenizer), "outlines_core")
    talking.tokenizer.chat_template = "<a>{{ messages[0].content }}{% if add_generation_prompt %}<gen>{% endif %}"
    bare = Request("generator", "a0b1", 5, 42, 0.9, 40, STRATEGIES)
    assert texts(talking, bare) == texts(engine) != texts(engine, bare)


def test_adapters_may_come_from_elsewhere(model_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(model_folder / "navigator", tmp_path / "mine")
    shutil.copy(model_folder / "manifest.json", tmp_path / "mine")
    swapped = engines.load("transformers", model_folder, generator=tmp_path / "mine")
    same = Request("navigator", REQUEST.prompt, 5, 42, 0.9, 40, STRATEGIES)
    assert isinstance(swapped, TransformersEngine)
    assert texts(swapped) == texts(swapped, same)


def test_the_description_names_what_was_loaded(engine: TransformersEngine, model_folder: Path) -> None:
    told = engine.describe()
    assert json.loads(json.dumps(told)) == told
    assert told["engine"] == "transformers" and told["encoding"] == "compact"
    assert set(told["model"]) == {"base", "navigator", "generator"} and len(set(told["model"].values())) == 3
    assert told["sources"] == {"nothing": "0" * 64}


def edit_manifest(**values: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        manifest = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps({**manifest, **values}))

    return edit


def other_tokenizer(folder: Path) -> None:
    path = folder / "base" / "tokenizer.json"
    path.write_text(path.read_text().replace('"a0"', '"@@"'))


DEFECTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing": (shutil.rmtree, "does not exist"),
    "no base": (lambda folder: shutil.rmtree(folder / "base"), "is not a model folder"),
    "no adapter": (lambda folder: shutil.rmtree(folder / "generator"), "no generator adapter in"),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), "has no manifest.json"),
    "bad manifest": (lambda folder: (folder / "manifest.json").write_text("{"), "manifest.json is not JSON"),
    "digest version": (edit_manifest(digest_version=99), "digest version 99 .* writes versions"),
    "no digest version": (edit_manifest(digest_version=None), "digest version None"),
    "tokenizer": (other_tokenizer, "trained with another tokenizer"),
    "weights": (
        lambda folder: (folder / "generator" / "adapter_model.safetensors").write_bytes(b"no"),
        "generator can't be loaded",
    ),
    "no weights": (lambda folder: (folder / "base" / "model.safetensors").unlink(), "base can't be loaded"),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_folder_that_does_not_fit_is_named_in_one_sentence(defect: str, model_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model_folder, tmp_path / "model")
    spoil, words = DEFECTS[defect]
    spoil(folder)
    with pytest.raises(UserError, match=words) as caught:
        engines.load("transformers", folder)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_unknown_engines_and_backends_are_refused_with_the_legal_names(engine: TransformersEngine) -> None:
    with pytest.raises(UserError, match=r"no engine 'gpt'; choose one of .*transformers"):
        engines.load("gpt", "anywhere")
    with pytest.raises(UserError, match=r"no grammar backend 'magic'; choose auto or one of .*outlines_core"):
        backends.load("magic", engine.vocabulary)


def test_an_unknown_way_of_sampling_is_named(tmp_path: Path) -> None:
    """`collm-nas bench --rows collm:sampling=maskd` ended in a KeyError."""
    with pytest.raises(UserError, match=r"'maskd' is unknown; legal: masked, rejection, reweighted, asap"):
        engines.load("transformers", tmp_path, sampling="maskd")
