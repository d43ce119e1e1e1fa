"""VBench sampling on a Ray cluster: what a worker does anywhere, and, where Ray is installed, a small cluster."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from motioncache.errors import ConfigError, MotionCacheError
from motioncache_eval.vbench.config import VBenchConfig
from motioncache_eval.vbench.deliver import Delivery, accept
from motioncache_eval.vbench.plan import Plan, make_plan
from motioncache_eval.vbench.ray_executor import _places, _reason
from motioncache_eval.vbench.ray_worker import Assignment, RayWorker

from .standin import CONFIG, StandIn, install


def prompts(folder: Path, *texts: str) -> list[str]:
    """Arguments that sample these prompts."""
    (folder / "prompts").mkdir()
    (folder / "prompts" / "scene.txt").write_text("\n".join(texts) + "\n")
    return [f"short_prompts={folder / 'prompts'}", "dimensions=[scene]", f"output={folder / 'out'}"]


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    (tmp_path / "config.yaml").write_text(CONFIG)
    plan = make_plan(StandIn(), tmp_path / "config.yaml", prompts(tmp_path, "a dog", "large elephant"))
    plan.folder("vanilla").prepare(plan.describe("vanilla"), plan.videos)
    return plan


def distant_worker(plan: Plan, record: dict[str, Any]) -> RayWorker:
    """A worker that does not see the folder of the run."""
    seen = Path("/nowhere")
    return RayWorker(
        Assignment(plan=plan, records={"vanilla": record}, folder=seen, logs=seen, token=".token"), "cpu", "worker.log"
    )


def test_a_worker_that_does_not_see_the_folder_sends_its_videos(plan: Plan) -> None:
    worker = distant_worker(plan, plan.describe("vanilla"))
    assert "it sends its videos" in worker.load()["where"]
    dog, elephant = plan.items()
    made = worker.make(dog.to_json())
    assert made.pop("event") == "made"
    assert len(made["content"]) == made["size"]
    assert list(plan.folder("vanilla").partial.iterdir()) == []
    assert accept(plan.folder("vanilla"), dog.video, Delivery(**made)) is None
    assert plan.folder("vanilla").find_missing(plan.videos) == [elephant.video]


def test_too_little_memory_of_a_gpu_is_one_line(plan: Plan) -> None:
    worker = distant_worker(plan, plan.describe("vanilla"))
    worker.load()
    failed = worker.make(plan.items()[1].to_json())
    advice = "pass cpu_offload=true, dtype=bfloat16, or a smaller video"
    assert failed == {"event": "failed", "reason": f"cpu has too little memory for 5 frames of 32x16: {advice}"}


def test_a_node_with_other_versions_is_refused(plan: Plan) -> None:
    record = plan.describe("vanilla")
    worker = distant_worker(plan, {**record, "versions": {**record["versions"], "diffusers": "0.1"}})
    stopped = worker.load()
    assert stopped["event"] == "stop"
    assert "versions.diffusers was '0.1', now " in stopped["reason"]


def cluster(gpus: int, cpus: int, nodes: int) -> Any:
    alive = [{"Alive": True}] * nodes
    return SimpleNamespace(
        cluster_resources=lambda: {"GPU": gpus, "CPU": cpus}, nodes=lambda: [*alive, {"Alive": False}]
    )


def test_every_gpu_of_a_cluster_gets_a_worker_and_every_node_where_there_are_none() -> None:
    assert _places(cluster(3, 8, 2), (), "auto") == ("cuda",) * 3
    assert _places(cluster(0, 8, 2), (), "auto") == ("cpu", "cpu")
    assert _places(cluster(3, 8, 2), ("cuda", "cpu"), "auto") == ("cuda", "cpu")
    with pytest.raises(MotionCacheError, match="devices has cuda 2 times, and the cluster at auto has 1 GPUs"):
        _places(cluster(1, 8, 2), ("cuda", "cuda"), "auto")


def test_what_ray_says_is_cut_to_one_line() -> None:
    said = "The actor died.\n\tpid: 7\nWorker exit type: ERROR Worker exit detail: End of file. Some common causes are"
    assert _reason(RuntimeError(said)) == "End of file."
    assert _reason(RuntimeError("")) == "RuntimeError"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"executor": "slurm"}, "executor: 'slurm' is not allowed; allowed: local, ray"),
        ({"address": "auto"}, "address: 'auto' is not allowed; allowed: an address, with executor=ray"),
        ({"executor": "ray", "devices": ("cuda:1",)}, "cuda or cpu with executor=ray, which chooses the GPUs"),
        ({"item_timeout": 0.0}, "item_timeout: 0.0 is not allowed; allowed: null, or more than 0 seconds"),
        ({"verify": "no"}, "verify: 'no' is not allowed; allowed: checksum, decode"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        VBenchConfig(**settings)
    assert message in str(caught.value)


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install 'ray[client]'")
def test_a_cluster_makes_all_but_what_kills_its_worker(tmp_path: Path) -> None:
    start = [sys.executable, "-c", "import ray; ray.init(num_cpus=1, include_dashboard=False)"]
    if subprocess.run(start, capture_output=True, timeout=300).returncode:
        pytest.skip("Ray does not start on this machine")
    arguments = ["stand-in", "executor=ray", *prompts(tmp_path, "a dog", "deadly snake", "slow cat")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(install(tmp_path)), *sys.path])}
    command = [sys.executable, "-m", "motioncache_eval", "vbench", *arguments]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert ended.returncode == 1, ended.stderr
    assert "vanilla/scene/deadly snake-0.mp4 is given up, for it failed 3 times: worker " in ended.stdout
    assert "2 of 3 videos, 1 failed" in ended.stdout
    assert {path.name for path in tmp_path.glob("out/vanilla/videos/scene/*")} == {"a dog-0.mp4", "slow cat-0.mp4"}
    assert sorted(path.name for path in (tmp_path / "out" / "logs").iterdir()) == [
        "ray.log",
        "worker-0-cpu.log",
        "worker-1-cpu.log",
    ]
