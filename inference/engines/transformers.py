"""The engine on Hugging Face transformers: one base in memory, a PEFT adapter a role, switched without reloading."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from collm_nas.api import END, Completion, Request, UserError
from inference import vocabulary
from inference.backends import load as load_backend
from inference.drafts import DRAFTS, Without, keep
from inference.folder import ModelFolder
from inference.measure import Step, measure

if TYPE_CHECKING:
    import torch

    from inference.exact import Reweighing
    from inference.processors import Norms, Sampler
    from inference.trie import Node

_REWEIGHING: dict[str, Reweighing] = {"reweighted": "reweighted", "asap": "asap"}
_OTHER = 0x5EED  # turns a request's seed into another, for the rows after the drafts
_SMALL = 80_000_000  # bytes of weights; below, a second thread or a GPU waits longer than it works


class _Answer(NamedTuple):
    completion: Completion
    steps: list[Step]


class TransformersEngine:
    """Answers requests with one base model and its two adapters (`api.Engine`)."""

    def __init__(
        self,
        folder: ModelFolder,
        model: Any,
        tokenizer: Any,
        backend: str,
        drafts: int = 0,
        reweighing: Reweighing | None = None,
    ) -> None:
        """`model` is a PeftModel with the adapters `navigator` and `generator`; `tokenizer` is its base's.

        `drafts`: how many drafts a wanted completion are sampled before the mask is used (see `inference.drafts`); or
        at most, with a `reweighing` (see `inference.exact`).
        """
        self.drafts = drafts
        self.reweighing = reweighing
        self.folder = folder
        self.model = model
        self.tokenizer = tokenizer
        self._base = model.get_base_model()
        width = self._base.config.vocab_size
        self.vocabulary = vocabulary.read(tokenizer, width, merges=folder.encoding == "compact")
        self.backend = load_backend(backend, self.vocabulary)
        self._backend_name = backend

    def generate(self, request: Request) -> list[Completion]:
        """`request.n` completions, fewer where its mask leaves fewer; equal requests, equal answers.

        Tokens of drafts that were thrown away count: they are spread over the completions. UserError where sampling
        `reweighted` or `asap` can't be had (see `inference.exact`).
        """
        n = request.n if request.mask is None else min(request.n, request.mask.count(""))
        if n < 1:
            return []
        start = time.perf_counter()
        prompt_1L = self._encode(request)
        if self.reweighing and _constrained(request):
            kept, wasted = self._reweigh(request, prompt_1L, n, self.reweighing)
        else:
            kept, wasted = self._draft(request, prompt_1L, n)
            if len(kept) < n:
                kept += self._answer(self._without(request, kept), prompt_1L, n - len(kept), _constrained(request))
        measured = [measure(a.steps, request.mask, self.vocabulary) if a.steps else {} for a in kept]
        share = (time.perf_counter() - start) / n
        return [
            replace(
                answer.completion,
                tokens=answer.completion.tokens + _part(wasted, i, n),
                prompt_tokens=_part(prompt_1L.shape[1], i, n),
                seconds=share,
                **measured[i],
            )
            for i, answer in enumerate(kept)
        ]

    def _draft(self, request: Request, prompt_1L: torch.Tensor, n: int) -> tuple[list[_Answer], int]:
        """Up to `n` completions that the mask allows, sampled without it, and the tokens of those thrown away."""
        if request.mask is None or not self.drafts or request.temperature == 0:
            return [], 0
        answers = self._answer(replace(request, mask=None), prompt_1L, self.drafts * n, True)
        texts = [a.completion.text if a.completion.finished else END for a in answers]
        kept = [answers[i] for i in keep(texts, request.mask, n)]
        return kept, _tokens(answers) - _tokens(kept)

    def _reweigh(self, request: Request, prompt_1L: torch.Tensor, n: int, way: Reweighing) -> tuple[list[_Answer], int]:
        """`n` completions from the model's law conditioned on what is allowed, and the tokens of other drafts."""
        from inference.exact import Tree

        tree = Tree(self.vocabulary, request, n, self.drafts, way)
        kept: list[_Answer] = []
        spent = 0
        while tree.missing:
            size, sampler = tree.batch(), tree.drafts()
            answers = self._sample(request, prompt_1L, size, sampler, tree.norms)
            spent += _tokens(answers)
            for i in tree.settle(sampler):
                kept.append(_Answer(replace(answers[i].completion, exact=tree.exact), answers[i].steps))
        return kept, spent - _tokens(kept)

    def explore(self, request: Request, most: int) -> Node:
        """The whole tree of what a constrained request allows, each text read by the model (see `inference.law`).

        UserError where it has more than `most` answers, or some that the token limit cuts.
        """
        from inference.exact import explore

        prompt_1L = self._encode(request)
        return explore(self.vocabulary, request, most, lambda n, *with_: self._sample(request, prompt_1L, n, *with_))

    def _without(self, request: Request, kept: list[_Answer]) -> Request:
        """The request for what `kept` leaves, with a seed of its own."""
        if request.mask is None or not kept:
            return request
        texts = [a.completion.text for a in kept]
        return replace(request, mask=Without(request.mask, texts), seed=request.seed ^ _OTHER)

    def _answer(self, request: Request, prompt_1L: torch.Tensor, n: int, measured: bool) -> list[_Answer]:
        from inference.processors import Norms, Sampler

        norms = Norms(self.vocabulary, request.temperature) if measured else None
        sampler = Sampler(self.vocabulary, request.seed, request.temperature, request.mask, norms)
        return self._sample(request, prompt_1L, n, sampler, norms)

    def _sample(
        self, request: Request, prompt_1L: torch.Tensor, n: int, sampler: Sampler, norms: Norms | None
    ) -> list[_Answer]:
        """`n` rows drawn by `sampler` under the request's grammar, with its steps where norms are kept."""
        grammar = [self.backend.processor(request.constraint)] if request.constraint else []
        processors = [*([norms] if norms else []), *grammar, sampler]
        rows = [self._completion(ids) for ids in self._complete(request, prompt_1L, n, processors)]
        return [_Answer(row, steps) for row, steps in zip(rows, sampler.steps, strict=True)]

    def _encode(self, request: Request) -> torch.Tensor:
        """The prompt's ids, (1, L); wrapped as a user's message where the tokenizer has a chat template."""
        text, plain = request.prompt, True
        if self.tokenizer.chat_template:
            message = [{"role": "user", "content": text}]
            text = self.tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
            plain = False
        ids: torch.Tensor = self.tokenizer(text, add_special_tokens=plain, return_tensors="pt")["input_ids"]
        room = getattr(self._base.config, "max_position_embeddings", None)
        if not ids.shape[1]:
            raise UserError(f"the {request.role}'s prompt is empty; a model needs at least one token to answer")
        if room and ids.shape[1] + request.max_tokens > room:
            raise UserError(
                f"the {request.role}'s prompt of {ids.shape[1]} tokens and an answer of {request.max_tokens} exceed "
                f"the model's context of {room}; use a smaller space or a model with a longer context"
            )
        return ids.to(self._base.device)

    def _complete(self, request: Request, prompt_1L: torch.Tensor, n: int, processors: list[Any]) -> list[list[int]]:
        """The `n` answers as lists of ids, without what follows the end token.

        The prompt is read once and its KV cache repeated for the rows, then transformers' own `generate` runs. CPU time
        on one core, 4 layers of width 128: prompt of 45 and 5 rows of 6 tokens 22 ms (each row reading the prompt: 27;
        with 400 tokens and 20 rows 109 against 442); a bare decoding loop in place of `generate` 20, hence none here.
        """
        import torch
        from transformers import LogitsProcessorList

        self._switch(request.role)
        with torch.inference_mode():
            cache = self._read_prompt(prompt_1L, n)
            output_NT = self._base.generate(
                input_ids=prompt_1L.expand(n, -1),
                attention_mask=torch.ones_like(prompt_1L).expand(n, -1),
                past_key_values=cache,
                logits_processor=LogitsProcessorList(processors),
                max_new_tokens=request.max_tokens,
                do_sample=False,
            )
        answers: list[list[int]] = output_NT[:, prompt_1L.shape[1] :].tolist()
        return answers

    def _read_prompt(self, prompt_1L: torch.Tensor, n: int) -> Any:
        """A cache that holds all of the prompt but its last token, once a row; None where that is nothing."""
        from transformers import DynamicCache

        if prompt_1L.shape[1] < 2:
            return None
        cache = DynamicCache(config=self._base.config)
        self._base(input_ids=prompt_1L[:, :-1], past_key_values=cache, use_cache=True, logits_to_keep=1)
        if n > 1:
            cache.batch_repeat_interleave(n)
        return cache

    def _switch(self, role: str) -> None:
        if self.model.active_adapter != role:
            self.model.set_adapter(role)

    def _completion(self, ids: list[int]) -> Completion:
        finished = self.vocabulary.eos in ids
        if finished:
            ids = ids[: ids.index(self.vocabulary.eos)]
        text = self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return Completion(text, len(ids), 0, 0.0, finished)

    def describe(self) -> dict[str, Any]:
        """What the protocol line and the journal's header keep of this engine."""
        way = {"sampling": self.reweighing} if self.reweighing else {}
        return {"engine": "transformers", "backend": self._backend_name, "drafts": self.drafts, **way, **self._identity}

    @cached_property
    def _identity(self) -> dict[str, Any]:
        device, dtype = self._base.device.type, str(self._base.dtype).removeprefix("torch.")
        return {**self.folder.describe(), "device": device, "dtype": dtype}


