"""From an option file to the profile of its network."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from semanir_plugin.archs import input_channels
from semanir_plugin.errors import UserError, one_line
from semanir_plugin.evaluation.profiling.plot import plot_profiles
from semanir_plugin.evaluation.profiling.profile import Profile, format_profile, profile_network, write_json
from semanir_plugin.inference.devices import choose_device
from semanir_plugin.inference.loading import build_network
from semanir_plugin.option_files import read_network
from semanir_plugin.path_safety import check_folder

__all__ = ["profile_option_file"]


def profile_option_file(
    path: str,
    sizes: Sequence[tuple[int, int]],
    output: str,
    *,
    repeats: int = 3,
    device: str | None = None,
    force_yml: Sequence[str] = (),
) -> list[Profile]:
    """Measure the network of an option file, print tables and write `profile.json` and `profile.png` to a folder.

    Raises:
        UserError: The file, the device or the folder is not right, or the network does not take an image of a size.
    """
    options, place = read_network(path, force_yml), choose_device(device)
    folder = _make_folder(output)
    network = build_network(options, path).eval().to(place)
    channels = input_channels(network, options)
    profiles = []
    for size in tqdm(sizes, desc="Profiling", unit="size", disable=None):
        profiles.append(_measure(network, size, channels, repeats))
        tqdm.write(format_profile(profiles[-1]) + "\n")
    about = {"option_file": path, "network_g": options, **_machine(place)}
    write_json(profiles, about, folder / "profile.json")
    title = f"{options['type']} of {Path(path).name} on {about['device']}"
    plotted = plot_profiles(profiles, title, folder / "profile.png")
    print(f"{folder}: profile.json" + (", profile.png" if plotted else "; for a picture: pip install matplotlib"))
    return profiles


def _measure(network: torch.nn.Module, size: tuple[int, int], channels: int, repeats: int) -> Profile:
    try:
        return profile_network(network, size, channels=channels, repeats=repeats)
    except Exception as error:  # of any network's code
        height, width = size
        raise UserError(f"--size {height}x{width}: the network does not take it: {one_line(error)}") from error


def _make_folder(name: str) -> Path:
    folder = Path(os.path.expanduser(name))
    check_folder(folder)
    return folder


def _machine(device: torch.device) -> dict[str, Any]:
    name = f"{platform.machine()} CPU, threads: {torch.get_num_threads()}"
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    return {"device": name, "torch": torch.__version__, "precision": "fp32"}
