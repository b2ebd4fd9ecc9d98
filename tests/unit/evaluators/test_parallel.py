"""Several workers by Ray, on a real cluster of two on this machine; nothing here needs a network."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from collm_nas import open_search, search
from collm_nas.api import Architecture, Evaluation, EvaluationError, Failure, UserError
from collm_nas.evaluators import _ray, function
from collm_nas.evaluators import command as command_line
from collm_nas.evaluators.parallel import TRIES, Parallel
from tests.cli.runs import folder, lines
from tests.unit.evaluators.test_command import gone
from tests.unit.runs import SPACE

__all__ = ["folder"]

ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed (extra ray)")
ARCHS = list(SPACE.all())


@pytest.fixture(scope="module", autouse=True)
def one_cluster_at_a_time(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Clusters of two test processes on one machine took each other's ports."""
    with FileLock(tmp_path_factory.getbasetemp().parent / "ray.lock"):
        yield


# --- without a cluster ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, -2, 1.5, True, None, "", "4", "ray://", "ray://host", "host:port", "tcp://h:1"])
def test_what_is_no_number_of_workers(workers: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--workers must be a whole number of at least 1"):
        search(SPACE, len, optimizer="random", workers=workers, out=tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_missing_ray_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"--workers 2 needs Ray, .*: python -m pip install -c constraints.txt 'ray"):
        search(SPACE, len, optimizer="random", workers=2, out=tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_one_worker_needs_no_ray() -> None:
    code = "search('digits-cells', lambda a: 0.0, optimizer='random', budget=2); assert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", f"import sys; from collm_nas import search; {code}"], check=True, timeout=60)


def test_open_search_has_no_workers() -> None:
    with pytest.raises(UserError, match="open_search evaluates nothing"):
        open_search(SPACE, optimizer="random", workers=2)


def test_room_on_a_cluster() -> None:
    head, plain, cards = {"CPU": 4.0, "memory": 1.0}, {"CPU": 8.0}, {"CPU": 16.0, "GPU": 4.0}
    assert _ray.share([head, plain]) == (12, 1, 0), "one worker a CPU"
    assert _ray.share([head, cards]) == (4, 4, 1), "one a GPU, with its share of that machine's CPUs"
    assert _ray.share([cards, {"CPU": 2.0, "GPU": 2.0}]) == (6, 1, 1)
    assert _ray.share([{"memory": 1.0}]) == (0, 0, 0)


# --- in a cluster of two ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two() -> Iterator[_ray.Cluster]:
    """A cluster that the tests share: who finds Ray running uses it."""
    before, kept = dict(os.environ), {*sys.modules}
    cluster = _ray.start(2)
    assert dict(os.environ) == before and "torch" not in {*sys.modules} - kept
    yield cluster
    cluster.close()


def scored(arch: Architecture) -> float:
    return float(10 * arch.choices[0] + arch.choices[2])


def evaluator(mark: Path | None = None, kill_once: tuple[int, int] | None = None) -> function.FunctionEvaluator:
    """Slower for some than for others; `kill_once`: first and last choice of one that ends its worker, once."""

    def work(arch: Any) -> Any:
        where = (arch.choices[0], arch.choices[2])
        time.sleep(0.05 * (3 - arch.choices[2]))
        if where == kill_once and mark is not None and not mark.exists():
            mark.touch()
            os._exit(3)
        return {"fitness": float(10 * where[0] + where[1]), "costs": {"pid": float(os.getpid())}}

    return function.create(SPACE, work, "work")


@ray
@pytest.mark.slow
def test_order_and_values_are_those_of_one(two: _ray.Cluster) -> None:
    with Parallel(evaluator(), 2) as pair:
        found = pair.evaluate(ARCHS[:12])
        again = pair.evaluate(ARCHS[12:16])
    alone = evaluator().evaluate(ARCHS[:16])
    assert [e.fitness for e in [*found, *again]] == [e.fitness for e in alone] == [scored(a) for a in ARCHS[:16]]
    pids = {e.costs["pid"] for e in [*found, *again]}
    assert len(pids) == 2 and os.getpid() not in pids, "two workers, each with one copy of the evaluator for good"
    assert all(e.seconds > 0 for e in found)


@ray
@pytest.mark.slow
def test_a_worker_that_dies_loses_nothing(two: _ray.Cluster, tmp_path: Path) -> None:
    mark = tmp_path / "killed"
    with Parallel(evaluator(mark, kill_once=(1, 1)), 2) as pair:
        found = pair.evaluate(ARCHS[10:20])
    assert mark.exists() and [e.fitness for e in found] == [scored(a) for a in ARCHS[10:20]]


