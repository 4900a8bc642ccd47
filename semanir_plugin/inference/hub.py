"""Networks in repositories of the Hugging Face hub, and folders of the same form on disk.

Such a repository has `config.json` with the network's options, `model.safetensors` and a card. huggingface_hub, the
extra `[hub]`, is imported when a repository is asked for; a folder needs none of it.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from semanir_plugin.archs import describe
from semanir_plugin.archs.pretrained_network import PretrainedNetwork
from semanir_plugin.atomic_io import write_atomic
from semanir_plugin.errors import UserError, one_line, require_package
from semanir_plugin.inference.checkpoints import describe_network, save_weights
from semanir_plugin.inference.model_card import model_card
from semanir_plugin.inference.shipped_weights import shipped_weights

__all__ = ["CONFIG", "WEIGHTS", "fetch", "is_repository", "push", "save_folder"]

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"

EXTRA = "'semanir_plugin[hub]'"

_REPOSITORY = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(?P<revision>[\w./-]+))?")
_UNREACHED = {"LocalEntryNotFoundError", "OfflineModeIsEnabled", "TransportError", "ConnectionError"}
_WEIGHTS = (".pth", ".pt", ".ckpt", ".bin", ".safetensors", ".onnx")


def is_repository(name: str | Path) -> bool:
    """Return whether a name is that of a repository, "org/name" or "org/name@revision", and of nothing on disk."""
    if not isinstance(name, str) or not _REPOSITORY.fullmatch(name) or name.lower().endswith(_WEIGHTS):
        return False
    return not os.path.lexists(name) and not os.path.isdir(name.partition("/")[0])


def fetch(name: str, *, revision: str | None = None, **settings: Any) -> Path:
    """Return a folder with the network of a repository, downloaded where the hub's cache does not have it.

    Args:
        name: "org/name", or "org/name@revision".
        revision: A branch, a tag or a commit.
        **settings: Of `huggingface_hub.snapshot_download`: `token`, `cache_dir`, `local_files_only`, `force_download`.

    Raises:
        UserError: huggingface_hub is missing; the hub cannot be reached, or has no such repository or revision, or it
            is gated or holds no network.
    """
    found = _REPOSITORY.fullmatch(name)
    if found is None:
        raise UserError(f"{name!r} is no name of a repository, which is org/name")
    require_package("huggingface_hub", f"no file {name!r}; a repository of the Hugging Face hub", EXTRA)
    from huggingface_hub import snapshot_download

    revision = revision or found["revision"]
    with _telling(found["name"], revision):
        folder = snapshot_download(found["name"], revision=revision, allow_patterns=[CONFIG, WEIGHTS], **settings)
    missing = [each for each in (CONFIG, WEIGHTS) if not Path(folder, each).is_file()]
    if missing:
        raise UserError(f"{name}: the repository has no {' and no '.join(missing)}; save_pretrained writes both")
    return Path(folder)


def save_folder(
    network: nn.Module,
    folder: str | Path,
    *,
    options: Mapping[str, Any] | None = None,
    card: str | None = None,
    **about: Any,
) -> None:
    """Write a network to a folder, as a repository has it; a card that is there stays.

    Args:
        network: One of ours, or another with its `options`.
        folder: It is made if need be.
        options: Those the network was built from, `type` included; None: what it knows itself.
        card: Text of the README.md; None: `model_card` of what is known.
        **about: Of `model_card`.

    Raises:
        UserError: The folder cannot be made, or the network does not know its options.
        OSError: A file cannot be written.
    """
    if options is None:
        if not isinstance(network, PretrainedNetwork):
            raise UserError(f"a {type(network).__name__} does not know what it was built from; give its config")
        options = network.options
    if not isinstance(options.get("type"), str):
        raise UserError("config has no 'type' of a network beside its options; add it, or leave config out")
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror}); name another folder") from error
    described = describe_network({key: value for key, value in options.items() if key != "compile_backend"})
    save_weights(folder / WEIGHTS, network, described["network_g"])
    write_atomic(f"{json.dumps(described, indent=1)}\n".encode(), folder / CONFIG)
    if card is not None or not (folder / CARD).exists():
        text = card or model_card(described["network_g"], descriptor=describe(network, options), **about)
        write_atomic(text.encode(), folder / CARD)


def push(
    network: nn.Module,
    repository: str,
    *,
    options: Mapping[str, Any] | None = None,
    card: str | None = None,
    commit_message: str = "A network, by semanir_plugin",
    private: bool | None = None,
    token: str | None = None,
    branch: str | None = None,
    create_pr: bool | None = None,
    **about: Any,
) -> str:
    """Write a network to a repository, which is made if need be, in one commit; return its address.

    Args:
        network: As of `save_folder`.
        repository: "org/name".
        options: As of `save_folder`.
        card: As of `save_folder`.
        commit_message: Of the commit.
        private: Whether a repository that is made is private; None: as the organisation has it.
        token: Of the account; None: that of `hf auth login`.
        branch: Where the commit goes; None: main.
        create_pr: Whether it becomes a pull request.
        **about: Of `model_card`.

    Raises:
        UserError: huggingface_hub is missing, or the hub cannot be reached or refuses.
    """
    require_package("huggingface_hub", "push_to_hub", EXTRA)
    from huggingface_hub import HfApi

    with tempfile.TemporaryDirectory() as folder, _telling(repository, branch):
        save_folder(network, folder, options=options, card=card, **{"repository": repository, **about})
        api = HfApi(token=token)
        made = api.create_repo(repo_id=repository, private=private, exist_ok=True).repo_id
        return str(
            api.upload_folder(
                repo_id=made,
                folder_path=folder,
                commit_message=commit_message,
                revision=branch,
                create_pr=create_pr,
            )
        )


@contextmanager
def _telling(repository: str, revision: str | None) -> Iterator[None]:
    """Tell what the hub's library raises within the block in one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # its own errors, those of HTTP and of the connection
        raise UserError(_told(error, repository, revision)) from error


def _told(error: Exception, repository: str, revision: str | None) -> str:
    from huggingface_hub import constants

    kinds = {each.__name__ for each in type(error).__mro__}  # by name: not every version has all of them
    address = f"{constants.ENDPOINT}/{repository}"
    # The cause, where the cache was looked at in vain after the hub had refused.
    answers = (getattr(each, "response", None) for each in (error, error.__cause__))
    status = next((each.status_code for each in answers if each is not None), None)
    if "GatedRepoError" in kinds:
        return f"{repository}: is gated; accept its terms on {address}, and log in: hf auth login"
    if "RevisionNotFoundError" in kinds:
        return f"{repository}: has no revision '{revision}'; name a branch, a tag or a commit of {address}"
    if "RepositoryNotFoundError" in kinds:
        shipped = ", ".join(shipped_weights())
        return f"no file and no repository {address}, or a private one (hf auth login); names of weights: {shipped}"
    if status in (401, 403):
        return f"{repository}: the hub refuses ({status}); log in with a token that may do so: hf auth login"
    if status is not None:
        return f"{repository}: {constants.ENDPOINT} answers with {status}; try again later"
    if kinds & _UNREACHED:
        return f"no file {repository}; nor is it in the hub's cache, and {constants.ENDPOINT} cannot be reached"
    return f"{repository}: the hub's library says: {one_line(error)}"
