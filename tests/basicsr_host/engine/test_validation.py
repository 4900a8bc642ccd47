from __future__ import annotations

from dataclasses import dataclass

import pytest
from basicsr.data.paired_image_dataset import PairedImageDataset
from basicsr.models.srgan_model import SRGANModel
from basicsr.utils.registry import ARCH_REGISTRY, MODEL_REGISTRY

from semanir_plugin.basicsr_host.engine import validation
from semanir_plugin.basicsr_host.engine.validation import validate_options
from semanir_plugin.errors import UserError
from semanir_plugin.option_files import apply_overrides, load_options
from semanir_plugin.schema.sections import OptionError
from semanir_plugin.schema.sources import option_lookups
from semanir_plugin.schema.values import Count

# The SwinIR recipe of BasicSR's repository, in full.
TRAIN = """\
name: train_SwinIR_SRx2
model_type: SwinIRModel
scale: 2
num_gpu: auto
manual_seed: 0
datasets:
  train:
    name: DIV2K
    type: PairedImageDataset
    dataroot_gt: datasets/GT
    dataroot_lq: datasets/LR
    meta_info_file: meta.txt
    io_backend:
      type: disk
    gt_size: 96
    use_hflip: true
    use_rot: true
    use_shuffle: true
    num_worker_per_gpu: 6
    batch_size_per_gpu: 4
    dataset_enlarge_ratio: 1
    prefetch_mode: ~
  val:
    name: Set5
    type: PairedImageDataset
    dataroot_gt: datasets/GT
    dataroot_lq: datasets/LR
    filename_tmpl: '{}x2'
    io_backend:
      type: disk
network_g:
  type: SwinIR
  upscale: 2
  in_chans: 3
  img_size: 48
  window_size: 8
  img_range: 1.
  depths: [6, 6]
  embed_dim: 180
  num_heads: [6, 6]
  mlp_ratio: 2
  upsampler: 'pixelshuffle'
  resi_connection: '1conv'
path:
  pretrain_network_g: ~
  strict_load_g: true
  param_key_g: params
  resume_state: ~
train:
  ema_decay: 0.999
  optim_g:
    type: Adam
    lr: !!float 2e-4
    weight_decay: 0
    betas: [0.9, 0.99]
  scheduler:
    type: MultiStepLR
    milestones: [250000, 400000]
    gamma: 0.5
  total_iter: 500000
  warmup_iter: -1
  pixel_opt:
    type: L1Loss
    loss_weight: 1.0
    reduction: mean
val:
  val_freq: !!float 5e3
  save_img: false
  metrics:
    psnr:
      type: calculate_psnr
      crop_border: 2
      test_y_channel: false
      better: higher
logger:
  print_freq: 100
  save_checkpoint_freq: !!float 5e3
  use_tb_logger: true
  wandb:
    project: ~
    resume_id: ~
dist_params:
  backend: nccl
  port: 29500
"""
TEST = [
    "datasets={test_1: {type: SingleImageDataset, dataroot_lq: x}, test_2: {type: SingleImageDataset, dataroot_lq: y}}"
]


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "x.yml"
    path.write_text(TRAIN)
    return load_options(path)


def line_of(text: str) -> int:
    return next(number for number, line in enumerate(TRAIN.splitlines(), 1) if line.strip().startswith(text))


@pytest.mark.parametrize("is_train", [True, False])
def test_a_whole_recipe_passes(recipe, is_train):
    validate_options(apply_overrides(recipe, [] if is_train else TEST), is_train=is_train)


def test_an_unknown_key_is_told_with_file_line_section_and_near_match(recipe):
    recipe.path.write_text(TRAIN.replace("    lr:", "    lrs:").replace("type: Adam", "type: Adam\n    lr: 1"))
    with pytest.raises(UserError) as error:
        validate_options(load_options(recipe.path), is_train=True)
    start = f"{recipe.path}:{line_of('lr:') + 1}: train:optim_g: unknown key 'lrs' of Adam; "
    assert str(error.value).startswith(start + "did you mean 'lr'? known: amsgrad, betas, ")
    assert "\n" not in str(error.value)


IGNORED = {
    "scal=2": "nothing reads the key 'scal' of SwinIRModel; did you mean 'scale'?",
    "rank=2": "nothing reads the key 'rank' of SwinIRModel",
    "network_g:embed_dims=2": "network_g: nothing reads the key 'embed_dims' of SwinIR; did you mean 'embed_dim'?",
    "datasets:train:gtsize=96": "datasets:train: nothing reads the key 'gtsize' of PairedImageDataset; did you mean "
    "'gt_size'?",
    "datasets:val:db_paths=x": "datasets:val: nothing reads the key 'db_paths' of PairedImageDataset",
    "datasets:val:gt_sizes=[128]": "datasets:val: nothing reads the key 'gt_sizes' of PairedImageDataset",
    "path:pretrain_networks_g=x": "path: nothing reads the key 'pretrain_networks_g'; did you mean",
    "train:ema_deca=0.9": "train: nothing reads the key 'ema_deca'; did you mean 'ema_decay'?",
    "train:gan_opt={type: GANLoss}": "train: nothing reads the key 'gan_opt'",
    "val:metrics:psnr:crop_boder=4": "val:metrics:psnr: nothing reads the key 'crop_boder' of calculate_psnr; did you",
    "logger:print_frequ=4": "logger: nothing reads the key 'print_frequ'; did you mean 'print_freq'?",
}


