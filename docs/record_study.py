"""Records the example study in `sessions/study/`: `python -m docs.record_study`, from the root of a checkout.

`edgetop bench` with six levels of the small model, one thread and two, and quality, on a virtual board as in
`docs.record_examples`: engine, speed, memory and quality are real, the power is computed. The levels are made from the
shipped Q4_1 file, so that F16 here is as good as Q4_1 was. Writes the sessions, the table and the report.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shutil
import sys
import tempfile
from pathlib import Path

from docs.record_examples import ROOT, SHIPPED, locked, model_file, presentable, telltales, virtual_board
from edgetop import cli
from edgetop.commands.report import report_of
from edgetop.session.file_io import encode_file, load_file

LEVELS = "F16,Q8_0,Q5_K_M,Q4_K_M,Q4_0,Q2_K"
TARGET = ROOT / "sessions/study"
REPORT = ROOT / "docs/study.html"


def main() -> None:
    """Measure, take out what tells of the machine, and write."""
    parser = argparse.ArgumentParser(prog="python -m docs.record_study", description=__doc__)
    parser.add_argument("--repetitions", default="2")
    parser.add_argument("--quants", type=Path, default=ROOT / "build/quants")
    parser.add_argument("--lock", type=Path, help="hold this lock meanwhile, where others measure, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, locked(options.lock):
        root, data = Path(folder, "root"), Path(folder, "data")
        os.environ |= {"EDGETOP_SYSROOT": str(root), "EDGETOP_DATA_DIR": str(data), "EDGETOP_CACHE_DIR": folder}
        table = io.StringIO()
        with virtual_board(root), contextlib.redirect_stdout(table):
            code = cli.main(
                [
                    *("bench", "-m", str(model_file(SHIPPED, options.quants)), "--quant", LEVELS, "-t", "1,2"),
                    *("-p", "256", "-n", "64", "-r", options.repetitions, "--quality", "-o", "md"),
                ]
            )
        if code != 0:
            sys.exit(code)
        write(root, data, table.getvalue())


def write(root: Path, data: Path, table: str) -> None:
    """Put sessions, table and report where they belong."""
    shutil.rmtree(TARGET, ignore_errors=True)
    TARGET.mkdir(parents=True)
    paths = []
    for recorded in sorted((data / "sessions").glob("*.json")):
        encoded = b"".join(encode_file(presentable(load_file(recorded), root)))
        told = [each for each in telltales(root) if each.strip("/") and each.encode() in encoded]
        if told:
            sys.exit(f"{recorded.name} would tell of this machine: {', '.join(told)}")
        path = TARGET / recorded.name
        path.write_bytes(encoded)
        paths.append(path)
    (TARGET / "table.md").write_text(table, "utf-8")
    os.chdir(ROOT)
    runs = [path.relative_to(ROOT) for path in paths if load_file(path).turns]
    REPORT.write_text(report_of(runs), "utf-8")


if __name__ == "__main__":
    main()
