"""Subjects as modules that run: specs, functions of files, and peers, for which fakes stand in here."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from metablocks.bench import models
from metablocks.bench.case import Case
from metablocks.bench.failures import explain
from metablocks.bench.session import Session
from metablocks.bench.subject import Subject, subject
from metablocks.core.errors import InputError, MissingError

from .conftest import case, sent, unheard

TIMM = """
import torch

class Net(torch.nn.Linear):
    pretrained_cfg = {"input_size": (3, 8, 12)}
    def forward(self, x):
        return super().forward(x.flatten(1))
    def set_grad_checkpointing(self):
        self.saved = True

def is_model(name): return name in list_models()
def list_models(): return ["little_net", "fixed_net"]
def create_model(name, pretrained, **size):
    assert pretrained is False
    if size and name == "fixed_net": raise TypeError("unexpected keyword img_size")
    height, width = size.get("img_size", (8, 12))
    return Net(3 * height * width, 5)
"""
TORCHVISION = """
import torch, types
class Net(torch.nn.Linear):
    def forward(self, x): return super().forward(x.flatten(1))
def get_model(name, weights, **size):
    assert weights is None
    side = size.get("image_size", 6)
    return Net(3 * side * side, 5)
crop = types.SimpleNamespace(crop_size=[6])
models = types.SimpleNamespace(list_models=lambda: ["resnet_one"], get_model=get_model,
    get_model_weights=lambda name: types.SimpleNamespace(DEFAULT=types.SimpleNamespace(transforms=lambda: crop)))
"""


@pytest.fixture(autouse=True)
def _imports_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = dict(sys.modules)
    yield
    for name in ("timm", "torchvision", "metablocks_subject", "beside"):
        sys.modules.pop(name, None)
        if name in before:
            sys.modules[name] = before[name]


def of_source(folder: Path, body: str, **conditions: Any) -> Case:
    file = folder / "mine.py"
    file.write_text(f"import torch\nfrom torch import nn\n{body}")
    return replace(case(), subject=subject(f"{file}:net"), **conditions)


def of_peer(peer: str, name: str, image: tuple[int, int] | None = None, **conditions: Any) -> Case:
    return replace(case(), subject=Subject(peer, f"{peer}:{name}", f"{peer}:{name}", name, image=image), **conditions)


def fake(name: str, source: str) -> None:
    sys.modules[name] = module = types.ModuleType(name)
    exec(source, module.__dict__)


def test_a_spec_is_built_with_weights_of_which_none_is_zero() -> None:
    found = models.load(case())
    assert found.image == (16, 16)
    assert found.plan is not None
    assert all(parameter.count_nonzero() == parameter.numel() for parameter in found.model.parameters())
    again = models.load(case())
    for one, two in zip(found.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize(
    ("dtype", "weights"), [("bfloat16", torch.bfloat16), ("amp_bfloat16", torch.float32), ("float64", torch.float64)]
)
def test_weights_are_of_the_dtype_and_under_autocast_of_float32(dtype: str, weights: torch.dtype) -> None:
    assert {one.dtype for one in models.load(case(dtype=dtype)).model.parameters()} == {weights}


def test_a_function_that_returns_a_module_takes_images(tmp_path: Path) -> None:
    found = models.load(of_source(tmp_path, "def net(): return nn.Conv2d(3, 4, 3)"))
    assert (found.image, found.shapes[0].sizes) == ((224, 224), (3, 224, 224))
    told = of_source(tmp_path, "def net(): return nn.Conv2d(3, 4, 3)")
    assert models.load(replace(told, subject=replace(told.subject, image=(32, 48)))).image == (32, 48)


def test_a_function_may_return_inputs_of_any_shape_and_whole_numbers(tmp_path: Path) -> None:
    body = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 4)
    def forward(self, words, scale):
        return (self.table(words) * scale).sum(1)
def net(): return Net(), torch.tensor([[1, 2, 9]]), torch.ones(1, 3, 1)
"""
    one = of_source(tmp_path, body)
    found = models.load(one)
    assert [shape.sizes for shape in found.shapes] == [(3,), (3, 1)]
    assert found.image is None
    assert found.shapes[0].like is not None
    assert torch.equal(found.shapes[0].like, torch.tensor([[1, 2, 9]]))
    told = Session(one, unheard).prepare()
    assert told["image"] is None
    assert told["costs"]["macs"] == 0


@pytest.mark.parametrize("returned", ["nn.ReLU(), (torch.ones(1, 2),)", "[nn.ReLU(), torch.ones(4, 2)]"])
def test_inputs_may_come_in_any_wrapping_and_batch(tmp_path: Path, returned: str) -> None:
    assert models.load(of_source(tmp_path, f"def net(): return {returned}")).shapes[0].sizes == (2,)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("net = 3", "`mine.py` has no function `net`"),
        ("def nett(): pass", "`mine.py` has no function `net`; did you mean `nett`?"),
        ("def net(): return 3", "`net` returns int, where a module, or a module and example inputs, was expected"),
        ("def net(): pass", "`net` returns NoneType"),
        ("def net(): return ()", "`net` returns NoneType"),
        ("def net(): return nn.ReLU(), 'images'", "`net` returns str"),
        ("def net(): return nn.ReLU(), torch.tensor(3.0)", "`net` returns a tensor without a batch"),
        ("def net(): raise KeyError('my key')", "KeyError: 'my key'"),
        ("def net(size): return nn.ReLU()", "net() missing 1 required positional argument"),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("def net(): return net()", "RecursionError"),
    ],
)
def test_what_is_wrong_with_a_function_is_told_in_words(tmp_path: Path, body: str, words: str) -> None:
    one = of_source(tmp_path, body)
    with pytest.raises(Exception) as told:  # noqa: PT011
        models.load(one)
    failure, reason = explain(told.value, one)
    assert failure == "error"
    assert words in reason


