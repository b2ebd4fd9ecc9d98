"""The engine on Hugging Face transformers: one base in memory, a PEFT adapter a role, switched without reloading."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from collm_nas.api import Request, UserError
from collm_nas.traces import Trace
from inference import new_tokens
from inference.engines._local import Answer, LocalEngine, check_sampling
from inference.folder import ModelFolder
from inference.quiet import quietly

if TYPE_CHECKING:
    import torch

    from inference.processors import Norms, Sampler

QUANTIZED = ("8bit", "4bit")
_SMALL = 80_000_000  # bytes of weights; below, a second thread or a GPU waits longer than it works


class TransformersEngine(LocalEngine):
    """Answers requests with one base model and its two adapters (`api.Engine`)."""

    name = "transformers"

    def __init__(
        self,
        folder: ModelFolder,
        model: Any,
        tokenizer: Any,
        backend: str,
        sampling: str = "masked",
        drafts: int | None = None,
    ) -> None:
        """`model` is a PeftModel with the adapters `navigator` and `generator`, or a bare base where the folder has
        none; the rest as for `LocalEngine`."""
        self.model = model
        self._base = model.get_base_model() if folder.adapters else model
        config = self._base.config
        room = getattr(config, "max_position_embeddings", None)
        super().__init__(folder, tokenizer, config.vocab_size, room, backend, sampling, drafts)

    def _sample(
        self, request: Request, prompt: list[int], n: int, sampler: Sampler, norms: Norms | None
    ) -> list[Answer]:
        import torch

        grammar = [self._grammar(request.constraint)] if request.constraint else []
        processors = [*([norms] if norms else []), *grammar, sampler]
        prompt_1L = torch.tensor([prompt], device=self._base.device)
        return self._answers(self._complete(request, prompt_1L, n, processors), sampler)

    def trace(self, request: Request) -> list[Trace]:
        """The answers of `generate` to a request without mask and with a top-p of 1, token by token
        (`collm_nas.traces.Policy`)."""
        assert request.mask is None and request.top_p == 1, "drawn among other tokens than the grammar's"
        prompt = self.chat.prompt(request).ids
        answers = self._answer(request, prompt, request.n, True)
        return [_trace(answer, prompt) for answer in answers]

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
        from inference.roomy_cache import roomy_cache

        if prompt_1L.shape[1] < 2:
            return None
        cache = roomy_cache(self._base.config)
        self._base(input_ids=prompt_1L[:, :-1], past_key_values=cache, use_cache=True, logits_to_keep=1)
        if n > 1:
            cache.batch_repeat_interleave(n)
        return cache

    def _switch(self, role: str) -> None:
        if self.folder.adapters and self.model.active_adapter != role:
            self.model.set_adapter(role)

    def _identity(self) -> dict[str, Any]:
        dtype = str(self._base.dtype).removeprefix("torch.")
        loaded = getattr(self._base.config, "quantization_config", None)
        quantized = {} if loaded is None else {"quantize": "8bit" if loaded.load_in_8bit else "4bit"}
        return {"device": self._base.device.type, "dtype": dtype, **quantized}


def _trace(answer: Answer, prompt: list[int]) -> Trace:
    logps = [
        float(step.logps_K[list(step.ids).index(step.token)] - np.logaddexp.reduce(step.logps_K))
        for step in answer.steps
    ]
    return Trace(
        answer.completion.text,
        tuple(prompt),
        tuple(step.token for step in answer.steps),
        tuple(tuple(step.ids) for step in answer.steps),
        tuple(logps),
    )


def create(
    model: Path,
    navigator: Path | None = None,
    generator: Path | None = None,
    backend: str = "auto",
    sampling: str = "masked",
    tuned: bool = True,
    quantize: str | None = None,
) -> TransformersEngine:
    """The engine for a model folder; adapters from elsewhere replace its own. `sampling`: a key of `drafts.DRAFTS`.

    `tuned` False leaves adapters aside: any chat model's folder will do. `quantize`: `8bit` or `4bit` weights by
    bitsandbytes. Raises UserError where a folder, an adapter or bitsandbytes is missing, or an adapter was made for
    another tokenizer or digest version.
    """
    check_sampling(sampling)
    given: dict[str, Any] = {} if quantize is None else _quantization(quantize)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    folder = ModelFolder.open(model, navigator, generator, tuned=tuned)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    small = folder.weight_bytes() < _SMALL
    device = "cuda" if torch.cuda.is_available() and not small else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    if given:
        given["device_map"] = {"": device}
    with quietly(), _named(folder.base):
        tokenizer = AutoTokenizer.from_pretrained(folder.tokenizer, local_files_only=True)
        base: Any = AutoModelForCausalLM.from_pretrained(folder.base, local_files_only=True, dtype=dtype, **given)
    folder.check_tokenizer(tokenizer)
    if len(tokenizer) > base.config.vocab_size:  # the rows of the new tokens come with the adapters
        base.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=64, mean_resizing=False)
    # A folder's own generation settings (top_k, repetition penalties) must not alter what the sampler draws from.
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    base.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=pad)
    if small and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    if given:
        _spare_narrow(base)
    placed = base if given else base.to(device)
    return TransformersEngine(folder, _adapt(placed, folder), tokenizer, backend, sampling)


def _quantization(quantize: str) -> dict[str, Any]:
    """The loader's arguments for weights of fewer bits."""
    if quantize not in QUANTIZED:
        raise UserError(f"--quantize {quantize!r} is unknown; legal: {', '.join(QUANTIZED)}")
    if find_spec("bitsandbytes") is None:
        raise UserError(
            "--quantize needs the package bitsandbytes, which is not installed; get it with: "
            "pip install 'collm-nas[qlora]'"
        )
    import torch
    from transformers import BitsAndBytesConfig

    if quantize == "8bit":
        return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}
    compute = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
    )
    return {"quantization_config": config}


def _spare_narrow(base: Any) -> None:
    """Keep bitsandbytes 0.50 from packing 4-bit weights narrower than its blocks for a CPU with bfloat16: it fails."""
    for module in base.modules():
        if hasattr(module, "support_avx512bf16_for_cpu") and module.in_features % 64:
            module.support_avx512bf16_for_cpu = False


def _adapt(base: Any, folder: ModelFolder) -> Any:
    """The base with both adapters where there are any, in evaluation mode."""
    if not folder.adapters:
        return base.eval()
    from peft import PeftModel

    tuned: Any = None
    for role, path in folder.adapters.items():
        with quietly(), _named(path):
            if tuned is None:
                tuned = PeftModel.from_pretrained(base, str(path), adapter_name=role, local_files_only=True)
            else:
                tuned.load_adapter(str(path), adapter_name=role, local_files_only=True)
    new_tokens.keep(tuned)
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