def test_a_warm_up_that_does_not_end_is_a_warning(recipe):
    (warning,) = validate_options(apply_overrides(recipe, ["train:warmup_iter=600000"]), is_train=True)
    assert warning == "--force_yml: train: warmup_iter is more than total_iter 500000: it does not end"


def test_keys_that_the_host_ignores_are_warnings_all_in_one_run(recipe):
    warnings = validate_options(apply_overrides(recipe, IGNORED), is_train=True)
    assert len(warnings) == len(IGNORED)
    for warning, message in zip(sorted(warnings), sorted(IGNORED.values()), strict=True):
        assert warning.startswith(f"--force_yml: {message}")
    with pytest.raises(OptionError) as error:
        validate_options(
            apply_overrides(recipe, ["datasets:train:gt_sise=96", "datasets:train:gt_size=~"]), is_train=True
        )
    missing, misspelt = str(error.value).splitlines()
    assert "missing 'gt_size'" in missing
    assert misspelt.startswith("warning: --force_yml: datasets:train: nothing reads the key 'gt_sise'")
    recipe.path.write_text(TRAIN.replace("embed_dim:", "embed_dims:"))
    (warning,) = validate_options(load_options(recipe.path), is_train=True)
    assert warning.startswith(f"{recipe.path}:{line_of('embed_dim')}: network_g: nothing reads the key 'embed_dims'")


