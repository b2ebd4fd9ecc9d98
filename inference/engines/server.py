"""The engine on a server of OpenAI's kind (`vllm serve`, `llama-server`, ...), on this machine or in a private network.

Constraints go to it as text, in the dialect that it turns out to know; every answer is read and checked again here. A
mask cannot go there. Where it leaves few strings they are listed in the constraint, one answer at a time, so that it
holds by construction. Elsewhere the server is asked again for what the mask forbids, a few times, and all that it wrote
comes back: the search counts it as attempted.

A tuned model's folder, which lies here too, says how its prompts are written; they go to /v1/completions as they stand.
An untuned chat model is the server's alone: messages go to /v1/chat/completions, and its template is applied there.
Tokens are as the server counts them (vLLM's include the end).
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from collm_nas.api import Completion, Constraint, Request, Role, Turn, UserError
from collm_nas.presets import check_top_p, thinking
from collm_nas.prompts import DIGEST_VERSION
from inference import regexes
from inference.chat import Chat
from inference.drafts import DRAFTS, Without, keep
from inference.engines import _address
from inference.engines._http import Client, Refused
from inference.engines._models import Served, roles, served
from inference.engines._talk import Abilities, abilities, ask
from inference.folder import ModelFolder
from inference.quiet import quietly

LISTED = 512
"""Up to so many strings that a mask leaves are listed in the constraint."""

_SAMPLE = "<digest>a0b1c2<g3><best>z9<past><nav> stage 4: kernel 7 before 5, nearly settled"
_SEEDS = 2**31  # servers differ in how large a seed may be


class _Answered(NamedTuple):
    """What one call brought: its rows in order, the tokens of prompts and answers, the turns that had no room."""

    rows: list[Completion]
    prompt_tokens: int
    tokens: int
    forgotten: int


class ServerEngine:
    """Answers requests with the models of a server (`api.Engine`)."""

    name = "server"

    def __init__(
        self,
        client: Client,
        models: Mapping[Role, Served],
        able: Abilities,
        folder: ModelFolder | None,
        chat: Chat | None,
        sampling: str,
    ) -> None:
        """`folder` and `chat`: of a tuned model, whose prompts are raw; None for one that chats by the server's
        template."""
        self.able = able
        self._client, self._models, self._folder, self._chat = client, models, folder, chat
        self._sampling = sampling

    def generate(self, request: Request) -> list[Completion]:
        """`request.n` allowed completions, fewer where its mask leaves fewer, and between them what was not allowed.

        Of a Navigator's only what keeps to the constraint comes back. UserError where the server can't be asked, or its
        answers never keep to the constraint.
        """
        n = request.n if request.mask is None else min(request.n, request.mask.count(""))
        if n < 1:
            return []
        start = time.perf_counter()
        thinking(request.reasoning, {})
        check_top_p(request.top_p)
        if request.constraint is not None and self.able.dialect is None:
            raise UserError(
                f"the server {self._client.name} takes no constraint (structured_outputs, guided_regex, grammar and "
                "response_format were tried); use --decoding free, or `vllm serve` or `llama-server`"
            )
        parts = self._listed(request, n) if self._lists(request) else self._again(request, n)
        rows = [row for part in parts for row in part.rows]
        kept = self._strategies(rows, request) if request.role == "navigator" else rows
        prompt_tokens, tokens = (sum(getattr(part, key) for part in parts) for key in ("prompt_tokens", "tokens"))
        seconds = (time.perf_counter() - start) / len(kept)
        return [
            replace(
                row,
                tokens=_share(tokens, i, len(kept)),
                prompt_tokens=_share(prompt_tokens, i, len(kept)),
                seconds=seconds,
                forgotten=parts[0].forgotten,
            )
            for i, row in enumerate(kept)
        ]

    def _lists(self, request: Request) -> bool:
        return (
            self.able.dialect is not None
            and request.mask is not None
            and request.constraint is not None
            and request.mask.strings(LISTED) is not None
        )

    def _listed(self, request: Request, n: int) -> list[_Answered]:
        """`n` answers, each among the strings that the mask and the answers before it leave."""
        mask = request.mask
        assert mask is not None
        parts: list[_Answered] = []
        taken: list[str] = []
        for i in range(n):
            left = Without(mask, taken).strings(LISTED)
            assert left, "there are n of them, and each answer took one at most"
            parts.append(self._ask(request, Constraint("regex", regexes.alternation(left)), 1, i))
            taken += [row.text for row in parts[-1].rows if row.text in left]
        return parts

    def _again(self, request: Request, n: int) -> list[_Answered]:
        """Answers until `n` of them are allowed, or the tries are used up."""
        parts: list[_Answered] = []
        once = request.temperature == 0 or (request.mask is None and request.role != "navigator")
        for _ in range(1 if once else DRAFTS["rejection"]):
            rows = [row for part in parts for row in part.rows]
            missing = n - len(self._allowed(rows, request, n))
            if not missing:
                break
            parts.append(self._ask(request, request.constraint, missing, len(rows)))
        return parts

    def _allowed(self, rows: Sequence[Completion], request: Request, n: int) -> list[Completion]:
        """Those of the rows that constraint and mask allow."""
        obey = [row for row in rows if _obeys(row, request.constraint)]
        return obey if request.mask is None else [obey[i] for i in keep([row.text for row in obey], request.mask, n)]

    def _strategies(self, rows: list[Completion], request: Request) -> list[Completion]:
        """The rows that keep to the constraint; UserError where none does."""
        kept = [row for row in rows if _obeys(row, request.constraint)]
        if not kept:
            raise UserError(
                f"the server {self._client.name} doesn't keep to the constraint: its answer is {rows[0].text!r:.80}; "
                "see its log, or use --decoding free"
            )
        return kept

    def _ask(self, request: Request, constraint: Constraint | None, n: int, first: int) -> _Answered:
        """`n` answers under a constraint; `first`: how many this request has had, so that seeds go on."""
        turns: list[Turn] = [*request.history, ("user", request.prompt)]
        opening, forgotten = self._opening(request, turns), 0
        rows: list[Completion] = []
        prompt_tokens = tokens = 0
        while len(rows) < n:
            try:
                told = ask(
                    self._client,
                    opening,
                    self.able.dialect,
                    constraint,
                    n=min(n - len(rows), self.able.rows),
                    seed=(request.seed + first + len(rows)) % _SEEDS,
                    temperature=request.temperature,
                    max_tokens=request.max_tokens,
                    top_p=request.top_p,
                )
            except Refused as refused:
                shorter = _shorter(turns)
                if "context" not in refused.said.lower() or shorter is None:
                    raise
                forgotten, turns = forgotten + len(turns) - len(shorter), shorter
                opening = self._opening(request, turns)
                continue
            rows += [Completion(text, 0, 0, 0.0, finished) for text, finished in told.rows]
            prompt_tokens += told.prompt_tokens
            tokens += told.tokens
        return _Answered(rows[:n], prompt_tokens, tokens, forgotten)

    def _opening(self, request: Request, turns: Sequence[Turn]) -> dict[str, Any]:
        """Model, and prompt or messages."""
        dialect = self.able.dialect
        model = {"model": self._models[request.role].name}
        if self._chat is None:
            messages = [{"role": who, "content": text} for who, text in turns]
            return {**model, "messages": messages, **(dialect.chats if dialect else {})}
        text = self._chat.prompt(request).text
        return {**model, **(dialect.prompt(text, self._chat.templated) if dialect else {"prompt": text})}

    def check_tokens(self) -> None:
        """UserError where the server cuts prompts into other tokens than the tuned model: it serves another one."""
        if self._chat is None:
            return
        for role, model in self._models.items():
            sample = Request(role, _SAMPLE, 1, 0, 0.0, 1)
            told = ask(self._client, self._opening(sample, ()), None, None, max_tokens=1).prompt_tokens
            right = len(self._chat.prompt(sample).ids)
            if told and told != right:
                raise UserError(
                    f"the server {self._client.name} reads {told} tokens in a prompt of which the tuned model makes "
                    f"{right}, so its {model.name!r} is another one; serve the model that --model names, name its "
                    "folder there, or search with a chat model as it is: --preset paper"
                )

    def describe(self) -> dict[str, Any]:
        """What the protocol line and the journal's header keep of this engine: no address, no key."""
        known = {"digest_version": DIGEST_VERSION, "encoding": "native", "sources": {}}
        return {
            "engine": self.name,
            "served": {role: model.name for role, model in self._models.items()},
            "constraint": self.able.dialect.name if self.able.dialect else None,
            "sampling": self._sampling,
            **(known if self._folder is None else self._folder.describe()),
        }


