"""Compute a leaderboard: the missing results of all models on all test sets, divided among the processes."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from basicsr.utils.dist_util import get_dist_info
from tqdm import tqdm

from semanir_plugin.basicsr_host.data.sharing import share
from semanir_plugin.basicsr_host.engine.distributed import detecting_lost_processes, init_distributed
from semanir_plugin.basicsr_host.engine.log import log_to_file, start_logging
from semanir_plugin.basicsr_host.engine.run import RunArguments
from semanir_plugin.errors import UserError, one_line
from semanir_plugin.evaluation.leaderboard.board import Board, read_board
from semanir_plugin.evaluation.leaderboard.cache import Cache, are_numbers
from semanir_plugin.evaluation.leaderboard.columns import NO_COST
from semanir_plugin.evaluation.leaderboard.contestants import (
    Contestant,
    NetworkOptions,
    PreparedContestant,
    make_contestant,
)
from semanir_plugin.evaluation.leaderboard.model_cost import describe_device, measure_cost
from semanir_plugin.evaluation.leaderboard.references import image_path, write_references
from semanir_plugin.evaluation.leaderboard.report import write_reports
from semanir_plugin.evaluation.leaderboard.results import Cells, Failures, assemble
from semanir_plugin.evaluation.leaderboard.test_sets import TestSet, hash_files
from semanir_plugin.extensions import import_for
from semanir_plugin.option_files import read_option_file
from semanir_plugin.path_safety import check_inside
from semanir_plugin.pixels import FloatImage, to_uint8

__all__ = ["run_leaderboard"]

# The other processes wait while the first one measures costs.
TIMEOUT = datetime.timedelta(hours=6)


@detecting_lost_processes("start again, which goes on with what is computed")
def run_leaderboard(args: RunArguments) -> dict[str, Any]:
    """Compute a leaderboard as an option file says; `results.html`, `.json`, `.md`, `.csv` and images go to its folder.

    Returns:
        The results, as `results.json` holds them; nothing on processes but the first.

    Raises:
        UserError: The options or the images of a test set are not right, or the results cannot be written.
    """
    file = read_option_file(args.opt, args.force_yml)
    init_distributed(args.launcher, timeout=TIMEOUT)
    logger = start_logging(get_dist_info()[0])
    if file.recipe:
        logger.info(f"{file.path} is {file.recipe}.")
    for warning in import_for(file):
        logger.warning(warning)
    board = read_board(file, Path.cwd())
    try:
        return _Computation(board, logger).run()
    except OSError as error:
        raise UserError(f"cannot write to {error.filename}: {error.strerror}; choose path.results_root") from error


Cell = tuple[str, str]  # row and test set


class _Computation:
    """One run of a leaderboard, on each of its processes.

    Every process takes each `world`-th image of a test set, leaves out what the cache has, and writes a record of each
    of the others; the first then tabulates the records of all. So it does not matter who computed what, or when.
    """

    def __init__(self, board: Board, logger: logging.Logger) -> None:
        self.board, self.logger = board, logger
        self.rank, self.world = get_dist_info()
        self.num_gpu = _count_gpus(board.num_gpu)
        settings = {"num_gpu": self.num_gpu, "manual_seed": board.manual_seed, "scale": board.scale}
        self.contestants = [make_contestant(name, each, settings) for name, each in board.models.items()]
        self.cache = Cache(board.folder)
        self.keys: dict[Cell, str] = {}
        self.failures: Failures = {}
        self.said: set[tuple[str, str]] = set()
        self.prepared: tuple[str, str, PreparedContestant] | None = None

    def run(self) -> dict[str, Any]:
        self.board.folder.mkdir(parents=True, exist_ok=True)
        for name in ("cache", "images", "leaderboard.log"):
            check_inside(self.board.folder / name, self.board.folder)
        if self.rank == 0:
            log_to_file(self.logger, self.board.folder / "leaderboard.log")
        self._find_keys()
        self._write_references()
        costs = {each.name: self._measure_and_compute(each) for each in self.contestants}
        self._exchange_failures()
        if self.rank != 0:
            return {}
        cells = self._collect()
        device = describe_device(self.num_gpu)
        results = assemble(self.board, costs=costs, cells=cells, failures=self.failures, device=device)
        write_reports(results, self.board.folder)
        return results

    def _find_keys(self) -> None:
        """Find the cache's key for each cell."""
        for contestant in self.contestants:
            if isinstance(contestant.options, NetworkOptions) and contestant.options.checkpoint is None:
                self.logger.warning(f"{contestant.name}: checkpoint is not set: untrained weights are scored.")
            for test_set in self.board.test_sets:
                try:
                    hashes = (contestant.identity, contestant.content(test_set), test_set.digest)
                except UserError as error:
                    self._fail(contestant.name, test_set.name, str(error))
                else:
                    key = self.cache.key(*hashes, protocol=self.board.protocol.label)
                    self.keys[contestant.name, test_set.name] = key

    def _fail(self, row: str, test_set: str, reason: str, index: int = 0) -> None:
        self.failures[row, test_set] = (index, reason)
        self._log_failure(row, reason)

    def _log_failure(self, row: str, reason: str) -> None:
        """Log the reasons why cells of a row failed: each once, as soon as it is known."""
        if self.rank == 0 and (row, reason) not in self.said:
            self.said.add((row, reason))
            self.logger.error(f"{row}: {reason}")

    def _measure_and_compute(self, contestant: Contestant) -> dict[str, Any]:
        """Return a contestant's cost, known to the first process, and compute its results."""
        self._barrier()  # what runs beside it would slow down what is timed
        cost = self._cost(contestant) if self.rank == 0 else NO_COST
        self._barrier()
        self._compute(contestant)
        return cost

    def _prepare(self, contestant: Contestant, checkpoint: str) -> PreparedContestant:
        """Prepare a contestant, unless it is the one that was prepared last.

        Raises:
            UserError: It cannot be loaded.
        """
        if self.prepared is None or self.prepared[:2] != (contestant.name, checkpoint):
            self.prepared = None  # before the next one takes memory
            self.prepared = (contestant.name, checkpoint, contestant.prepare(checkpoint))
        return self.prepared[2]

    def _cost(self, contestant: Contestant) -> dict[str, Any]:
        """Measure a contestant's cost, or read it from the cache."""
        options = self.board.cost
        usable = [each for each in self.board.test_sets if (contestant.name, each.name) in self.keys]
        if options is None or not usable:
            return NO_COST
        channels = self.board.protocol.num_channels
        conditions = f"{options} {channels} {describe_device(self.num_gpu)} {torch.__version__}"
        key = self.cache.key(contestant.identity, hash_files([], conditions), protocol="cost")
        known = self.cache.load(key, "cost", _has_cost)
        if known is not None:
            return dict(known["cost"])
        self._warn_of_damage(f"cost of {contestant.name}", key, ["cost"])
        try:
            cost = measure_cost(self._prepare(contestant, contestant.checkpoint_path(usable[0])), channels, options)
        except Exception as error:  # of any network's code, or for want of memory
            self._log_failure(contestant.name, one_line(error))
            return NO_COST
        if cost["disturbed"]:  # and so measured again by the next run
            self.logger.warning(f"{contestant.name}: other work disturbed the measurement of its time.")
        else:
            self.cache.save(key, "cost", {"cost": cost})
        return cost

    def _write_references(self) -> None:
        for test_set in self.board.test_sets if self.board.save_images else ():
            try:
                write_references(
                    self.cache, test_set, self._progress(self._share(test_set), f"Inputs of {test_set.name}")
                )
            except UserError as error:  # which fails the cells, too
                self._log_failure(test_set.name, str(error))

    def _share(self, test_set: TestSet) -> range:
        """Return the indices of this process's share of the images."""
        return share(len(test_set), self.rank, self.world)

    def _progress(self, indices: Sequence[int], description: str) -> Iterator[int]:
        yield from tqdm(indices, desc=description, unit="image", disable=True if self.rank else None)

    def _compute(self, contestant: Contestant) -> None:
        """Compute the missing images of this process's share."""
        missing = {each.name: self._missing(contestant.name, each) for each in self.board.test_sets}
        by_checkpoint: dict[str, list[TestSet]] = {}
        for test_set in (each for each in self.board.test_sets if missing[each.name]):
            by_checkpoint.setdefault(contestant.checkpoint_path(test_set), []).append(test_set)
        for checkpoint, test_sets in by_checkpoint.items():
            try:
                restorer = self._prepare(contestant, checkpoint)
            except UserError as error:
                for test_set in test_sets:
                    self._fail(contestant.name, test_set.name, str(error))
                continue
            for test_set in test_sets:
                self._compute_cell(contestant, restorer, test_set, missing[test_set.name])

    def _missing(self, row: str, test_set: TestSet) -> list[int]:
        key = self.keys.get((row, test_set.name))
        if key is None:
            return []
        missing = [index for index in self._share(test_set) if self._load(key, test_set.found[index].name) is None]
        self._warn_of_damage(f"{row} on {test_set.name}", key, [test_set.found[index].name for index in missing])
        return missing

    def _load(self, key: str, image: str) -> dict[str, Any] | None:
        metrics = [metric.name for metric in self.board.protocol.metrics]
        return self.cache.load(key, image, lambda record: are_numbers(record["scores"], metrics))

    def _warn_of_damage(self, what: str, key: str, names: Sequence[str]) -> None:
        """Log how many of the records that do not count are there."""
        if damaged := sum(self.cache.holds(key, name) for name in names):
            self.logger.warning(f"{what}: {damaged:,} cached records are damaged or of an earlier version; made again.")

    def _compute_cell(
        self, contestant: Contestant, restorer: PreparedContestant, test_set: TestSet, indices: Sequence[int]
    ) -> None:
        row, key = contestant.name, self.keys[contestant.name, test_set.name]
        self.logger.debug(f"{row} on {test_set.name}: {len(indices)} images to compute.")
        for index in self._progress(indices, f"{row} on {test_set.name}"):
            try:
                output, scores = self._compute_image(restorer, test_set, index)
            except Exception as error:  # as of cost: the other cells do without
                self._fail(row, test_set.name, one_line(error), index)
                return
            name = test_set.found[index].name
            images = {image_path(contestant.slug, test_set, name): to_uint8(output)} if self.board.save_images else {}
            self.cache.save(key, name, {"scores": scores}, images)

    def _compute_image(
        self, restorer: PreparedContestant, test_set: TestSet, index: int
    ) -> tuple[FloatImage, dict[str, float]]:
        sample = test_set.sample(index)
        output = restorer.restore(sample, test_set)
        return output, test_set.protocol.score(output, sample.truth, test_set.scale, as_is=restorer.as_is)

    def _barrier(self) -> None:
        if self.world > 1:
            dist.barrier()

    def _exchange_failures(self) -> None:
        """Wait for all processes, and keep for each cell the failure that a single process would have met first."""
        if self.world == 1:
            return
        gathered: list[Failures] = [{} for _ in range(self.world)]
        dist.all_gather_object(gathered, self.failures)
        for cell, failure in (entry for failures in gathered for entry in failures.items()):
            index, reason = min(failure, self.failures.get(cell, failure))
            self._fail(*cell, reason, index)

    def _collect(self) -> Cells:
        """Return the records of each cell that has not failed, in the order of its images."""
        cells: Cells = {}
        for (row, name), key in self.keys.items():
            test_set = next(each for each in self.board.test_sets if each.name == name)
            if (row, name) not in self.failures:
                records = [self._load(key, each.name) for each in test_set.found]
                cells[row, name] = [record for record in records if record is not None]
                if lost := records.count(None):
                    self._fail(row, name, f"{lost} results are not in {self.board.folder}; all machines must share it")
        return cells


def _has_cost(record: Mapping[str, Any]) -> bool:
    """Return whether a record has costs, each a number or None; of the time there are all three or none."""
    cost = record["cost"]
    known = {key for key in cost if cost[key] is not None}
    times = {"time_ms", "time_low_ms", "time_high_ms"} & known
    return (
        cost.keys() == NO_COST.keys() and len(times) in (0, 3) and are_numbers({key: cost[key] for key in known}, known)
    )


def _count_gpus(asked: Any) -> int:
    """Return the number of GPUs each process uses, 1 or 0."""
    available = torch.cuda.device_count()
    return min(1, available if asked in (None, "auto") else min(int(asked), available))
