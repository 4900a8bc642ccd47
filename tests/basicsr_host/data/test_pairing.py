from __future__ import annotations

import pytest

from semanir_plugin.basicsr_host.data.pairing import find_pairs, find_singles
from semanir_plugin.errors import UserError


@pytest.fixture
def make(tmp_path):
    def make(folder, *names):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for name in names:
            (tmp_path / folder / name).touch()
        return str(tmp_path / folder)

    return make


def names(found):
    return [(each.name, *(path.name for path in each.paths)) for each in found]


def test_singles_are_sorted_images(make):
    folder = make("a", "2.png", "1.JPG", ".3.png", "notes.txt")
    assert names(find_singles(folder)) == [("1", "1.JPG"), ("2", "2.png")]


def test_pictures_that_are_not_read_are_told(make, caplog):
    folder = make("a", "1.png", "2.avif", "3.HEIC", "notes.txt")
    assert names(find_singles(folder)) == [("1", "1.png")]
    assert caplog.messages == [f"{folder}: passed over are 2.avif, 3.HEIC, which data sets do not read; convert them"]


def test_singles_of_several_folders_are_told_apart(make, tmp_path):
    for scene in ("s2", "s1"):
        make(f"train/{scene}/sharp", "1.png")
        make(f"train/{scene}/blur", "1.png")
    (tmp_path / "train" / "list.txt").touch()
    found = find_singles(f"{tmp_path}/train/*/sharp")
    assert [(each.name, *each.paths) for each in found] == [
        (f"{scene}-1", tmp_path / "train" / scene / "sharp" / "1.png") for scene in ("s1", "s2")
    ]


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("data/*_HR", "DIV2K-1"),
        ("data/DIV[0-9]K_H?", "2-R-1"),
        ("*/DIV[!3]K_HR", "data-2-1"),
        ("**/DIV2K_HR", "data-1"),
        ("data/DIV2K_HR*", "1"),
        ("./d*/*_HR/", "ata-DIV2K-1"),
    ],
)
def test_wildcards_name_what_they_stand_for(make, tmp_path, monkeypatch, pattern, name):
    monkeypatch.chdir(tmp_path)
    make("data/DIV2K_HR", "1.png")
    assert [each.name for each in find_singles(pattern)] == [name]


def test_wildcards_pair_folders_of_other_names(make, tmp_path):
    for name in ("DIV2K", "Flickr2K"):
        make(f"{name}_HR", "1.png")
        make(f"{name}_LR/X4", "1x4.png")
    found = find_pairs(f"{tmp_path}/*_HR", f"{tmp_path}/*_LR/X4", filename_tmpl="{}x4")
    assert [each.name for each in found] == ["DIV2K-1", "Flickr2K-1"]


def test_two_of_one_name(make):
    with pytest.raises(UserError, match=r"a/1\.png and .*a/1\.jpg would both be called 1"):
        find_singles(make("a", "1.png", "1.jpg"))


def test_folders_that_are_not_there(make, tmp_path):
    make("empty")
    with pytest.raises(UserError, match="no such folder"):
        find_singles(str(tmp_path / "absent"))
    with pytest.raises(UserError, match="no such folders; correct the pattern"):
        find_singles(f"{tmp_path}/*/sharp")
    with pytest.raises(UserError, match="no images"):
        find_singles(f"{tmp_path}/*")


def test_a_folder_may_look_like_a_pattern(make):
    assert names(find_singles(make("a [1]", "1.png"))) == [("1", "1.png")]


def test_pairs_by_name(make):
    found = find_pairs(make("gt", "b.png", "a.png"), make("lq", "a.jpg", "b.png"))
    assert names(found) == [("a", "a.png", "a.jpg"), ("b", "b.png", "b.png")]


def test_pairs_by_template(make):
    found = find_pairs(make("gt", "a.png", "b.png"), make("lq", "bx4.png", "ax4.png"), filename_tmpl="{}x4")
    assert names(found) == [("a", "a.png", "ax4.png"), ("b", "b.png", "bx4.png")]


def test_pairs_by_an_expression(make):
    gt, lq = make("gt", "0_clean.png", "10_clean.png"), make("lq", "0_rain.png", "10_rain.png")
    for expression in (r"^\d+", r"^(\d+)_[a-z]+$"):
        found = find_pairs(gt, lq, pair_by=expression)
        assert names(found) == [("0_rain", "0_clean.png", "0_rain.png"), ("10_rain", "10_clean.png", "10_rain.png")]


def test_several_inputs_of_one_truth(make):
    gt, lq = make("gt", "im_1.png", "im_2.png"), make("lq", "im_1_s8.png", "im_2_s8.png", "im_1_s9.png")
    assert names(find_pairs(gt, lq, pair_by=r"im_\d+")) == [
        ("im_1_s8", "im_1.png", "im_1_s8.png"),
        ("im_1_s9", "im_1.png", "im_1_s9.png"),
        ("im_2_s8", "im_2.png", "im_2_s8.png"),
    ]


@pytest.mark.parametrize("pair_by", [None, r"\d+"])
def test_pairs_of_several_folders(make, tmp_path, pair_by):
    for scene in ("s1", "s2"):
        make(f"train/{scene}/sharp", "1.png", "2.png")
        make(f"train/{scene}/blur", "1.png", "2.png")
    found = find_pairs(f"{tmp_path}/train/*/sharp", f"{tmp_path}/train/*/blur", pair_by=pair_by)
    assert [each.name for each in found] == ["s1-1", "s1-2", "s2-1", "s2-2"]
    for each in found:
        assert each.paths[0].parts[-3] == each.paths[1].parts[-3] == each.name[:2]
        assert [path.parts[-2] for path in each.paths] == ["sharp", "blur"]


@pytest.mark.parametrize(
    ("gt", "lq", "options", "told"),
    [
        (["a.png"], ["a.png", "b.png"], {}, "lq: no ground truth in .*gt for b; correct filename_tmpl or the folders"),
        (["a.png", "b.png"], ["a.png"], {}, "gt: no input in .*lq for b; correct filename_tmpl or the folders"),
        (["a.png"], ["a.png"], {"filename_tmpl": "{}x4"}, "no ground truth in .* for a; correct filename_tmpl"),
        (["a.png"], ["a.png"], {"filename_tmpl": "x4"}, r"filename_tmpl 'x4' must have one \{\}"),
        (["1.png"], ["2.png"], {"pair_by": r"\d"}, "no ground truth in .* for 2; correct pair_by"),
        (["1a.png", "1b.png"], ["1.png"], {"pair_by": r"\d"}, "1b.png and .*1a.png are ground truths of the same"),
        (["1.png"], ["a.png"], {"pair_by": r"\d"}, r"pair_by '\\d' does not fit .*lq/a.png; correct it or move"),
        (["1.png"], ["1.png"], {"pair_by": "("}, r"pair_by '\(' is not a regular expression: "),
        (["a.png"], ["a.png", "a.jpg"], {}, "would both be called a"),
        (["a.png", "a.jpg"], ["a.png"], {}, "are ground truths of the same inputs; remove one"),
    ],
)
def test_what_does_not_pair_up(make, gt, lq, options, told):
    with pytest.raises(UserError, match=told) as error:
        find_pairs(make("gt", *gt), make("lq", *lq), **options)
    assert "\n" not in str(error.value)
