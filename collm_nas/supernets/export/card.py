"""The model card of an exported network, from what `config.json` holds; its code stands alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from collm_nas.supernets.export import preparation
from collm_nas.supernets.export.facts import INHERITED, SEARCHED
from collm_nas.supernets.export.formats import INPUT, ONNX, OUTPUT, PROGRAM, SAFETENSORS

Config = Mapping[str, Any]


def render(config: Config) -> str:
    """Markdown; every figure is one of `config`."""
    parts = {
        f"# A network of the space {config['space']['name']}": [*_what(config)],
        "## How it was found": [*_found(config)],
        "## Figures": [*_figures(config)],
        "## Its images": [*preparation.words(config["inputs"]), "", *_code(preparation.code(config["inputs"]))],
        "## Loading it": [*_loading(config)],
        "## Limits": [*_limits(config)],
    }
    return "\n\n".join("\n".join([title, "", *lines]).rstrip() for title, lines in parts.items()) + "\n"


def _what(config: Config) -> Iterator[str]:
    side, channels, classes = config["inputs"]["side"], config["inputs"]["channels"], config["classes"]
    shown = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
    yield f"An image classifier: {channels} x {side} x {side} numbers to {len(classes)} logits ({shown})."
    if config["costs"]:
        yield f"Its costs: {costs(config['costs'])}."
    yield ""
    yield f"Architecture: `{config['architecture']['native']}`"
    yield ""
    yield config["space"].get("description", "")


def costs(found: Mapping[str, float]) -> str:
    """Parameters, multiply-adds and whatever else is known, in words."""
    units = {"params": "parameters", "flops": "multiply-adds", "latency": "ms an image"}
    named = {name: units.get(name, name) for name in [*units, *found] if name in found}
    figures = {name: f"{found[name]:,.0f}" if found[name] >= 1000 else f"{found[name]:.4g}" for name in named}
    return ", ".join(f"{figures[name]} {unit}" for name, unit in named.items())


def _found(config: Config) -> Iterator[str]:
    protocol, search = config["protocol"], config["search"]
    how = f"By `collm-nas search`, optimiser {protocol.get('optimizer', '?')}, seed {search['seed']}: the best of "
    yield f"{how}{search['evaluated']} architectures that were scored with shared weights (ended: {search['ended']})."
    yield ""
    caps = " and ".join(f"at most {costs({name: value})}" for name, value in (protocol.get("caps") or {}).items())
    rows = {
        "supernet": f"`{protocol.get('supernet', '?')}`, sha256 `{protocol.get('sha256', '?')}`",
        "images": _data(protocol.get("data") or {}),
        "protocol of the scores": protocol.get("images", "?"),
        "caps": caps or "none",
        "budget": f"{protocol.get('budget', '?')} evaluations",
        "weights": _weights(config["weights"]),
    }
    yield from (f"- {name}: {text}" for name, text in rows.items())


def _data(data: Config) -> str:
    sizes = data.get("images") or {}
    counts = ", ".join(f"{n} {part}" for part, n in sizes.items() if n)
    return f"`{data.get('name', '?')}`, digest `{data.get('digest', '?')}`" + (f" ({counts})" if counts else "")


def _weights(weights: Config) -> str:
    if weights["kind"] == INHERITED["kind"]:
        return "inherited from the supernet, BatchNorm statistics measured anew for this network"
    recipe = ", ".join(f"{name} {value:g}" for name, value in weights["training"].get("recipe", {}).items())
    start = f", from {weights['training']['from']} weights" if "from" in weights["training"] else ""
    return f"trained alone{start}{f' ({recipe})' if recipe else ''}, sha256 `{weights['sha256']}`"


def _figures(config: Config) -> Iterator[str]:
    yield "| figure | value | what it was for | weights |"
    yield "|---|--:|---|---|"
    for row in config["accuracies"]:
        error = f" ± {row['error']:.2g}" if "error" in row else ""
        yield f"| {row['name']} | {row['value']:.6g}{error} | {row['use']} | {row['weights']} |"
    yield ""
    yield "Percent of images; ± is one standard error. `config.json` holds the whole protocol."
    if config["weights"]["kind"] != INHERITED["kind"]:
        yield "Figures of inherited weights are the search's, not those of the weights in this folder."


def _loading(config: Config) -> Iterator[str]:
    files, inputs = config["files"], config["inputs"]
    shape = f"float32 (N, {inputs['channels']}, {inputs['side']}, {inputs['side']})"
    yield f"All take images {shape}, prepared as above, for any N, and give logits (N, {len(config['classes'])})."
    yield ""
    yield f"- `{PROGRAM}`: torch alone (written by torch {files[PROGRAM]['torch']}; take that or a newer one)"
    yield from ("", *_code(_TORCH))
    if ONNX in files:
        yield f"- `{ONNX}`: opset {files[ONNX]['opset']}, weights inside"
        yield from ("", *_code(_ONNXRUNTIME))
    yield f"- `{SAFETENSORS}`: the weights by name; `config.json` lists the layers that they belong to"
    yield from ("", *_code(_SAFETENSORS))
    yield _checked(config["check"])


def _checked(check: Config) -> str:
    worst = " and ".join(f"{value:.1e} ({name})" for name, value in check["difference"].items())
    return (
        f"When written, these programs gave the logits of the network they were made from, but for {worst} of "
        f"their standard deviation at most, on {check['images']} images of noise."
    )


def _limits(config: Config) -> Iterator[str]:
    fitness = next(row["name"] for row in config["accuracies"] if row["use"] == SEARCHED)
    chosen = f"- {fitness} chose this network among {config['search']['evaluated']}, so it is optimistic"
    yield chosen + "; what was read once, after the choice, is not."
    if config["weights"]["kind"] == INHERITED["kind"]:
        yield "- The weights are shared ones, trained for many networks at once; trained alone it may do better."
    yield "- It knows its classes alone, and images like those it was trained on; nothing else was measured."
    yield f"- The side of {config['inputs']['side']} pixels is fixed in the programs; their numbers are float32."


def _code(text: str) -> list[str]:
    return ["```python", *text.strip().splitlines(), "```", ""]


_TORCH = f"""
import torch

network = torch.export.load("{PROGRAM}").module()
with torch.no_grad():
    logits = network(torch.from_numpy(prepare("image.png")))
"""
_ONNXRUNTIME = f"""
import onnxruntime

session = onnxruntime.InferenceSession("{ONNX}")
[logits] = session.run(["{OUTPUT}"], {{"{INPUT}": prepare("image.png")}})
"""
_SAFETENSORS = f"""
from safetensors.torch import load_file

weights = load_file("{SAFETENSORS}")
"""
