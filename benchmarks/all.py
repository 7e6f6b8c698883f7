"""All benchmarks that this machine can run, one after the other; what is missing for the others is said.

    python benchmarks/all.py --data_dir DATA --domainbed DOMAINBED --folder FOLDER --output build/bench

Each one's output is printed and written to OUTPUT/<name>.txt as it comes, so that a stop loses nothing.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

NEEDS = {
    "loading": ("data_dir", "domainbed"),
    "run": ("data_dir", "domainbed"),
    "step": (),
    "bound": ("data_dir",),
    "memory": ("timm",),
    "parts": ("timm",),
    "sweep": ("domainbed",),
    "table": ("domainbed", "folder"),
    "large": ("domainbed", "folder"),
    "comparisons": (),
}
"""The benchmarks, the quickest first, with the flags and packages that they need."""


def missing(name: str, args: argparse.Namespace) -> list[str]:
    """What a benchmark needs and this machine does not have."""
    flags = [f"--{need}" for need in NEEDS[name] if getattr(args, need, "") is None]
    return flags + [need for need in NEEDS[name] if not hasattr(args, need) and find_spec(need) is None]


def run(name: str, args: argparse.Namespace) -> int:
    """Runs a benchmark; returns its status."""
    given = {need: getattr(args, need) for need in NEEDS[name] if hasattr(args, need)}
    given |= {"folder": args.folder / name} if "folder" in given else {}
    flags = [word for need, value in given.items() for word in (f"--{need}", str(value))]
    command = [sys.executable, str(Path(__file__).with_name(f"{name}.py")), *flags]
    print(f"== {name}", flush=True)
    with (args.output / f"{name}.txt").open("w") as file:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert process.stdout
        for line in process.stdout:
            print(line, end="", flush=True)
            file.write(line)
            file.flush()
    return process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data_dir", type=Path, help="folder with PACS")
    parser.add_argument("--domainbed", type=Path, help="a checkout of DomainBed")
    parser.add_argument("--folder", type=Path, help="a folder for generated data, 17 GB")
    parser.add_argument("--output", type=Path, default=Path("build", "bench"))
    parser.add_argument("--only", nargs="+", choices=list(NEEDS), default=list(NEEDS))
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    statuses = {}
    for name in args.only:
        if lacking := missing(name, args):
            print(f"== {name}: skipped, needs {', '.join(lacking)}", flush=True)
        else:
            statuses[name] = run(name, args)
    failed = [name for name, status in statuses.items() if status]
    print(f"{len(statuses) - len(failed)} of {len(NEEDS)} done" + (f", failed: {', '.join(failed)}" if failed else ""))
    return int(bool(failed))


if __name__ == "__main__":
    raise SystemExit(main())
