"""The training pipeline: BasicSR's parts, run for exactly the iterations asked for."""

from __future__ import annotations

import datetime
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from basicsr.data import build_dataloader
from basicsr.utils import AvgTimer, MessageLogger, init_wandb_logger
from torch import Generator
from torch.utils.data import DataLoader
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from semanir_plugin.basicsr_host.data.sampler import IterationSampler
from semanir_plugin.basicsr_host.data.seeding import derive_seed, seed_all
from semanir_plugin.basicsr_host.data.tolerant_dataset import TolerantDataset, collate
from semanir_plugin.basicsr_host.engine.batches import Batches
from semanir_plugin.basicsr_host.engine.distributed import detecting_lost_processes, read_timeout
from semanir_plugin.basicsr_host.engine.dry_run import dry_run, dry_run_patch
from semanir_plugin.basicsr_host.engine.log import quiet_threads
from semanir_plugin.basicsr_host.engine.phases import Phase, plan_phases
from semanir_plugin.basicsr_host.engine.result_names import check_result_names
from semanir_plugin.basicsr_host.engine.resuming import resume
from semanir_plugin.basicsr_host.engine.run import (
    Run,
    RunArguments,
    build_guarded_dataset,
    build_run_model,
    open_run_folder,
    start_run,
)
from semanir_plugin.basicsr_host.engine.run_lock import run_locked
from semanir_plugin.basicsr_host.engine.stopping import StopSignals, ignoring_stop_signals
from semanir_plugin.basicsr_host.engine.training_states import (
    clear_unfinished,
    is_finished,
    load_resume_state,
    reporting_write_errors,
    save_checkpoint,
    save_validated,
)
from semanir_plugin.basicsr_host.engine.unreadable_images import UnreadableImages
from semanir_plugin.basicsr_host.engine.validations import Validations
from semanir_plugin.errors import UserError

__all__ = ["train"]


@detecting_lost_processes()
def train(args: RunArguments) -> bool:
    """Train as an option file says.

    Returns:
        Whether the training came to its end; else SIGTERM or SIGINT stopped it, and its state is saved.

    Raises:
        UserError: The options, the data, or the state to resume from are not right.
    """
    run = start_run(args, is_train=True)
    state = load_resume_state(run)
    start_iter = state.iteration if state else 0
    if start_iter > run.opt["train"]["total_iter"] or is_finished(run.opt, start_iter):
        run.logger.info("Nothing is left to train; raise train.total_iter to go on.")
        return True
    phases = [phase for phase in plan_phases(run.opt) if phase.stop_iter > start_iter]
    train_loaders = [build_train_loader(run, phase, start_iter) for phase in phases]
    val_loaders = build_val_loaders(run)
    model = build_run_model(run)
    datasets: list[Any] = [loader.dataset for loader in train_loaders]
    val_sets: list[Any] = [loader.dataset for loader in val_loaders]
    check_result_names(run.opt, model, val_sets)
    if datasets:
        dry_run(model, datasets[0].first_sample(), scored=False)
    for dataset in val_sets:
        dry_run(model, dataset.first_sample())
    for dataset in datasets:
        dry_run_patch(model, dataset.first_sample())
    model.run_state = {"train_options": run.train_options}
    if state:
        resume(model, state, run)
    with run_locked(run):
        open_run_folder(run, resumed=state is not None)
        clear_unfinished(run.opt)
        validated = state is None or state.content.get(
            "validated", True
        )  # those without the entry were saved after validating
        validations = Validations(run, model, val_loaders, done_at=start_iter if validated else -1)
        with quiet_threads():
            with reporting_write_errors(run.opt):
                loop = TrainingLoop(run, model, list(zip(phases, train_loaders, strict=True)), validations, start_iter)
            return loop.run_all()


def build_train_loader(run: Run, phase: Phase, start_iter: int) -> DataLoader[Any]:
    """Return a loader that yields one batch for each iteration that is left of a phase."""
    dataset = TolerantDataset(build_guarded_dataset(phase.dataset_opt), most=run.opt["train"].get("max_unreadable"))
    return open_train_loader(run, phase, start_iter, dataset)


