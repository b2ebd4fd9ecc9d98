"""Candidates scored by a supernet on images: what a search without a table stands on."""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from collm_nas import images, spaces, supernets
from collm_nas.api import Architecture, Evaluation, EvaluationError, SearchSpace, UserError
from collm_nas.images.inputs import Inputs
from collm_nas.images.split import ImageData, Split
from collm_nas.supernets import devices, own, protocols, session, store, training
from collm_nas.supernets.base import Supernet
from collm_nas.supernets.scoring import Score, Scorer

WARM_UP, REPEATS = 3, 15
"""Runs of a network before its latency is measured, and those whose median it is."""


class SupernetEvaluator:
    """`api.Evaluator`: fitness is top-1 accuracy in percent on images held out of the training set, with its standard
    error; the test images are read for the winner alone.

    `race`: stop early on candidates that are hopeless (see `scoring.Scorer.score`). `latency`: also measure the time in
    ms that one image takes on the device, before a candidate is accepted.
    """

    def __init__(
        self,
        supernet: Supernet,
        data: ImageData,
        *,
        protocol: str = "fast",
        device: str | None = None,
        race: bool = False,
        latency: bool = False,
        origin: Mapping[str, Any] | None = None,
    ) -> None:
        """`origin`: JSON values that say where weights and data come from, for the protocol."""
        self.space: SearchSpace = supernet.space
        self.device = devices.pick(device)
        self.race, self.latency = race, latency
        self._scorer = Scorer(on_device(supernet, self.device), data, protocols.named(protocol), self.device)
        self._origin = dict(origin or {})
        self.bounded = race
        """Whether `evaluate` is told the best fitness so far."""
        self._latencies: dict[Architecture, float] = {}
        if not len(data.valid):
            raise UserError(f"{data.name}: no image is held out to score on; give --valid a share or a number")

    @property
    def data(self) -> ImageData:
        """The images, split."""
        return self._scorer.data

    @property
    def supernet(self) -> Supernet:
        """The shared weights, on the device."""
        return self._scorer.supernet

    @property
    def splits(self) -> Mapping[str, Split]:
        """The images that are used: `calibration`, `valid` and, where there are some, `test`."""
        return self._scorer.splits

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the logits."""
        return self._scorer.data.classes

    def inputs(self, arch: Architecture) -> Inputs:
        """What the architecture's images must be."""
        return self._scorer.supernet.inputs(arch)

    def network(self, arch: Architecture) -> nn.Module:
        """The stand-alone network that is scored, BatchNorm statistics included."""
        return self._scorer.network(arch)

    def score(self, arch: Architecture, split: str = "valid") -> Score:
        """Accuracy and its standard error on `valid` or `test`."""
        return self._scorer.score(arch, split)

    def score_network(self, network: nn.Module, arch: Architecture, split: str = "valid") -> Score:
        """`score` of a stand-alone network with weights of its own; it may be changed by folding."""
        return self._scorer.score_network(network.to(self.device), self.inputs(arch), split)

    def evaluate(self, archs: Sequence[Architecture], best: float | None = None) -> list[Evaluation]:
        """One evaluation an architecture, in order; float32 on the device. In a race, against `best`.

        Raises EvaluationError where the device has too little memory.
        """
        return [self._evaluate(arch, best if self.race else None) for arch in archs]

    def _evaluate(self, arch: Architecture, best: float | None) -> Evaluation:
        began = time.monotonic()
        try:
            score = self._scorer.score(arch, best=-math.inf if best is None else best)
        except torch.OutOfMemoryError as error:
            reason = f"{self.device} has too little memory for it: {error}"
        else:
            return self._scored(arch, score, time.monotonic() - began)
        devices.release(self.device)  # only now is nothing of the attempt held any more
        raise EvaluationError(reason)

    def _scored(self, arch: Architecture, score: Score, seconds: float) -> Evaluation:
        return Evaluation(score.accuracy, self.costs(arch), seconds, f"supernet, {score.images} images", score.error)

    def costs(self, arch: Architecture) -> dict[str, float]:
        """The latency in ms of one image, measured once, where that is asked for."""
        if not self.latency:
            return {}
        if arch not in self._latencies:
            self._latencies[arch] = self._measured(arch)
        return {"latency": self._latencies[arch]}

    @torch.inference_mode()
    def _measured(self, arch: Architecture) -> float:
        inputs = self.inputs(arch)
        network = self._scorer.network(arch)
        x_NCHW = torch.zeros(1, inputs.channels, inputs.side, inputs.side, device=self.device)
        seconds = []
        for _ in range(WARM_UP + REPEATS):
            began = time.perf_counter()
            network(x_NCHW)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            seconds.append(time.perf_counter() - began)
        return 1000 * statistics.median(seconds[WARM_UP:])

    def report(self, arch: Architecture) -> dict[str, float]:
        """Accuracy on the test images, where there are some."""
        return {} if self._scorer.data.test is None else {"test": self._scorer.score(arch, "test").accuracy}

    def protocol(self) -> dict[str, Any]:
        """The weights' and the data's hashes, and how candidates are scored."""
        return {
            "source": "supernet",
            "sha256": None,
            **self._origin,
            "fitness": "valid top-1",
            "report": [] if self._scorer.data.test is None else ["test"],
            "images": self._scorer.protocol.name,
            "scored_on": len(self._scorer.splits["valid"]),
            "calibrated_on": len(self._scorer.splits["calibration"]),
            "race": self.race,
            "data": {**self._scorer.data.describe(), **self._origin.get("data", {})},
            "source_hashes": [h for h in (self._origin.get("sha256"), self._scorer.data.digest) if h],
        }


