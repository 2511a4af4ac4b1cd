"""The files of deploy/: each is read by the program that it is written for, or by one that knows its format."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import pytest
import requests

from lnpay.sandbox.server import wait_until
from tests.sandbox_process import free_ports
from tests.scenarios.live import free_port, is_up

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = DEPLOY / "docker" / "Dockerfile"
TASKS = sorted((DEPLOY / "windows").glob("*.xml"))
TASK = "{http://schemas.microsoft.com/windows/2004/02/mit/task}"


def tool(name: str) -> str:
    """The path of a checker; it comes with the packages of requirements-dev.txt or with those of .ci/run."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin"])
    found = shutil.which(name, path=path)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def check(name: str, *arguments: str | Path) -> str:
    """Run a checker, and fail with what it says. Gives what it says otherwise."""
    done = subprocess.run([tool(name), *map(str, arguments)], capture_output=True, text=True, timeout=60)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


class TestDocker:
    def test_the_dockerfile_is_as_its_linter_wants_it(self) -> None:
        check("hadolint", DOCKERFILE)

    def test_compose_knows_every_key(self) -> None:
        check("check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "docker" / "compose.yaml")

    def test_what_is_copied_into_the_image_is_enough_to_serve(self, tmp_path: Path) -> None:
        port = free_port()
        settings = {
            "STRIKE_API_KEY": "a-key-of-the-tests",
            "PORT": str(port),
            "DATABASE_URL": f"sqlite:///{tmp_path}/db",
        }
        with image_process(tmp_path / "app", [], settings) as server:
            assert wait_until(lambda: server.poll() is not None or is_up(f"http://127.0.0.1:{port}"), 20)
            assert server.poll() is None

    def test_the_image_runs_the_sandbox_for_a_browser_outside(self, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        port = free_ports(2)
        settings = {"PORT": str(port), "SANDBOX_FOLDER": str(tmp_path / "data")}

        with image_process(tmp_path / "app", ["--sandbox"], settings) as server:
            assert wait_until(lambda: server.poll() is not None or is_up(f"http://127.0.0.1:{port}"), 30)
            assert server.poll() is None
            # As from outside the container: not by the loopback interface of 127.0.0.1.
            for page in (f"http://127.0.0.2:{port}/docs", f"http://127.0.0.2:{port + 1}/shop"):
                assert requests.get(page, timeout=20).status_code == 200

            answer = requests.post(
                f"http://127.0.0.1:{port}/generate-invoice", json={"amount_fiat": "12.30"}, timeout=30
            )

        assert answer.status_code == 200, answer.text
        assert (tmp_path / "data" / f"sandbox-{port}.sqlite").exists()
        assert not list((tmp_path / "app").glob("*.sqlite*"))

    def test_both_ports_of_the_sandbox_are_named_and_every_package_is_installed(self) -> None:
        text = DOCKERFILE.read_text("utf-8")

        assert "\nEXPOSE 5000 5001\n" in text
        assert "/venv/bin/pip install -r requirements.txt" in text

    def test_no_secret_can_get_into_the_image(self, tmp_path: Path) -> None:
        copy_as_the_image_does(tmp_path)

        assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".") or path.suffix == ".sqlite"]


