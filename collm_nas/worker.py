"""What a process does first that works for another one (`bench`, `mine`)."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading


def begin() -> None:
    """One thread, no network, and an end with Ctrl-C or the parent, however that ends; else a worker would go on with
    what it was already handed, for minutes and unseen.

    Call it before NumPy or torch are imported, which look at the environment once.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.environ.update({"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"})
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
