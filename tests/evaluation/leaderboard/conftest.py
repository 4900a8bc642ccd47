"""A leaderboard that never ran."""

from __future__ import annotations

import pytest

from tests.evaluation.leaderboard.invented_results import crops_of, invent_results


@pytest.fixture(scope="session")
def invented(tmp_path_factory, photos):
    """A folder with images, and its results: 3 test sets, 6 measured models, 3 published ones."""
    folder = tmp_path_factory.mktemp("leaderboard")
    sets = {
        "Set5": crops_of(photos, 3, 96, 128),
        "Set14": crops_of(photos, 2, 75, 101),
        "B/100": crops_of(photos, 4, 64, 88),
    }
    return folder, invent_results(folder, sets)
