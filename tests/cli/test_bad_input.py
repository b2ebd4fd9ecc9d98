"""What users get wrong: one sentence that names the culprit, exit code 2, no folder left behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from collm_nas.cli import main
from tests.cli.runs import folder

__all__ = ["folder"]

T = "search --space space.yaml --table table.csv --fitness valid --optimizer random"

M = "search --space space.yaml --table table.csv --fitness valid"

C = "search --space space.yaml --optimizer random --evaluator-cmd"

CASES = [
    # the command line itself
    ("serach", "unknown command 'serach'"),
    ("--colour", "unrecognized arguments: --colour"),
    ("search --bugdet 3", "unrecognized arguments: --bugdet"),
    (f"{T} --budget many", "argument --budget: 'many' is no whole number"),
    (f"{T} --max-flops 3G", "argument --max-flops: '3G' is no number"),
    ("report", "required: RUN"),
    # spaces
    (f"{T} --space digit-cells", "did you mean 'digits-cells'"),
    (f"{T} --space nowhere.yaml", "nowhere.yaml: no such file"),
    (f"{T} --space tagged.yaml", "tags are not allowed"),
    (f"{T} --space broken.yaml", "broken.yaml"),
    ("search --space space.yaml --optimizer random", "needs something to score it"),
    # tables
    (f"{T} --table nowhere.csv", "nowhere.csv"),
    (f"{T} --fitness vald", "did you mean 'valid'"),
    (f"{T} --report tset", "did you mean 'test'"),
    ("search --space space.yaml --table table.csv --optimizer random", "name the fitness column"),
    (f"{T} --table twice.csv", "is the architecture of line 2 again"),
    (f"{T} --table illegal.csv", "variable 'l1'"),
    (f"{T} --table nan.csv", "nan.csv"),
    (f"{T} --table empty.csv", "empty.csv"),
    # options
    (f"{T} --budget -3", "--budget must be a whole number of at least 1, but is -3"),
    (f"{T} --budget 0", "--budget"),
    (f"{T} --batch 0", "--batch"),
    (f"{T} --init 200", "--init 200 is more than --budget 100"),
    (f"{T} --seed -1", "--seed"),
    (f"{T} --target nan", "--target must be a finite number"),
    (f"{T} --max-hours -1", "--max-hours"),
    (f"{T} --decoding magic", "--decoding 'magic' is unknown; legal: free, json, legal, affordable, new"),
    (f"{T} --encoding morse", "--encoding 'morse' is unknown"),
    (f"{T} --sampling best", "--sampling 'best' is unknown"),
    (f"{T} --over-cap maybe", "--over-cap 'maybe' is unknown"),
    (f"{T} --hint fast", "--hint is for tuned models, not for --optimizer random"),
    (f"{T} --interactive", "--interactive is for tuned models, not for --optimizer random"),
    (f"{T} --advisor gp", "--advisor is for tuned models, not for --optimizer random"),
    (f"{M} --advisor gq", "--advisor 'gq' is unknown; legal: aging-evolution"),
    (f"{T} --top-p 0", "--top-p must be a number above 0, and at most 1 (nothing is cut), but is 0"),
    (
        f"{M} --top-p 0.9 --sampling reweighted",
        "--sampling reweighted with --top-p 0.9 needs to read all that may be answered",
    ),
    (f"{M} --hint faster", "'faster' is neither a variable nor a choice of small; its variables are called"),
    (f"{T} --optimizer locl-search", "did you mean 'local-search'"),
    (f"{T} --max-flops 9", "--max-flops 9 is below the cheapest architecture, which has flops 10"),
    (f"{T} --max-params 1", "--max-params 1 is below the cheapest architecture, which has params 100"),
    (f"{T} --max-latency 1", "--max-latency: neither the space 'small' nor the table knows"),
    (f"{T} --objective fitness --objective flop", "--objective 'flop' is unknown; legal: fitness, flops"),
    (f"{T} --objective fitness --objective fitness", "--objective fitness is given 2 times"),
    (f"{T} --objective flops", "--objective flops leaves out fitness"),
    (
        f"{T} --objective fitness --objective latency",
        "neither the space 'small' nor the table knows the cost 'latency'",
    ),
    (f"{T} --max-flops 30,", "argument --max-flops: '' is no number"),
    (f"{T} --max-flops 30,9", "--max-flops 9 is below the cheapest architecture"),
    (f"{T} --max-flops 30,30", "--max-flops needs one or several different caps"),
    (f"{T} --max-flops 30,50 --max-params 101,102", "--max-flops and --max-params both have several values"),
    (f"{T} --reuse nowhere", "--reuse nowhere holds no journal.jsonl"),
    (f"{T} --workers 0", "--workers must be a whole number of at least 1"),
    (f"{T} --workers many", "--workers must be a whole number of at least 1, or ray://HOST:PORT"),
    (f"{T} --start-from nowhere.txt", "cannot read nowhere.txt"),
    (f"{T} --start-from starts.txt", "starts.txt, line 2"),
    (f"{T} --start-from nothing.txt", "holds no architecture"),
    (f"{T} --evaluator m:f", "--table and --evaluator both score"),
    ("search --space space.yaml --evaluator nowhere:f --optimizer random", "no module 'nowhere'"),
    ("search --space space.yaml --evaluator code_of_mine:f --optimizer random", "has no 'f'"),
    ("search --space space.yaml --evaluator code_of_mine --optimizer random", "must be MODULE:OBJECT"),
    ("search --evaluator-cmd true", "--evaluator-cmd needs --space S"),
    (f"{T} --evaluator-cmd true", "--table and --evaluator-cmd both score"),
    (f"{C} no_such_program", "'no_such_program' is not found"),
    (f"{C} true --report test", "--report is for --table"),
    (f"{C} true --evaluator-timeout 0", "--evaluator-timeout must be a finite number of seconds above zero"),
    (f"{C} true --evaluator-retries -1", "--evaluator-retries must be a whole number of at least 0"),
    (f"{T} --max-failures 0", "--max-failures must be a whole number of at least 1"),
    (f"{T} --retry-failed", "--retry-failed is for --resume"),
    (f"{T} --evaluator-timeout 5", "Python code can't be ended within this process; add --workers 2"),
    (f"{T} --evaluator-timeout -1 --workers 2", "--evaluator-timeout must be a finite number above zero"),
    (f"{T} --evaluator-retries 1", "--evaluator-retries is for --evaluator-cmd"),
    # models
    (f"{T} --model somewhere", "--model is for --optimizer collm"),
    (f"{T} --optimizer collm --model nowhere", "the model folder nowhere does not exist"),
    (f"{T} --optimizer collm --model notes", "is not a model folder"),
    (f"{T} --optimizer collm --engine steam", "no engine 'steam'"),
    (f"{M} --engine vllm", "--engine vllm needs vLLM, which is not installed here; it wants an environment of its own"),
    (f"{M} --engine server", "--engine server needs the address of one: --server HOST:PORT"),
    (f"{M} --server localhost:1", "--server is for --engine server; give that, or leave it out"),
    (f"{M} --server-timeout 0 --engine server --server localhost:1", "--server-timeout must be a finite number above"),
    (f"{M} --engine server --server localhost:port", "--server 'localhost:port' is no address of a server"),
    (f"{M} --engine server --server 8.8.8.8:80", "8.8.8.8 is neither this machine nor in a private network"),
    (f"{M} --engine server --server localhost:1 --sampling asap", "--sampling asap needs to see the model's chances"),
    (f"{M} --engine server --server localhost:1 --quantize 8bit", "--quantize 8bit is for --engine transformers"),
    (
        f"{M} --engine server --server localhost:1 --grammar-backend table",
        "--grammar-backend table is for engines that run the model here",
    ),
    (
        f"{M} --engine server --server localhost:1 --preset paper --model notes",
        "--preset paper on --engine server chats with what is served",
    ),
    (f"{M} --quantize 3bit", "--quantize '3bit' is unknown; legal: 8bit, 4bit"),
    (f"{M} --reasoning 50", "--reasoning 50 needs a model whose chat template knows </think>"),
    (f"{M} --reasoning 0", "--reasoning must be off, auto or a whole number of at least 1"),
    (f"{M} --reasoning much", "argument --reasoning: 'much' is no whole number"),
    (f"{M} --preset best", "--preset 'best' is unknown; legal: paper"),
    (f"{M} --preset paper", "--preset paper needs a chat model, which the embedded one is not"),
    (f"{M} --preset paper --model notes --encoding compact", "speaks of architectures in native encoding"),
    (f"{M} --preset paper --model notes", "notes is not a model folder"),
    (f"{M} --prompts notes", "--prompts is for --preset paper"),
    (f"{M} --grammar-backend yacc", "no grammar backend 'yacc'"),
    # run folders
    (f"{T} --resume", "--resume needs --out"),
    (f"{T} --out notes", "is not empty; add --resume"),
    (f"{T} --out notes --resume", "holds 'mine.txt' but no journal.jsonl"),
    (f"{T} --out space.yaml", "is a file; give a folder"),
    (f"{T} --out space.yaml/run", "cannot be written"),
    ("report notes", "holds no journal.jsonl"),
    ("replay nowhere", "holds no journal.jsonl"),
]


@pytest.fixture
def mess(folder: Path) -> Path:
    """A current directory full of broken things."""
    good = (folder / "table.csv").read_text().splitlines()
    made = {
        "tagged.yaml": "name: !!python/name:os.system x\n",
        "broken.yaml": "name: [1\n",
        "twice.csv": "\n".join([*good, good[1]]),
        "illegal.csv": "\n".join([*good, "z a a a,1,1,1"]),
        "nan.csv": "\n".join([*good[:3], "d d a a,,1,1"]),
        "empty.csv": good[0] + "\n",
        "starts.txt": "a a a a\nz z z z\n",
        "nothing.txt": "# none\n",
    }
    for name, text in made.items():
        (folder / name).write_text(text)
    (folder / "notes").mkdir()
    (folder / "notes" / "mine.txt").write_text("keep me")
    return folder


@pytest.mark.parametrize(("line", "sentence"), CASES, ids=[line for line, _ in CASES])
def test_one_sentence(line: str, sentence: str, mess: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(mess.rglob("*"))
    try:
        status = main(line.split())
    except SystemExit as end:  # argparse
        status = int(end.code or 0)
    out, err = capsys.readouterr()
    assert status == 2
    assert err.startswith("collm-nas: error: ") and err.count("\n") == 1 and sentence in err
    assert not out
    assert [p for p in sorted(mess.rglob("*")) if "__pycache__" not in p.parts] == before


def test_no_traceback_in_a_process_of_its_own(mess: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "collm_nas", *f"{T} --budget -3".split()], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and not done.stdout
    assert done.stderr == "collm-nas: error: --budget must be a whole number of at least 1, but is -3\n"


def test_leading_zeros_are_kept(folder: Path) -> None:
    (folder / "codes.yaml").write_text(
        "name: codes\nvariables:\n"
        + "".join(f"  - {{name: v{i}, choices: ['0', '1']}}\n" for i in range(5))
        + "encoding: '{v0}{v1}{v2}{v3}{v4}'\n"
    )
    rows = [f"{n:05b},{n}" for n in range(32)]
    (folder / "codes.csv").write_text("\n".join(["arch,score", *rows]) + "\n")
    assert main(["search", "--space", "codes.yaml", "--table", "codes.csv", "--optimizer", "random", "--out", "r"]) == 0
    assert '"arch": "00000"' in (folder / "r" / "result.json").read_text()


def test_a_run_of_another_search(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*T.split(), "--out", "r"]) == 0
    held = {path.name: path.read_bytes() for path in (folder / "r").iterdir()}
    for change, option in [
        ("--fitness test", "--fitness"),
        ("--report test", "--report"),
        ("--batch 4", "--batch"),
        ("--max-flops 50", "--max-flops"),
        ("--seed 7", "--seed"),
        ("--optimizer gp", "--optimizer"),
        ("--budget 50", "--budget"),
    ]:
        capsys.readouterr()
        assert main([*T.split(), *change.split(), "--out", "r", "--resume"]) == 2
        assert capsys.readouterr().err.startswith(f"collm-nas: error: {option}"), change
    (folder / "table.csv").write_text((folder / "table.csv").read_text().replace(",0,", ",0.5,"))
    assert main([*T.split(), "--out", "r", "--resume"]) == 2
    assert "--table" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in (folder / "r").iterdir()} == held


def test_a_damaged_journal(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*T.split(), "--out", "r"]) == 0
    path = folder / "r" / "journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"event": "evaluation"', b'"event": evaluation', 1))
    held = path.read_bytes()
    for line in (f"{T} --out r --resume", "replay r", "report r"):
        capsys.readouterr()
        assert main(line.split()) == 2
        assert "damaged at line " in capsys.readouterr().err
    assert path.read_bytes() == held


def test_an_intruder_is_named(tmp_path: Path) -> None:
    """`eval` is a common name: another project's package in the way is named by its path."""
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "__init__.py").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "collm_nas", "bench", "--help"], capture_output=True, text=True, cwd=tmp_path, timeout=60
    )
    assert done.returncode == 2 and str(tmp_path / "eval") in done.stderr and "another project" in done.stderr
