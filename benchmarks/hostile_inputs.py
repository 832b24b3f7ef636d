"""How edgetop bears what strangers make, from the input to what comes of it.

    python -m benchmarks.hostile_inputs [--only gguf,session,...] [--seconds 600] [--seed N]

Kept inputs first, then good and kept ones damaged at random, are read as `tests.support.hostile_kinds` says. A finding
is an unhandled or "internal" error, output that acts on a terminal, a session that is not valid, an input that does not
end, or that takes more than 2 s of processor time or 300 MiB more memory; its input is left in build/findings. Prints
one JSON object for each kind with its seed, and exits with 1 where anything was found.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from benchmarks import run_benchmark
from tests.support.hostile_kinds import NAMES, Act, Kind, corpus, damaged, home_of, kinds

CPU_S, GROWTH_MIB = 2.0, 300.0
HANGS_S = 120
"""By the wall clock; the deadlines of servers are shorter."""

KEPT_SHARE = 0.1
"""Of inputs that are made of kept ones."""

FINDINGS = Path("build/findings")


class _HangsError(BaseException):
    """An input takes too long."""


def _hangs(_number: int, _frame: object) -> None:
    raise _HangsError


def spent() -> tuple[float, int]:
    """Seconds of processor time and KiB of memory, those of processes that have ended included."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in both), sum(each.ru_maxrss for each in both)


def wrong_with(act: Act) -> str:
    """What is wrong with what was done, or nothing."""
    signal.alarm(HANGS_S)
    try:
        return act.do()
    except _HangsError:
        return f"it has not ended in {HANGS_S} s"
    except BaseException as error:  # noqa: BLE001 - that is what is looked for
        return f"raised {type(error).__name__}: {error}"
    finally:
        signal.alarm(0)


def inputs_of(kind: Kind, kept: list[bytes], chance: random.Random) -> Iterator[bytes]:
    """Without end."""
    yield from kept
    while True:
        yield damaged(chance, chance.choice(kept)) if kept and chance.random() < KEPT_SHARE else kind.make(chance)


def fuzz(name: str, kind: Kind, chance: random.Random, seconds: float) -> dict[str, object]:
    """Go on with inputs of a kind for so long."""
    slowest_s = grown_mib = 0.0
    acts = 0
    found: dict[str, int] = {}
    end_s = time.monotonic() + seconds
    inputs = inputs_of(kind, [*corpus(name).values()], chance)
    for number in count():
        if time.monotonic() > end_s:
            break
        data = next(inputs)
        for act in kind.acts(data, random.Random(data)):  # noqa: S311 - to be repeated
            acts += 1
            began_s, before_kib = spent()
            problem = wrong_with(act)
            now_s, now_kib = spent()
            took_s, more_mib = now_s - began_s, (now_kib - before_kib) / 1024
            slowest_s, grown_mib = max(slowest_s, took_s), max(grown_mib, more_mib)
            if not problem and (took_s > CPU_S or more_mib > GROWTH_MIB):
                problem = f"took {took_s:.1f} s and {more_mib:.0f} MiB"
            if problem:
                found[problem[:80]] = found.get(problem[:80], 0) + 1
                if found[problem[:80]] == 1:
                    FINDINGS.mkdir(parents=True, exist_ok=True)
                    left = FINDINGS / f"{name}-{number}"
                    left.write_bytes(data)
                    print(f"{left}: {act.name}: {problem}", flush=True)
    return {
        "kind": name, "inputs": number, "done": acts, "slowest_s": round(slowest_s, 2),
        "grown_mib": round(grown_mib, 1), "found": found,
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default=",".join(NAMES))
    parser.add_argument("--seconds", type=float, default=600.0, help="for each kind of input")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    wanted = parser.parse_args()
    findings = 0
    signal.signal(signal.SIGALRM, _hangs)
    for name in wanted.only.split(","):
        chance = random.Random(wanted.seed)  # noqa: S311 - to be repeated
        with tempfile.TemporaryDirectory() as made:
            os.environ |= home_of(Path(made))
            with kinds(Path(made), wanted.seed) as each:
                figures = fuzz(name, each[name](), chance, wanted.seconds)
        print(json.dumps({"seed": wanted.seed, **figures}), flush=True)
        findings += len(figures["found"])  # type: ignore[arg-type]
    return 1 if findings else 0


if __name__ == "__main__":
    run_benchmark(main)
