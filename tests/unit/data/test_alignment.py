"""Placeholders against features: each way to get them wrong is found and named."""

from __future__ import annotations

import pytest

from sailrl.data.alignment import PromptFault, View, check_placeholders, compare, runs

I = 5  # noqa: E741  the image placeholder
GOOD = [1, 2, *[I] * 9, 3, *[I] * 4, 3, 7]
"""A prompt with an image of 9 features and one of 4."""


def _kind(fault: PromptFault | None) -> str | None:
    return fault.kind if fault else None


def test_runs_are_stretches_of_placeholders() -> None:
    assert runs(GOOD, I) == [(2, 9), (12, 4)]
    assert runs([I], I) == [(0, 1)]
    assert runs([1, 2], I) == runs([], I) == []


@pytest.mark.parametrize(
    ("prompt", "features"),
    [
        (GOOD, [9, 4]),
        ([1, 2, 3], []),
        ([*[I] * 9], [9]),
        ([1, *[I] * 13, 2], [9, 4]),  # a model without marks between images
    ],
)
def test_prompts_that_fit_their_images_have_no_fault(prompt: list[int], features: list[int]) -> None:
    assert check_placeholders(prompt, [8, 9], I, features) is None


@pytest.mark.parametrize(
    ("prompt", "response", "features", "kind", "says"),
    [
        (GOOD, [8, 9, I], [9, 4], "sampled placeholder", "token 2 of the response is 5"),
        ([1, *[I] * 81, 3], [], [9], "double expansion", "image 0 has 81 placeholders and 9 features"),
        ([1, *[I] * 17, 3], [], [9], "double expansion", "image 0 has 17 placeholders and 9 features"),
        ([1, *[I] * 4, 3, *[I] * 4, 3], [], [4, 9], "pixel budget", "image 1 has 4 placeholders and 9 features"),
        ([1, *[I] * 9, 3, *[I] * 4, 3], [], [4, 9], "pixel budget", "image 0 has 9 placeholders and 4 features"),
        ([1, *[I] * 9, 3, *[I] * 2], [], [9, 4], "cut image", "image 1 has 2 placeholders and 4 features"),
        ([1, *[I] * 5], [], [9, 4], "cut image", "5 image placeholders in the prompt and 13 features of 2 images"),
        ([1, 2], [], [9], "image count", "0 image placeholders in the prompt and 9 features of 1 images"),
        (GOOD, [], [], "image count", "13 image placeholders in the prompt and 0 features of 0 images, in 2 places"),
        ([], [], [4], "image count", "0 image placeholders in the prompt and 4 features"),
    ],
)
def test_each_fault_is_named_with_the_numbers_of_both_sides(
    prompt: list[int], response: list[int], features: list[int], kind: str, says: str
) -> None:
    fault = check_placeholders(prompt, response, I, features)
    assert _kind(fault) == kind
    assert says in str(fault)


def test_equal_totals_do_not_hide_that_images_are_swapped() -> None:
    """9 + 4 = 4 + 9: a check of sums would let it through, and each image would fill places of the other."""
    assert check_placeholders(GOOD, [], I, [9, 4]) is None
    assert _kind(check_placeholders(GOOD, [], I, [4, 9])) == "pixel budget"


def test_a_prompt_that_ends_with_a_whole_image_is_not_cut() -> None:
    assert check_placeholders([1, *[I] * 9], [], I, [9]) is None
    assert _kind(check_placeholders([1, *[I] * 10], [], I, [9])) == "pixel budget"


# --- views ----------------------------------------------------------------------------------------------------------

MINE = View("learner", [1, I, I, 2], [2], [[0, 1, 1, 2], [0, 1, 1, 2], [0, 1, 2, 3]])


def test_equal_views_have_no_difference() -> None:
    assert compare(MINE, View("vLLM", (1, I, I, 2), (2,), MINE.positions)) is None


def test_a_part_that_knows_no_positions_is_not_asked_for_them() -> None:
    assert compare(MINE, View("vLLM", [1, I, I, 2], [2])) is None


@pytest.mark.parametrize(
    ("other", "kind", "says"),
    [
        (View("vLLM", [1, I, I, I, 2], [3]), "counts", "[2] for learner, [3] for vLLM"),
        (View("vLLM", [1, I, I, 9], [2]), "ids", "token 3 of 4 and 4 is 2 and 9 (learner, vLLM)"),
        (View("vLLM", [1, I, I, 2, 7], [2]), "ids", "token 4 of 4 and 5 is missing and 7"),
        (
            View("vLLM", [1, I, I, 2], [2], [[0, 1, 1, 2], [0, 1, 2, 2], [0, 1, 2, 3]]),
            "positions",
            "position 2 of 4 and 4 is 1 and 2 on axis 1 (learner, vLLM)",
        ),
    ],
)
def test_the_first_difference_is_told(other: View, kind: str, says: str) -> None:
    fault = compare(MINE, other)
    assert _kind(fault) == kind
    assert says in str(fault)
