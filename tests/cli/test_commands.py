"""The commands as a user meets them: output, errors, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters

from metablocks.cli import main

GOLDEN = Path(__file__).with_name("golden")
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
def run(monkeypatch, capsys, tmp_path):
    """Runs a command in an empty folder; returns its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("METABLOCKS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "tiny.yaml").write_text(TINY)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["metablocks", *arguments])
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


SHOWN = [
    "swin_t",
    "mae_vit_b16",
    "mixer_b16",
    "poolformer_s12",
    "metaformer_ppaa_s12",
    "caformer_s18",
    "randformer_s12",
]


@pytest.mark.parametrize("name", SHOWN)
def test_explain_prints_every_derived_number(run, name):
    code, out, err = run("explain", name)
    assert (code, err) == (0, "")
    assert out == (GOLDEN / f"{name}.txt").read_text()


def test_explain_as_json_holds_the_blocks(run):
    code, out, _ = run("explain", "tiny.yaml", "--json")
    blocks = json.loads(out)["blocks"]
    assert code == 0
    assert [block["part"] for block in blocks] == ["stem", "stages.0.0", "stages.0.1", "head"]
    assert all(isinstance(block["params"], int) for block in blocks)


def test_build_prints_the_table_with_exact_totals(run):
    code, out, _ = run("build", "swin_t", "--compile", "none")
    assert code == 0
    assert "28,288,354 parameters" in out
    assert "4,490,566,656 MACs, 8,981,133,312 FLOPs" in out


def test_build_of_a_masked_autoencoder_splits_its_macs(run):
    code, out, _ = run("build", "mae_vit_b16", "--compile", "none")
    assert code == 0
    assert "111,907,840 parameters, 252,160 of them frozen" in out
    assert "encoder 4,408,418,304 MACs + decoder 5,372,715,008 MACs" in out


def test_build_as_json_keeps_units_in_its_keys(run):
    code, out, _ = run("build", "tiny.yaml", "--compile", "none", "--json")
    data = json.loads(out)
    assert code == 0
    assert data["flops"] == 2 * data["macs"]
    assert {"params", "macs", "convention", "build_s", "first_call_s", "forward_s"} <= set(data)


def test_build_says_whether_its_graphs_came_from_the_cache(run, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    told = []
    for _ in range(2):
        torch._dynamo.reset()
        counters.clear()
        told.append(run("build", "tiny.yaml", "--compile", "model")[1].splitlines()[-1])
    assert "(graphs compiled), forward" in told[0]
    assert "(graphs from the cache), forward" in told[1]


def test_build_refuses_a_cuda_graph_on_a_cpu(run):
    code, out, err = run("build", "tiny.yaml", "--cuda-graph")
    assert (code, out) == (2, "")
    assert "use --device cuda" in err


def test_set_edits_the_spec_and_its_errors_point_at_the_flag(run):
    assert run("check", "swin_t", "--set", "stages.2.mixer=pooling")[0] == 0
    code, out, err = run("check", "swin_t", "--set", "stages.2.mixer=poolin")
    assert (code, out) == (2, "")
    assert "--set stages.2.mixer=poolin" in err
    assert "did you mean `pooling`?" in err


def test_check_tells_the_faults_of_every_file(run, tmp_path):
    (tmp_path / "bad.yaml").write_text(TINY.replace("depth", "detph"))
    code, out, err = run("check", "tiny.yaml", "bad.yaml")
    assert code == 2
    assert out == "tiny.yaml: ok\n"
    assert "bad.yaml:7:20" in err
    assert "Traceback" not in err


def test_bad_input_ends_with_two_and_writes_nothing(run, tmp_path):
    before = sorted(tmp_path.iterdir())
    for arguments in (["build", "swin_tt"], ["build", "no.yaml"], ["explain", "tiny.yaml", "--set", "classes=x"]):
        code, out, err = run(*arguments)
        assert (code, out) == (2, "")
        assert err.startswith("error: ")
    assert sorted(tmp_path.iterdir()) == before


def test_a_device_that_is_not_there_ends_with_six(run):
    assert run("build", "tiny.yaml", "--device", "cuda:77")[0] == 6


def test_a_missing_compiler_ends_with_six_and_names_the_way_out(tmp_path):
    (tmp_path / "tiny.yaml").write_text(TINY)
    environment = os.environ | {"CXX": "/nonexistent/g++", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "metablocks", "build", "tiny.yaml"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 6
    assert "--compile none" in done.stderr
    assert "Traceback" not in done.stderr


def test_specs_lists_every_shipped_network_with_its_first_line(run):
    code, out, _ = run("specs", "--json")
    assert code == 0
    assert "arXiv:2103.14030" in json.loads(out)["swin_t"]


def test_mixers_lists_and_explains(run):
    assert "window_attention" in run("mixers")[1]
    code, out, _ = run("mixers", "pooling")
    assert code == 0
    assert "side of the pooling window" in out
    assert "needs every token of its grid" in out
    assert run("mixers", "polling")[0] == 2


LOOSE = '''
"""Every token becomes the mean of all tokens."""
from dataclasses import dataclass
from metablocks.core.mixer import Mixer, MixerSettings

@dataclass(frozen=True)
class Sizes:
    share: float

class Settings(MixerSettings):
    share: float = 1.0

    def resolve(self, dim, grid):
        return Sizes(self.share)

class Mean(Mixer):
    def forward(self, x, grid):
        return self.sizes.share * x.mean(1, keepdim=True).expand_as(x)
'''


def test_a_loose_mixer_is_used_by_its_file_name(run, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "mean_of_all.py").write_text(LOOSE)
    edit = "stages.0.mixer={mean_of_all: {share: 0.5}}"
    code, out, _ = run("build", "tiny.yaml", "--compile", "none", "--mixers", "mine", "--set", edit)
    assert code == 0
    assert "mean_of_all" in out


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("raise SystemExit(0)", "SystemExit"),
        ("import nothing_of_that_name", "ModuleNotFoundError"),
        ("x = (", "SyntaxError"),
        ("", "holds 0 classes that extend `MixerSettings`"),
    ],
)
def test_a_mixer_file_that_cannot_be_used_is_told(run, tmp_path, text, told):
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / f"broken_{abs(hash(text))}.py").write_text(text)
    code, _, err = run("check", "tiny.yaml", "--mixers", "broken", "--set", f"stages.0.mixer=broken_{abs(hash(text))}")
    assert code == 2
    assert told in err
    assert "Traceback" not in err


