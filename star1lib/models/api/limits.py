"""How fast, how often and for how much: token buckets, retry delays, and the budget of a run."""

from __future__ import annotations

import asyncio
import datetime
import email.utils
import random
import time
from collections.abc import Awaitable, Callable, Mapping

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]

RETRYABLE = frozenset({408, 409, 429, *range(500, 600)})
MAX_DELAY_S = 60.0
MAX_RETRY_AFTER_S = 900.0


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds that a server asks to wait: `retry-after-ms`, or `Retry-After` in seconds or as an HTTP date.

    `now` is the present in seconds since the epoch. None when the header is absent or unreadable.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    if value is None:
        return None
    seconds = _number(value)
    if seconds is not None:
        return seconds
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    if moment.tzinfo is None:  # an HTTP date is in GMT
        moment = moment.replace(tzinfo=datetime.UTC)
    return max(0.0, moment.timestamp() - (time.time() if now is None else now))


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else None
    except ValueError:
        return None
    return value if value is not None and 0 <= value < 1e9 else None


def backoff(attempt: int, base_s: float) -> float:
    """Seconds before retry number `attempt` (from 0): doubling, capped, half of it random against stampedes."""
    return min(MAX_DELAY_S, base_s * 2.0 ** min(attempt, 30)) * random.uniform(0.5, 1.0)


class TokenBucket:
    """At most `per_minute` units in any minute, in bursts of one second's worth.

    A demand larger than the bucket waits until the bucket is full and then takes it into debt, so it
    is delayed and never starved.
    """

    def __init__(self, per_minute: float, clock: Clock = time.monotonic) -> None:
        self.capacity = max(1.0, per_minute / 60)
        # Burst and refill together stay within the limit of one minute.
        self.rate = max(per_minute - self.capacity, per_minute / 2) / 60
        self._level = self.capacity
        self._clock = clock
        self._at = clock()

    def _refill(self) -> None:
        now = self._clock()
        self._level = min(self.capacity, self._level + (now - self._at) * self.rate)
        self._at = now

    def wait_for(self, amount: float) -> float:
        """Seconds until `amount` may be taken; 0 when it may be now."""
        self._refill()
        missing = min(amount, self.capacity) - self._level
        return max(0.0, missing / self.rate) if missing > 1e-9 else 0.0

    def take(self, amount: float) -> None:
        """Take `amount`, into debt if need be; a negative amount gives back."""
        self._refill()
        self._level = min(self.capacity, self._level - amount)


class RateLimiter:
    """Requests and tokens per minute of one role, and the pauses its server asks for."""

    def __init__(
        self, rpm: float | None, tpm: float | None, clock: Clock = time.monotonic, sleep: Sleep = asyncio.sleep
    ) -> None:
        self._requests = TokenBucket(rpm, clock) if rpm else None
        self._tokens = TokenBucket(tpm, clock) if tpm else None
        self._clock, self._sleep = clock, sleep
        self._not_before = 0.0
        self._turn = asyncio.Lock()

    def pause(self, seconds: float) -> None:
        """Send nothing for `seconds` from now."""
        self._not_before = max(self._not_before, self._clock() + seconds)

    async def acquire(self, tokens: float) -> None:
        """Wait for the right to send one request that may use `tokens` tokens; first come, first served."""
        if self._requests is None and self._tokens is None and self._not_before <= self._clock():
            return
        async with self._turn:
            while (delay := self._delay(tokens)) > 0:
                await self._sleep(delay)
            if self._requests:
                self._requests.take(1)
            if self._tokens:
                self._tokens.take(tokens)

    def _delay(self, tokens: float) -> float:
        delay = self._not_before - self._clock()
        if self._requests:
            delay = max(delay, self._requests.wait_for(1))
        if self._tokens:
            # A reply may give tokens back while we wait: look again at least each second.
            delay = max(delay, min(1.0, self._tokens.wait_for(tokens)))
        return delay

    def correct(self, reserved: float, used: float) -> None:
        """Put the tokens that a reply really used in place of those that were reserved for it."""
        if self._tokens:
            self._tokens.take(used - reserved)


class Budget:
    """Spending in USD that never passes `limit`: the worst case of a request is reserved before it is sent."""

    def __init__(self, limit: float | None, spent: float = 0.0) -> None:
        self.limit, self.spent = limit, spent
        self.closed = False
        self._reserved: dict[int, float] = {}
        self._next = 0
        self._settled = asyncio.Condition()

    async def reserve(self, amount: float) -> int | None:
        """A ticket for `amount`, or None when it cannot be afforded, after which nothing else is."""
        if self.limit is None:
            return 0
        async with self._settled:
            while not self.closed:
                if self.spent + sum(self._reserved.values()) + amount <= self.limit:
                    self._next += 1
                    self._reserved[self._next] = amount
                    return self._next
                # What is in flight may turn out cheaper than feared.
                if not self._reserved:
                    self.closed = True
                    self._settled.notify_all()
                    break
                await self._settled.wait()
        return None

    async def settle(self, ticket: int) -> None:
        """Release what `ticket` reserved; what the call cost has been charged by then."""
        if self.limit is not None:
            async with self._settled:
                self._reserved.pop(ticket, None)
                self._settled.notify_all()

    def charge(self, cost: float) -> None:
        """Add `cost` to what was spent."""
        self.spent += cost