UNKNOWN_KEYS = {
    "scal=2": "unknown key 'scal' of SemanIRModel; did you mean 'scale'?",
    "rank=2": "unknown key 'rank' of SemanIRModel",
    "network_d={type: SwinIR, img_size: 56}": "unknown key 'network_d' of SemanIRModel; did you mean 'network_g'?",
    "path:pretrain_networks_g=x": "path: unknown key 'pretrain_networks_g'; did you mean 'pretrain_network_g'?",
    "path:models=x": "path: unknown key 'models'",
    "path:pretrain_network_d=x": "path: unknown key 'pretrain_network_d'",
    "train:ema_deca=0.9": "train: unknown key 'ema_deca'; did you mean 'ema_decay'?",
    "train:gan_opt={type: GANLoss}": "train: unknown key 'gan_opt'",
    "train:optim_g:momentum=0.9": "train:optim_g: unknown key 'momentum' of Adam",
    "train:optim_g:params=1": "train:optim_g: unknown key 'params' of Adam",
    "train:scheduler:mile=1": "train:scheduler: unknown key 'mile' of MultiStepRestartLR",
    "train:optim_g:type=Muon": "train:optim_g: unknown optimizer 'Muon'; did you mean 'MuonAdamW'?",
    "train:fft_opt={type: FTLoss}": "train:fft_opt: unknown loss 'FTLoss'; did you mean 'FFTLoss'?",
    "train:ssim_opt={type: SSIMLoss, weight: 1}": "train:ssim_opt: unknown key 'weight' of SSIMLoss; did you mean",
    "train:pixel_opt:weight=1": "train:pixel_opt: unknown key 'weight' of L1Loss; did you mean 'loss_weight'?",
    "val:sufix=x": "val: unknown key 'sufix'; did you mean 'suffix'?",
    "logger:print_frequ=4": "logger: unknown key 'print_frequ'; did you mean 'print_freq'?",
    "logger:wandb:projet=4": "logger:wandb: unknown key 'projet'; did you mean 'project'?",
    "dist_params:timeuot=5": "dist_params: unknown key 'timeuot'; did you mean 'timeout'?",
    "dist_params:ports=4": "dist_params: unknown key 'ports'; did you mean 'port'?",
}
UNKNOWN_NAMES = {
    "model_type=swinirmodel": "unknown model 'swinirmodel'; did you mean 'SwinIRModel'?",
    "network_g:type=SwinTR": "network_g: unknown architecture 'SwinTR'; did you mean 'SwinIR'?",
    "datasets:val:type=PairedImage": "datasets:val: unknown dataset 'PairedImage'; did you mean 'PairedImageDataset'?",
    "datasets:val:io_backend:type=memcached": "datasets:val:io_backend: memcached needs the package mc, which is not",
    "datasets:val:io_backend:type=disc": "datasets:val:io_backend: unknown backend 'disc'; did you mean 'disk'?",
    "datasets:vall={}": "datasets: unknown phase 'vall'; training knows train, val and val_*",
    "datasets:test_1={}": "datasets: unknown phase 'test_1'",
    "datasets:train_2={}": "datasets: unknown phase 'train_2'",
    "train:optim_g:type=Addam": "train:optim_g: unknown optimizer 'Addam'; did you mean 'Adam'?",
    "train:scheduler:type=CosineLR": "train:scheduler: unknown scheduler 'CosineLR'",
    "train:pixel_opt:type=L2Loss": "train:pixel_opt: unknown loss 'L2Loss'; did you mean 'L1Loss'?",
    "val:metrics:psnr:type=psnr": "val:metrics:psnr: unknown metric 'psnr'",
}
MISSING = {
    "name=~": "missing 'name': add it",
    "network_g={type: EDSR}": "network_g: EDSR needs 'num_in_ch', 'num_out_ch'",
    "val:metrics:psnr={type: calculate_psnr}": "val:metrics:psnr: calculate_psnr needs 'crop_border'",
    "datasets={val: {type: SingleImageDataset, dataroot_lq: x}}": "datasets: missing 'train'",
    "datasets:val:dataroot_lq=~": "datasets:val: missing 'dataroot_lq'",
    "datasets:train:batch_size_per_gpu=~": "datasets:train: missing 'batch_size_per_gpu'",
    "datasets:train:use_rot=~": "datasets:train: missing 'use_rot'",
    "scale=~": "missing 'scale': PairedImageDataset needs it",
    "train={total_iter: 5}": "train: missing 'optim_g', 'scheduler': add them",
    "train:optim_g={type: AdamW}": "train:optim_g: missing 'lr'",
    "train:total_iter=~": "train: missing 'total_iter'",
    "val={save_img: true}": "val: missing 'val_freq'",
}
WRONG_VALUES = {
    "name=a/b": "name must be a string that can name a folder, not 'a/b'",
    "name='..'": "name must be a string",
    "name=3": "name must be a string",
    "scale=4": "network_g: upscale 2 is not the scale 4",
    "scale=0": "scale must be a whole number of at least 1, not 0",
    "scale=true": "scale must be a whole number",
    "num_gpu=all": "num_gpu must be 'auto' or a whole number of at least 0",
    "train:total_iter=1.5": "train: total_iter must be a whole number",
    "train:total_iter=.inf": "train: total_iter must be a whole number",
    "network_g:depths=[]": "network_g: depths is empty: give it an entry for each stage",
    "network_g:depths=[6]": "network_g: depths and num_heads need an entry for each stage, but have depths 1 and num_",
    "network_g:embed_dim=100": "network_g: embed_dim 100 is not a multiple of num_heads 6",
    "network_g={type: SwinIR, upscale: 2, img_size: 8, window_size: 0.5}": "network_g: window_size must be a whole",
    "network_g={type: RRDBNet, num_in_ch: 3, num_out_ch: 3, num_block: x}": "network_g: num_block must be",
    "network_g={type: VGGStyleDiscriminator, num_in_ch: 3, num_feat: 4, input_size: 100}": "network_g: "
    "VGGStyleDiscriminator cannot be built: ",
    "network_g={type: SemanIR, upscale: 2, embed_dim: 9, depths: [1], num_heads: [2]}": "network_g: SemanIR cannot be",
    "network_g={type: AST, embed_dim: 8, img_size: 100}": "network_g: AST cannot be built: img_size must be a multiple",
    "datasets:train:mean=[0.5,0.5,0.5]": "datasets:train: mean and std need each other: give both, or none",
    "datasets:val:std=[0.5,0.5,0.5]": "datasets:val: mean and std need each other: give both, or none",
    "train=5": "train must be a section of its own, not 5",
    "val:metrics:psnr=calculate_psnr": "val:metrics: psnr must be a section of its own",
    "val:metrics=sr_y_corp": "val: unknown protocol 'sr_y_corp'; did you mean 'sr_y_crop'",
    "val:metrics={protocol: sr_y_crop}": "val:metrics: SwinIRModel does not score by protocols: take model_type: Sem",
    "val:metrics=3": "val: metrics must be a string or a section, not 3",
    "val:metrics:psnr:better=more": "val:metrics:psnr: better must be 'higher' or 'lower'",
    "datasets:train:batch_size_per_gpu=0": "datasets:train: batch_size_per_gpu must be a whole number of at least 1",
    "datasets:train:gt_size=95": "datasets:train: gt_size 95 is not a multiple of the scale 2",
    "manual_seed=4294967296": "manual_seed must be a whole number of at least 0 and below 4294967296",
    "deterministic=1": "deterministic must be true or false, not 1",
    "dist_params:timeout='5'": "dist_params: timeout must be a number above 0 and at most 10080, not '5'",
    "dist_params:timeout=0": "dist_params: timeout must be a number above 0 and at most 10080, not 0",
    "dist_params:timeout=.nan": "dist_params: timeout must be a number above 0 and at most 10080, not nan",
    "dist_params:timeout=20000": "dist_params: timeout must be a number above 0 and at most 10080, not 20000",
    "find_unused_parameters=1": "find_unused_parameters must be true or false, not 1",
    "datasets:train:use_hflip='no'": "datasets:train: use_hflip must be true or false, not 'no'",
    "datasets:train:use_rot=1": "datasets:train: use_rot must be true or false, not 1",
    "datasets:train:persistent_workers=1": "datasets:train: persistent_workers must be true or false, not 1",
    "datasets:train:prefetch_mode=gpu": "datasets:train: prefetch_mode must be 'cpu' or 'cuda', not 'gpu'",
    "datasets:train:name=3": "datasets:train: name must be a string, not 3",
    "datasets:val_2={name: Set5, type: SingleImageDataset, dataroot_lq: x}": "datasets:val_2: name 'Set5' is that",
    "path:strict_load_g='no'": "path: strict_load_g must be true or false, not 'no'",
    "path:pretrain_network_g=3": "path: pretrain_network_g must be a string, not 3",
    "path:resume_state=true": "path: resume_state must be a string, not true",
    "path:experiments_root=3": "path: experiments_root must be a string, not 3",
    "path:results_root=[x]": "path: results_root must be a string, not ['x']",
    "path:ignore_resume_networks=x": "path: ignore_resume_networks must be a list of strings, not 'x'",
    "train:ema_decay=1": "train: ema_decay must be a number of at least 0 and below 1, not 1",
    "train:ema_decay=-0.1": "train: ema_decay must be a number of at least 0 and below 1, not -0.1",
    "train:ema_decay=true": "train: ema_decay must be a number of at least 0 and below 1, not true",
    "train:scheduler={type: CosineAnnealingRestartLR, periods: [5, 6]}": "train:scheduler: periods end at 11, before "
    "total_iter 500000",
    "train:scheduler={type: CosineAnnealingRestartLR, periods: 5}": "train:scheduler: periods must be a list",
    "val:save_img=1": "val: save_img must be true or false, not 1",
    "val:pbar='yes'": "val: pbar must be true or false, not 'yes'",
    "logger:use_tb_logger=1": "logger: use_tb_logger must be true or false, not 1",
    "logger={wandb: {project: x}}": "logger:wandb: project needs logger.use_tb_logger: true",
    "logger:wandb:project=3": "logger:wandb: project must be a string, not 3",
}


