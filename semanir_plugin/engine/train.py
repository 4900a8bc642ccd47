"""The training pipeline: BasicSR's parts, run for exactly the iterations asked for."""

from __future__ import annotations

import datetime
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from basicsr.data import build_dataloader
from basicsr.data.prefetch_dataloader import CPUPrefetcher, CUDAPrefetcher
from basicsr.utils import AvgTimer, MessageLogger, init_tb_logger, init_wandb_logger
from torch.utils.data import DataLoader
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from semanir_plugin.data.sampler import IterationSampler
from semanir_plugin.engine.rehearsal import rehearse
from semanir_plugin.engine.run import (
    Run,
    RunArguments,
    build_guarded_dataset,
    build_run_model,
    open_run_folder,
    start_run,
)
from semanir_plugin.errors import UserError, one_line
from semanir_plugin.files import load_checkpoint

__all__ = ["train"]


def train(args: RunArguments) -> None:
    """Train as an option file says.

    Raises:
        UserError: The options, the data, or the state to resume from are not right.
    """
    run = start_run(args, is_train=True)
    state = load_resume_state(run)
    start_iter = state["iter"] if state else 0
    if start_iter >= run.opt["train"]["total_iter"]:
        run.logger.info("Nothing is left to train; raise train.total_iter to go on.")
        return
    train_loader = build_train_loader(run, start_iter)
    val_loaders = build_val_loaders(run)
    model = build_run_model(run)
    dataset: Any = train_loader.dataset
    rehearse(model, dataset.first_sample())
    if state:
        _resume(model, state, run)
    open_run_folder(run, resumed=state is not None)
    _log_statistics(run, train_loader, start_iter)
    TrainingLoop(run, model, train_loader, val_loaders, start_iter).run_all()


def load_resume_state(run: Run) -> dict[str, Any] | None:
    """Return the training state to continue from, and point the model at the weights that belong to it.

    Raises:
        UserError: `path.resume_state` is named but cannot be used.
    """
    opt = run.opt
    path = newest_state(opt) if opt["auto_resume"] else opt["path"].get("resume_state")
    if path is None:
        return None
    state = load_checkpoint(path)
    if not isinstance(state, dict) or not isinstance(state.get("iter"), int) or "optimizers" not in state:
        raise UserError(f"{path} is not a training state; name a file of a training_states folder")
    _point_at_networks(opt, state["iter"])
    run.logger.info(f"Resuming from {path}, iteration {state['iter']:,}.")
    return state


def _point_at_networks(opt: dict[str, Any], iteration: int) -> None:
    """Have the networks loaded as they were at an iteration, whatever `pretrain_network_*` says."""
    paths = opt["path"]
    ignored = paths.get("ignore_resume_networks") or []
    for key in [key for key in opt if key.startswith("network_") and key not in ignored]:
        label = key.removeprefix("network_")
        paths[f"pretrain_{key}"] = str(Path(paths["models"], f"net_{label}_{iteration}.pth"))
        paths[f"param_key_{label}"] = "params"  # the average has its own entry in the file, and is loaded from there
        paths[f"strict_load_{label}"] = True


def _resume(model: Any, state: dict[str, Any], run: Run) -> None:
    options = [group.keys() for optimizer in model.optimizers for group in optimizer.param_groups]
    try:
        model.resume_training(state)
        loaded = [group.keys() for optimizer in model.optimizers for group in optimizer.param_groups]
        if loaded != options:  # torch takes over whatever options the state has
            raise ValueError("it is of another optimiser")
    except Exception as error:
        raise UserError(
            f"the training state of iteration {state['iter']:,} is not of this model and optimiser: {one_line(error)}; "
            f"correct {run.file.path}, or start anew without resuming"
        ) from error


def newest_state(opt: dict[str, Any]) -> Path | None:
    """Return the last training state of the experiment whose network was saved as well."""
    states = [path for path in Path(opt["path"]["training_states"]).glob("*.state") if path.stem.isdecimal()]
    models = Path(opt["path"]["models"])
    complete = [path for path in states if (models / f"net_g_{path.stem}.pth").is_file()]
    return max(complete, key=lambda path: int(path.stem), default=None)


def build_train_loader(run: Run, start_iter: int) -> DataLoader[Any]:
    """Return a loader that yields one batch for each iteration that is left."""
    opt, dataset_opt = run.opt, run.opt["datasets"]["train"]
    dataset = build_guarded_dataset(dataset_opt)
    gpus = 1 if opt["dist"] else max(opt["num_gpu"], 1)  # BasicSR's DataParallel loads for all GPUs at once
    sampler = IterationSampler(
        len(dataset),
        batch_size=dataset_opt["batch_size_per_gpu"] * gpus,
        start_iter=start_iter,
        total_iter=opt["train"]["total_iter"],
        seed=opt["manual_seed"],
        rank=opt["rank"],
        world_size=opt["world_size"],
    )
    return build_dataloader(
        dataset, dataset_opt, num_gpu=opt["num_gpu"], dist=opt["dist"], sampler=sampler, seed=opt["manual_seed"]
    )


