"""What a fault costs: one line per fault, each of them real, in runs of a preset.

python benchmarks/faults.py [--json] [--only NAME ...] [--repeat 50] [--save]

`recovery_s` is the time from the fault until everything works again: every env worker has handed in
new steps and the learner has trained (parts), a checkpoint stands (signals), the next command has
its run folder (writers, files, disks). Limits on 2 idle cores: env worker 5 s, learner 15 s, signal
to checkpoint 10 s. Steps and updates lost are what the run itself reports.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

from common import save, saved
from faults_commands import disk_faults, signal_faults, writer_faults
from faults_common import LIMIT_S, PRESET, Row
from faults_parts import parts_faults

GROUPS = (parts_faults, signal_faults, writer_faults, disk_faults)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print JSON lines instead of a table")
    parser.add_argument(
        "--only", nargs="+", default=[""], help="faults whose names hold one of these"
    )
    parser.add_argument("--repeat", type=int, default=50, help="kills of a waiting env worker")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/faults.json")
    parser.add_argument("--verbose", action="store_true", help="show the runs' own log")
    arguments = parser.parse_args()
    if not arguments.verbose:
        logging.disable(logging.WARNING)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")

    def wanted(name: str) -> bool:
        return any(part in name for part in arguments.only)

    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="reverie-faults-") as folder:
        for group in GROUPS:
            for row in group(Path(folder), wanted, arguments.repeat):
                row = replace(row, load=round(os.getloadavg()[0], 1))
                rows.append(row)
                print(json.dumps(asdict(row)) if arguments.json else _line(row), flush=True)
    if arguments.save:  # beside those of other calls
        new = {row.fault: asdict(row) for row in rows}
        kept = [row for row in saved("faults") or [] if row["fault"] not in new]
        print(save("faults", [*kept, *new.values()], preset=PRESET, limits_s=LIMIT_S))
    return 0 if all(row.ok is not False for row in rows) else 1


def _line(row: Row) -> str:
    verdict = {True: "ok", False: "MISSED", None: "not tried"}[row.ok]
    cells = [row.recovery_s, row.steps_lost, row.updates_lost]
    figures = " ".join(f"{'' if cell is None else cell:>7}" for cell in cells)
    return f"{row.fault:42} {verdict:9} {figures}  {row.note}"


if __name__ == "__main__":
    raise SystemExit(main())
