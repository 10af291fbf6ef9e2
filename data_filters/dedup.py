"""Duplicate problems: the same question and images, or nearly the same words.

Source: SAIL-VL2 (arXiv 2509.14033) section 4.2.2 removes duplicates by (image, question) before and after generation;
the near-duplicate rule is ours. The filters remember what they have seen; ``state_dict`` (plain JSON) carries that
over to data that is added later.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from datasketch import MinHash, MinHashLSH

from data_filters.reading import CJK, Row, normalise, prompt_text, question_key
from sailrl.errors import ConfigError, DataError
from sailrl.types import Verdict

_TOKEN = re.compile(f"[{CJK}]|[^\\W_{CJK}]+")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_SCHEME = "affine32"
"""How hashes are permuted; named so that a stored signature means the same in every version of the library."""
LOOSER = 0.8
"""The index looks for candidates from this share of the threshold on: at the threshold itself it would miss half of
them."""


class ExactDuplicates:
    """Keeps the first row of every (question, options, images); texts are compared normalised, images by their
    bytes."""

    def __init__(self) -> None:
        self._seen: dict[str, str] = {}

    def __call__(self, row: Row) -> Verdict:
        key = question_key(row)
        if key in self._seen:
            return Verdict(False, "duplicate", {"of": self._seen[key]})
        self._seen[key] = _name(row, len(self._seen))
        return Verdict(True, "kept")

    def state_dict(self) -> dict[str, Any]:
        """What was seen: fingerprint to the id of its first row."""
        return {"seen": dict(self._seen)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from ``state_dict``."""
        self._seen = dict(state["seen"])


class NearDuplicates:
    """Keeps the first of all rows whose questions use nearly the same words (MinHash over word shingles).

    Two problems that differ in a number or in an image are different problems, even if all other words are equal: "What
    is 12 + 34?" is no copy of "What is 12 + 35?". So numbers (in order), options and image bytes must agree as well.

    Args:
        threshold: Jaccard similarity of the shingle sets from which two texts are near-duplicates, 0 to 1. It is
            estimated from ``permutations`` hashes (standard error about 0.04 at 128).
        shingle_words: words per shingle. One changed word in 20 leaves 15 of 21 in common at 3 words: 0.71.
        permutations: hashes per text.
    """

    def __init__(self, threshold: float = 0.7, shingle_words: int = 3, permutations: int = 128) -> None:
        if not 0.0 < threshold <= 1.0:
            raise ConfigError(f"near duplicates: threshold = {threshold} must lie in (0, 1].")
        if shingle_words < 1 or permutations < 16:
            raise ConfigError(
                f"near duplicates: shingle_words = {shingle_words} must be at least 1, permutations = {permutations} "
                "at least 16."
            )
        self.settings = {"threshold": threshold, "shingle_words": shingle_words, "permutations": permutations}
        self.threshold = threshold
        self.shingle_words = shingle_words
        self.permutations = permutations
        self._template = MinHash(num_perm=permutations, scheme=_SCHEME)
        self.load_state_dict({"settings": self.settings, "rows": []})

    def __call__(self, row: Row) -> Verdict:
        found = self.find(row)
        if found is not None:
            return Verdict(False, "near_duplicate", {"of": found[0], "similarity": found[1]})
        self.add(row)
        return Verdict(True, "kept")

    def find(self, row: Row) -> tuple[str, float] | None:
        """The most similar earlier row that is a near-duplicate, as (id, estimated similarity)."""
        signature, facts = self._signature(prompt_text(row)), _facts(row)
        near = [
            (self._signatures[place].jaccard(signature), self._names[place])
            for place in self._index.query(signature)
            if self._facts[place] == facts
        ]
        similarity, name = max(near, default=(0.0, ""))
        return (name, similarity) if similarity >= self.threshold else None

    def add(self, row: Row) -> None:
        """Remembers a row."""
        self._remember(_name(row, len(self._names)), _facts(row), self._signature(prompt_text(row)))

    def state_dict(self) -> dict[str, Any]:
        """The settings and, per row, its id, its facts and its signature."""
        signatures = (base64.b64encode(s.hashvalues.astype("<u4").tobytes()).decode() for s in self._signatures)
        rows = [list(row) for row in zip(self._names, self._facts, signatures, strict=True)]
        return {"settings": dict(self.settings), "rows": rows}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from ``state_dict``.

        Raises:
            DataError: the state was made with other settings; signatures then cannot be compared.
        """
        if state["settings"] != self.settings:
            raise DataError(
                f"near duplicates: the state was made with {state['settings']}, this filter has {self.settings}. "
                "Use the same settings, or start without a state."
            )
        self._names: list[str] = []
        self._facts: list[str] = []
        self._signatures: list[MinHash] = []
        self._index = MinHashLSH(threshold=LOOSER * self.threshold, num_perm=self.permutations)
        for name, facts, encoded in state["rows"]:
            values = np.frombuffer(base64.b64decode(encoded), dtype="<u4")
            self._remember(name, facts, self._minhash(values))

    def _remember(self, name: str, facts: str, signature: MinHash) -> None:
        self._index.insert(len(self._names), signature)
        self._names.append(name)
        self._facts.append(facts)
        self._signatures.append(signature)

    def _signature(self, text: str) -> MinHash:
        words = _TOKEN.findall(normalise(text))
        last = max(1, len(words) - self.shingle_words + 1)
        signature = self._minhash(None)
        signature.update_batch([" ".join(words[i : i + self.shingle_words]).encode() for i in range(last)])
        return signature

    def _minhash(self, values: np.ndarray | None) -> MinHash:
        return MinHash(
            num_perm=self.permutations, scheme=_SCHEME, hashvalues=values, permutations=self._template.permutations
        )


def _facts(row: Row) -> str:
    """What must agree besides the words: numbers, options, images."""
    numbers = " ".join(_NUMBER.findall(normalise(prompt_text(row))))
    return question_key({"prompt": numbers, "choices": row.get("choices"), "images": row.get("images")})


def _name(row: Row, place: int) -> str:
    return str(row.get("id") or f"#{place}")
