"""Where a case ran, what of it makes two runs alike, and what of it puts times in doubt."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from metablocks.bench import environment as place
from metablocks.bench import sensors
from metablocks.bench.environment import CONDITIONS, environment, fingerprint, variables, versions, warnings

SEEN = {
    "python": "3.11.7",
    "torch": "2.13.0",
    "device_name": "a processor",
    "threads": 2,
    "sdpa_backends": ["flash", "math"],
    "variables": {"OMP_NUM_THREADS": "2"},
    "load_1min": 0.4,
    "platform": "Linux-6.1",
}


def test_an_environment_is_plain_data_without_gaps() -> None:
    found = environment("cpu")
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert None not in found.values()
    assert {"python", "torch", "device_name", "threads", "interop_threads", "deterministic", "sdpa_backends"} <= {
        *found
    }
    assert not {"cuda", "driver", "cudnn_benchmark"} & set(found)


def test_an_environment_names_neither_the_machine_nor_its_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/home/somebody/cache")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-8b3a")
    monkeypatch.setenv("TORCH_HUB_TOKEN", "secret")
    told = json.dumps(environment("cpu"))
    assert not [word for word in ("somebody", "8b3a", "secret") if word in told]


def test_a_cuda_environment_tells_flags_and_what_the_card_is_set_to(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    card = SimpleNamespace(name="a card", total_memory=1 << 30, major=9, minor=0, uuid="8b3a")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: card)
    monkeypatch.setattr(sensors, "Sensors", lambda _: SimpleNamespace(card=lambda: {"driver": "550", "mig": True}))
    found = environment("cuda:0")
    told = {"device_name": "a card", "compute_capability": "9.0", "driver": "550", "mig": True}
    assert found.items() >= told.items()
    assert {"cudnn_benchmark", "cudnn_allow_tf32", "matmul_allow_tf32"} <= set(found)
    assert "8b3a" not in str(found)


def test_a_flag_that_torch_refuses_to_tell_is_left_out() -> None:
    def mixed() -> bool:
        raise RuntimeError("mixed use of old and new flags")

    assert place._flag(mixed) is None
    assert place._flag(lambda: False) is False


def test_the_same_conditions_have_one_fingerprint_whatever_the_load() -> None:
    assert fingerprint(SEEN) == fingerprint(SEEN | {"load_1min": 9.0, "platform": "Linux-6.2", "python": "3.11.9"})
    assert fingerprint(SEEN) == fingerprint(json.loads(json.dumps(dict(reversed(SEEN.items())))))
    assert len(fingerprint({})) == 16


@pytest.mark.parametrize(
    "changed",
    [
        {"threads": 4},
        {"python": "3.12.0"},
        {"torch": "2.14.0"},
        {"driver": "550.54.15"},
        {"sdpa_backends": ["math"]},
        {"variables": {"OMP_NUM_THREADS": "4"}},
        {"deterministic": True},
        {"cpu_quota": 1.5},
    ],
)
def test_other_conditions_have_another_fingerprint(changed: dict[str, Any]) -> None:
    assert fingerprint(SEEN) != fingerprint(SEEN | changed)


def test_a_fingerprint_covers_only_keys_that_something_fills_in() -> None:
    own = Path(place.__file__).read_text(encoding="utf-8").partition("def environment(")[2]
    source = own + Path(sensors.__file__).read_text(encoding="utf-8")
    of_peers = {"timm", "torchvision"}  # by `versions`, where they are measured
    assert [key for key in CONDITIONS if f'"{key}"' not in source and key not in of_peers] == []


def test_variables_that_change_speed_are_kept_and_others_are_not() -> None:
    environ = {
        "OMP_NUM_THREADS": "4",
        "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
        "TORCHINDUCTOR_MAX_AUTOTUNE": "1",
        "TORCH_LOGS": "all",
        "TORCH_HOME": "/home/somebody",
        "CUDA_PATH": "/opt/cuda",
        "HOME": "/home/somebody",
        "LD_PRELOAD": "/opt/lib/libtcmalloc.so.4:/opt/lib/other.so",
    }
    assert variables(environ) == {
        "LD_PRELOAD": "libtcmalloc.so.4 other.so",
        "OMP_NUM_THREADS": "4",
        "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
        "TORCHINDUCTOR_MAX_AUTOTUNE": "1",
    }


def test_variables_are_bounded_and_safe_to_print() -> None:
    found = variables({f"TORCH_{number:03}": "\x1b[31m" + "x" * 10_000 for number in range(1000)})
    assert len(found) == place.MOST_VARIABLES
    assert all(len(value) < 120 and value.isprintable() for value in found.values())


def test_versions_are_of_what_is_installed() -> None:
    assert set(versions(("torch", "no-such-package-at-all"))) == {"torch"}


@pytest.mark.parametrize("value", ["abc", "0", "-1", "", "2.5", "4,", "4,x"])
def test_a_number_of_threads_that_is_none_is_warned_about(value: str) -> None:
    (said,) = warnings({"variables": {"OMP_NUM_THREADS": value}})
    assert f"OMP_NUM_THREADS is `{value}`" in said
    assert "unset it" in said


@pytest.mark.parametrize("value", ["1", "16", "4,2", " 4 "])
def test_a_number_of_threads_is_not_warned_about(value: str) -> None:
    assert warnings({"variables": {"OMP_NUM_THREADS": value}}) == ()


@pytest.mark.parametrize(
    ("found", "what", "step"),
    [
        ({"threads": 8, "cpus": 2}, "8 threads share 2 processors", "OMP_NUM_THREADS=2"),
        ({"threads": 4, "cpus": 8, "cpu_quota": 1.5}, "quota of 1.5 processors", "OMP_NUM_THREADS=1"),
        ({"nice": 10}, "nice 10", "start it without nice"),
        ({"variables": {"CUDA_LAUNCH_BLOCKING": "1"}}, "CUDA_LAUNCH_BLOCKING makes the CPU wait", "unset it"),
    ],
)
def test_a_setting_that_slows_everything_down_is_warned_about(found: dict[str, Any], what: str, step: str) -> None:
    (said,) = warnings(found)
    assert what in said
    assert step in said


def test_usual_settings_are_not_warned_about() -> None:
    usual = {"threads": 2, "cpus": 2, "cpu_quota": 2.0, "nice": 0, "variables": {"CUDA_LAUNCH_BLOCKING": "0"}}
    assert warnings(usual) == ()
    assert warnings({}) == ()


def test_the_chosen_word_of_a_setting_is_the_one_in_brackets() -> None:
    assert place._chosen("always [madvise] never") == "madvise"
    assert place._chosen("garbage") is None
    assert place._chosen(None) is None


@pytest.mark.parametrize(
    ("no_turbo", "boost", "found"), [("0", None, True), ("1", None, False), (None, "0", False), (None, None, None)]
)
def test_whether_processors_may_boost_is_read_from_either_driver(
    monkeypatch: pytest.MonkeyPatch, no_turbo: str | None, boost: str | None, found: bool | None
) -> None:
    monkeypatch.setattr(place, "_line", lambda file: no_turbo if file.endswith("no_turbo") else boost)
    assert place._boost() is found
