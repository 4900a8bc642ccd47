"""Mixing this package's blocks into other networks, without a change to their code.

`entries` reads what a user asks for, `places` finds out where blocks can go, `planning` decides, `mix` puts the blocks
in, by way of `stand_ins`, and `weights` loads weights of the network as it was.
"""

from semanir_plugin.mixing.entries import MixEntry
from semanir_plugin.mixing.mix import Change, Mixed, mix
from semanir_plugin.mixing.places import Form, Place, find_places
from semanir_plugin.mixing.weights import HostWeights, load_host_weights, translate_host_weights

__all__ = [
    "Change",
    "Form",
    "HostWeights",
    "MixEntry",
    "Mixed",
    "Place",
    "find_places",
    "load_host_weights",
    "mix",
    "translate_host_weights",
]
