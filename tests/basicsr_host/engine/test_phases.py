from __future__ import annotations

from semanir_plugin.basicsr_host.engine.phases import Phase, plan_phases


def options(train=None, **more):
    lists = {"gt_sizes": [32, 48, 64], "batch_sizes_per_gpu": [4, 3, 1], "iters": [5, 2, 9], "gt_size": 64}
    train = {"name": "set", **(lists if train is None else train)}
    opt = {"dist": False, "num_gpu": 0, "world_size": 1, "datasets": {"train": train}, "train": {"total_iter": 16}}
    return {**opt, **more}


def test_one_phase_without_lists():
    single = {"name": "set", "gt_size": 48, "batch_size_per_gpu": 4}
    assert plan_phases(options(single)) == [Phase(single, 4, 0, 16, 0)]


def test_one_phase_for_datasets_without_patches():
    assert "gt_size" not in plan_phases(options({"batch_size_per_gpu": 2}))[0].dataset_opt


def test_phases_go_on_where_the_last_stopped():
    phases = plan_phases(options())
    assert [(phase.start_iter, phase.stop_iter) for phase in phases] == [(0, 5), (5, 7), (7, 16)]
    assert [phase.first_position for phase in phases] == [0, 20, 26]
    assert [(p.dataset_opt["gt_size"], p.dataset_opt["batch_size_per_gpu"]) for p in phases] == [
        (32, 4),
        (48, 3),
        (64, 1),
    ]


def test_samples_of_all_processes_count():
    assert [phase.first_position for phase in plan_phases(options(dist=True, num_gpu=8, world_size=4))] == [0, 80, 104]


def test_one_process_loads_for_all_its_gpus():
    phases = plan_phases(options(num_gpu=2))
    assert [phase.batch_size for phase in phases] == [8, 6, 2]
    assert [phase.first_position for phase in phases] == [0, 40, 52]
