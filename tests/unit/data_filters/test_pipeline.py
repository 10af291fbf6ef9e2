import json

import pytest

from data_filters.dedup import ExactDuplicates
from data_filters.mcq import McqToFree
from data_filters.pass_at_k import PassAtK
from data_filters.pipeline import Pipeline
from sailrl.errors import ConfigError, DataError
from sailrl.types import Filter


def steps():
    return {"dedup": ExactDuplicates(), "mcq": McqToFree(otherwise="drop"), "pass@4": PassAtK()}


def row(prompt, c, answer="B"):
    return {"prompt": f"{prompt}\nA. 3\nB. 4", "answer": answer, "n": 4, "c": c, "meta": {"split": "train"}}


ROWS = [row("1 + 3?", 2), row("1 + 3?", 2), row("Which one?", 2), row("2 + 2?", 4), row("5 - 1?", 1)]


def test_rows_go_through_the_steps_in_order_and_every_step_accounts_for_those_that_reached_it():
    pipeline = Pipeline(steps())
    kept = [out for row in ROWS if (out := pipeline.convert(row).row) is not None]
    assert [(r["prompt"], r["answer"]) for r in kept] == [("1 + 3?", "4"), ("5 - 1?", "4")]
    # 5 rows, one duplicate; 4 reach mcq, one needs its options; 3 reach the filter, one is too easy
    assert pipeline.counts == {
        "dedup": {"kept": 4, "duplicate": 1},
        "mcq": {"converted": 3, "needs_options": 1},
        "pass@4": {"kept": 2, "too_easy": 1},
    }


def test_a_kept_row_carries_its_evidence_and_a_dropped_one_names_the_step():
    pipeline = Pipeline(steps())
    kept = pipeline.convert(ROWS[0]).row
    assert kept is not None
    assert kept["meta"]["split"] == "train"
    assert kept["meta"]["filters"]["pass@4"] == {"reason": "kept", "n": 4, "c": 2, "accuracy": 0.5, "pass@4": 1.0}
    assert kept["meta"]["filters"]["mcq"]["letter"] == "B"
    assert pipeline(ROWS[3]).evidence["step"] == "pass@4"
    assert "filters" not in ROWS[0]["meta"]  # the input is left as it was


def test_a_resumed_pipeline_knows_the_rows_of_the_first_run():
    first = Pipeline(steps())
    first(ROWS[0])
    again = Pipeline(steps())
    again.load_state_dict(json.loads(json.dumps(first.state_dict())))
    uninterrupted = Pipeline(steps())
    whole = [uninterrupted.convert(row) for row in ROWS]
    assert [again.convert(row) for row in ROWS[1:]] == whole[1:]
    assert again.counts == uninterrupted.counts
    with pytest.raises(DataError, match="dedup"):
        Pipeline({"mcq": McqToFree()}).load_state_dict(first.state_dict())


def test_a_pipeline_is_a_filter_and_refuses_what_is_none():
    assert isinstance(Pipeline({}), Filter)
    assert Pipeline({})(ROWS[0]).keep
    with pytest.raises(ConfigError, match="'x' is int"):
        Pipeline({"x": 3})  # type: ignore[dict-item]
