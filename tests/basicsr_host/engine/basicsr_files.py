"""What option files for BasicSR's own models look like: keys and values by kind, as its users write them.

Keys and values as its code reads them and its documentation shows them, one file for each way of training and testing,
varied over scales and sizes; among them keys that BasicSR ignores. Texts and comments of its files are not here.
"""

from __future__ import annotations

from typing import Any

__all__ = ["FILES", "IGNORED"]

Options = dict[str, Any]

PATH = {"pretrain_network_g": None, "strict_load_g": True, "resume_state": None}
LOGGER = {
    "print_freq": 100,
    "save_checkpoint_freq": 5e3,
    "use_tb_logger": True,
    "wandb": {"project": None, "resume_id": None},
}
DIST = {"backend": "nccl", "port": 29500}
LOADER = {
    "use_shuffle": True,
    "num_worker_per_gpu": 6,
    "batch_size_per_gpu": 16,
    "dataset_enlarge_ratio": 100,
    "prefetch_mode": None,
}
FLIPS = {"use_hflip": True, "use_rot": True}
ADAM = {"type": "Adam", "lr": 2e-4, "weight_decay": 0, "betas": [0.9, 0.99]}
COSINE = {
    "type": "CosineAnnealingRestartLR",
    "periods": [250000, 250000, 250000, 250000],
    "restart_weights": [1, 1, 1, 1],
    "eta_min": 1e-7,
}
STEPS = {"type": "MultiStepLR", "milestones": [200000], "gamma": 0.5}
L1 = {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"}
CHARBONNIER = {"type": "CharbonnierLoss", "loss_weight": 1.0, "reduction": "mean"}
PERCEPTUAL = {
    "type": "PerceptualLoss",
    "layer_weights": {"conv5_4": 1},
    "vgg_type": "vgg19",
    "use_input_norm": True,
    "range_norm": False,
    "perceptual_weight": 1.0,
    "style_weight": 0,
    "criterion": "l1",
}
GAN = {"type": "GANLoss", "gan_type": "vanilla", "real_label_val": 1.0, "fake_label_val": 0.0, "loss_weight": 5e-3}


def metrics(border: int = 4, *, y: bool = False, better: bool = False) -> Options:
    more = {"better": "higher"} if better else {}
    psnr = {"type": "calculate_psnr", "crop_border": border, "test_y_channel": y}
    return {"psnr": {**psnr, **more}, "ssim": {**psnr, "type": "calculate_ssim", **more}}


def val(border: int = 4, **more: Any) -> Options:
    return {"val_freq": 5e3, "save_img": False, "metrics": metrics(border, **more)}


def lmdb_pair(scale: int, size: int) -> Options:
    roots = {
        "dataroot_gt": "datasets/DF2K/DF2K_train_HR_sub.lmdb",
        "dataroot_lq": f"datasets/DF2K/DF2K_train_LR_bicubic_X{scale}_sub.lmdb",
    }
    return {
        "name": "DF2K",
        "type": "PairedImageDataset",
        **roots,
        "filename_tmpl": "{}",
        "io_backend": {"type": "lmdb"},
        "gt_size": size,
        **FLIPS,
        **LOADER,
    }


def folder_pair(scale: int, name: str = "Set5") -> Options:
    return {
        "name": name,
        "type": "PairedImageDataset",
        "dataroot_gt": f"datasets/{name}/GTmod12",
        "dataroot_lq": f"datasets/{name}/LRbicx{scale}",
        "io_backend": {"type": "disk"},
    }


def training(name: str, model: str, scale: int, network: Options, train: Options, **more: Any) -> Options:
    return {
        "name": name,
        "model_type": model,
        "scale": scale,
        "num_gpu": 8,
        "manual_seed": 0,
        "datasets": {"train": lmdb_pair(scale, 48 * scale), "val": folder_pair(scale)},
        "network_g": network,
        "path": dict(PATH),
        "train": {"ema_decay": 0.999, "optim_g": ADAM, "scheduler": COSINE, "total_iter": 1000000, "warmup_iter": -1}
        | train,
        "val": val(),
        "logger": LOGGER,
        "dist_params": DIST,
        **more,
    }


def testing(name: str, model: str, scale: int, network: Options, **more: Any) -> Options:
    return {
        "name": name,
        "model_type": model,
        "scale": scale,
        "num_gpu": 1,
        "manual_seed": 0,
        "datasets": {"test_1": folder_pair(scale), "test_2": folder_pair(scale, "Set14")},
        "network_g": network,
        "path": {"pretrain_network_g": "experiments/pretrained_models/net.pth", "strict_load_g": True},
        "val": {"save_img": True, "suffix": None, "metrics": metrics(better=True)},
        **more,
    }


def msrresnet(scale: int) -> Options:
    return {"type": "MSRResNet", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 64, "num_block": 16, "upscale": scale}


def edsr(scale: int, *, large: bool) -> Options:
    sizes = {"num_feat": 256, "num_block": 32, "res_scale": 0.1} if large else {"num_feat": 64, "num_block": 16}
    colours = {"img_range": 255.0, "rgb_mean": [0.4488, 0.4371, 0.4040]}
    return {"type": "EDSR", "num_in_ch": 3, "num_out_ch": 3, **sizes, "upscale": scale, **colours}


def rcan(scale: int) -> Options:
    sizes = {"num_feat": 64, "num_group": 10, "num_block": 20, "squeeze_factor": 16}
    colours = {"img_range": 255.0, "rgb_mean": [0.4488, 0.4371, 0.4040]}
    return {"type": "RCAN", "num_in_ch": 3, "num_out_ch": 3, **sizes, "upscale": scale, "res_scale": 1, **colours}


def swinir(scale: int) -> Options:
    return {
        "type": "SwinIR",
        "upscale": scale,
        "in_chans": 3,
        "img_size": 48,
        "window_size": 8,
        "img_range": 1.0,
        "depths": [6] * 6,
        "embed_dim": 180,
        "num_heads": [6] * 6,
        "mlp_ratio": 2,
        "upsampler": "pixelshuffle",
        "resi_connection": "1conv",
    }


RRDB = {"type": "RRDBNet", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 64, "num_block": 23}
ECBSR = {
    "type": "ECBSR",
    "num_in_ch": 1,
    "num_out_ch": 1,
    "num_block": 4,
    "num_channel": 8,
    "with_idt": False,
    "act_type": "prelu",
    "scale": 4,
}
EDVR = {
    "type": "EDVR",
    "num_in_ch": 3,
    "num_out_ch": 3,
    "num_feat": 128,
    "num_frame": 5,
    "deformable_groups": 8,
    "num_extract_block": 5,
    "num_reconstruct_block": 40,
    "center_frame_idx": None,
    "hr_in": False,
    "with_predeblur": False,
    "with_tsa": True,
}
BASICVSR = {"type": "BasicVSR", "num_feat": 64, "num_block": 30, "spynet_path": "experiments/spynet.pth"}
DISCRIMINATOR = {"type": "VGGStyleDiscriminator", "num_in_ch": 3, "num_feat": 64}
UNET_D = {"type": "UNetDiscriminatorSN", "num_in_ch": 3, "num_feat": 64, "skip_connection": True}
REDS = {
    "name": "REDS",
    "type": "REDSDataset",
    "dataroot_gt": "datasets/REDS/train_sharp_with_val.lmdb",
    "dataroot_lq": "datasets/REDS/train_sharp_bicubic_with_val.lmdb",
    "dataroot_flow": None,
    "meta_info_file": "meta_info_REDS_GT.txt",
    "val_partition": "REDS4",
    "io_backend": {"type": "lmdb"},
    "num_frame": 5,
    "gt_size": 256,
    "interval_list": [1],
    "random_reverse": False,
    **FLIPS,
    **LOADER,
}
REDS_TEST = {
    "name": "REDS4",
    "type": "VideoTestDataset",
    "dataroot_gt": "datasets/REDS/val_REDS4_sharp",
    "dataroot_lq": "datasets/REDS/val_REDS4_sharp_bicubic",
    "cache_data": False,
    "io_backend": {"type": "disk"},
    "num_frame": 5,
    "padding": "reflection_circle",
}
VIDEO_VAL = {"val_freq": 1e4, "save_img": False, "metrics": {"psnr": {"type": "calculate_psnr", "crop_border": 0}}}


def degradations(second: str) -> Options:
    low = {"blur_kernel_size": 21, "kernel_list": ["iso", "aniso"], "kernel_prob": [0.5, 0.5], "sinc_prob": 0.1}
    low |= {"blur_sigma": [0.2, 3], "betag_range": [0.5, 4], "betap_range": [1, 2]}
    return {f"{key}{second}": value for key, value in low.items()}


def noise(second: str) -> Options:
    low = {"resize_prob": [0.2, 0.7, 0.1], "resize_range": [0.15, 1.5], "gaussian_noise_prob": 0.5}
    low |= {"noise_range": [1, 30], "poisson_scale_range": [0.05, 3], "gray_noise_prob": 0.4, "jpeg_range": [30, 95]}
    return {f"{key}{second}": value for key, value in low.items()}


REALESRGAN = {
    "name": "DF2K+OST",
    "type": "RealESRGANDataset",
    "dataroot_gt": "datasets/DF2K",
    "meta_info": "datasets/DF2K/meta_info/meta_info_DF2Kmultiscale+OST_sub.txt",
    "io_backend": {"type": "disk"},
    **degradations(""),
    **degradations("2"),
    "final_sinc_prob": 0.8,
    "gt_size": 256,
    **FLIPS,
    **LOADER,
}
USM = {"l1_gt_usm": True, "percep_gt_usm": True, "gan_gt_usm": False, "high_order_degradation": True}
REAL = {"second_blur_prob": 0.8, "gt_size": 256, "queue_size": 180, **noise(""), **noise("2")}
GAN_TRAIN = {"optim_d": ADAM, "perceptual_opt": PERCEPTUAL, "gan_opt": GAN, "net_d_iters": 1, "net_d_init_iters": 0}


def files() -> dict[str, Options]:
    found: dict[str, Options] = {}
    for scale in (2, 3, 4):
        found[f"train_MSRResNet_x{scale}"] = training("a", "SRModel", scale, msrresnet(scale), {"pixel_opt": L1})
        found[f"test_MSRResNet_x{scale}"] = testing("a", "SRModel", scale, msrresnet(scale))
        found[f"train_SwinIR_SRx{scale}"] = training("a", "SwinIRModel", scale, swinir(scale), {"pixel_opt": L1})
        found[f"test_SwinIR_SRx{scale}"] = testing("a", "SwinIRModel", scale, swinir(scale))
        found[f"test_RCAN_x{scale}"] = testing("a", "SRModel", scale, rcan(scale))
        found[f"train_RCAN_x{scale}"] = training(
            "a", "SRModel", scale, rcan(scale), {"pixel_opt": L1, "scheduler": STEPS, "total_iter": 300000}
        )
        for size, large in (("M", False), ("L", True)):
            network = edsr(scale, large=large)
            found[f"train_EDSR_{size}x{scale}"] = training("a", "SRModel", scale, network, {"pixel_opt": L1})
            found[f"test_EDSR_{size}x{scale}"] = testing("a", "SRModel", scale, network)
    gan = {"pixel_opt": {**L1, "loss_weight": 1e-2}, "scheduler": STEPS, "total_iter": 400000, **GAN_TRAIN}
    found["train_MSRGAN_x4"] = training("a", "SRGANModel", 4, msrresnet(4), gan, network_d=DISCRIMINATOR)
    found["train_RRDBNet_PSNR_x4"] = training("a", "SRModel", 4, RRDB, {"pixel_opt": L1})
    found["train_ESRGAN_x4"] = training("a", "ESRGANModel", 4, RRDB, gan, network_d=DISCRIMINATOR)
    found["test_ESRGAN_x4"] = testing("a", "ESRGANModel", 4, RRDB)
    single = {"name": "woGT", "type": "SingleImageDataset", "dataroot_lq": "x", "io_backend": {"type": "disk"}}
    found["test_ESRGAN_x4_woGT"] = testing(
        "a", "ESRGANModel", 4, RRDB, datasets={"test_1": single}, val={"save_img": True, "suffix": None}
    )
    y_pair = {**folder_pair(4), "color": "y"}
    luma = {"train": {**lmdb_pair(4, 256), "color": "y"}, "val": y_pair}
    found["train_ECBSR_x4"] = training("a", "SRModel", 4, ECBSR, {"pixel_opt": L1}, datasets=luma)
    found["test_ECBSR_x4"] = testing("a", "SRModel", 4, ECBSR, datasets={"test_1": y_pair})
    video = {"train": REDS, "val": REDS_TEST}
    edvr = {"pixel_opt": CHARBONNIER, "total_iter": 600000, "tsa_iter": 50000, "dcn_lr_mul": 1}
    periods = [50000, 100000, 150000, 150000, 150000]
    edvr["scheduler"] = {**COSINE, "periods": periods, "restart_weights": [1, 0.5, 0.5, 0.5, 0.5]}
    found["train_EDVR_L_x4_SR_REDS"] = training(
        "a", "EDVRModel", 4, EDVR, edvr, datasets=video, val=VIDEO_VAL, find_unused_parameters=True
    )
    found["test_EDVR_L_x4_SR_REDS"] = testing("a", "EDVRModel", 4, EDVR, datasets={"test": REDS_TEST})
    recurrent = {"pixel_opt": CHARBONNIER, "total_iter": 300000, "fix_flow": 5000, "flow_lr_mul": 0.125}
    recurrent["scheduler"] = {**COSINE, "periods": [300000], "restart_weights": [1]}
    clips = {
        "train": {**REDS, "type": "REDSRecurrentDataset", "num_frame": 15, "test_mode": False},
        "val": {**REDS_TEST, "type": "VideoRecurrentTestDataset", "num_frame": -1},
    }
    found["train_BasicVSR_REDS"] = training(
        "a", "VideoRecurrentModel", 4, BASICVSR, recurrent, datasets=clips, val=VIDEO_VAL
    )
    real = {"train": REALESRGAN}
    denoised = {"pixel_opt": L1, "scheduler": STEPS, "total_iter": 1000000}
    found["train_realesrnet_x4plus"] = training(
        "a", "RealESRNetModel", 4, RRDB, denoised, datasets=real, gt_usm=True, **REAL
    )
    found["train_realesrgan_x4plus"] = training(
        "a", "RealESRGANModel", 4, RRDB, gan, datasets=real, network_d=UNET_D, **REAL, **USM
    )
    paired = {"train": {**REALESRGAN, "type": "RealESRGANPairedDataset", "dataroot_lq": "datasets/x"}}
    found["finetune_realesrgan_x4plus_pairdata"] = training(
        "a", "RealESRGANModel", 4, RRDB, gan, datasets=paired, network_d=UNET_D, **USM
    )
    found |= videos()
    found |= faces()
    return found


def videos() -> dict[str, Options]:
    vimeo = {
        **{
            "name": "Vimeo90K",
            "type": "Vimeo90KDataset",
            "dataroot_gt": "vimeo/GT.lmdb",
            "dataroot_lq": "vimeo/LR.lmdb",
        },
        **{"meta_info_file": "meta_info_Vimeo90K_train_GT.txt", "io_backend": {"type": "lmdb"}, "num_frame": 7},
        **{"gt_size": 256, "random_reverse": True, **FLIPS, **LOADER},
    }
    test = {**REDS_TEST, "type": "VideoTestVimeo90KDataset", "meta_info_file": "x.txt", "num_frame": 7}
    recurrent = {"pixel_opt": CHARBONNIER, "total_iter": 300000, "fix_flow": 5000, "flow_lr_mul": 0.125}
    recurrent["scheduler"] = {**COSINE, "periods": [300000], "restart_weights": [1]}
    clips = {
        "train": {**vimeo, "type": "Vimeo90KRecurrentDataset", "flip_sequence": True},
        "val": {**REDS_TEST, "type": "VideoRecurrentTestDataset", "num_frame": -1},
    }
    icon = {**BASICVSR, "type": "IconVSR", "keyframe_stride": 5, "temporal_padding": 2, "edvr_path": "edvr.pth"}
    plus = {"type": "BasicVSRPlusPlus", "mid_channels": 64, "num_blocks": 7, "is_low_res_input": True}
    plus |= {"spynet_path": "spynet.pth"}
    gan = {**recurrent, "optim_d": ADAM, "gan_opt": GAN, "net_d_iters": 1, "net_d_init_iters": 0}
    duf = {"type": "DUF", "scale": 4, "num_layer": 52, "adapt_official_weights": True}
    tof = {"type": "TOFlow", "adapt_official_weights": True}
    duf_test = {**REDS_TEST, "type": "VideoTestDUFDataset", "use_duf_downsampling": True}
    model, kinds = "VideoRecurrentModel", {"datasets": clips, "val": VIDEO_VAL}
    edvr = {"pixel_opt": CHARBONNIER, "scheduler": STEPS, "total_iter": 300000}
    return {
        "train_BasicVSR_Vimeo90K": training("a", model, 4, BASICVSR, recurrent, **kinds),
        "train_IconVSR_Vimeo90K": training("a", model, 4, icon, recurrent, **kinds),
        "train_BasicVSRPP_Vimeo90K": training("a", model, 4, plus, recurrent, **kinds),
        "train_RealBasicVSR_GAN": training("a", "VideoRecurrentGANModel", 4, BASICVSR, gan, network_d=UNET_D, **kinds),
        "train_EDVR_GAN": training(
            "a",
            "VideoGANModel",
            4,
            EDVR,
            {**edvr, **GAN_TRAIN},
            datasets={"train": vimeo},
            network_d=DISCRIMINATOR,
            val=None,
        ),
        "train_EDVR_Vimeo90K": training("a", "EDVRModel", 4, EDVR, edvr, datasets={"train": vimeo, "val": test}),
        "test_DUF_official": testing("a", "VideoBaseModel", 4, duf, datasets={"test_1": duf_test}),
        "test_TOF_official": testing("a", "VideoBaseModel", 1, tof, datasets={"test_1": test}),
        "test_EDVR_Vimeo90K": testing("a", "EDVRModel", 4, EDVR, datasets={"test_1": test}),
        "test_BasicVSR_REDS": testing("a", model, 4, BASICVSR, datasets={"test_1": clips["val"]}),
    }


def faces() -> dict[str, Options]:
    ffhq = {
        **{"name": "FFHQ", "type": "FFHQDataset", "dataroot_gt": "ffhq_256.lmdb", "io_backend": {"type": "lmdb"}},
        **{"use_hflip": True, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], **LOADER},
    }
    style = {
        "type": "StyleGAN2Generator",
        "out_size": 256,
        "num_style_feat": 512,
        "num_mlp": 8,
        "channel_multiplier": 2,
    }
    style |= {"resample_kernel": [1, 3, 3, 1], "lr_mlp": 0.01}
    judge = {
        "type": "StyleGAN2Discriminator",
        "out_size": 256,
        "channel_multiplier": 2,
        "resample_kernel": [1, 3, 3, 1],
    }
    adam = {"type": "Adam", "lr": 2e-3}
    train = {
        **{"optim_g": adam, "optim_d": adam, "scheduler": {**STEPS, "milestones": [600000]}, "total_iter": 800000},
        "gan_opt": {"type": "GANLoss", "gan_type": "wgan_softplus", "loss_weight": 1e-0},
        **{"r1_reg_weight": 10, "path_reg_weight": 2, "path_batch_shrink": 2, "mixing_prob": 0.9},
        **{"net_g_reg_every": 4, "net_d_reg_every": 16},
    }
    stylegan = training("a", "StyleGAN2Model", 1, style, train, datasets={"train": ffhq}, network_d=judge)
    stylegan["val"] = {"val_freq": 5e3, "save_img": True, "num_val_samples": 16}
    hiface = {"type": "HiFaceGAN", "num_in_ch": 3, "num_feat": 48, "use_vae": False, "z_dim": 256, "crop_size": 512}
    hiface |= {"norm_g": "spectralspadesyncbatch3x3", "is_train": False}
    return {
        "train_StyleGAN2_256_Cmul2_FFHQ": stylegan,
        "test_HiFaceGAN": testing("a", "HiFaceGANModel", 1, hiface, datasets={"test_1": folder_pair(1)}),
    }


FILES = files()
IGNORED = {
    "train_BasicVSR_REDS": {"dataroot_flow"},
    **{name: {"padding"} for name in ("train_EDVR_Vimeo90K", "test_TOF_official", "test_EDVR_Vimeo90K")},
    "train_realesrnet_x4plus": {"gt_size"},
    "train_realesrgan_x4plus": {"gt_size"},
    "finetune_realesrgan_x4plus_pairdata": {*degradations(""), *degradations("2"), "final_sinc_prob"},
}
"""Keys that BasicSR has no code to read, by file."""
