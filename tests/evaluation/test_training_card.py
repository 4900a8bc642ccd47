"""Cards made of what trainings leave."""

from __future__ import annotations

import pytest
from huggingface_hub import ModelCard

from semanir_plugin.errors import UserError
from semanir_plugin.evaluation.training_card import training_card

LOG = """2026-01-31 12:00:00,000 DEBUG: SemanIR(
  (conv_first): Conv2d(3, 8)
)
2026-01-31 12:00:00,000 DEBUG:
  name: my_SRx2
  datasets:[
    train:[
      name: DF2K
      type: PairedImageDataset
      batch_size_per_gpu: 8
      gt_size: 64
      io_backend:[
        type: lmdb
      ]
    ]
    val:[
      name: Set5
    ]
  ]
  network_g:[
    type: SemanIR
    upscale: 2
    depths: [1, 1]
    resi_connection: 1conv
  ]
  path:[
    pretrain_network_g: None
  ]
  train:[
    total_iter: 3000
    ema_decay: 0.999
    optim_g:[
      type: AdamW
      lr: 0.0002
    ]
    scheduler:[
      type: MultiStepLR
      milestones: [2000]
    ]
    pixel_opt:[
      type: L1Loss
      loss_weight: 1.0
    ]
  ]
  val:[
    val_freq: 1000
  ]

"""


def lines(iteration, loss, psnr, ssim):
    head = "2026-01-31 12:00:00,000 INFO: "
    return (
        f"{head}[my_SR..][epoch:  3, iter:{iteration:8,d}, lr:(2.000e-04,)] [eta: 1 day] l_pix: {loss:.4e} \n"
        f"{head}Validation Set5\n\t # psnr: {psnr:.4f}\tBest: 31.0 @ 1000 iter\n\t # ssim: {ssim:.4f}\n"
    )


@pytest.fixture
def experiment(tmp_path):
    """The folder of a training whose second validation was the best."""
    scores = [(1000, 0.5, 29.5, 0.8), (2000, 0.25, 30.5, 0.85), (3000, 0.125, 30.25, 0.84)]
    (tmp_path / "train_my_SRx2_20260131_120000.log").write_text(LOG + "".join(lines(*each) for each in scores))
    return tmp_path


@pytest.mark.parametrize(("best", "iteration", "psnr"), [(False, "3,000", 30.25), (True, "2,000", 30.5)])
def test_it_tells_options_iterations_and_scores(experiment, best, iteration, psnr):
    text = training_card(experiment, best=best)
    card = ModelCard(text)
    assert card.data.to_dict()["datasets"] == ["DF2K"]
    assert card.data.metrics == ["psnr", "ssim"]
    assert {each.metric_type: each.metric_value for each in card.data.eval_results}["psnr"] == psnr
    assert text.partition("# my_SRx2\n")[1]
    for told in (
        f"| iterations | {iteration} of 3,000 |",
        "| batch | 8 patches a device, of 64 x 64 pixels |",
        "| loss | L1Loss |",
        "| optimiser | AdamW, lr 0.0002 |",
        "| average of the weights | 0.999 |",
        "| last losses | l_pix 0.125 |",
        f"Scores are of the validation at iteration {iteration}.",
        "enlarges images 2 times",
        '  depths: [1, 1]\n  resi_connection: "1conv"\n',
    ):
        assert told in text


def test_what_is_given_counts_more(experiment):
    card = ModelCard(training_card(experiment, license="mit", datasets=["my/photographs"], name="best of all"))
    assert (card.data.license, card.data.datasets) == ("mit", ["my/photographs"])
    assert "# best of all\n" in card.text


def test_a_training_that_was_not_validated(experiment):
    log = next(experiment.glob("*.log"))
    log.write_text("".join(line for line in log.read_text().splitlines(keepends=True) if "\t # " not in line))
    text = training_card(experiment)
    assert "metrics:" not in text
    assert "| iterations | 3,000 of 3,000 |" in text


def test_options_are_those_of_the_last_start(experiment):
    resumed = experiment / "train_my_SRx2_20260201_120000.log"
    resumed.write_text(LOG.replace("lr: 0.0002", "lr: 0.0001") + lines(3000, 0.1, 31.0, 0.9))
    assert "| optimiser | AdamW, lr 0.0001 |" in training_card(experiment)


def test_what_is_no_training_is_told(tmp_path):
    with pytest.raises(UserError, match=r"holds neither train_\*.log nor TensorBoard's events"):
        training_card(tmp_path)
    log = tmp_path / "train_x_20260131_120000.log"
    log.write_text(lines(1000, 0.5, 30, 0.9))
    with pytest.raises(UserError, match=r"has no log with the options of a training"):
        training_card(tmp_path)
    log.write_text(LOG.replace("network_g", "network_d") + lines(1000, 0.5, 30, 0.9))
    with pytest.raises(UserError, match="its log shows no network_g with a type"):
        training_card(tmp_path)
