"""How fast one core of this machine computes, in a few hundredths of a second and without a library.

Decoding is integer multiplication and addition, so the probe multiplies long integers: the inner loop of CPython's
schoolbook multiplication is one multiply-add per pair of digits, for factors below its Karatsuba cutoff of 70 digits
(Objects/longobject.c). It shows clock and core, not the width of the vector units: `quant_speed` has constants for
each kind of those.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import perf_counter

DIGITS = 60
_ROUNDS, _PRODUCTS = 120, 60


def measure_core(now: Callable[[], float] = perf_counter) -> float:
    """Products of digits in a second, by one thread: the best of many short rounds, since others may be at work."""
    bits = sys.int_info.bits_per_digit
    left, right = (1 << bits * DIGITS) - 12345, (1 << bits * DIGITS) - 6789
    best_s = float("inf")
    for _ in range(_ROUNDS):
        begin_s = now()
        for _ in range(_PRODUCTS):
            left * right
        best_s = min(best_s, now() - begin_s)
    return _PRODUCTS * DIGITS**2 / best_s
