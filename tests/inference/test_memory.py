"""What a model needs, from its files alone; and what doctor says of it before anything is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from collm_nas import cli
from collm_nas.api import UserError
from inference.memory import ROOM, folder_need, need


def folder(path: Path, weights: int, **config: object) -> Path:
    """A folder with a config and a (sparse) file of weights."""
    path.mkdir()
    given = {"num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128}
    given |= {"hidden_size": 2048, "dtype": "bfloat16", "max_position_embeddings": 40960}
    (path / "config.json").write_text(json.dumps({**given, **config}))
    with (path / "model.safetensors").open("wb") as file:
        file.truncate(weights)
    return path


def test_weights_and_cache_of_a_published_model(tmp_path: Path) -> None:
    """Qwen3-30B-A3B: 61.1 GB in bfloat16, 48 layers with 4 key-value heads of 128: 96 KiB a token."""
    wanted = need(folder(tmp_path / "m", 61_064_245_248), 16)
    assert wanted.weights == 61_064_245_248
    assert wanted.token == 2 * 48 * 4 * 128 * 2 == 96 * 1024
    assert wanted.context == 8192 and wanted.cache == wanted.token * 8192 * 8
    assert wanted.total == wanted.weights + wanted.cache + ROOM


def test_bits_and_short_contexts_count(tmp_path: Path) -> None:
    stored = folder(tmp_path / "m", 1000, dtype="float32", max_position_embeddings=512, head_dim=None)
    half, whole = need(stored, 16), need(stored, 32)
    assert (half.weights, whole.weights) == (500, 1000)
    assert whole.token == 2 * half.token and whole.context == 512
    assert half.token == 2 * 48 * 4 * (2048 // 32) * 2, "without a head size, it is width by heads"


def test_a_config_of_something_else_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"num_hidden_layers": 3}')
    with pytest.raises(UserError, match=r"config\.json is not the config of a language model"):
        folder_need(tmp_path, 16)


def test_doctor_says_what_does_not_fit_without_loading_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    large = folder(tmp_path / "large", 1 << 42)  # 4 TiB of nothing: whoever opened it would fail
    net = tmp_path / "net.pt"
    net.write_bytes(b"0" * 100)
    assert cli.main(["doctor", "--model", str(large), "--supernet", str(net)]) == 2
    out = capsys.readouterr().out
    assert "which is more than there is" in out and "supernet 4.00 GiB" in out
    assert "can't be loaded" not in out
    assert cli.main(["doctor", "--supernet", str(tmp_path / "none")]) == 2
    assert "holds no weights" in capsys.readouterr().out