@pytest.mark.parametrize("body", ["return 1 / 0", "return [dim]"])
def test_a_mixer_that_cannot_be_sized_is_told(run, tmp_path, body):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "unsized.py").write_text(LOOSE.replace("return Sizes(self.share)", body))
    code, _, err = run("explain", "tiny.yaml", "--mixers", "mine", "--set", "stages.0.mixer=unsized")
    assert code == 2
    assert "mixer `unsized` cannot be sized" in err


def test_a_machine_without_memory_is_told(run, monkeypatch):
    def allocate(*_, **__):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("metablocks.api.build", allocate)
    code, _, err = run("build", "tiny.yaml", "--compile", "none")
    assert code == 1
    assert err.startswith("error: out of memory")


def test_a_broken_mixer_that_nobody_names_spoils_nothing(run, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "spoilt.py").write_text("x = (")
    assert run("check", "tiny.yaml", "--mixers", "mine")[0] == 0
    code, _, err = run("check", "tiny.yaml", "--mixers", "mine", "--set", "stages.0.mixer={pooling: {head_dim: 8}}")
    assert code == 2
    assert "`head_dim` belongs to attention, " in err


def test_a_loose_mixer_cannot_take_the_name_of_a_shipped_one(run, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "pooling.py").write_text(LOOSE)
    code, _, err = run("check", "tiny.yaml", "--mixers", "mine")
    assert code == 2
    assert "mixer `pooling` is in" in err
    assert run("check", "tiny.yaml", "--mixers", "nowhere")[0] == 2
