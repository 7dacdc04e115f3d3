"""`bench --traffic`: its table, its JSON, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from .conftest import MIXERS, TINY, Done
from .test_session import AUTOENCODER

Command = Callable[..., Done]


def test_the_table_says_what_moves_and_what_is_estimated(command: Command) -> None:
    done = command("bench", "--traffic", str(TINY))
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert max(map(len, lines)) <= 100
    columns = ["network", "mode", "compile", "moved", "floor", "ratio", "kernels", "a", "block", "kept"]
    assert lines[0].split() == columns
    assert [line.split()[:3] for line in lines[2:4]] == [["tiny", "infer", "block"], ["tiny", "train", "block"]]
    assert "estimated, not measured" in done.out
    assert "products: of a spec in templates of inductor" in done.out
    assert done.err.splitlines() == ["1 of 2: tiny, block, infer", "2 of 2: tiny, block, train"]
    assert not list(Path.cwd().iterdir())  # no record


def test_json_has_every_number_and_every_kind_of_kernel(command: Command) -> None:
    done = command("bench", "--traffic", str(TINY), "--compile", "none,block", "--mode", "infer", "--json")
    assert done.code == 0, done.err
    data = json.loads(done.out)
    eager, compiled = data["networks"]
    assert data["conventions"][0].startswith("estimated")
    assert (eager["compile"], compiled["compile"]) == ("none", "block")
    assert compiled["elements"] < eager["elements"]
    assert eager["floor_elements"] == compiled["floor_elements"]
    assert compiled["ratio"] == compiled["elements"] / compiled["floor_elements"] > 1
    assert sum(row["elements"] for row in compiled["rows"]) == compiled["elements"]
    assert sum(row["times"] for row in compiled["rows"]) == compiled["fused"] + compiled["extern"] + compiled["eager"]
    assert compiled["saved_elements"] is None


def test_the_kernels_that_move_the_most_are_listed(command: Command) -> None:
    done = command("bench", "--traffic", str(TINY), "--mode", "infer", "--per-block")
    assert done.code == 0, done.err
    assert "tiny, block, infer\nkernel" in done.out
    assert max(map(len, done.out.splitlines())) <= 100


def test_a_share_of_the_activations_is_kept(command: Command) -> None:
    kept = []
    attention = ("--set", "stages.0.dim=16", "--set", "stages.0.mixer={attention: {heads: 2}}")
    for options in ((), ("--checkpoint", "0.5"), ("--checkpoint", "block")):
        asked = ("--mode", "train", "--compile", "block", "--json")
        done = command("bench", "--traffic", str(TINY), *asked, *attention, *options)
        assert done.code == 0, done.err
        kept.append(json.loads(done.out)["networks"][0]["saved_elements"])
    assert kept[0] > kept[1] > kept[2] > 0


def test_training_a_masked_autoencoder_is_pretraining(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(json.dumps(AUTOENCODER))
    done = command("bench", "--traffic", str(path), "--mode", "train", "--json")
    assert done.code == 0, done.err
    (found,) = json.loads(done.out)["networks"]
    assert found["mode"] == "pretrain"
    assert found["saved_elements"] > 0


def test_a_network_that_fails_leaves_the_others_and_says_why(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(TINY.read_text().replace("mixer: pooling", "mixer: {faulty: {fault: raise}}"))
    wanted = ("bench", "--traffic", "--mode", "infer", "--compile", "none", "--mixers", str(MIXERS))
    done = command(*wanted, str(path), str(TINY))
    assert done.code == 4
    assert "failed: broken, none, infer: ValueError: this subject" in done.out
    assert max(map(len, done.out.splitlines())) <= 100
    assert "\x1b" not in done.out
    assert command(*wanted, str(path)).code == 1


def test_batches_and_mixed_precision_are_refused(command: Command) -> None:
    done = command("bench", "--traffic", str(TINY), "--batch", "8")
    assert done.code == 2
    assert "leave out --batch" in done.err
    done = command("bench", "--traffic", str(TINY), "--dtype", "amp_bfloat16")
    assert done.code == 2
    assert "--traffic counts no amp_bfloat16" in done.err


def test_the_headline_networks_are_what_is_counted_when_nothing_is_named() -> None:
    from metablocks.cli.choices import Given
    from metablocks.cli.traffic import HEADLINE, planned_cases

    found = list(planned_cases(HEADLINE, Given(), False, (), ()))
    assert [(one.subject.name, one.mode) for one in found[-4:]] == [
        ("poolformer_s12", "infer"),
        ("poolformer_s12", "train"),
        ("mae_vit_b16", "infer"),
        ("mae_vit_b16", "pretrain"),
    ]
