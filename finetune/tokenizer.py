"""The embedded model's tokenizer: one token a mark, an evidence level, a (variable, choice) pair or a printable
character.

A plain Qwen3 learns the task as fast as a net with hand-made positions *if* each pair is one token; hence this
tokenizer.
"""

from __future__ import annotations

from transformers import AddedToken, PreTrainedTokenizerFast

from collm_nas.prompts import END_TOKEN, PAD_TOKEN, TOKEN_PATTERN, UNKNOWN_TOKEN, vocabulary


def extend(tokenizer: PreTrainedTokenizerFast) -> None:
    """Add our marks and pairs to another model's tokenizer, which then cuts digests and strategies as ours does.

    Its chat template goes: what it reads from now on is no chat.
    """
    old = tokenizer.get_vocab()
    ours = [token for token in vocabulary() if len(token) > 1 and token not in (PAD_TOKEN, END_TOKEN, UNKNOWN_TOKEN)]
    new = [token for token in ours if token not in old and not token.startswith("<spare")]
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in new])
    tokenizer.chat_template = None
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token


def build() -> PreTrainedTokenizerFast:
    """The tokenizer, made from `prompts.vocabulary()` alone."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    ids = {token: i for i, token in enumerate(vocabulary())}
    core = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN_TOKEN))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(TOKEN_PATTERN), "isolated")
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
