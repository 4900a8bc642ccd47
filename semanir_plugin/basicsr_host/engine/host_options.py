"""Types and ranges of options of BasicSR's and torch's own classes, which declare none or take what is not right.

By the kind of what takes them and by name: the same name means the same to all classes of a kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from semanir_plugin.basicsr_host.data.dataset_options import PairedImageOptions, PatchOptions, SingleImageOptions
from semanir_plugin.schema.declarations import options_of
from semanir_plugin.schema.values import Count, FromZero, Hint, NonNegative, Positive, Range, Share

__all__ = [
    "DATASETS",
    "DATASET_HINTS",
    "DEGRADATIONS",
    "LOSS_HINTS",
    "METRIC_HINTS",
    "MODEL_HINTS",
    "NEEDED",
    "NETWORK_HINTS",
    "OPTIMIZER_HINTS",
    "SAMPLING_MODELS",
    "SCHEDULER_HINTS",
]

_BelowOne = Annotated[float, Range(least=0, below=1)]

OPTIMIZER_HINTS: dict[str, Hint] = {
    "lr": Annotated[float, Range(above=0, most=1000)],
    "weight_decay": NonNegative,
    "eps": Positive | Sequence[Positive] | None,  # Adafactor has two, the first of which may be null
    "betas": Sequence[_BelowOne],
    **dict.fromkeys(("momentum", "alpha", "rho"), _BelowOne),
    **dict.fromkeys(("dampening", "lr_decay", "lambd", "initial_accumulator_value", "momentum_decay"), NonNegative),
    **dict.fromkeys(("t0", "clip_threshold", "d"), Positive),
    "etas": Sequence[Positive],
    "step_sizes": Sequence[Positive],
    "ns_steps": Count,
}

SCHEDULER_HINTS: dict[str, Hint] = {
    **dict.fromkeys(("T_max", "T_0", "T_mult", "step_size", "step_size_up", "total_iters", "total_steps"), Count),
    "milestones": Sequence[Count],
    "restarts": Sequence[FromZero],
    "restart_weights": Sequence[Positive],
    "periods": Sequence[Positive],
    **dict.fromkeys(("gamma", "power", "div_factor", "final_div_factor"), Positive),
    **dict.fromkeys(("max_lr", "base_lr"), Positive | Sequence[Positive]),
    "eta_min": NonNegative,
    "eta_mins": Sequence[NonNegative],
    "start_factor": Annotated[float, Range(above=0, most=1)],
    **dict.fromkeys(("end_factor", "factor", "pct_start", "base_momentum", "max_momentum"), Share),
    "last_epoch": Literal[-1],
    **dict.fromkeys(("epochs", "steps_per_epoch", "step_size_down"), Count | None),
}

LOSS_HINTS: dict[str, Hint] = {
    **dict.fromkeys(("loss_weight", "perceptual_weight", "style_weight"), NonNegative),
    "reduction": Literal["mean", "sum"],  # a training minimises one number
    "eps": Positive,
    "layer_weights": Mapping[str, NonNegative],
    **dict.fromkeys(("real_label_val", "fake_label_val"), float),
    **dict.fromkeys(("use_input_norm", "range_norm"), bool),
}

METRIC_HINTS: dict[str, Hint] = {
    "crop_border": FromZero,
    "test_y_channel": bool,
    "input_order": Literal["HWC"],  # as images are given
    "convert_to": Literal["y", "gray"],
    "better": Literal["higher", "lower"],
}

NETWORK_HINTS: dict[str, Hint] = {
    **dict.fromkeys(("num_in_ch", "num_out_ch", "in_chans", "num_feat", "num_grow_ch", "embed_dim"), Count),
    **dict.fromkeys(("window_size", "img_size", "patch_size", "num_frame", "squeeze_factor"), Count),
    **dict.fromkeys(("num_block", "num_blocks", "num_group", "num_conv", "num_layer"), FromZero),
    **dict.fromkeys(("upscale", "scale", "mlp_ratio", "img_range"), Positive),
    **dict.fromkeys(("depths", "num_heads"), Sequence[Count]),
    **dict.fromkeys(("drop_rate", "attn_drop_rate", "drop_path_rate"), _BelowOne),
    "res_scale": float,
    "rgb_mean": Sequence[Share],
}

MODEL_HINTS: dict[str, dict[str, Hint]] = {
    "": {
        "queue_size": Count,
        **dict.fromkeys(("l1_gt_usm", "percep_gt_usm", "gan_gt_usm", "gt_usm", "high_order_degradation"), bool),
        **{f"resize_prob{second}": Sequence[Share] for second in ("", "2")},
        **{f"{key}{second}": Share for key in ("gaussian_noise_prob", "gray_noise_prob") for second in ("", "2")},
        **{
            f"{key}{second}": Sequence[NonNegative]
            for key in ("resize_range", "noise_range", "poisson_scale_range")
            for second in ("", "2")
        },
        **{f"jpeg_range{second}": Sequence[Annotated[float, Range(least=1, most=100)]] for second in ("", "2")},
        "second_blur_prob": Share,
    },
    "train": {
        "net_d_iters": Count,
        "net_d_init_iters": FromZero,
        **dict.fromkeys(("fix_flow", "net_g_reg_every", "net_d_reg_every"), FromZero),
        **dict.fromkeys(("r1_reg_weight", "path_reg_weight", "dcn_lr_mul", "flow_lr_mul", "lr_flow"), NonNegative),
        "mixing_prob": Share,
    },
}

DEGRADATIONS: frozenset[str] = frozenset(MODEL_HINTS[""]) - {
    *("queue_size", "high_order_degradation"),
    *("l1_gt_usm", "percep_gt_usm", "gan_gt_usm"),
} | {"gt_size"}
"""Keys of the top level that models look up which degrade their images themselves."""

NEEDED: dict[str, frozenset[str]] = {
    "": frozenset({"network_d", "l1_gt_usm", "percep_gt_usm", "gan_gt_usm"}),
    "train": frozenset(
        {
            *("optim_g", "optim_d", "scheduler", "gan_opt", "r1_reg_weight", "path_reg_weight", "path_batch_shrink"),
            *("net_g_reg_every", "net_d_reg_every", "mixing_prob"),
        }
    ),
}
"""Keys that models look up without a default as they train, by section."""

SAMPLING_MODELS = {"StyleGAN2Model"}
"""Models that are validated and tested by images that they make of noise, and need no set for it."""

DATASETS: dict[str, type] = {"PairedImageDataset": PairedImageOptions, "SingleImageDataset": SingleImageOptions}

DATASET_HINTS: dict[str, Hint] = {
    **{option.name: option.hint for option in options_of(PatchOptions)},
    **dict.fromkeys(("cache_data", "random_reverse", "flip_sequence"), bool),
    "num_frame": Annotated[int, Range(least=-1)],  # -1: all
    "interval_list": Sequence[Count],
    **{f"blur_kernel_size{second}": Count for second in ("", "2")},
    **{f"kernel_list{second}": Sequence[str] for second in ("", "2")},
    **{f"kernel_prob{second}": Sequence[Share] for second in ("", "2")},
    **{
        f"{key}{second}": Sequence[NonNegative]
        for key in ("blur_sigma", "betag_range", "betap_range")
        for second in ("", "2")
    },
    **{f"sinc_prob{second}": Share for second in ("", "2")},
    "final_sinc_prob": Share,
}
