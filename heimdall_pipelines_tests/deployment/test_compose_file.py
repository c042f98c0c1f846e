"""docker-compose.yml keeps the compose specification and this project's rules for it."""

import json
import re
import tomllib
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from heimdall_pipelines.settings import ENV_PREFIX, Settings
from heimdall_pipelines_tests import PROJECT_FOLDER
from heimdall_pipelines_tests.deployment.compose import (
    OUR_IMAGE,
    MissingVariableError,
    interpolate,
    load_compose,
    raw_compose,
    seconds,
    strings,
    variables_of,
)
from heimdall_pipelines_tests.test_whole_way import LOCATION

# The compose specification's own schema, unchanged: github.com/compose-spec/compose-spec, Apache-2.0, as it comes with
# check-jsonschema 0.39.
SCHEMA = Path(__file__).parent / "compose-spec.json"
ADMIN_SECRETS = {"HEIMDALL_PG_ADMIN_PASSWORD", "HEIMDALL_PG_OWNER_PASSWORD", "HEIMDALL_S3_ADMIN_PASSWORD"}
SECRETS = ADMIN_SECRETS | {
    "HEIMDALL_PG_PASSWORD",
    "HEIMDALL_S3_ACCESS_KEY",
    "HEIMDALL_S3_SECRET_KEY",
    "HEIMDALL_REDIS_PASSWORD",
}
GIVEN = dict.fromkeys(SECRETS, "c0ffee")
# Handed on where they are set; Compose would ask everybody for what it asks for with ${…:?}.
OPTIONAL_SECRETS = {"HEIMDALL_ALERT_URLS", "HEIMDALL_PROXY_PASSWORD_HASH"}
OF_ONE_MACHINE = {"home", "pg_bindir", "embedded", "s3_folder", "s3_sync"}
ONE_SHOT = {"migrate", "rclone", "buckets"}
CACHE = "/var/cache/heimdall"
PUBLISHED = {"webserver", "proxy"}


@pytest.fixture(scope="module")
def compose():
    return load_compose(GIVEN)


def test_it_keeps_the_compose_specification(compose):
    schema = json.loads(SCHEMA.read_text())
    validator = jsonschema.validators.validator_for(schema)(schema)
    assert [error.message for error in validator.iter_errors(compose)] == []
    assert not validator.is_valid(compose | {"services": {"postgres": {"imgae": "postgres"}}})  # it does look


def test_secrets_must_be_given_and_none_has_a_default(compose):
    for name, rest in (found for text in strings(raw_compose()) for found in variables_of(text)):
        if name in SECRETS:
            assert rest.startswith(":?"), name
        else:
            assert not any(word in name for word in ("PASSWORD", "SECRET", "KEY", "TOKEN")), f"{name} is a secret"
    for secret in SECRETS:
        with pytest.raises(MissingVariableError, match=secret):
            load_compose({name: value for name, value in GIVEN.items() if name != secret})
    for service in compose["services"].values():
        for name in OPTIONAL_SECRETS & set(service["environment"]):
            assert service["environment"][name] is None


def test_no_secret_is_in_a_command(compose):
    """There it would show in the list of processes."""
    for service in compose["services"].values():
        passed = json.dumps([service.get("command"), service.get("healthcheck")])
        assert "c0ffee" not in passed


def test_only_the_web_interface_and_its_proxy_are_published_and_on_loopback(compose):
    published = {name: service["ports"] for name, service in compose["services"].items() if "ports" in service}
    assert set(published) == PUBLISHED
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_servers_are_reached_from_inside_alone(compose):
    assert compose["networks"]["backend"]["internal"] is True
    for name in ("postgres", "minio", "redis", "daemon"):
        assert compose["services"][name]["networks"] == ["backend"], name
    assert compose["services"]["proxy"]["networks"] == ["outside"]


