"""The model's tokenizer and image processor: the one owner of what a prompt's tokens and pixels are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from sailrl.config.schema import ModelConfig, PromptConfig
from sailrl.data.chat_template import ChatTemplate, read_template
from sailrl.errors import ConfigError, DataError
from sailrl.families import PLACEHOLDERS, family_at, refusal
from sailrl.families.base import Picture, SeeingFamily


def load_processor(model: ModelConfig, data: PromptConfig, path: str, *, trained: bool = False) -> Processor:
    """The processor that all parts of a run share: same folder, same pixel limits.

    Args:
        trained: the model will be trained, which is possible for fewer kinds of models than to ask it.

    Raises:
        ConfigError: this kind of model is not supported, or its chat template cannot be used.
    """
    from transformers import PreTrainedConfig

    given, _ = PreTrainedConfig.get_config_dict(path)  # for a model on the hub, the first look at it
    if why := refusal(given, trained=trained):
        raise ConfigError(f"the model {path} is {why}")
    limits = {"min_pixels": data.min_pixels, "max_pixels": data.max_pixels}
    pixels = {name: value for name, value in limits.items() if value is not None}
    return Processor(
        path,
        trust_remote_code=model.trust_remote_code,
        pixel_limits=pixels,
        chat_template=None if data.chat_template is None else read_template(data.chat_template),
        template_args=data.template_args,
        system=data.system_prompt is not None,
    )


def _own_ends(path: str | Path, config: Any, tokenizer: Any) -> set[int]:
    """Ids that end a text by the model's own files: of its tokenizer, and of generation_config.json or config.json."""
    from transformers import GenerationConfig

    try:
        given: Any = GenerationConfig.from_pretrained(path).eos_token_id
    except (OSError, ValueError):  # there is none, or none that can be read
        given = getattr(config.get_text_config(), "eos_token_id", None)
    several = given if isinstance(given, list) else [given]
    return {end for end in (*several, tokenizer.eos_token_id) if end is not None}


