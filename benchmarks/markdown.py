"""Processor time that the screen takes for a token of Markdown, as an answer and a chat grow.

    python -m benchmarks.markdown [--answers 3] [--tokens 2000] [--rate 100] [--parts 4]

A scripted engine answers with headings, lists, tables and code in a terminal of 120 by 36 cells. Printed is, for each
part of each answer, the processor time of the screen's process per token, less what it takes while nothing happens. It
must not grow with the length: neither within an answer nor from answer to answer.
"""

from __future__ import annotations

import argparse
import tempfile
from itertools import pairwise
from pathlib import Path

from benchmarks import run_benchmark
from edgetop.inference.scripted import Reply, split_tokens
from tests.support.isolated_home import IsolatedHome
from tests.support.timed_terminal import Terminal, Use, use_of

SECTION = """## Part {0}: what a rail carries

A *rail* carries **{0} volts**, as `vcgencmd pmic_read_adc` says; see [the manual](https://example.org/{0}).

- it is brought up in order
- it is watched, current and voltage alike

| rail | volts | amperes |
|---|---:|---:|
| core | 0.8{0} | 3.1 |
| memory | 1.1{0} | 0.7 |

```python
def power_w(rails: dict[str, tuple[float, float]]) -> float:
    # Each rail's volts and amperes, number {0}.
    return sum(volts * amperes for volts, amperes in rails.values())
```

"""
IDLE_S = 8.0
F10 = "\x1b[21~"


def reply(tokens: int) -> str:
    """So many tokens of Markdown."""
    text = ""
    while len(split_tokens(text)) < tokens:
        text += SECTION.format(text.count("## ") + 1)
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description="Processor time of the screen for a token of Markdown.")
    parser.add_argument("--answers", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=100.0, help="tokens per second")
    parser.add_argument("--parts", type=int, default=4, help="of an answer")
    given = parser.parse_args()
    text = reply(given.tokens)
    count = len(split_tokens(text))
    with tempfile.TemporaryDirectory() as name:
        home = IsolatedHome(Path(name))
        home.environment["COLORTERM"] = "truecolor"
        command = home.scripted(Reply(text=text), tokens_per_s=given.rate)
        model = home.folder / "model.gguf"
        model.write_bytes(b"a model")
        terminal = Terminal([*command, "-m", str(model), "--ctx", "64k", "--power", "none"], home.environment)
        try:
            terminal.drain(10.0)
            screen = terminal.pid
            before = use_of(screen)
            terminal.drain(IDLE_S)
            idle = (use_of(screen).cpu_s - before.cpu_s) / IDLE_S
            print(f"idle {1000 * idle:.1f} ms/s; {count} tokens an answer at {given.rate:g} a second")
            print("answer  " + "  ".join(f"part {part + 1:>3}" for part in range(given.parts)) + "   ms/token")
            for answer in range(given.answers):
                terminal.type(f"Number {answer}\r")
                terminal.drain(0.5)
                uses: list[Use] = [use_of(screen)]
                for _ in range(given.parts):
                    terminal.drain(count / given.parts / given.rate)
                    uses.append(use_of(screen))
                terminal.drain(3.0)
                each = [
                    1000 * ((after.cpu_s - since.cpu_s) - idle * (after.t_us - since.t_us) / 1e6)
                    / (given.rate * (after.t_us - since.t_us) / 1e6)
                    for since, after in pairwise(uses)
                ]  # fmt: skip
                print(f"{answer + 1:>6}  " + "  ".join(f"{value:8.3f}" for value in each), flush=True)
        finally:
            terminal.type(F10)
            terminal.close()
            home.end()


if __name__ == "__main__":
    run_benchmark(main)
