"""Experiments: which networks are trained side by side, and how they are scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainings.data import DOWNPOUR, HALVED, USUAL, Photographs
from trainings.files import REMOVED, Options, change, read_recipe, read_yaml


@dataclass(frozen=True)
class Row:
    """A network of a table.

    Attributes:
        key: Of its folders.
        label: In the table.
        recipe: Options of its training.
        photographs: That it learns from.
        times: How many times the usual iterations, or minutes, it gets.
    """

    key: str
    label: str
    recipe: Options
    photographs: Photographs = USUAL
    times: int = 1


@dataclass(frozen=True)
class Group:
    """Networks that are scored together.

    Attributes:
        name: Of the folder of results.
        rows: The networks.
        board: Task, protocol and scale of the leaderboard.
        baseline: What makes a result without learning.
        test_sets: By name, the strength of their degradation.
        images: Folder of the clean images of all test sets; else each has the name of its folder.
    """

    name: str
    rows: Sequence[Row]
    board: Mapping[str, Any]
    baseline: str
    test_sets: Mapping[str, Mapping[str, Any]]
    images: str | None = None


def _super_resolution(name: str, rows: Sequence[Row], test_sets: Sequence[str]) -> Group:
    board = {"task": "sr", "protocol": "sr_y_crop", "scale": rows[0].recipe["scale"]}
    return Group(name, rows, board, "bicubic", {each: {} for each in test_sets})


# The paper draws k from these shares of the largest one, which evaluation takes.
RANDOM_SHARES = (1 / 8, 1 / 4, 3 / 8, 1 / 2, 3 / 4, 1)


def _with_window(side: int) -> Callable[[Options], Options]:
    """Return a variant with windows of another side and the same share of keys that are attended to."""
    return lambda net: {"window_size": side, "topk": net["topk"] * side**2 // net["window_size"] ** 2}


# The paper's ablations, and some of ours: by name, what becomes of `network_g`.
NETWORKS: dict[str, Callable[[Options], Options]] = {
    "random_topk": lambda net: {"topk": [max(1, round(share * net["topk"])) for share in RANDOM_SHARES]},
    "all_keys": lambda net: {"topk": net["window_size"] ** 2},
    "window_8": _with_window(8),
    "window_16": _with_window(16),
    "window_32": _with_window(32),
    "cosine": lambda net: {"similarity": "cosine"},
    "shift_layer": lambda net: {"shift": "layer"},
    "shift_none": lambda net: {"shift": "none"},
    "from_noise": lambda net: {"interpolating_init": False},
    "factorised_bias": lambda net: {"position_bias": "factorised"},
    "topk_16": lambda net: {"topk": 16},
    "topk_32": lambda net: {"topk": 32},
    "topk_128": lambda net: {"topk": 128},
    "wide": lambda net: {
        "embed_dim": net["embed_dim"] * 4 // 3,
        "depths": [2] * len(net["depths"]),
        "num_heads": [4] * len(net["depths"]),
    },
}


def _patches(side: int, count: int) -> Options:
    return {"datasets": {"train": {"gt_size": side, "batch_size_per_gpu": count}}}


# Other ways to train the same network: by name, the sections that change.
WAYS: dict[str, Options] = {
    "psnr_loss": {"train": {"pixel_opt": {"type": "PSNRLoss"}}},
    "fft_loss": {"train": {"fft_opt": {"type": "FFTLoss", "loss_weight": 0.05, "norm": "ortho"}}},
    "larger_batch": _patches(128, 16),
    "smaller_batch": _patches(128, 4),
    "larger_patches": _patches(192, 4),
    "growing_patches": {
        "datasets": {
            "train": {
                "gt_size": REMOVED,
                "batch_size_per_gpu": REMOVED,
                "gt_sizes": [64, 128, 192],
                "batch_sizes_per_gpu": [16, 8, 4],
                "iters": [2000, 2000, 2000],
            }
        }
    },
    "slow_average": {"train": {"ema_decay": 0.999}},
    "no_average": {"train": {"ema_decay": 0}},
    "warm_average": {"train": {"ema_warmup": True}},
    "adam": {"train": {"optim_g": {"type": "Adam", "lr": 1e-3}}},
    "rate_4e-3": {"train": {"optim_g": {"lr": 4e-3}}},
    "rate_1e-3": {"train": {"optim_g": {"lr": 1e-3}}},
    "bfloat16": {"train": {"amp": "bf16"}},
}
VARIANTS = (*NETWORKS, *WAYS)


def recipes(paths: Sequence[Path], variants: Sequence[str] = (), teacher: Path | None = None) -> list[Group]:
    """Return recipes, then those variants of the first one that are not the recipe itself.

    Args:
        paths: Option files.
        variants: Of `VARIANTS`, or "all".
        teacher: Weights of a network that one more variant learns from beside the truth.

    Raises:
        UserError: A recipe is not for super-resolution, scales differ, or variants are asked of another network.
    """
    from semanir_plugin.errors import UserError

    rows = [Row(path.stem.removeprefix("train_"), path.stem.removeprefix("train_"), read_yaml(path)) for path in paths]
    first, scales = rows[0], {row.recipe.get("scale", 1) for row in rows}
    if len(scales) > 1 or scales == {1}:
        raise UserError("recipes must be for super-resolution, all by one factor; name others")
    if variants and first.recipe["network_g"]["type"] != "SemanIR":
        raise UserError(f"{paths[0]}: --variants are of a SemanIR; name such a recipe first")
    for name in VARIANTS if "all" in variants else variants:
        changes = {"network_g": NETWORKS[name](first.recipe["network_g"])} if name in NETWORKS else WAYS[name]
        recipe = change(first.recipe, changes)
        if recipe != first.recipe:
            rows.append(Row(f"{first.key}_{name}", f"{first.label}, {_spell(name)}", recipe))
    if teacher:
        distilled = {"train": {"distill_opt": {"type": "L1Loss"}, "teacher": str(teacher.resolve())}}
        rows.append(Row(f"{first.key}_distilled", f"{first.label}, distilled", change(first.recipe, distilled)))
    return [_super_resolution("recipes", rows, ("Set5", "Set14", "BSD100"))]


def _reduce(recipe: Options, network: Options, patch: int, batch: int, warmup: float) -> Options:
    """Return a recipe for minutes: a small network on small patches, at one rate that a cosine lowers."""
    train, dataset = recipe["train"], recipe["datasets"]["train"]
    total = train["total_iter"]
    cosine = {"type": "CosineAnnealingLR", "T_max": total, "eta_min": 1e-6}
    train |= {"amp": None, "ema_decay": 0.99, "warmup_iter": round(warmup * total) or -1, "scheduler": cosine}
    train["optim_g"]["lr"] = 1e-3
    if "gt_sizes" in dataset:
        dataset |= {"gt_sizes": [patch], "batch_sizes_per_gpu": [batch], "iters": [total]}
    else:
        dataset |= {"gt_size": patch, "batch_size_per_gpu": batch}
    return recipe | {"network_g": network}


@dataclass(frozen=True)
class Task:
    """A task, small enough to be learnt in minutes: its recipe, the changes to it, and how it is scored."""

    recipe: str
    network: Options
    task: str
    protocol: str
    test_set: str
    level: Mapping[str, float] = field(default_factory=dict)
    baseline: str = "identity"
    patch: int = 64
    photographs: Photographs = USUAL


UNET = {
    **{"embed_dim": 16, "depths": [1, 1, 1, 1], "refinement_depth": 1, "head_dim": 16},
    **{"window_sizes": [16, 16, 8, 8], "topk": 64},
}
# Errors of a single pixel: fine detail and many steps count, not what is far away.
SHALLOW = {
    **{"embed_dim": 16, "depths": [2, 1], "refinement_depth": 1, "head_dim": 16},
    **{"window_sizes": [8, 4], "topk": 32},
}
AST = {"img_size": 64, "embed_dim": 16, "depths": [1] * 5, "num_heads": [1, 2, 4, 4, 2], "drop_path_rate": 0.0}
_NOISE, _JPEG = {"sigma": 25}, {"quality": 10}
TASKS = {
    "gray_DN25": Task("SemanIRUNet_gray_DN25", UNET, "denoising", "denoising_gray", "Set12", _NOISE),
    "color_DN25": Task("SemanIRUNet_color_DN25", UNET, "denoising", "denoising_color_bgr", "McMaster", _NOISE),
    "gray_JPEG10": Task("SemanIRUNet_gray_JPEG10", UNET, "jpeg", "jpeg_gray", "classic5", _JPEG),
    "Demosaic": Task(
        *("SemanIRUNet_Demosaic", SHALLOW, "demosaicking", "demosaicking_crop10", "McMaster"),
        baseline="malvar",
        patch=32,
        photographs=HALVED,
    ),
    "rain": Task("AST_T_derain_SPAD", AST, "derain", "derain_y", "Kodak24", photographs=DOWNPOUR),
}


def tasks(names: Sequence[str]) -> list[Group]:
    """Return reduced trainings of tasks, each scored on its own."""
    return [_reduced_task(name, TASKS[name]) for name in names]


def _reduced_task(name: str, task: Task) -> Group:
    recipe = read_recipe(task.recipe)
    recipe = _reduce(recipe, recipe["network_g"] | task.network, task.patch, batch=4, warmup=0.05)
    row = Row(f"reduced_{name}", f"{task.recipe}, reduced", recipe, task.photographs)
    board = {"task": task.task, "protocol": task.protocol}
    return Group(f"reduced_{name}", [row], board, task.baseline, {task.test_set: task.level})


@dataclass(frozen=True)
class Mixture:
    """A recipe of docs/mixing.md, the changes that make its network small, and the host to compare it with."""

    recipe: str
    small: Options
    host: str
    mixed: str
    without: Options | None = None  # None: the base of a mixed architecture


SWINIR = {"img_size": 24, "embed_dim": 24, "depths": [2, 2], "num_heads": [3, 3]}
SEMANIR = {"embed_dim": 24, "depths": [2, 2], "num_heads": [3, 3], "window_size": 16}
KEYS = {"attn": "key_semantic", "topk": 128}
MIXTURES = {
    "SwinIR": Mixture("SwinIR_light_KeySemantic_SRx4", SWINIR, "SwinIR", "SwinIR + key semantics"),
    "EDSR": Mixture("EDSR_FRFN_SRx4", {"num_feat": 32, "num_block": 4}, "EDSR", "EDSR + FRFN"),
    "SemanIR": Mixture("SemanIR_light_ASSA_SRx4", SEMANIR, "SemanIR, key semantics", "SemanIR, ASSA", KEYS),
}


def mixing(names: Sequence[str]) -> list[Group]:
    """Return the recipes of docs/mixing.md beside their hosts, both small."""
    rows = [row for name in names for row in _host_and_mixed(name, MIXTURES[name])]
    return [_super_resolution("mixing", rows, ("Set5", "Set14"))]


def _host_and_mixed(name: str, mixture: Mixture) -> list[Row]:
    mixed = read_recipe(mixture.recipe)["network_g"]
    if mixture.without is None:
        host = mixed["base"] | mixture.small
        mixed = mixed | {"base": host}
    else:
        mixed = mixed | mixture.small
        host = mixed | mixture.without
    networks = (("host", mixture.host, host), ("mixed", mixture.mixed, mixed))
    return [
        Row(f"mixing_{name}_{kind}", label, _reduce(read_recipe(mixture.recipe), network, 96, batch=8, warmup=0))
        for kind, label, network in networks
    ]


ALL_IN_ONE = ("noise", "rain", "haze", "low_light", "motion_blur")


def all_in_one(names: Sequence[str]) -> list[Group]:
    """Return one network for all those degradations, with prompts and without, beside one for each of them.

    Both readings of an equal budget are rows: as many iterations for each network, and as many for one network as for
    all the others together. Clean patches have the same share in all trainings.
    """
    recipe, images = read_recipe("SemanIRUNet_mini_AllInOne"), "McMaster"
    rows = [Row(f"only_{name}", f"{_spell(name)} only", _restrict(recipe, [name])) for name in names]
    for key, label, prompts in (("all_in_one", "all in one", 0), ("all_in_one_prompts", "all in one, prompts", 8)):
        together = _restrict(recipe, names)
        together = together | {"network_g": together["network_g"] | {"prompts": prompts}}
        many = Row(f"{key}_x{len(names)}", f"{label}, {len(names)} times the iterations", together, times=len(names))
        rows += [Row(key, label, together), many]
    sets = {f"{images}_{name}": {"degradations": each["degradations"]} for name, each in _validated(recipe, names)}
    return [Group("all_in_one", rows, {"task": "all_in_one", "protocol": "drawn_rgb"}, "identity", sets, images)]


def _restrict(recipe: Options, names: Sequence[str]) -> Options:
    """Return a recipe for some of its degradations, whose share of clean patches is the same."""
    datasets = dict(recipe["datasets"])
    train, every = datasets["train"], datasets["train"]["degradations"]
    clean = {"weight": every["clean"]["weight"] * len(names) / len(ALL_IN_ONE)}
    chosen = {name: every[name] for name in names} | {"clean": clean}
    validated = [each for _, each in _validated(recipe, names)]
    phases = {f"val_{number}" if number > 1 else "val": each for number, each in enumerate(validated, 1)}
    return recipe | {"datasets": {"train": train | {"degradations": chosen}, **phases}}


def _validated(recipe: Options, names: Sequence[str]) -> list[tuple[str, Options]]:
    """Return those validation sets of a recipe that have one of these degradations, in the order of the names."""
    sets = {next(iter(each["degradations"])): each for key, each in recipe["datasets"].items() if key != "train"}
    return [(name, sets[name]) for name in names]


def _spell(name: str) -> str:
    return name.replace("_", " ")
