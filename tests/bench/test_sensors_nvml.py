"""What sensors tell of a card through NVML, which a stand-in plays here."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from metablocks.bench import sensors
from metablocks.bench.sensors import Sensors, throttle_words, warnings

CARD = SimpleNamespace(uuid="1234-abcd", pci_domain_id=1, pci_bus_id=0x3B, pci_device_id=0)


class NVMLError(Exception):
    """As NVML has it: every refusal is one of these."""


def _unsupported(*_: object) -> Any:
    raise NVMLError("Not Supported")


class Nvml(ModuleType):
    """NVML with two cards in another order than torch has them: what is asked of the wrong one is wrong."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.by_uuid, self.by_bus = {"GPU-1234-abcd": "ours"}, {"00000001:3b:00.0": "ours"}
        self.reasons, self.pids = 0x1, [os.getpid()]
        self.clocks, self.largest = {1: 1700, 2: 2600}, {1: 1980, 2: 2619}
        self.nvmlInit: Callable[[], None] = lambda: None
        self.nvmlDeviceGetCurrentClocksEventReasons = self._of(lambda: self.reasons)
        self.nvmlDeviceGetCurrentClocksThrottleReasons = self._of(lambda: self.reasons)
        self.nvmlDeviceGetTemperature = self._of(lambda: 61)
        self.nvmlDeviceGetPowerUsage = self._of(lambda: 512_500)
        self.nvmlDeviceGetEnforcedPowerLimit = self._of(lambda: 700_000)
        self.nvmlDeviceGetUtilizationRates = self._of(lambda: SimpleNamespace(gpu=87, memory=40))
        self.nvmlDeviceGetMigMode = self._of(lambda: [0, 0])

    def _of(self, tell: Callable[[], Any]) -> Callable[..., Any]:
        def ask(card: str, *_: object) -> Any:
            assert card == "ours", "the wrong card was asked"
            return tell()

        return ask

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        return self.by_uuid.get(uuid) or _unsupported()

    def nvmlDeviceGetHandleByPciBusId(self, address: str) -> str:  # noqa: N802
        return self.by_bus.get(address) or _unsupported()

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:  # noqa: N802
        raise AssertionError(f"card {index} was asked for by its number")

    def nvmlDeviceGetClockInfo(self, card: str, which: int) -> int:  # noqa: N802
        return self._of(lambda: self.clocks[which])(card)

    def nvmlDeviceGetMaxClockInfo(self, card: str, which: int) -> int:  # noqa: N802
        return self._of(lambda: self.largest[which])(card)

    def nvmlDeviceGetApplicationsClock(self, card: str, which: int) -> int:  # noqa: N802
        return self._of(lambda: self.largest[which])(card)

    def nvmlDeviceGetComputeRunningProcesses(self, card: str) -> list[SimpleNamespace]:  # noqa: N802
        return [SimpleNamespace(pid=pid) for pid in self._of(lambda: self.pids)(card)]

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return "550.54.15"


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Nvml:
    import torch

    found = Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", found)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: CARD)
    return found


@pytest.mark.usefixtures("nvml")
def test_a_card_tells_all_that_nvml_knows() -> None:
    assert Sensors("cuda:1").read() == {
        "sm_clock_mhz": 1700,
        "memory_clock_mhz": 2600,
        "max_sm_clock_mhz": 1980,
        "temperature_c": 61,
        "power_w": 512.5,
        "power_limit_w": 700.0,
        "throttle": (),
        "utilisation": 0.87,
        **({"foreign_processes": 0} if sensors.PROCESSES.is_dir() else {}),
    }


@pytest.mark.usefixtures("nvml")
def test_a_card_tells_how_it_is_set_up_and_not_which_it_is() -> None:
    card = Sensors("cuda").card()
    assert card == {
        "driver": "550.54.15",
        "mig": False,
        "gpu_clocks": "unknown",
        "gpu_applications_clock_mhz": 1980,
        "gpu_power_limit_w": 700.0,
    }
    assert "1234" not in str(card)


def test_clocks_that_are_held_count_as_locked(nvml: Nvml) -> None:
    nvml.reasons = 0x2
    assert Sensors("cuda").card()["gpu_clocks"] == "locked"


def test_a_slice_of_a_card_is_found_by_its_place_on_the_bus(nvml: Nvml) -> None:
    nvml.by_uuid = {}
    assert Sensors("cuda").read()["sm_clock_mhz"] == 1700


