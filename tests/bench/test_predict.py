from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest

from metablocks.bench import memory
from metablocks.bench.predict import predicted
from metablocks.core.errors import MetablocksError
from metablocks.mixers import add_folder
from metablocks.plan import plan
from metablocks.spec import read

SCRIPT = Path(__file__).parents[2] / "bench" / "memory_error.py"
GIB = 1 << 30
CURIOUS = '''
"""A mixer that looks at values."""
from metablocks.core.mixer import Mixer, MixerSettings

class Settings(MixerSettings):
    def resolve(self, dim, grid):
        return dim

class Curious(Mixer):
    def forward(self, x, grid):
        return x if x.sum().item() > 0 else -x
'''


def of(name: str, mode: str = "infer", batch: int = 2, **conditions):
    return predicted(plan(read(name)), mode, batch, **conditions)


@pytest.mark.skipif(memory.resident("VmHWM") is None, reason="this system does not tell the peak of a process")
def test_predictions_are_within_a_tenth_of_what_is_measured():
    # in processes of their own; exit code 1 beyond a tenth
    command = [sys.executable, str(SCRIPT), "vit_ti16", "--infer", "4", "--train", "2"]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "largest error" in ended.stdout


def test_a_step_holds_weights_gradients_and_two_moments():
    found = of("vit_ti16", "train")
    trained = 5_717_416 * 4
    assert found.gradients_bytes == trained
    assert 0 <= found.parameters_bytes - trained < 4096  # the drop rate of each branch is a buffer
    moments = found.optimiser_bytes - 2 * trained
    assert 0 < moments < 4096  # the number of the step, one for each tensor
    parts = (found.parameters_bytes, found.gradients_bytes, found.optimiser_bytes, found.activations_bytes)
    assert sum(parts) == found.peak_bytes


def test_a_forward_pass_holds_weights_alone():
    found = of("vit_ti16")
    assert (found.gradients_bytes, found.optimiser_bytes) == (0, 0)
    assert found.peak_bytes == found.parameters_bytes + found.activations_bytes


def test_nothing_is_allocated_however_large_it_is():
    before = memory.resident()
    assert of("vit_h14", "train", 1024).peak_bytes > 100 * GIB
    after = memory.resident()
    assert before is None or after - before < GIB


def test_activations_grow_with_the_batch():
    small, large = (of("vit_ti16", "train", batch).activations_bytes for batch in (8, 16))
    assert large == pytest.approx(2 * small, rel=0.1)


def test_half_precision_halves_and_autocast_keeps_the_weights():
    single, half, mixed = (of("vit_ti16", dtype=dtype) for dtype in ("float32", "bfloat16", "amp_bfloat16"))
    assert half.parameters_bytes == single.parameters_bytes // 2
    assert mixed.parameters_bytes == single.parameters_bytes
    assert half.activations_bytes < single.activations_bytes


def test_both_half_precisions_are_predicted_alike_under_autocast():
    assert of("vit_ti16", "train", dtype="amp_float16") == of("vit_ti16", "train", dtype="amp_bfloat16")


def test_activation_checkpointing_lowers_the_peak():
    plain, recomputed = (of("vit_ti16", "train", 8, checkpoint=checkpoint) for checkpoint in (False, True))
    assert recomputed.activations_bytes < plain.activations_bytes / 2


def test_a_masked_autoencoder_pretrains():
    assert of("mae_vit_b16", "pretrain").gradients_bytes > 400 << 20


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "amp_float16"])
@pytest.mark.parametrize("name", ["vit_ti16", "swin_t"])
@pytest.mark.parametrize("mode", ["infer", "train"])
def test_cuda_is_predicted_without_cuda(name, mode, dtype):
    found = of(name, mode, dtype=dtype, device_kind="cuda")
    assert "CUDA" in found.method
    assert found.activations_bytes > 0


def test_attention_on_cuda_keeps_no_scores_beside_a_bias():
    kept = {kind: of("swin_t", "train", 4, device_kind=kind).activations_bytes for kind in ("cpu", "cuda")}
    # (tokens, heads, blocks) of each stage, 49 keys, 4 bytes, 4 images
    scores = sum(math.prod(stage) for stage in ((3136, 3, 2), (784, 6, 2), (196, 12, 6), (49, 24, 2))) * 49 * 4 * 4
    assert kept["cuda"] <= kept["cpu"] - scores


def test_a_network_that_looks_at_values_is_told_in_a_sentence(tmp_path):
    (tmp_path / "curious.py").write_text(CURIOUS)
    add_folder(tmp_path)
    curious = read("vit_ti16", ["stages.0.mixer=curious"])
    with pytest.raises(MetablocksError, match="cannot be predicted: DataDependentOutputException"):
        predicted(plan(curious), "infer", 1)
