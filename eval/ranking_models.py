"""How the language models put ten architectures in order: see `eval.ranking`."""

from __future__ import annotations

import re
from typing import Any

from collm_nas.api import Architecture, Completion, Constraint, Problem, Request, UserError
from eval import bench
from eval.likelihood import logps
from eval.problems import Instance

TRIES, STRATEGIES = 3, 5
Record = dict[str, Any]


def worth(
    job: bench.Job, instance: Instance, ten: list[Architecture], others: list[Architecture]
) -> tuple[list[float] | None, Record]:
    """What the models think of each (None: no order could be read), and more for the record; UserError where they can
    neither say it in words nor how likely an answer is."""
    from eval import model_row

    engine, options = model_row.engine_of(job.row)
    asked = _Counted(model_row.by_temperature(engine, options))
    if options.get("preset") == "paper":
        if others:
            raise UserError(
                "--rows: evidence is for tuned models; one that ranks in words is shown none, as the paper's"
            )
        found = _in_words(asked, job, instance, ten, options)
    else:
        found = _by_likelihood(asked, job, instance, ten, others, options)
    seen = bench.seen(engine.describe(), instance)
    return found, {"seen": seen, "readable": found is not None, **asked.counts}


class _Counted:
    """An engine that adds up what it is asked."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.describe = engine.describe
        self.counts: Record = {"tokens_prompt": 0, "tokens_completion": 0, "seconds_llm": 0.0}

    def generate(self, request: Request) -> list[Completion]:
        """As the engine beneath."""
        answers: list[Completion] = self._engine.generate(request)
        for answer in answers:
            self.counts["tokens_prompt"] += answer.prompt_tokens
            self.counts["tokens_completion"] += answer.tokens
            self.counts["seconds_llm"] += answer.seconds
        return answers


def _by_likelihood(
    engine: _Counted,
    job: bench.Job,
    instance: Instance,
    ten: list[Architecture],
    others: list[Architecture],
    options: dict[str, Any],
) -> list[float]:
    """Log of the mean probability that the Generator writes each of the ten, over the Navigator's strategies."""
    import numpy as np

    from collm_nas import prompts, strategy
    from collm_nas.strategy import Strategy

    space = instance.space
    values = [evaluation.fitness for evaluation in instance.evaluator.evaluate(others)]
    version = engine.describe().get("digest_version", prompts.DIGEST_VERSION)
    temperature = float(options.get("temperature", 1.0))
    longest = (strategy.ANCHORS + 4) * 2 * len(space.variables) + 16
    ask = Request(
        role="navigator",
        prompt=prompts.digest(space, others, values, version=version),
        n=STRATEGIES,
        seed=job.seed,
        temperature=temperature,
        max_tokens=longest,
        constraint=Constraint("regex", strategy.regex(space)),
    )
    written = [Strategy.parse(answer.text, space) for answer in engine.generate(ask)]
    spelled = [space.format(arch, options["encoding"]) for arch in ten]
    logps_SN = np.array(
        [logps(engine, "generator", prompts.generator_prompt(space, one), spelled, job.seed) for one in written]
    )
    return [float(x) for x in np.logaddexp.reduce(logps_SN, axis=0)]


QUESTION = """Here are {n} architectures of this space, numbered:

{listed}

Put them in the order of the accuracy that you expect after training, the best first. Answer with the {n} numbers,
separated by commas, and nothing else."""


def _in_words(
    engine: _Counted, job: bench.Job, instance: Instance, ten: list[Architecture], options: dict[str, Any]
) -> list[float] | None:
    from collm_nas import paper

    problem = Problem(instance.space, job.seed, 1, instance.caps, instance.costs)
    knowledge = paper.create(problem, engine).knowledge
    listed = "\n".join(f"{i}. {instance.space.format(arch)}" for i, arch in enumerate(ten, start=1))
    for attempt in range(TRIES):
        ask = Request(
            role="navigator",
            prompt=QUESTION.format(n=len(ten), listed=listed),
            n=1,
            seed=job.seed + 1_000_003 * attempt,
            temperature=float(options.get("temperature", 0.6)),
            max_tokens=512,
            history=(("system", f"You are an expert in neural architectures.\n\n{knowledge}"),),
            reasoning=options["reasoning"],
            top_p=float(options.get("top_p", 1.0)),
        )
        places = read_order(engine.generate(ask)[0].text, len(ten))
        if places is not None:
            return [-float(place) for place in places]
    return None


def read_order(text: str, n: int) -> list[int] | None:
    """The place (0: best) of each of 1..n in an answer: its only numbers, or its last ones after some thought."""
    numbers = [int(number) for number in re.findall(r"\d+", text)][-n:]
    return [numbers.index(i) for i in range(1, n + 1)] if sorted(numbers) == list(range(1, n + 1)) else None
