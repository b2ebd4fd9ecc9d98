import subprocess
import sys
import time
from pathlib import Path

PARENT = """
import os, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from collm_nas import worker
if __name__ == "__main__":
    with ProcessPoolExecutor(2, get_context("spawn"), worker.begin) as pool:
        print(pool.submit(os.getpid).result(), pool.submit(os.getenv, "OMP_NUM_THREADS").result(), flush=True)
        pool.submit(time.sleep, 300), pool.submit(time.sleep, 300)
"""


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid, threads = parent.stdout.readline().split()
        assert threads == "1" and running(pid)
        parent.kill()
    until = time.monotonic() + 20
    while running(pid) and time.monotonic() < until:
        time.sleep(0.1)
    assert not running(pid)


def running(pid: str) -> bool:
    stat = Path("/proc") / pid / "stat"
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"  # nobody may be there to take note of its end
    except FileNotFoundError:
        return False
