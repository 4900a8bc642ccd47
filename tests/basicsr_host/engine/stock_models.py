"""A tiny training for each of BasicSR's models, and the data that it needs, of noise, laid out as its data are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from basicsr.utils.lmdb_util import make_lmdb_from_imgs

from semanir_plugin.basicsr_host.data.sr_pairs import write_sr_pairs

__all__ = ["REAL_DATA", "REDS4", "STOCK", "write_pairs", "write_stock_data"]

Options = dict[str, Any]

DISK = {"io_backend": {"type": "disk"}}
LOADER = {"use_hflip": True, "use_rot": True, "num_worker_per_gpu": 0, "batch_size_per_gpu": 2}
ADAM = {"type": "Adam", "lr": 1e-3, "betas": [0.9, 0.99]}
L1 = {"type": "L1Loss"}
GAN = {"type": "GANLoss", "gan_type": "vanilla", "loss_weight": 0.1}
JUDGE = {"type": "UNetDiscriminatorSN", "num_in_ch": 3, "num_feat": 4}
PSNR = {"psnr": {"type": "calculate_psnr", "crop_border": 0}}


def write_stock_data(folder: Path) -> None:
    """Write everything that the options below name, relative to the working directory, into a folder."""
    write_pairs(folder / "pairs")
    (folder / "pairs" / "list.txt").write_text("".join(f"{index}.png\n" for index in range(4)))
    for side, size in (("gt", 160), ("lq", 40)):
        for frame in range(100):  # REDS has as many in each clip
            write(folder / "REDS" / side / "001" / f"{frame:08d}.png", size)
        for frame in range(5):
            write(folder / "REDS4" / side / "000" / f"{frame:08d}.png", size)
        for clip, frame in ((clip, frame) for clip in ("0001", "0002") for frame in range(1, 8)):
            write(folder / "vimeo" / side / "00001" / clip / f"im{frame}.png", 2 * size // 5)
    (folder / "REDS" / "list.txt").write_text("000 100 (160,160,3)\n001 100 (160,160,3)\n")
    names = [f"001/{frame:08d}" for frame in range(100)]
    for side in ("gt", "lq"):
        clips = str(folder / "REDS" / side)
        make_lmdb_from_imgs(clips, f"{clips}.lmdb", [f"{name}.png" for name in names], names)
    (folder / "vimeo" / "list.txt").write_text("00001/0001 7 (64,64,3)\n00001/0002 7 (64,64,3)\n")
    write_sr_pairs(sorted((folder / "pairs" / "lq").iterdir()), folder / "faces", 1, lmdb=True)


def write_pairs(folder: Path) -> None:
    """Write four pairs at scale 4."""
    for index in range(4):
        write(folder / "gt" / f"{index}.png", 128)
        write(folder / "lq" / f"{index}.png", 32)


def write(path: Path, side: int) -> None:
    """Write a square image of noise, another for each name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(list(str(path.relative_to(path.parents[2])).encode()))
    cv2.imwrite(str(path), rng.integers(0, 256, (side, side, 3), dtype=np.uint8))


def training(model: str, network: Options, train: Options, **more: Any) -> Options:
    return {
        "name": model,
        "model_type": model,
        "scale": 4,
        "num_gpu": 0,
        "manual_seed": 3,
        "datasets": {"train": {**PAIRS, "gt_size": 128, **LOADER}, "val": PAIRS},
        "network_g": network,
        "path": {},
        "train": {
            "optim_g": ADAM,
            "scheduler": {"type": "MultiStepLR", "milestones": [3], "gamma": 0.5},
            "total_iter": 4,
            "warmup_iter": -1,
            "ema_decay": 0.5,
            "pixel_opt": L1,
            **train,
        },
        "val": {"val_freq": 2, "save_img": True, "metrics": PSNR},
        "logger": {"print_freq": 1, "save_checkpoint_freq": 2, "use_tb_logger": False},
        **more,
    }


