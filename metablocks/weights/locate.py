"""Where weights are: a file, a folder with one, or `hf-hub:org/name`, which is fetched into the cache of the hub."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from metablocks.core.errors import Fault, InputError, MetablocksError, MissingError, StoreError
from metablocks.core.text import listed, printable

HUB = "hf-hub:"
FORM = "write `hf-hub:org/name`, `hf-hub:org/name@revision` or `hf-hub:org/name/file.safetensors`"
USUAL = ("model.safetensors", "pytorch_model.safetensors", "pytorch_model.bin", "model.pth")
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".tar", ".npz")
SPLIT = ".index.json"


def locate(source: str | os.PathLike[str]) -> str:
    """The path of the file with the weights. What is no folder and no hub id is given back as it is.

    Raises `InputError` where there is nothing, `MissingError` without the hub's package or a connection.
    """
    name = os.fspath(source)
    if name.startswith(HUB):
        return _fetched(name)
    return _in_folder(name) if "\0" not in name and os.path.isdir(name) else name


def _in_folder(name: str) -> str:
    shown = printable(name, 200)
    try:
        there = sorted(os.listdir(name))
    except OSError as error:
        raise StoreError(f"cannot read the folder `{shown}`: {error.strerror}") from error
    weights = [file for file in there if file.endswith(SUFFIXES)]
    usual = [file for file in USUAL if file in weights]
    if usual or len(weights) == 1:
        return os.path.join(name, (usual or weights)[0])
    if any(file.endswith(SPLIT) for file in there):
        raise InputError(_split(f"`{shown}`"))
    if not weights:
        wrong = f"the folder `{shown}` holds no weights"
        raise InputError(Fault(wrong, help=f"files of weights end in {listed(SUFFIXES, 'or')}"))
    told = listed([f"`{printable(file)}`" for file in weights[:5]])
    more = f" and {len(weights) - 5} more" if len(weights) > 5 else ""
    raise InputError(Fault(f"the folder `{shown}` holds several files of weights: {told}{more}", help="name one"))


def _split(shown: str) -> Fault:
    return Fault(f"the weights in {shown} are split over several files", help="join them into one file first")


def _fetched(name: str) -> str:
    repository, file, revision = _parts(name)
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        wrong = "fetching from the hub needs huggingface_hub"
        raise MissingError(Fault(wrong, help="pip install 'metablocks[hub]'")) from error
    for wanted in [file] if file else USUAL:
        try:
            found = _download(hf_hub_download, name, repository, wanted, revision)
        except MissingError:
            found = None if file else _cached(hf_hub_download, repository, revision)
            if found is None:
                raise
        if found is not None:
            return found
    if not file and _download(hf_hub_download, name, repository, USUAL[0] + SPLIT, revision) is not None:
        raise InputError(_split(f"`{printable(name, 200)}`"))
    wrong = f"`{printable(name, 200)}` has no file {listed([file] if file else USUAL, 'or')}"
    raise InputError(Fault(wrong, help=FORM))


def _parts(name: str) -> tuple[str, str, str | None]:
    """Repository, file in it (empty: the usual one) and revision of a hub id."""
    path, _, revision = name.removeprefix(HUB).partition("@")
    parts = path.split("/")
    file = "/".join(parts[2:])
    sound = len(parts) >= 2 and all(part not in ("", ".", "..") and part.isprintable() for part in parts)
    if not sound or "\\" in path or PurePosixPath(file).is_absolute() or ("@" in name and not revision):
        raise InputError(Fault(f"`{printable(name, 200)}` is no id of the hub", help=FORM))
    return "/".join(parts[:2]), file, revision or None


def _download(download: Callable[..., Any], name: str, repository: str, file: str, revision: str | None) -> str | None:
    """The path of a file, from the cache or fetched; None where the repository has no such file."""
    try:
        found = str(download(repo_id=repository, filename=file, revision=revision))
    except Exception as error:
        told = _explained(error, name)
        if told is None:
            return None
        raise told from error
    if not Path(found).is_file():
        raise StoreError(f"the hub's cache lacks `{printable(found, 200)}`")
    return found


def _cached(download: Callable[..., Any], repository: str, revision: str | None) -> str | None:
    """The usual file that is in the cache, where the hub cannot be asked which one there is."""
    for file in USUAL:
        with suppress(Exception):
            return str(download(repo_id=repository, filename=file, revision=revision, local_files_only=True))
    return None


def _explained(error: Exception, name: str) -> MetablocksError | None:
    """The error in words. Kinds by their names: they have moved between versions, and a token may stand in a text."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    shown = f"`{printable(name, 200)}`"
    if kinds & {
        "LocalEntryNotFoundError",
        "OfflineModeIsEnabled",
        "ConnectionError",
        "ConnectError",
        "TimeoutException",
    }:
        wrong = f"{shown} is not in the cache, and the hub cannot be reached"
        return MissingError(Fault(wrong, help="go online (HF_HUB_OFFLINE unset), or give a file"))
    if "EntryNotFoundError" in kinds:
        return None
    if "GatedRepoError" in kinds:
        return MissingError(Fault(f"{shown} is gated", help="accept its terms on the hub, then `hf auth login`"))
    if "RepositoryNotFoundError" in kinds:
        return InputError(Fault(f"the hub has no {shown}, or it is private", help="check the name; `hf auth login`"))
    if "RevisionNotFoundError" in kinds:
        return InputError(Fault(f"{shown} has no such revision", help=FORM))
    if "HFValidationError" in kinds:
        return InputError(Fault(f"{shown} is no id of the hub", help=FORM))
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        again = "too many requests: wait a while" if status == 429 else "try again later"
        return StoreError(Fault(f"the hub answered {status} to {shown}", help=again))
    if isinstance(error, OSError):
        return StoreError(f"cannot store {shown}: {printable(error.strerror or type(error).__name__, 100)}")
    return StoreError(f"cannot fetch {shown}: {type(error).__name__}")
