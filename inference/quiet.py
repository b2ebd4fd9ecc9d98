"""Loading models without what libraries say meanwhile."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quietly() -> Iterator[None]:
    """Without the deprecation notes that peft and transformers raise about each other, without progress bars, and
    without what bitsandbytes, where it is installed, says of a faster kernel that no package index has."""
    import logging as standard

    from transformers.utils import logging

    standard.getLogger("bitsandbytes.backends.cpu.ops").setLevel(standard.ERROR)
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        if shown:
            logging.enable_progress_bar()
