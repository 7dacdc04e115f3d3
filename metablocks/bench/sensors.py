"""What clocks, temperature, power and other programs on the device were between rounds, never during them.

On CUDA devices NVML tells (package nvidia-ml-py, optional), else the operating system does. What cannot be read is
absent; `docs/records.md` tells what every key means.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from metablocks.core.text import listed, printable
from metablocks.core.units import percent

Reading = dict[str, Any]

CPUS = Path("/sys/devices/system/cpu")
CPUINFO = Path("/proc/cpuinfo")
PROCESSES = Path("/proc")
MOST_CPUS = 8  # read of many, as each costs microseconds
MOST_CPUINFO = 1 << 14  # bytes; the file is written as it is read, so that reading less costs less
SLOW_CLOCK = 0.75  # of the largest clock: below it the card was held back

# Bits of NVML's clocks-event reasons, which are part of its binary interface. Older packages name them differently.
IDLE, APPLICATIONS = 0x1, 0x2
THROTTLE = {
    APPLICATIONS: "applications_clocks",
    0x4: "power_cap",
    0x8: "hardware_slowdown",
    0x10: "sync_boost",
    0x20: "software_thermal",
    0x40: "hardware_thermal",
    0x80: "power_brake",
    0x100: "display_clocks",
    0x200: "board_limit",
    0x400: "reliability",
}
HOT = ("hardware_slowdown", "software_thermal", "hardware_thermal", "power_brake")
CAPPED = ("power_cap", "board_limit")

SPREAD = ("sm_clock_mhz", "memory_clock_mhz", "cpu_mhz", "power_w", "utilisation")
LARGEST = ("temperature_c", "foreign_processes", "load_1min")
CONSTANT = ("max_sm_clock_mhz", "power_limit_w", "nvml_fault")
GROWING = ("thermal_throttles",)


class Sensors:
    """The sensors of one device. Processes that descend from `family`, by default from this one, are not foreign."""

    def __init__(self, device: str, family: int | None = None) -> None:
        self.family = os.getpid() if family is None else family
        self._cuda, self._fault = device.startswith("cuda"), ""
        self._nvml: Any = None
        self._card: Any = None
        if self._cuda:
            try:
                import pynvml

                pynvml.nvmlInit()
                self._nvml, self._card = pynvml, _handle(pynvml, device)
            except ImportError:
                self._fault = "nvidia-ml-py is not installed"
            except Exception as error:  # NVML has an error of its own for each of its codes, and torch has others
                self._fault = printable(str(error)) or type(error).__name__

    def read(self) -> Reading:
        """Plain values by name, as they stand now."""
        if not self._cuda:
            return _processors()
        if self._card is None:
            return {"nvml_fault": self._fault}
        nvml, card = self._nvml, self._card
        return _told(
            {
                "sm_clock_mhz": lambda: nvml.nvmlDeviceGetClockInfo(card, nvml.NVML_CLOCK_SM),
                "memory_clock_mhz": lambda: nvml.nvmlDeviceGetClockInfo(card, nvml.NVML_CLOCK_MEM),
                "max_sm_clock_mhz": lambda: nvml.nvmlDeviceGetMaxClockInfo(card, nvml.NVML_CLOCK_SM),
                "temperature_c": lambda: nvml.nvmlDeviceGetTemperature(card, nvml.NVML_TEMPERATURE_GPU),
                "power_w": lambda: nvml.nvmlDeviceGetPowerUsage(card) / 1e3,
                "power_limit_w": lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(card) / 1e3,
                "throttle": lambda: throttle_words(_reasons(nvml, card)),
                "utilisation": lambda: nvml.nvmlDeviceGetUtilizationRates(card).gpu / 100,
                "foreign_processes": lambda: _foreign(nvml, card, self.family),
            }
        )

    def card(self) -> Reading:
        """What holds for a card as long as nobody sets it up anew: driver, MIG, clocks and power limit as set."""
        if self._card is None:
            return {}
        nvml, card = self._nvml, self._card
        return _told(
            {
                "driver": lambda: _text(nvml.nvmlSystemGetDriverVersion()),
                "mig": lambda: bool(nvml.nvmlDeviceGetMigMode(card)[0]),
                # a lock by `nvidia-smi --lock-gpu-clocks` shows as a reason while it binds, and else not at all
                "gpu_clocks": lambda: "locked" if _reasons(nvml, card) & APPLICATIONS else "unknown",
                "gpu_applications_clock_mhz": lambda: nvml.nvmlDeviceGetApplicationsClock(card, nvml.NVML_CLOCK_SM),
                "gpu_power_limit_w": lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(card) / 1e3,
            }
        )


def summarised(readings: Sequence[Reading]) -> Reading:
    """What the readings of a process say together; `throttle` holds every reason that was ever there."""
    found: Reading = {"readings": len(readings)} if readings else {}

    def values(key: str) -> list[Any]:
        return [reading[key] for reading in readings if key in reading]

    for key in SPREAD:
        if seen := values(key):
            found |= {f"{key}_min": min(seen), f"{key}_median": median(seen), f"{key}_max": max(seen)}
    found |= {f"{key}_max": max(values(key)) for key in LARGEST if values(key)}
    found |= {key: values(key)[-1] for key in CONSTANT if values(key)}
    found |= {key: values(key)[-1] - values(key)[0] for key in GROWING if len(values(key)) > 1}
    if seen := values("throttle"):
        found["throttle"] = tuple(sorted({word for words in seen for word in words}))
    return found


def warnings(readings: Sequence[Reading]) -> tuple[str, ...]:
    """Sentences about what puts times in doubt, each with the next step."""
    seen = summarised(readings)
    cap = "compare only with runs at this limit, or lock a lower clock: nvidia-smi --lock-gpu-clocks"
    said = [
        _throttled(readings, HOT, "the GPU slowed itself down", "let it cool down, look after its fans and supply"),
        _throttled(readings, CAPPED, "the GPU ran at its power limit", cap),
    ]
    clock, largest = seen.get("sm_clock_mhz_median"), seen.get("max_sm_clock_mhz")
    if clock and largest and clock < SLOW_CLOCK * largest:
        said.append(f"the GPU ran at {clock:.0f} MHz, {percent(clock / largest)} of its largest clock: see why with "
                    "nvidia-smi -q -d CLOCK,PERFORMANCE, or take larger batches if it waits for the CPU")  # fmt: skip
    if foreign := seen.get("foreign_processes_max"):
        whose = "1 other process" if foreign == 1 else f"{foreign} other processes"
        said.append(f"{whose} held the GPU: see nvidia-smi, and end them or take another GPU")
    if seen.get("thermal_throttles"):
        said.append("the processor slowed itself down to cool: let it cool down, or run fewer threads")
    if fault := seen.get("nvml_fault"):
        step = "pip install nvidia-ml-py" if "not installed" in fault else "see whether nvidia-smi works"
        said.append(f"clocks, temperature and other programs of the GPU are unknown ({fault}): {step}")
    return tuple(one for one in said if one)


def throttle_words(reasons: int) -> tuple[str, ...]:
    """The words of NVML's bit mask. Between rounds a card is idle for a moment, so that idle says nothing."""
    words = [word for bit, word in THROTTLE.items() if reasons & bit]
    unknown = reasons & ~(IDLE | sum(THROTTLE))
    return tuple(words + [f"bit_{place}" for place in range(unknown.bit_length()) if unknown >> place & 1])


