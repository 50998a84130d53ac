"""Where keys and values of running and finished conversations lie: ranges of one pool of tokens."""

from __future__ import annotations

from bisect import insort


class Ranges:
    """Contiguous ranges of ``size`` places, handed out where the first free one is long enough.

    A range is given back whole; neighbours that are free grow together.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._free: list[tuple[int, int]] = [(0, size)]

    def take(self, length: int) -> int | None:
        """The start of a range of this length; None where no free one is long enough."""
        for index, (start, free) in enumerate(self._free):
            if free >= length:
                if free == length:
                    del self._free[index]
                else:
                    self._free[index] = (start + length, free - length)
                return start
        return None

    def give_back(self, start: int, length: int) -> None:
        """Free a range that was taken."""
        insort(self._free, (start, length))
        merged: list[tuple[int, int]] = []
        for begin, free in self._free:
            if merged and sum(merged[-1]) == begin:
                merged[-1] = (merged[-1][0], merged[-1][1] + free)
            else:
                merged.append((begin, free))
        self._free = merged
