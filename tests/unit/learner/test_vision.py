"""Images in the learner: the numbers of transformers' own forward pass, one tower pass per image, loud mistakes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText

from sailrl.config.schema import DataConfig
from sailrl.data.batch import Sample, collate
from sailrl.data.images import ImageStore
from sailrl.data.processor import Processor
from sailrl.data.template import Template
from sailrl.demo import tiny_vlm
from sailrl.errors import DataError, LearnerError
from sailrl.learner.model import Policy
from sailrl.learner.vision import Vision
from sailrl.types import Problem, Prompt

SIZES = [(84, 84), (56, 112), (30, 200)]
"""(height, width) of the pictures: 9, 8 and 7 tokens."""


class Bench:
    """The tiny model with a store of three pictures."""

    def __init__(self, folder: Path, root: Path, **policy: Any) -> None:
        self.folder = folder
        self.processor = Processor(folder)
        self.store = ImageStore(root)
        self.vision = Vision(self.processor, self.store)
        self.policy = Policy(str(folder), vision=self.vision, **policy)
        data = DataConfig.model_validate({"train": {"path": "unused.jsonl"}, "instruction": ""})
        self._template = Template(self.processor, self.store, data)

    def prompt(self, *pictures: int) -> Prompt:
        """A question about some of the pictures."""
        sources = [_picture(number) for number in pictures]
        return self._template.render(Problem(prompt="a" + "<image>b" * len(sources), images=sources))

    def sample(self, *pictures: int, seed: int = 0, tokens: int = 5) -> Sample:
        """Such a question with a random response of plain tokens."""
        prompt, draw = self.prompt(*pictures), np.random.default_rng(seed)
        response = draw.integers(20, 250, tokens).astype(np.int32)
        logp = draw.normal(-5.7, 0.3, tokens).astype(np.float32)  # log(1/300) is -5.7
        ids = np.asarray(prompt.token_ids, dtype=np.int32)
        images, filled = tuple(prompt.images), len(ids) - len(prompt.engine_ids) + len(prompt.images)
        return Sample(ids, response, logp, advantage=1.0 if seed % 2 else -0.6, images=images, image_tokens=filled)

    def logp(self, *samples: Sample) -> torch.Tensor:
        return self.policy(collate(samples))[0]

    def pixels(self, digests: Sequence[str]) -> dict[str, torch.Tensor]:
        """What transformers' own image processor makes of the images; nothing without images."""
        if not digests:
            return {}
        return dict(self.processor.full.image_processor([self.store.image(d) for d in digests], return_tensors="pt"))


