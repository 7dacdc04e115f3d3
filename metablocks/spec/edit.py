"""`--set stages.2.mixer=pooling`: edits of the tree before it is checked. What was edited has its place in the flag."""

from __future__ import annotations

import json
import numbers
from collections.abc import Mapping as Dict
from collections.abc import Sequence as List
from dataclasses import dataclass, replace

from metablocks.core.errors import Fault, InputError, Place, Source, SpecError
from metablocks.core.text import listed, printable
from metablocks.spec.scalars import resolve
from metablocks.spec.source import screen
from metablocks.spec.syntax import parse_value
from metablocks.spec.tree import Entry, Mapping, Node, Scalar, Sequence
from metablocks.spec.trouble import DEPTH

FORM = "write `path=value`, as in `stages.2.mixer=pooling`"


@dataclass(frozen=True)
class Step:
    """One segment of a path, and the path before it for messages."""

    name: str
    place: Place
    before: str


def edit(root: Mapping, assignments: List[str]) -> Mapping:
    """A new tree with the assignments made, in their order; faults of all of them come in one SpecError."""
    faults: list[Fault] = []
    for assignment in assignments:
        try:
            source = screen(Source("--set", assignment, flag=True))
            steps = _steps(source)
            value = parse_value(source, source.text.index("=") + 1)
            edited = _put(root, steps, value)
            assert isinstance(edited, Mapping)  # a path has a step, and the root is a mapping
            root = edited
        except SpecError as error:
            faults += error.faults
    if faults:
        raise SpecError(*faults)
    return root


def _steps(source: Source) -> list[Step]:
    path, equals, _ = source.text.partition("=")
    whole = Place(source, 1, 1, len(path))
    if not equals:
        raise SpecError(Fault(f"`{printable(path)}` sets nothing: there is no `=`", whole, help=FORM))
    steps: list[Step] = []
    column = 1
    for name in path.split("."):
        place = Place(source, 1, column, max(1, len(name)))
        if not name or name.split() != [name]:
            message = "a space in the path" if name else "an empty name in the path"
            raise SpecError(Fault(message, place, help=FORM))
        steps.append(Step(name, place, path[: max(0, column - 2)]))
        column += len(name) + 1
    if len(steps) > DEPTH:
        raise SpecError(Fault(f"a path of more than {DEPTH} names", whole, help=FORM))
    return steps


def _put(node: Node | None, steps: list[Step], value: Node) -> Node:
    """`node` with `value` at the end of `steps`; None is a node that is not there yet."""
    if not steps:
        return value
    step, rest = steps[0], steps[1:]
    if isinstance(node, Sequence):
        if len(node.items) == 1 and _chooses(node.items[0], step.name):  # a list of one is written as its item, too
            return replace(node, items=(_put(node.items[0], steps, value),))
        index = _index(node, step)
        items = list(node.items)
        items[index] = _put(items[index], rest, value)
        return replace(node, items=tuple(items))
    if step.name.lstrip("-").isdecimal():
        raise SpecError(_no_list(node, step))
    if node is None or (isinstance(node, Scalar) and node.value == step.name):
        return Mapping((Entry(step.name, step.place, _put(None, rest, value)),), step.place)
    if isinstance(node, Scalar):
        raise SpecError(_no_settings(node, step))
    old = node.get(step.name)
    child = _put(old.value if old else None, rest, value)
    if old is None:
        return replace(node, entries=(*node.entries, Entry(step.name, step.place, child)))
    new = Entry(step.name, old.key_place if rest else step.place, child)
    return replace(node, entries=tuple(new if entry is old else entry for entry in node.entries))


def _chooses(node: Node, name: str) -> bool:
    """Whether a node is `name`, or `{name: ...}`."""
    if isinstance(node, Mapping):
        return [entry.key for entry in node.entries] == [name]
    return isinstance(node, Scalar) and node.value == name


def _index(node: Sequence, step: Step) -> int:
    last = len(node.items) - 1
    if step.name.isascii() and step.name.isdecimal() and len(step.name) < 9 and int(step.name) <= last:
        return int(step.name)
    message = f"`{printable(step.before)}` is a list of {last + 1}"
    valid = listed(map(str, range(last + 1)), "or") if last < 10 else f"0 to {last}"
    help = f"its items are {valid}" if last >= 0 else f"set it whole: `{printable(step.before)}=[...]`"
    raise SpecError(Fault(f"{message}; `{printable(step.name)}` is none of its items", step.place, help=help))


def _no_list(node: Node | None, step: Step) -> Fault:
    before = printable(step.before)
    if isinstance(node, Mapping):
        keys = listed([f"`{printable(entry.key)}`" for entry in node.entries[:10]])
        where = f"`{before}`" if before else "a spec"
        return Fault(f"{where} is a mapping, not a list", step.place, help=f"its keys are {keys}")
    there = f"`{before}` is `{printable(node.text)}`, not" if isinstance(node, Scalar) else f"`{before}` is not"
    return Fault(f"{there} a list", step.place, help=f"set it whole: `{before}=[...]`")


def _no_settings(node: Scalar, step: Step) -> Fault:
    before, name = printable(step.before), printable(step.name)
    there = f"is `{printable(node.text)}`" if node.text else "is empty"
    help = f"set it whole: `{before}={{{name}: ...}}`"
    return Fault(f"`{before}` {there} and has no `{name}`", step.place, help=help)


def assignments_from(mapping: Dict[str, object]) -> list[str]:
    """Python's `set={"classes": 10}` as the assignments that `--set` would take."""
    assignments = []
    for path, value in mapping.items():
        if not isinstance(path, str) or "=" in path:
            help = 'write set={"stages.2.mixer": "pooling"}'
            raise InputError(Fault(f"set: `{printable(str(path))}` is not a path", help=help))
        assignments.append(f"{path}={_flow(value, path)}")
    return assignments


def _flow(value: object, path: str, depth: int = 0) -> str:
    """`value` as YAML on one line that our resolver reads back as the same value."""
    if depth > DEPTH:
        raise InputError(f"set: `{printable(path)}` is nested deeper than {DEPTH} levels")
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, str):
        bare = value.isascii() and value.isidentifier() and resolve(value) == value
        return value if bare else json.dumps(value, ensure_ascii=False)
    if isinstance(value, numbers.Integral):
        return str(int(value))
    if isinstance(value, numbers.Real):  # NumPy's too; its repr is not a number
        text = repr(float(value))
        return {"inf": ".inf", "-inf": "-.inf", "nan": ".nan"}.get(text, text)
    if isinstance(value, Dict):
        pairs = (f"{_flow(key, path, depth + 1)}: {_flow(child, path, depth + 1)}" for key, child in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_flow(child, path, depth + 1) for child in value) + "]"
    raise InputError(f"set: `{printable(path)}` has a value of type {type(value).__name__}, which YAML cannot hold")
