"""The cluster files against Ray's cluster schema and KubeRay's resource definition; nothing is launched."""

from __future__ import annotations

import gzip
import os
import shlex
import subprocess
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.runtime_env import RuntimeEnv

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "cluster"
SCHEMAS = Path(os.environ.get("AGENTFLAN_DATA", ROOT / "../shared/data")) / "schemas" / "kuberay-1.7.0"

Edit = Callable[[dict[str, Any]], Any]


def read(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((CLUSTER / name).read_text(encoding="utf-8"))
    return loaded


def accept(config: dict[str, Any]) -> dict[str, Any]:
    """What ``ray up`` does before it calls the cloud."""
    prepared: dict[str, Any] = prepare_config(deepcopy(config))
    validate_config(prepared)
    return prepared


@pytest.mark.parametrize("name", ["aws.yaml", "local.yaml"])
def test_ray_accepts_the_cluster_files(name: str) -> None:
    prepared = accept(read(name))
    assert prepared["head_node_type"] in prepared["available_node_types"]


BROKEN: list[tuple[str, Edit, str]] = [
    ("aws.yaml", lambda c: c.update(max_worker=3), "'max_worker' was unexpected"),
    ("aws.yaml", lambda c: c.update(max_workers="six"), "'six' is not of type 'integer'"),
    ("aws.yaml", lambda c: c.update(head_node_type="heads"), "must be one of `available_node_types`"),
    ("aws.yaml", lambda c: c["docker"].update(images="x"), "'images' was unexpected"),
    ("aws.yaml", lambda c: c["available_node_types"]["p5"].update(min_worker=1), "'min_worker' was unexpected"),
    ("aws.yaml", lambda c: c["available_node_types"]["p5"].update(min_workers=9), "smaller than the sum"),
    ("local.yaml", lambda c: c.update(idle_timeout=3), "'idle_timeout' was unexpected"),
    ("local.yaml", lambda c: c["provider"].update(worker_ips="192.0.2.11"), "is not of type 'array'"),
    ("local.yaml", lambda c: c["auth"].update(ssh_key="x"), "'ssh_key' was unexpected"),
]


@pytest.mark.parametrize(("name", "edit", "sentence"), BROKEN)
def test_ray_refuses_broken_cluster_files(name: str, edit: Edit, sentence: str) -> None:
    config = read(name)
    edit(config)
    with pytest.raises((jsonschema.ValidationError, ValueError)) as refusal:
        accept(config)
    assert sentence in " ".join(str(refusal.value).split())


def test_aws_has_gpus_on_spot_and_on_demand_and_lets_idle_machines_go() -> None:
    config = accept(read("aws.yaml"))
    workers = {name: kind for name, kind in config["available_node_types"].items() if name != "head"}
    assert {kind["node_config"]["InstanceType"] for kind in workers.values()} == {"p4d.24xlarge", "p5.48xlarge"}
    assert all(kind["resources"]["GPU"] == 8 for kind in workers.values())
    markets = [kind["node_config"].get("InstanceMarketOptions", {}).get("MarketType") for kind in workers.values()]
    assert sorted(map(str, markets)) == ["None", "spot"]
    assert sum(kind["min_workers"] for kind in workers.values()) >= 1
    assert sum(kind["max_workers"] for kind in workers.values()) <= config["max_workers"]
    assert 0 < config["idle_timeout_minutes"] <= 60


@pytest.mark.parametrize("name", ["aws.yaml", "local.yaml"])
def test_nodes_get_the_package_and_the_token(name: str) -> None:
    config = accept(read(name))
    [package] = [remote for remote, here in config["file_mounts"].items() if here == "."]
    assert any(command.split()[-1] == package for command in config["setup_commands"] if "pip install" in command)
    assert any(remote.endswith("/.ray/auth_token") for remote in config["file_mounts"])
    for role in ("head", "worker"):
        starts = [line for line in config[f"{role}_start_ray_commands"] if "ray start" in line]
        assert len(starts) == 1
        assert "RAY_AUTH_MODE=token" in starts[0]


def test_runtime_environment_has_only_fields_that_ray_reads() -> None:
    fields = read("runtime_env.yaml")
    assert set(fields) <= RuntimeEnv.known_fields
    assert RuntimeEnv(**fields).env_vars() == fields["env_vars"]


def submit(folder: Path, *flags: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run submit.sh with a ``ray`` that only prints its arguments, one a line."""
    ray = folder / "ray"
    ray.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n", encoding="utf-8")
    ray.chmod(0o755)
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", **variables}
    command = [str(CLUSTER / "submit.sh"), *flags]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("given", "missing"), [({"STORAGE": "s3://b"}, "NAME"), ({"NAME": "x"}, "STORAGE")])
def test_submit_asks_for_a_name_and_a_storage(tmp_path: Path, given: dict[str, str], missing: str) -> None:
    done = submit(tmp_path, **given)
    assert done.returncode != 0
    assert f"{missing}: " in done.stderr
    assert done.stdout == ""


def test_script_and_job_launch_the_same_sweep(tmp_path: Path) -> None:
    done = submit(tmp_path, "--note", "two words", NAME="mixtures-7b", STORAGE="s3://BUCKET/agentflan")
    assert done.returncode == 0, done.stderr
    words = done.stdout.splitlines()
    options, command = words[: words.index("--")], words[words.index("--") + 1 :]
    assert options[:4] == ["job", "submit", "--address", "http://127.0.0.1:8265"]
    assert (ROOT / options[options.index("--runtime-env") + 1]).exists()
    assert command == [*shlex.split(read("kuberay/rayjob.yaml")["spec"]["entrypoint"]), "--note", "two words"]


@pytest.fixture(scope="module")
def rayjob() -> jsonschema.Draft202012Validator:
    """The ``ray.io/v1`` RayJob as a strict JSON schema: a field that the definition does not name is refused."""
    path = SCHEMAS / "rayjobs.yaml.gz"
    if not path.exists():
        pytest.skip(f"the KubeRay resource definitions are not at {SCHEMAS}; set AGENTFLAN_DATA")
    definition = yaml.load(gzip.decompress(path.read_bytes()), Loader=yaml.CSafeLoader)
    [version] = [version for version in definition["spec"]["versions"] if version["name"] == "v1"]
    schema = strict(version["schema"]["openAPIV3Schema"])
    assert isinstance(schema, dict)
    # The API server checks these two; the definition leaves them open.
    schema["required"] = ["apiVersion", "kind", "metadata", "spec"]
    schema["properties"]["metadata"] = {"type": "object"}
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def strict(node: Any) -> Any:
    """OpenAPI v3 to JSON schema: objects with named fields take no others, and a quantity may be a number or text."""
    if isinstance(node, list):
        return [strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    # Only a schema's own "properties" is a table of schemas; a field of that name inside the table is a schema.
    made = {
        key: {name: strict(field) for name, field in value.items()} if key == "properties" else strict(value)
        for key, value in node.items()
    }
    if isinstance(node.get("properties"), dict) and "additionalProperties" not in node:
        made["additionalProperties"] = bool(node.get("x-kubernetes-preserve-unknown-fields", False))
    return made


def test_kuberay_accepts_the_job(rayjob: jsonschema.Draft202012Validator) -> None:
    job = read("kuberay/rayjob.yaml")
    rayjob.validate(job)
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["enableInTreeAutoscaling"] is True
    [group] = cluster["workerGroupSpecs"]
    assert 1 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for spec in (cluster["headGroupSpec"], group):
        pod = spec["template"]["spec"]
        mounts = [mount for container in pod["containers"] for mount in container["volumeMounts"]]
        assert {mount["name"] for mount in mounts} == {volume["name"] for volume in pod["volumes"]}
        assert {"name": "shm", "mountPath": "/dev/shm"} in mounts
    assert group["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 8
    assert set(yaml.safe_load(job["spec"]["runtimeEnvYAML"])) <= RuntimeEnv.known_fields


BROKEN_JOBS: list[tuple[Edit, str]] = [
    (lambda s: s.update(entryPoint="python x.py"), "'entryPoint' was unexpected"),
    (lambda s: s.update(shutdownAfterJobFinishes="yes"), "'yes' is not of type 'boolean'"),
    (lambda s: s["rayClusterSpec"].update(enableAutoscaling=True), "'enableAutoscaling' was unexpected"),
    (lambda s: s["rayClusterSpec"]["autoscalerOptions"].update(upscalingMode="Fast"), "'Fast' is not one of"),
    (lambda s: s["rayClusterSpec"].pop("headGroupSpec"), "'headGroupSpec' is a required property"),
    (lambda s: s["rayClusterSpec"]["workerGroupSpecs"][0].update(maxReplicas="4"), "'4' is not of type 'integer'"),
    (
        lambda s: s["rayClusterSpec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"][0].update(gpus=8),
        "'gpus' was unexpected",
    ),
    (
        lambda s: s["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["resources"][
            "limits"
        ].update(memory="32 gigabytes"),
        "does not match",
    ),
]


@pytest.mark.parametrize(("edit", "sentence"), BROKEN_JOBS)
def test_kuberay_refuses_broken_jobs(rayjob: jsonschema.Draft202012Validator, edit: Edit, sentence: str) -> None:
    job = read("kuberay/rayjob.yaml")
    edit(job["spec"])
    with pytest.raises(jsonschema.ValidationError) as refusal:
        rayjob.validate(job)
    assert sentence in refusal.value.message


def test_dockerfile_and_files_name_the_installed_ray_version() -> None:
    declared = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert "ray[data,default,train,tune]>=2.60,<2.61" in declared
    named = [
        (CLUSTER / "Dockerfile").read_text(encoding="utf-8").partition("FROM ")[2].split()[0],
        read("aws.yaml")["docker"]["image"],
        read("aws.yaml")["docker"]["head_image"],
        f"rayproject/ray:{read('kuberay/rayjob.yaml')['spec']['rayClusterSpec']['rayVersion']}-py311",
    ]
    assert all(image.startswith("rayproject/ray:2.60.0-py311") for image in named)
