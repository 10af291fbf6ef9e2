import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_filters.fusion import Fusion
from data_filters.rejection import Rejection
from sailrl.errors import ConfigError, DataError
from sailrl.types import Verdict


def cot(i, **more):
    return {
        "id": f"c{i}",
        "prompt": f"cot question {i}",
        "response": f"<think>step {i}</think>\\boxed{{{i}}}",
        "scores": {"boxed": {"value": 1.0}, "think_format": {"value": 1.0}},
        "reward": 1.0,
        **more,
    }


def direct(i, **more):
    return {"id": f"d{i}", "prompt": f"direct question {i}", "answer": i, **more}


def pools(n_cot, n_direct):
    return [cot(i) for i in range(n_cot)], [direct(i) for i in range(n_direct)]


def kinds(mix):
    return [row["kind"] for row in mix]


def test_the_mix_is_ninety_to_ten_exact_to_one_row():
    written = kinds(Fusion(total=1000).plan(*pools(150, 950)))
    assert (written.count("cot"), written.count("direct")) == (100, 900)
    # 1,005 rows: 100.5 CoT rows round to 101
    written = kinds(Fusion(total=1005).plan(*pools(150, 950)))
    assert (written.count("cot"), written.count("direct")) == (101, 904)


def test_without_a_total_the_scarcer_pool_decides():
    # 50 CoT rows are a tenth of 500, 90 direct rows nine tenths of 100
    assert Fusion().plan(*pools(50, 9000)).report()["rows"] == {"total": 500, "cot": 50, "direct": 450}
    assert Fusion().plan(*pools(500, 90)).report()["rows"] == {"total": 100, "cot": 10, "direct": 90}


@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 100))
def test_the_largest_mix_fits_meets_the_share_and_uses_up_the_scarcer_pool(n_cot, n_direct, percent):
    took_cot, took_direct = Fusion(cot_share=percent / 100).counts(n_cot, n_direct)
    total = took_cot + took_direct
    assert took_cot <= n_cot
    assert took_direct <= n_direct
    assert abs(100 * took_cot - total * percent) <= 50  # half a row
    # one row more of the mix would ask more of a pool than it has, before rounding
    assert (total + 1) * percent > 100 * n_cot or (total + 1) * (100 - percent) > 100 * n_direct


def test_a_pool_that_is_too_small_is_an_error_with_both_numbers_and_a_fix():
    with pytest.raises(DataError, match=r"1000 rows .* need 100 CoT rows and 50 are left\. .* at most 500"):
        Fusion(total=1000).plan(*pools(50, 9000))
    with pytest.raises(DataError, match="900 direct rows and 899 are left"):
        Fusion(total=1000).plan(*pools(100, 899))


def test_a_smaller_mix_with_the_same_share_can_be_allowed():
    report = Fusion(total=1000, allow_smaller=True).plan(*pools(50, 9000)).report()
    assert report["rows"] == {"total": 500, "cot": 50, "direct": 450}
    # 504 rows still round to 50 CoT rows, so nothing has to shrink
    assert Fusion(total=504, allow_smaller=True).plan(*pools(50, 9000)).report()["rows"]["total"] == 504
    assert Fusion(total=100, allow_smaller=True).plan(*pools(50, 9000)).report()["rows"]["total"] == 100


@pytest.mark.parametrize(("n_cot", "n_direct"), [(0, 100), (100, 0), (0, 0)])
def test_an_empty_pool_is_an_error_even_when_smaller_mixes_are_allowed(n_cot, n_direct):
    with pytest.raises(DataError, match=r"0 (CoT|direct) rows are left"):
        Fusion(total=4, allow_smaller=True).plan(*pools(n_cot, n_direct))


def test_one_kind_alone_is_possible_at_share_zero_or_one():
    assert set(kinds(Fusion(cot_share=0.0).plan(*pools(0, 3)))) == {"direct"}
    assert set(kinds(Fusion(cot_share=1.0).plan(*pools(3, 0)))) == {"cot"}


def test_rows_are_prompt_and_completion_with_their_provenance():
    mix = Fusion(cot_share=0.5).plan([cot(7, rollout_id="r1")], [direct(8, source="llava")])
    rows = {row["kind"]: row for row in mix}
    assert rows["cot"] == {
        "prompt": [{"role": "user", "content": "cot question 7"}],
        "completion": [{"role": "assistant", "content": "<think>step 7</think>\\boxed{7}"}],
        "kind": "cot",
        "source": "cot",
        "problem_id": "c7",
        "rollout_id": "r1",
        "reward": 1.0,
    }
    assert rows["direct"]["completion"] == [{"role": "assistant", "content": "8"}]
    assert (rows["direct"]["source"], rows["direct"]["reward"]) == ("llava", None)
    assert len(rows["direct"]["rollout_id"]) == 32


def test_the_thinking_request_is_added_once_and_to_cot_rows_only():
    ask = "Think first."
    fusion = Fusion(cot_share=0.5, cot_instruction=ask, direct_template="\\boxed{{answer}}")
    rows = [*fusion.plan([cot(1), cot(2, prompt=f"q\n{ask}")], [direct(1), direct(2)])]
    prompts = sorted(row["prompt"][0]["content"] for row in rows)
    assert prompts == ["cot question 1\nThink first.", "direct question 1", "direct question 2", "q\nThink first."]
    assert {row["completion"][0]["content"] for row in rows if row["kind"] == "direct"} == {"\\boxed{1}", "\\boxed{2}"}


