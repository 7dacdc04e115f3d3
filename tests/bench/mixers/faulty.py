"""A mixer that does nothing until it is run on a real device, and then does what its setting says."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from metablocks.core.grid import Grid
from metablocks.core.mixer import Mixer, MixerSettings


@dataclass(frozen=True)
class FaultySizes:
    fault: str


class FaultySettings(MixerSettings):
    fault: Literal["raise", "kill", "hang", "exit", "leave", "nan", "allocate"] = "raise"

    def resolve(self, dim: int, grid: Grid) -> FaultySizes:  # noqa: ARG002
        return FaultySizes(self.fault)


class Faulty(Mixer):
    def forward(self, x: Tensor, grid: Grid) -> Tensor:  # noqa: ARG002
        fault = self.sizes.fault
        if x.is_meta:
            return x
        return x * torch.nan if fault == "nan" else _done(fault, x)


def _done(fault: str, x: Tensor) -> Tensor:
    if fault == "raise":
        raise ValueError("this subject \x1b[31mraises")
    if fault == "kill":
        print("last words", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "exit":
        sys.exit(0)
    if fault == "leave":
        os._exit(0)
    if fault == "allocate":
        torch.empty(1 << 60, dtype=torch.uint8)
    if fault == "hang":
        if "PID_FILE" in os.environ:
            Path(os.environ["PID_FILE"]).write_text(f"{os.getpid()}\n")
        while True:
            time.sleep(60)
    return x
