"""A case in its worker, command by command. Here without a worker: what each command comes to, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from metablocks.bench import models, peaks
from metablocks.bench.case import Case
from metablocks.bench.failures import CaseFailedError
from metablocks.bench.session import Session
from metablocks.bench.subject import subject
from metablocks.core import heap
from metablocks.kernels import trial

from .conftest import SPEC, case

AUTOENCODER = {
    "net": "masked_autoencoder",
    "image": {"size": [32, 32], "channels": 3},
    "mask": {"ratio": 0.75},
    "block": {"norm": "layer_norm", "mixer": {"attention": {"head_dim": 4}}, "mlp": {"ratio": 1.0}},
    "encoder": {
        "stem": {"patch_embed": {"patch": [8, 8]}},
        "position": "sincos_2d",
        "stages": [{"dim": 8, "depth": 1}],
        "norm": "layer_norm",
    },
    "decoder": {"position": "sincos_2d", "stages": [{"dim": 8, "depth": 1}], "norm": "layer_norm"},
    "target": {"pixels": {"normalize": "patch"}},
}


@pytest.fixture(autouse=True)
def _quick_peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peaks, "peaks", lambda device, dtypes: {f"peak_flops_per_s_{dtypes[0]}": 1e15})  # noqa: ARG005


def session(one: Case) -> tuple[Session, list[str]]:
    told: list[str] = []
    return Session(one, told.append), told


def all_of(one: Case, **finish: bool) -> dict[str, dict[str, Any]]:
    """What every command of a measurement comes to; all of it plain data."""
    made, _ = session(one)
    told = {"prepare": made.do("prepare"), "warm_up": made.do("warm_up", what="batches", limit_s=0.01)}
    told["turn"] = made.do("turn", what="batches", calls=2, rounds=3, untimed=1)
    if one.mode == "infer":
        told["singles"] = made.do("warm_up", what="singles", limit_s=0.01)
        made.do("turn", what="singles", calls=1)
    else:
        told["parts"] = made.do("parts", rounds=2)
    told["finish"] = made.do("finish", **finish)
    assert made.over
    json.dumps(told)
    return told


def source(tmp_path: Path, body: str, **conditions: Any) -> Case:
    """A case of a network of a file: the body of its `forward(self, x)`."""
    file = tmp_path / "mine.py"
    text = f"import torch\nclass Net(torch.nn.Linear):\n    calls = 0\n    def forward(self, x):\n{body}\n"
    file.write_text(f"{text}def net(): return Net(4, 4), torch.ones(1, 4)\n")
    return replace(case(), subject=subject(f"{file}:net"), **conditions)


def test_a_session_that_infers_tells_of_network_times_and_memory() -> None:
    told = all_of(case())
    prepared, finished = told["prepare"], told["finish"]
    assert prepared["image"] == (16, 16)
    assert prepared["costs"]["macs"] > 0
    assert prepared["costs"]["flops"] == 2 * prepared["costs"]["macs"]
    assert {"torch", "threads"} <= set(prepared["environment"])
    assert prepared["environment"].get("freed_memory") == ("kept" if heap.keeps() else None)
    assert prepared["build_s"] > 0
    assert prepared["first_call_s"] > 0
    assert "compiled" not in prepared
    assert {"steady", "calls", "seconds", "call_s", "overhead_s"} == set(told["warm_up"])
    assert told["singles"]["first_call_s"] > 0
    assert len(told["turn"]["rounds_s"]) == 3
    assert finished["memory"]["parameters_bytes"] > 0
    assert finished["memory"]["gradients_bytes"] == 0
    assert finished["predicted_bytes"] > 0
    assert finished["peaks"] == {"peak_flops_per_s_float32": 1e15}
    assert "parts" not in finished


def test_a_session_that_trains_times_the_parts_of_a_step() -> None:
    told = all_of(case(mode="train"))
    assert {name: len(spans) for name, spans in told["parts"]["parts_s"].items()} == {
        "forward": 2,
        "backward": 2,
        "optimiser": 2,
    }
    memory = told["finish"]["memory"]
    assert memory["gradients_bytes"] > 0
    assert memory["optimiser_bytes"] >= 2 * memory["parameters_bytes"]


def test_a_masked_autoencoder_is_pretrained() -> None:
    one = case(mode="pretrain")
    told = all_of(replace(one, subject=replace(one.subject, text=json.dumps(AUTOENCODER, sort_keys=True))))
    assert told["prepare"]["costs"]["macs"] > 0
    assert set(told["parts"]["parts_s"]) == {"forward", "backward", "optimiser"}


@pytest.mark.parametrize(
    "conditions",
    [
        {"dtype": "amp_bfloat16"},
        {"dtype": "amp_bfloat16", "mode": "train"},
        {"dtype": "bfloat16"},
        {"dtype": "float64"},
        {"channels_last": True},
        {"checkpoint": True, "mode": "train"},
    ],
    ids=str,
)
def test_every_condition_goes_through_a_whole_session(conditions: dict[str, Any]) -> None:
    told = all_of(case(**conditions))
    assert told["turn"]["rounds_s"][0] > 0
    assert told["prepare"]["costs"]["macs"] == all_macs()


def all_macs() -> int:
    found = models.costs(models.load(case())).macs
    assert found is not None
    return found


@pytest.mark.parametrize(("checkpoint", "times"), [(False, 1), (True, 2)])
def test_checkpointing_runs_a_block_again_for_the_backward_pass(checkpoint: bool, times: int) -> None:
    made, _ = session(case(mode="train", checkpoint=checkpoint))
    made.prepare()
    ran: list[nn.Module] = []
    for module in made.subject.model.modules():
        if type(module).__name__ == "Pooling":
            module.register_forward_pre_hook(lambda module, _: ran.append(module))
    made.work["batches"].call()
    assert len(ran) == times


def test_where_the_time_goes_is_told_where_it_is_asked_for() -> None:
    parts = all_of(case(), per_block=True)["finish"]["parts"]
    assert {"stem", "mixer", "mlp", "norm", "head"} <= {row["what"] for row in parts}
    assert sum(row["share"] for row in parts) == pytest.approx(1)


def test_only_the_commands_of_a_session_are_its_commands() -> None:
    made, _ = session(case())
    for word in ("", "_costs", "case", "__init__"):
        with pytest.raises(KeyError):
            made.do(word)


def test_a_look_builds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "load", lambda _: 1 / 0)
    made, told = session(case())
    assert made.do("look")["environment"]["torch"] == torch.__version__
    assert told == []


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_an_output_that_is_not_finite_is_never_timed(tmp_path: Path, value: str) -> None:
    made, told = session(source(tmp_path, f"        return x * float('{value}')"))
    with pytest.raises(CaseFailedError, match="not finite") as failed:
        made.prepare()
    assert failed.value.failure == "nan_output"
    assert not any("timing" in phase or "warming" in phase for phase in told)


def test_an_output_that_stops_to_be_finite_loses_the_times(tmp_path: Path) -> None:
    body = "        self.calls += 0 if x.is_meta else 1\n        return x / (self.calls < 5)"
    made, _ = session(source(tmp_path, body))
    made.prepare()
    for _ in range(6):
        made.warm_up("batches", 0.0)
    with pytest.raises(CaseFailedError, match="not finite any more after the timing") as failed:
        made.finish()
    assert failed.value.failure == "nan_output"


def test_a_network_that_becomes_another_one_loses_the_times(tmp_path: Path) -> None:
    body = "        self.calls += 0 if x.is_meta else 1\n        return x * (1 + (self.calls > 5))"
    made, _ = session(source(tmp_path, body))
    made.prepare()
    for _ in range(6):
        made.warm_up("batches", 0.0)
    with pytest.raises(CaseFailedError, match=r"differ by 1 of the largest value") as failed:
        made.finish()
    assert failed.value.failure == "mismatch"


class Compiled(nn.Module):
    """What a compiler may make of a network: the same and something on top."""

    def __init__(self, inner: nn.Module, extra: float) -> None:
        super().__init__()
        self.inner, self.extra = inner, extra

    def forward(self, x: Tensor) -> Any:
        return self.inner(x) + self.extra


@pytest.mark.parametrize(("extra", "allowed"), [(0.0, True), (1e-7, True), (1.0, False), (float("nan"), False)])
def test_compiled_outputs_are_held_against_eager_ones_before_anything_is_timed(
    monkeypatch: pytest.MonkeyPatch, extra: float, allowed: bool
) -> None:
    made, told = session(case(compile="model"))

    def compiled(one: Case, found: models.Subject) -> None:  # noqa: ARG001
        made.work["batches"].model = Compiled(found.model, extra)

    monkeypatch.setattr(models, "compile_subject", compiled)
    if allowed:
        seen = made.prepare()["compiled"]
        assert seen["eager_difference"] <= seen["eager_difference_limit"] == 1e-3
        assert seen["compile_cache"] in ("cold", "warm", "mixed")
        assert told == ["building", "calling for the first time", "compiling", "counting"]
        return
    with pytest.raises(CaseFailedError, match=r"where 0\.001 is allowed in float32") as failed:
        made.prepare()
    assert failed.value.failure == "mismatch"


def test_a_network_that_is_random_when_it_trains_is_not_held_against_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    text = json.dumps({**SPEC, "drop_path": 0.9, "stages": [{"dim": 8, "depth": 4}]}, sort_keys=True)
    one = case(mode="train", compile="model")
    made, _ = session(replace(one, subject=replace(one.subject, text=text)))
    monkeypatch.setattr(models, "compile_subject", lambda case, found: None)  # noqa: ARG005
    assert "eager_difference" not in made.prepare()["compiled"]


def test_what_runs_on_neither_meta_nor_in_a_counter_has_unknown_macs_and_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "costs", lambda _: 1 / 0)
    told = all_of(source(tmp_path, "        return super().forward(x)"))
    assert told["prepare"]["costs"] == {
        "warning": "MACs are unknown: it does not run on the meta device (ZeroDivisionError)"
    }
    assert told["turn"]["rounds_s"]
    assert "predicted_bytes" not in told["finish"]


def test_a_network_that_reads_its_values_is_counted_for_real(tmp_path: Path) -> None:
    body = "        return super().forward(x).index_select(0, torch.nonzero(x[:, 0]).flatten())"
    assert session(source(tmp_path, body))[0].prepare()["costs"]["macs"] == 16


def test_what_was_chosen_by_trial_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_known", {("here", "attention"): trial.Verdict("flash")})
    assert all_of(case())["finish"]["tried"] == {"attention": "flash"}