def test_images_are_pinned_and_all_processes_of_ours_are_of_one(compose):
    ours = set()
    for service in compose["services"].values():
        name, _, tag = service["image"].partition(":")
        assert tag, f"{name} has no tag"
        assert "latest" not in tag
        assert any(character.isdigit() for character in tag)
        ours |= {service["image"]} if "build" in service else set()
    assert len(ours) == 1
    assert ours.pop().startswith(OUR_IMAGE)


def test_every_service_is_limited_watched_and_started_again(compose):
    for name, service in compose["services"].items():
        limits = service["deploy"]["resources"]["limits"]
        assert set(limits) == {"cpus", "memory"}, name
        assert service["logging"]["options"]["max-size"], name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        if name in ONE_SHOT:
            assert service["restart"] == "no"
            continue
        assert service["restart"] == "unless-stopped", name
        assert seconds(service["stop_grace_period"]) >= 30, name
        check = service["healthcheck"]
        assert check["test"][0] in {"CMD", "CMD-SHELL"}, name
        assert all(seconds(check[span]) > 0 for span in ("interval", "timeout", "start_period", "start_interval")), name


def test_health_checks_need_no_variable_that_only_some_engines_set(compose):
    """Docker gives HOSTNAME to the command of a health check too, Podman to the container's own command alone."""
    for name, service in compose["services"].items():
        for variable, default in re.findall(r"\$\{?([A-Za-z_]\w*)(:-)?", json.dumps(service.get("healthcheck"))):
            assert default or variable in service["environment"], f"{name}: {variable}"


