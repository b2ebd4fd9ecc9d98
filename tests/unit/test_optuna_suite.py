"""Optuna's published contract of samplers, with optimisers of ours behind `CollmSampler`.

Of its suite, `RelativeSamplerTestCase` and `SingleOnlySamplerTestCase` apply as they are, and so does
`BasicSamplerTestCase`. `MultiObjectiveSamplerTestCase` does not: studies of several objectives are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import optuna
import pytest
from optuna.testing.pytest_samplers import BasicSamplerTestCase, RelativeSamplerTestCase, SingleOnlySamplerTestCase

from collm_nas.optuna_sampler import CollmSampler

ROWS: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "gp from the first trial on": {"optimizer": "gp", "init": 0},
    "evolution from the second on": {"optimizer": "aging-evolution", "init": 1},
}


@pytest.fixture(params=ROWS)
def sampler(request: pytest.FixtureRequest) -> Callable[[], optuna.samplers.BaseSampler]:
    return partial(CollmSampler, seed=0, **ROWS[request.param])


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(optuna.logging.INFO)


class OwnFixture:
    """The suite's classes bring a fixture of their own, which is there to be replaced."""

    @pytest.fixture
    def sampler(self, sampler: Any) -> Any:
        return sampler


class TestBasic(OwnFixture, BasicSamplerTestCase):
    pass


class TestRelative(OwnFixture, RelativeSamplerTestCase):
    pass


class TestSingleObjective(OwnFixture, SingleOnlySamplerTestCase):
    pass