@contextmanager
def image_process(folder: Path, arguments: list[str], settings: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run what the image runs, with the files that it copies and nothing of the checkout on the path."""
    folder.mkdir()
    copy_as_the_image_does(folder)
    text = DOCKERFILE.read_text("utf-8")
    (entry,), (usual,) = (re.findall(rf"^{word} (\[.*\])$", text, re.MULTILINE) for word in ("ENTRYPOINT", "CMD"))
    python, *program = json.loads(entry)
    assert python == "/venv/bin/python"
    variables = dict(re.findall(r"\b((?:SANDBOX_)?HOST)=(\S+)", text))
    process = subprocess.Popen(
        [sys.executable, *program, *(arguments or json.loads(usual))],
        cwd=folder,
        env={**os.environ, **variables, **settings},
    )
    try:
        yield process
    finally:
        process.terminate()
        assert process.wait(30) == 0


def copy_as_the_image_does(folder: Path) -> None:
    """Do the COPY lines of the last stage: without --from, from the checkout into the working directory."""
    last_stage = DOCKERFILE.read_text("utf-8").rpartition("\nFROM ")[2]
    for line in re.findall(r"^COPY (?!--from)(.*)$", last_stage, re.MULTILINE):
        *sources, target = shlex.split(line)
        for source in (str(path.relative_to(ROOT)) for pattern in sources for path in sorted(ROOT.glob(pattern))):
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, folder / target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                (folder / target).mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, folder / target)


class TestSystemd:
    def test_every_unit_is_one_that_systemd_takes(self, tmp_path: Path) -> None:
        for path in (DEPLOY / "systemd").iterdir():
            # The checker wants the programs to be there.
            text = path.read_text("utf-8").replace("/srv/lnpay/.venv/bin/python", sys.executable)
            (tmp_path / path.name).write_text(text.replace("/srv/lnpay", str(ROOT)))
        names = [path.name.replace("@.", "@main.") for path in tmp_path.iterdir()]
        assert len(names) == 5

        said = check("systemd-analyze", "verify", "--man=no", *(tmp_path / name for name in names))

        # An unknown key is only ignored, with a word.
        assert str(tmp_path) not in said

    @pytest.mark.parametrize("unit", ["lnpay.service", "lnpay-worker@.service"])
    def test_a_service_is_sandboxed(self, unit: str) -> None:
        check("systemd-analyze", "security", "--offline=true", "--threshold=20", DEPLOY / "systemd" / unit)

    def test_every_timer_starts_a_worker_that_is_there(self) -> None:
        timers = list((DEPLOY / "systemd").glob("*.timer"))
        started = [
            re.findall(r"^Unit=lnpay-worker@(\w+)\.service$", timer.read_text("utf-8"), re.M) for timer in timers
        ]

        assert sorted(f"{name}_worker.py" for (name,) in started) == sorted(
            path.name for path in (ROOT / "workers").glob("*_worker.py")
        )


class TestProxies:
    def test_caddy_takes_its_file(self) -> None:
        check("caddy", "validate", "--adapter", "caddyfile", "--config", DEPLOY / "proxy" / "Caddyfile")

    def test_nginx_takes_its_file(self, tmp_path: Path) -> None:
        (tmp_path / "pid").touch()
        key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
        check("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=pay.shop.example",
              "-keyout", key, "-out", certificate)  # fmt: skip
        site = (DEPLOY / "proxy" / "nginx.conf").read_text("utf-8")
        folder = "/etc/letsencrypt/live/pay.shop.example"
        site = site.replace(f"{folder}/fullchain.pem", str(certificate)).replace(f"{folder}/privkey.pem", str(key))
        (tmp_path / "site.conf").write_text(site)
        whole = f"pid {tmp_path}/pid; error_log stderr; events {{}} http {{ include {tmp_path}/site.conf; }}"
        (tmp_path / "nginx.conf").write_text(whole)

        check("nginx", "-t", "-p", tmp_path, "-c", tmp_path / "nginx.conf")


class TestTaskScheduler:
    @pytest.mark.parametrize("path", TASKS, ids=lambda path: path.stem)
    def test_each_task_is_well_formed_and_starts_a_program_of_ours(self, path: Path) -> None:
        check("xmllint", "--noout", path)
        task = ElementTree.parse(path).getroot()  # noqa: S314 - our own file

        arguments = task.findtext(f"{TASK}Actions/{TASK}Exec/{TASK}Arguments", "").replace("\\", "/")
        # There is the operator's copy.
        arguments = arguments.replace("config/local/", "deploy/windows/")

        assert task.tag == f"{TASK}Task"
        assert [word for word in arguments.split() if (ROOT / word).is_file()]
        assert [child.tag.removeprefix(TASK) for child in task] == [
            "RegistrationInfo", "Triggers", "Principals", "Settings", "Actions",
        ]  # fmt: skip

    def test_each_task_of_a_program_of_ours_keeps_a_log_of_its_own(self) -> None:
        logs = {}
        for path in TASKS:
            call = ElementTree.parse(path).getroot().find(f"{TASK}Actions/{TASK}Exec")  # noqa: S314 - our own file
            assert call is not None
            if call.findtext(f"{TASK}Command", "").endswith("python.exe"):
                logs[path.stem] = call.findtext(f"{TASK}Arguments", "").rpartition(" --log-file ")[2]

        assert len(logs) == 4
        assert logs == {name: f"logs\\{name}.log" for name in logs}

    def test_the_rights_of_folders_name_no_group_in_english(self) -> None:
        page = (ROOT / "docs" / "operations.md").read_text("utf-8")

        (command,) = re.findall(r"^ +(icacls .*)$", page, re.MULTILINE)
        assert re.findall(r'"([^:" ]+):', command) == ["*S-1-5-32-544", "*S-1-5-18", "*S-1-5-19"]

    def test_a_server_is_never_ended_for_having_run_long(self) -> None:
        server = ElementTree.parse(DEPLOY / "windows" / "server.xml").getroot()  # noqa: S314 - our own file

        assert server.findtext(f"{TASK}Settings/{TASK}ExecutionTimeLimit") == "PT0S"
        assert server.findtext(f"{TASK}Settings/{TASK}MultipleInstancesPolicy") == "IgnoreNew"


class TestCrontab:
    def test_every_worker_is_there_and_every_line_is_one_that_cron_takes(self) -> None:
        lines = (DEPLOY / "crontab").read_text("utf-8").splitlines()
        jobs = [line for line in lines if line and not line.startswith("#") and "=" not in line.split()[0]]

        field = r"(\*|\*/[1-9]\d?|\d{1,2})"
        assert all(re.match(rf"{field}( +{field}){{4}} +\S", job) for job in jobs)
        started = {name for job in jobs for name in re.findall(r"workers/\w+\.py", job)}
        assert started == {f"workers/{path.name}" for path in (ROOT / "workers").glob("*_worker.py")}
