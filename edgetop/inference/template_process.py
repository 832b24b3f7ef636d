"""Chat templates are programs out of a model file, so they run in a process of their own with little memory and time.

`python -m edgetop.inference.template_process` reads `Render` frames from standard input and answers each with
`Rendered` or `NotRendered` on standard output. Jinja's sandbox keeps a template from reaching Python's objects but
bounds neither memory nor time; the kernel does that here.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal

from edgetop.inference import wire
from edgetop.inference.parent_death import die_with_parent
from edgetop.inference.template import render
from edgetop.inference.template_messages import NotRendered, Render, Rendered

MEMORY_BYTES = 512 * 2**20
"""Address space of the whole process: about 100 MB are taken by the interpreter and Jinja."""
TEXT_CHARACTERS_MAX = 8 * 2**20
_STDIN, _STDOUT = 0, 1


def main() -> None:
    """Answer until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()
    with contextlib.suppress(ValueError, OSError):  # macOS does not limit address space
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    reader = wire.FrameReader[Render](Render)
    while data := os.read(_STDIN, 65536):
        for request in reader.feed(data):
            # The default action of SIGALRM ends the process, whatever the template is at.
            signal.setitimer(signal.ITIMER_REAL, request.time_s)
            answer = render(request.template, request.variables)
            if isinstance(answer, Rendered) and len(answer.text) > TEXT_CHARACTERS_MAX:
                answer = NotRendered(f"it makes more than {TEXT_CHARACTERS_MAX} characters")
            frame = memoryview(wire.encode(answer))
            signal.setitimer(signal.ITIMER_REAL, 0)
            while frame:
                frame = frame[os.write(_STDOUT, frame) :]


if __name__ == "__main__":
    main()
