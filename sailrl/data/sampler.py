"""The order in which problems are tried: endless epochs, each a fresh permutation, resumable at any position."""

from __future__ import annotations

import hashlib
import random
from typing import Any

from sailrl.errors import DataError


class ShufflingSampler:
    """Draws indices into ``n`` problems without replacement; when all were drawn, the next epoch shuffles again.

    The order of an epoch depends on the seed and the epoch's number alone, so the whole state is three numbers, and
    a resumed sampler goes on exactly where the saved one stopped.
    """

    def __init__(self, n: int, seed: int) -> None:
        """Raises:
        DataError: there is nothing to draw from.
        """
        if n < 1:
            raise DataError(f"there are {n} problems to draw from, but training needs at least 1. Check data.train.")
        self.n = n
        self.seed = seed
        self.epoch = 0
        self._position = 0
        self._order = permutation(n, seed, 0)

    def take(self, k: int) -> list[int]:
        """The next ``k`` indices; it may reach over the end of an epoch into the next."""
        taken: list[int] = []
        while len(taken) < k:
            if self._position == self.n:
                self.epoch += 1
                self._position = 0
                self._order = permutation(self.n, self.seed, self.epoch)
            part = self._order[self._position : self._position + k - len(taken)]
            self._position += len(part)
            taken += part
        return taken

    def state_dict(self) -> dict[str, int]:
        """What has to be saved, as JSON values."""
        return {"n": self.n, "seed": self.seed, "epoch": self.epoch, "position": self._position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where the sampler that saved ``state`` stopped.

        Raises:
            DataError: the state belongs to another number of problems or another seed, or is damaged.
        """
        numbers = {key: state.get(key) for key in ("n", "seed", "epoch", "position")}
        bad = [key for key, value in numbers.items() if not isinstance(value, int) or isinstance(value, bool)]
        if bad:
            raise DataError(f"the saved sampler state lacks a whole number for {', '.join(bad)}: {state!r}.")
        n, seed, epoch, position = (int(state[key]) for key in ("n", "seed", "epoch", "position"))
        if n != self.n:
            raise DataError(
                f"the checkpoint was drawing from {n} problems, but the data now has {self.n}. A resumed run must see "
                "the same problems: restore the data, or start a new run folder with run.dir."
            )
        if seed != self.seed:
            raise DataError(
                f"the checkpoint's sampler has seed {seed}, but run.seed is {self.seed}. A resumed run must keep its "
                f"seed: set run.seed={seed}, or start a new run folder with run.dir."
            )
        if epoch < 0 or not 0 <= position <= n:
            raise DataError(f"the saved sampler state is damaged: epoch {epoch}, position {position} of {n}.")
        self.epoch = epoch
        self._position = position
        self._order = permutation(n, seed, epoch)


def permutation(n: int, seed: int, epoch: int) -> list[int]:
    """The order of an epoch."""
    # Hashed, so that neighbouring seeds and epochs share nothing: seed 1 epoch 0 is not seed 0 epoch 1.
    digest = hashlib.sha256(f"{seed}/{epoch}".encode()).digest()
    order = list(range(n))
    random.Random(int.from_bytes(digest, "big")).shuffle(order)
    return order
