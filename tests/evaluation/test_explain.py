"""Test the pixels that a pixel attends to, against every pair of tokens compared one by one."""

from __future__ import annotations

import re

import cv2
import numpy as np
import pytest
import skimage.data
import torch
from basicsr.archs import build_network

from semanir_plugin.blocks import KeySemanticStage
from semanir_plugin.cli import main
from semanir_plugin.evaluation.explain import Choice, choose_topks, explain_pixel, find_part, plot_explanation
from semanir_plugin.inference.checkpoints import save_weights

COLUMNAR = {
    "type": "SemanIR",
    "upscale": 2,
    "embed_dim": 8,
    "depths": [2, 2],
    "num_heads": [2, 2],
    "window_size": 8,
    "topk": [3, 20],
    "upsampler": "pixelshuffledirect",
}
LAYERED = {**COLUMNAR, "shift": "layer", "similarity": "cosine", "topk": 24}
U_SHAPED = {
    "type": "SemanIRUNet",
    "embed_dim": 8,
    "head_dim": 4,
    "depths": [1, 1],
    "window_sizes": [8, 4],
    "refinement_depth": 1,
    "topk": 6,
}
PHOTO = skimage.data.astronaut()[60:91, 120:165]  # 31 x 45


def network(options):
    torch.manual_seed(3)
    return build_network(dict(options)).eval()


def batch(photo=PHOTO):
    return torch.from_numpy(photo.transpose(2, 0, 1)[None] / np.float32(255))


