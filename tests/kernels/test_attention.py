"""Attention by trial: tried once for each shape before it is traced, right whatever is chosen, one graph."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend

import metablocks as mb
from metablocks.kernels import attention as tried
from metablocks.kernels import trial
from tests.build.test_build import TINY

SHAPE = (2, 50, 3, 4, 16)


@pytest.fixture
def on_cpu(monkeypatch, tmp_path):
    """A CPU chooses too, between what it has; the names that were asked for and what was taken."""
    monkeypatch.setattr(tried, "DEVICES", ("cpu",))
    monkeypatch.setattr(tried, "BACKENDS", {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION,
                                            "plain": SDPBackend.MATH})  # fmt: skip
    monkeypatch.setenv("METABLOCKS_CACHE", str(tmp_path))
    trial.forget()
    torch._dynamo.reset()
    yield
    trial.forget()
    torch._dynamo.reset()


@pytest.fixture
def verdicts(on_cpu, monkeypatch):  # noqa: ARG001  (another fixture)
    """Every verdict, by its key. Each call takes as long as its place in the table says: flash the longest."""
    found = {}
    choose = trial.verdict

    def kept(key, *arguments):
        found[key] = choose(key, *arguments)
        return found[key]

    monkeypatch.setattr(trial, "verdict", kept)
    times = {"flash": 3.0, "cudnn": 2.0, "plain": 1.0, "tile": 0.5, "torch": 2.0}
    monkeypatch.setattr(trial, "_seconds", lambda call, _: (call(), times[call.args[-1]])[1])
    return found


def twin(packed: torch.Tensor, scale: float) -> torch.Tensor:
    query, key, value = packed.permute(2, 0, 3, 1, 4)
    mixed = torch.einsum("bhnm,bhmd->bnhd", torch.einsum("bhnd,bhmd->bhnm", query, key).mul(scale).softmax(-1), value)
    return mixed.flatten(2)


@pytest.mark.parametrize("keeps", [False, True], ids=["forward", "with a backward pass"])
def test_the_fastest_that_runs_is_taken_for_a_shape_and_it_is_right(verdicts, keeps):
    packed = torch.randn(SHAPE, requires_grad=keeps)
    out = tried.attention(packed, 0.3)
    torch.testing.assert_close(out, twin(packed, 0.3), atol=1e-5, rtol=1e-5)
    (key,) = verdicts
    assert key == "attention 2 x 4 x 50 x 16, torch.float32" + (", backward" if keeps else "")
    assert verdicts[key].chosen == "plain"
    assert set(verdicts[key].faults) == {"cudnn"}  # which a CPU does not have
    if keeps:
        goal = torch.autograd.grad(twin(packed, 0.3).sum(), packed)[0]
        torch.testing.assert_close(torch.autograd.grad(out.sum(), packed)[0], goal, atol=1e-5, rtol=1e-5)


def test_one_that_is_wrong_is_not_taken(verdicts, monkeypatch):
    right = tried._attention
    monkeypatch.setattr(tried, "_attention", lambda packed, scale, name, *rest: right(packed, scale, name, *rest) * (
        1.01 if name == "plain" else 1))  # fmt: skip
    tried.attention(torch.randn(SHAPE), 0.3)
    (found,) = verdicts.values()
    assert found.chosen == "torch"
    assert found.faults["plain"] == "its output is off by 1.0e-02"


@pytest.mark.parametrize("how", ["none", "block", "model"])
def test_a_compiled_network_is_one_graph_with_the_choice_in_it(verdicts, how):
    torch.manual_seed(0)
    model = mb.build(TINY, compile=how, backend="aot_eager")
    plain = mb.build(TINY, model.state_dict())
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(model(x), plain(x), atol=1e-5, rtol=1e-5)
    model(x).sum().backward()
    model(x[:1])
    assert [key.removeprefix("attention ") for key in verdicts if "x 2 x 19 x 32" in key] == [
        "2 x 2 x 19 x 32, torch.float32",
        "2 x 2 x 19 x 32, torch.float32, backward",
        "1 x 2 x 19 x 32, torch.float32, backward",
    ]


def test_nothing_is_tried_where_sizes_are_symbolic(verdicts):
    model = mb.build(TINY, compile="block", backend="aot_eager", dynamic=True)
    with torch.no_grad():
        assert model(torch.randn(3, 3, 32, 32)).shape == (3, 10)
    assert verdicts == {}


def test_nothing_is_tried_in_an_export(verdicts):
    torch.export.export(mb.build(TINY), (torch.randn(2, 3, 32, 32),))
    assert verdicts == {}


def test_nothing_is_tried_on_a_cpu(monkeypatch):
    monkeypatch.setattr(tried, "best", None)
    torch.testing.assert_close(tried.attention(x := torch.randn(SHAPE), 0.3), twin(x, 0.3), atol=1e-5, rtol=1e-5)


@pytest.fixture
def with_tile(verdicts, monkeypatch):
    """Our kernel is a candidate too, as its twin."""
    monkeypatch.setattr(tried, "why_not", lambda _: "")
    return verdicts


@pytest.mark.parametrize("keeps", [False, True], ids=["forward", "with a backward pass"])
def test_our_kernel_is_taken_where_it_is_the_fastest_and_it_is_right(with_tile, keeps):
    packed = torch.randn(SHAPE, dtype=torch.float16, requires_grad=keeps)
    out = tried.attention(packed, 0.3, fused=True)
    torch.testing.assert_close(out, twin(packed.float(), 0.3).half(), atol=2e-3, rtol=2e-3)
    (key,) = with_tile
    assert key == "attention 2 x 4 x 50 x 16, torch.float16" + (", backward" if keeps else "") + ", tile"
    assert trial.choices()[key] == "tile"


def test_our_kernel_is_not_taken_where_it_is_as_fast_as_one_of_torch(with_tile, monkeypatch):
    monkeypatch.setattr(trial, "_seconds", lambda call, _: (call(), 1.0)[1])
    tried.attention(torch.randn(SHAPE, dtype=torch.float16), 0.3, fused=True)
    (found,) = with_tile.values()
    assert (found.chosen, set(found.seconds)) == ("flash", {"flash", "plain", "tile", "torch"})


def test_our_kernel_is_not_taken_where_it_is_wrong(with_tile, monkeypatch):
    monkeypatch.setattr(tried, "tile_attention", lambda packed, scale: twin(packed, 1.1 * scale))
    tried.attention(torch.randn(SHAPE, dtype=torch.float16), 0.3, fused=True)
    (found,) = with_tile.values()
    assert found.chosen == "plain"
    assert found.faults["tile"].startswith("its output is off by")


@pytest.mark.parametrize(
    ("shape", "dtype", "fused"),
    [
        (SHAPE, torch.float16, False),
        (SHAPE, torch.float32, True),
        ((1, 197, 3, 2, 16), torch.float16, True),
        ((1, 65, 3, 1, 80), torch.float16, True),
    ],
    ids=["not asked for", "single precision", "a long sequence", "wide heads"],
)
def test_our_kernel_is_not_tried_where_it_may_not_run(with_tile, shape, dtype, fused):
    tried.attention(torch.randn(shape, dtype=dtype), 0.3, fused)
    ((key, found),) = with_tile.items()
    assert "tile" not in key
    assert "tile" not in {*found.seconds, *found.faults}


@pytest.mark.parametrize("how", ["none", "block", "model"])
def test_a_network_that_takes_the_reference_path_never_runs_our_kernel(with_tile, how, monkeypatch):
    runs, found, ours = [], [], tried.tile_attention
    monkeypatch.setattr(tried, "tile_attention", lambda *given: runs.append(1) or ours(*given))
    for kernels in ("fused", "reference"):
        torch.manual_seed(0)
        runs.clear()
        model = mb.build(TINY, dtype="float16", compile=how, backend="aot_eager", kernels=kernels)
        found.append(model(torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32).half()))
        found[-1].float().sum().backward()
        assert bool(runs) == (kernels == "fused")
    torch.testing.assert_close(*found, atol=2e-3, rtol=2e-3)
    assert [one.chosen for one in with_tile.values()] == ["tile", "plain"]


def test_our_kernel_is_not_in_an_export(with_tile):
    exported = torch.export.export(
        mb.build(TINY, dtype="float16", kernels="fused"), (torch.randn(2, 3, 32, 32).half(),)
    )
    assert with_tile == {}
    assert "tile_attention" not in str(exported.graph)


@pytest.mark.gpu
@pytest.mark.parametrize("keeps", [False, True], ids=["forward", "with a backward pass"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(4, 197, 3, 12, 64), (4, 50, 3, 12, 64), (2, 49, 3, 10, 32), (2, 33, 3, 3, 20)])
def test_a_gpu_takes_what_is_right(shape, dtype, keeps, monkeypatch, tmp_path):
    monkeypatch.setenv("METABLOCKS_CACHE", str(tmp_path))
    trial.forget()
    packed = torch.randn(shape, device="cuda", dtype=dtype, requires_grad=keeps)
    compiled = torch.compile(tried.attention, fullgraph=True, dynamic=False)
    goal = twin(packed.double(), 0.125)
    for attend in (tried.attention, compiled):
        assert (attend(packed, 0.125, True).double() - goal).norm() / goal.norm() <= tried.LIMITS[dtype]
    (found,) = [one for (_, key), one in trial._known.items() if key.startswith("attention")]
    assert found.chosen in (*tried.BACKENDS, tried.TILE, tried.OWN)
    assert found.seconds or dtype == torch.float32


@pytest.mark.parametrize("how", ["none", "block"])
def test_a_checkpointed_network_is_tried_and_trains(verdicts, how):
    model = mb.build(TINY, compile=how, backend="aot_eager", checkpoint=True).train()
    plain = mb.build(TINY, model.state_dict()).train()
    images, gradients = torch.randn(2, 3, 32, 32), []
    for one in (model, plain):
        one(images).square().sum().backward()
        gradients.append([parameter.grad for parameter in one.parameters()])
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-4)
    assert [one.chosen for one in verdicts.values()][:1] == ["plain"]