def test_what_raises_in_a_file_is_told_with_its_line(tmp_path: Path) -> None:
    one = of_source(tmp_path, "def net():\n    raise KeyError('my key')")
    with pytest.raises(KeyError) as told:
        models.load(one)
    assert explain(told.value, one)[1].endswith(f"({tmp_path}/mine.py:4)")


def test_a_file_that_is_edited_after_the_start_runs_as_it_was(tmp_path: Path) -> None:
    one = of_source(tmp_path, "def net(): return nn.Linear(2, 3), torch.ones(1, 2)")
    (tmp_path / "mine.py").write_text("raise RuntimeError('edited')")
    assert models.load(one).model.out_features == 3


def test_a_file_may_import_what_lies_beside_it_but_hides_no_library(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("WIDTH = 5\n")
    (tmp_path / "random.py").write_text("raise RuntimeError('not this one')\n")
    one = of_source(tmp_path, "import random\nfrom beside import WIDTH\ndef net(): return nn.Linear(WIDTH, 1)")
    assert models.load(one).model.in_features == 5


def test_classes_of_a_file_can_be_pickled(tmp_path: Path) -> None:
    import pickle

    one = of_source(tmp_path, "class Net(nn.ReLU): pass\ndef net(): return Net(), torch.ones(1, 1)")
    model = models.load(one).model
    assert type(pickle.loads(pickle.dumps(model))).__name__ == "Net"


def test_a_network_of_timm_has_its_own_image_or_the_one_that_is_asked_for() -> None:
    fake("timm", TIMM)
    assert models.load(of_peer("timm", "little_net")).shapes[0].sizes == (3, 8, 12)
    assert models.load(of_peer("timm", "little_net", (4, 4))).model.in_features == 48
    assert models.load(of_peer("timm", "fixed_net", (8, 12))).image == (8, 12)
    assert Session(of_peer("timm", "little_net"), unheard).prepare()["costs"]["macs"] == 3 * 8 * 12 * 5


def test_checkpointing_of_a_peer_is_its_own_where_it_has_one() -> None:
    fake("timm", TIMM)
    one = of_peer("timm", "little_net", mode="train", checkpoint=True)
    found = models.load(one)
    models.compile_subject(one, found)
    assert found.model.saved
    fake("torchvision", TORCHVISION)
    other = of_peer("torchvision", "resnet_one", mode="train", checkpoint=True)
    with pytest.raises(InputError, match="has no activation checkpointing"):
        models.compile_subject(other, models.load(other))


def test_a_network_of_torchvision_has_its_own_image_or_the_one_that_is_asked_for() -> None:
    fake("torchvision", TORCHVISION)
    assert models.load(of_peer("torchvision", "resnet_one")).image == (6, 6)
    assert models.load(of_peer("torchvision", "resnet_one", (4, 4))).model.in_features == 48


@pytest.mark.parametrize(("peer", "source"), [("timm", TIMM), ("torchvision", TORCHVISION)])
def test_a_name_that_a_peer_does_not_know_is_told_with_the_nearest(peer: str, source: str) -> None:
    fake(peer, source)
    known = {"timm": "little_net", "torchvision": "resnet_one"}[peer]
    with pytest.raises(InputError, match=f"{peer} has no network called") as told:
        models.load(of_peer(peer, known[:-1]))
    assert f"did you mean `{known}`?" in str(told.value)
    with pytest.raises(InputError, match="list_models"):
        models.load(of_peer(peer, "\x1b[31m"))


@pytest.mark.parametrize("peer", ["timm", "torchvision"])
@pytest.mark.parametrize("fault", ["raise RuntimeError('operator \x1b[31m does not exist\\nmore')", "import no_such"])
def test_a_peer_that_does_not_import_here_is_missing_with_a_sentence(tmp_path: Path, peer: str, fault: str) -> None:
    (tmp_path / f"{peer}.py").write_text(f"{fault}\n")
    sys.path.insert(0, str(tmp_path))
    sys.modules.pop(peer, None)
    one = of_peer(peer, "any")
    with pytest.raises(MissingError) as told:
        models.load(one)
    failure, reason = explain(told.value, one)
    assert failure == "missing"
    assert f"{peer} cannot be imported here: " in reason
    assert f"install the {peer} that fits this torch" in reason
    assert "\x1b" not in reason
    assert "more" not in reason


def test_what_a_worker_is_to_import_first_is_imported_first(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("import sys\nsys.modules['timm'] = None\n")
    sys.path.insert(0, str(tmp_path))
    with pytest.raises(MissingError, match="timm cannot be imported"):
        models.load(of_peer("timm", "any", modules=("beside",)))
    with pytest.raises(ModuleNotFoundError, match="no_such"):
        models.load(case(modules=("no_such",)))


def test_the_worker_of_these_tests_knows_what_it_imports_first() -> None:
    assert sent().modules == ("quick_peaks",)
