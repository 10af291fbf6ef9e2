"""SAIL-VL2: the published names and files, tiles, chat template, and which models are taken for it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sailrl.data.processor import Processor
from sailrl.demo import tiny_sail_vl2
from sailrl.errors import ConfigError
from sailrl.families import family_at, family_of, refusal
from sailrl.families.sail_vl2 import tiles
from sailrl.families.sail_vl2.family import SailVl2
from sailrl.families.text import Text
from sailrl.families.vllm_plugin import advice
from sailrl.learner.inventory import check_tensors
from sailrl.learner.model import Policy

PUBLISHED = Path(__file__).resolve().parents[2] / "data" / "sail_vl2"
SHARED = next(
    (found for up in PUBLISHED.parents[3:] if (found := up / "shared" / "sail_vl2" / "2b").is_dir()), Path("absent")
)
"""A real tokenizer, too large for the repository."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sail") / "model"
    tiny_sail_vl2.build(out, tied=True)
    return out


@pytest.fixture(scope="module")
def processor(folder: Path) -> Processor:
    return Processor(folder)


# --- names and files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "count"), [("2b", 490), ("1d6_8b", 518)])
def test_all_published_weights_have_their_names_and_bytes(name: str, count: int) -> None:
    from transformers.core_model_loading import revert_weight_conversion

    family = family_at(PUBLISHED / name)
    with torch.device("meta"):
        model = family.model_class().from_config(family.config(PUBLISHED / name))
    mine = revert_weight_conversion(model, dict(model.state_dict()))
    index = json.loads((PUBLISHED / name / "model.safetensors.index.json").read_text())
    assert mine.keys() == index["weight_map"].keys()
    assert len(mine) == count
    assert 2 * sum(tensor.numel() for tensor in mine.values()) == index["metadata"]["total_size"]  # bfloat16


@pytest.mark.parametrize("name", ["2b", "1d6_8b"])
def test_a_configuration_is_saved_as_it_was_published(name: str, tmp_path: Path) -> None:
    """Older transformers read ``rope_theta``, and would take 10,000 where it is missing."""
    published = json.loads((PUBLISHED / name / "config.json").read_text())
    config = family_at(PUBLISHED / name).config(PUBLISHED / name)
    config.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    passing = {"_commit_hash", "transformers_version"}
    assert {k: saved.get(k) for k in published.keys() - {*passing, "llm_config", "vision_config"}} == {
        k: v for k, v in published.items() if k not in {*passing, "llm_config", "vision_config"}
    }
    for part in ("llm_config", "vision_config"):
        there = {key: value for key, value in published[part].items() if key in saved[part] and key != "id2label"}
        assert {key: saved[part][key] for key in there} == there
    text = saved["llm_config"]
    assert (text["rope_theta"], text["rope_scaling"], text["torch_dtype"]) == (1_000_000, None, "bfloat16")
    assert not {"rope_parameters", "dtype"} & text.keys()
    again = family_at(tmp_path).config(tmp_path)
    assert again.to_diff_dict() == config.to_diff_dict()


