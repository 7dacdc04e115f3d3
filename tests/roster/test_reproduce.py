"""The command that holds every shipped network against published figures."""

from __future__ import annotations

import csv
import json

import pytest

from metablocks import roster
from metablocks.cli import main
from metablocks.core.errors import InputError
from metablocks.core.shipped import shipped_names
from metablocks.roster import recount
from metablocks.roster.conventions import agrees
from metablocks.roster.figures import PUBLISHED, figures
from metablocks.roster.reproduce import _counted


@pytest.fixture(autouse=True)
def _costs_are_counted_and_not_remembered(monkeypatch, tmp_path):
    monkeypatch.setenv("METABLOCKS_CACHE", str(tmp_path))


@pytest.fixture
def run(monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["metablocks", "reproduce", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return stop.value.code or 0, captured.out, captured.err

    return call


def written(path, name, like="vit_ti16", **changes):
    """A table of one row: the published one of `like` under another name, changed."""
    with PUBLISHED.open(newline="") as file:
        rows = list(csv.DictReader(file))
    row = next(row for row in rows if row["spec"] == like) | {"spec": name} | changes
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, row)
        writer.writeheader()
        writer.writerow(row)
    return path


def outcome(monkeypatch, path, name="vit_ti16"):
    monkeypatch.setattr(figures, "__defaults__", ((), path))
    (found,) = roster.reproduce([name])
    return found


def test_every_shipped_network_is_reproduced_and_told(run):
    code, out, err = run()
    assert code == 0, out + err
    assert "off" not in out
    assert {line.split()[0] for line in out.splitlines() if line.split()[:1]} >= set(shipped_names())


def test_every_row_of_the_table_is_a_shipped_network_or_a_part_of_one():
    assert [figure.name for figure in figures() if figure.spec not in shipped_names()] == []


def test_as_json_it_holds_both_sides_and_the_reasons(run):
    code, out, _ = run("mae_vit_b16", "mixer_b16", "--json")
    data = json.loads(out)
    rows = {row["name"]: row for row in data["networks"]}
    assert (code, data["ok"]) == (0, True)
    assert rows["mae_vit_b16"]["frozen_params"] == 252_160
    assert rows["mae_vit_b16 encoder, all patches"]["macs"] == 17_563_060_224
    assert rows["mixer_b16"]["published"] == {"params": 59_880_472, "macs": 12_601_767_936}
    assert rows["mixer_b16"]["notes"][0] == "the Mixer paper counts no head"


def test_a_name_without_figures_is_bad_input(run):
    code, out, err = run("swin_tt")
    assert (code, out) == (2, "")
    assert "did you mean `swin_t`?" in err


def test_a_number_that_is_off_by_one_ends_with_one(monkeypatch, tmp_path, run):
    path = written(tmp_path / "off.csv", "vit_ti16", params_exact="5717417")
    monkeypatch.setattr(figures, "__defaults__", ((), path))
    code, out, _ = run("vit_ti16")
    assert code == 1
    assert "off: vit_ti16: parameters are 5,717,416, published 5,717,417" in out


def test_a_figure_of_the_paper_that_nothing_explains_is_off(monkeypatch, tmp_path):
    found = outcome(monkeypatch, written(tmp_path / "a.csv", "vit_ti16", params_paper_M="6.9"))
    assert found.wrong == ("the paper's figure, 6.9, of its parameters is not explained",)


def test_another_resolution_is_the_spec_with_its_image_size(monkeypatch, tmp_path):
    numbers = {"img_size": "384", "params_exact": "5790376", "macs_counter": "4682219520"}
    found = outcome(monkeypatch, written(tmp_path / "a.csv", "vit_ti16_384", **numbers), "vit_ti16_384")
    assert (found.params, found.macs, found.wrong) == (5_790_376, 4_682_219_520, ())
    assert found.figure.edits == ("image.size=384",)


def test_the_classes_of_imagenet_22k_are_an_edit_too(tmp_path):
    (figure,) = figures(path=written(tmp_path / "a.csv", "swin_t_21k"))
    assert (figure.spec, figure.edits) == ("swin_t", ("classes=21841",))


def test_a_row_of_no_network_and_a_network_without_a_row_are_off(monkeypatch, tmp_path):
    path = written(tmp_path / "a.csv", "vit_of_nobody")
    assert outcome(monkeypatch, path, "vit_of_nobody").wrong == ("no shipped spec is this network",)
    assert outcome(monkeypatch, path, "swin_t").wrong == ("no figures were published for it",)


def test_a_name_may_be_a_spec_with_its_halves():
    assert [figure.half for figure in figures(["mae_vit_b16"])] == ["", "encoder", "encoder", "decoder"]
    with pytest.raises(InputError, match="no published figures of `nothing`"):
        figures(["nothing"])


@pytest.mark.parametrize(
    ("printed", "numbers", "same"),
    [
        ("86", (85.8e6,), True),
        ("86", (86.57e6,), False),
        ("22.2", (22.1966e6,), True),
        ("17.56", (17.5638e6,), True),
        ("11.9+0.2", (11.891712e6, 0.235298e6), True),
        ("11.9+0.2", (12.12701e6,), False),
    ],
)
def test_a_printed_figure_is_compared_as_far_as_its_digits_go(printed, numbers, same):
    assert agrees(printed, numbers, 1e6) is same


def counted(name):
    return _counted(figures([name])[0])


def test_norms_are_five_operations_an_element_as_fvcore_counts_them():
    found = counted("vit_ti16")
    assert recount.macs_with_norms(found) == (found.total.macs + 5 * 25 * 197 * 192,)
    pooled = counted("poolformer_s12")
    elements = 2 * (2 * 64 * 56**2 + 2 * 128 * 28**2 + 6 * 320 * 14**2 + 2 * 512 * 7**2) + 512 * 7**2
    assert recount.macs_with_norms(pooled) == (pooled.total.macs + 5 * elements,)


def test_what_a_further_image_costs_is_all_of_it_where_nothing_is_shared():
    found = counted("swin_t")
    assert recount.macs_per_further_image(found) == (found.total.macs,)