def expected_keys(stage, x, topk, token):
    """The tokens that one token keeps, as (row, column), found by comparing it with all of its window, one by one."""
    size, (height, width) = stage.window_size, x.shape[1:3]
    shift = [size // 2 if stage.layers[0].shifted and extent > size else 0 for extent in (height, width)]

    def window_of(position):
        # Windows that the cyclic shift makes of both ends of the image are two.
        return tuple((at + offset) // size for at, offset in zip(position, shift, strict=True))

    alike = []
    for row in range(height):
        for column in range(width):
            if window_of((row, column)) == window_of(token):
                a, b = x[0, token[0], token[1]], x[0, row, column]
                if stage.attn.similarity == "cosine":
                    a, b = a / a.norm(), b / b.norm()
                alike.append((-float(a @ b), row, column))
    return {(row, column) for _, row, column in sorted(alike)[:topk]}, {each[1:] for each in alike}


@pytest.mark.parametrize(
    "options",
    [COLUMNAR, LAYERED, U_SHAPED, {**U_SHAPED, "prompts": 3}],
    ids=["columnar", "layered", "u-shaped", "prompts"],
)
@pytest.mark.parametrize("at", [(0, 0), (17, 20), (30, 44), (3, 43)], ids=str)
def test_the_keys_are_those_most_alike_in_the_window(options, at):
    net, inputs = network(options), []
    for stage in net.modules():
        if isinstance(stage, KeySemanticStage):
            stage.register_forward_pre_hook(lambda module, args: inputs.append((module, *args)))
    explanation = explain_pixel(net, batch(), at, [3, 12])
    stages = len(explanation)
    assert stages == {"SemanIR": 2, "SemanIRUNet": 4}[options["type"]]
    assert [[choice.topk for choice in row] for row in explanation] == [[3, 12]] * stages
    choices = [row[column] for column in (0, 1) for row in explanation]
    for choice, (stage, x, topk) in zip(choices, inputs, strict=True):
        side = choice.token_side
        chosen, window = expected_keys(stage, x, topk, (at[0] // side, at[1] // side))
        corner = np.array((choice.top, choice.left)) // side
        assert {tuple(each) for each in (np.argwhere(choice.keys) + corner).tolist()} == chosen
        assert (choice.topk, side * x.shape[1]) == (topk, 32)
        top, left = (min(each[axis] for each in window) for axis in (0, 1))
        height, width = (max(each[axis] for each in window) + 1 for axis in (0, 1))
        assert choice.box == (top * side, left * side, (height - top) * side, (width - left) * side)
    assert {choice.token_side for choice in choices} == ({1, 2} if options["type"] == "SemanIRUNet" else {1})
    shifted = [False, False] if options is LAYERED else [False, True] * (stages // 2)
    assert [row[0].shifted for row in explanation] == shifted


def test_looking_changes_nothing():
    net = network(COLUMNAR)
    before = net(batch(), topk=12)
    explain_pixel(net, batch(), (5, 6), [12])
    assert torch.equal(net(batch(), topk=12), before)
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_the_keys_shown_are_the_networks_own_or_parts_of_them():
    assert choose_topks(network(COLUMNAR)) == [3, 20]
    assert choose_topks(network(LAYERED)) == [3, 6, 12, 24]
    assert choose_topks(network({**LAYERED, "topk": 3})) == [1, 3]


@pytest.mark.parametrize("at", [0, 37, 99])
@pytest.mark.parametrize(("length", "side", "multiple"), [(100, 24, 8), (100, 100, 16), (100, 8, 64), (10, 24, 8)])
def test_the_part_holds_the_pixel_and_keeps_the_windows(at, length, side, multiple):
    at = min(at, length - 1)
    rows, columns = find_part((length, 10), (at, 3), side=side, multiple_of=multiple)
    assert (columns.start, columns.stop) == (0, 10)
    assert rows.start % multiple == 0
    assert rows.start <= max(0, at - side // 2)
    assert rows.stop >= min(length, at + side // 2)
    assert (rows.stop - rows.start == length) or rows.stop - rows.start <= side + 3 * multiple
    if length <= side:
        assert (rows.start, rows.stop) == (0, length)


@pytest.fixture
def figures(monkeypatch):
    from matplotlib.figure import Figure

    figures, save = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **kw: figures.append(self) or save(self, *args, **kw))
    return figures


def test_the_picture_marks_pixel_window_and_keys(tmp_path, figures):
    keys = np.zeros((4, 8), bool)
    keys[1, 2] = keys[3, 7] = True
    choice = Choice(1, 2, shifted=True, token_side=2, top=26, left=32, keys=keys)
    plot_explanation(PHOTO, [[choice], [choice]], tmp_path / "x.png", at=(29, 40), corner=(64, 128))
    panels = figures[0].axes
    assert [axes.get_title() for axes in panels] == ["image", "window", "k = 2", "", "", ""]
    assert "row 93, column 168" in figures[0].get_suptitle()
    image, window, chosen = panels[:3]
    boxes = [[patch.get_bbox().bounds for patch in axes.patches[1::2]] for axes in (image, window, chosen)]
    assert boxes == [[(31.5, 25.5, 16, 8)], [(39.5, 27.5, 2, 2)], [(39.5, 27.5, 2, 2)]]
    assert image.lines[0].get_xydata().tolist() == [[40, 29]]
    assert window.get_xlabel() == "shifted, 4 x 8 tokens of 2 x 2 pixels"
    assert chosen.get_xlabel() == "2 of 32 tokens"
    shown = np.asarray(window.images[0].get_array())
    assert np.array_equal(shown[:5, :13], PHOTO[26:, 32:])
    assert np.array_equal(shown[5:, :13], PHOTO[29:26:-1, 32:]), "padding is the image reflected"
    colourful = np.ptp(np.asarray(chosen.images[0].get_array()).astype(int), axis=-1) > 60
    assert np.array_equal(colourful, keys.repeat(2, 0).repeat(2, 1))
    assert len(chosen.lines) == 2, "both edges of the image are drawn"
    assert cv2.imread(str(tmp_path / "x.png")).std() > 5


@pytest.fixture
def files(tmp_path):
    """An image, a checkpoint that says its network, and one that does not."""
    cv2.imwrite(str(tmp_path / "photo.png"), PHOTO[..., ::-1])
    save_weights(tmp_path / "net.safetensors", network(COLUMNAR), COLUMNAR)
    torch.save({"params": network(COLUMNAR).state_dict()}, tmp_path / "bare.pth")
    options = [f"  {key}: {value}" for key, value in COLUMNAR.items()]
    text = ["network_g:", *options, "path:", f"  pretrain_network_g: {tmp_path / 'bare.pth'}"]
    (tmp_path / "net.yml").write_text("\n".join(text))
    (tmp_path / "other.yml").write_text("name: other\n")
    return tmp_path


def run(files, *arguments, image="photo.png", at="17,20", output="out.png"):
    return main(["explain", str(files / image), "--at", at, "-o", str(files / output), *map(str, arguments)])


def test_the_command_plots(files, capsys, figures):
    assert run(files, "--model", files / "net.safetensors") == 0
    assert capsys.readouterr().out == f"{files / 'out.png'}: the whole image\n"
    assert [axes.get_title() for axes in figures[0].axes[:4]] == ["image", "window", "k = 3", "k = 20"]
    assert run(files, "-opt", files / "net.yml", "--topk", "9", "5", "--part", "8", output="cut.svg") == 0
    assert capsys.readouterr().out == f"{files / 'cut.svg'}: rows 8 to 30, columns 16 to 39\n"
    assert [axes.get_title() for axes in figures[1].axes[:4]] == ["image", "window", "k = 5", "k = 9"]
    assert np.array_equal(figures[0].axes[0].images[0].get_array(), PHOTO), "in colours of the right order"
    assert "row 17, column 20" in figures[1].get_suptitle()
    assert figures[1].axes[0].lines[0].get_xydata().tolist() == [[4, 9]]
    assert "<svg" in (files / "cut.svg").read_text()
    assert not list(files.glob(".*"))


def test_gray_networks_take_gray_images(files, figures):
    options = {**COLUMNAR, "in_chans": 1}
    save_weights(files / "gray.safetensors", network(options), options)
    assert run(files, "--model", files / "gray.safetensors") == 0
    shown = np.asarray(figures[0].axes[0].images[0].get_array())
    assert shown.shape == PHOTO.shape
    assert np.array_equal(shown[..., 0], shown[..., 2])


def test_what_a_user_can_mend_is_one_line(files, capsys):
    bicubic = {"type": "Bicubic", "upscale": 2}
    save_weights(files / "bicubic.safetensors", network(bicubic), bicubic)
    cv2.imwrite(str(files / "small.png"), PHOTO[:5, :5])
    (files / "text.png").write_text("no image")
    net = ("--model", files / "net.safetensors")
    for words, arguments, more in [
        ("has rows 0 to 30 and columns 0 to 44", net, {"at": "31,2"}),
        ("no.png: cannot be opened", net, {"image": "no.png"}),
        ("cannot be decoded", net, {"image": "text.png"}),
        ("at least 8 x 8 pixels, got 5 x 5", net, {"image": "small.png", "at": "2,2"}),
        ("there is no folder", net, {"output": "no/out.png"}),
        ("ends in .png, .pdf or .svg", net, {"output": "out.jpg"}),
        ("is the image itself", net, {"output": "photo.png"}),
        ("no file and no weights 'nothing'", ("--model", "nothing"), {}),
        ("no weights are named", (), {}),
        ("name the option file it was trained with", ("--model", files / "bare.pth"), {}),
        ("has no network_g with a type", ("-opt", files / "other.yml"), {}),
        ("Bicubic has no key-semantic stages", ("--model", files / "bicubic.safetensors"), {}),
    ]:
        assert run(files, *arguments, **more) == 2, words
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
        assert not (files / "out.png").exists()


@pytest.mark.parametrize("at", ["5", "5,x", "-1,2", "1,2,3"])
def test_a_pixel_is_a_row_and_a_column(files, capsys, at):
    with pytest.raises(SystemExit) as caught:
        main(["explain", "photo.png", f"--at={at}", "-o", "x.png"])
    assert caught.value.code == 2
    assert re.search("row and a column such as 120,88", capsys.readouterr().err)