def test_our_services_are_read_only_and_wait_for_the_migration(compose):
    for name, service in compose["services"].items():
        if "build" not in service:
            continue
        assert service["read_only"], name
        assert service["volumes"] == [f"cache:{CACHE}"], name
        assert all("size=" in mount for mount in service["tmpfs"]), name
        if name not in ONE_SHOT:
            assert service["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}, name


def test_caches_are_in_the_volume_which_the_user_of_the_image_owns():
    """A named volume takes its owner from the folder that the image has in its place."""
    dockerfile = (PROJECT_FOLDER / "Dockerfile").read_text()
    (uid,) = re.findall(r"^USER (\d+):\1$", dockerfile, re.MULTILINE)
    assert f"install --directory --owner={uid} --group={uid} {CACHE}\n" in dockerfile
    folders = dict(re.findall(r"(NUMBA_CACHE_DIR|MPLCONFIGDIR)=(\S+)", dockerfile))
    assert folders == {"NUMBA_CACHE_DIR": f"{CACHE}/numba", "MPLCONFIGDIR": f"{CACHE}/matplotlib"}


def test_services_have_the_credentials_of_no_administrator():
    given = {name: f"secret-of-{name}" for name in SECRETS}
    services = load_compose(given)["services"]
    holders = {
        name: {secret for secret in ADMIN_SECRETS if given[secret] in json.dumps(service)}
        for name, service in services.items()
    }
    assert {name: held for name, held in holders.items() if held} == {
        "postgres": {"HEIMDALL_PG_ADMIN_PASSWORD", "HEIMDALL_PG_OWNER_PASSWORD"},
        "minio": {"HEIMDALL_S3_ADMIN_PASSWORD"},
        "buckets": {"HEIMDALL_S3_ADMIN_PASSWORD"},
        "migrate": {"HEIMDALL_PG_OWNER_PASSWORD"},
    }
    assert services["worker"]["environment"]["HEIMDALL_PG_USER"] == "heimdall_app"
    assert services["migrate"]["environment"]["HEIMDALL_PG_USER"] == "heimdall_owner"


def test_the_key_of_the_services_has_the_rights_of_the_shipped_policy():
    shipped = json.loads((PROJECT_FOLDER / "deploy" / "s3" / "policy.json").read_text())
    (config,) = [config for name, config in load_compose(GIVEN)["configs"].items() if name == "s3_policy"]
    used = json.loads(config["content"])
    assert used["Version"] == shipped["Version"]
    for ours, theirs in zip(used["Statement"], shipped["Statement"], strict=True):
        assert {key: ours[key] for key in ("Effect", "Action", "Resource")} == {
            key: theirs[key] for key in ("Effect", "Action", "Resource")
        }


def test_no_image_has_known_holes(compose):
    """Releases before these are named in advisories: a change of a tag must not go back."""
    least = {"redis": "7.2.16", "caddy": "2.11.7", "timescale/timescaledb": "2.29.2", "rclone/rclone": "1.75.1"}
    tags = dict(service["image"].split(":") for service in compose["services"].values())
    for image, version in least.items():
        found = re.match(r"[\d.]+", tags[image])[0]
        assert [int(part) for part in found.split(".")] >= [int(part) for part in version.split(".")], image
    assert tags["pgsty/minio"] >= "RELEASE.2026-08-04"
    assert "minio/minio" not in tags  # archived: no image has the fix of CVE-2025-62506


def test_workers_can_be_several(compose):
    assert not {"container_name", "ports", "hostname"} & set(compose["services"]["worker"])


def test_workers_together_have_as_many_slots_as_there_may_be_runs(compose):
    """Their number is in the file: one of the command line's --scale is gone after the next `docker compose up`."""
    worker = compose["services"]["worker"]
    (slots,) = re.findall(r"--slots=(\d+)", json.dumps(worker["command"]))
    runs = int(worker["environment"]["HEIMDALL_MAX_CONCURRENT_RUNS"])
    assert int(worker["deploy"]["replicas"]) * int(slots) == runs


def test_every_setting_can_be_given(compose):
    for name in ("code", "worker", "migrate"):
        passed = set(compose["services"][name]["environment"])
        settings = {f"{ENV_PREFIX}{field.upper()}" for field in set(Settings.model_fields) - OF_ONE_MACHINE}
        if name != "worker":
            settings.discard(f"{ENV_PREFIX}WORKERS")
        assert settings <= passed, f"{name}: docker-compose.yml does not hand on {sorted(settings - passed)}"


def test_named_volumes_networks_and_configs_are_the_ones_that_are_used(compose):
    mounted = [volume.partition(":")[0] for s in compose["services"].values() for volume in s.get("volumes", [])]
    assert {name for name in mounted if not name.startswith(".")} == set(compose["volumes"])
    assert {network for s in compose["services"].values() for network in s["networks"]} == set(compose["networks"])
    assert all((PROJECT_FOLDER / name).exists() for name in mounted if name.startswith("."))
    used = {config["source"] for s in compose["services"].values() for config in s.get("configs", [])}
    assert used == set(compose["configs"])


def test_the_code_location_has_one_name_everywhere():
    (local,) = yaml.safe_load((PROJECT_FOLDER / "workspace.yaml").read_text())["load_from"]
    (deployed,) = yaml.safe_load((PROJECT_FOLDER / "deploy" / "workspace.yaml").read_text())["load_from"]
    tools = tomllib.loads((PROJECT_FOLDER / "pyproject.toml").read_text())["tool"]
    names = {
        local["python_module"]["location_name"],
        deployed["grpc_server"]["location_name"],
        tools["dagster"]["code_location_name"],
        tools["dg"]["project"]["code_location_name"],
    }
    assert names == {LOCATION["repositoryLocationName"]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$A and ${A}", "1 and 1"),
        ("${B:-two}", "two"),
        ("${B:-x${C:-${A}y}z}", "x1yz"),
        ("${EMPTY:-used}", "used"),
        ("$$A costs $$${A}", "$A costs $1"),
        ("${A:?unused}", "1"),
        ("${B}", ""),
    ],
)
def test_variables_are_put_in_as_compose_does(text, expected):
    assert interpolate(text, {"A": "1", "EMPTY": ""}) == expected


@given(st.text(st.characters(exclude_characters="$")))
def test_text_without_variables_stays_as_it_is(text):
    assert interpolate(text, {}) == text
    assert interpolate(f"${{A:-{text.translate(dict.fromkeys(map(ord, '{}')))}}}", {"A": text or "x"}) == (text or "x")
