"""The embedded model's tokenizer: one token a mark, an evidence level, a (variable, choice) pair or a printable
character.

A plain Qwen3 learns the task as fast as a net with hand-made positions *if* each pair is one token; hence this
tokenizer.
"""

from __future__ import annotations

from transformers import PreTrainedTokenizerFast

from collm_nas.prompts import END_TOKEN, PAD_TOKEN, UNKNOWN_TOKEN, vocabulary

PATTERN = r"<[^<>]+>|[a-zA-Z][0-9a-z]|[\s\S]"


def build() -> PreTrainedTokenizerFast:
    """The tokenizer, made from `prompts.vocabulary()` alone."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    ids = {token: i for i, token in enumerate(vocabulary())}
    core = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN_TOKEN))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(PATTERN), "isolated")
    # Fuse alone would do; with ByteFallback before it, llguidance recognises the decoder.
    core.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=END_TOKEN,
        pad_token=PAD_TOKEN,
        unk_token=UNKNOWN_TOKEN,
        padding_side="right",
        clean_up_tokenization_spaces=False,
    )
