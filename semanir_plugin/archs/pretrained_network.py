"""Base of the architectures: networks that know what they were built from, and that go to files and to the hub.

`save_pretrained`, `from_pretrained` and `push_to_hub` are called as those of huggingface_hub's `PyTorchModelHubMixin`.
They are not that class, whose import would be one of every network: of huggingface_hub nothing is imported before a
repository is asked for.
"""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from semanir_plugin.archs.network_record import RECORD
from semanir_plugin.errors import describe_unknown

__all__ = ["PretrainedNetwork"]

Network = TypeVar("Network", bound="PretrainedNetwork")


class PretrainedNetwork(nn.Module):
    """A network whose weights may have a record of its options among them (`network_record`).

    Attributes:
        given_options: What the constructor was given.
    """

    given_options: dict[str, Any]

    def __new__(cls, *_: Any, **options: Any) -> Any:
        """Make an instance that keeps its options."""
        network = super().__new__(cls)
        network.given_options = options
        return network

    @property
    def options(self) -> dict[str, Any]:
        """What it was built from, as under `network_g` in an option file, `type` included."""
        return {"type": type(self).__name__, **self.given_options}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        state_dict.pop(prefix + RECORD, None)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        config: Mapping[str, Any] | None = None,
        repo_id: str | None = None,
        push_to_hub: bool = False,
        card: str | None = None,
        model_card_kwargs: Mapping[str, Any] | None = None,
        **push: Any,
    ) -> str | None:
        """Write the network to a folder: `config.json`, `model.safetensors` and a card, `README.md`.

        Args:
            save_directory: The folder; it is made if need be.
            config: Options, `type` included, instead of those it was built from.
            repo_id: "org/name", with `push_to_hub`; None: the name of the folder.
            push_to_hub: Whether to push it as well.
            card: Text of the card; None: what is there stays, else one of what is known.
            model_card_kwargs: Of `inference.model_card.model_card`.
            **push: Of `push_to_hub`.

        Returns:
            The address of the commit, where it was pushed.

        Raises:
            UserError: The folder cannot be made, or `config` has no `type`; or as `push_to_hub`.
            OSError: A file cannot be written.
        """
        save = _from_above("hub:save_folder")
        save(self, save_directory, options=config, card=card, **(model_card_kwargs or {}))
        if not push_to_hub:
            return None
        name = repo_id or Path(save_directory).resolve().name
        return self.push_to_hub(name, config=config, card=card, model_card_kwargs=model_card_kwargs, **push)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        config: Mapping[str, Any] | None = None,
        card: str | None = None,
        model_card_kwargs: Mapping[str, Any] | None = None,
        **push: Any,
    ) -> str:
        """Write the network to a repository of the Hugging Face hub, and return the address of the commit.

        Args:
            repo_id: "org/name"; it is made if need be.
            config: As of `save_pretrained`.
            card: As of `save_pretrained`.
            model_card_kwargs: As of `save_pretrained`.
            **push: `commit_message`, `private`, `token`, `branch`, `create_pr`.

        Raises:
            UserError: huggingface_hub is missing, or the hub cannot be reached or refuses.
        """
        pushed = _from_above("hub:push")(self, repo_id, options=config, card=card, **push, **(model_card_kwargs or {}))
        return str(pushed)

    @classmethod
    def from_pretrained(
        cls: type[Network],
        pretrained_model_name_or_path: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        map_location: torch.device | str = "cpu",
        strict: bool = True,
        **options: Any,
    ) -> Network:
        """Return a network from a folder or a repository of the Hugging Face hub, in evaluation mode.

        Args:
            pretrained_model_name_or_path: A folder, "org/name", or whatever else `semanir_plugin.load` takes.
            revision: A branch, a tag or a commit.
            token: Of the account; None: that of `hf auth login`.
            cache_dir: Where downloads are kept; None: where the hub's library does.
            force_download: Whether to download what is there.
            local_files_only: Whether to take only what was downloaded before.
            map_location: The device that it goes to.
            strict: Whether it must have every weight, and no other; else one is enough, and those that are missing
                stay as they begin. Weights of other shapes are refused always.
            **options: Instead of those that it has, such as `topk`.

        Raises:
            TypeError: A keyword is neither one of these nor an option of the class.
            UserError: There is none, it cannot be read, or it is of another class; see `inference.hub.fetch`.
        """
        _check_keywords(cls, options)
        settings = {
            "revision": revision,
            "token": token,
            "cache_dir": cache_dir,
            "force_download": force_download,
            "local_files_only": local_files_only,
        }
        load_class = _from_above("loading:load_class")
        network: Network = load_class(
            cls, pretrained_model_name_or_path, options, settings, device=map_location, strict=strict
        )
        return network


def _check_keywords(cls: type[PretrainedNetwork], options: Mapping[str, Any]) -> None:
    """Raise TypeError for an option that a class does not have, with the name most like it."""
    accepted = inspect.signature(cls.__init__).parameters  # not the class's own, which is that of its `__new__`
    if any(each.kind is each.VAR_KEYWORD for each in accepted.values()):
        return
    own = inspect.signature(cls.from_pretrained).parameters
    known = {*list(accepted)[1:], *(name for name, each in own.items() if each.kind is each.KEYWORD_ONLY)}
    for name in options:
        if name not in known:
            raise TypeError(describe_unknown("keyword", name, known, f"{cls.__name__}.from_pretrained"))


def _from_above(name: str) -> Any:
    """Return a function of `inference`, which is built on the architectures and so not imported with them."""
    return pkgutil.resolve_name(f"semanir_plugin.inference.{name}")