def test_a_trained_model_has_both_names_of_a_tied_weight_as_the_published_one(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    policy = Policy(str(folder))
    with torch.no_grad():
        policy.model.get_input_embeddings().weight.add_(1.0)
    policy.save(tmp_path)
    check_tensors(tmp_path, like=folder)
    saved = load_file(tmp_path / "model.safetensors")
    head, embedding = (saved[f"language_model.{name}.weight"] for name in ("lm_head", "model.embed_tokens"))
    assert head.equal(embedding)
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["SAILVLModel"]


def test_a_tied_model_with_two_different_tensors_is_refused(folder: Path, tmp_path: Path) -> None:
    """The published 2B has both names. An engine would take the embedding for both, and the learner would not."""
    from safetensors.torch import load_file, save_file

    copytree(folder, tmp_path / "model")
    assert Policy(str(tmp_path / "model")).model.get_output_embeddings() is not None
    tensors = load_file(folder / "model.safetensors")
    tensors["language_model.lm_head.weight"] += 1.0
    save_file(tensors, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"has an output layer that differs from its embedding.* Write false there\."):
        Policy(str(tmp_path / "model"))


def test_a_mixture_of_experts_is_saved_expert_by_expert(tmp_path: Path) -> None:
    from safetensors import safe_open

    tiny_sail_vl2.build(tmp_path, experts=4)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        names = set(file.keys())
    assert "language_model.model.layers.3.mlp.experts.3.up_proj.weight" in names
    assert all(name.startswith(("language_model.", "vision_model.", "mlp1.")) for name in names)


# --- which models ----------------------------------------------------------------------------------------------------


def published(name: str = "2b", **changes: Any) -> dict[str, Any]:
    return json.loads((PUBLISHED / name / "config.json").read_text()) | changes


@pytest.mark.parametrize("name", ["2b", "1d6_8b"])
def test_published_models_are_recognised_and_can_be_trained(name: str) -> None:
    assert isinstance(family_of(published(name)), SailVl2)
    assert refusal(published(name), trained=True) is None


@pytest.mark.parametrize(
    "config",
    [
        published("1d6_8b", architectures=["InternVLChatModel"]),  # another maker's, of the same model_type
        published("1d6_8b", vision_config={"model_type": "intern_vit_6b"}),
        published("2b", vision_config={"model_type": "siglip_vision_model"}),
    ],
    ids=["architecture", "tower of 1.5", "tower"],
)
def test_others_under_the_same_name_are_not_taken_for_it(config: dict[str, Any]) -> None:
    assert family_of(config) is None
    assert "this kind of model is not supported" in (refusal(config, trained=False) or "")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"select_layer": -4}, "has select_layer: -4. Only -1 is known here."),
        ({"ps_version": None}, "has ps_version: None. Only v2 is known here."),  # the published code would take v1
        ({"use_thumbnail": False}, "has use_thumbnail: False. Only True is known here."),
    ],
)
def test_a_form_that_no_public_checkpoint_has_is_refused(changes: dict[str, Any], words: str) -> None:
    for trained in (True, False):
        assert words in (refusal(published(**changes), trained=trained) or "")


def test_dropout_in_the_language_model_is_seen() -> None:
    config = published()
    config["llm_config"]["attention_dropout"] = 0.1
    assert "Write attention_dropout: 0.0 there." in (refusal(config, trained=True) or "")
    assert not isinstance(family_of(config), Text)


def test_an_installation_without_the_entry_point_is_told_what_to_do() -> None:
    said = "ValidationError: Model architectures ['SAILVLModel'] are not supported for now."
    assert advice(said).endswith("install sailrl again, pip install -e .")
    assert advice(said.replace("SAILVLModel", "NewModel")) == ""
    assert advice("ValueError: no memory for 'SAILVLModel'") == ""


# --- tiles -----------------------------------------------------------------------------------------------------------


def plain_search(width: int, height: int, most: int, side: int) -> tuple[int, int]:
    """Every grid is tried, and the best of all is taken: the nearest ratio, then the largest that is half filled."""
    every = [(c, r) for c in range(1, most + 1) for r in range(1, most + 1) if c * r <= most]
    nearest = min(abs(width / height - c / r) for c, r in every)
    same = sorted(
        (grid for grid in every if abs(width / height - grid[0] / grid[1]) == nearest), key=lambda g: g[0] * g[1]
    )
    filled = [grid for grid in same[1:] if width * height > 0.5 * side * side * grid[0] * grid[1]]
    return filled[-1] if filled else same[0]


SIDES = st.integers(1, 4096)


@given(SIDES, SIDES, st.integers(1, 12))
def test_the_grid_of_any_size_is_what_a_plain_search_finds(width: int, height: int, most: int) -> None:
    assert tiles.grid_of(width, height, most=most, side=448) == plain_search(width, height, most, 448)


@given(st.integers(1, 10), st.integers(1, 10), st.integers(1, 409))
def test_the_grid_of_a_size_with_the_ratio_of_a_grid_is_what_a_plain_search_finds(c: int, r: int, scale: int) -> None:
    """Several grids have that ratio exactly, and the number of pixels decides."""
    assert tiles.grid_of(c * scale, r * scale, most=10, side=448) == plain_search(c * scale, r * scale, 10, 448)


