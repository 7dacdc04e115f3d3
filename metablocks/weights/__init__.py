"""Publishers' checkpoints into our names.

checkpoint = load_file("swin_tiny.safetensors")              # or checkpoint_of(state_dict)
publisher = recognise(checkpoint.tensors)
edits = contradictions(publisher, spec.resolved())           # settings that the publisher implies
weights = convert(checkpoint, publisher, plan, model.state_dict())
"""

from metablocks.weights.checkpoint import Checkpoint, checkpoint_of
from metablocks.weights.convert import Converted, convert
from metablocks.weights.files import load_file
from metablocks.weights.locate import locate
from metablocks.weights.publishers import PUBLISHERS, recognise
from metablocks.weights.rules import Publisher, Rule
from metablocks.weights.settings import contradictions

__all__ = [
    "PUBLISHERS",
    "Checkpoint",
    "Converted",
    "Publisher",
    "Rule",
    "checkpoint_of",
    "contradictions",
    "convert",
    "load_file",
    "locate",
    "recognise",
]
