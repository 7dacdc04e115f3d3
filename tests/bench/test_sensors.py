"""What readings say together, what they warn of, and what the system tells of its processors."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from metablocks.bench import sensors
from metablocks.bench.sensors import Sensors, summarised, warnings


def _reading(**changed: object) -> dict[str, Any]:
    calm = {"sm_clock_mhz": 1900, "max_sm_clock_mhz": 1980, "temperature_c": 50, "throttle": (), "foreign_processes": 0}
    return calm | changed


def test_a_summary_holds_extremes_medians_and_every_reason() -> None:
    read = [
        _reading(sm_clock_mhz=1900, throttle=("power_cap",)),
        _reading(sm_clock_mhz=1500, temperature_c=80, foreign_processes=2),
        _reading(sm_clock_mhz=1800, throttle=("hardware_thermal", "power_cap")),
    ]
    assert summarised(read) == {
        "readings": 3,
        "sm_clock_mhz_min": 1500,
        "sm_clock_mhz_median": 1800,
        "sm_clock_mhz_max": 1900,
        "temperature_c_max": 80,
        "foreign_processes_max": 2,
        "max_sm_clock_mhz": 1980,
        "throttle": ("hardware_thermal", "power_cap"),
    }


def test_a_summary_of_nothing_is_empty_and_warns_of_nothing() -> None:
    assert summarised([]) == {}
    assert warnings([]) == ()
    assert warnings([{}]) == ()


def test_a_calm_card_is_not_warned_about() -> None:
    assert warnings([_reading(), _reading(throttle=("sync_boost",))]) == ()


@pytest.mark.parametrize(
    ("changed", "what", "step"),
    [
        ({"throttle": ("hardware_thermal",)}, "slowed itself down (hardware_thermal, in 1 of 2", "let it cool down"),
        ({"throttle": ("power_cap",)}, "ran at its power limit (power_cap, in 1 of 2 readings)", "--lock-gpu-clocks"),
        ({"sm_clock_mhz": 400}, "1150 MHz, 58 % of its largest clock", "nvidia-smi -q -d CLOCK"),
        ({"foreign_processes": 1}, "1 other process held the GPU", "end them"),
        ({"foreign_processes": 3}, "3 other processes held the GPU", "end them"),
    ],
)
def test_every_warning_says_what_was_seen_and_what_to_do(changed: dict[str, Any], what: str, step: str) -> None:
    (said,) = warnings([_reading(), _reading(**changed)])
    assert what in said
    assert step in said


def test_a_processor_that_throttled_while_rounds_ran_is_warned_about() -> None:
    read = [{"thermal_throttles": 7}, {"thermal_throttles": 9}]
    assert summarised(read)["thermal_throttles"] == 2
    assert "let it cool down" in warnings(read)[0]
    assert warnings(read[:1]) == ()
    assert warnings([read[0], read[0]]) == ()


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sensors, "CPUS", tmp_path)
    monkeypatch.setattr(sensors, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2}, raising=False)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.5, 1.0, 2.0), raising=False)
    return tmp_path


def test_clocks_of_our_processors_are_averaged(system: Path) -> None:
    for number, clock in enumerate((2_000_000, 9_000_000, 3_000_000)):
        (system / f"cpu{number}" / "cpufreq").mkdir(parents=True)
        (system / f"cpu{number}" / "cpufreq" / "scaling_cur_freq").write_text(f"{clock}\n")
    assert Sensors("cpu").read() == {"cpu_mhz": 2500.0, "load_1min": 0.5}


def test_without_a_frequency_driver_cpuinfo_tells(system: Path) -> None:
    (system / "cpuinfo").write_text(
        "processor\t: 0\ncpu MHz\t\t: 2600.000\n\nprocessor\t: 1\ncpu MHz\t\t: 2400.000\n\n"
    )
    assert Sensors("cpu").read()["cpu_mhz"] == 2500.0


def test_throttles_of_processors_are_counted(system: Path) -> None:
    for number in (0, 2):
        (system / f"cpu{number}" / "thermal_throttle").mkdir(parents=True)
        (system / f"cpu{number}" / "thermal_throttle" / "package_throttle_count").write_text("4\n")
    assert Sensors("cpu").read()["thermal_throttles"] == 8


def test_a_system_that_tells_nothing_gives_an_empty_reading(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (system / "cpuinfo").write_text("processor: 0\ncpu MHz: garbage\n\n")
    monkeypatch.delattr(os, "getloadavg")
    monkeypatch.delattr(os, "sched_getaffinity")
    assert Sensors("cpu").read() == {}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux is this quick to tell")
def test_a_reading_here_takes_less_than_two_milliseconds() -> None:
    from metablocks.bench.clock import Clock

    read = Sensors("cpu").read
    assert min(Clock("cpu").turn(read, rounds=20, calls=1, untimed=1)) < 2e-3
