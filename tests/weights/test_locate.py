"""Weights in folders and on the hub, which is a fake here: nothing is fetched."""

from __future__ import annotations

import sys
import types

import pytest
import torch
from safetensors.torch import save_file

import metablocks as mb
from metablocks.cli import main
from metablocks.weights import load_file, locate

TINY = """net: classifier
image: {size: 8}
classes: 2
stem: {patch_embed: {patch: 8}}
block: {norm: layer_norm, mixer: identity, mlp: {ratio: 1}}
stages: [{dim: 8, depth: 1}]
head: {norm: layer_norm}
"""


class EntryNotFoundError(Exception):
    """As the hub's package names it; the others are made below."""


def error(name, base=Exception, **attributes):
    made = type(name, (base,), {})("https://hub/secret?token=hf_abc")
    vars(made).update(attributes)
    return made


class Hub(types.ModuleType):
    """Files by (repository, name, revision); or an error for whatever is asked."""

    def __init__(self, folder):
        super().__init__("huggingface_hub")
        self.folder, self.files, self.error, self.asked = folder, {}, None, []

    def put(self, repository, name, revision=None, state=None):
        path = self.folder / f"{len(self.files)}_{name.replace('/', '_')}"
        save_file(state or {"a": torch.zeros(1)}, path)
        self.files[repository, name, revision] = path
        return path

    def hf_hub_download(self, repo_id, filename, revision, local_files_only=False):
        self.asked.append((repo_id, filename, revision))
        if self.error and not local_files_only:
            raise self.error
        if (repo_id, filename, revision) not in self.files:
            raise EntryNotFoundError(filename)
        return str(self.files[repo_id, filename, revision])


@pytest.fixture
def hub(monkeypatch, tmp_path):
    (tmp_path / "cache").mkdir()
    fake = Hub(tmp_path / "cache")
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    return fake


def test_the_usual_file_of_a_repository_is_found(hub):
    path = hub.put("timm/vit", "pytorch_model.bin")
    assert locate("hf-hub:timm/vit") == str(path)
    safe = hub.put("timm/vit", "model.safetensors")
    assert locate("hf-hub:timm/vit") == str(safe)


def test_a_file_and_a_revision_may_be_named(hub):
    path = hub.put("org/name", "sub/best.pth", "v1.0")
    assert locate("hf-hub:org/name/sub/best.pth@v1.0") == str(path)
    assert hub.asked == [("org/name", "sub/best.pth", "v1.0")]


def test_a_network_is_built_with_weights_of_the_hub(hub, tmp_path, monkeypatch, capsys):
    model = mb.build(TINY)
    mb.save(model, tmp_path / "tiny.safetensors")
    hub.put("me/tiny", "model.safetensors", state=model.state_dict())
    image = torch.randn(1, 3, 8, 8)
    assert torch.equal(mb.build(TINY, weights="hf-hub:me/tiny")(image), model(image))
    again = mb.build(TINY)
    mb.load_weights(again, "hf-hub:me/tiny")
    assert torch.equal(again(image), model(image))
    (tmp_path / "tiny.yaml").write_text(TINY)
    command = ["build", str(tmp_path / "tiny.yaml"), "--weights", "hf-hub:me/tiny", "--compile", "none"]
    monkeypatch.setattr("sys.argv", ["metablocks", *command])
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code, capsys.readouterr()


def test_offline_what_is_in_the_cache_is_found_whatever_it_is_called(hub):
    path = hub.put("org/old", "pytorch_model.bin")
    hub.error = error("LocalEntryNotFoundError", EntryNotFoundError)
    assert locate("hf-hub:org/old") == str(path)
    with pytest.raises(mb.MissingError, match="cannot be reached"):
        locate("hf-hub:org/other")


@pytest.mark.parametrize(
    "name",
    ["hf-hub:", "hf-hub:name", "hf-hub:a/../b", "hf-hub:a/b/../c", "hf-hub:a//b", "hf-hub:a/b@", "hf-hub:a/b\x1b[2J"],
)
def test_what_is_no_id_of_the_hub_is_refused_before_it_is_asked(name, hub):
    with pytest.raises(mb.InputError, match="is no id of the hub") as caught:
        locate(name)
    assert hub.asked == []
    assert "\x1b" not in str(caught.value)


def response(status):
    return types.SimpleNamespace(status_code=status)


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        (error("LocalEntryNotFoundError", EntryNotFoundError), mb.MissingError, "cannot be reached"),
        (error("OfflineModeIsEnabled", ConnectionError), mb.MissingError, "cannot be reached"),
        (error("ConnectError"), mb.MissingError, "cannot be reached"),
        (error("GatedRepoError", type("RepositoryNotFoundError", (Exception,), {})), mb.MissingError, "is gated"),
        (error("RepositoryNotFoundError", response=response(401)), mb.InputError, "or it is private"),
        (error("RevisionNotFoundError", response=response(404)), mb.InputError, "no such revision"),
        (error("HFValidationError", ValueError), mb.InputError, "is no id of the hub"),
        (error("HfHubHTTPError", response=response(429)), mb.StoreError, "too many requests"),
        (error("HfHubHTTPError", response=response(503)), mb.StoreError, "answered 503"),
        (OSError(28, "No space left on device"), mb.StoreError, "No space left on device"),
        (RuntimeError("token=hf_abc"), mb.StoreError, "RuntimeError"),
    ],
)
def test_every_fault_of_the_hub_has_its_sentence_and_no_token(fault, kind, words, hub):
    hub.error = fault
    with pytest.raises(kind, match=words) as caught:
        locate("hf-hub:org/name")
    assert type(caught.value) is kind
    assert "hf_abc" not in str(caught.value)


def test_a_repository_without_weights_and_one_with_split_weights_are_told(hub):
    with pytest.raises(mb.InputError, match=r"has no file model\.safetensors, "):
        locate("hf-hub:org/empty")
    hub.put("org/large", "model.safetensors.index.json")
    with pytest.raises(mb.InputError, match="split over several files"):
        locate("hf-hub:org/large")


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(mb.MissingError, match="needs huggingface_hub") as caught:
        locate("hf-hub:org/name")
    assert "metablocks[hub]" in str(caught.value)


def test_a_folder_stands_for_the_weights_in_it(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    assert load_file(tmp_path).tensors.keys() == {"a"}
    save_file({"b": torch.zeros(1)}, tmp_path / "other.safetensors")
    assert load_file(tmp_path).tensors.keys() == {"a"}
    (tmp_path / "model.safetensors").unlink()
    assert load_file(tmp_path).tensors.keys() == {"b"}


def test_a_folder_that_does_not_say_which_file_is_refused(tmp_path):
    with pytest.raises(mb.InputError, match="holds no weights"):
        load_file(tmp_path)
    for name in ("a.pth", "b.pth"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(mb.InputError, match=r"several files of weights: `a\.pth` and `b\.pth`"):
        load_file(tmp_path)
    for name in ("a.pth", "b.pth"):
        (tmp_path / name).unlink()
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(mb.InputError, match="split over several files"):
        load_file(tmp_path)
