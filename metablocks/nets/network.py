"""What every net has: its plan, its encoder, and the groups that an optimiser takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from metablocks.core.mixer import Mixer
from metablocks.nets.parts import Method
from metablocks.nets.stack import Encoder
from metablocks.parts.position import MaskToken, PositionTable, PrefixTokens
from metablocks.plan.nouns import Plan


class Network(nn.Module):
    encoder: Encoder
    spec: Any = None
    """The spec that this was built from, where it was built from one."""
    training_options: ClassVar[Mapping[str, Any]] = {}
    """What a step of training gives `forward` besides its inputs, where only the loss of the output is wanted."""
    recipe: Any = None
    """How pictures are prepared for it, where its weights say so."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan

    def admit(self, images: Tensor) -> None:
        """Raises `InputError` for images that this network cannot take; its forward does so too."""
        self.encoder.grids(images)

    def once(self) -> list[Method]:
        """The parts besides blocks. Where blocks are compiled, each is a graph of its own; on a CPU not those that are
        `few_calls` of a library, which cost a second of compiling each and gain nothing by it."""
        raise NotImplementedError

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Two groups for an optimiser: with decay, and without for norms, biases, scales, positions and tokens.

        As ViT (arXiv:2010.11929, appendix B) and Swin (arXiv:2103.14030, appendix A2.1) train in their released code.
        Frozen parameters are in neither.
        """
        spared = {id(parameter) for module in self.modules() for parameter in _spared(module)}
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        decayed = [parameter for parameter in trained if parameter.ndim > 1 and id(parameter) not in spared]
        rest = [parameter for parameter in trained if parameter.ndim <= 1 or id(parameter) in spared]
        return [{"params": decayed, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def _spared(module: nn.Module) -> list[nn.Parameter]:
    if isinstance(module, MaskToken | PositionTable | PrefixTokens):
        return list(module.parameters())
    return [module.get_parameter(name) for name in module.no_decay] if isinstance(module, Mixer) else []
