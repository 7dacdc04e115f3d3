"""Machines that are not there, to hold the statistics against the truth: what they are told is known exactly."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

PROCESSES, ROUNDS = 3, 30

Rounds = list[list[float]]


@dataclass(frozen=True)
class Machine:
    """How its times vary, as changes of their logarithm.

    `noise` of a round and `between` processes are standard deviations, `drift` is over a process, `alike` the
    correlation of neighbouring rounds.
    """

    noise: float = 0.01
    drift: float = 0.0
    alike: float = 0.0
    between: float = 0.0


MACHINES = {
    "white noise": Machine(),
    "drift": Machine(drift=0.01),
    "autocorrelation": Machine(alike=0.6),
    "processes that differ": Machine(between=0.02),
    "all of these": Machine(drift=0.01, alike=0.6, between=0.02),
}
CALM = Machine(drift=0.01, alike=0.6, between=0.005)
QUIET = Machine(noise=0.005, alike=0.6)


def pair(draw: random.Random, machine: Machine, slower: float = 0.0) -> tuple[Rounds, Rounds]:
    """Times of a base, and of another that is `slower` by a share, measured in turns on a machine."""
    base, other = [], []
    for _ in range(PROCESSES):
        times = _process(draw, machine)
        shifts = [draw.gauss(0, machine.between) for _ in range(2)]
        turns = [draw.sample(times[at : at + 2], 2) for at in range(0, 2 * ROUNDS, 2)]
        base.append([math.exp(one + shifts[0]) for one, _ in turns])
        other.append([math.exp(two + shifts[1]) * (1 + slower) for _, two in turns])
    return base, other


def _process(draw: random.Random, machine: Machine) -> list[float]:
    """Logarithms of the times of the rounds of both, one after the other."""
    fresh = machine.noise * math.sqrt(1 - machine.alike**2)
    state = draw.gauss(0, machine.noise)
    times = []
    for index in range(2 * ROUNDS):
        times.append(state + machine.drift * index / (2 * ROUNDS))
        state = machine.alike * state + draw.gauss(0, fresh)
    return times