@pytest.mark.parametrize(("entry", "message"), [*{**UNKNOWN_KEYS, **UNKNOWN_NAMES, **MISSING, **WRONG_VALUES}.items()])
def test_what_cannot_be_right_is_one_line(recipe, entry, message):
    ours = ["model_type=SemanIRModel"] if entry in UNKNOWN_KEYS else []
    with pytest.raises(UserError) as error:
        validate_options(apply_overrides(recipe, [*ours, entry]), is_train=True)
    place, _, rest = str(error.value).partition(": ")
    assert place.startswith(("--force_yml", str(recipe.path)))
    assert rest.startswith(message)
    assert "\n" not in rest


BLOCK = "{type: calculate_ssim, crop_border: 4}"
NOISY = "{name: x, type: GaussianNoiseDataset, dataroot_gt: x, sigma: 25}"


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (["val:metrics=sr_y_crop"], None),
        ([f"val:metrics={{protocol: sr_y_crop@1, mine: {BLOCK}}}"], None),
        (
            [f"val:metrics={{protocol: sr_y_crop, ssim: {BLOCK}}}"],
            "val:metrics: ssim is a metric of the protocol sr_y_",
        ),
        (["val:metrics=derain_y"], "val: the protocol derain_y has images of one size: remove scale 2"),
        (["val:metrics=sr_y_crop", f"datasets:val={NOISY}"], "datasets:val: GaussianNoiseDataset does not make what"),
    ],
)
def test_a_protocol_goes_with_the_rest_of_the_file(recipe, entries, message):
    file = apply_overrides(recipe, ["model_type=SemanIRModel", *entries])
    if message is None:
        validate_options(file, is_train=True)
        return
    with pytest.raises(UserError, match=f": {message}"):
        validate_options(file, is_train=True)


@pytest.mark.parametrize(
    "entry",
    [
        "network_g={type: EDSR, num_in_ch: 3, num_out_ch: 3, upscale: 2}",
        "train:optim_g={type: SGD, lr: 0.1, momentum: 0.9, nesterov: true}",
        "train:scheduler={type: OneCycleLR, max_lr: 1, total_steps: 500000}",
        "train:scheduler={type: CosineAnnealingRestartLR, periods: [2e5, 3e5], restart_weights: [1, 1]}",
        "manual_seed=4294967295",
        "deterministic=true",
        "dist_params={timeout: 0.5}",
        "dist_params:timeout=~",
        "train:ema_decay=~",
        "train:ema_decay=0",
        "datasets:train:name=Set5",
        "datasets:train:persistent_workers=true",
        "train:pixel_opt=~",
        "val=~",
        "logger=~",
        "train:total_iter=1e5",
        "path:experiments_root=runs",
        "datasets:val_2={type: SingleImageDataset, dataroot_lq: x}",
        "datasets:val_2={type: RealESRGANDataset, meta_info: x}",
    ],
)
def test_what_the_host_takes_passes(recipe, entry):
    validate_options(apply_overrides(recipe, [entry]), is_train=True)


DEPTHS = "a list of whole numbers of at least 1 and at most 1000"
TOPK = "a whole number of at least 1 or a list of whole numbers of at least 1"
SEMANIR = ["model_type=SemanIRModel", "network_g={type: SemanIR, upscale: 2}"]


