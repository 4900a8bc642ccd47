"""Methods that a leaderboard compares: networks, folders of results made elsewhere, and classical methods."""

from __future__ import annotations

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from basicsr.models import build_model
from basicsr.utils import img2tensor, set_random_seed

from semanir_plugin import __version__
from semanir_plugin.basicsr_host.data.pairing import find_images
from semanir_plugin.basicsr_host.engine.dry_run import dry_run
from semanir_plugin.basicsr_host.scoring import tensor_to_image
from semanir_plugin.degradations import demosaic_malvar, imresize, mosaic_rggb
from semanir_plugin.errors import UserError, one_line
from semanir_plugin.evaluation.leaderboard.test_sets import Sample, TestSet, hash_files, read_image, slugify
from semanir_plugin.inference.loading import describe_weights
from semanir_plugin.inference.restoration import RestorationOptions
from semanir_plugin.inference.shipped_weights import find_weights, shipped_file
from semanir_plugin.pixels import FloatImage

__all__ = [
    "ClassicalOptions",
    "Contestant",
    "FolderOptions",
    "NetworkOptions",
    "PreparedContestant",
    "WeightsOptions",
    "make_contestant",
]

Restore = Callable[[FloatImage], FloatImage]


@dataclass(frozen=True, kw_only=True)
class NetworkOptions(RestorationOptions):
    """A network in an option file.

    Attributes:
        network_g: Architecture and its options, in BasicSR's format.
        checkpoint: Its weights, read as `basicsr test` reads `path.pretrain_network_g`; `{}` stands for the strength of
            the test set's condition, for networks with weights for each; None: weights are random.
        param_key: Entry of the checkpoint; None: weights lie at its top.
        strict_load: Whether every weight must be there, and no other.
        source: Where it is from, for people.
    """

    network_g: Any
    checkpoint: str | None = None
    param_key: str | None = "params"
    strict_load: bool = True
    source: str | None = None


@dataclass(frozen=True, kw_only=True)
class WeightsOptions(RestorationOptions):
    """A network that its checkpoint describes, in an option file.

    Attributes:
        weights: The checkpoint, or the name of weights that come with this plugin.
        source: Where it is from, for people.
    """

    weights: str
    source: str | None = None

    def resolve(self) -> NetworkOptions:
        """Return the options of the network and checkpoint that the name stands for.

        Raises:
            UserError: There is no such file, or it says nothing of its network.
        """
        network, path, entry = describe_weights(find_weights(self.weights))
        rest = {key: value for key, value in asdict(self).items() if key != "weights"}
        return NetworkOptions(network_g=network, checkpoint=str(path), param_key=entry, **rest)


@dataclass(frozen=True, kw_only=True)
class FolderOptions:
    """Results made elsewhere, in an option file.

    Attributes:
        images: Folder with one folder of images for each test set, of its name.
        filename_tmpl: Stem of a result, `{}` being the name of the image.
        source: Where they are from, for people.
    """

    images: str
    filename_tmpl: str = "{}"
    source: str | None = None


@dataclass(frozen=True, kw_only=True)
class ClassicalOptions:
    """A method without weights, in an option file.

    Attributes:
        classical: "bicubic" (MATLAB's), "identity" (the input as it is, neither clipped nor rounded) or "malvar"
            (linear demosaicking).
        source: Where it is from, for people.
    """

    classical: Literal["bicubic", "identity", "malvar"]
    source: str | None = None


@dataclass(frozen=True, kw_only=True)
class PreparedContestant:
    """A contestant, loaded and ready to restore.

    Attributes:
        restore: Makes of an image's name and input the result, (H, W, C) in BGR order, [0, 1].
        as_is: Whether results are scored without clipping and rounding.
        model: The built network, for its cost.
        run: The restoration alone, without images and names, for its cost; None: there is nothing to run.
    """

    restore: Callable[[Sample, TestSet], FloatImage]
    as_is: bool = False
    model: Any = None
    run: Restore | None = None


