"""Peak memory of one call, predicted without the device: it runs on fake tensors, which have sizes and no storage.

The same step as in the bench, so forward, backward and AdamW, is followed storage by storage. Predicted is an eager
network: a compiled one plans its buffers otherwise, mostly into less. Not known are the workspaces that a kernel
allocates inside of one operation, such as those of cuDNN, and what an allocator loses between blocks.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from metablocks.bench.cuda_attention import CudaAttention
from metablocks.bench.memory import Memory, memory, nbytes, optimised, tensors
from metablocks.bench.work import Work
from metablocks.build import checkpoint_blocks, dtype_of, skeleton
from metablocks.core.errors import Fault, MetablocksError
from metablocks.core.text import printable
from metablocks.plan import Plan

METHOD = "predicted by fake tensors, eager, {} kernels"
CUDA_BLOCK = 512  # bytes to which CUDA's caching allocator rounds up


def predicted(
    plan: Plan, mode: str, batch: int, dtype: str = "float32", device_kind: str = "cpu", checkpoint: bool = False
) -> Memory:
    """The memory of one call at `batch` on a `cpu` or on `cuda`, which need not be there. Images are not counted.

    Raises `MetablocksError` where the network cannot run on fake tensors: where it looks at values, for one.
    """
    try:
        return _predicted(plan, mode, batch, dtype, device_kind, checkpoint)
    except MetablocksError:
        raise
    except Exception as error:  # whatever a mixer of someone else may raise
        wrong = (
            f"memory of {printable(plan.name)} cannot be predicted: {type(error).__name__} on tensors without values"
        )
        raise MetablocksError(Fault(wrong, help="measure it with `metablocks bench`")) from error


def _predicted(plan: Plan, mode: str, batch: int, dtype: str, device_kind: str, checkpoint: bool) -> Memory:
    cuda = device_kind == "cuda"
    # half precisions are of one size, and a scaler of the loss, which float16 has, would look at values
    amp = torch.bfloat16 if dtype.startswith("amp_") else None
    weights = torch.float32 if amp else dtype_of(dtype)
    model = skeleton(plan).to(weights)
    with FakeTensorMode():
        fake(model)
        if checkpoint:
            checkpoint_blocks(model)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimiser = torch.optim.AdamW(trained, fused=True) if mode != "infer" else None
        inputs = _inputs(plan, batch, weights)
        work = Work(model, [inputs], amp, optimiser)
        watch = _Storages(CUDA_BLOCK if cuda else 1)
        watch.hold([*tensors(model), *inputs])
        with CudaAttention(amp) if cuda else nullcontext():
            growth = _growth(work, watch)
        gradients = nbytes(one.grad for one in trained if one.grad is not None)
        held = nbytes(tensors(model)), nbytes(optimised(optimiser))
    return memory(growth, METHOD.format("CUDA" if cuda else "CPU"), *held, gradients)


def _growth(work: Work, watch: _Storages) -> int:
    """Bytes by which a call grows what is held. The first step makes the optimiser's state, so the second is told."""
    if work.optimiser is not None:
        with watch:
            work.call()
        work.optimiser.zero_grad(set_to_none=True)
    before = watch.peak = watch.now
    with watch:
        work.call()
    return watch.peak - before


def fake(model: nn.Module) -> None:
    """Puts a fake tensor on the CPU in the place of every tensor of a model; called where tensors made are fake."""
    made: dict[int, Any] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                like = torch.empty_strided(parameter.shape, parameter.stride(), dtype=parameter.dtype)
                module._parameters[name] = made.setdefault(id(parameter), nn.Parameter(like, parameter.requires_grad))
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = made.setdefault(id(buffer), torch.empty(buffer.shape, dtype=buffer.dtype))


def _inputs(plan: Plan, batch: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Images, and for a masked autoencoder the noise that picks what is masked."""
    stem = plan.encoder.stem
    images = torch.empty(batch, stem.channels, *stem.image, dtype=dtype)
    if plan.decoder is None:
        return (images,)
    units = plan.decoder.mask.units
    return images, torch.empty(batch, units[0] * units[1])


class _Storages(TorchDispatchMode):
    """Follows every storage that an operation makes until it is freed. `now` and `peak` are in bytes."""

    def __init__(self, block: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.block, self.now, self.peak = block, 0, 0
        self._known: set[int] = set()

    def hold(self, found: Iterable[Any]) -> None:
        for one in found:
            if isinstance(one, Tensor) and one.untyped_storage()._cdata not in self._known:
                storage = one.untyped_storage()
                size = -(-storage.nbytes() // self.block) * self.block
                self._known.add(storage._cdata)
                self.now += size
                weakref.finalize(storage, self._free, storage._cdata, size)
        self.peak = max(self.peak, self.now)

    def _free(self, key: int, size: int) -> None:
        self._known.remove(key)
        self.now -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        # in inference mode an operation made of others comes whole, and what it makes in between would not be seen
        if func is not torch.ops.prim.device.default:
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        out = func(*args, **kwargs)
        self.hold(tree_iter(out))
        return out
