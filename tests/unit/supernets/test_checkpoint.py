"""Checkpoints are read from every container, and nothing in a file is ever executed."""

from __future__ import annotations

import argparse
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from collm_nas import supernets
from collm_nas.api import UserError
from collm_nas.supernets import checkpoint

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2, dtype=torch.float64)}


def same(found: dict[str, torch.Tensor]) -> bool:
    return found.keys() == STATE.keys() and all(torch.equal(found[k], v) for k, v in STATE.items())


@pytest.mark.parametrize("container", [None, "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("form", ["object", "zip", "old", "safetensors"])
def test_every_container(tmp_path: Path, container: str | None, prefix: str, form: str) -> None:
    state = {prefix + key: value for key, value in STATE.items()}
    whole = {container: state, "epoch": 3, "args": argparse.Namespace(lr=0.1)} if container else state
    path = tmp_path / "file"
    if form == "object":
        found = checkpoint.read(whole)
    elif form == "safetensors":
        save_file(state, path.with_suffix(".safetensors"))
        found = checkpoint.read(path.with_suffix(".safetensors"))
    else:
        torch.save(whole, path, _use_new_zipfile_serialization=form == "zip")
        found = checkpoint.read(str(path))
    assert same(found)
    assert found["a.bias"].dtype == torch.float64


class Malicious:
    """Unpickled freely, it would make a folder."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("plain", [True, False], ids=["pickle", "torch"])
def test_a_malicious_file_is_refused_and_not_executed(tmp_path: Path, plain: bool) -> None:
    target, path = tmp_path / "executed", tmp_path / "file.pth"
    whole = {"state_dict": STATE, "extra": Malicious(target)}
    if plain:
        path.write_bytes(pickle.dumps(whole, protocol=2))
    else:
        torch.save(whole, path)
    with pytest.raises(UserError, match=r"file\.pth: refused, and not executed"):
        checkpoint.read(path)
    assert not target.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "cannot be read"), (b"\x00\x01junk", "refused|cannot be read"), (b"PK\x03\x04", "cannot")],
)
def test_what_is_no_checkpoint_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "broken.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"broken\.pth.*({words})"):
        checkpoint.read(path)
    with pytest.raises(UserError, match="no such file"):
        checkpoint.read(tmp_path / "missing.pth")


@pytest.mark.parametrize(("given", "words"), [({"a": 3}, "'a' is a int"), ({}, "no tensors"), ([1], "list")])
def test_what_is_no_state_dict_is_named(given: object, words: str) -> None:
    with pytest.raises(UserError, match=words):
        checkpoint.read(given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"a.bias": (3,)}, r"'a.bias' has shape \(2,\), expected \(3,\)"),
        ({"b": (1,)}, "'b' is missing"),
        ({"a.bias": None}, "'a.bias' is unexpected"),
    ],
)
def test_mismatches_name_the_key(change: dict[str, tuple[int, ...] | None], words: str) -> None:
    expected = {key: tuple(value.shape) for key, value in STATE.items()} | change
    with pytest.raises(UserError, match=words):
        checkpoint.check(STATE, {k: v for k, v in expected.items() if v is not None}, "the toy supernet")


def test_a_space_without_a_supernet_is_named() -> None:
    with pytest.raises(UserError, match="'nasbench201' has no supernet; those that have: autoformer-base"):
        supernets.load("nasbench201", STATE)
