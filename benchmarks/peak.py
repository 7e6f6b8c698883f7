"""Seconds and peak memory of a command, which is killed after a limit, as a line of JSON.

    python benchmarks/peak.py LIMIT OUTPUT COMMAND...

It is a separate small process, since Linux counts the memory of the starting process as the command's. The output of
the command goes to the file OUTPUT.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time


def main() -> None:
    limit, output, *command = sys.argv[1:]
    started = time.monotonic()
    with open(output, "wb") as file:
        process = subprocess.Popen(command, stdout=file)
    timer = threading.Timer(float(limit), process.kill)
    timer.start()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    timer.cancel()
    # Linux counts in KiB.
    print(json.dumps({"seconds": seconds, "mib": usage.ru_maxrss / 1024, "status": os.waitstatus_to_exitcode(status)}))


if __name__ == "__main__":
    main()