@pytest.mark.parametrize(
    ("entry", "message"),
    {
        "network_g:window_size=8.5": "network_g: window_size must be a whole number of at least 1, not 8.5",
        "network_g:attn=sparse": "network_g: attn must be 'key_semantic' or 'assa' or 'window', not 'sparse'",
        "network_g:ffn=mpl": "network_g: ffn must be 'mlp' or 'frfn' or 'leff', not 'mpl'",
        "network_g:resi_connection=2conv": "network_g: resi_connection must be '1conv' or '3conv', not '2conv'",
        "network_g:window_size=8.0": "network_g: window_size must be a whole number of at least 1, not 8.0",
        "network_g:window_size=true": "network_g: window_size must be a whole number of at least 1, not true",
        "network_g:mlp_ratio=true": "network_g: mlp_ratio must be a number above 0, not true",
        "network_g:mlp_ratio='2'": "network_g: mlp_ratio must be a number above 0, not '2'",
        "network_g:upsampler=2": "network_g: upsampler must be 'pixelshuffle' or 'pixelshuffledirect', not 2",
        "network_g:interpolating_init=1": "network_g: interpolating_init must be true or false, not 1",
        "network_g:similarity=foo": "network_g: similarity must be 'dot' or 'cosine', not 'foo'",
        "network_g:position_bias=mlp": "network_g: position_bias must be 'table' or 'factorised', not 'mlp'",
        "network_g:depths=6": f"network_g: depths must be {DEPTHS}, not 6",
        "network_g:depths=[6, 6.5]": f"network_g: depths must be {DEPTHS}, not [6, 6.5]",
        "network_g:topk=[64, x]": f"network_g: topk must be {TOPK}, not [64, 'x']",
        "network_g:topk=~": f"network_g: topk must be {TOPK}, not ~",
        "train:optim_g:eps=small": "train:optim_g: eps must be a number above 0 or a list of numbers above 0 "
        "or ~, not 'small'",
        "train:amp=fp32": "train: amp must be 'bf16' or 'fp16' or false, not 'fp32'",
        "train:amp=0": "train: amp must be 'bf16' or 'fp16' or false, not 0",
        "train:grad_clip=0": "train: grad_clip must be a number above 0, not 0",
        "train:mixup=0": "train: mixup must be a number above 0, not 0",
        "train:grad_clip='1'": "train: grad_clip must be a number above 0, not '1'",
        "train:accumulation_steps=1.5": "train: accumulation_steps must be a whole number of at least 1, not 1.5",
        "train:zero_redundancy=1": "train: zero_redundancy must be true or false, not 1",
        "train:max_nan_steps=0": "train: max_nan_steps must be a whole number of at least 1, not 0",
        "logger:keep_checkpoints=0": "logger: keep_checkpoints must be a whole number of at least 1, not 0",
        "val:topk=0": "val: topk must be a whole number of at least 1 or a list of whole numbers of at least 1, not 0",
    }.items(),
)
def test_values_must_suit_what_reads_them(recipe, entry, message):
    with pytest.raises(UserError) as error:
        validate_options(apply_overrides(recipe, [*SEMANIR, entry]), is_train=True)
    assert str(error.value) == f"--force_yml: {message}"


@pytest.mark.parametrize(
    "entry",
    [
        *("network_g:mlp_ratio=2", "network_g:topk=64", "network_g:topk=[64, 128]", "network_g:similarity=cosine"),
        *("train:amp=off", "train:amp=~", "train:amp=bf16", "train:grad_clip=1", "train:grad_clip=~"),
        *("train:accumulation_steps=2.0", "val:topk=64", "network_g:position_bias=factorised"),
    ],
)
def test_values_that_suit_pass(recipe, entry):
    validate_options(apply_overrides(recipe, [*SEMANIR, entry]), is_train=True)


def test_a_value_is_told_with_its_line(recipe):
    recipe.path.write_text(TRAIN.replace("  type: SwinIR", "  type: SemanIR").replace("img_size: 48", "topk: 4.5"))
    with pytest.raises(UserError) as error:
        validate_options(load_options(recipe.path), is_train=True)
    assert str(error.value).startswith(
        f"{recipe.path}:{line_of('img_size')}: network_g: topk must be a whole number of"
    )


def test_annotations_that_cannot_be_evaluated_are_no_check(recipe, monkeypatch):
    class Net:
        def __init__(self, upscale: Absent = 2, width: int = 3):  # noqa: F821
            pass

    monkeypatch.setattr(ARCH_REGISTRY, "_obj_map", {"Net": Net})
    validate_options(apply_overrides(recipe, ["network_g={type: Net, width: 1.5}"]), is_train=True)


PHASES = "datasets:train:"
GROWING = [  # Restormer's lists, on the recipe's 500,000 iterations
    *(f"{PHASES}gt_size=~", f"{PHASES}batch_size_per_gpu=~"),
    *(f"{PHASES}gt_sizes=[128, 192, 256]", f"{PHASES}batch_sizes_per_gpu=[8, 5, 4]", f"{PHASES}iters=[3e5, 1e5, 1e5]"),
]


