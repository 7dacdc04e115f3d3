"""Files are read by their content; what is no checkpoint is told in a sentence, and nothing in a file is run."""

from __future__ import annotations

import argparse
import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from metablocks.core.errors import InputError
from metablocks.weights import load_file

TENSORS = {"blocks.0.norm1.weight": torch.arange(3.0), "head.bias": torch.zeros(2)}


class Payload:
    """Makes a file when it is unpickled in the ordinary way."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return os.mkdir, (str(self.path),)


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_file(path)
    assert caught.value.exit_code == 2
    return str(caught.value).replace(str(path), "FILE")


def refused_bytes(tmp_path: Path, data: bytes, name: str = "file.pth") -> str:
    path = tmp_path / name
    path.write_bytes(data)
    return refused(path)


def zipped(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def header_of(entries: str) -> bytes:
    text = entries.encode()
    return struct.pack("<Q", len(text)) + text


def npy(array: np.ndarray, allow_pickle: bool = False) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, allow_pickle=allow_pickle)
    return file.getvalue()


@pytest.mark.parametrize("suffix", ["safetensors", "pth", "npz", "bin"])
@pytest.mark.parametrize("kind", ["safetensors", "torch", "old torch", "npz"])
def test_every_format_is_read_whatever_the_suffix_says(tmp_path, kind, suffix):
    path = tmp_path / f"weights.{suffix}"
    with path.open("wb") as file:
        if kind == "safetensors":
            file.write(safetensors.torch.save(TENSORS))
        elif kind == "npz":
            np.savez(file, **{name: tensor.numpy() for name, tensor in TENSORS.items()})
        else:
            torch.save(TENSORS, file, _use_new_zipfile_serialization=kind == "torch")
    loaded = load_file(path).tensors
    assert set(loaded) == set(TENSORS)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in TENSORS.items())


def test_what_a_safetensors_file_says_besides_is_kept(tmp_path):
    path = tmp_path / "a.safetensors"
    safetensors.torch.save_file(TENSORS, path, {"spec": "net: classifier"})
    assert load_file(path).metadata == {"spec": "net: classifier"}


@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, protocol):
    told = refused_bytes(tmp_path, pickle.dumps({"w": Payload(tmp_path / "ran")}, protocol))
    assert told.startswith("error: `FILE` contains code: posix.mkdir; nothing of it was run")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("suffix", ["pth", "safetensors", "npz"])
def test_a_torch_file_with_code_is_refused_and_not_run(tmp_path, new, suffix):
    path = tmp_path / f"w.{suffix}"
    torch.save({**TENSORS, "x": Payload(tmp_path / "ran")}, path, _use_new_zipfile_serialization=new)
    assert "contains code: posix.mkdir" in refused(path)
    assert not (tmp_path / "ran").exists()


def test_a_whole_module_is_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "m.pth")
    told = refused(tmp_path / "m.pth")
    assert "contains code: torch.nn.modules.linear.Linear" in told
    assert "save `model.state_dict()` alone" in told


def test_objects_of_a_training_script_are_refused_with_the_command_that_takes_the_weights_out(tmp_path):
    torch.save({"model": TENSORS, "args": argparse.Namespace(lr=1)}, tmp_path / "m.pth")
    told = refused(tmp_path / "m.pth")
    assert "holds Python objects beside its weights: argparse.Namespace; nothing was loaded" in told
    assert "python -c" in told


def test_an_empty_file_is_refused(tmp_path):
    assert refused_bytes(tmp_path, b"") == "error: `FILE` is empty: 0 bytes\nhelp: download it again"


def test_a_pointer_of_git_lfs_is_refused(tmp_path):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 346284714\n"
    told = refused_bytes(tmp_path, pointer)
    assert told == (
        "error: `FILE` is a Git LFS pointer to a file of 346284714 bytes, not the file itself\nhelp: run `git lfs pull`"
    )


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\n<!DOCTYPE html><html><body>Not found</body></html>", "is a web page, not a checkpoint"),
        (b'{"weight_map": {"a": "model-00001.safetensors"}}', "is JSON, not a checkpoint"),
        (b"\x93NUMPY\x01\x00v\x00", "is a single NumPy array, not a checkpoint"),
        (b"\x1f\x8b\x08\x00" + bytes(20), "is a gzip file, not a checkpoint"),
        (b"net: classifier\nimage: {size: 224}\n", "is no checkpoint: neither safetensors nor PyTorch nor NumPy"),
        (bytes(range(200, 256)) * 10, "is no checkpoint: neither safetensors nor PyTorch nor NumPy"),
        (zipped({"a.txt": b"x"}), "is a zip archive without weights"),
        (b"\x80\x02}q\x00.", "is a Python pickle, but not of `torch.save`"),
        (b"ab", "is no checkpoint"),
    ],
)
def test_what_is_no_checkpoint_is_told_by_what_it_is(tmp_path, data, words):
    assert words in refused_bytes(tmp_path, data)


def test_a_truncated_file_is_told_with_its_size(tmp_path):
    whole = safetensors.torch.save(TENSORS)
    told = refused_bytes(tmp_path, whole[:-4])
    assert f"is incomplete: expected {len(whole)} bytes, it has {len(whole) - 4}" in told
    assert "is incomplete: its header ends at byte" in refused_bytes(tmp_path, whole[:40])
    for new in (True, False):
        file = io.BytesIO()
        torch.save(TENSORS, file, _use_new_zipfile_serialization=new)
        assert "is incomplete:" in refused_bytes(tmp_path, file.getvalue()[:-10])
    file = io.BytesIO()
    np.savez(file, a=np.zeros(100))
    assert "is incomplete: it breaks off" in refused_bytes(tmp_path, file.getvalue()[:-10])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (struct.pack("<Q", 1 << 63) + b"{}", "its header would be of 9,223,372,036,854,775,808 bytes"),
        (header_of('{"a": nonsense}'), "its header cannot be read"),
        (header_of('{"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}'), "is no sound safetensors file"),
        (header_of('{"a": {"dtype": "F32", "shape": [1]}}') + bytes(4), "its header cannot be read"),
        (
            header_of('{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}') + bytes(9),
            "is no sound safetensors file",
        ),
        (
            header_of(
                '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},'
                ' "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'
            )
            + bytes(4),
            "names a tensor twice: `a`",
        ),
        (header_of("[" * 50000), "is no"),
    ],
)
def test_a_safetensors_file_that_is_not_sound_is_refused(tmp_path, data, words):
    assert words in refused_bytes(tmp_path, data, "a.safetensors")


def test_an_array_of_objects_is_refused(tmp_path):
    objects = npy(np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert "contains code: `a.npy` is an array of Python objects" in refused_bytes(tmp_path, zipped({"a.npy": objects}))


def test_an_array_that_claims_more_than_is_there_is_refused_before_it_is_allocated(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40,)})
    told = refused_bytes(tmp_path, zipped({"a.npy": header.getvalue() + bytes(64)}))
    assert "is incomplete: `a.npy` of shape (1099511627776,)" in told


def test_an_archive_that_unpacks_to_far_more_than_its_size_is_refused(tmp_path):
    told = refused_bytes(tmp_path, zipped({"a.npy": npy(np.zeros(10_000_000))}))
    assert "would unpack to more than 1,000 times its size" in told


def test_a_path_that_is_no_file_is_told_as_what_it_is(tmp_path):
    assert "there is no file" in refused(tmp_path / "missing.pth")
    assert "holds no weights" in refused(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "is not a regular file" in refused(tmp_path / "pipe")


def test_names_that_could_steer_a_terminal_are_escaped(tmp_path):
    torch.save({"\x1b[2J": 1}, tmp_path / "a.pth")
    told = refused(tmp_path / "a.pth")
    assert "\x1b" not in told
    assert "`\\x1b[2J` is an int" in told


def test_a_dict_of_other_things_is_told_by_what_it_holds(tmp_path):
    torch.save({"epoch": 3, "loss": [1.0]}, tmp_path / "a.pth")
    told = refused(tmp_path / "a.pth")
    assert "2 of 2 entries of `FILE` are no tensors: `epoch` is an int, `loss` is a list" in told
    torch.save([torch.ones(2)], tmp_path / "b.pth")
    assert "holds a list, not a dict of tensors by name" in refused(tmp_path / "b.pth")


def test_an_index_of_safetensors_is_told_apart_from_a_header(tmp_path):
    index = json.dumps({"metadata": {}, "weight_map": {"a": "b"}}, indent=2).encode()
    assert "is JSON" in refused_bytes(tmp_path, index, "model.safetensors.index.json")
