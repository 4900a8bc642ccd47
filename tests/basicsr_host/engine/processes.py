"""`basicsr` for torchrun, in place of `semanir_plugin.cli`: several commands, one after the other, to import once.

Its argument is a JSON file with a list of arguments for each. Each process of a training leaves in the run's folder, as
`held_<rank>.json`, of how many weights it held the optimiser's state; and where images are saved, as
`scored_<rank>.txt`, which ones it scored. If the environment has SEMANIR_DIES_IN, the second process of the first start
kills itself in that iteration.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import torch.distributed as dist

from semanir_plugin.basicsr_host.engine.train import TrainingLoop
from semanir_plugin.basicsr_host.models.shared_validation import SharedValidation
from semanir_plugin.cli import main

iterate, finish, score = TrainingLoop._iterate, TrainingLoop._finish, SharedValidation._score_image


def iterate_or_die(self, current_iter, batch):
    doomed = self.opt["rank"] == 1 and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
    if doomed and str(current_iter) == os.environ.get("SEMANIR_DIES_IN"):
        os.kill(os.getpid(), signal.SIGKILL)
    iterate(self, current_iter, batch)


def finish_and_note(self):
    finish(self)
    optimizer = self.model.optimizer_g
    held = sum(parameter.numel() for parameter in getattr(optimizer, "optim", optimizer).state)
    Path(self.opt["path"]["experiments_root"], f"held_{self.opt['rank']}.json").write_text(json.dumps(held))


def score_and_note(self, sample, *args):
    with Path(self.opt["path"]["visualization"], f"scored_{self.opt['rank']}.txt").open("a") as file:
        file.write(f"{Path(sample['lq_path'][0]).stem} ")
    return score(self, sample, *args)


def run_all(commands):
    for arguments in commands:
        if code := main(arguments):
            sys.exit(code)
        dist.init_process_group = lambda *args, **kwargs: None  # they have met


if __name__ == "__main__":
    TrainingLoop._iterate, TrainingLoop._finish = iterate_or_die, finish_and_note
    SharedValidation._score_image = score_and_note
    run_all(json.loads(Path(sys.argv[1]).read_text()))
