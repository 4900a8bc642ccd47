"""Our architectures in spandrel's registry, so that programs on top of it load our networks: ComfyUI, chaiNNer.

    import semanir_plugin.spandrel
    from spandrel import ModelLoader

    model = ModelLoader().load_from_file("net_g_latest.pth")

Importing this module registers them; so does `semanir_plugin` by itself, as soon as spandrel is imported after it.
Programs hand an architecture the weights alone. What they do not tell of a network, ours have recorded among them
(`archs.network_record`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from semanir_plugin.archs import AST, MixedArch, SemanIR, SemanIRUNet
from semanir_plugin.archs.ast_checkpoints import is_authors_layout
from semanir_plugin.archs.network_record import RECORD, options_of_record, split_record, to_record
from semanir_plugin.archs.pretrained_network import PretrainedNetwork
from semanir_plugin.errors import UserError, require_package
from semanir_plugin.inference.loading import load_state
from semanir_plugin.inference.restoration import Restoration
from semanir_plugin.inference.restorer import Restorer

require_package("spandrel", "semanir_plugin.spandrel", "'semanir_plugin[spandrel]'")

from spandrel import MAIN_REGISTRY, Architecture, ArchRegistry, ArchSupport, ImageModelDescriptor  # noqa: E402

__all__ = ["NetworkArchitecture", "register"]

TOLD = "these weights"

NO_RECORD = (
    f"have no {RECORD}, which says what their shapes do not; write them anew: "
    "semanir_plugin.load(FILE).module.save_pretrained(FOLDER)"
)

# Names of weights that, together, one architecture alone has, where there is no record.
MARKS: dict[type[PretrainedNetwork], tuple[str, ...]] = {
    SemanIR: ("conv_first.weight", "norm_first.weight", "stages.0.layers.0.attn.qkv.weight"),
    SemanIRUNet: ("conv_first.weight", "encoder.0.layers.0.attn.qkv.weight", "conv_last.weight"),
    AST: ("conv_first.weight", "bottom.layers.0.attn.qkv.weight", "downs.0.weight", "conv_last.weight"),
    MixedArch: (),
}


def register(registry: ArchRegistry = MAIN_REGISTRY) -> None:
    """Enter our architectures in a registry, to be detected before those that are there.

    Repeating it changes nothing.
    """
    others = tuple(each.architecture.id for each in registry if not isinstance(each.architecture, NetworkArchitecture))
    ours = (ArchSupport.from_architecture(NetworkArchitecture(network), before=others) for network in MARKS)
    registry.add(*ours, ignore_duplicates=True)


class NetworkArchitecture(Architecture[nn.Module]):
    """One of our architectures, as spandrel has them.

    Args:
        network: The class of its networks.
    """

    def __init__(self, network: type[PretrainedNetwork]) -> None:
        super().__init__(id=network.__name__, detect=partial(_are_of, network))

    def load(self, state_dict: dict[str, Any]) -> ImageModelDescriptor[nn.Module]:
        """Return the network of these weights.

        Raises:
            UserError: They do not say which options it has, or do not fit it.
        """
        if split_record(state_dict)[1] is None and not is_authors_layout(state_dict):
            raise UserError(f"{TOLD} of {self.name} {NO_RECORD}")
        restorer = load_state(state_dict, TOLD)
        told = restorer.descriptor
        restorer.module.register_state_dict_post_hook(partial(_add_record, to_record(restorer.options)))
        return ImageModelDescriptor(
            restorer.module,
            restorer.module.state_dict(),
            architecture=self,
            purpose="SR" if told.scale > 1 else "Restoration",
            tags=_tags(restorer),
            supports_half=told.half_precision,
            supports_bfloat16=told.half_precision,
            scale=told.scale,
            input_channels=told.in_channels,
            output_channels=told.out_channels,
            # The network pads by itself, and otherwise than spandrel would.
            call_fn=Restoration(descriptor=told).restore,
        )


def _are_of(network: type[PretrainedNetwork], state: Mapping[str, Any]) -> bool:
    """Return whether weights are of an architecture, by their record, else by their names."""
    weights, record = split_record(state)
    if record is not None:
        try:
            return bool(options_of_record(record)["type"] == network.__name__)
        except ValueError:  # which loading tells
            pass
    if network is AST and is_authors_layout(weights):
        return True
    marks = MARKS[network]
    return bool(marks) and all(mark in weights for mark in marks)


def _add_record(record: Tensor, module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Add the record to what `state_dict` returns, as programs save what they loaded."""
    state[prefix + RECORD] = record


def _tags(restorer: Restorer) -> list[str]:
    """Return what tells a network from others of its architecture: channels, layers, windows, keys."""
    options, keys = restorer.options, restorer.descriptor.topk
    named = {"dim": options.get("embed_dim"), "k": max(keys) if keys else None, "win": options.get("window_size")}
    return [f"{value}{unit}" for unit, value in named.items() if isinstance(value, int)]


register()
