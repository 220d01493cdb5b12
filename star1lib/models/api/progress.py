"""The progress bar of a run: requests done, rate, time left, cost so far, and what went wrong."""

from __future__ import annotations

import time
from collections import Counter
from types import TracebackType

from star1lib.models.roles import Role


class Meter:
    """A context manager around one run of `total` requests; silent when `shown` is false."""

    def __init__(self, role: Role, total: int, spent: float, shown: bool) -> None:
        from tqdm.auto import tqdm

        self.outcomes: Counter[str] = Counter()
        self.retries = 0
        self._priced = role.price is not None
        self._spent = spent
        self._pending, self._shown_at = 0, time.monotonic()
        self._bar = tqdm(
            total=total, desc=role.name, unit="call", disable=not shown, mininterval=0.5, dynamic_ncols=True
        )

    def __enter__(self) -> Meter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._show()
        self._bar.close()

    def retried(self) -> None:
        """Count a retry."""
        self.retries += 1

    def done(self, outcome: str, spent: float) -> None:
        """Count a finished request and the USD spent so far."""
        self.outcomes[outcome] += 1
        self._pending += 1
        self._spent = spent
        # Drawing costs far more than counting.
        if time.monotonic() - self._shown_at >= 0.5:
            self._show()

    def _show(self) -> None:
        self._shown_at = time.monotonic()
        facts = [f"{self._spent:.2f} USD"] if self._priced else []
        facts += [f"{count} {name}" for name, count in self.outcomes.items() if name != "ok"]
        facts += [f"{self.retries} retries"] if self.retries else []
        self._bar.set_postfix_str(", ".join(facts), refresh=False)
        self._bar.update(self._pending)
        self._pending = 0