@ray
@pytest.mark.slow
def test_what_fails_is_named_in_its_turn_and_the_others_are_kept(two: _ray.Cluster) -> None:
    hangs, fails = ARCHS[1].choices, ARCHS[4].choices

    def work(arch: Architecture) -> Any:
        if arch.choices == (0, 0, 2):
            os._exit(3)
        if arch.choices == hangs:
            time.sleep(300)
        if arch.choices == fails:
            raise RuntimeError("out of luck")
        return math.nan if arch.choices == (0, 1, 1) else scored(arch)

    with Parallel(function.create(SPACE, work, "work"), 2, timeout=2.0) as pair:
        found = list(pair.evaluate_each(ARCHS[:8]))
        with pytest.raises(EvaluationError, match="out of luck"):
            pair.evaluate(ARCHS[4:5])
    failed = {i: outcome.reason for i, outcome in enumerate(found) if isinstance(outcome, Failure)}
    assert list(failed) == [1, 2, 4, 5]
    assert failed[1] == "it took longer than 2 s (--evaluator-timeout), and its worker was ended"
    assert failed[2].startswith(f"it brought down {TRIES} workers, one after the other (")
    assert failed[4].startswith("RuntimeError: out of luck (test_parallel.py:")
    assert failed[5] == "work returned 'nan' as fitness; return a finite number"
    kept = [outcome.fitness for outcome in found if isinstance(outcome, Evaluation)]
    assert kept == [scored(ARCHS[i]) for i in (0, 3, 6, 7)]


@ray
@pytest.mark.slow
def test_a_command_ends_with_its_worker(two: _ray.Cluster, tmp_path: Path) -> None:
    """Ray kills a worker and its children, but not theirs: a guard that was one of them was once killed too early."""
    hangs = command_line.create(SPACE, f"sh -c 'sleep 300 & echo $! >{tmp_path}/child; wait'")
    with Parallel(hangs, 2, timeout=5.0) as pair:
        [outcome] = pair.evaluate_each(ARCHS[:1])
    assert isinstance(outcome, Failure) and "longer than 5 s" in outcome.reason
    assert gone(int((tmp_path / "child").read_text()))


@ray
@pytest.mark.slow
def test_a_report_that_fails_is_an_error(two: _ray.Cluster) -> None:
    class Refusing(function.FunctionEvaluator):
        def report(self, arch: Architecture) -> dict[str, float]:
            raise UserError("no test images") if arch.choices[0] else RuntimeError("out of luck")

    with Parallel(Refusing(SPACE, scored, "x"), 2) as pair:
        for arch, kind, said in ((ARCHS[-1], UserError, "no test images"), (ARCHS[0], RuntimeError, "out of luck")):
            with pytest.raises(kind, match=said):
                pair.report(arch)


@ray
@pytest.mark.slow
def test_who_stops_early_gives_up_what_is_under_way(two: _ray.Cluster) -> None:
    with Parallel(evaluator(), 2) as pair:
        each = pair.evaluate_each(ARCHS[:12])
        assert next(each).fitness == scored(ARCHS[0])
        each.close()  # type: ignore[attr-defined]
        assert [e.fitness for e in pair.evaluate(ARCHS[20:23])] == [scored(a) for a in ARCHS[20:23]]


