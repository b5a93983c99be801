"""The learning rate over the steps, as a factor of its peak. Pure functions."""

import math
from typing import Literal

Course = Literal["linear", "cosine", "constant"]


def rate_factor(step: int, steps: int, warmup_steps: int, course: Course) -> float:
    """The factor, in [0, 1], of optimizer step number `step` (from 0) of `steps`.

    Warm-up rises as (step + 1) / (warmup_steps + 1), so that no step is spent at zero (transformers' own
    schedules spend the first). Afterwards, with t = (step - warmup_steps) / (steps - warmup_steps) in [0, 1):
    linear 1 - t, cosine (1 + cos(pi t)) / 2, constant 1. The last step is above zero too; 0 from `steps` on.
    """
    if step >= steps:
        return 0.0
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    through = (step - warmup_steps) / (steps - warmup_steps)
    if course == "linear":
        return 1 - through
    if course == "cosine":
        return (1 + math.cos(math.pi * through)) / 2
    return 1.0
