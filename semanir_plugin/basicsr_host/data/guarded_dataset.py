"""A wrapper that makes any BasicSR dataset repeatable and its failures readable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from semanir_plugin.basicsr_host.data.sampler import SeededIndex
from semanir_plugin.basicsr_host.data.seeding import seeded
from semanir_plugin.errors import UserError

__all__ = ["GuardedDataset"]


class GuardedDataset(Dataset[dict[str, Any]]):
    """Wrapper that reads each sample under its own seed, and names the file that could not be read.

    Args:
        dataset: A BasicSR dataset, with its options in `dataset.opt`.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.opt = dataset.opt

    def __len__(self) -> int:
        return len(self.dataset)

    def __getattr__(self, name: str) -> Any:
        """Return what models look up in their datasets, such as `data_info` of clips."""
        if name == "dataset" or name.startswith("__"):  # there is none yet, or it is Python that asks
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __getitem__(self, key: SeededIndex | int) -> dict[str, Any]:
        index, seed = key if isinstance(key, SeededIndex) else (key, key)
        try:
            with seeded(seed):
                result: dict[str, Any] = self.dataset[index]
                return result
        except UserError:
            raise
        except Exception as error:
            message = f"dataset '{self.opt['name']}': cannot read {self.describe(index)}: {_describe_error(error)}"
            raise UserError(message) from error

    def first_sample(self) -> dict[str, Any]:
        """Read one sample and close what was opened for it: an open LMDB must not be carried into forked workers."""
        sample = self[0]
        self.close()
        return sample

    def close(self) -> None:
        """Close what was opened to read from; the next read opens it again."""
        if hasattr(self.dataset, "file_client"):
            self.dataset.file_client = None

    def inputs(self) -> list[str]:
        """Return the file of each sample's input; none of a dataset that lists no files, or several for a sample."""
        paths = getattr(self.dataset, "paths", None)
        entries = paths if isinstance(paths, list) else []
        named = [entry.get("lq_path") if isinstance(entry, dict) else entry for entry in entries]
        return [str(each) for each in named if isinstance(each, str | Path)]

    def describe(self, index: int) -> str:
        """Return the files of a sample, or its number where the dataset does not list them."""
        paths = getattr(self.dataset, "paths", None) or getattr(self.dataset, "keys", None)  # `keys`: of clips
        if not isinstance(paths, list) or index >= len(paths):
            return f"sample {index}"
        entry = paths[index]
        return ", ".join(map(str, entry.values())) if isinstance(entry, dict) else str(entry)


def _describe_error(error: Exception) -> str:
    if isinstance(error, AttributeError) and error.obj is None and error.name in ("astype", "dtype"):  # `imfrombytes`
        return "the image cannot be decoded; replace it or take it out"
    if isinstance(error, FileNotFoundError) and error.strerror:
        return f"{error.strerror}; correct the folder or the list of files"
    return " ".join(" ".join(map(str, error.args)).split()) or type(error).__name__