def _obeys(row: Completion, constraint: Constraint | None) -> bool:
    """Whether an answer is whole and within the constraint."""
    if constraint is None:
        return True
    if constraint.kind != "json":
        return row.finished and re.fullmatch(constraint.text, row.text) is not None
    try:
        json.loads(row.text)
    except ValueError:
        return False
    return row.finished


def _shorter(turns: Sequence[Turn]) -> list[Turn] | None:
    """The chat without its oldest question and answer; None where there is only one question."""
    told = [i for i, (who, _) in enumerate(turns) if who != "system"]
    return [turn for i, turn in enumerate(turns) if i not in told[:2]] if len(told) > 2 else None


def _share(total: int, i: int, n: int) -> int:
    """Share i of `n` equal whole shares, of which the first take the rest."""
    return total // n + (i < total % n)


def create(
    model: Path,
    navigator: Path | None = None,
    generator: Path | None = None,
    backend: str = "auto",
    sampling: str = "masked",
    tuned: bool = True,
    quantize: str | None = None,
    server: str | None = None,
    server_model: str | None = None,
    server_timeout: float = 600.0,
    allow_remote: bool = False,
) -> ServerEngine:
    """The engine for a server at `server`, HOST:PORT or a URL.

    `model`, `navigator` and `generator`: the folder of the tuned model that it serves, of which manifest and tokenizer
    are read; without meaning where `tuned` is False. `server_model`: its name there, or one each:
    `navigator=NAME,generator=NAME`.
    `server_timeout`: seconds that it may be silent. Raises UserError where the server is missing, elsewhere, or of
    another kind, and where an option is for engines that run a model here.
    """
    _refuse(backend, sampling, quantize)
    if server is None:
        raise UserError("--engine server needs the server's address: --server HOST:PORT, as in localhost:8000")
    folder = ModelFolder.open(model, navigator, generator) if tuned else None
    client = Client(_address.read(server), allow_remote=allow_remote, timeout_s=server_timeout)
    models = roles(served(client), server_model)
    room = min((model.room for model in models.values() if model.room), default=None)
    chat = None if folder is None else Chat(_tokenizer(folder), room)
    able = abilities(client, _greeting(models["navigator"].name, raw=chat is not None))
    if not able.seeds:
        logging.getLogger("collm_nas").warning(
            "the server %s doesn't keep to seeds: a second run with this seed will differ; a resumed one will not",
            client.name,
        )
    engine = ServerEngine(client, models, able, folder, chat, sampling)
    engine.check_tokens()
    return engine


