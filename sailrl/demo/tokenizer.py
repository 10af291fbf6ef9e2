"""A byte-level BPE tokenizer of a few hundred tokens, trained on the spot, with Qwen's special tokens and chat form."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
VISION_START, VISION_END, IMAGE, VIDEO = "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"
PIXELS = [VISION_START, VISION_END, IMAGE, VIDEO]
# One token each, but visible in decoded text: rewards read them.
VISIBLE = ["<think>", "</think>", "\\boxed{"]

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "<|im_start|>{{ message.role + '\n' }}"
    "{%- if message.content is string -%}{{ message.content }}"
    "{%- else -%}{%- for part in message.content -%}"
    "{%- if part.type == 'image' -%}<|vision_start|><|image_pad|><|vision_end|>"
    "{%- elif part.type == 'text' -%}{{ part.text }}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}"
    "{{ '<|im_end|>\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)


def build_tokenizer(
    corpus: Iterable[str], *, vocab_size: int = 300, pixels: Sequence[str] = PIXELS
) -> PreTrainedTokenizerFast:
    """Trains the tokenizer on ``corpus``; the same corpus gives the same tokenizer. Digits stay apart, as in Qwen.

    Args:
        pixels: the tokens around and in place of images.
    """
    special = [END_OF_TEXT, TURN_START, TURN_END, *pixels]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(VISIBLE),
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=TURN_END,
        pad_token=END_OF_TEXT,
        additional_special_tokens=[t for t in special if t not in (TURN_END, END_OF_TEXT)],
        clean_up_tokenization_spaces=False,
    )
    fast.add_tokens(VISIBLE)
    fast.chat_template = CHAT_TEMPLATE
    return fast