def _throttled(readings: Sequence[Reading], reasons: Sequence[str], what: str, step: str) -> str:
    told = [reading["throttle"] for reading in readings if "throttle" in reading]
    words = [word for word in reasons if any(word in one for one in told)]
    often = sum(any(word in one for word in words) for one in told)
    return f"{what} ({listed(words)}, in {often} of {len(told)} readings): {step}" if words else ""


def _told(wanted: dict[str, Callable[[], Any]]) -> Reading:
    found: Reading = {}
    for key, ask in wanted.items():
        # a card, a driver or a package that does not know a question answers with an error: then the key is absent
        with contextlib.suppress(Exception):
            found[key] = ask()
    return {key: value for key, value in found.items() if value is not None}


def _handle(nvml: Any, device: str) -> Any:
    """The card behind a CUDA device, whose number means nothing to NVML where CUDA_VISIBLE_DEVICES picks and orders."""
    import torch

    card: Any = torch.cuda.get_device_properties(device)  # torch's own types leave the address out
    with contextlib.suppress(Exception):  # of a slice of a card (MIG) the UUID is none of a card
        return nvml.nvmlDeviceGetHandleByUUID(f"GPU-{card.uuid}")
    address = f"{card.pci_domain_id:08x}:{card.pci_bus_id:02x}:{card.pci_device_id:02x}.0"
    return nvml.nvmlDeviceGetHandleByPciBusId(address)


def _reasons(nvml: Any, card: Any) -> int:
    ask = getattr(nvml, "nvmlDeviceGetCurrentClocksEventReasons", None)
    with contextlib.suppress(Exception):  # a driver older than 535 knows the older name alone
        if ask is not None:
            return int(ask(card))
    return int(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(card))


def _foreign(nvml: Any, card: Any, family: int) -> int | None:
    """Processes that compute on the card and are not ours; None where the list cannot be read as ours.

    We compute there ourselves. A list without us counts other numbers than we do, as in a container, or is cut down.
    """
    pids = {process.pid for process in nvml.nvmlDeviceGetComputeRunningProcesses(card)}
    if os.getpid() not in pids or not PROCESSES.is_dir():
        return None
    return sum(not _descends(pid, family) for pid in pids)


def _descends(pid: int, family: int) -> bool:
    with contextlib.suppress(OSError, ValueError, IndexError):
        while pid > 1 and pid != family:
            # the name before the last parenthesis may hold anything
            pid = int((PROCESSES / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    return pid == family


def _processors() -> Reading:
    """The clocks of our processors, and the load."""
    found: Reading = {}
    numbers = sorted(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ())[:MOST_CPUS]
    clocks = [value / 1e3 for value in _numbers(numbers, "cpufreq/scaling_cur_freq")] or _cpuinfo()
    if clocks:
        found["cpu_mhz"] = sum(clocks) / len(clocks)
    if throttles := _numbers(numbers, "thermal_throttle/package_throttle_count"):
        found["thermal_throttles"] = sum(throttles)
    with contextlib.suppress(OSError, AttributeError):
        found["load_1min"] = os.getloadavg()[0]
    return found


def _numbers(cpus: Sequence[int], file: str) -> list[int]:
    """One number from a file of every processor; none where one has none."""
    with contextlib.suppress(OSError, ValueError):
        return [int((CPUS / f"cpu{number}" / file).read_text()) for number in cpus]
    return []


def _cpuinfo() -> list[float]:
    with contextlib.suppress(OSError, ValueError), CPUINFO.open(encoding="utf-8", errors="replace") as opened:
        lines = [line.partition(":") for line in opened.read(MOST_CPUINFO).splitlines()[:-1]]
        return [float(value) for key, _, value in lines if key.strip() == "cpu MHz"]
    return []


def _text(value: str | bytes) -> str:
    return printable(value.decode(errors="replace") if isinstance(value, bytes) else value)
