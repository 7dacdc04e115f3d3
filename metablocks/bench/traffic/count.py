"""What one call of a network moves, counted on fake tensors: elements read and written, kernels, what is kept.

Nothing is computed and no device is asked. Parts that are compiled are scheduled by inductor for a GPU (`schedule.py`),
each distinct graph once, and count on every call; between them every operation of ATen is a kernel that reads its
operands and writes its results. The batch is a prime number: the tensors whose size is a multiple of it are the
activations, and all others (weights, what is made of weights alone, gradients of weights) are counted apart, once a
batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from metablocks.bench.cuda_attention import attention
from metablocks.bench.predict import fake
from metablocks.bench.traffic import BATCH
from metablocks.bench.traffic.gpu import pretended
from metablocks.bench.traffic.schedule import Access, Kernel, backend
from metablocks.bench.work import loss, options
from metablocks.core.errors import Fault, MetablocksError

Prepare = Callable[[Callable[..., Any]], None]
"""Compiles a model in place with a backend, or leaves it as it is."""


@dataclass(frozen=True)
class Row:
    """Kernels made of the same operations: how many there are, and elements that all of them move for an image."""

    name: str
    kind: str
    times: int
    elements: float


@dataclass(frozen=True)
class Moved:
    """`elements` and `bytes` of activations for one image; `fixed` elements once a batch, weights above all.

    Kernels: `fused` ones that inductor writes, `extern` ones of a library or registered with torch, and
    `eager` operations outside of compiled graphs.
    """

    elements: float
    bytes: float
    fixed: int
    fused: int
    extern: int
    eager: int
    saved_elements: float | None
    """Activations that the forward pass keeps for the backward one; None where nothing is trained."""
    saved_bytes: float | None
    rows: tuple[Row, ...]
    """By what kernels are made of, those that move the most first."""

    @property
    def kernels(self) -> int:
        return self.fused + self.extern + self.eager


def moved(
    model: nn.Module, inputs: Sequence[Tensor], mode: str, prepare: Prepare, told: Mapping[str, Any] | None = None
) -> Moved:
    """What a forward pass moves, and with a `mode` other than infer also the backward pass, without the optimiser.

    `model` is on the meta device or the CPU and is spoilt; `inputs` have a batch of `BATCH` and values that are not
    looked at. Where `prepare` compiles nothing every operation is a kernel. Inductor is `told` settings of its own.
    """
    _check(model)
    trains, tally, kept = mode != "infer", Tally(), Kept()
    torch._dynamo.reset()
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), pretended(told or {}), _cuda_attention():
            fake(model)
            model.train(trains)
            kept.besides(model)
            images = [torch.empty(one.shape, dtype=one.dtype) for one in inputs]
            prepare(backend(tally.call))
            _call(model, images, trains, nullcontext())
            # compiling has run operations as well, and they are nobody's
            tally.kernels.clear()
            model.zero_grad(set_to_none=True)
            with tally:
                _call(model, images, trains, kept)
    finally:
        torch._dynamo.reset()
    return tally.moved(kept if trains else None)


def _check(model: nn.Module) -> None:
    """Raises `MetablocksError` for a weight that would be taken for an activation."""
    for name, weight in model.named_parameters():
        if weight.numel() % BATCH == 0:
            wrong = f"`{name}` has {weight.numel():,} elements, a multiple of {BATCH}, as activations have here"
            raise MetablocksError(Fault(wrong, help="use another width, or number of classes"))


def _call(model: nn.Module, images: Sequence[Tensor], trains: bool, kept: AbstractContextManager[None]) -> None:
    """A forward pass, and where it trains a backward pass."""
    with torch.set_grad_enabled(trains):
        with kept if trains else nullcontext():
            output = model(*images, **options(model, trains))
        if trains:
            loss(output).backward()


class Tally(TorchDispatchMode):
    """Adds up kernels: those of compiled graphs as they are handed in, and every operation outside of them."""

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        return True  # else torch compiles nothing while this looks on

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kernels: list[Kernel] = []
        self._inside = False

    @contextmanager
    def call(self, kernels: Sequence[Kernel]) -> Iterator[None]:
        """The kernels of a compiled graph. Operations are not counted while this lasts: they stand for them."""
        self.kernels += kernels
        before, self._inside = self._inside, True
        try:
            yield
        finally:
            self._inside = before

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if not self._inside and _moves(func):
            read = [one for one in tree_iter((args, kwargs)) if isinstance(one, Tensor)]
            written = [one for one in tree_iter(out) if isinstance(one, Tensor)]
            self.kernels.append(Kernel(_name(func), "eager", tuple(map(_whole, _once(read) + _once(written)))))
        return out

    def moved(self, kept: Kept | None) -> Moved:
        kinds = Counter(kernel.kind for kernel in self.kernels)
        accesses = [one for kernel in self.kernels for one in kernel.accesses]
        per_image = [one for one in accesses if one.of % BATCH == 0]
        elements = sum(one.elements for one in per_image)
        return Moved(
            elements / BATCH,
            sum(one.elements * one.itemsize for one in per_image) / BATCH,
            sum(one.elements for one in accesses) - elements,
            kinds["fused"],
            kinds["extern"],
            kinds["eager"],
            kept.elements / BATCH if kept else None,
            kept.bytes / BATCH if kept else None,
            tuple(sorted(self._rows(), key=lambda row: -row.elements)),
        )

    def _rows(self) -> Iterator[Row]:
        times = Counter((kernel.name, kernel.kind) for kernel in self.kernels)
        elements: Counter[tuple[str, str]] = Counter()
        for kernel in self.kernels:
            elements[kernel.name, kernel.kind] += sum(one.elements for one in kernel.accesses if one.of % BATCH == 0)
        for (name, kind), many in times.items():
            yield Row(name, kind, many, elements[name, kind] / BATCH)


class Kept(AbstractContextManager[None]):
    """The activations that autograd keeps, each storage once: what is kept of weights and inputs is not told."""

    def __init__(self) -> None:
        self.elements = self.bytes = 0
        self._known: dict[int, Any] = {}
        self._hooks = saved_tensors_hooks(self._see, lambda tensor: tensor)

    def besides(self, model: nn.Module) -> None:
        for one in (*model.parameters(), *model.buffers()):
            self._known[one.untyped_storage()._cdata] = one

    def __enter__(self) -> None:
        self._hooks.__enter__()

    def __exit__(self, *exception: Any) -> None:
        self._hooks.__exit__(*exception)

    def _see(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._known:
            self._known[storage._cdata] = tensor  # kept alive, so that no other takes its place
            elements = storage.nbytes() // tensor.element_size()
            if elements % BATCH == 0:
                self.elements += elements
                self.bytes += storage.nbytes()
        return tensor


def _moves(func: Any) -> bool:
    """Whether an operation launches a kernel: views, and asking for a size, do not."""
    return not (func.is_view or func.namespace == "prim" or _name(func) in _FREE)


_FREE = {"detach", "empty", "empty_like", "_unsafe_view", "_local_scalar_dense", "lift_fresh", "empty_strided", "alias"}


def _name(func: Any) -> str:
    return str(func._schema.name).partition("::")[2]


def _once(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Each storage once, by the largest of its views."""
    found: dict[int, Tensor] = {}
    for one in tensors:
        key = one.untyped_storage()._cdata
        if key not in found or found[key].numel() < one.numel():
            found[key] = one
    return list(found.values())


def _whole(tensor: Tensor) -> Access:
    stored = tensor.untyped_storage().nbytes() // tensor.element_size()
    return Access(min(tensor.numel(), stored), stored, tensor.element_size())


@contextmanager
def _cuda_attention() -> Iterator[None]:
    """Attention as CUDA chooses it, in the place of torch's own, where the compiler sees it as well."""
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(F, "scaled_dot_product_attention", attention))
        yield
