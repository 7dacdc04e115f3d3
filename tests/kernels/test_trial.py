"""Choosing by trial: what is wrong, raises or is slower does not run; verdicts are kept for where they were found."""

from __future__ import annotations

import json

import pytest
import torch

from metablocks.core import cache
from metablocks.kernels import trial

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    monkeypatch.setenv("METABLOCKS_CACHE", str(tmp_path))
    trial.forget()
    yield
    trial.forget()


@pytest.fixture
def clock(monkeypatch):
    """Calls return how long they took: nothing is timed."""
    monkeypatch.setattr(trial, "_seconds", lambda call, _: call())


def fails():
    raise RuntimeError("no such instruction\nand more")


def files():
    return list(cache.folder().glob("kernels-*.json"))


@pytest.mark.usefixtures("clock")
class TestChoice:
    def test_the_fastest_is_chosen(self):
        assert trial.choose("k", {"a": lambda: 3.0, "b": lambda: 1.0, "c": lambda: 2.0}, CPU) == "b"

    def test_what_is_named_first_is_kept_where_all_take_as_long(self):
        assert trial.choose("k", {"a": lambda: 1.0, "b": lambda: 1.0}, CPU) == "a"

    def test_a_later_one_has_to_be_faster_in_most_rounds(self):
        noisy = iter([1.0] * 6 + [2.0, 0.5] * 50)  # of two warm-up calls and of rounds in which it wins by half
        assert trial.choose("k", {"a": lambda: 1.0, "b": lambda: next(noisy)}, CPU) == "a"

    def test_what_raises_is_not_chosen_and_the_verdict_says_why(self):
        found = trial.verdict("k", {"a": fails, "b": lambda: 1.0}, CPU)
        assert found.chosen == "b"
        assert found.why_not("a") == "RuntimeError: no such instruction"
        assert found.why_not("b") == ""

    def test_what_is_wrong_is_not_chosen_though_it_is_fast(self):
        found = trial.verdict("k", {"a": lambda: 0.0, "b": lambda: 1.0}, CPU, lambda name: f"{name} is off by 2")
        assert found.chosen == "b"
        assert found.why_not("a") == "a is off by 2"

    def test_a_check_that_raises_is_a_reason_too(self):
        assert trial.verdict("k", {"a": lambda: 0.0, "b": lambda: 1.0}, CPU, lambda _: fails()).chosen == "b"

    def test_what_is_slower_is_not_chosen_and_the_verdict_says_by_how_much(self):
        found = trial.verdict("k", {"a": lambda: 2e-3, "b": lambda: 1e-3}, CPU)
        assert found.why_not("a") == "slower: a 2 ms, b 1 ms"

    def test_the_last_one_is_never_refused(self):
        assert trial.choose("k", {"only": fails}, CPU) == "only"

    def test_a_last_one_that_memory_does_not_hold_is_not_chosen(self):
        def huge():
            raise torch.OutOfMemoryError

        assert trial.choose("k", {"a": lambda: 1.0, "b": huge}, CPU) == "a"


@pytest.mark.usefixtures("clock")
class TestMemory:
    def test_nothing_is_tried_twice_in_a_process(self):
        calls = []
        candidates = {"a": lambda: calls.append(1) or 1.0, "b": lambda: 2.0}
        first = trial.verdict("k", candidates, CPU)
        made = len(calls)
        assert trial.verdict("k", candidates, CPU) is first
        assert len(calls) == made

    def test_nothing_is_tried_twice_on_a_machine(self):
        first = trial.verdict("k", {"a": lambda: 2.0, "b": lambda: 1.0}, CPU)
        trial.forget()
        assert trial.verdict("k", {"a": lambda: 0.0, "b": fails}, CPU) == first

    def test_each_key_has_its_own_verdict(self):
        assert trial.choose("k", {"a": lambda: 2.0, "b": lambda: 1.0}, CPU) == "b"
        assert trial.choose("l", {"a": lambda: 1.0, "b": lambda: 1.0}, CPU) == "a"
        assert len(json.loads(files()[0].read_text())) == 2

    @pytest.mark.parametrize("what", ["_sources", "_version"])
    def test_other_kernels_or_versions_are_tried_anew(self, what, monkeypatch):
        trial.choose("k", {"a": lambda: 2.0, "b": lambda: 1.0}, CPU)
        monkeypatch.setattr(trial, what, lambda *_: "others")
        trial._place.cache_clear()
        assert trial.choose("k", {"a": lambda: 1.0, "b": lambda: 1.0}, CPU) == "a"
        trial._place.cache_clear()
        assert len(files()) == 2

    @pytest.mark.parametrize("text", ["", "[]", '{"k": 3}', '{"k": {"other": 1}}', '{"k": {"chosen": "gone"}}'])
    def test_a_damaged_memory_is_no_memory(self, text):
        trial.choose("k", {"a": lambda: 2.0, "b": lambda: 1.0}, CPU)
        files()[0].write_text(text)
        trial.forget()
        assert trial.choose("k", {"a": lambda: 1.0, "b": lambda: 1.0}, CPU) == "a"

    def test_a_memory_that_cannot_be_written_is_done_without(self, monkeypatch):
        monkeypatch.setenv("METABLOCKS_CACHE", "/dev/null/nowhere")
        assert trial.choose("k", {"a": lambda: 1.0, "b": lambda: 1.0}, CPU) == "a"

    def test_what_was_raised_before_anything_was_timed_is_not_remembered_on_disk(self):
        assert trial.choose("k", {"a": fails, "b": lambda: 1.0}, CPU) == "b"
        assert files() == []

    def test_that_memory_ran_out_is_not_remembered_on_disk(self):
        def huge():
            raise torch.OutOfMemoryError

        assert trial.choose("k", {"a": huge, "b": lambda: 1.0}, CPU) == "b"
        assert files() == []


def test_nothing_is_tried_while_a_graph_is_captured(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    monkeypatch.setattr(trial, "_place", lambda _: "a GPU")
    found = trial.verdict("k", {"a": fails, "b": fails}, torch.device("cuda"))
    assert found.chosen == "b"
    assert found.why_not("a") == "a CUDA graph was being captured"
    assert trial._known == {}
    assert files() == []


def test_candidates_take_turns_and_every_other_round_is_reversed(monkeypatch):
    order = []
    monkeypatch.setattr(trial, "_seconds", lambda call, _: order.append(call()) or 1.0)
    trial.measured({"a": lambda: "a", "b": lambda: "b"}, CPU)
    assert "".join(order).startswith("ab" + "ab" + "ba" + "ab" + "ba")


def test_a_call_on_a_cpu_takes_time():
    assert trial.choose("k", {"a": lambda: sum(range(100)), "b": lambda: sum(range(100))}, CPU) in {"a", "b"}
