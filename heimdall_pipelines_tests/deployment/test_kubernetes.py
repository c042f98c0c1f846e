"""The manifests for Kubernetes say the same as docker-compose.yml, whose services the tests run."""

import re
from typing import Any

import pytest
import yaml

from heimdall_pipelines_tests import PROJECT_FOLDER
from heimdall_pipelines_tests.deployment.compose import OUR_IMAGE, load_compose
from heimdall_pipelines_tests.deployment.test_compose_file import GIVEN, SECRETS

FOLDER = PROJECT_FOLDER / "deploy" / "kubernetes"
SERVICES = ("migrate", "code", "webserver", "daemon", "worker")


def documents() -> list[dict[str, Any]]:
    return [document for path in FOLDER.glob("*.yaml") for document in yaml.safe_load_all(path.read_text())]


def pod(service: str) -> dict[str, Any]:
    (found,) = (
        document
        for document in documents()
        if document["kind"] in {"Deployment", "Job"} and document["metadata"]["name"] == f"heimdall-{service}"
    )
    return found["spec"]["template"]["spec"]


@pytest.mark.parametrize("service", SERVICES)
def test_a_pod_runs_what_the_service_of_compose_runs(service):
    compose = load_compose(GIVEN)["services"][service]
    (container,) = pod(service)["containers"]
    assert container["image"] == OUR_IMAGE
    assert container["command"] == compose["command"]
    grace_s = pod(service)["terminationGracePeriodSeconds"]
    assert f"{grace_s}s" == compose.get("stop_grace_period", "30s").replace("5m", "300s")


@pytest.mark.parametrize("service", SERVICES)
def test_a_pod_runs_as_the_user_of_the_image_with_no_more_rights(service):
    (uid,) = re.findall(r"^USER (\d+):\1$", (PROJECT_FOLDER / "Dockerfile").read_text(), re.MULTILINE)
    assert pod(service)["securityContext"]["runAsUser"] == int(uid)
    (container,) = pod(service)["containers"]
    rights = container["securityContext"]
    assert rights == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    compose = load_compose(GIVEN)["services"][service]
    writable = {mount.partition(":")[0] for mount in compose["tmpfs"]}
    writable |= {volume.partition(":")[2] for volume in compose["volumes"]}
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == writable


def test_no_secret_is_in_a_manifest():
    (config,) = (document for document in documents() if document["kind"] == "ConfigMap")
    assert not {"HEIMDALL_REDIS_URL", *SECRETS} & set(config["data"])
    assert "Secret" not in {document["kind"] for document in documents()}
    for service in SERVICES:
        assert {"secretRef": {"name": "heimdall"}} in pod(service)["containers"][0]["envFrom"]


def test_the_configuration_has_what_every_process_needs():
    (config,) = (document for document in documents() if document["kind"] == "ConfigMap")
    compose = load_compose(GIVEN)["services"]["code"]["environment"]
    assert set(config["data"]) <= set(compose)
    same = ("HEIMDALL_RUN_LAUNCHER", "HEIMDALL_CODE_PORT", "HEIMDALL_MAX_CONCURRENT_RUNS", "HEIMDALL_PG_DATABASE")
    assert {name: config["data"][name] for name in same} == {name: compose[name] for name in same}


def test_every_manifest_is_applied():
    (kustomization,) = (document for document in documents() if document["kind"] == "Kustomization")
    files = {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(kustomization["resources"]) == files
