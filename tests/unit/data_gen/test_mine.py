from __future__ import annotations

import json
from pathlib import Path

import pytest

from collm_nas.api import UserError
from data_gen.mine import MineConfig, mine


def test_a_resumed_dataset_equals_an_unbroken_one(tmp_path: Path) -> None:
    whole = mine(MineConfig(out=tmp_path / "a", landscapes=3))
    (tmp_path / "a" / "part-00000.parquet").unlink()
    again = mine(MineConfig(out=tmp_path / "a", landscapes=3, processes=2))
    assert again["shards"] == whole["shards"]


def test_another_dataset_in_the_folder_is_refused_and_kept(tmp_path: Path) -> None:
    mine(MineConfig(out=tmp_path, landscapes=2))
    before = (tmp_path / "manifest.json").read_bytes()
    with pytest.raises(UserError, match="other settings"):
        mine(MineConfig(out=tmp_path, landscapes=2, first_seed=5))
    assert (tmp_path / "manifest.json").read_bytes() == before


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UserError, match="not empty"):
        mine(MineConfig(out=tmp_path, landscapes=2))


def test_the_manifest_says_what_was_read(tmp_path: Path) -> None:
    mine(MineConfig(out=tmp_path, landscapes=2))
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["sources"] == {}
    assert manifest["settings"]["landscapes"] == 2
    assert len(manifest["shards"]) == 1