@ray
@pytest.mark.slow
def test_bounds_and_report_are_a_workers(two: _ray.Cluster) -> None:
    class Bounded(function.FunctionEvaluator):
        bounded = True

        def evaluate(self, archs: Sequence[Architecture], best: float | None = None) -> list[Evaluation]:
            return [Evaluation(-1.0 if best is None else best, seconds=7.0) for _ in archs]

        def report(self, arch: Architecture) -> dict[str, float]:
            return {"pid": float(os.getpid()), "threads": float(os.environ["OMP_NUM_THREADS"])}

    with Parallel(Bounded(SPACE, scored, "bounded"), 2) as pair:
        assert [e.fitness for e in pair.evaluate_each(ARCHS[:2], best=3.5)] == [3.5, 3.5]
        assert pair.evaluate(ARCHS[:1]) == [Evaluation(-1.0, seconds=7.0)]
        report = pair.report(ARCHS[0])
    assert report["pid"] != os.getpid()
    assert report["threads"] == max(1, len(os.sched_getaffinity(0)) // 2) or report["threads"] == 1


@ray
@pytest.mark.slow
def test_an_evaluator_that_cannot_be_sent(two: _ray.Cluster, tmp_path: Path) -> None:
    class Stuck(function.FunctionEvaluator):
        def __reduce__(self) -> Any:
            raise TypeError("it is stuck here")

    class Broken(function.FunctionEvaluator):
        def __reduce__(self) -> Any:
            return importlib.import_module, ("nowhere_to_be_found",)

    for kind, sentence in (
        (Stuck, "cannot be sent to workers (it is stuck here"),
        (Broken, "does not load in a worker"),
    ):
        with pytest.raises(UserError) as error:
            search(SPACE, kind(SPACE, scored, "x"), optimizer="random", workers=2, out=tmp_path / "r", resume=True)
        assert sentence in str(error.value) and "\n" not in str(error.value)


@ray
@pytest.mark.slow
def test_a_search_goes_the_same_way(two: _ray.Cluster, tmp_path: Path) -> None:
    options: dict[str, Any] = {"optimizer": "local-search", "budget": 23, "target": 22.5}
    work = evaluator(tmp_path / "killed", kill_once=(1, 2))
    parallel = search(SPACE, work, workers=2, out=tmp_path / "two", **options)
    alone = search(SPACE, work, out=tmp_path / "one", **options)
    assert parallel.history == alone.history and parallel.ended == alone.ended == "target"
    again = search(SPACE, work, out=tmp_path / "two", resume=True, **options)
    assert again.history == alone.history, "the number of workers is no option that a resume checks"


# --- the shell --------------------------------------------------------------------------------------------------------

CODE = """\
import os, time
from pathlib import Path

def listening():
    rows = [line.split() for kind in ("tcp", "tcp6") for line in Path("/proc/net", kind).read_text().splitlines()[1:]]
    return {row[1].split(":")[0] for row in rows if row[3] == "0A"}

def score(arch):
    mark = Path(os.environ["MARKS"], "-".join(map(str, arch.choices)))
    tries = len(mark.read_text()) if mark.exists() else 0
    mark.write_text("x" * (tries + 1))
    if os.environ.get("KILL") and arch.choices[0] == 1 and not tries and not list(mark.parent.glob("killed")):
        Path(mark.parent, "killed").touch()
        os._exit(3)
    if os.environ.get("ALONE"):
        assert listening() <= {"0100007F", "0000000000000000FFFF00000100007F"}, listening()
    time.sleep(float(os.environ.get("SLOW", "0")))
    return sum((i + 1) * c for i, c in enumerate(arch.choices))
"""


@pytest.fixture
def shell(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current directory for `collm-nas search`; `marks` gets a file for each architecture that was tried."""
    (folder / "code_of_mine.py").write_text(CODE)
    (folder / "marks").mkdir()
    monkeypatch.setenv("MARKS", str(folder / "marks"))
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp", ignore_cleanup_errors=True) as short:
        monkeypatch.setenv("TMPDIR", short)
        yield folder


def temporary() -> list[Path]:
    """What is in the folder of temporary files."""
    return list(Path(os.environ["TMPDIR"]).iterdir())


def command(out: str, workers: str, *more: str) -> list[str]:
    given = ["--space", "space.yaml", "--evaluator", "code_of_mine:score", "--optimizer", "local-search"]
    run = ["--budget", "24", "--out", out, "--workers", workers, *more]
    return [sys.executable, "-m", "collm_nas", "search", *given, *run]


def history(run: str) -> list[dict[str, Any]]:
    held: list[dict[str, Any]] = json.loads((Path(run) / "result.json").read_text())["history"]
    return held


def left(shell: Path, number: int = 0) -> set[str]:
    """The processes begun from here that do not end within half a minute, known by the environment they inherit.

    Ray's two agents notice a kill too, but give the dead cluster a minute to answer first."""
    deadline = time.monotonic() + 30
    while True:
        found = {one for one in _processes(shell) if number != signal.SIGKILL or "Agent" not in one}
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.2)


def _processes(shell: Path) -> Iterator[str]:
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if f"MARKS={shell}".encode() in (path / "environ").read_bytes() and path.name != str(os.getpid()):
                yield (path / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
        except OSError:
            continue


@ray
@pytest.mark.slow
def test_with_the_network_cut(shell: Path) -> None:
    """Only the loopback interface is there, and only on it does Ray listen; workers die; nothing is left behind."""
    cut = ["unshare", "-rn", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    try:
        if subprocess.run([*cut, "true"], capture_output=True, timeout=60).returncode:
            pytest.skip("this machine does not allow network namespaces")
    except FileNotFoundError:
        pytest.skip("this machine has no unshare")
    home = sorted(Path.home().glob(".ray*"))
    environment = {**os.environ, "ALONE": "1", "KILL": "1"}
    done = subprocess.run([*cut, *command("two", "2")], capture_output=True, text=True, timeout=280, env=environment)
    assert done.returncode == 0, done.stderr
    assert "24 evaluated" in done.stdout and "ray" not in done.stdout.lower()
    warned = [line for line in done.stderr.splitlines() if "best so far" not in line]
    assert warned == ["a worker died; what it was at is done again (system error)"]
    assert not left(shell) and not temporary() and sorted(Path.home().glob(".ray*")) == home
    known = {"space.yaml", "table.csv", "code_of_mine.py", "__pycache__", "marks", "two"}
    assert {path.name for path in shell.iterdir()} <= known
    subprocess.run(command("one", "1"), check=True, capture_output=True, timeout=60)
    assert history("two") == history("one")


def under_way(slow: str) -> subprocess.Popen[str]:
    """A search with two workers, `slow` seconds an evaluation, after some evaluations."""
    process = subprocess.Popen(
        command("two", "2"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "SLOW": slow},
    )
    deadline = time.monotonic() + 200
    while lines(Path("two")) < 32 and process.poll() is None:
        assert time.monotonic() < deadline, "the journal does not grow"
        time.sleep(0.01)
    return process


@ray
@pytest.mark.slow
def test_a_cluster_that_is_killed_is_started_again(shell: Path) -> None:
    process = under_way(slow="0.5")
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = path.joinpath("stat").read_text().rpartition(")")[2].split()[1]
            name = path.joinpath("cmdline").read_text().split("\0")[0]
        except OSError:
            continue
        if int(parent) == process.pid and name.endswith(("/gcs_server", "/raylet")):
            os.kill(int(path.name), signal.SIGKILL)
    _, err = process.communicate(timeout=250)
    assert process.returncode == 0, err
    subprocess.run(command("one", "1"), check=True, capture_output=True, timeout=60)
    assert history("two") == history("one")


@ray
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_stop_costs_at_most_what_is_under_way(shell: Path, number: signal.Signals) -> None:
    process = under_way(slow="0.3")
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL), err
    assert not left(shell, number)
    subprocess.run(command("two", "1", "--resume"), check=True, capture_output=True, timeout=60)
    tries = sum(len(mark.read_text()) for mark in (shell / "marks").iterdir())
    assert 24 <= tries <= 24 + 2
    if number == signal.SIGINT:
        assert "Traceback" not in err and err.strip().splitlines()[-1].endswith("--resume")
        assert not temporary()


@ray
@pytest.mark.slow
def test_a_cluster_that_is_there(shell: Path) -> None:
    """`HOST:PORT` on a machine of the cluster, `ray://HOST:PORT` from anywhere; both leave it running."""
    ports = [str(_free_port()) for _ in range(2)]
    head = subprocess.Popen(
        [
            *(str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", "--num-cpus=2"),
            *("--node-ip-address=127.0.0.1", f"--port={ports[0]}", f"--ray-client-server-port={ports[1]}"),
            *("--include-dashboard=false", "--disable-usage-stats", f"--temp-dir={os.environ['TMPDIR']}/h"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(shell)},  # the user's code is installed there
    )
    try:
        subprocess.run(command("one", "1"), check=True, capture_output=True, timeout=60)
        for out, address in (("near", f"127.0.0.1:{ports[0]}"), ("far", f"ray://127.0.0.1:{ports[1]}")):
            _listens(address)
            done = subprocess.run(
                command(out, address),
                capture_output=True,
                text=True,
                timeout=120,
                env={**os.environ, "RAY_AUTH_MODE": "disabled"},
            )
            assert done.returncode == 0, done.stderr
            assert history(out) == history("one")
        assert head.poll() is None
    finally:
        head.terminate()
        head.wait(timeout=60)


def test_an_address_where_nobody_listens(tmp_path: Path) -> None:
    for address in (f"127.0.0.1:{_free_port()}", f"ray://127.0.0.1:{_free_port()}"):
        with pytest.raises(UserError, match=rf"--workers {address}: nothing answers there"):
            _ray._reach(address)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _listens(address: str) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            return _ray._reach(address)
        except UserError:
            assert time.monotonic() < deadline, f"{address} does not come up"
            time.sleep(0.5)
