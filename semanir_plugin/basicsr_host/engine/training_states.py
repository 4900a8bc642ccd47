"""Checkpoints of a training, each a state and its networks: saving, resuming, removing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from basicsr.utils.dist_util import master_only

from semanir_plugin.atomic_io import remove_unfinished
from semanir_plugin.basicsr_host.compat.state_form import check_state
from semanir_plugin.basicsr_host.engine.run import Run
from semanir_plugin.errors import UserError
from semanir_plugin.inference.safe_loading import load_checkpoint

__all__ = [
    "TrainingState",
    "clear_unfinished",
    "is_finished",
    "load_resume_state",
    "read_state",
    "reporting_write_errors",
    "save_checkpoint",
    "save_validated",
]


@dataclass(frozen=True)
class TrainingState:
    """A training state whose entries have the form that they should.

    Attributes:
        path: The file.
        content: Its entries.
    """

    path: Path
    content: dict[str, Any]

    @property
    def iteration(self) -> int:
        """How many iterations are done."""
        iteration: int = self.content["iter"]
        return iteration


def load_resume_state(run: Run) -> TrainingState | None:
    """Return the training state to continue from, and point the model at the weights that belong to it.

    `--auto_resume` takes the newest complete checkpoint, and reports damaged ones.

    Raises:
        UserError: `path.resume_state` is named but cannot be used, or of several checkpoints none can.
    """
    opt = run.opt
    path = _newest_whole(run) if opt["auto_resume"] else opt["path"].get("resume_state")
    if path is None:
        return None
    state = read_state(Path(path))
    _point_at_networks(opt, state.iteration, state.path)
    run.logger.info(f"Resuming from {path}, iteration {state.iteration:,}.")
    return state


def _newest_whole(run: Run) -> Path | None:
    """Return the last training state that can be read and whose networks can; None where there are none at all."""
    damaged = None
    for iteration in reversed(_saved_iterations(run.opt)):
        try:
            path = _states(run.opt) / f"{iteration}.state"
            read_state(path)
            for network in _networks(run.opt, iteration, path).values():
                load_checkpoint(network)
            return path
        except UserError as error:
            damaged = damaged or error
            run.logger.warning(f"The checkpoint of iteration {iteration:,} is passed over for the one before: {error}")
    if damaged:
        raise UserError(
            f"{_states(run.opt)}: no checkpoint is complete; start again without --auto_resume (the newest: {damaged})"
        ) from damaged
    return None


def read_state(path: Path) -> TrainingState:
    """Read a training state.

    Raises:
        UserError: It cannot be read, or an entry has not the form that it should.
    """
    return TrainingState(path, check_state(load_checkpoint(path), path))


def _networks(opt: dict[str, Any], iteration: int, state: Path) -> dict[str, Path]:
    """Return the files of the networks, by their keys in the options, as they were at an iteration.

    They lie beside the training state, in the folder of its experiment, which need not be this one.
    """
    models = state.parent.with_name("models")
    ignored = opt["path"].get("ignore_resume_networks") or []
    keys = [key for key in opt if key.startswith("network_") and key not in ignored]
    return {key: models / f"net_{key.removeprefix('network_')}_{iteration}.pth" for key in keys}


def _point_at_networks(opt: dict[str, Any], iteration: int, state: Path) -> None:
    """Set the options so that networks are loaded from an iteration, whatever `pretrain_network_*` says.

    Raises:
        UserError: One is missing.
    """
    paths = opt["path"]
    for key, path in _networks(opt, iteration, state).items():
        if not path.is_file():
            raise UserError(f"{state} was saved with {path}, which is not there; put it back, or name another state")
        label = key.removeprefix("network_")
        paths[f"pretrain_{key}"] = str(path)
        paths[f"param_key_{label}"] = "params"  # the average has its own entry in the file, and is loaded from there
        paths[f"strict_load_{label}"] = True


def is_finished(opt: dict[str, Any], iteration: int) -> bool:
    """Return whether an iteration is the last one and its final weights are saved: a run may be killed in between."""
    latest, state = Path(opt["path"]["models"], "net_g_latest.pth"), _states(opt) / f"{iteration}.state"
    if iteration < opt["train"]["total_iter"] or not state.is_file():
        result: bool = iteration == opt["train"]["total_iter"]
        return result
    return latest.is_file() and latest.stat().st_mtime_ns >= state.stat().st_mtime_ns


def save_checkpoint(model: Any, opt: dict[str, Any], epoch: int, iteration: int, *, validated: bool = True) -> None:
    """Save networks and training state, and remove all but the last `logger.keep_checkpoints` of them.

    Args:
        model: A BasicSR model.
        opt: Options of the run.
        epoch: Passes over the data that are done.
        iteration: Iterations that are done.
        validated: Whether the validation of this iteration, if there is to be one, is done.

    Raises:
        OSError: Something cannot be written; the checkpoints before stay.
    """
    _forget(opt, iteration)
    model.run_state = {**getattr(model, "run_state", {}), "epoch": epoch, "validated": validated}
    model.save(epoch, iteration)
    _remove_older(opt, iteration)


def save_validated(model: Any, iteration: int) -> None:
    """Save the training state of a checkpoint again, after its validation; the networks are as they were.

    Raises:
        OSError: It cannot be written; the one before stays.
    """
    model.run_state["validated"] = True
    model.save_training_state(model.run_state["epoch"], iteration)


@master_only
def _forget(opt: dict[str, Any], iteration: int) -> None:
    # An earlier run may have left a state of this iteration: not that of the network which is saved first.
    (_states(opt) / f"{iteration}.state").unlink(missing_ok=True)


@master_only
def _remove_older(opt: dict[str, Any], iteration: int) -> None:
    """Remove checkpoints older than those to keep; those beyond this iteration belong to another run."""
    keep = opt["logger"].get("keep_checkpoints")
    if keep is None:
        return
    kept = [saved for saved in _saved_iterations(opt) if saved <= iteration][-keep:]
    networks = [
        path for suffix in ("pth", "safetensors") for path in Path(opt["path"]["models"]).glob(f"net_*.{suffix}")
    ]
    for path in [*_states(opt).glob("*.state"), *networks]:  # a state without its networks would be taken for damaged
        number = path.stem.rpartition("_")[2]
        if number.isdecimal() and int(number) < kept[0]:
            path.unlink(missing_ok=True)


@master_only
def clear_unfinished(opt: dict[str, Any]) -> None:
    """Remove the partial files that an earlier run was writing when it was killed."""
    results = (path for path in Path(opt["path"]["visualization"]).glob("*") if path.is_dir())
    for folder in (opt["path"]["models"], opt["path"]["training_states"], *results):
        remove_unfinished(folder)


@contextmanager
def reporting_write_errors(opt: dict[str, Any]) -> Iterator[None]:
    """Turn a write error into one line that names the checkpoint to resume from.

    Raises:
        UserError: Something could not be written.
    """
    try:
        yield
    except OSError as error:
        saved = _saved_iterations(opt)
        rest = f"the checkpoint of iteration {saved[-1]:,} is complete" if saved else "no checkpoint is written yet"
        what, why = error.filename or opt["path"]["log"], error.strerror or " ".join(str(error).split())
        cure = "make room or choose another path.experiments_root, then go on with --auto_resume"
        raise UserError(f"{what}: cannot be written: {why}; {rest}: {cure}") from error


def _states(opt: dict[str, Any]) -> Path:
    return Path(opt["path"]["training_states"])


def _saved_iterations(opt: dict[str, Any]) -> list[int]:
    """Return the iterations with a training state, rising."""
    return sorted(int(path.stem) for path in _states(opt).glob("*.state") if path.stem.isdecimal())
