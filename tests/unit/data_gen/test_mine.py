from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from collm_nas.api import UserError
from collm_nas.cli import main
from data_gen.mine import _mine_shard, mine
from data_gen.mine_landscapes import Landscapes

SMALL = ["--large", "0", "--huge", "0", "--real", "0"]  # landscapes of few variables


def test_a_resumed_dataset_equals_an_unbroken_one(tmp_path: Path) -> None:
    whole = mine(Landscapes(landscapes=3), tmp_path / "a")
    (tmp_path / "a" / "part-00000.parquet").unlink()
    again = mine(Landscapes(landscapes=3), tmp_path / "a", processes=2)
    assert again["shards"] == whole["shards"]


def test_another_dataset_in_the_folder_is_refused_and_kept(tmp_path: Path) -> None:
    mine(Landscapes(landscapes=2), tmp_path)
    before = (tmp_path / "manifest.json").read_bytes()
    with pytest.raises(UserError, match="other settings"):
        mine(Landscapes(landscapes=2, first_seed=5), tmp_path)
    assert (tmp_path / "manifest.json").read_bytes() == before


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UserError, match="not empty"):
        mine(Landscapes(landscapes=2), tmp_path)


def test_the_manifest_says_what_was_read(tmp_path: Path) -> None:
    mine(Landscapes(landscapes=2), tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["sources"] == {}
    assert manifest["settings"]["landscapes"] == 2
    assert len(manifest["shards"]) == 1


def test_examples_are_chats_with_their_provenance(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    mine(Landscapes(landscapes=1), tmp_path)
    row = pq.read_table(tmp_path / "part-00000.parquet").to_pylist()[0]
    assert [turn["role"] for turn in row["messages"]] == ["user", "assistant"]
    assert (row["miner"], row["source"], row["seed"], row["role"]) == ("landscapes", "0", 0, "navigator")


def test_a_full_disk_ends_it_in_a_sentence_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_gen.mine._LEAST_ROOM", shutil.disk_usage(tmp_path).total * 2)
    source = Landscapes(landscapes=1)
    with pytest.raises(UserError, match=r"MiB are free in .* make room"):
        _mine_shard(source, tmp_path, 0)
    assert list(tmp_path.iterdir()) == []


def test_options_of_another_source_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mine", "--source", "table", "--landscapes", "3", "--out", str(tmp_path / "d")]) == 2
    assert (
        "--landscapes is for --source hindsight or --source landscapes, not for --source table"
        in capsys.readouterr().err
    )
    assert not (tmp_path / "d").exists()


def test_the_page_and_the_line_say_how_good_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        "mine",
        "--landscapes",
        "2",
        "--large",
        "0",
        "--huge",
        "0",
        "--real",
        "0",
        "--processes",
        "1",
        "--out",
        str(tmp_path),
    ]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "12 examples (4 for the Navigator, 8 for the Generator)" in " ".join(said.split())
    page = (tmp_path / "quality.html").read_text()
    assert "Nothing but synthetic landscapes" in page
    assert "http" not in page
    assert main(command) == 0, "a finished dataset stays as it is"
