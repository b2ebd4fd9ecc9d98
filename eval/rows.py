"""The rows of a benchmark: an optimiser by name, with options after colons (`aging-evolution:population=50`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collm_nas.api import UserError
from inference.folder import EMBEDDED, located

MODEL_ROW = "collm"
MODEL_OPTIONS = (
    "model", "temperature", "top_p", "decoding", "encoding", "sampling", "strategies", "engine", "grammar_backend",
    "variant", "preset", "prompts", "reasoning", "tuned", "hint", "advisor",
    "navigator_temperature", "generator_temperature",
)  # fmt: skip
"""Options of the row `collm`, as of `collm-nas search`; `variant`: a name of `eval.variants` (of
`eval.paper_variants` with the preset `paper`); `tuned=0` leaves the model's adapters aside; `navigator_temperature` and
`generator_temperature` are one role's; `advisor`: an optimiser whose candidates the Navigator reads; `hint`: a text, or
`right`, `useless`, `misleading` on landscapes, whose best point is known."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: an optimiser with its options; `label` is how the user wrote it."""

    label: str
    name: str
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def model(self) -> Path | None:
        """The model folder of a row that has one."""
        if self.name != MODEL_ROW:
            return None
        return located(Path(dict(self.options).get("model", EMBEDDED.name)).expanduser(), tuned=self.tuned)

    @property
    def tuned(self) -> bool:
        """Whether the model's adapters take part."""
        given = dict(self.options)
        return bool(given.get("tuned", "preset" not in given))


def parse_row(text: str, model_options: dict[str, Any] | None = None) -> Row:
    """`name[:option=value]...`; UserError for an unknown name or a malformed option.

    `model_options` apply to the row `collm` unless it names its own.
    """
    from collm_nas import optimizers

    name, *pieces = text.strip().split(":")
    if name not in (MODEL_ROW, *optimizers.names()):
        raise UserError(f"--rows: {name!r} is unknown; legal: {', '.join((MODEL_ROW, *optimizers.names()))}")
    options = {k: v for k, v in (model_options or {}).items() if v is not None} if name == MODEL_ROW else {}
    legal = MODEL_OPTIONS if name == MODEL_ROW else optimizers.options(name)
    for piece in pieces:
        key, equals, value = piece.partition("=")
        if not (key and equals and value):
            raise UserError(f"--rows: {piece!r} in {text!r} is no option; write name:option=value")
        if key not in legal:
            raise UserError(f"--rows: {name!r} has no option {key!r}; legal: {', '.join(legal) or 'none'}")
        options[key] = _number(value)
    return Row(text.strip(), name, tuple(sorted(options.items())))


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def default_rows() -> tuple[str, ...]:
    """The model, every optimiser of the folder, and ridge Thompson alone (stronger than its mixture with mutations).

    Those that need a package which is not installed are left out.
    """
    from collm_nas import optimizers

    names = [name for name in optimizers.names() if optimizers.missing(name) is None]
    return (MODEL_ROW, *names, "digest-only:thompson=1.0")


def left_out() -> str | None:
    """One sentence on the rows that are left out for want of a package, with the command that brings them."""
    from collm_nas import optimizers

    names = [name for name in optimizers.names() if optimizers.missing(name)]
    return f"without {', '.join(names)}; to have them: {optimizers.installing(names)}" if names else None
