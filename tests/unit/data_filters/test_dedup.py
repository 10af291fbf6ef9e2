import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_filters.decontaminate import Decontaminate
from data_filters.dedup import ExactDuplicates, NearDuplicates
from sailrl.errors import ConfigError, DataError

LONG = (
    "A farmer walks along the river and counts the ducks that swim near the old wooden bridge before lunch "
    "every single day"
)


def row(prompt, **more):
    return {"prompt": prompt, **more}


def reasons(check, rows):
    return [check(r).reason for r in rows]


def test_the_first_of_equal_questions_stays_however_it_is_typed():
    rows = [row("What is 1 + 1?", id="a"), row("what  is 1 + 1?\n"), row("What is １ + 1?"), row("What is 1 - 1?")]
    check = ExactDuplicates()
    assert reasons(check, rows) == ["kept", "duplicate", "duplicate", "kept"]
    assert check(rows[1]).evidence == {"of": "a"}


def test_images_and_options_are_part_of_the_question(tmp_path):
    for name, content in (("a", b"1"), ("copy", b"1"), ("b", b"2")):
        (tmp_path / name).write_bytes(content)
    rows = [row("How many?", images=[str(tmp_path / name)]) for name in ("a", "copy", "b")]
    rows += [row("How many?", images=[b"2"]), row("How many?"), row("How many?", choices=["1", "2"])]
    assert reasons(ExactDuplicates(), rows) == ["kept", "duplicate", "kept", "duplicate", "kept", "kept"]


def test_a_missing_image_names_its_path():
    with pytest.raises(DataError, match=r"nowhere\.png"):
        ExactDuplicates()(row("q", images=["/nowhere.png"]))


def test_one_changed_word_in_twenty_is_a_near_duplicate_and_a_new_text_is_not():
    # 22 words, 20 shingles; one inner word changed replaces 3 of them: 17 of 23 in common, 0.74
    changed = LONG.replace("wooden", "stone")
    other = (
        "Compute the area of a triangle whose sides are given in the figure and explain every step of the derivation"
    )
    assert reasons(NearDuplicates(), [row(LONG, id="a"), row(changed), row(other)]) == [
        "kept",
        "near_duplicate",
        "kept",
    ]
    assert NearDuplicates(threshold=0.95)(row(LONG)).keep


def test_nearly_every_near_duplicate_is_found():
    words = LONG.split()
    found = 0
    for place in range(3, 19):
        check = NearDuplicates(threshold=0.65)
        check(row(LONG))
        found += not check(row(" ".join([*words[:place], "unlike", *words[place + 1 :]]))).keep
    assert found >= 14  # of 16 texts with similarity 17/23 = 0.74, two standard errors above the threshold


def test_rows_that_share_an_id_are_still_compared():
    repeated = row("q", id="same")
    assert reasons(ExactDuplicates(), [repeated, repeated]) == ["kept", "duplicate"]


def test_the_similarity_is_evidence():
    check = NearDuplicates()
    check(row(LONG, id="a"))
    verdict = check(row(LONG.replace("wooden", "stone")))
    assert verdict.evidence["of"] == "a"
    assert verdict.evidence["similarity"] == pytest.approx(17 / 23, abs=0.15)


def test_problems_that_differ_in_a_number_an_image_or_an_option_are_different():
    numbers = [row(f"{LONG}: 12 ducks and 7 more"), row(f"{LONG}: 12 ducks and 8 more")]
    images = [row(LONG, images=[b"1"]), row(LONG, images=[b"2"])]
    options = [row(LONG, choices=["1"]), row(LONG, choices=["2"])]
    for pair in (numbers, images, options):
        assert reasons(NearDuplicates(), pair) == ["kept", "kept"]


def test_chinese_is_compared_by_characters():
    text = "一个农夫每天早上沿着河边散步并且数一数在老木桥附近游泳的鸭子总共有多少只"
    assert reasons(NearDuplicates(), [row(text), row(text.replace("木", "石")), row(text[::-1])]) == [
        "kept",
        "near_duplicate",
        "kept",
    ]


def test_state_goes_through_json_and_later_data_is_compared_with_it():
    for check, again in ((ExactDuplicates(), ExactDuplicates()), (NearDuplicates(), NearDuplicates())):
        check(row(LONG, id="a"))
        again.load_state_dict(json.loads(json.dumps(check.state_dict())))
        assert not again(row(LONG)).keep
        assert again(row("something else altogether")).keep
    with pytest.raises(DataError, match=r"0\.9"):
        NearDuplicates(threshold=0.9).load_state_dict(check.state_dict())


@given(st.lists(st.text("ab ", max_size=6), max_size=12))
def test_a_second_pass_over_kept_rows_keeps_them_and_nothing_else_was_lost(texts):
    rows = [row(text) for text in texts]
    seen = ExactDuplicates()
    kept = [r for r in rows if seen(r).keep]
    fresh = ExactDuplicates()
    assert all(fresh(r).keep for r in kept)
    assert {" ".join(r["prompt"].split()) for r in kept} == {" ".join(t.split()) for t in texts}


def test_decontamination_knows_exact_and_near_leaks_and_is_blind_to_training_copies():
    check = Decontaminate([row(LONG, id="mathvista-7"), row("What is 1 + 1?")], image_distance=None)
    rows = [row(LONG.upper()), row(LONG.replace("wooden", "stone")), row("What is 1 + 2?"), row("What is 1 + 2?")]
    assert reasons(check, rows) == ["leaks_exact", "leaks_near", "kept", "kept"]
    assert check(rows[0]).evidence == {"of": "mathvista-7"}
    assert Decontaminate([row(LONG)], near=None)(rows[1]).keep


@pytest.mark.parametrize("args", [{"threshold": 0.0}, {"threshold": 1.5}, {"shingle_words": 0}, {"permutations": 2}])
def test_settings_that_cannot_work_are_refused(args):
    with pytest.raises(ConfigError):
        NearDuplicates(**args)
