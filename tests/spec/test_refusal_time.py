"""Files that are made to hang a reader: refused at once, and before torch is imported."""

import subprocess
import sys

import pytest

SECONDS = 10  # a wide bound: a machine may be busy
READ = """
import sys
from time import perf_counter

import metablocks as mb

read, refused = mb.read, mb.SpecError
start = perf_counter()
try:
    read(sys.argv[1])
except refused as error:
    print(f"{perf_counter() - start:.4f}")
    print("torch" in sys.modules)
    print(error)
"""
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
FILES = {
    "a line of 10 MB": (b"net: " + b"x" * 10_000_000, "a spec larger than 1 MiB"),
    "a line of nearly 1 MiB": (b"net: [" + b"x," * 500_000 + b"]", "more than 20,000 values"),
    "10,000 nested lists": (b"net: " + b"[" * 10_000 + b"]" * 10_000, "nested deeper than 32 levels"),
    "1,000 nested mappings": (b"".join(b" " * depth + b"a:\n" for depth in range(1_000)), "nested deeper than 32"),
    "a null byte": (b"net: classi\0fier\n", "a spec cannot hold the character U+0000"),
    "UTF-16": ("net: classifier\n".encode("utf-16"), "the file is UTF-16"),
    "UTF-16 without a mark": ("net: classifier\n".encode("utf-16-le"), "a spec cannot hold the character U+0000"),
    "a billion laughs": (LAUGHS.encode(), "anchors and aliases are not part of the language"),
}


def refusal(path):
    """How long the refusal took, whether torch was there, and the message."""
    done = subprocess.run([sys.executable, "-c", READ, path], capture_output=True, text=True, check=True, timeout=60)
    seconds, torch, message = done.stdout.split("\n", 2)
    return float(seconds), torch == "True", message


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_made_to_hang_is_refused_at_once_without_torch(name, tmp_path):
    data, told = FILES[name]
    path = tmp_path / "spec.yaml"
    path.write_bytes(data)
    seconds, torch, message = refusal(str(path))
    assert message.startswith(f"error: {told}")
    assert not torch
    assert seconds < SECONDS
    assert len(message) < 2_000
