"""Training and testing of SemanIR, and of any other BasicSR architecture that maps one image to one."""

from __future__ import annotations

import random
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from basicsr.losses import build_loss
from basicsr.utils import get_root_logger
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from semanir_plugin.archs import NetworkDescriptor, describe
from semanir_plugin.archs.descriptor import topk_choices
from semanir_plugin.basicsr_host.compat.repairs.resuming import plain_results
from semanir_plugin.basicsr_host.data.seeding import derive_seed, get_rng_state, set_rng_state
from semanir_plugin.basicsr_host.models.finite_steps import FiniteSteps
from semanir_plugin.basicsr_host.models.semanir_options import SemanIRTrainingOptions, SemanIRValidationOptions
from semanir_plugin.basicsr_host.models.shared_validation import SharedValidation
from semanir_plugin.basicsr_host.models.teacher import load_teacher
from semanir_plugin.basicsr_host.models.zero_redundancy import build_sharded_optimizer, gather_states
from semanir_plugin.errors import UserError
from semanir_plugin.inference.restoration import Restoration
from semanir_plugin.registry import MODELS
from semanir_plugin.schema.declarations import pick_options

__all__ = ["SemanIRModel"]


@MODELS.register
class SemanIRModel(SharedValidation):
    """BasicSR's SRModel with mixed precision, clipping, accumulation, top-k strategies, tiles and a best checkpoint.

    Options are `SemanIRTrainingOptions` and `SemanIRValidationOptions`.

    Of several processes each restores and scores its share of the images of a validation.
    """

    OPTIONS: ClassVar[dict[str, type]] = {"train": SemanIRTrainingOptions, "val": SemanIRValidationOptions}

    lq: Tensor
    gt: Tensor

    def print_network(self, net: torch.nn.Module) -> None:
        """Log the size of a network, and its modules in the log file alone."""
        net = self.get_bare_model(net)
        parameters = sum(p.numel() for p in net.parameters())
        get_root_logger().info(f"{type(net).__name__} has {parameters:,} parameters.")
        get_root_logger().debug(net)

    def init_training_settings(self) -> None:
        """Set up losses, optimisers and schedulers as SRModel, and the precision.

        Raises:
            UserError: There is no loss.
        """
        from semanir_plugin.basicsr_host.models.optim_wrapper import (
            build_optim_wrapper,  # mmengine, not needed for testing
        )

        self.training_options = options = pick_options(SemanIRTrainingOptions, self.opt["train"])
        with self._any_loss():
            super().init_training_settings()
        if hasattr(self, "net_g_ema"):
            self._set_memory_format(self.net_g_ema)  # averages of tensors that lie alike take one kernel
        self.cri_fft = build_loss(options.fft_opt).to(self.device) if options.fft_opt else None
        self.cri_ssim = build_loss(options.ssim_opt).to(self.device) if options.ssim_opt else None
        self.cri_distill = build_loss(options.distill_opt).to(self.device) if options.distill_opt else None
        self.teacher = self._build_teacher()
        self.accumulation_steps = options.accumulation_steps
        self.losses: OrderedDict[str, Tensor] = OrderedDict()
        self.finite_steps = FiniteSteps(
            most_in_a_row=options.max_nan_steps,
            report=Path(self.opt["path"]["experiments_root"], f"nonfinite_steps_{self.opt['rank']}.json"),
            distributed=self.opt["dist"],
        )
        self.optim_wrapper = build_optim_wrapper(
            self.optimizer_g, amp=options.amp or None, grad_clip=options.grad_clip, device=self.device
        )

    def _build_teacher(self) -> torch.nn.Module | None:
        options = self.training_options
        if bool(options.distill_opt) != bool(options.teacher):
            raise UserError("train: distill_opt and teacher go together; give both, or neither")
        if not options.teacher:
            return None
        teacher = load_teacher(options.teacher, self.descriptor, self.device)
        self._set_memory_format(teacher)
        return teacher

    @contextmanager
    def _any_loss(self) -> Iterator[None]:
        """Have the host begin without one of its own two losses where there is another."""
        train, options = self.opt["train"], self.training_options
        if train.get("pixel_opt") or train.get("perceptual_opt"):
            yield
        elif another := options.fft_opt or options.ssim_opt or options.distill_opt:
            train["pixel_opt"] = another
            try:
                yield
            finally:
                train["pixel_opt"] = self.cri_pix = None
        else:
            losses = "pixel_opt, perceptual_opt, fft_opt, ssim_opt or distill_opt"
            raise UserError(f"there is no loss: add {losses} to train")

    def get_optimizer(self, optim_type: str, params: Any, lr: float, **kwargs: Any) -> torch.optim.Optimizer:
        """Return an optimiser as the host does; one whose state is divided where that is asked for."""
        if self.opt["world_size"] > 1 and self.opt["train"].get("zero_redundancy"):
            return build_sharded_optimizer(optim_type, params, lr=lr, **kwargs)
        result: torch.optim.Optimizer = super().get_optimizer(optim_type, params, lr, **kwargs)
        return result

    def save_training_state(self, epoch: int, current_iter: int) -> None:
        """Save as the host does; all processes take part, for their parts of the optimiser's state."""
        if current_iter != -1:
            gather_states(self.optimizers)
        super().save_training_state(epoch, current_iter)

    def model_to_device(self, net: torch.nn.Module) -> torch.nn.Module:
        """Take a network to the device, laid out as asked for, and have all processes take part."""
        self._set_memory_format(net)
        result: torch.nn.Module = super().model_to_device(net)
        return result

    def _set_memory_format(self, net: torch.nn.Module) -> None:
        if self._channels_last:
            net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def _channels_last(self) -> bool:
        return self.is_train and bool(self.opt["train"].get("channels_last"))

    def feed_data(self, data: Mapping[str, Any]) -> None:
        """Take a batch, or an image, to the device, and keep the names of its files."""
        super().feed_data(data)
        if self._channels_last:
            self.lq = self.lq.contiguous(memory_format=torch.channels_last)
        self.image_names: dict[str, Sequence[str]] = {key: data[key] for key in ("gt_path", "lq_path") if key in data}

    def optimize_parameters(self, current_iter: int) -> None:
        """Do one step on the batch fed last, or none where loss or gradients are not finite.

        Raises:
            UserError: Too many steps in a row were not.
        """
        net_kwargs = self._sample_topk(current_iter)
        self._mixup(current_iter)
        self.losses.clear()
        parts = list(zip(self.lq.chunk(self.accumulation_steps), self.gt.chunk(self.accumulation_steps), strict=True))
        for index, (lq, gt) in enumerate(parts):
            with self._sync_context(last=index == len(parts) - 1):
                with self.optim_wrapper.optim_context(self.net_g):
                    output, taught = self.net_g(lq, **net_kwargs), self._ask_teacher(lq)
                    loss = self._compute_loss(output, gt, taught, weight=len(lq) / len(self.lq))
                self.optim_wrapper.backward(loss)
        self._step(current_iter)
        self.optim_wrapper.zero_grad()

    @torch.no_grad()
    def _ask_teacher(self, lq: Tensor) -> Tensor | None:
        """Return what the teacher makes of inputs, if there is one."""
        return None if self.teacher is None else self.teacher(lq)

    def _step(self, current_iter: int) -> None:
        parameters = [] if hasattr(self.optim_wrapper, "loss_scaler") else self.net_g.parameters()  # it looks itself
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if not self.finite_steps.allow(self.losses.values(), gradients):
            self.finite_steps.skip(current_iter, self.losses, self.image_names)
            return
        self.optim_wrapper.step()
        if self.ema_decay > 0:
            self.model_ema(decay=self._averaged_share(current_iter))

    def _averaged_share(self, current_iter: int) -> float:
        """Return the share of themselves that averages of the weights keep in an iteration."""
        decay: float = self.ema_decay
        return min(decay, (1 + current_iter) / (10 + current_iter)) if self.training_options.ema_warmup else decay

    def _sample_topk(self, current_iter: int) -> dict[str, int]:
        """Sample one k for the whole network, the same on every process and after a resume."""
        choices = topk_choices(self.get_bare_model(self.net_g))
        if choices is None:
            return {}
        return {"topk": random.Random(derive_seed(self.opt["manual_seed"], current_iter)).choice(choices)}

    def _mixup(self, current_iter: int) -> None:
        """Apply mixup to the batch, differently on each process, and reproducibly after a resume."""
        parameter = self.training_options.mixup
        if parameter is None:
            return
        generator = np.random.default_rng((self.opt["manual_seed"], current_iter, self.opt["rank"]))
        count = len(self.lq)
        share = torch.from_numpy(generator.beta(parameter, parameter, (count, 1, 1, 1))).to(self.lq)
        order = torch.from_numpy(generator.permutation(count)).to(self.lq.device)
        self.lq = share * self.lq + (1 - share) * self.lq[order]
        self.gt = share * self.gt + (1 - share) * self.gt[order]

    def _sync_context(self, *, last: bool) -> AbstractContextManager[None]:
        # Gradients of the parts add up locally; one exchange per step is enough.
        distributed = isinstance(self.net_g, DistributedDataParallel)
        return self.net_g.no_sync() if distributed and not last else nullcontext()

    def _compute_loss(self, output: Tensor, gt: Tensor, taught: Tensor | None, *, weight: float) -> Tensor:
        parts = {}
        if self.cri_pix:
            parts["l_pix"] = self.cri_pix(output, gt)
        if self.cri_perceptual:
            parts["l_percep"], parts["l_style"] = self.cri_perceptual(output, gt)
        if self.cri_fft:
            parts["l_fft"] = self.cri_fft(output, gt)
        if self.cri_ssim:
            parts["l_ssim"] = self.cri_ssim(output, gt)
        if self.cri_distill:
            parts["l_distill"] = self.cri_distill(output, taught)
        parts = {name: loss * weight for name, loss in parts.items() if loss is not None}
        for name, loss in parts.items():
            self.losses[name] = self.losses.get(name, 0) + loss.detach()
        return torch.stack(list(parts.values())).sum()

    def get_current_log(self) -> dict[str, float]:
        """Return the losses of the last step; only this copies them from the device."""
        result: dict[str, float] = self.reduce_loss_dict(self.losses)
        return result

    def test(self) -> None:
        """Restore `self.lq` into `self.output` with the averaged weights where there are some."""
        net = self.net_g_ema if hasattr(self, "net_g_ema") else self.get_bare_model(self.net_g)
        training = net.training
        net.eval()
        start = self._clock()
        self.output = self.restoration.restore(net, self.lq)
        self.seconds_per_image.append(self._clock() - start)
        net.train(training)

    def _clock(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    @cached_property
    def restoration(self) -> Restoration:
        """What restores images as the section `val` says; of several `topk`, by the largest.

        Raises:
            UserError: The options do not go with the network.
        """
        options = pick_options(SemanIRValidationOptions, self.opt.get("val")).first
        name = type(self.get_bare_model(self.net_g)).__name__
        for _, problem in options.problems_with(self.descriptor, name):
            raise UserError(problem)
        return Restoration(descriptor=self.descriptor, options=options)

    @cached_property
    def descriptor(self) -> NetworkDescriptor:
        """The network's scale, channels and sizes."""
        return describe(self.get_bare_model(self.net_g), self.opt["network_g"])

    def _log_validation_metric_values(self, current_iter: int, dataset_name: str, tb_logger: Any) -> None:
        if not self.is_train:  # there is one result, so there is no best one to speak of
            values = ", ".join(f"{name} {value:.4f}" for name, value in self.metric_results.items())
            get_root_logger().info(f"{dataset_name}: {values}")
            return
        super()._log_validation_metric_values(current_iter, dataset_name, tb_logger)
        if self._is_new_best(current_iter, dataset_name):
            self._save_networks("best")

    def _is_new_best(self, current_iter: int, dataset_name: str) -> bool:
        # The first validation set decides, by its first PSNR.
        if dataset_name != next(iter(self.best_metric_results)):
            return False
        psnr = self.scorer.first_psnr
        return psnr is not None and self.best_metric_results[dataset_name][psnr]["iter"] == current_iter

    def _save_networks(self, label: int | str) -> None:
        if hasattr(self, "net_g_ema"):
            self.save_network([self.net_g, self.net_g_ema], "net_g", label, param_key=["params", "params_ema"])
        else:
            self.save_network(self.net_g, "net_g", label)

    def training_state(self) -> dict[str, Any]:
        """Return the entries of a training state beyond the host's optimisers and schedulers."""
        scaler = getattr(self.optim_wrapper, "loss_scaler", None)
        return {
            "best_metric_results": plain_results(getattr(self, "best_metric_results", {})),
            "protocol": self._protocol_label,
            "loss_scaler": scaler.state_dict() if scaler else None,
            "rng": get_rng_state(),
            "finite_steps": self.finite_steps.state_dict(),
        }

    @property
    def _protocol_label(self) -> str | None:
        return None if self.scorer.protocol is None else self.scorer.protocol.label

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        """Restore optimisers, schedulers, best results, loss scale and random numbers."""
        super().resume_training(resume_state)
        if "rng" not in resume_state:  # written by BasicSR itself
            return
        scored_alike = resume_state.get("protocol") == self._protocol_label
        self.best_metric_results = {
            dataset: best
            for dataset, best in resume_state["best_metric_results"].items()
            if scored_alike and best.keys() == set(self.scorer.names)
        }
        if resume_state["loss_scaler"] and hasattr(self.optim_wrapper, "loss_scaler"):
            self.optim_wrapper.loss_scaler.load_state_dict(resume_state["loss_scaler"])
        if "finite_steps" in resume_state:
            self.finite_steps.load_state_dict(resume_state["finite_steps"])
        if self.opt["rank"] == 0:  # the others have seeds of their own
            set_rng_state(resume_state["rng"])