def test_what_a_card_cannot_tell_is_absent_and_the_rest_is_there(nvml: Nvml) -> None:
    nvml.nvmlDeviceGetPowerUsage = _unsupported
    nvml.clocks = {}
    found = Sensors("cuda").read()
    assert not {"power_w", "sm_clock_mhz", "memory_clock_mhz"} & set(found)
    assert found["temperature_c"] == 61


@pytest.mark.parametrize("fault", ["raises", "is not there"])
def test_reasons_are_read_by_their_older_name_too(nvml: Nvml, fault: str) -> None:
    nvml.reasons = 0x8
    if fault == "raises":
        nvml.nvmlDeviceGetCurrentClocksEventReasons = _unsupported
    else:
        del nvml.nvmlDeviceGetCurrentClocksEventReasons
    assert Sensors("cuda").read()["throttle"] == ("hardware_slowdown",)


def test_without_the_package_the_warning_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    reading = Sensors("cuda").read()
    assert reading == {"nvml_fault": "nvidia-ml-py is not installed"}
    (said,) = warnings([reading])
    assert said.endswith("pip install nvidia-ml-py")
    assert Sensors("cuda").card() == {}


def test_a_driver_that_does_not_answer_is_a_warning_and_no_crash(nvml: Nvml) -> None:
    nvml.nvmlInit = _unsupported
    reading = Sensors("cuda").read()
    assert reading == {"nvml_fault": "Not Supported"}
    assert "see whether nvidia-smi works" in warnings([reading])[0]


def test_a_card_that_nvml_does_not_have_is_a_warning_and_no_crash(nvml: Nvml) -> None:
    nvml.by_uuid, nvml.by_bus = {}, {}
    assert Sensors("cuda").read() == {"nvml_fault": "Not Supported"}


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (0x0, ()),
        (0x1, ()),
        (0x1 | 0x4, ("power_cap",)),
        (0x20 | 0x40, ("software_thermal", "hardware_thermal")),
        (0x1 << 40, ("bit_40",)),
    ],
)
def test_every_reason_has_a_word_and_idle_is_none(mask: int, words: tuple[str, ...]) -> None:
    assert throttle_words(mask) == words


def test_the_bits_are_those_of_the_real_package() -> None:
    pynvml = pytest.importorskip("pynvml")
    names = {
        "GpuIdle": sensors.IDLE,
        "ApplicationsClocksSetting": sensors.APPLICATIONS,
        **{name: bit for bit, word in sensors.THROTTLE.items() if (name := REAL.get(word, ""))},
    }
    for name, bit in names.items():
        assert getattr(pynvml, f"nvmlClocksThrottleReason{name}") == bit


REAL = {
    "power_cap": "SwPowerCap",
    "hardware_slowdown": "HwSlowdown",
    "sync_boost": "SyncBoost",
    "software_thermal": "SwThermalSlowdown",
    "hardware_thermal": "HwThermalSlowdown",
    "power_brake": "HwPowerBrakeSlowdown",
    "display_clocks": "DisplayClockSetting",
}


@pytest.fixture
def processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system in which 10 is a bench, 11 and 12 are its workers (12 with a compiler, 13) and 20 is somebody else."""
    for pid, parent in ((10, 1), (11, 10), (12, 10), (13, 12), (20, 1)):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (odd) name (x) S {parent} {pid} {pid} 0 -1\n")
    monkeypatch.setattr(sensors, "PROCESSES", tmp_path)
    monkeypatch.setattr(os, "getpid", lambda: 11)
    return tmp_path


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize(
    ("pids", "family", "foreign"),
    [
        ([11], None, 0),
        ([11, 12, 13], 10, 0),
        ([11, 12, 13], None, 2),
        ([11, 12, 20], 10, 1),
        ([11, 99], 10, 1),
        ([11, 11, 20, 20], 10, 1),
    ],
)
def test_processes_of_the_same_bench_are_not_foreign(
    nvml: Nvml, pids: list[int], family: int | None, foreign: int
) -> None:
    nvml.pids = pids
    assert Sensors("cuda", family).read()["foreign_processes"] == foreign


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize("pids", [[], [4711, 4712]])
def test_a_list_of_processes_without_us_is_not_believed(nvml: Nvml, pids: list[int]) -> None:
    nvml.pids = pids
    assert "foreign_processes" not in Sensors("cuda", 10).read()


@pytest.mark.gpu
def test_a_real_card_tells_its_clock() -> None:
    pytest.importorskip("pynvml")
    assert Sensors("cuda").read()["sm_clock_mhz"] > 0
