"""Recipes: frozen values; a training run is a function of one of them and a dataset."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """A small Qwen3. Head size 32 and a vocabulary that is a multiple of 64, so that vLLM runs it too."""

    width: int = 128
    layers: int = 4
    heads: int = 4
    head_size: int = 32
    feed_forward: int = 384
    context: int = 2048
    initial: float = 0.08  # standard deviation of new weights, about 1 / sqrt(width); 0.02 wastes the first 50 steps


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """How long and how fast."""

    steps: int
    stop: int | None = None  # steps after which it ends, though the schedule of the learning rate is longer
    batch: int = 128  # examples a step
    micro_batch: int = 16  # examples padded to one length
    answers: int | None = None  # to a prompt that are learned from together, of those there are; None: all
    optimum_only: bool = False  # the Navigator's answers end after the first anchor, and no Generator's examples
    generator_share: float = 1.0  # of the Generator's examples; it learns its part long before the Navigator does
    first_anchor: float = 1.0  # what a token of a strategy's first anchor counts; a search lives by that, one in twenty
    learning_rate: float = 1e-3
    muon_rate: float | None = None  # learning rate of the hidden matrices under Muon; None: AdamW for all
    warmup: int = 100  # steps
    final: float = 0.05  # share of the learning rate left at the end of the cosine
    decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 1.0
    save_every: int = 100  # steps
    validate_every: int = 0  # steps between two validations, of which the last is at the end; 0: none
    seed: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Lora:
    """Adapter of one role."""

    rank: int = 16
    alpha: int = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class Further:
    """What the stages have in common by which a Navigator goes on learning."""

    steps: int
    micro_batch: int  # answers, or pairs, of one pass, at most
    learning_rate: float
    warmup: int = 5  # steps
    clip: float = 1.0
    save_every: int  # steps
    log_every: int = 5  # steps
    validate_every: int = 0  # steps between two validations (regret of proposals); 0: none
    seed: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Reinforcement(Further):
    """GRPO of a Navigator by what its strategies bring on fresh landscapes (`finetune.grpo`); after the warm-up its
    learning rate is constant."""

    searches: int = 2  # a step, each on a landscape of its own
    points: int = 3  # of each search, at which a group of strategies is sampled
    group: int = 8  # strategies at a point, at least 2
    batches: int = 1  # of the Generator's for each strategy, whose mean is its reward
    longest: int = 60  # evaluations before a point, at most
    large: float = 0.25  # shares of landscapes, as for `mine`
    huge: float = 0.1
    real: float = 0.1
    scaled: bool = True  # advantages in standard deviations of their group
    micro_batch: int = 16
    learning_rate: float = 1e-4
    beta: float = 0.0  # weight of the KL divergence from the model it starts from, under the mask
    save_every: int = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Preference(Further):
    """DPO of a Navigator by pairs of its strategies, of which one brought more (`finetune.dpo`); after the warm-up its
    learning rate falls evenly, to 0 at the end."""

    batch: int = 32  # pairs a step; fewer where a pass over the dataset ends
    micro_batch: int = 8
    beta: float = 0.1  # how much the distance from the model it starts from weighs; higher: stays nearer
    sft: float = 0.0  # weight of the better answers' own loss (nats a token) beside that of the pairs
    learning_rate: float = 5e-5
    save_every: int = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """All of a model: the base learns both roles mixed, in phases (each may have its own dataset), then each adapter
    sharpens one role on the last dataset."""

    name: str
    base: tuple[Training, ...]
    navigator: Training
    generator: Training
    shape: Shape = field(default_factory=Shape)
    longest: int | None = None  # tokens of an example; longer ones are left out
    held_out: int = 400  # examples for validation, about: of the last sources, at most 2 % of these; never trained on
    quantize: str | None = None  # weights of the base under the adapters: nf4 (4 bits), or None as they are
    lora: Lora = field(default_factory=Lora)
    reinforcement: Reinforcement | None = None  # in place of all else: a model that has both adapters goes on learning
    preference: Preference | None = None  # likewise, from a dataset of pairs


EMBEDDED = Recipe(
    name="embedded",
    base=(
        Training(
            steps=1000,
            warmup=60,
            optimum_only=True,
            learning_rate=1.5e-3,
            muon_rate=0.03,
            final=0.3,
            save_every=500,
        ),
        Training(
            steps=860,
            warmup=30,
            generator_share=0.15,
            learning_rate=1.2e-3,
            muon_rate=0.025,
            final=0.02,
            save_every=30,
            seed=1,
        ),
        Training(
            steps=180,
            batch=64,
            warmup=12,
            generator_share=0.1,
            learning_rate=5e-4,
            muon_rate=0.011,
            final=0.02,
            save_every=10,
            seed=2,
        ),
    ),
    navigator=Training(steps=16, batch=64, learning_rate=3e-4, warmup=5, validate_every=16, save_every=8),
    generator=Training(steps=40, batch=64, learning_rate=3e-4, warmup=5, validate_every=40, save_every=20),
    shape=Shape(width=192, layers=6, heads=6, feed_forward=512, initial=0.07),
)
"""The model `embedded`: minutes of a graphics card; its card says on which data."""

ADAPTERS = Recipe(
    name="adapters",
    base=(),
    navigator=Training(steps=300, batch=64, learning_rate=3e-4, warmup=20, validate_every=150),
    generator=Training(steps=100, batch=64, learning_rate=3e-4, warmup=10, validate_every=100),
)
"""New adapters on the base of a given model, for data of one's own."""

SMOLLM2 = Recipe(
    name="smollm2",
    base=(),
    navigator=Training(
        steps=2000, batch=16, micro_batch=8, learning_rate=5e-4, warmup=50, save_every=25, validate_every=250
    ),
    generator=Training(
        steps=500, batch=16, micro_batch=8, learning_rate=5e-4, warmup=20, save_every=25, validate_every=250
    ),
    longest=200,
    held_out=200,
)
"""Adapters on a language model from elsewhere, with our marks and pairs as new tokens (hours on a CPU)."""

TINY = Recipe(
    name="tiny",
    base=(
        Training(steps=6, batch=8, warmup=2, save_every=3, optimum_only=True, muon_rate=0.03),
        Training(steps=4, batch=8, warmup=2, save_every=2),
    ),
    navigator=Training(steps=4, batch=8, warmup=2, save_every=2, validate_every=4),
    generator=Training(steps=4, batch=8, warmup=2, save_every=2, validate_every=4),
    shape=Shape(width=64, layers=2, heads=2, feed_forward=128),
    lora=Lora(rank=4, alpha=8),
)
"""The same path in seconds: for tests and for trying the commands."""

GRPO = Recipe(
    name="grpo",
    base=(),
    navigator=Training(steps=1),
    generator=Training(steps=1),
    reinforcement=Reinforcement(steps=200),
)
"""Reinforcement of a model's Navigator; nothing else of it is trained."""

DPO = Recipe(
    name="dpo",
    base=(),
    navigator=Training(steps=1),
    generator=Training(steps=1),
    preference=Preference(steps=100),
)
"""Preference learning of a model's Navigator; nothing else of it is trained."""

RECIPES = {recipe.name: recipe for recipe in (EMBEDDED, ADAPTERS, SMOLLM2, TINY, GRPO, DPO)}
