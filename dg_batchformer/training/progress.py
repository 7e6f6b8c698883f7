"""What a run says while it lasts: lines in its log, and figures for `sweep status`."""

from __future__ import annotations

import dataclasses
import datetime
import time
from collections.abc import Sequence
from typing import Any

from dg_batchformer import machine
from dg_batchformer.runs.arguments import RunArguments
from dg_batchformer.runs.folder import Live, RunFolder

EVERY_SECONDS = 5.0


class Progress:
    """Prints a line with the step rate and the time left every few seconds, and a row at each checkpoint.

    With each line it writes the run's live figures into its folder. `counted_from` is when `images` was last 0.
    """

    def __init__(self, folder: RunFolder, steps: int, environments: Sequence[str]) -> None:
        self.folder, self.steps, self.environments = folder, steps, environments
        self.started = self.last = self.counted_from = time.monotonic()
        self.first = self.images = 0
        self.header_due = True

    def start(
        self,
        arguments: RunArguments,
        hparams: dict[str, Any],
        notes: Sequence[str],
        identity: dict[str, Any],
        first: int,
    ) -> None:
        """Prints what is run and on what, before the step `first`."""
        self.first = first
        self.started = self.last = self.counted_from = time.monotonic()
        print(f"{arguments.algorithm} on {arguments.dataset}, test environments {arguments.test_envs}")
        for note in notes:
            print(f"  {note}")
        runs_on = {**{k: v for k, v in identity.items() if k != "versions"}, **identity["versions"]}
        for title, table in (("runs on", runs_on), ("args", dataclasses.asdict(arguments)), ("hparams", hparams)):
            print(f"{title}:")
            for name, value in table.items():
                print(f"  {name}: {value}")
        batch, n_training = hparams["batch_size"], len(self.environments) - len(arguments.test_envs)
        print(f"batch: {batch} per environment, {batch * n_training} a step", flush=True)

    def due(self, step: int) -> bool:
        """Whether a line is due after this step: after the first, and every few seconds."""
        return step == self.first or time.monotonic() - self.last >= EVERY_SECONDS

    def step(self, step: int, values: dict[str, float]) -> None:
        """Prints where the run is, and writes it."""
        self.last = now = time.monotonic()
        rate = (step + 1 - self.first) / (now - self.started)
        seconds_left = (self.steps - step - 1) / rate
        left = datetime.timedelta(seconds=round(seconds_left))
        listed = ", ".join(f"{name} {value:.4f}" for name, value in values.items())
        print(f"step {step} of {self.steps - 1}: {listed}, {rate:.2f} steps/s, {left} left", flush=True)
        images_per_second = self.images / (now - self.counted_from)
        gpu_gb = machine.gpu_gb()
        self.folder.write_live(Live(step + 1, self.steps, images_per_second, gpu_gb, round(seconds_left, 1)))
        self._count_anew()

    def count(self, n_images: int) -> None:
        """Called after each update with how many images it took."""
        self.images += n_images

    def _count_anew(self) -> None:
        self.counted_from, self.images = time.monotonic(), 0

    def evaluation(self, n_done: int, n_images: int) -> None:
        """Called after each batch of an evaluation."""
        now = time.monotonic()
        if now - self.last >= EVERY_SECONDS:
            self.last = now
            print(f"evaluating: {n_done} of {n_images} images", flush=True)

    def checkpoint(self, record: dict[str, Any], test_envs: Sequence[int]) -> None:
        """Prints accuracies on in- and out-splits in percent, the test environments marked."""
        if self.header_due:
            marked = [f"{name}*" if i in test_envs else name for i, name in enumerate(self.environments)]
            print(f"{'step':>6} {'epoch':>7} {'loss':>9}  " + "  ".join(f"{name:^11}" for name in marked))
            print(f"{'':>6} {'':>7} {'':>9}  " + "  ".join(f"{'in':>5} {'out':>5}" for _ in marked) + "  (* test)")
            self.header_due = False
        cells = [
            f"{100 * record[f'env{i}_in_acc']:5.1f} {100 * record[f'env{i}_out_acc']:5.1f}"
            for i in range(len(self.environments))
        ]
        # Not every algorithm of others calls what it minimises "loss".
        loss = f"{record['loss']:9.4f}" if "loss" in record else f"{'-':>9}"
        print(f"{record['step']:>6} {record['epoch']:>7.2f} {loss}  " + "  ".join(cells), flush=True)
        self._count_anew()  # for an evaluation takes no part in how fast a run trains
