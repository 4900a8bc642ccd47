"""What the shipped networks are for, in plain words, and which one is taken where none is named."""

from __future__ import annotations

from dataclasses import dataclass

from semanir_plugin.errors import UserError
from semanir_plugin.inference.shipped_weights import find_weights, shipped_weights

__all__ = ["PURPOSES", "SCALES", "Purpose", "choose_weights", "limits_of"]

ENLARGES = (
    "For pictures as they are: from a phone or a messenger, screenshots, drawings. What JPEG, noise and blur left in "
    "them is not enlarged with the rest."
)
ENLARGES_CLEAN = (
    "For small pictures that are sharp as they are. Noise and JPEG artefacts are enlarged with the rest; text and "
    "faces gain little."
)


@dataclass(frozen=True)
class Purpose:
    """What a network is for.

    Attributes:
        label: What it does, in a few words.
        about: What it is for and what not, in a sentence or two.
        limits: What it is for, where that is something special: the end of a sentence that begins with its name.
        otherwise: Name of the shipped weights that other pictures are for.
    """

    label: str
    about: str
    limits: str = ""
    otherwise: str = ""


PURPOSES = {
    "semanir-mini-x4-real": Purpose("Enlarge 4 times", ENLARGES),
    "semanir-mini-x2-real": Purpose("Enlarge 2 times", ENLARGES),
    "semanirunet-mini-color-jpegblind": Purpose(
        "Remove JPEG artefacts",
        "For JPEGs of any quality: blocks, and the mosquitoes around letters and edges. It finds out how much there is "
        "to do.",
    ),
    "semanir-mini-x4": Purpose(
        "Enlarge 4 times what is clean",
        ENLARGES_CLEAN,
        "is for small pictures without noise and JPEG artefacts, which it would enlarge with the rest",
        "semanir-mini-x4-real",
    ),
    "semanir-mini-x3": Purpose(
        "Enlarge 3 times what is clean",
        ENLARGES_CLEAN,
        "is for small pictures without noise and JPEG artefacts, which it would enlarge with the rest",
        "semanir-mini-x4-real",
    ),
    "semanir-mini-x2": Purpose(
        "Enlarge 2 times what is clean",
        ENLARGES_CLEAN,
        "is for small pictures without noise and JPEG artefacts, which it would enlarge with the rest",
        "semanir-mini-x2-real",
    ),
    "semanirunet-mini-color-dnblind": Purpose(
        "Remove noise",
        "For even grain in every colour, weak or strong, as of Gaussian noise up to sigma 50. It finds out how much of "
        "it there is. Cameras make another kind, in blotches, of which some stays.",
        "is for noise that differs from pixel to pixel; the blotches that a phone leaves may stay",
    ),
    "semanirunet-mini-gray-dnblind": Purpose(
        "Remove noise from black and white",
        "For even grain in pictures without colours, weak or strong, as of Gaussian noise up to sigma 50. It finds "
        "out how much of it there is.",
        "is for pictures without colours, and for noise that differs from pixel to pixel",
        "semanirunet-mini-color-dnblind",
    ),
    "semanirunet-mini-demosaic": Purpose(
        "Mend the colours of a raw picture",
        "For what linear filters (Malvar's) make of the mosaic of a camera's sensor: coloured fringes and zippers at "
        "edges go. Not for pictures that were made smaller or saved as JPEG since.",
        "is for what linear filters make of the mosaic of a sensor",
    ),
    "semanirunet-mini-deblur": Purpose(
        "Sharpen what was shaken",
        "For pictures that a hand shook by a few pixels; of ten and more, much stays. What is out of focus, and what "
        "moves in a picture that is sharp elsewhere, are other kinds of blur.",
        "is for the motion of a camera that was drawn, of a few pixels; that of real hands may stay",
    ),
    "ast-mini-derain": Purpose(
        "Remove rain",
        "For drawn streaks of rain, from a drizzle to a downpour. Drops and mist of real rain are another matter.",
        "is for streaks of rain that were drawn; real rain may stay",
    ),
}
"""Of weights by name, in the order in which they are offered; whether they come with this version, files say."""

SCALES = {4: "semanir-mini-x4-real", 2: "semanir-mini-x2-real"}
"""Names of the weights that enlarge pictures of any kind, the usual one first."""


def choose_weights(scale: int) -> str:
    """Return the name of the shipped weights that enlarge pictures of any kind.

    Args:
        scale: A key of `SCALES`.

    Raises:
        UserError: They do not come with this version.
    """
    if (name := SCALES[scale]) in shipped_weights():
        return name
    known = ", ".join(shipped_weights()) or "none come with this version, so name a file"
    raise UserError(f"{name}, for pictures of any kind, does not come with this version; give --model: {known}")


def limits_of(name: str) -> str | None:
    """Return a sentence on what the weights of this name are for, where that is something special; else None.

    Args:
        name: Of shipped weights; a file of the same name counts for itself, as do all others.
    """
    shipped = shipped_weights()
    purpose = PURPOSES.get(name)
    if purpose is None or not purpose.limits or find_weights(name) != shipped.get(name):
        return None
    other = f"; for others take {purpose.otherwise}" if purpose.otherwise in shipped else ""
    return f"{name} {purpose.limits}{other}"