def probe(server: str, allow_remote: bool = False) -> tuple[list[str], Abilities]:
    """The names of a server's models, and what it can do with the first; UserError where there is no such server."""
    client = Client(_address.read(server), allow_remote=allow_remote)
    names = [model.name for model in served(client)]
    try:
        return names, abilities(client, _greeting(names[0], raw=True))
    except Refused:  # some only chat
        return names, abilities(client, _greeting(names[0], raw=False))


def _refuse(backend: str, sampling: str, quantize: str | None) -> None:
    if backend != "auto":
        raise UserError(f"--grammar-backend {backend} is for engines that run the model here; leave it out")
    if quantize is not None:
        raise UserError(f"--quantize {quantize} is for --engine transformers; start the server with a quantized model")
    if sampling not in ("masked", "rejection"):
        raise UserError(
            f"--sampling {sampling} needs to see the model's chances, which a server keeps; use --sampling rejection"
        )


def _greeting(model: str, *, raw: bool) -> dict[str, Any]:
    """The beginning of a tiny request."""
    return {"model": model, **({"prompt": "a"} if raw else {"messages": [{"role": "user", "content": "a"}]})}


def _tokenizer(folder: ModelFolder) -> Any:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from transformers import AutoTokenizer

    with quietly():
        tokenizer = AutoTokenizer.from_pretrained(folder.tokenizer, local_files_only=True)
    folder.check_tokenizer(tokenizer)
    return tokenizer
