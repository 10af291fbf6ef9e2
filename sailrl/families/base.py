"""What the rest of the code asks about a kind of model. Every family answers in a module of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from sailrl.errors import ConfigError
from sailrl.families.packing import packs

if TYPE_CHECKING:
    from torch import Tensor

Part = Literal["vision", "projector", "language_model"]
"""The parts of a model that ``model.freeze`` names."""
Picture: TypeAlias = "tuple[Tensor, Tensor]"
"""What an image is to a model: its pixels, float32, and a few whole numbers that say how they lie."""
Features: TypeAlias = "tuple[Tensor, ...]"
"""What a model makes of an image: one tensor [tokens, hidden] per projection into its language model."""


@dataclass(frozen=True, slots=True)
class VisionShape:
    """A vision tower, as the memory plan needs it."""

    layers: int
    hidden: int
    inner: int
    """Width between the two matrices of its MLP."""
    values_per_patch: int
    """Numbers that one patch of pixels is: channels x frames x side x side."""
    patches_per_token: int
    pixels_per_token: int
    outputs: int
    """Projections into the language model."""
    thumbnail_tokens: int = 0
    """Tokens of the small whole picture that goes behind the parts of a large one."""


class Family:
    """One kind of model. What is written here holds for language models of text."""

    title: ClassVar[str]
    """Its name in messages and documents."""
    sees: ClassVar[bool] = False
    """Whether it takes images; then it is a ``SeeingFamily``."""

    def knows(self, config: Mapping[str, Any]) -> bool:
        """Whether a model is one of this family.

        Args:
            config: what its config.json holds.
        """
        raise NotImplementedError

    def text_config(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """The part of config.json that describes the language model."""
        text = config.get("text_config")
        return text if isinstance(text, Mapping) else config

    def fault(self, config: Mapping[str, Any]) -> str | None:
        """Why a model of this family cannot be used, in words that go on from its name; None where nothing is wrong."""
        return None

    def register(self) -> None:
        """Makes the family known to transformers, where transformers does not have it. May be called again."""

    def config(self, path: str | Path, *, trust_remote_code: bool = False, local: bool = False) -> Any:
        """transformers' configuration of the model in a folder or on the hub.

        Args:
            local: look at files on this machine only.

        Raises:
            ConfigError: transformers refuses what its config.json holds.
            OSError: there is no config.json.
        """
        from transformers import AutoConfig

        try:
            return AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code, local_files_only=local)
        except OSError:
            raise
        except Exception as error:  # each kind of model checks its own values, with errors of its own
            why = " ".join(str(error).split())
            raise ConfigError(f"transformers cannot use config.json of the model {path}: {why}") from error

    def engine_options(self, config: Any) -> dict[str, Any]:
        """What vLLM must be told to load a model, as arguments of its ``ModelConfig``."""
        return {}

    def model_class(self) -> Any:
        """The class with transformers' ``from_pretrained`` and ``from_config``."""
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM

    def processor_class(self) -> Any:
        """The class whose ``from_pretrained`` gives the tokenizer, or what has it and more."""
        from transformers import AutoTokenizer

        return AutoTokenizer

    def part(self, name: str) -> Part:
        """The part that a parameter belongs to, by its name."""
        return "language_model"

    def packs(self, config: Any) -> bool:
        """Whether several samples may be in one row; see ``packing``.

        Args:
            config: transformers' configuration of the model.
        """
        return packs(config.get_text_config())

    def vision_shape(self, config: Any) -> VisionShape | None:
        """The shape of the vision tower; None without one."""
        return None


class SeeingFamily(Family):
    """A kind of vision-language model. ``whole`` is always the model's whole processor, as transformers has it."""

    sees = True

    def model_class(self) -> Any:
        from transformers import AutoModelForImageTextToText

        return AutoModelForImageTextToText

    def processor_class(self) -> Any:
        from transformers import AutoProcessor

        return AutoProcessor

    def image_id(self, config: Any, whole: Any) -> int:
        """The token that stands for a piece of an image."""
        return int(config.image_token_id)

    def limit(self, whole: Any, limits: Mapping[str, int]) -> None:
        """Limits the size of images from here on; ``limits`` has ``min_pixels``, ``max_pixels``, both or none.

        Raises:
            ConfigError: this family cannot be limited so.
        """
        raise NotImplementedError

    def engine_limits(self, whole: Any) -> dict[str, Any]:
        """The limits in force, as arguments of the image processor that vLLM makes."""
        raise NotImplementedError

    def crowding(self, whole: Any, pictures: int) -> dict[str, Any]:
        """Arguments of the image processor, here and in vLLM, for a prompt with so many images; empty where their
        number does not matter."""
        return {}

    def counts(self, whole: Any, sizes: Sequence[tuple[int, int]]) -> list[int]:
        """How many tokens stand for each image of a prompt; ``sizes`` are their (height, width)."""
        return list(whole._get_num_multimodal_tokens(image_sizes=sizes).num_image_tokens)

    def filled(self, whole: Any, image_id: int, count: int) -> list[int]:
        """What takes the place of an image's one placeholder in a rendered prompt."""
        return [image_id] * count

    def pictures(self, whole: Any, images: Sequence[Any], **crowding: Any) -> list[Picture]:
        """The pixels of each image, and how they lie."""
        raise NotImplementedError

    def blank(self, whole: Any) -> Picture:
        """The smallest image there can be, black."""
        raise NotImplementedError

    def tokens(self, whole: Any, layout: Tensor) -> int:
        """How many tokens stand for an image whose pixels lie like this."""
        raise NotImplementedError

    def layouts(self, whole: Any, images: Sequence[Any], output: Mapping[str, Any]) -> list[Tensor]:
        """How the pixels of each image lie, by what the whole processor returned for a prompt with them."""
        raise NotImplementedError

    def positions(self, model: Any, ids: Tensor, places: Tensor, layouts: Sequence[Tensor]) -> Tensor | None:
        """Positions [axes, 1, P] of a prompt [1, P]; None where a model counts tokens, whatever they stand for.

        Args:
            places: [1, P], 1 where a token stands for a piece of an image.
        """
        return None

    def see(self, model: Any, pictures: Sequence[Picture]) -> list[Features]:
        """What tower and projector make of each image; ``pictures`` lie where the model computes."""
        raise NotImplementedError

    def inputs(self, model: Any, ids: Tensor, places: Tensor, seen: Sequence[Features]) -> dict[str, Any]:
        """Arguments of the model's forward for a row [1, N] with images.

        Args:
            places: as above.
            seen: what ``see`` gave for each image of the row, in order.
        """
        raise NotImplementedError