def build_val_loaders(run: Run) -> list[DataLoader[Any]]:
    """Return the loaders of the validation sets."""
    sets = [dataset_opt for phase, dataset_opt in run.opt["datasets"].items() if phase.partition("_")[0] == "val"]
    return [build_dataloader(build_guarded_dataset(each), each) for each in sets]


class TrainingLoop:
    """Iterations, and what happens between them: logging, checkpoints, validation.

    Args:
        run: The run.
        model: A BasicSR model, ready to train.
        train_loader: Yields exactly the batches that are left.
        val_loaders: Validation sets.
        start_iter: Iterations that are done.
    """

    def __init__(
        self, run: Run, model: Any, train_loader: Any, val_loaders: list[DataLoader[Any]], start_iter: int
    ) -> None:
        self.opt = run.opt
        self.logger = run.logger
        self.model = model
        self.train_loader = train_loader
        self.val_loaders = val_loaders
        self.start_iter = start_iter
        self.total_iter = run.opt["train"]["total_iter"]
        self.tb_logger = _init_tb_logger(run.opt)
        self.messages = MessageLogger(run.opt, start_iter + 1, self.tb_logger)
        self.messages.max_iters = self.total_iter + 1  # it counts one less, so that its last ETA would be negative
        self.validated_at = -1

    def run_all(self) -> None:
        """Train to the end, save the latest network and validate it."""
        started = time.time()
        timers = AvgTimer(), AvgTimer()
        with ExitStack() as stack:
            bar = stack.enter_context(self._progress_bar())
            stack.enter_context(logging_redirect_tqdm([self.logger], tqdm_class=type(bar)))
            batches = _prefetcher(self.train_loader, self.opt)
            for current_iter in range(self.start_iter + 1, self.total_iter + 1):
                batch = batches.next()
                timers[0].record()
                self._iterate(current_iter, batch)
                timers[1].record()
                self._follow_up(current_iter, timers)
                bar.update()
                timers[0].start()
                timers[1].start()
        self.logger.info(f"End of training. Time: {datetime.timedelta(seconds=int(time.time() - started))}")
        self.model.save(epoch=-1, current_iter=-1)  # BasicSR's way to say "latest"
        if self.validated_at != self.total_iter:
            self._validate(self.total_iter)
        if self.tb_logger:
            self.tb_logger.close()

    def _iterate(self, current_iter: int, batch: Any) -> None:
        self.model.update_learning_rate(current_iter, warmup_iter=self.opt["train"].get("warmup_iter", -1))
        self.model.feed_data(batch)
        self.model.optimize_parameters(current_iter)

    def _follow_up(self, current_iter: int, timers: tuple[AvgTimer, AvgTimer]) -> None:
        log_opt = self.opt["logger"]
        if current_iter % log_opt["print_freq"] == 0:
            data_timer, iter_timer = timers
            self.messages(
                {
                    "epoch": self._epoch(current_iter),
                    "iter": current_iter,
                    "lrs": self.model.get_current_learning_rate(),
                    "time": iter_timer.get_avg_time(),
                    "data_time": data_timer.get_avg_time(),
                    **self.model.get_current_log(),
                }
            )
        if self.opt.get("val") and current_iter % self.opt["val"].get("val_freq", self.total_iter) == 0:
            self._validate(current_iter)
        if current_iter % log_opt["save_checkpoint_freq"] == 0:
            self.logger.info("Saving models and training states.")
            self.model.save(self._epoch(current_iter), current_iter)

    def _validate(self, current_iter: int) -> None:
        self.validated_at = current_iter
        for loader in self.val_loaders if self.opt.get("val") else []:
            self.model.validation(loader, current_iter, self.tb_logger, self.opt["val"]["save_img"])

    def _epoch(self, current_iter: int) -> int:
        samples = current_iter * self.train_loader.batch_size * self.opt["world_size"]
        return samples // len(self.train_loader.dataset)

    def _progress_bar(self) -> Any:
        silent = self.opt["rank"] != 0 or not sys.stderr.isatty()
        return tqdm(total=self.total_iter, initial=self.start_iter, unit="iter", desc=self.opt["name"], disable=silent)


def _prefetcher(loader: Any, opt: dict[str, Any]) -> Any:
    # BasicSR's prefetchers are reset for each epoch; here there is one.
    if opt["datasets"]["train"].get("prefetch_mode") == "cuda" and opt["num_gpu"] > 0:
        return CUDAPrefetcher(loader, opt)
    return CPUPrefetcher(loader)


def _init_tb_logger(opt: dict[str, Any]) -> Any:
    wandb_opt = opt["logger"].get("wandb") or {}
    if "debug" in opt["name"] or not opt["logger"]["use_tb_logger"]:
        return None
    if wandb_opt.get("project"):
        init_wandb_logger(opt)  # before TensorBoard, whose records it follows
    return init_tb_logger(log_dir=opt["path"]["tb_logger"])


def _log_statistics(run: Run, loader: Any, start_iter: int) -> None:
    opt = run.opt
    run.logger.info(
        f"Training on {len(loader.dataset):,} images, batches of {loader.batch_size} x {opt['world_size']} processes, "
        f"iterations {start_iter + 1:,} to {opt['train']['total_iter']:,}."
    )