def on_device(supernet: Supernet, device: torch.device) -> Supernet:
    """The same supernet; its shared tensors are moved where they are elsewhere, and made float32."""
    for key, value in supernet.state.items():
        supernet.state[key] = value.to(device, torch.float32 if value.is_floating_point() else None)
    return supernet


def load(
    space: str | None,
    weights: str | os.PathLike[str],
    data: str | os.PathLike[str] | None = None,
    *,
    valid: float | None = None,
    **options: Any,
) -> SupernetEvaluator:
    """The evaluator for a supernet and images; `options` as of `SupernetEvaluator`.

    `weights`: a file, the folder of a training, or MODULE:OBJECT (a supernet of one's own). A file that this project
    trained names its space, its data and the split; `space` and `valid` may then be left out, `data` too where it is
    the built-in digits. Raises UserError where they are needed, or contradict the file, or where the file is refused.
    """
    if own.is_named(os.fspath(weights)):
        supernet, facts, origin = own.load(os.fspath(weights)), {}, {"supernet": os.fspath(weights)}
        _same_space(space, supernet.space.name, origin["supernet"])
        origin["sha256"] = own.sha256(supernet)
    else:
        path = store.find(weights)
        facts = store.facts(path)
        supernet = session.reload(space_of(path, space), path)
        origin = {"supernet": str(path.resolve()), "sha256": store.sha256(path)}
    what = origin["supernet"]
    source = data or facts.get("data", {}).get("source")
    if source is None:
        raise UserError(f"--supernet {what} needs images to score on: give --data, an image folder or Parquet files")
    if "data" in facts and protocols.named(options.get("protocol", "fast")).name != "fast":
        raise UserError(
            f"--protocol {options['protocol']} chooses images that {what} was trained on; leave it out: fast keeps to "
            "those that its training held out"
        )
    opened = _data(source, valid, facts.get("data"), what)
    whole = {
        **origin,
        "space": supernet.space.name,
        "data": {"source": source if source == "digits" else str(Path(source).resolve())},
    }
    return SupernetEvaluator(supernet, opened, origin=whole, **options)


def space_of(path: Path, asked: str | None) -> Any:
    """The space of a supernet's file: what the file says, else what is asked for; UserError where neither says it, they
    contradict, or there is no such file."""
    if not path.is_file():
        unfinished = (path.parent / training.CHECKPOINT).is_file()
        hint = "; finish its training: the command that began it goes on" if unfinished else ""
        raise UserError(f"--supernet {path}: there is no such file{hint}")
    facts = store.facts(path)
    named = facts.get("space")
    if named is None and asked is None:
        legal = ", ".join(supernets.names())
        raise UserError(f"--supernet {path} does not say what it is a supernet of; give --space, one of {legal}")
    if named:
        _same_space(asked, named, str(path))
    if facts.get("own"):
        return own.load(facts["own"]).space
    return spaces.load(named or asked or "", **facts.get("options", {}))


def _same_space(asked: str | None, found: str, what: str) -> None:
    if asked and asked != found:
        raise UserError(f"--supernet {what} is a supernet of {found}, not of {asked}; leave --space out")


def _data(
    source: str | os.PathLike[str], valid: float | None, trained: Mapping[str, Any] | None, what: str
) -> ImageData:
    """The images, split as they were when the supernet was trained."""
    if trained is None:
        return images.open(source, valid=session.default_valid(source) if valid is None else valid)
    if valid is not None and valid != trained["valid"]:
        raise UserError(
            f"--valid {valid:g}: {what} was trained with {trained['valid']:g} held out; leave --valid out, or it would "
            "be scored on images that it was trained on"
        )
    opened = images.open(source, valid=trained["valid"], seed=trained["seed"], limit=trained["limit"])
    if opened.digest != trained["digest"]:
        raise UserError(
            f"--data {source}: these are not the images that {what} was trained on (their hash differs), so its split "
            "cannot be kept; give the same"
        )
    return opened


def reopen(protocol: Mapping[str, Any], device: str | None = None) -> SupernetEvaluator:
    """The evaluator that wrote this protocol; UserError where its files are gone or have changed."""
    if protocol.get("source") != "supernet" or "supernet" not in protocol:
        raise UserError("this run was not scored by a supernet's file, so there are no weights to take from it")
    data = protocol["data"]
    found = load(
        protocol["space"],
        protocol["supernet"],
        data["source"],
        valid=data["valid"],
        protocol=protocol["images"],
        device=device,
    )
    if found.protocol()["sha256"] != protocol["sha256"]:
        raise UserError(f"{protocol['supernet']} has changed since the run: its hash is not the one in the journal")
    return found