def _picture(number: int) -> bytes:
    import io

    noise = np.random.default_rng(number).integers(0, 256, (*SIZES[number], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def bench(vlm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(vlm_folder, tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def plain(vlm_folder: Path) -> Any:
    return AutoModelForImageTextToText.from_pretrained(vlm_folder, dtype=torch.float32).eval()


def _mark(processor: Processor) -> int:
    assert processor.image_id is not None
    return processor.image_id


def _by_transformers(model: Any, bench: Bench, sample: Sample) -> torch.Tensor:
    """[T] log-probabilities of the response, one unpadded sample and its pixels, differentiable."""
    ids = torch.from_numpy(np.concatenate([sample.prompt_ids, sample.response_ids])).long()[None]
    kinds = ids.eq(_mark(bench.processor)).int()
    logits = model(input_ids=ids, mm_token_type_ids=kinds, **bench.pixels(sample.images)).logits[0]
    before = len(sample.prompt_ids) - 1
    logp = logits[before:-1].log_softmax(-1)
    return logp.gather(1, torch.from_numpy(sample.response_ids).long()[:, None])[:, 0]


MIXED: list[tuple[int, ...]] = [(), (0,), (1, 2), (2, 1), (0, 0), (2,), ()]
"""Pictures of each row of a batch."""


# --- the same numbers -----------------------------------------------------------------------------------------------


def test_mixed_batches_have_the_logprobs_of_transformers_own_forward(bench: Bench, plain: Any) -> None:
    samples = [bench.sample(*pictures, seed=row, tokens=3 + row) for row, pictures in enumerate(MIXED)]
    logp = bench.logp(*samples)
    for row, sample in enumerate(samples):
        with torch.no_grad():
            expected = _by_transformers(plain, bench, sample)
        assert torch.allclose(logp[row, : len(expected)], expected, atol=1e-5), MIXED[row]


def test_bfloat16_computes_roughly_the_same(bench: Bench, vlm_folder: Path, tmp_path: Path) -> None:
    samples = [bench.sample(*pictures, seed=row) for row, pictures in enumerate(MIXED)]
    rough = Bench(vlm_folder, tmp_path, dtype="bfloat16")
    for pictures in MIXED:
        rough.prompt(*pictures)  # puts the pictures into its store
    assert 0 < (rough.logp(*samples) - bench.logp(*samples)).abs().max() < 0.1


def test_the_images_and_their_order_matter(bench: Bench, plain: Any) -> None:
    """What the comparison above would not show if the model did not look."""
    two, swapped = bench.sample(0, 0), bench.sample(0, 0)
    other = bench.sample(1).images[0]
    same_size = replace(swapped, images=(other,) * 2)
    assert (bench.logp(two) - _by_transformers(plain, bench, swapped)).abs().max() < 1e-5
    with pytest.raises(LearnerError):  # 8 features for 9 places
        bench.logp(same_size)
    order = bench.sample(1, 2), bench.sample(2, 1)
    assert (bench.logp(order[0]) - bench.logp(order[1])).abs().max() > 1e-3


def test_a_text_batch_goes_through_a_model_with_a_tower(bench: Bench, plain: Any) -> None:
    bench.logp(bench.sample(0))  # leaves positions of images behind in the model, which text must not use
    sample = bench.sample(seed=3)
    with torch.no_grad():
        assert torch.allclose(bench.logp(sample)[0], _by_transformers(plain, bench, sample), atol=1e-5)


@pytest.mark.parametrize("pictures", [(), (0,), (1, 2)])
def test_a_prompts_own_logprobs_see_its_images(bench: Bench, plain: Any, pictures: tuple[int, ...]) -> None:
    prompt = bench.prompt(*pictures)
    ids = torch.tensor(prompt.token_ids)
    kinds = ids.eq(_mark(bench.processor)).int()[None]
    with torch.no_grad():
        logits = plain(input_ids=ids[None], mm_token_type_ids=kinds, **bench.pixels(prompt.images)).logits[0]
    expected = logits[:-1].log_softmax(-1).gather(1, ids[1:, None])[:, 0]
    assert bench.policy.prompt_logprobs(prompt) == pytest.approx(expected.tolist(), abs=1e-5)


def test_a_sampled_image_mark_is_a_token_like_any_other(bench: Bench, plain: Any) -> None:
    """Only placeholders need a ban: the marks around images move no position and ask for no feature."""
    sample = bench.sample(0)
    sample.response_ids[1:3] = bench.processor.tokenizer.convert_tokens_to_ids(["<|vision_start|>", "<|vision_end|>"])
    with torch.no_grad():
        expected = _by_transformers(plain, bench, sample)
    assert torch.allclose(bench.logp(sample)[0], expected, atol=1e-5)


def test_a_mixture_of_experts_sees_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "experts"
    tiny_vlm.build(folder, experts=4)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    bench = Bench(folder, tmp_path / "store")
    samples = [bench.sample(*pictures, seed=row) for row, pictures in enumerate(MIXED)]
    with torch.no_grad():
        logp = bench.logp(*samples)
        for row, sample in enumerate(samples):
            assert torch.allclose(logp[row], _by_transformers(model, bench, sample), atol=1e-5), MIXED[row]


# --- gradients, and what they cost ----------------------------------------------------------------------------------


def _gradients(bench: Bench, *batches: Sequence[Sample]) -> dict[str, torch.Tensor]:
    bench.policy.zero_grad()
    for samples in batches:
        bench.logp(*samples).sum().backward()
    return {n: p.grad.clone() for n, p in bench.policy.model.named_parameters() if p.grad is not None}


def test_rollouts_that_share_an_image_give_the_gradient_of_separate_rows(bench: Bench, plain: Any) -> None:
    group = [bench.sample(0, seed=row, tokens=3 + row) for row in range(4)]
    shared, separate = _gradients(bench, group), _gradients(bench, *([sample] for sample in group))
    plain.zero_grad()
    for sample in group:
        _by_transformers(plain, bench, sample).sum().backward()
    tower = [name for name in shared if ".visual." in name and shared[name].abs().max() > 1e-3]
    assert tower
    for name, parameter in plain.named_parameters():
        size = max(1.0, float(parameter.grad.abs().max()))
        assert torch.allclose(shared[name], separate[name], atol=1e-5 * size), name
        assert torch.allclose(shared[name], parameter.grad, atol=1e-5 * size), name
    once = _gradients(bench, group[:1])
    assert not torch.allclose(once[tower[0]], shared[tower[0]], atol=1e-3)  # a tower seen by one of the four only


def _grids_seen(bench: Bench, run: Callable[[], object]) -> list[int]:
    """Images per call of the vision tower."""
    seen: list[int] = []
    tower = bench.policy.model.model.visual
    hook = tower.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(len(kwargs["grid_thw"])), with_kwargs=True
    )
    try:
        run()
    finally:
        hook.remove()
    return seen


def test_each_distinct_image_of_a_batch_goes_through_the_tower_once(bench: Bench) -> None:
    group = [bench.sample(0, seed=row) for row in range(4)]
    assert _grids_seen(bench, lambda: bench.logp(*group)) == [1]
    mixed = [bench.sample(*pictures) for pictures in MIXED]
    assert _grids_seen(bench, lambda: bench.logp(*mixed)) == [3]
    assert _grids_seen(bench, lambda: bench.logp(bench.sample())) == []


def test_activation_checkpointing_changes_no_gradient(vlm_folder: Path, tmp_path: Path) -> None:
    gradients = []
    for checkpointing in (False, True):
        bench = Bench(vlm_folder, tmp_path, activation_checkpointing=checkpointing)
        gradients.append(_gradients(bench, [bench.sample(0), bench.sample(1, 2), bench.sample()]))
    assert all(torch.allclose(gradients[0][name], value, atol=1e-6) for name, value in gradients[1].items())
    assert gradients[0].keys() == gradients[1].keys()


def test_processed_images_are_kept_within_a_budget(bench: Bench) -> None:
    """9 tokens are 36 patches of 3 x 2 x 14 x 14 floats: 169,344 bytes; 8 and 7 tokens are 150,528 and 131,712."""
    vision = Vision(bench.processor, bench.store, cached_bytes=320_000)
    digests = [(bench.sample(number).images[0], 0) for number in range(3)]
    loaded = vision._load(digests)
    assert [pixels.nbytes for pixels, _ in loaded.values()] == [169_344, 150_528, 131_712]
    assert list(vision._cache) == digests[1:]  # the one not used for longest has gone
    assert vision._held == 150_528 + 131_712
    tiny = Vision(bench.processor, bench.store, cached_bytes=1)
    assert list(tiny._load(digests)) == digests  # a batch larger than the budget is still served
    assert tiny._held == 0


@pytest.mark.parametrize(
    ("frozen", "still"),
    [
        ((), set()),
        (("vision",), {"visual.patch_embed", "visual.blocks", "visual.pos_embed"}),
        (("projector",), {"visual.merger", "visual.deepstack_merger_list"}),
        (("language_model",), {"language_model", "lm_head"}),
    ],
)
def test_frozen_parts_have_no_gradient_and_all_others_do(
    vlm_folder: Path, tmp_path: Path, frozen: tuple[str, ...], still: set[str]
) -> None:
    bench = Bench(vlm_folder, tmp_path, frozen=frozen)
    moved = _gradients(bench, [bench.sample(0, 1)])
    for name, _ in bench.policy.model.named_parameters():
        assert (name not in moved) == any(part in name for part in still), name


# --- mistakes are loud ----------------------------------------------------------------------------------------------


def _with_ids(sample: Sample, ids: Sequence[int]) -> Sample:
    return replace(sample, prompt_ids=np.asarray(ids, dtype=np.int32))


def _expanded_again(bench: Bench, sample: Sample) -> Sample:
    sizes = [SIZES[0]] * 9
    return _with_ids(sample, bench.processor.expand(sample.prompt_ids.tolist(), sizes, "p"))


def _sampled(bench: Bench, sample: Sample) -> Sample:
    response = sample.response_ids.copy()
    response[2] = bench.processor.image_id
    return replace(sample, response_ids=response)


def _other_budget(bench: Bench, sample: Sample) -> Sample:
    small = Processor(bench.folder, pixel_limits={"max_pixels": 4 * 28 * 28})
    one = [i for i in sample.prompt_ids.tolist() if i != bench.processor.image_id]
    place = sample.prompt_ids.tolist().index(bench.processor.image_id)
    return _with_ids(sample, small.expand([*one[:place], _mark(small), *one[place:]], [SIZES[0]], "p"))


def _cut(bench: Bench, sample: Sample) -> Sample:
    ids = sample.prompt_ids.tolist()
    return _with_ids(sample, ids[: ids.index(_mark(bench.processor)) + 5])


@pytest.mark.parametrize(
    ("breaking", "says"),
    [
        (_expanded_again, r"double expansion: image 0 has 81 placeholders and 9 features"),
        (_sampled, r"sampled placeholder: token 2 of the response is 5"),
        (_other_budget, r"pixel budget: image 0 has 4 placeholders and 9 features"),
        (_cut, r"cut image: image 0 has 5 placeholders and 9 features .*ends inside"),
    ],
)
def test_placeholders_that_do_not_belong_to_their_images_stop_the_learner(
    bench: Bench, breaking: Callable[[Bench, Sample], Sample], says: str
) -> None:
    good, broken = bench.sample(1), breaking(bench, bench.sample(0))
    with pytest.raises(LearnerError, match=f"sample 1 of a micro-batch: {says}"):
        bench.logp(good, broken)
    bench.logp(good)


def test_a_placeholder_in_a_batch_without_images_stops_the_learner_too(bench: Bench) -> None:
    with pytest.raises(LearnerError, match="sample 0 of a micro-batch: sampled placeholder: token 2"):
        bench.logp(_sampled(bench, bench.sample()))
    smuggled = bench.sample()
    smuggled.prompt_ids[1] = bench.processor.image_id
    with pytest.raises(LearnerError, match="1 image placeholders in the prompt and 0 features of 0 images"):
        bench.logp(smuggled)


def test_an_image_that_is_not_in_the_store_is_named(bench: Bench) -> None:
    with pytest.raises(DataError, match="image 0123456789ab is not in the store"):
        bench.logp(replace(bench.sample(0), images=("0123456789abcdef",)))
