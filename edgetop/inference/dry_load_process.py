"""The process that asks the library what a load would allocate: `python -m edgetop.inference.dry_load_process`.

It reads one `DryLoad` from standard input, answers on standard output and ends.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import msgspec

from edgetop.core.records import Missing
from edgetop.inference.dry_load import Answer, DryLoad, WouldAllocate, WouldNotLoad
from edgetop.inference.llama.dry_run import dry_run
from edgetop.inference.parent_death import die_with_parent

_STDOUT, _STDERR = 1, 2


def main() -> None:
    """Answer one question."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()
    answer_fd = os.dup(_STDOUT)
    os.dup2(_STDERR, _STDOUT)  # libraries print there
    question = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=DryLoad)
    found = dry_run(Path(question.path), question.settings)
    answer: Answer = WouldNotLoad(found) if isinstance(found, Missing) else WouldAllocate(found)
    with os.fdopen(answer_fd, "wb") as file:
        file.write(msgspec.msgpack.encode(answer))


if __name__ == "__main__":
    main()
