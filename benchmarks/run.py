"""Measure garrison against its floors, and print the table of the README.

    .venv/bin/python benchmarks/run.py [--quick] [--only ROW …] [--json]

Each row's floor is measured in the same run, by turns with garrison where both take long enough:
raw ZeroMQ for calls, fresh processes for restarts, the same calls between services that do nothing
for a line at `chat`, the path without the mailbox for answers, processes spawned by multiprocess
for starts and memory. Figures are medians. It takes about three minutes (`--quick`: one), speaks
over Unix sockets alone, and leaves no process and no file behind. Run it on a quiet machine: the
load before the run stands below the table. The row `preloaded` needs
`pip install discord.py openai`.

Exit status: 0 where every row that was measured reaches its target, 1 otherwise.
"""

import argparse
import asyncio
import json
import signal
import statistics
import sys
import textwrap
from pathlib import Path
from typing import Any

# Run as a file, the path starts with this folder; modules here are named from the one above.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import machine
from benchmarks.rows import FULL, QUICK, ROWS, Found, Row, Size, Skipped

SCALES = {"us": 1e6, "ms": 1e3, "s": 1.0, "calls/s": 1.0, "MB/s": 1e-6, "MiB": 1.0 / 1024**2}
HEAD = f"{'what':<28}{'floor':>10}{'garrison':>11} {'unit':<8}{'ratio':>6}{'target':>15}"


def main() -> int:
    """Measure what is asked for; return the exit status."""
    options = _options()
    for number in (signal.SIGTERM, signal.SIGHUP):  # as Ctrl-C: everything is taken down
        signal.signal(number, signal.default_int_handler)
    here = machine.describe()
    size = QUICK if options.quick else FULL
    if not options.json:
        print(HEAD)
    try:
        results = [_measured(row, size, options.json) for row in ROWS if row.key in options.only]
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    if options.json:
        print(json.dumps({"machine": here, "rows": results}, indent=2))
    else:
        print(textwrap.fill(machine.line(here), 80))
    return 0 if all(result.get("ok", True) for result in results) else 1


def _options() -> Any:
    keys = [row.key for row in ROWS]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--only", action="append", choices=keys, help="this row; may be repeated")
    parser.add_argument("--json", action="store_true", help="every round's figures, as JSON")
    options = parser.parse_args()
    options.only = options.only or keys
    return options


def _measured(row: Row, size: Size, quiet: bool) -> dict[str, Any]:
    result: dict[str, Any] = {"row": row.key, "what": row.title, "limit": row.limit}
    if row.absolute:
        result["limit"] *= SCALES[row.unit]
    try:
        found = asyncio.run(row.measure(size))
    except Skipped as why:
        shown, result["skipped"] = f"{row.title:<28}  skipped: {why}", str(why)
    else:
        shown = _shown(row, found)
        result |= {"unit": row.unit, "ratio": found.ratio, "ok": row.passes(found)}
        result["floor"] = [value * SCALES[row.unit] for value in found.floor]
        result["garrison"] = [value * SCALES[row.unit] for value in found.garrison]
    if not quiet:
        print(shown, flush=True)
    return result


def _shown(row: Row, found: Found) -> str:
    floor, garrison = (
        statistics.median(values) * SCALES[row.unit] for values in (found.floor, found.garrison)
    )
    limit = f"{row.limit * SCALES[row.unit]:g} {row.unit}" if row.absolute else f"{row.limit:g}"
    target = f"{'≥' if row.more_is_better else '≤'} {limit}"
    result = "ok" if row.passes(found) else "MISSED"
    digits = 0 if row.unit in {"us", "calls/s", "MB/s"} else 1
    return (
        f"{row.title:<28}{floor:>10,.{digits}f}{garrison:>11,.{digits}f} {row.unit:<8}"
        f"{found.ratio:>6.3g}{target:>15}  {result}"
    )


if __name__ == "__main__":
    sys.exit(main())