def test_grids_of_some_sizes() -> None:
    """(width, height) to (columns, rows). 640 x 480 has the ratio 4 : 3, and 4 x 3 is more than ten tiles; nearest of
    the others is 3 : 2 with 0.17, not 1 : 1 with 0.33. A square of 448 fills more than half of one tile, and of 2 x 2
    only a quarter."""
    for size, grid in {
        (448, 448): (1, 1),
        (634, 634): (2, 2),  # 401,956 pixels are more than half of 802,816
        (633, 633): (1, 1),
        (640, 480): (3, 2),
        (4096, 1): (10, 1),
        (1, 4096): (1, 10),
    }.items():
        assert tiles.grid_of(*size, most=10, side=448) == grid, size


def test_tiles_are_cut_row_by_row_and_the_whole_picture_comes_last() -> None:
    picture = Image.new("RGB", (20, 10))
    for x, colour in ((0, (200, 0, 0)), (10, (0, 200, 0))):
        picture.paste(colour, (x, 0, x + 10, 10))
    left, right, whole = tiles.cut(picture, most=4, side=10)
    assert (left.getpixel((2, 5)), right.getpixel((7, 5))) == ((200, 0, 0), (0, 200, 0))
    assert whole.size == (10, 10)
    assert (whole.getpixel((1, 5)), whole.getpixel((8, 5))) == ((200, 0, 0), (0, 200, 0))
    assert len(tiles.cut(picture.crop((0, 0, 10, 10)), most=4, side=10)) == 1  # no thumbnail of a single tile


@pytest.mark.parametrize("mode", ["RGBA", "P", "L"])
def test_pictures_are_made_rgb_before_they_are_resized(mode: str) -> None:
    """A palette's numbers and colours behind an alpha of 0 must not mix with their neighbours."""
    noise = np.random.default_rng(0).integers(0, 256, (30, 30, 4), dtype=np.uint8)
    picture = Image.fromarray(noise, "RGBA") if mode == "RGBA" else Image.fromarray(noise[..., :3]).convert(mode)
    mine, plain = tiles.cut(picture, most=1, side=14), tiles.cut(picture.convert("RGB"), most=1, side=14)
    assert np.array_equal(np.asarray(mine[0]), np.asarray(plain[0]))
    if mode == "RGBA":  # the negative control
        late = picture.resize((14, 14), Image.Resampling.BICUBIC).convert("RGB")
        assert not np.array_equal(np.asarray(mine[0]), np.asarray(late))


def test_pixels_are_those_of_torchvisions_transforms() -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (50, 70, 3), dtype=np.uint8))
    there = transforms.Compose(
        [
            transforms.Resize((28, 28), interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )
    mine = tiles.normalised(tiles.cut(noise, most=1, side=28), mean, std)
    assert np.array_equal(mine[0], there(noise).numpy())


# --- prompts ---------------------------------------------------------------------------------------------------------


def chat(pictures: int) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "image"}] * pictures + [{"type": "text", "text": "Which?"}]}]


def test_the_chat_template_writes_pictures_and_turns_as_published(processor: Processor) -> None:
    start = f"<|im_start|>system\n{tiny_sail_vl2.SYSTEM}<|im_end|><|im_start|>user\n"
    end = "Which?<|im_end|><|im_start|>assistant\n"
    place = "<img><IMG_CONTEXT></img>\n"
    from sailrl.families.sail_vl2.processing import TEMPLATE

    def rendered(messages: Sequence[Any]) -> str:
        return str(processor.tokenizer.apply_chat_template(
            list(messages), chat_template=TEMPLATE, tokenize=False, add_generation_prompt=True))  # fmt: skip

    assert rendered(chat(0)) == start + end
    assert rendered(chat(1)) == start + place + end
    assert rendered(chat(2)) == start + f"Image-1: {place}Image-2: {place}" + end
    turns = [{"role": "system", "content": "Be brief."}, *chat(0), {"role": "assistant", "content": "This."}, *chat(0)]
    assert rendered(turns) == (
        "<|im_start|>system\nBe brief.<|im_end|><|im_start|>user\nWhich?<|im_end|>"
        "<|im_start|>assistant\nThis.<|im_end|><|im_start|>user\n" + end
    )