def test_patches_that_grow_pass(recipe):
    validate_options(apply_overrides(recipe, GROWING), is_train=True)
    nulls = [f"{PHASES}{key}=~" for key in ("gt_sizes", "batch_sizes_per_gpu", "iters")]
    validate_options(apply_overrides(recipe, nulls), is_train=True)


@pytest.mark.parametrize(
    ("entry", "message"),
    {
        "datasets:train:iters=[3e5, 2e5]": "datasets:train: the lists need one entry per phase each, but "
        "gt_sizes has 3, batch_sizes_per_gpu has 3, iters has 2",
        "datasets:train:iters=[3e5, 1e5, 2e5]": "datasets:train: iters add up to 600000, not to the 500000 of "
        "train:total_iter",
        "datasets:train:gt_sizes=[128, 192, 255]": "datasets:train: gt_sizes 255 is not a multiple of the scale 2",
        "datasets:train:gt_sizes=128": "datasets:train: gt_sizes must be a list of whole numbers of at least 1, "
        "not 128",
        "datasets:train:gt_sizes=[128, 0, 256]": "datasets:train: gt_sizes must be a list of whole numbers of at "
        "least 1, not [128, 0, 256]",
        "datasets:train:iters=[]": "datasets:train: the lists need one entry per phase each, but "
        "gt_sizes has 3, batch_sizes_per_gpu has 3, iters has 0",
        "datasets:train:gt_size=128": "datasets:train: gt_size contradicts gt_sizes: remove one of them",
        "datasets:train:batch_size_per_gpu=8": "datasets:train: batch_size_per_gpu contradicts batch_sizes_per_gpu: "
        "remove one of them",
        "train:accumulation_steps=5": "train: accumulation_steps 5 is more than the batch of 4 that it divides",
    }.items(),
)
def test_lists_of_phases_that_contradict(recipe, entry, message):
    with pytest.raises(UserError) as error:
        validate_options(apply_overrides(recipe, [*SEMANIR, *GROWING, entry]), is_train=True)
    assert str(error.value).startswith(f"--force_yml: {message}")


def test_a_list_of_phases_that_is_missing(recipe):
    with pytest.raises(UserError, match=r"x\.yml:7: datasets:train: missing 'iters': add it"):
        validate_options(apply_overrides(recipe, [*GROWING, "datasets:train:iters=~"]), is_train=True)


def test_phases_are_for_datasets_with_patches(recipe):
    single = "datasets:train={type: SingleImageDataset, dataroot_lq: x, batch_size_per_gpu: 1, iters: [1]}"
    (warning,) = validate_options(apply_overrides(recipe, [single]), is_train=True)
    assert "nothing reads the key 'iters' of SingleImageDataset" in warning


def test_a_contradiction_of_phases_is_told_with_its_line(recipe):
    patches = "    gt_sizes: [128, 192]\n    batch_sizes_per_gpu: [8, 5]\n    iters: [1, 2]\n"
    text = TRAIN.replace("    gt_size: 96\n", patches).replace("    batch_size_per_gpu: 4\n", "")
    recipe.path.write_text(text)
    line = text[: text.index("iters:")].count("\n") + 1
    with pytest.raises(UserError, match=f"x.yml:{line}: datasets:train: iters add up to 3, not to the 500000"):
        validate_options(load_options(recipe.path), is_train=True)


def test_more_parts_than_a_batch_has_samples(recipe):
    with pytest.raises(UserError, match="accumulation_steps 5 is more than the batch of 4 that it divides"):
        validate_options(apply_overrides(recipe, [*SEMANIR, "train:accumulation_steps=5"]), is_train=True)


@pytest.mark.parametrize(
    ("entry", "message"),
    {
        "val:tile=0": "tile must be 'auto' or a whole number of at least 1, not 0",
        "val:tile=large": "tile must be 'auto' or a whole number of at least 1, not 'large'",
        "val:tile=256.5": "tile must be 'auto' or a whole number of at least 1, not 256.5",
        "val:tile_overlap=-1": "tile_overlap must be a whole number of at least 0, not -1",
        "val:tile_overlap=32": "tile_overlap needs tile: a number, or auto",
        "val={val_freq: 1, tile: 32, tile_overlap: 32}": "a tile of 32 leaves no room beside an overlap of 32; use 33, "
        "better 66, or a smaller tile_overlap",
        "val:self_ensemble=1": "self_ensemble must be true or false, not 1",
        "val:topk=[64, 128]": "topk must be one number in training; `basicsr test` takes a list",
    }.items(),
)
def test_how_images_are_restored_must_make_sense(recipe, entry, message):
    with pytest.raises(UserError) as error:
        validate_options(apply_overrides(recipe, [*SEMANIR, entry]), is_train=True)
    assert str(error.value) == f"--force_yml: val: {message}"


@pytest.mark.parametrize(
    "entries",
    [["val:tile=auto", "val:tile_overlap=0"], ["val:tile=256", "val:tile_overlap=16"], ["val:self_ensemble=true"]],
)
def test_ways_to_restore_pass(recipe, entries):
    validate_options(apply_overrides(recipe, [*SEMANIR, *entries]), is_train=True)