def _constrained(request: Request) -> bool:
    return request.constraint is not None or request.mask is not None


def _tokens(answers: list[_Answer]) -> int:
    return sum(answer.completion.tokens for answer in answers)


def _part(total: int, i: int, n: int) -> int:
    """Share i of `n` equal whole shares, of which the first take the rest."""
    return total // n + (i < total % n)


def create(
    model: Path,
    navigator: Path | None = None,
    generator: Path | None = None,
    backend: str = "outlines_core",
    sampling: str = "masked",
) -> TransformersEngine:
    """The engine for a model folder; adapters from elsewhere replace its own. `sampling`: a key of `drafts.DRAFTS`.

    Raises UserError where a folder or an adapter is missing, or was made for another tokenizer or digest version.
    """
    if sampling not in DRAFTS:
        raise UserError(f"sampling {sampling!r} is unknown; legal: {', '.join(DRAFTS)}")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    folder = ModelFolder.open(model, navigator, generator)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    small = folder.weight_bytes() < _SMALL
    cuda = torch.cuda.is_available() and not small
    with _quietly(), _named(folder.base):
        tokenizer = AutoTokenizer.from_pretrained(folder.base, local_files_only=True)
        base: Any = AutoModelForCausalLM.from_pretrained(
            folder.base, local_files_only=True, dtype=torch.bfloat16 if cuda else torch.float32
        )
    folder.check_tokenizer(tokenizer)
    # A folder's own generation settings (top_k, repetition penalties) must not alter what the sampler draws from.
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    base.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=pad)
    if small and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    tuned = _adapt(base.to("cuda" if cuda else "cpu"), folder)
    return TransformersEngine(folder, tuned, tokenizer, backend, DRAFTS[sampling], _REWEIGHING.get(sampling))


def _adapt(base: Any, folder: ModelFolder) -> Any:
    """The base with both adapters, in evaluation mode."""
    from peft import PeftModel

    tuned = None
    for role, path in folder.adapters.items():
        with _quietly(), _named(path):
            if tuned is None:
                tuned = PeftModel.from_pretrained(base, str(path), adapter_name=role, local_files_only=True)
            else:
                tuned.load_adapter(str(path), adapter_name=role, local_files_only=True)
    assert tuned is not None
    return tuned.eval()


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Say which folder it was that a library could not load."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} can't be loaded as a model on its base: {reason}") from error


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the deprecation notes that peft and transformers raise about each other, and without progress bars."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        if shown:
            logging.enable_progress_bar()
