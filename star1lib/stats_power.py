"""What a sample can see, and p values of many comparisons at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist


def power(n: int, p: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """Smallest difference from rate `p` that two independent samples of `n` items show with this power.

    Arcsine approximation, in the direction of one half (the harder one); 1.0 when even the largest
    change cannot be seen.
    """
    if n < 1 or not 0 <= p <= 1:
        raise ValueError(f"power needs n >= 1 and 0 <= p <= 1, not n={n}, p={p}")
    need = (NormalDist().inv_cdf(1 - alpha / 2) + NormalDist().inv_cdf(power)) * math.sqrt(2 / n)
    near = min(p, 1 - p)
    angle = math.asin(math.sqrt(near)) + need / 2
    return 1.0 if angle > math.pi / 2 else math.sin(angle) ** 2 - near


def paired_floor(n: int, alpha: float = 0.05) -> float:
    """Least difference that exact McNemar can ever call significant on `n` pairs; above 1 means none can."""
    changed = 1
    while 2 * 0.5**changed > alpha:
        changed += 1
    return changed / n if n else math.inf


def power_note(n: int, p: float, alpha: float = 0.05) -> str:
    """One sentence on what `n` items can see, for under a table."""
    floor = paired_floor(n, alpha)
    paired = (
        f"a paired comparison needs at least {100 * floor:.1f} points"
        if floor <= 1
        else "no paired comparison can be significant"
    )
    return f"n = {n}: from a rate of {p:.2f}, 80% power needs {100 * power(n, p, alpha):.1f} points; {paired}."


def holm(values: Sequence[float]) -> list[float]:
    """Holm-adjusted p values, in the order given."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    adjusted = [0.0] * len(values)
    running = 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(values) - rank) * values[i]))
        adjusted[i] = running
    return adjusted