def test_what_the_template_had_written_is_part_of_the_completion():
    row = cot(1, response="step</think>\\boxed{1}", response_prefix="<think>\n")
    assert next(iter(Fusion(cot_share=1.0).plan([row], [])))["completion"][0]["content"].startswith("<think>\nstep")
    row = cot(1, response_prefix="<think>\n")  # the response has the tag itself
    assert next(iter(Fusion(cot_share=1.0).plan([row], [])))["completion"][0]["content"].count("<think>") == 1


def test_one_image_anywhere_gives_every_row_parts_and_an_images_column(tmp_path):
    (tmp_path / "a.png").write_bytes(b"a")
    image = str(tmp_path / "a.png")
    rows = {row["kind"]: row for row in Fusion(cot_share=0.5).plan([cot(1, images=[image])], [direct(2)])}
    assert rows["cot"]["images"] == [image]
    assert rows["direct"]["images"] == []
    assert rows["cot"]["prompt"][0]["content"] == [{"type": "image"}, {"type": "text", "text": "cot question 1"}]
    assert rows["direct"]["completion"][0]["content"] == [{"type": "text", "text": "2"}]


def test_images_of_rows_that_are_not_taken_do_not_count():
    wrong = cot(2, images=[b"x"], scores={"boxed": {"value": 0.0}, "think_format": {"value": 1.0}})
    mix = Fusion(cot_share=0.5).plan([cot(1), wrong], [direct(2)], rejection=Rejection())
    assert all("images" not in row and isinstance(row["prompt"][0]["content"], str) for row in mix)


def test_an_empty_pool_tells_what_became_of_its_rows():
    wrong = {"boxed": {"value": 0.0}, "think_format": {"value": 1.0}}
    with pytest.raises(DataError, match="CoT 3 wrong; direct 2 chosen, 1 no_answer"):
        Fusion().plan(
            [cot(i, scores=wrong) for i in range(3)],
            [direct(1), direct(2), direct(3, answer="")],
            rejection=Rejection(),
        )


def test_rejection_guards_and_duplicates_are_counted_and_nothing_is_lost():
    class NoLeak:
        def __call__(self, row):
            return Verdict(row["id"] not in ("c2", "d2"), "leaks")

    thoughts = [cot(1), cot(1, response="<think>other</think>\\boxed{1}"), cot(2)]
    thoughts += [cot(3, scores={"boxed": {"value": 0.0}, "think_format": {"value": 1.0}}), cot(4)]
    answers = [direct(1), direct(1, id="again"), direct(2), direct(3, answer=None), direct(4), direct(5)]
    mix = Fusion(cot_share=0.5).plan(thoughts, answers, rejection=Rejection(), guards=[NoLeak()])
    written = [row["problem_id"] for row in mix]
    report = mix.report()["pools"]
    assert report["cot"] == {"seen": 5, "reasons": {"chosen": 2, "outranked": 1, "leaks": 1, "wrong": 1}, "unused": 0}
    # 2 CoT rows at one half allow 2.5 direct rows, of which 3 passed: 4 rows or 5 with 2.5 CoT rounded to 3, so 4
    assert report["direct"] == {
        "seen": 6,
        "reasons": {"chosen": 3, "duplicate": 1, "leaks": 1, "no_answer": 1},
        "unused": 1,
    }
    assert sum(report["direct"]["reasons"].values()) == 6
    assert sorted(p for p in written if p[0] == "c") == ["c1", "c4"]
    assert len(written) == 4


def test_the_report_counts_lengths_and_questions_in_both_kinds():
    thoughts = [cot(1, prompt="Same  QUESTION"), cot(2)]
    answers = [direct(1, prompt="same question"), direct(2, answer="one two three")]
    mix = Fusion(cot_share=0.5).plan(thoughts, answers)
    list(mix)
    list(mix)  # a second iteration starts over
    report = mix.report()
    assert report["questions_in_both_kinds"] == 1
    assert report["completion_words"]["direct"]["bins"] == {"1": 1, "2-3": 1}
    assert report["completion_words"]["cot"]["count"] == 2
    assert report["cot_share"] == {"asked": 0.5, "got": 0.5}
    json.dumps(report)


def test_the_same_seed_gives_the_same_mix_and_another_seed_another():
    def written(seed):
        return [row["problem_id"] for row in Fusion(total=50, seed=seed).plan(*pools(20, 100))]

    assert written(1) == written(1)
    assert written(1) != written(2)


def test_kinds_are_spread_over_the_file():
    # 100 CoT rows among 1,000: a block at the front would put all of them into the first tenth
    first = kinds(Fusion(total=1000).plan(*pools(100, 900)))[:100]
    assert 1 <= first.count("cot") <= 30


def test_pools_must_be_readable_twice_and_must_not_change():
    with pytest.raises(DataError, match="only once"):
        Fusion().plan((cot(i) for i in range(3)), [direct(1)])
    thoughts, answers = pools(10, 90)
    mix = Fusion().plan(thoughts, answers)
    del answers[50:]
    with pytest.raises(DataError, match=r"direct pool had 90 rows .* fewer"):
        list(mix)


@pytest.mark.parametrize("args", [{"cot_share": 1.1}, {"cot_share": -0.1}, {"total": 0}, {"direct_template": "x"}])
def test_settings_that_cannot_work_are_refused(args):
    with pytest.raises(ConfigError):
        Fusion(**args)
