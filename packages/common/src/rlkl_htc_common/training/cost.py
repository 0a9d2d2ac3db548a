"""What work costs: seconds, seconds of processors, and memory at its peak."""

import resource
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import torch

RESET = Path("/proc/self/clear_refs")  # of Linux: a 5 written there resets the peak
STATUS = Path("/proc/self/status")


class Stopwatch:
    """Adds up the time of what runs inside it; a GPU's work is waited for.

    Attributes:
        seconds: that passed.
        processor_seconds: of all cores of this process together; on a busy machine they vary less.
    """

    def __init__(self, seconds: float = 0.0, processor_seconds: float = 0.0) -> None:
        self.seconds, self.processor_seconds = seconds, processor_seconds

    def __enter__(self) -> Self:
        self._began = self._now()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        now = self._now()
        self.seconds += now[0] - self._began[0]
        self.processor_seconds += now[1] - self._began[1]

    @staticmethod
    def _now() -> tuple[float, float]:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.monotonic(), time.process_time()


def reset_peak_memory() -> None:
    """Let `peak_memory` count from now on, where the system can; else it counts from the start of the process."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        RESET.write_text("5")


def peak_memory() -> int:
    """The most bytes that this process held at a time: of the GPU where there is one, else of main memory."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    with suppress(OSError):
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