def open_train_loader(run: Run, phase: Phase, start_iter: int, dataset: TolerantDataset) -> DataLoader[Any]:
    """Return a loader as `build_train_loader` does, of a built dataset: listed again, it might have other images."""
    opt = run.opt
    sampler = IterationSampler(
        len(dataset),
        batch_size=phase.batch_size,
        start_iter=max(start_iter - phase.start_iter, 0),
        total_iter=phase.stop_iter - phase.start_iter,
        first_position=phase.first_position,
        seed=opt["manual_seed"],
        rank=opt["rank"],
        world_size=opt["world_size"],
    )
    # A loader is read once; workers that persisted would idle through the phases after it.
    dataset_opt = {**phase.dataset_opt, "persistent_workers": False}
    loader: DataLoader[Any] = build_dataloader(
        dataset, dataset_opt, num_gpu=opt["num_gpu"], dist=opt["dist"], sampler=sampler, seed=opt["manual_seed"]
    )
    # Else a loader draws a number of torch's when it starts, and a resumed network draws others than one that went on.
    loader.generator = Generator()
    loader.worker_init_fn = ignoring_stop_signals(loader.worker_init_fn)
    loader.collate_fn = collate
    return loader


def build_val_loaders(run: Run) -> list[DataLoader[Any]]:
    """Return the loaders of the validation sets."""
    sets = [dataset_opt for phase, dataset_opt in run.opt["datasets"].items() if phase.partition("_")[0] == "val"]
    return [build_dataloader(build_guarded_dataset(each), each) for each in sets]


