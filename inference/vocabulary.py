"""What each token of a tokenizer spells: the one reading that grammar backends and the sampler share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from collm_nas.api import END

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer seen as a list of texts.

    `texts[id]` is None where a token spells nothing that an answer may hold: special tokens, padding ids of the model.
    `size` is the width of the model's logits, which may exceed the tokenizer's. `merges` says that the tokenizer always
    takes a pair (`a0`) and a mark (`<dir>`) as one token, so that their characters one by one never occur in text it
    encoded (our own tokenizer): a model that wrote them so would read what it never met in training.
    """

    tokenizer: Any
    texts: tuple[str | None, ...]
    ids: dict[str, int]
    eos: int
    merges: bool = False

    @property
    def size(self) -> int:
        """Width of the logits."""
        return len(self.texts)

    @cached_property
    def speakable(self) -> torch.Tensor:
        """Which ids an answer may hold, of shape (size,): those with a text, and the end."""
        import torch

        return torch.tensor([text is not None or i == self.eos for i, text in enumerate(self.texts)])

    def tails(self, token: int) -> str:
        """The characters that may not follow this token, since they would have been merged with it."""
        text = self.texts[token]
        return self._tails.get(text, "") if self.merges and text else ""

    def splits_pair(self, before: int, after: int) -> bool:
        """Whether token `after` following token `before` spells a pair that the tokenizer would have merged."""
        return (self.texts[after] or END)[0] in self.tails(before)

    @cached_property
    def _tails(self) -> dict[str, str]:
        tails: dict[str, str] = {}
        for token in self.ids:
            if len(token) == 2:
                tails[token[0]] = tails.get(token[0], "") + token[1]
        return tails

    def spells_mark(self, token: int) -> bool:
        """Whether the token is a mark in angle brackets."""
        return len(self.texts[token] or "") > 1 and (self.texts[token] or "").startswith("<")


def read(tokenizer: Any, size: int, merges: bool = False) -> Vocabulary:
    """The vocabulary of a Hugging Face tokenizer for a model with logits of width `size`."""
    from outlines.models.transformers import TransformerTokenizer

    spell = TransformerTokenizer(tokenizer).convert_token_to_string
    special = set(tokenizer.all_special_tokens)
    texts: list[str | None] = [None] * size
    ids = {}
    for token, number in tokenizer.get_vocab().items():
        text = spell(token)
        if number < size and token not in special and text and END not in text:
            texts[number] = text
            ids[token] = number
    return Vocabulary(tokenizer, tuple(texts), ids, int(tokenizer.eos_token_id), merges)
