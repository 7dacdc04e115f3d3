"""A worker as its parent holds it: whatever comes from it, asking ends in an answer or a reason, and leaves nothing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from metablocks.bench import hand as module
from metablocks.bench.hand import Hand, WorkerFailedError

from .conftest import case, gone, lives, unheard

# A worker without torch: it reads its case, and then does with each command what the test says.
WORKER = """
import json, os, signal, subprocess, sys, time
pipe = int(sys.argv[2])
def answer(data): os.write(pipe, data)
case = json.loads(sys.stdin.readline())
answer(b'{"phase": "waiting"}\\n')
for line in sys.stdin:
    command = json.loads(line)
"""
OK = b'{"done": {"answer": 42}}\n'

Start = Callable[..., Hand]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Start]:
    """Starts a worker that does this with each command."""
    hands: list[Hand] = []

    def started(act: str, heard: list[str] | None = None, **conditions: Any) -> Hand:
        monkeypatch.setattr(module, "BOOT", WORKER + "".join(f"    {line}\n" for line in act.splitlines()))
        hands.append(Hand(case(**conditions), tmp_path, unheard if heard is None else heard.append))
        return hands[-1].__enter__()

    yield started
    for one in hands:
        if one.process.stdin is not None and not one.process.stdin.closed:
            one.__exit__()


def reason(hand: Hand) -> tuple[str, str]:
    with pytest.raises(WorkerFailedError) as told:
        hand.ask("something")
    return told.value.failure, told.value.reason


def test_an_answer_is_what_the_worker_said_and_phases_go_to_who_watches(start: Start) -> None:
    heard: list[str] = []
    act = "answer(b'{\"phase\": \"thinking\"}\\n'); answer(json.dumps({'done': command}).encode() + b'\\n')"
    hand = start(act, heard)
    assert hand.ask("think", deeply=True) == {"do": "think", "deeply": True}
    assert hand.ask("again") == {"do": "again"}
    assert heard == ["waiting", "thinking", "thinking"]


def test_an_answer_that_comes_in_pieces_is_put_together(start: Start) -> None:
    assert start(f"for byte in {OK!r}: answer(bytes([byte])); time.sleep(0.002)").ask("this") == {"answer": 42}


def test_a_large_answer_is_no_garbage(start: Start) -> None:
    hand = start("""
