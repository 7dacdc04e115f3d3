"""Bad specs beside their exact messages: `bad/NAME.yaml` and `bad/NAME.txt`.

`python tests/spec/test_bad_specs.py` writes the messages anew; read the diff as the person who made the mistake would.
"""

import sys
from pathlib import Path

import pytest

import metablocks as mb
from metablocks.core.errors import SHOWN, SpecError

FOLDER = Path(__file__).parent / "bad"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def refused(name):
    """The error of a bad spec, as if its folder were where the user stands."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(FOLDER)
        with pytest.raises(SpecError) as caught:
            mb.plan(f"{name}.yaml")
    return caught.value


@pytest.mark.parametrize("name", NAMES)
def test_a_bad_spec_gets_its_message(name):
    error = refused(name)
    assert f"{error}\n" == (FOLDER / f"{name}.txt").read_text(encoding="utf-8")
    assert error.exit_code == 2
    assert error.file == f"{name}.yaml"
    assert len(error.faults) <= SHOWN


@pytest.mark.parametrize("name", NAMES)
def test_a_message_is_for_people(name):
    for fault in refused(name).faults:
        assert fault.message[0].islower() or fault.message[0] in "`0123456789"
        assert not fault.message.endswith(".")
        words = f"{fault.message} {fault.hint} {fault.help}"
        assert fault.place is not None
        assert all(jargon not in words for jargon in ("pydantic", "Traceback", "NoneType", "<class", "input_value"))


@pytest.mark.parametrize("name", NAMES)
def test_no_fault_is_told_twice(name):
    faults = refused(name).faults
    assert len({fault.message for fault in faults}) == len(faults)


def test_every_message_has_its_spec():
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(NAMES)
    assert len(NAMES) >= 90


if __name__ == "__main__":
    for stem in NAMES:
        (FOLDER / f"{stem}.txt").write_text(f"{refused(stem)}\n", encoding="utf-8")
    sys.exit(0)