PAIRS = {"name": "pairs", "type": "PairedImageDataset", "dataroot_gt": "pairs/gt", "dataroot_lq": "pairs/lq", **DISK}
EDSR = {"type": "EDSR", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_block": 1, "upscale": 4}
SWINIR = {
    **{"type": "SwinIR", "upscale": 4, "img_size": 32, "window_size": 8, "embed_dim": 8, "depths": [1]},
    **{"num_heads": [2], "mlp_ratio": 2, "upsampler": "pixelshuffledirect", "drop_path_rate": 0.5},
}
SEMANIR = {
    **{"type": "SemanIR", "upscale": 4, "embed_dim": 8, "depths": [1], "num_heads": [2], "window_size": 8},
    **{"topk": [4, 12], "upsampler": "pixelshuffledirect"},
}
VGG_JUDGE = {"type": "VGGStyleDiscriminator", "num_in_ch": 3, "num_feat": 4}
AGAINST = {"optim_d": ADAM, "gan_opt": GAN, "net_d_init_iters": 1}


def degradations(second: str) -> Options:
    """What the second of two degradations adds to the names of the keys is `second`."""
    data = {"blur_kernel_size": 21, "kernel_list": ["iso", "aniso"], "kernel_prob": [0.5, 0.5], "sinc_prob": 0.5}
    data |= {"blur_sigma": [0.2, 3], "betag_range": [0.5, 4], "betap_range": [1, 2]}
    return {f"{key}{second}": value for key, value in data.items()}


def noise(second: str) -> Options:
    data = {"resize_prob": [0.2, 0.7, 0.1], "resize_range": [0.15, 1.5], "gaussian_noise_prob": 0.5}
    data |= {"noise_range": [1, 30], "poisson_scale_range": [0.05, 3], "gray_noise_prob": 0.4, "jpeg_range": [30, 95]}
    return {f"{key}{second}": value for key, value in data.items()}


REAL_DATA = {
    "train": {
        **{"name": "real", "type": "RealESRGANDataset", "dataroot_gt": "pairs/gt", "meta_info": "pairs/list.txt"},
        **{**DISK, **degradations(""), **degradations("2"), "final_sinc_prob": 0.8, **LOADER},
        "batch_size_per_gpu": 1,
    },
    "val": PAIRS,
}
REAL = {"datasets": REAL_DATA, "gt_size": 64, "queue_size": 2, "second_blur_prob": 0.8, **noise(""), **noise("2")}
USM = {"l1_gt_usm": True, "percep_gt_usm": True, "gan_gt_usm": False}

REDS = {
    **{"name": "REDS", "type": "REDSDataset", "dataroot_gt": "REDS/gt", "dataroot_lq": "REDS/lq"},
    **{"dataroot_flow": None, "meta_info_file": "REDS/list.txt", "val_partition": "REDS4", "num_frame": 3},
    **{**DISK, "gt_size": 64, "interval_list": [1], "random_reverse": True, **LOADER},
}
REDS_LMDB = {
    **{**REDS, "dataroot_gt": "REDS/gt.lmdb", "dataroot_lq": "REDS/lq.lmdb", "io_backend": {"type": "lmdb"}},
    "num_worker_per_gpu": 1,
}
REDS4 = {
    **{"name": "REDS4", "type": "VideoTestDataset", "dataroot_gt": "REDS4/gt", "dataroot_lq": "REDS4/lq", **DISK},
    **{"cache_data": False, "num_frame": 3, "padding": "reflection_circle"},
}
VIMEO = {
    **{"name": "Vimeo90K", "type": "Vimeo90KDataset", "dataroot_gt": "vimeo/gt", "dataroot_lq": "vimeo/lq"},
    **{"meta_info_file": "vimeo/list.txt", "num_frame": 3, **DISK, "gt_size": 64, "random_reverse": True, **LOADER},
}
VIMEO_TEST = {**REDS4, "name": "vimeo", "type": "VideoTestVimeo90KDataset", "meta_info_file": "vimeo/list.txt"}
VIMEO_TEST |= {"dataroot_gt": "vimeo/gt", "dataroot_lq": "vimeo/lq"}
DUF_TEST = {**REDS4, "name": "mine", "type": "VideoTestDUFDataset", "use_duf_downsampling": True}
CLIPS = {
    "train": {
        **REDS,
        "type": "REDSRecurrentDataset",
        "test_mode": False,
        "gt_size": 160,
        "batch_size_per_gpu": 1,
    },  # for SpyNet above 128
    "val": {**REDS4, "name": "clips", "type": "VideoRecurrentTestDataset", "num_frame": -1},
}
EDVR = {
    **{"type": "EDVR", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_frame": 3, "deformable_groups": 1},
    **{"num_extract_block": 1, "num_reconstruct_block": 1, "with_tsa": True},
}
BASICVSR = {"type": "BasicVSR", "num_feat": 8, "num_block": 1}
ICONVSR = {**BASICVSR, "type": "IconVSR", "keyframe_stride": 3, "temporal_padding": 2}

FACES = {
    **{"name": "faces", "type": "FFHQDataset", "dataroot_gt": "faces/GT.lmdb", "io_backend": {"type": "lmdb"}},
    **{"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], **LOADER},
}
STYLE = {"type": "StyleGAN2Generator", "out_size": 32, "num_style_feat": 8, "num_mlp": 2, "narrow": 0.02}
STYLE_JUDGE = {"type": "StyleGAN2Discriminator", "out_size": 32, "narrow": 0.02, "stddev_group": 2}
STYLE_TRAIN = {
    **{"optim_d": ADAM, "gan_opt": {"type": "GANLoss", "gan_type": "wgan_softplus"}, "r1_reg_weight": 10},
    **{"path_reg_weight": 2, "path_batch_shrink": 2, "mixing_prob": 0.9, "net_g_reg_every": 2, "net_d_reg_every": 2},
}
SAME_SIZE = {**PAIRS, "dataroot_lq": "pairs/gt"}
HIFACE = {"type": "HiFaceGAN", "num_in_ch": 3, "num_feat": 4, "crop_size": 128, "is_train": False}
HIFACE_JUDGE = {"type": "HiFaceGANDiscriminator", "num_feat": 4, "n_layers_d": 2}
MULTI_GAN = {"type": "MultiScaleGANLoss", "gan_type": "hinge", "loss_weight": 0.1}

STOCK: dict[str, Options] = {
    "SRModel": training("SRModel", EDSR, {}),
    "SwinIRModel": training("SwinIRModel", SWINIR, {}),
    "SRGANModel": training("SRGANModel", SWINIR, AGAINST, network_d=VGG_JUDGE),
    "ESRGANModel": training("ESRGANModel", SEMANIR, AGAINST, network_d=JUDGE),
    "RealESRNetModel": training("RealESRNetModel", EDSR, {}, gt_usm=True, **REAL),
    "RealESRGANModel": training("RealESRGANModel", SEMANIR, {**AGAINST, "ldl_opt": L1}, network_d=JUDGE, **REAL, **USM),
    "VideoBaseModel": training("VideoBaseModel", EDVR, {}, datasets={"train": VIMEO, "val": VIMEO_TEST}),
    "EDVRModel": training(
        "EDVRModel",
        EDVR,
        {"tsa_iter": 4, "dcn_lr_mul": 0.5},
        datasets={"train": REDS_LMDB, "val": REDS4, "val_duf": DUF_TEST},
    ),
    "VideoGANModel": training("VideoGANModel", EDVR, AGAINST, datasets={"train": REDS, "val": REDS4}, network_d=JUDGE),
    "VideoRecurrentModel": training(
        "VideoRecurrentModel", BASICVSR, {"fix_flow": 4, "flow_lr_mul": 0.125}, datasets=CLIPS
    ),
    "VideoRecurrentGANModel": training(
        "VideoRecurrentGANModel",
        ICONVSR,
        {**AGAINST, "fix_flow": 4, "lr_flow": 1e-4},
        datasets={"train": {**CLIPS["train"], "num_frame": 5}, "val": CLIPS["val"]},
        network_d=JUDGE,
    ),
    "StyleGAN2Model": training(
        "StyleGAN2Model",
        STYLE,
        STYLE_TRAIN,
        datasets={"train": FACES},
        network_d=STYLE_JUDGE,
        val={"val_freq": 2, "save_img": True, "num_val_samples": 2},
    ),
    "HiFaceGANModel": training(
        "HiFaceGANModel",
        HIFACE,
        {**AGAINST, "gan_opt": MULTI_GAN, "ema_decay": 0},
        datasets={"train": {**SAME_SIZE, "gt_size": 128, **LOADER}, "val": SAME_SIZE},
        network_d=HIFACE_JUDGE,
        scale=1,
    ),
}
"""Option files by the model they train."""
