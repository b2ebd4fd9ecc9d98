"""What engines that run a model in this process share: drafts, reweighing, thinking, measures.

An engine adds how `n` rows of one prompt are drawn (`_sample`); all else, and so every answer, is the same on all.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from collm_nas.api import END, Completion, Constraint, Request, UserError
from collm_nas.presets import check_top_p, thinking
from inference import vocabulary
from inference.backends import choose
from inference.backends import load as load_backend
from inference.chat import Chat, after_thinking
from inference.drafts import DRAFTS, Without, keep
from inference.folder import ModelFolder
from inference.measure import Step, measure

if TYPE_CHECKING:
    from inference.exact import Reweighing
    from inference.processors import Norms, Sampler
    from inference.trie import Node

_REWEIGHING: dict[str, Reweighing] = {"reweighted": "reweighted", "asap": "asap"}
_OTHER = 0x5EED  # turns a request's seed into another, for the rows after the drafts
_THOUGHT = 0x7413  # the same, for the thinking before them


class Answer(NamedTuple):
    """A completion, and what its sampler kept of the way there."""

    completion: Completion
    steps: list[Step]


class Timed:
    """A grammar's processor, whose seconds are added to `spent["mask"]`."""

    def __init__(self, processor: Any, spent: dict[str, float]) -> None:
        self._processor, self._spent = processor, spent

    def __call__(self, input_ids: Any, logits: Any) -> Any:
        """As the processor: `input_ids` is (B, L), `logits` is (B, V)."""
        begin = time.perf_counter()
        masked = self._processor.process_logits(input_ids, logits)
        self._spent["mask"] += time.perf_counter() - begin
        return masked


def check_sampling(sampling: str) -> None:
    """UserError for a way of sampling that there is not."""
    if sampling not in DRAFTS:
        raise UserError(f"sampling {sampling!r} is unknown; legal: {', '.join(DRAFTS)}")


