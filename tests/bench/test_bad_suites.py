"""Bad suites beside their exact messages: `bad_suites/NAME.yaml` and `bad_suites/NAME.txt`.

`python tests/bench/test_bad_suites.py` writes the messages anew; read the diff as whoever made the mistake would.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from metablocks.bench.suite import is_suite, read_suite
from metablocks.core.errors import InputError

FOLDER = Path(__file__).parent / "bad_suites"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def refused(name: str) -> InputError:
    """The error of a bad suite, as if its folder were where the user stands."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(FOLDER)
        with pytest.raises(InputError) as caught:
            read_suite(f"{name}.yaml", "cuda")
    return caught.value


@pytest.mark.parametrize("name", NAMES)
def test_a_bad_suite_gets_its_message(name: str) -> None:
    error = refused(name)
    assert f"{error}\n" == (FOLDER / f"{name}.txt").read_text(encoding="utf-8")
    assert error.exit_code == 2


@pytest.mark.parametrize("name", NAMES)
def test_a_message_is_for_people(name: str) -> None:
    for fault in refused(name).faults:
        words = f"{fault.message} {fault.hint} {fault.help}"
        assert all(
            jargon not in words for jargon in ("pydantic", "Traceback", "NoneType", "input should", "dictionary")
        )
        assert fault.place is None or fault.place.source.name == f"{name}.yaml"


@pytest.mark.parametrize("name", NAMES)
def test_a_bad_suite_is_still_a_suite(name: str) -> None:
    assert is_suite(FOLDER / f"{name}.yaml")


def test_every_message_has_its_suite() -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(NAMES)


if __name__ == "__main__":
    for stem in NAMES:
        (FOLDER / f"{stem}.txt").write_text(f"{refused(stem)}\n", encoding="utf-8")
    sys.exit(0)