def test_a_test_takes_a_list_of_topk(recipe):
    validate_options(apply_overrides(recipe, [*SEMANIR, *TEST, "val:topk=[64, 128]"]), is_train=False)


def test_persistent_workers_need_workers(recipe):
    entries = ["datasets:train:persistent_workers=true", "datasets:train:num_worker_per_gpu=0"]
    with pytest.raises(UserError, match="persistent_workers needs num_worker_per_gpu above 0"):
        validate_options(apply_overrides(recipe, entries), is_train=True)


def test_scoring_has_no_workers_to_persist(recipe):
    entries = ["datasets:val:persistent_workers=true", "datasets:val:num_worker_per_gpu=2"]
    with pytest.raises(UserError, match="datasets:val: persistent_workers needs workers, which only train has"):
        validate_options(apply_overrides(recipe, entries), is_train=True)


def test_a_name_left_out_is_that_of_the_phase(recipe):
    data = "{type: SingleImageDataset, dataroot_lq: x}"
    entries = [f"datasets:val_2={data}", "datasets:val:name=val_2"]
    with pytest.raises(UserError, match="datasets:val_2: name 'val_2' is that of val too"):
        validate_options(apply_overrides(recipe, entries), is_train=True)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("logger:wandb:project=x", "logger:wandb: project needs the package wandb: pip install wandb"),
        ("logger:use_tb_logger=true", "logger: use_tb_logger needs the package tensorboard: pip install tensorboard"),
    ],
)
def test_what_records_go_to_must_be_installed(recipe, monkeypatch, entry, message):
    forced = apply_overrides(recipe, [entry])
    monkeypatch.setattr(validation, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=message):
        validate_options(forced, is_train=True)
    monkeypatch.setattr(validation, "find_spec", lambda name: object())
    validate_options(forced, is_train=True)


def test_a_test_needs_test_datasets(recipe):
    with pytest.raises(UserError, match="unknown phase 'train'; testing knows test and test_"):
        validate_options(recipe, is_train=False)
    with pytest.raises(UserError, match="datasets: no dataset to test on"):
        validate_options(apply_overrides(recipe, ["datasets={}"]), is_train=False)


def test_a_test_needs_no_training_section(recipe):
    without = apply_overrides(recipe, [*TEST, "train=~", "logger=~", "val={metrics: ~, suffix: x}"])
    validate_options(without, is_train=False)


@dataclass(frozen=True, kw_only=True)
class ParentOptions:
    """Options.

    Attributes:
        charm: How much.
    """

    charm: Count = 3


@dataclass(frozen=True, kw_only=True)
class ChildOptions:
    """Options, without a word on `patience`."""

    patience: float


def test_options_that_a_model_declares_are_known_and_checked(recipe, monkeypatch):
    class Parent(MODEL_REGISTRY.get("SwinIRModel")):
        OPTIONS = {"train": ParentOptions}

    class Child(Parent):
        OPTIONS = {"val": ChildOptions}

    monkeypatch.setitem(MODEL_REGISTRY._obj_map, "Child", Child)
    entries = ["model_type=Child", "train:charm=1", "val:patience=64"]
    assert validate_options(apply_overrides(recipe, entries), is_train=True) == []
    assert len(validate_options(apply_overrides(recipe, entries[1:]), is_train=True)) == 2
    with pytest.raises(UserError) as error:
        validate_options(apply_overrides(recipe, ["model_type=Child", "train:charm=0"]), is_train=True)
    assert [line.partition(": ")[2] for line in str(error.value).splitlines()] == [
        "train: charm must be a whole number of at least 1, not 0",
        "val: missing 'patience': add it",
    ]


def test_what_a_model_of_a_users_reads_is_known(recipe, monkeypatch):
    class Reads(MODEL_REGISTRY.get("SwinIRModel")):
        def init_training_settings(self):
            cfg = self.opt["train"]
            self.charm = cfg["charm"], cfg.get("patience")

    monkeypatch.setitem(MODEL_REGISTRY._obj_map, "Reads", Reads)
    entries = ["model_type=Reads", "train:charm=1", "train:patience=2"]
    assert validate_options(apply_overrides(recipe, entries), is_train=True) == []


def test_all_problems_are_told_at_once_by_line(recipe):
    text = TRAIN.replace("lr: !!float 2e-4", "lr: -1").replace("gamma: 0.5", "gamma: -0.5")
    recipe.path.write_text(text.replace("scale: 2", "scale: 0", 1))
    with pytest.raises(OptionError) as error:
        validate_options(apply_overrides(load_options(recipe.path), ["logger:print_freq=0"]), is_train=True)
    places = [line.partition(": ")[0] for line in str(error.value).splitlines()]
    lines = sorted(line_of(text) for text in ("scale:", "lr:", "gamma:"))
    assert places == ["--force_yml", *(f"{recipe.path}:{line}" for line in lines)]
    many = [f"datasets:val_{index}={{type: No}}" for index in range(2, 15)]
    with pytest.raises(OptionError) as error:
        validate_options(apply_overrides(recipe, many), is_train=True)
    assert len(error.value.problems) == 13
    assert len(str(error.value).splitlines()) == 11
    assert str(error.value).endswith("\nand 3 more")