@pytest.mark.parametrize("sizes", [[], [(84, 84)], [(84, 168), (200, 60)], [(50, 400)] * 7, [(84, 840)] * 20])
def test_the_processor_expands_as_we_do(processor: Processor, sizes: list[tuple[int, int]]) -> None:
    """The more pictures a prompt has, the fewer tiles each may get: 64 in all, so 3 each of twenty."""
    images = [Image.new("RGB", (width, height)) for height, width in sizes]
    text = processor.chat.render(chat(len(sizes)), "p")
    whole = processor.full(text=[text], images=images or None, add_special_tokens=False)
    assert whole["input_ids"][0] == processor.expand(processor.encode(text), sizes, "p")
    counts = [processor.features(layout) for _, layout in (processor.pixels(images) if images else [])]
    assert sum(counts) == whole["input_ids"][0].count(processor.image_id)


def test_twenty_pictures_get_fewer_tiles_each(processor: Processor) -> None:
    wide = Image.new("RGB", (840, 84))
    ((few, _),) = processor.pixels([wide], of=20)
    ((many, _),) = processor.pixels([wide], of=1)
    assert (len(many), len(few)) == (4 + 1, 3 + 1)  # at most four here, and 64 // 20 = 3; a thumbnail each
    assert processor.crowding(20) == {"max_dynamic_patch": 3}
    assert processor.crowding(16) == {}


def test_max_pixels_limits_the_tiles_and_min_pixels_is_refused(folder: Path) -> None:
    limited = Processor(folder, pixel_limits={"max_pixels": 3 * 84 * 84 - 1})
    assert limited.engine_limits() == {"max_dynamic_patch": 2}
    with pytest.raises(ConfigError, match=r"data\.min_pixels is 100, but SAIL-VL2 .* Remove it"):
        Processor(folder, pixel_limits={"min_pixels": 100})


def test_the_preprocessors_limit_goes_before_the_models(tmp_path: Path, folder: Path) -> None:
    assert json.loads((PUBLISHED / "2b" / "preprocessor_config.json").read_text())["max_dynamic_patch"] == 10
    saved = Processor(folder)
    saved.save(tmp_path)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    assert Processor(tmp_path).full.image_processor.max_dynamic_patch == tiny_sail_vl2.MOST_TILES
    given = json.loads((tmp_path / "preprocessor_config.json").read_text())
    del given["max_dynamic_patch"]
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(given))
    assert Processor(tmp_path).full.image_processor.max_dynamic_patch == 12  # of config.json


def test_a_placeholder_may_never_be_sampled(processor: Processor) -> None:
    assert processor.placeholders == ["<IMG_CONTEXT>"]
    assert processor.image_id in processor.banned_ids


@pytest.mark.skipif(not SHARED.is_dir(), reason="the published tokenizer is not on this machine (shared/sail_vl2)")
def test_the_published_tokenizer_gets_our_template_and_its_own_ids() -> None:
    """Its files carry another model's template. The ids are those of added_tokens.json."""
    processor = Processor(SHARED)
    assert processor.image_id == 151671
    assert processor.stop_ids == [151645]
    text = processor.chat.render(chat(1), "p")
    ids = processor.encode(text)
    assert text.startswith(f"<|im_start|>system\n{tiny_sail_vl2.SYSTEM}<|im_end|>")
    assert [i for i in ids if i >= 151643] == [151644, 151645, 151644, 151669, 151671, 151670, 151645, 151644]
    assert len(processor.expand(ids, [(448, 448)], "p")) == len(ids) + 255  # 32 x 32 patches / 4, one was there
    assert len(processor.expand(ids, [(4096, 4096)], "p")) == len(ids) + 10 * 256 - 1  # 3 x 3 and the thumbnail