class Processor:
    """Tokens and pixels of one model folder; text-only models have no image part.

    Args:
        path: model folder or hub name.
        pixel_limits: ``min_pixels`` and ``max_pixels`` to which images are resized; one left out is the model's own.
        chat_template: text that takes the place of the model's own template, also where the processor is saved.
        template_args, system: see ``ChatTemplate``.

    Raises:
        ConfigError: the smallest size is larger than the largest, or the chat template cannot be used.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        trust_remote_code: bool = False,
        pixel_limits: dict[str, int] | None = None,
        chat_template: str | None = None,
        template_args: Mapping[str, Any] | None = None,
        system: bool = False,
    ) -> None:
        self.family = family_at(path)
        config = self.family.config(path, trust_remote_code=trust_remote_code)
        self.engine_options: dict[str, Any] = self.family.engine_options(config)
        """What vLLM must be told to load the model."""
        owner = self.family.processor_class().from_pretrained(path, trust_remote_code=trust_remote_code)
        self.full: Any = None
        """The model's whole processor, as transformers has it; None for a text-only model."""
        self.tokenizer: Any = owner
        self.image_id: int | None = None
        if self.family.sees:
            self.full, self.tokenizer = owner, owner.tokenizer
            self.seeing.limit(owner, pixel_limits or {})
            self.image_id = self.seeing.image_id(config, owner)
        known = self.tokenizer.get_vocab()
        named = {known[token] for token in PLACEHOLDERS if token in known}
        configured: set[Any] = {getattr(config, f"{kind}_token_id", None) for kind in ("image", "video")}
        self.banned_ids: list[int] = sorted(named | (configured & set(known.values())))
        """Ids that may never be sampled: they stand for pixels. The marks around an image may."""
        self.placeholders: list[str] = list(self.tokenizer.convert_ids_to_tokens(self.banned_ids))
        """Their text: a problem that contains one would smuggle an image into its prompt."""
        if chat_template is not None:
            owner.chat_template = self.tokenizer.chat_template = chat_template
        self.chat = ChatTemplate(owner, str(path), args=template_args or {}, only_text=self.full is None, system=system)
        """What makes text of messages."""
        own = _own_ends(path, config, self.tokenizer)
        turn_end = self._turn_end()
        self.end_id: int | None = self.tokenizer.eos_token_id if turn_end is None else turn_end
        """What ends a response that is imitated: as the chat template ends a turn, or as the tokenizer ends a text."""
        self.stop_ids: list[int] = sorted(own if turn_end is None else own | {turn_end})
        """Ids that end a response."""
        self.note = self._note(own, turn_end)
        """What to tell about the end of turns, in one line; None where template and model agree."""

    @property
    def seeing(self) -> SeeingFamily:
        """The model's family, where it takes images."""
        assert isinstance(self.family, SeeingFamily), "a model of text was asked about images"
        return self.family

    def _turn_end(self) -> int | None:
        """The special token with which the chat template ends a turn of the assistant; None where it has none."""
        special = {i for i, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        return next((i for i in self.encode(self.chat.after_turn) if i in special), None)

    def _note(self, own: set[int], turn_end: int | None) -> str | None:
        if turn_end is None and not own:
            return (
                "nothing ends a response: the tokenizer has no eos_token, the model's files no eos_token_id, and the "
                "chat template no special token after a turn; every response goes on to its limit"
            )
        if turn_end is None or turn_end in own:
            return None
        names = ", ".join(self.tokenizer.convert_ids_to_tokens(sorted(own))) or "nothing"
        return (
            f"the chat template ends turns with {self.tokenizer.convert_ids_to_tokens(turn_end)}, the model's own "
            f"files with {names} only: responses end at either, imitated ones with the template's"
        )

    def encode(self, text: str) -> list[int]:
        """Token ids of rendered text, nothing added."""
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)

    def expand(self, ids: Sequence[int], sizes: Sequence[tuple[int, int]], name: str) -> list[int]:
        """Replaces the one placeholder of each image by as many as the image has features.

        Args:
            sizes: (height, width) of each image, in order.
            name: of the problem, for errors.

        Raises:
            DataError: the number of placeholders and of images differ, the model takes no images, or there is a
                placeholder of another kind (video).
        """
        strange = next((i for i in ids if i != self.image_id and i in self.banned_ids), None)
        if strange is not None:
            token = self.tokenizer.convert_ids_to_tokens(strange)
            raise DataError(
                f"problem {name}: its rendered prompt has a `{token}`, which stands for pixels there are none of"
            )
        found = sum(i == self.image_id for i in ids)
        if found != len(sizes):
            raise DataError(
                f"problem {name} has {len(sizes)} images and {found} places for them in its rendered prompt. "
                + ("Use a vision-language model." if self.image_id is None else "Write one <image> mark per image.")
            )
        if not sizes:
            return list(ids)
        counts = iter(self.seeing.counts(self.full, sizes))
        return [
            i
            for token in ids
            for i in (self.seeing.filled(self.full, token, next(counts)) if token == self.image_id else [token])
        ]

    def pixels(self, images: Sequence[Any], *, of: int | None = None) -> list[Picture]:
        """Of each image its pixels, float32, and how they lie; see the model's family.

        Args:
            of: images in their prompt; these are all by default.
        """
        return self.seeing.pictures(self.full, images, **self.crowding(of or len(images)))

    def crowding(self, pictures: int) -> dict[str, Any]:
        """Arguments of the image processor that a prompt with so many images needs, here and in vLLM."""
        return self.seeing.crowding(self.full, pictures)

    def blank(self) -> Picture:
        """The smallest image there can be, black, as ``pixels`` gives images."""
        return self.seeing.blank(self.full)

    def engine_limits(self) -> dict[str, Any]:
        """The limits of images, as arguments of the image processor that vLLM makes."""
        return self.seeing.engine_limits(self.full)

    def image_places(self, ids: torch.Tensor) -> torch.Tensor:
        """1 where an id stands for a piece of an image, else 0; the shape of ``ids``, int32."""
        return torch.zeros_like(ids, dtype=torch.int) if self.image_id is None else ids.eq(self.image_id).int()

    def features(self, layout: torch.Tensor) -> int:
        """Placeholders that an image fills whose pixels lie like this."""
        return self.seeing.tokens(self.full, layout)

    def save(self, folder: str | Path) -> None:
        """Writes tokenizer, chat template and image processor into a model folder."""
        (self.full or self.tokenizer).save_pretrained(folder)