class TrainingLoop:
    """Training loop: iterations, and between them logging, checkpoints and validation.

    Args:
        run: The run.
        model: A BasicSR model, ready to train.
        phases: Phases that are left, with loaders that yield exactly the batches that are left.
        validations: Validations on the validation sets.
        start_iter: Iterations that are done.
    """

    def __init__(
        self,
        run: Run,
        model: Any,
        phases: list[tuple[Phase, DataLoader[Any]]],
        validations: Validations,
        start_iter: int,
    ) -> None:
        self.run = run
        self.opt = run.opt
        self.logger = run.logger
        self.model = model
        self.phases = phases
        self.validations = validations
        self.start_iter = start_iter
        self.total_iter = run.opt["train"]["total_iter"]
        self.tb_logger = _init_tb_logger(run.opt, start_iter)
        self.messages = MessageLogger(run.opt, start_iter + 1, self.tb_logger)
        self.messages.max_iters = self.total_iter + 1  # it counts one less, so that its last ETA would be negative
        self.saved_iter, self.saved_at = start_iter, time.monotonic()
        self.unreadable = UnreadableImages(
            most=max((_dataset(loader).most for _, loader in phases), default=0),
            report=Path(run.opt["path"]["experiments_root"], f"unreadable_images_{run.opt['rank']}.json"),
        )

    def run_all(self) -> bool:
        """Train to the end, validate and save the latest network; or until SIGTERM or SIGINT.

        Returns:
            Whether the end was reached.

        Raises:
            UserError: Something cannot be written, or a batch cannot be read.
        """
        started = time.time()
        with ExitStack() as stack:
            bar = stack.enter_context(self._progress_bar())
            stack.enter_context(logging_redirect_tqdm([self.logger], tqdm_class=type(bar)))
            signals = stack.enter_context(StopSignals(distributed=self.opt["dist"], timeout=read_timeout(self.opt)))
            with reporting_write_errors(self.opt):
                self._make_up()
            if not self._run_iterations(bar, signals):
                return False
            self.logger.info(f"End of training. Time: {datetime.timedelta(seconds=int(time.time() - started))}")
            with reporting_write_errors(self.opt):
                self._finish()
        return True

    def _run_iterations(self, bar: Any, signals: StopSignals) -> bool:
        timers = AvgTimer(), AvgTimer()
        iterations = range(self.start_iter + 1, self.total_iter + 1)
        for current_iter, batch in zip(iterations, self._batches(), strict=True):
            timers[0].record()
            self._iterate(current_iter, batch)
            timers[1].record()
            with reporting_write_errors(self.opt):
                self._follow_up(current_iter, timers)
                bar.update()
                if signals.requested() and current_iter < self.total_iter:
                    self._stop(current_iter, signals)
                    return False
            timers[0].start()
            timers[1].start()
        return True

    def _finish(self) -> None:
        if self.tb_logger:
            self.tb_logger.close()
        self.model.save(epoch=-1, current_iter=-1)  # BasicSR's way to say "latest"; last, as the sign of completion

    def _batches(self) -> Iterator[Any]:
        done = self.start_iter
        try:
            for batch in self._read():
                with reporting_write_errors(self.opt):
                    self.unreadable.take(done + 1, batch)
                yield batch
                done += 1
        except UserError:
            self._save_before_the_end(done)
            raise

    def _read(self) -> Iterator[Any]:
        batches = Batches(self.opt, self.logger)
        for phase, loader in self.phases:
            self._announce(phase, loader)
            dataset = _dataset(loader)
            reopen = partial(open_train_loader, self.run, phase, dataset=dataset)
            yield from batches.read(loader, max(phase.start_iter, self.start_iter), reopen)
            dataset.close()  # LMDBs are opened once in a process, and the next phase reads the same

    def _save_before_the_end(self, current_iter: int) -> None:
        """Save before an error ends a training of one process; of several, others may not have failed."""
        if current_iter != self.saved_iter and not self.opt["dist"]:
            with reporting_write_errors(self.opt):
                self._save(current_iter)
            self.logger.warning(f"Iteration {current_iter:,} is saved, --auto_resume goes on after it.")

    def _announce(self, phase: Phase, loader: DataLoader[Any]) -> None:
        size = phase.dataset_opt.get("gt_size")
        self.logger.info(
            f"Training on {len(_dataset(loader)):,} images, {f'patches of {size}, ' if size else ''}batches of "
            f"{phase.batch_size} x {self.opt['world_size']} processes, iterations "
            f"{max(phase.start_iter, self.start_iter) + 1:,} to {phase.stop_iter:,}."
        )

    def _iterate(self, current_iter: int, batch: Any) -> None:
        # A resumed run draws as one that went on, on every process and device.
        seed_all(derive_seed(self.opt["manual_seed"], current_iter, self.opt["rank"], 0))
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
        if self._is_due(current_iter) or current_iter == self.total_iter:
            self._save(current_iter)
        self._validate(current_iter)

    def _is_due(self, current_iter: int) -> bool:
        """Return whether a checkpoint is due by iterations or, where there is one process and so one clock, by time."""
        log_opt = self.opt["logger"]
        seconds = None if self.opt["dist"] else log_opt.get("save_checkpoint_seconds")
        late = seconds is not None and time.monotonic() - self.saved_at >= seconds
        result: bool = late or current_iter % log_opt["save_checkpoint_freq"] == 0
        return result

    def _save(self, current_iter: int) -> None:
        self.logger.info("Saving models and training states.")
        if self.tb_logger:
            self.tb_logger.flush()  # a run that goes on from here does not write them again
        save_checkpoint(
            self.model,
            self.opt,
            self._epoch(current_iter),
            current_iter,
            validated=not self.validations.due_at(current_iter),
        )
        self.saved_iter, self.saved_at = current_iter, time.monotonic()

    def _stop(self, current_iter: int, signals: StopSignals) -> None:
        if current_iter != self.saved_iter:
            self._save(current_iter)
        if self.tb_logger:
            self.tb_logger.close()
        signals.wait_for_all()
        self.logger.warning(f"Told to stop: iteration {current_iter:,} is saved, --auto_resume goes on after it.")

    def _make_up(self) -> None:
        """Validate the iteration that an earlier run was ended after, or in the validation of."""
        if self.validations.due_at(self.start_iter):
            self.logger.info(f"Iteration {self.start_iter:,} is yet to be validated.")
            self._validate(self.start_iter)

    def _validate(self, current_iter: int) -> None:
        """Validate where it is due, and have the checkpoint of this iteration say so."""
        if not self.validations.due_at(current_iter):
            return
        try:
            self.validations.validate(current_iter, self.tb_logger)
        except UserError:
            self._save_before_the_end(current_iter)
            raise
        if current_iter == self.saved_iter:
            save_validated(self.model, current_iter)

    def _epoch(self, current_iter: int) -> int:
        phase, loader = next(each for each in self.phases if current_iter <= each[0].stop_iter)
        samples = (current_iter - phase.start_iter) * phase.batch_size * self.opt["world_size"]
        result: int = (phase.first_position + samples) // len(_dataset(loader))
        return result

    def _progress_bar(self) -> Any:
        silent = self.opt["rank"] != 0 or not sys.stderr.isatty()
        return tqdm(total=self.total_iter, initial=self.start_iter, unit="iter", desc=self.opt["name"], disable=silent)


def _dataset(loader: Any) -> TolerantDataset:
    result: TolerantDataset = loader.dataset
    return result


def _init_tb_logger(opt: dict[str, Any], start_iter: int) -> Any:
    wandb_opt = opt["logger"].get("wandb") or {}
    if "debug" in opt["name"] or not opt["logger"]["use_tb_logger"] or opt["rank"] != 0:
        return None
    if wandb_opt.get("project"):
        init_wandb_logger(opt)  # before TensorBoard, whose records it follows
    from torch.utils.tensorboard import SummaryWriter

    # What a killed run recorded after the checkpoint is done, and recorded, again.
    return SummaryWriter(opt["path"]["tb_logger"], purge_step=start_iter + 1 if start_iter else None)