class LocalEngine(ABC):
    """Answers requests with one base model and its two adapters (`api.Engine`)."""

    name: str
    """As `--engine` knows it."""
    measures = True
    """Whether the logits before the grammar are known, and with them what it took from the model."""

    def __init__(
        self,
        folder: ModelFolder,
        tokenizer: Any,
        width: int,
        room: int | None,
        backend: str,
        sampling: str,
        drafts: int | None = None,
    ) -> None:
        """`tokenizer` is the base's; `width`: of its logits; `room`: tokens of its context; `sampling`: a key of
        `drafts.DRAFTS`, which says how many drafts it takes unless `drafts` does."""
        self.folder = folder
        self.tokenizer = tokenizer
        self.sampling = sampling
        self.drafts = DRAFTS[sampling] if drafts is None else drafts
        self.vocabulary = vocabulary.read(tokenizer, width, merges=folder.encoding == "compact")
        self.backend = load_backend(backend, self.vocabulary)
        self.chat = Chat(tokenizer, room)
        self.spent = {"compile": 0.0, "mask": 0.0}
        """Seconds so far: compiling grammars, and applying them to logits."""
        self._backend_name = choose(backend, width)

    @abstractmethod
    def _sample(
        self, request: Request, prompt: list[int], n: int, sampler: Sampler, norms: Norms | None
    ) -> list[Answer]:
        """`n` rows drawn by `sampler` under the request's grammar; `norms` runs before both."""

    @abstractmethod
    def _identity(self) -> dict[str, Any]:
        """What `describe` says of model, device and number type."""

    def generate(self, request: Request) -> list[Completion]:
        """`request.n` completions, fewer where its mask leaves fewer; equal requests, equal answers.

        Tokens of drafts that were thrown away count: they are spread over the completions. With `reasoning` the model
        thinks once, freely, and every completion goes on from there. UserError where sampling `reweighted` or `asap`
        can't be had (see `inference.exact`), the model knows no thinking, or the top-p is none.
        """
        n = request.n if request.mask is None else min(request.n, request.mask.count(""))
        if n < 1:
            return []
        start = time.perf_counter()
        thinking(request.reasoning, {"thinks": self.chat.thinks})
        check_top_p(request.top_p)
        prompt = self.chat.prompt(request)
        ids, thought = prompt.ids, None
        if request.reasoning:
            thought = self._think(request, ids)
            ids = self.chat.encode(after_thinking(prompt.text, thought.text))
        kept, wasted = self._choose(request, ids, n)
        told = [
            replace(
                answer.completion,
                tokens=answer.completion.tokens + _part(wasted, i, n),
                prompt_tokens=_part(len(prompt.ids), i, n),
                forgotten=prompt.forgotten,
                **(measure(answer.steps, request.mask, self.vocabulary) if answer.steps else {}),
            )
            for i, answer in enumerate(kept)
        ]
        if thought is not None:
            told[0] = replace(told[0], thinking=thought.text, thinking_tokens=thought.tokens)
        share = (time.perf_counter() - start) / n
        return [replace(one, seconds=share) for one in told]

    def _choose(self, request: Request, prompt: list[int], n: int) -> tuple[list[Answer], int]:
        """`n` completions in this engine's way of sampling, and the tokens of those thrown away."""
        way = _REWEIGHING.get(self.sampling)
        if way and _constrained(request):
            if way == "reweighted" and request.top_p < 1:
                return self._cut(request, prompt, n)
            return self._reweigh(request, prompt, n, way)
        kept, wasted = self._draft(request, prompt, n)
        if len(kept) < n:
            kept += self._answer(self._without(request, kept), prompt, n - len(kept), _constrained(request))
        return kept, wasted

    def _think(self, request: Request, prompt: list[int]) -> Completion:
        """Free text up to the end of the thinking block, the end of the answer, or the limit."""
        from inference.processors import Thought

        free = replace(request, constraint=None, mask=None, max_tokens=request.reasoning)
        sampler = Thought(self.vocabulary, request.seed ^ _THOUGHT, request.temperature, top_p=request.top_p)
        return self._sample(free, prompt, 1, sampler, None)[0].completion

    def _draft(self, request: Request, prompt: list[int], n: int) -> tuple[list[Answer], int]:
        """Up to `n` completions that the mask allows, sampled without it, and the tokens of those thrown away."""
        if request.mask is None or not self.drafts or self.sampling in _REWEIGHING or request.temperature == 0:
            return [], 0
        answers = self._answer(replace(request, mask=None), prompt, self.drafts * n, True)
        texts = [a.completion.text if a.completion.finished else END for a in answers]
        kept = [answers[i] for i in keep(texts, request.mask, n)]
        return kept, _tokens(answers) - _tokens(kept)

    def _reweigh(self, request: Request, prompt: list[int], n: int, way: Reweighing) -> tuple[list[Answer], int]:
        """`n` completions from the model's law conditioned on what is allowed, and the tokens of other drafts."""
        from inference.exact import Tree

        tree = Tree(self.vocabulary, request, n, self.drafts, way)
        kept: list[Answer] = []
        spent = 0
        while tree.missing:
            size, sampler = tree.batch(), tree.drafts()
            answers = self._sample(request, prompt, size, sampler, tree.norms)
            spent += _tokens(answers)
            for i in tree.settle(sampler):
                kept.append(Answer(replace(answers[i].completion, exact=tree.exact), answers[i].steps))
        return kept, spent - _tokens(kept)

    def _cut(self, request: Request, prompt: list[int], n: int) -> tuple[list[Answer], int]:
        """`n` completions from nuclei of the conditional law, all of which is read, and the tokens of others read."""
        from inference.exact import READ, explore
        from inference.nucleus import Whole

        read: list[Answer] = []
        remedy = (
            f"--sampling reweighted with --top-p {request.top_p:g} needs that: use a smaller space, --sampling asap "
            "(near the law), rejection or masked, or --top-p 1"
        )
        root = explore(
            self.vocabulary,
            request,
            READ,
            lambda rows, *with_: read.extend(self._sample(request, prompt, rows, *with_)),
            remedy,
        )
        whole = Whole(self.vocabulary, request, root)
        drawn = [whole.draw() for _ in range(n)]
        kept = [Answer(replace(self._completion([step.token for step in steps]), exact=True), steps) for steps in drawn]
        return kept, max(0, _tokens(read) - _tokens(kept))

    def explore(self, request: Request, most: int) -> Node:
        """The whole tree of what a constrained request allows, each text read by the model (see `inference.law`).

        UserError where it has more than `most` answers, or some that the token limit cuts.
        """
        from inference.exact import explore

        prompt = self.chat.prompt(request).ids
        return explore(self.vocabulary, request, most, lambda n, *with_: self._sample(request, prompt, n, *with_))

    def _without(self, request: Request, kept: list[Answer]) -> Request:
        """The request for what `kept` leaves, with a seed of its own."""
        if request.mask is None or not kept:
            return request
        texts = [a.completion.text for a in kept]
        return replace(request, mask=Without(request.mask, texts), seed=request.seed ^ _OTHER)

    def _grammar(self, constraint: Constraint) -> Timed:
        """A fresh processor for one batch (or row) under this constraint; what it costs is added up."""
        begin = time.perf_counter()
        processor = self.backend.processor(constraint)
        self.spent["compile"] += time.perf_counter() - begin
        return Timed(processor, self.spent)

    def _answer(self, request: Request, prompt: list[int], n: int, measured: bool) -> list[Answer]:
        from inference.processors import Norms, Sampler

        norms = Norms(self.vocabulary, request.temperature) if measured and self.measures else None
        sampler = Sampler(self.vocabulary, request.seed, request.temperature, request.mask, norms, request.top_p)
        return self._sample(request, prompt, n, sampler, norms)

    def _answers(self, rows: list[list[int]], sampler: Sampler) -> list[Answer]:
        """The drawn rows as completions, without what follows the end token."""
        return [Answer(self._completion(ids), steps) for ids, steps in zip(rows, sampler.steps, strict=True)]

    def _completion(self, ids: list[int]) -> Completion:
        finished = self.vocabulary.eos in ids
        if finished:
            ids = ids[: ids.index(self.vocabulary.eos)]
        text = self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return Completion(text, len(ids), 0, 0.0, finished)

    def describe(self) -> dict[str, Any]:
        """What the protocol line and the journal's header keep of this engine."""
        return {
            "engine": self.name,
            "backend": self._backend_name,
            "sampling": self.sampling,
            "drafts": self.drafts,
            **({"thinks": True} if self.chat.thinks else {}),
            **self._known,
        }

    @cached_property
    def _known(self) -> dict[str, Any]:
        return {**self.folder.describe(), **self._identity()}


def _constrained(request: Request) -> bool:
    return request.constraint is not None or request.mask is not None


def _tokens(answers: list[Answer]) -> int:
    return sum(answer.completion.tokens for answer in answers)


def _part(total: int, i: int, n: int) -> int:
    """Share i of `n` equal whole shares, of which the first take the rest."""
    return total // n + (i < total % n)
