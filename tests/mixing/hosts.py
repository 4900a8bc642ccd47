"""BasicSR's architectures at tiny sizes, and where blocks go in them."""

from __future__ import annotations

from typing import Any

SWINIR = {
    "type": "SwinIR",
    "upscale": 2,
    "img_size": 16,
    "window_size": 4,
    "embed_dim": 12,
    "depths": [2, 2],
    "num_heads": [2, 2],
    "mlp_ratio": 2,
    "upsampler": "pixelshuffledirect",
    "resi_connection": "1conv",
    "drop_path_rate": 0.0,  # outputs are compared
}
HOSTS: dict[str, dict[str, Any]] = {
    "SwinIR": SWINIR,
    "EDSR": {"type": "EDSR", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_block": 2, "upscale": 2},
    "RCAN": {
        "type": "RCAN",
        "num_in_ch": 3,
        "num_out_ch": 3,
        "num_feat": 8,
        "num_group": 2,
        "num_block": 2,
        "squeeze_factor": 4,
        "upscale": 2,
    },
    "MSRResNet": {"type": "MSRResNet", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_block": 2, "upscale": 2},
    "RRDBNet": {
        "type": "RRDBNet",
        "num_in_ch": 3,
        "num_out_ch": 3,
        "scale": 2,
        "num_feat": 8,
        "num_block": 2,
        "num_grow_ch": 4,
    },
}
# Host and where blocks replace modules of it, and are appended to them.
REPLACED = {
    "SwinIR attention": ("SwinIR", "**.attn"),
    "SwinIR mlp": ("SwinIR", "**.mlp"),
    "EDSR": ("EDSR", "body.*"),
    "RCAN": ("RCAN", "RCAB"),
    "MSRResNet": ("MSRResNet", "ResidualBlockNoBN"),
    "RRDBNet": ("RRDBNet", "ResidualDenseBlock"),
}
APPENDED = {
    "SwinIR layers": ("SwinIR", "RSTB"),
    "SwinIR blocks": ("SwinIR", "layers.*.residual_group.blocks.?"),
    "EDSR": ("EDSR", "ResidualBlockNoBN"),
    "EDSR body": ("EDSR", "body"),
    "RCAN": ("RCAN", "ResidualGroup"),
    "MSRResNet": ("MSRResNet", "body"),
    "RRDBNet": ("RRDBNet", "RRDB"),
}
