"""The process of a run: its stop signals, the files of its output, and its progress lines."""

import contextlib
import datetime
import io
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from dg_batchformer import machine
from dg_batchformer.data import path_free
from dg_batchformer.runs.arguments import RunArguments, training_envs
from dg_batchformer.runs.files import ERR, OUT
from dg_batchformer.runs.folder import Live, RunFolder
from dg_batchformer.runs.presets import preset_note
from dg_batchformer.runs.records import tested_part
from dg_batchformer.training.tracking import Tracked, Tracking

SIGNALS = ("SIGTERM", "SIGUSR1", "SIGINT")
"""Signals that stop a run; SIGUSR1 is SLURM's warning before the end, SIGINT is Ctrl-C."""

EVERY_SECONDS = 5.0


class Interrupted(BaseException):
    """A signal stopped a run; it can be resumed."""

    def __init__(self, signal_name: str) -> None:
        super().__init__(signal_name)
        self.signal_name = signal_name


class Asked:
    """The signal that asked a run to stop, if any."""

    signal_name = ""

    def note(self, name: str) -> None:
        self.signal_name = name

    def leave(self) -> None:
        """Raises Interrupted if a signal has arrived."""
        if self.signal_name:
            raise Interrupted(self.signal_name)


@contextmanager
def handled(names: Sequence[str], handle: Callable[[str], None]) -> Iterator[None]:
    """Calls `handle` with the names of signals during the context.

    Ignored signals stay ignored, and outside the main thread nothing changes.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        for name in names:
            number = getattr(signal, name, None)  # Windows has few of them
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, lambda number, frame: handle(signal.Signals(number).name))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Tee(io.TextIOBase):
    """A stream that writes to a file and, if given, to another stream."""

    def __init__(self, file: TextIO, also: TextIO | None) -> None:
        self.file, self.also = file, also

    def write(self, text: str) -> int:
        self.file.write(text)
        self.file.flush()
        if self.also:
            try:
                self.also.write(text)
                self.also.flush()
            except BrokenPipeError:
                # The reader has closed the stream; the run continues, and the file has everything.
                self.also = None
        return len(text)


@contextmanager
def captured(folder: RunFolder, *, echo: bool) -> Iterator[None]:
    """Writes the output to `out.txt` and `err.txt` during the context, with `echo` also to the terminal."""
    with (
        (folder / OUT).open("a", encoding="utf-8") as out,
        (folder / ERR).open("a", encoding="utf-8") as err,
        contextlib.redirect_stdout(Tee(out, sys.stdout if echo else None)),
        contextlib.redirect_stderr(Tee(err, sys.stderr if echo else None)),
    ):
        handler = logging.StreamHandler(sys.stdout)
        log = logging.getLogger("dg_batchformer")
        level = log.level
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        try:
            yield
        finally:
            log.removeHandler(handler)
            log.setLevel(level)


class Progress:
    """Prints a line with the step rate and the time left every few seconds, and a row at each checkpoint.

    With each line it writes the live figures of the run. `images` counts the images of the updates since
    `counted_from`.
    """

    def __init__(self, folder: RunFolder, steps: int, environments: Sequence[str]) -> None:
        self.folder, self.steps, self.environments = folder, steps, environments
        self.started = self.last = self.counted_from = time.monotonic()
        self.first = self.images = 0
        self.header_due = True
        self.tracking = Tracking()

    def start(
        self,
        arguments: RunArguments,
        hparams: dict[str, Any],
        notes: Sequence[str],
        identity: dict[str, Any],
        first: int,
    ) -> None:
        """Prints the run, its data and its device, before the step `first`."""
        self.first = first
        left_out = f"test environments {arguments.test_envs}" if arguments.test_envs else "no environment left out"
        trained = f", training environments {arguments.train_envs}" if arguments.train_envs else ""
        print(f"{arguments.algorithm} on {arguments.dataset}, {left_out}{trained}")
        for note in [*notes, *([preset_note(arguments.preset)] if arguments.preset else [])]:
            print(f"  {note}")
        runs_on = {**{k: v for k, v in identity.items() if k != "versions"}, **identity["versions"]}
        for title, table in (("runs on", runs_on), ("args", arguments.values), ("hparams", hparams)):
            print(f"{title}:")
            for name, value in table.items():
                print(f"  {name}: {value}")
        n_training = len(training_envs(arguments.train_envs, arguments.test_envs, len(self.environments)))
        batch = hparams["batch_size"]
        print(f"batch: {batch} per environment, {batch * n_training} per step", flush=True)
        name = f"{arguments.algorithm} {path_free(arguments.dataset)} {arguments.test_envs} {arguments.trial_seed}"
        settings = {**arguments.values, **{f"hparams.{name}": value for name, value in hparams.items()}}
        self.tracking.start(arguments.track, Tracked(self.folder.path, name, settings, first))
        self.started = self.last = self.counted_from = time.monotonic()

    def due(self, step: int) -> bool:
        """Whether a line is due after this step: after the first one, and every few seconds."""
        return step == self.first or time.monotonic() - self.last >= EVERY_SECONDS

    def step(self, step: int, values: dict[str, float]) -> None:
        """Prints and writes the progress of the run."""
        self.last = now = time.monotonic()
        rate = (step + 1 - self.first) / (now - self.started)
        seconds_left = (self.steps - step - 1) / rate
        left = datetime.timedelta(seconds=round(seconds_left))
        listed = ", ".join(f"{name} {value:.4f}" for name, value in values.items())
        print(f"step {step} of {self.steps - 1}: {listed}, {rate:.2f} steps/s, {left} left", flush=True)
        speed = self.images / (now - self.counted_from)
        self.folder.write_live(Live(step + 1, self.steps, speed, machine.gpu_gb(), round(seconds_left, 1)))
        self.tracking.log(step, values)
        self._count_anew()

    def _count_anew(self) -> None:
        self.counted_from, self.images = time.monotonic(), 0

    def evaluation(self, n_done: int, n_images: int) -> None:
        """Called after each batch of an evaluation."""
        now = time.monotonic()
        if now - self.last >= EVERY_SECONDS:
            self.last = now
            print(f"evaluating: {n_done} of {n_images} images", flush=True)

    def checkpoint(self, record: dict[str, Any], test_envs: Sequence[int]) -> None:
        """Prints accuracies on in- and out-splits in percent; marks the test environments."""
        tested = tested_part(record)
        if self.header_due:
            marked = [f"{name}*" if i in test_envs else name for i, name in enumerate(self.environments)]
            print(f"{'step':>6} {'epoch':>7} {'loss':>9}  " + "  ".join(f"{name:^11}" for name in marked))
            print(
                f"{'':>6} {'':>7} {'':>9}  "
                + "  ".join(f"{tested:>5} {'out':>5}" for _ in marked)
                + "  (* test)" * (tested == "in")
            )
            self.header_due = False
        cells = [
            f"{100 * record[f'env{i}_{tested}_acc']:5.1f} {100 * record[f'env{i}_out_acc']:5.1f}"
            for i in range(len(self.environments))
        ]
        # Not every external algorithm returns a "loss".
        loss = f"{record['loss']:9.4f}" if "loss" in record else f"{'-':>9}"
        print(f"{record['step']:>6} {record['epoch']:>7.2f} {loss}  " + "  ".join(cells), flush=True)
        self.tracking.log(record["step"], record)
        self._count_anew()  # an evaluation does not count in the training speed