@dataclass(frozen=True)
class Contestant(ABC):
    """A method that is measured: a row of the leaderboard.

    Attributes:
        name: Of the row.
        options: Options in the option file.
        settings: Settings that all networks of the run share: `num_gpu`, `manual_seed` and `scale`.
    """

    name: str
    options: Any
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def slug(self) -> str:
        """The name as a folder's."""
        return slugify(self.name)

    @property
    def identity(self) -> str:
        """A hash of the method's options, without its weights."""
        said = {key: value for key, value in asdict(self.options).items() if key not in ("source", "checkpoint")}
        text = json.dumps([__version__, type(self).__name__, said], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @abstractmethod
    def content(self, test_set: TestSet) -> str:
        """Return a hash of the files that it needs for a test set.

        Raises:
            UserError: One cannot be read.
        """

    def checkpoint_path(self, test_set: TestSet) -> str:
        """Return the checkpoint path for this test set; empty where there is none."""
        return ""

    @abstractmethod
    def prepare(self, checkpoint: str) -> PreparedContestant:
        """Load what is needed to restore.

        Raises:
            UserError: It cannot be loaded.
        """


class Classical(Contestant):
    """A method without weights."""

    def content(self, test_set: TestSet) -> str:
        """Return the hash of no files."""
        return hash_files([], "classical")

    def prepare(self, checkpoint: str) -> PreparedContestant:
        """Return the method."""
        scale = self.settings.get("scale", 1)
        methods: dict[str, Restore] = {
            "bicubic": lambda image: imresize(image, scale),
            "identity": lambda image: image,
            "malvar": lambda image: demosaic_malvar(mosaic_rggb(image)),
        }
        run, is_input = methods[self.options.classical], self.options.classical == "identity"
        return PreparedContestant(
            restore=lambda sample, _: run(sample.input), as_is=is_input, run=None if is_input else run
        )


class Folder(Contestant):
    """A folder of results made elsewhere."""

    def content(self, test_set: TestSet) -> str:
        """Return the hash of the images."""
        return hash_files([self._find(test_set, each.name) for each in test_set.found])

    def prepare(self, checkpoint: str) -> PreparedContestant:
        """Return a restorer that reads the results."""

        def restore(sample: Sample, test_set: TestSet) -> FloatImage:
            path = self._find(test_set, sample.name)
            image = read_image(path, test_set.protocol.channels)
            if image.shape != sample.truth.shape:
                height, width = sample.truth.shape[:2]
                raise UserError(
                    f"{path} is {image.shape[1]}x{image.shape[0]}, but the scored part of its ground truth is "
                    f"{width}x{height}; make it again"
                )
            return image

        return PreparedContestant(restore=restore)

    def _find(self, test_set: TestSet, name: str) -> Path:
        folder = Path(self.options.images, test_set.name)
        stem = self.options.filename_tmpl.replace("{}", name)
        found = [path for path in find_images(folder) if path.stem == stem]
        if not found:
            raise UserError(f"{folder}: no result of {name}, {stem}.png; add it, or correct filename_tmpl")
        if len(found) > 1:
            raise UserError(f"{found[0]} and {found[1]} would both be the result of {name}; take one away")
        return found[0]


class Network(Contestant):
    """A network of any registered architecture."""

    def content(self, test_set: TestSet) -> str:
        """Return the hash of the checkpoint; of random weights, that of the seed."""
        checkpoint = self.checkpoint_path(test_set)
        return hash_files([Path(checkpoint)] if checkpoint else [], f"seed {self.settings['manual_seed']}")

    def checkpoint_path(self, test_set: TestSet) -> str:
        """Return the checkpoint path for this test set; empty where weights are random."""
        path = os.path.expanduser((self.options.checkpoint or "").replace("{}", test_set.short_level))
        return str(shipped_file(path) or path)

    def prepare(self, checkpoint: str) -> PreparedContestant:
        """Build the network as `basicsr test` does, and load its weights.

        Raises:
            UserError: The network refuses its options, or the weights do not fit.
        """
        set_random_seed(self.settings["manual_seed"])
        try:
            model = build_model(self._model_options(checkpoint))
        except UserError:
            raise
        except Exception as error:  # whatever a constructor raises, its options are what the user can mend
            raise UserError(f"{self.options.network_g['type']} cannot be built: {one_line(error)}") from error

        seen: set[str] = set()

        def restore(sample: Sample, test_set: TestSet) -> FloatImage:
            if test_set.name not in seen:  # a crop shows what does not fit together
                lq, gt = img2tensor([sample.input, sample.truth])
                dry_run(model, {"lq": lq, "gt": gt})
                seen.add(test_set.name)
            return _restore(model, sample.input)

        return PreparedContestant(restore=restore, model=model, run=lambda image: _restore(model, image))

    def _model_options(self, checkpoint: str) -> dict[str, Any]:
        options = self.options
        return {
            "model_type": "SemanIRModel",
            **{"is_train": False, "dist": False, "rank": 0, "world_size": 1, **self.settings},
            "network_g": options.network_g,
            "path": {
                "pretrain_network_g": checkpoint or None,
                "param_key_g": options.param_key,
                "strict_load_g": options.strict_load,
            },
            "val": {each.name: getattr(options, each.name) for each in fields(RestorationOptions)},
        }


def _restore(model: Any, image: FloatImage) -> FloatImage:
    model.feed_data({"lq": img2tensor(image.copy())[None]})
    model.test()
    output = tensor_to_image(model.output.clamp(0, 1))
    del model.lq, model.output
    return output


def make_contestant(name: str, options: Any, settings: Mapping[str, Any]) -> Contestant:
    """Return the contestant that options describe."""
    kinds: dict[type, type[Contestant]] = {
        NetworkOptions: Network,
        FolderOptions: Folder,
        ClassicalOptions: Classical,
    }
    return kinds[type(options)](name, options, settings)
