"""`explain --memory` as a user meets it."""

from __future__ import annotations

import json

import pytest

from metablocks.cli import main

TINY = """# a tiny network
net: classifier
image: {size: 32}
classes: 10
stem: {patch_embed: {patch: 8}}
block: {norm: layer_norm, mixer: pooling, mlp: {ratio: 2}}
stages: [{dim: 16, depth: 2}]
head: {pool: mean}
"""


@pytest.fixture
def explain(monkeypatch, capsys, tmp_path):
    """Runs `explain` on a tiny network; returns its exit code, stdout and stderr."""
    monkeypatch.setenv("METABLOCKS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "tiny.yaml").write_text(TINY)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["metablocks", "explain", str(tmp_path / "tiny.yaml"), *arguments])
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_the_memory_of_a_call_and_of_a_step_follow_the_blocks(explain):
    code, out, _ = explain("--memory")
    blocks, memory = out.split("\n\n")[1:]
    assert code == 0
    assert "total" in blocks
    assert [line.split()[:3] for line in memory.splitlines()[2:4]] == [
        ["infer", "8", "float32"],
        ["train", "8", "float32"],
    ]
    assert "without the images" in memory


def test_as_json_the_bytes_are_exact(explain):
    code, out, _ = explain("--memory", "--json", "--batch", "2", "--dtype", "amp_bfloat16", "--mode", "train")
    (told,) = json.loads(out)["memory"]
    assert code == 0
    assert (told["mode"], told["batch"], told["dtype"]) == ("train", 2, "amp_bfloat16")
    sizes = [told[f"{name}_bytes"] for name in ("parameters", "gradients", "optimiser", "activations")]
    assert sum(sizes) == told["peak_memory_bytes"]
    buffers = told["parameters_bytes"] - 4 * json.loads(out)["params"]
    assert 0 <= buffers < 100  # the drop rate of each branch


def test_without_memory_nothing_is_predicted(explain):
    _, out, _ = explain("--json")
    assert "memory" not in json.loads(out)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--batch", "0"], "a batch of 0"),
        (["--batch", "-3"], "a batch of -3"),
        (["--batch", "many"], "valid integer"),
        (["--dtype", "flot32"], "did you mean `float32`?"),
        (["--mode", "trian"], "did you mean `train`?"),
        (["--mode", "pretrain"], "tiny has no mode `pretrain`"),
    ],
)
def test_conditions_that_do_not_exist_are_bad_input(explain, arguments, told):
    code, out, err = explain("--memory", *arguments)
    assert (code, out) == (2, "")
    assert told in err


def test_conditions_without_memory_are_bad_input(explain):
    code, _, err = explain("--batch", "4")
    assert code == 2
    assert "add --memory" in err