NONSENSE = [
    *("train:scheduler:gamma=-0.5", "train:scheduler:gamma=0", "train:optim_g:lr=true", "train:optim_g:lr=.inf"),
    *("train:optim_g:lr=0", "train:optim_g:lr=-1", "train:optim_g:lr=.nan", "train:optim_g:eps=0"),
    *("train:optim_g:betas=[0.9, 1]", "train:optim_g:betas=[0.9]", "train:optim_g:weight_decay=-1"),
    *("train:pixel_opt:loss_weight=-1", "train:pixel_opt:reduction=none", "train:pixel_opt:loss_weight=.inf"),
    "train:pixel_opt={type: CharbonnierLoss, eps: 0}",
    "train:scheduler={type: CosineAnnealingRestartLR, periods: [-5, 5000000], restart_weights: [1, 1]}",
    "train:scheduler={type: CosineAnnealingRestartLR, periods: [500000], eta_min: -5}",
    "train:scheduler={type: CosineAnnealingLR, T_max: 0}",
    "train:scheduler={type: CosineAnnealingLR, T_max: 500000, eta_min: 0.01}",
    "train:scheduler={type: StepLR, step_size: 0}",
    "train:scheduler={type: StepLR, step_size: 5, gamma: .inf}",
    "train:scheduler={type: PolynomialLR, total_iters: 5, power: -1}",
    "train:scheduler={type: LinearLR, start_factor: 0}",
    "train:scheduler={type: OneCycleLR, max_lr: 1, total_steps: 10}",
    "train:scheduler={type: MultiStepLR, milestones: [400000, 250000]}",
    "train:scheduler={type: MultiStepLR, milestones: [-1]}",
    *("val:metrics:psnr:crop_border=-1", "val:metrics:psnr:crop_border=1.5", "val:metrics:psnr:test_y_channel=1"),
    *("train:warmup_iter=-2", "train:ema_decay=.nan", "dist_params:port=70000", "scale=.inf", "manual_seed=-1"),
    *("network_g:num_heads=[6, 0]", "network_g:window_size=0", "network_g:img_range=0", "network_g:drop_rate=1.5"),
    *("datasets:train:num_worker_per_gpu=-1", "datasets:train:color=x", "datasets:train:num_prefetch_queue=0"),
]


@pytest.mark.parametrize("entry", NONSENSE)
def test_nonsense_is_refused_before_any_work(recipe, entry):
    with pytest.raises(OptionError) as error:
        validate_options(apply_overrides(recipe, [entry]), is_train=True)
    section = entry.partition("=")[0].rpartition(":")[0]
    assert section in str(error.value)
    assert "\n" not in str(error.value)


def test_the_scale_is_compared_with_what_a_network_does_by_default(recipe):
    network = "network_g={type: SemanIR}"  # x4
    with pytest.raises(UserError, match="network_g: upscale 4, the default, is not the scale 2 of the datasets"):
        validate_options(apply_overrides(recipe, [network]), is_train=True)
    for other in ("scale=4", "network_g={type: SemanIR, upscale: 2}", "network_g={type: SemanIRUNet}"):
        validate_options(apply_overrides(recipe, [network, other]), is_train=True)


def test_keyword_arguments_are_open_only_where_they_are_read(recipe, monkeypatch):
    class Reads:
        def __init__(self, upscale=2, **rest):
            self.rest = rest

    class Ignores:
        def __init__(self, upscale=2, **rest):
            self.rest = None

    monkeypatch.setattr(ARCH_REGISTRY, "_obj_map", {"Reads": Reads, "Ignores": Ignores})
    assert validate_options(apply_overrides(recipe, ["network_g={type: Reads, any: 1}"]), is_train=True) == []
    (warning,) = validate_options(apply_overrides(recipe, ["network_g={type: Ignores, any: 1}"]), is_train=True)
    assert "nothing reads the key 'any' of Ignores" in warning


def test_option_lookups_finds_every_form_in_bases_too():
    class Base:
        def __init__(self, opt, other):
            self.io_backend_opt = opt["io_backend"]
            self.kind = self.io_backend_opt["type"]
            other["not_an_option"], other.opt["nor_this"]

    class Derived(Base):
        def run(self, key):
            train_opt = self.opt["train"]
            train_opt["optim_g"].pop("type")
            self.opt.get("val", {}).get("suffix")
            self.opt[key], self.opt.items()
            return "color" in self.opt or "std" not in self.opt

    assert option_lookups(Derived) == {
        ("io_backend",),
        ("io_backend", "type"),
        ("train",),
        ("train", "optim_g"),
        ("train", "optim_g", "type"),
        ("val",),
        ("val", "suffix"),
        ("color",),
        ("std",),
    }


def test_option_lookups_of_the_host():
    assert {("filename_tmpl",), ("meta_info_file",), ("gt_size",), ("use_rot",)} <= option_lookups(PairedImageDataset)
    lookups = option_lookups(SRGANModel)
    assert {("train", "gan_opt"), ("train", "ema_decay"), ("network_d",), ("val", "suffix")} <= lookups
    assert ("train", "dcn_lr_mul") not in lookups