data = memoryview(json.dumps({"done": {"text": "x" * 5_000_000}}).encode() + b"\\n")
while data: data = data[os.write(pipe, data):]
""")
    assert len(hand.ask("this")["text"]) == 5_000_000


def test_what_the_worker_says_went_wrong_is_told_as_it_said_it(start: Start) -> None:
    hand = start('answer(b\'{"failed": ["out_of_memory", "too large"]}\\n\')')
    assert reason(hand) == ("out_of_memory", "too large")


GARBAGE = [b"garbage", b"", b"\xff\xfe", b"null", b"[]", b"5", b'"phase"', b"{}", b'{"done": 3}', b'{"failed": 1}',
           b'{"failed": ["alone"]}', b'{"done": null, "failed": null}', b"[" * 100_000, b"{" + OK[:-1]]  # fmt: skip


@pytest.mark.parametrize("data", GARBAGE, ids=range(len(GARBAGE)))
def test_an_answer_that_is_none_is_told_with_what_the_worker_was_at(start: Start, data: bytes) -> None:
    assert reason(start(f"answer({data[:99]!r} * {max(1, len(data) // 99)} + b'\\n')")) == (
        "garbage",
        "the worker's answer is not one; it was waiting",
    )


def test_an_answer_without_an_end_is_cut_off(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER", 1 << 20)
    assert reason(start("while True: answer(b'x' * 10_000)"))[0] == "garbage"


@pytest.mark.parametrize(
    ("act", "failure", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "killed", "killed by SIGKILL while waiting (out of memory?)"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "killed", "the worker was killed by SIGSEGV while waiting"),
        ("os.kill(os.getpid(), 40)", "killed", "killed by signal 40 while waiting"),
        ("os._exit(0)", "crash", "ended with exit code 0 while waiting and told no more"),
        ("sys.exit(3)", "crash", "ended with exit code 3 while waiting"),
        ("answer(b'{\"done\"'); os._exit(0)", "crash", "exit code 0"),
        ("print('last words', file=sys.stderr); os.abort()", "killed", "SIGABRT while waiting; it said: last words"),
        ("print('\\x1b[31m' * 3, *range(9), sep='\\n\\n'); sys.exit(1)", "crash", "it said: 6 | 7 | 8"),
        ("print('\\x1b[31mred', '\\u202e'); sys.exit(1)", "crash", "it said: \\x1b[31mred \\u202e"),
        ("os.write(1, b'\\xff\\x00'); sys.exit(1)", "crash", "it said: \ufffd\\x00"),
        ("os.close(pipe); sys.exit(1)", "crash", "exit code 1"),
    ],
)
def test_a_worker_that_ends_without_an_answer_is_told_by_how_it_ended(
    start: Start, act: str, failure: str, words: str
) -> None:
    told = reason(start(act))
    assert (told[0], words in told[1]) == (failure, True), told


@pytest.mark.parametrize(
    "act",
    [
        "time.sleep(600)",
        "os.close(pipe); os.close(1); os.close(2); time.sleep(600)",
        "while True: print('still here')",
        'while True: answer(b\'{"phase": "counting sheep"}\\n\'); time.sleep(0.01)',
        "signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals)); time.sleep(600)",
        "os.kill(os.getpid(), signal.SIGSTOP)",
    ],
)
def test_a_worker_that_does_not_answer_is_stopped_after_its_time(start: Start, act: str) -> None:
    hand = start(act, limit_s=0.4)
    before = time.perf_counter()
    failure, told = reason(hand)
    assert failure == "timeout"
    assert told.startswith("stopped after 0.4 s while ")
    assert "raise --limit" in told
    assert time.perf_counter() - before < 5
    hand.__exit__()
    assert gone(hand.process.pid)


def test_waiting_for_the_partner_takes_nothing_from_the_time_of_a_worker(start: Start) -> None:
    hand = start(f"answer({OK!r})", limit_s=5.0)
    hand.ask("this")
    left = hand.left_s
    time.sleep(0.3)
    assert hand.left_s == left
    hand.ask("that")
    assert left - 0.3 < hand.left_s < left


def test_a_time_of_day_that_jumps_changes_nothing(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    jumps = iter(range(10**9, 0, -(10**6)))
    monkeypatch.setattr(time, "time", lambda: float(next(jumps)))
    hand = start(f"time.sleep(0.2); answer({OK!r})", limit_s=30.0)
    hand.ask("this")
    assert 29.0 < hand.left_s < 29.9


def test_a_worker_that_prints_without_end_can_still_answer(start: Start) -> None:
    hand = start(f"os.write(1, b'words ' * 100_000); answer({OK!r})")
    for _ in range(5):
        assert hand.ask("this") == {"answer": 42}
    assert len(hand.tail) <= module.TAIL


def test_a_worker_that_never_reads_its_case_does_not_stop_the_bench(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "BOOT", "import sys; sys.exit(5)")
    with Hand(case(modules=("x" * 500_000,)), tmp_path, unheard) as hand:
        assert reason(hand)[0] == "crash"
        assert reason(hand)[0] == "crash"


def test_nothing_that_a_worker_started_outlives_it(start: Start) -> None:
    hand = start("""
code = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", code])
answer(json.dumps({"done": {"pid": child.pid}}).encode() + b"\\n")
""")
    child = hand.ask("this")["pid"]
    assert lives(child)
    hand.__exit__()
    assert gone(child)
    assert gone(hand.process.pid)


def test_a_hand_leaves_no_descriptors_and_no_zombie(start: Start) -> None:
    before = os.listdir("/proc/self/fd")
    for act in (f"answer({OK!r})", "sys.exit(1)"):
        hand = start(act)
        if "exit" in act:
            reason(hand)
        else:
            hand.ask("this")
        hand.__exit__()
        assert hand.process.returncode is not None
    assert os.listdir("/proc/self/fd") == before


def test_a_worker_that_cannot_start_leaves_no_descriptors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr("sys.executable", str(tmp_path / "no-python"))
    with pytest.raises(OSError, match="no-python"):
        Hand(case(), tmp_path, unheard)
    assert os.listdir("/proc/self/fd") == before


def test_signals_for_the_terminal_are_not_for_the_worker(start: Start) -> None:
    hand = start("answer(json.dumps({'done': {'group': os.getpgrp(), 'session': os.getsid(0)}}).encode() + b'\\n')")
    told = hand.ask("this")
    assert told["group"] == told["session"] == hand.process.pid != os.getpgrp()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
