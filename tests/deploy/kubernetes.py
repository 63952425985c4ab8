"""A real one-node Kubernetes, from its own programs: what the chart is installed into. Needs root.

Debian gives etcd, containerd, runc and the network plugins; tests/peers/kubernetes gives Kubernetes itself and helm.
Everything lies in one folder and is gone in the end: processes, containers, mounts, the bridge, its rules.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import yaml
from deploy.api import Api, ApiError
from peers import build
from peers.processes import Program, free_port, until

if TYPE_CHECKING:
    from collections.abc import Iterator

NODE = "node-1"
_OURS = os.getpid()
BRIDGE, ADDRESS, SUBNET = f"otelbee-{_OURS}", f"10.88.{_OURS % 250}.1", f"10.88.{_OURS % 250}.0/24"
"""The pods' network. The node and the API server have its first address, so nothing listens for other machines."""
CGROUP = f"otelbee-test-{_OURS}"
"""All pods run below this cgroup, beside whatever else this machine runs."""
START_S = 120.0
TOKEN = "for-this-machine-alone"
PROGRAMS = {
    "etcd": "etcd-server",
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "conntrack": "conntrack",
    "iptables": "iptables",
    "openssl": "openssl",
}
FIXED_FOLDERS = tuple(map(Path, ("/var/lib/kubelet", "/var/log/containers", "/usr/libexec/kubernetes", "/var/lib/cni")))
"""What the kubelet and the plugins make whatever they are told; removed where this node made them."""
KERNEL = ("vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops")
"""Settings of the kernel that the kubelet changes; put back in the end."""
PLUGINS = Path("/usr/lib/cni")
"""Debian's containernetworking-plugins."""


class Node:
    """The cluster; a context manager."""

    def __init__(self, folder: Path, pause: str) -> None:
        """Keep everything in ``folder``; ``pause`` is the image that holds a pod's namespaces open."""
        self.folder = folder
        self._pause = pause
        self.kubeconfig = folder / "kubeconfig"
        self._socket = folder / "containerd.sock"
        self._port = free_port()
        self._programs: list[Program] = []
        self._namespaces = _network_namespaces()
        self._foreign = [path for path in FIXED_FOLDERS if path.exists()]
        self._kernel = {path: path.read_text() for path in (Path("/proc/sys", name) for name in KERNEL)}
        self.api = Api(ADDRESS, self._port, TOKEN)

    def __enter__(self) -> Self:
        """Start everything and wait until the node is ready."""
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop everything and leave nothing behind."""
        with contextlib.suppress(ApiError, OSError, TimeoutError):
            self._delete_pods()
        for program in reversed(self._programs):
            if program.running:
                program.stop()
        self._remove_traces()

    @property
    def access(self) -> dict[str, str]:
        """The environment in which a pod finds the API server: nothing here makes the Service's address work."""
        return {"KUBERNETES_SERVICE_HOST": ADDRESS, "KUBERNETES_SERVICE_PORT": str(self._port)}

    def load(self, image: str) -> None:
        """Hand an image of the Docker Engine to the node."""
        archive = self.folder / "image.tar"
        _run("docker", "save", "--output", archive, image)
        self.load_archive(archive)
        archive.unlink()

    def load_archive(self, archive: Path) -> None:
        """Hand images to the node as ``docker save`` packs them."""
        self._ctr("images", "import", archive)

    def helm(self, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run helm against this cluster."""
        return helm(*arguments, kubeconfig=self.kubeconfig, check=check)

    def _start(self) -> None:
        kubernetes, folder = build.kubernetes(), self.folder
        etcd, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        _run("openssl", "genrsa", "-out", folder / "service-accounts.key", "2048")
        (folder / "tokens.csv").write_text(f'{TOKEN},admin,1,"system:masters"\n')
        _run("ip", "link", "add", BRIDGE, "type", "bridge")
        _run("ip", "address", "add", f"{ADDRESS}/24", "dev", BRIDGE)
        _run("ip", "link", "set", BRIDGE, "up")
        for cgroup in _cgroups():
            cgroup.mkdir(exist_ok=True)
        self._write("kubeconfig", _kubeconfig(self._port))
        self._write("kubelet.yaml", _kubelet(folder, free_port()))
        self._write("cni/10-bridge.conflist", json.dumps(_network(folder)))
        self._write("containerd.toml", _containerd(folder, self._pause))
        etcd_options = [
            "--data-dir",
            folder / "etcd",
            "--listen-peer-urls",
            peer,
            "--initial-advertise-peer-urls",
            peer,
        ]
        etcd_options += ["--initial-cluster", f"default={peer}"]
        self._run("etcd", "etcd", *etcd_options, "--listen-client-urls", etcd, "--advertise-client-urls", etcd)
        self._run("containerd", "containerd", "--config", folder / "containerd.toml")
        key = folder / "service-accounts.key"
        self._run(
            "apiserver",
            kubernetes / "kube-apiserver",
            f"--etcd-servers={etcd}",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--service-account-issuer=https://kubernetes",
            "--service-cluster-ip-range=10.96.0.0/24",
            f"--cert-dir={folder / 'certificates'}",
            f"--secure-port={self._port}",
            f"--bind-address={ADDRESS}",
            f"--advertise-address={ADDRESS}",
            f"--token-auth-file={folder / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--allow-privileged=true",
            "--endpoint-reconciler-type=none",
            "--kubelet-preferred-address-types=InternalIP",
        )
        until(self._answers, "the API server is ready", START_S)
        client = f"--kubeconfig={self.kubeconfig}"
        self._run(
            "controller-manager",
            kubernetes / "kube-controller-manager",
            client,
            f"--service-account-private-key-file={key}",
            f"--root-ca-file={folder / 'certificates' / 'apiserver.crt'}",
            "--use-service-account-credentials",
            "--leader-elect=false",
            "--secure-port=0",
        )
        self._run("scheduler", kubernetes / "kube-scheduler", client, "--leader-elect=false", "--secure-port=0")
        until(self._socket.exists, "containerd listens", START_S)
        self._run(
            "kubelet",
            kubernetes / "kubelet",
            client,
            f"--config={folder / 'kubelet.yaml'}",
            f"--root-dir={folder / 'kubelet'}",
            f"--cert-dir={folder / 'kubelet' / 'pki'}",
            f"--hostname-override={NODE}",
            f"--node-ip={ADDRESS}",
        )
        until(self._is_ready, "the node is ready", START_S)

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    def _run(self, name: str, *command: str | Path) -> None:
        program = Program(name, command, self.folder)
        program.launch()
        self._programs.append(program)

    def _answers(self) -> bool:
        self._complain()
        try:
            return self.api.request("GET", "/readyz") == "ok"
        except (ApiError, OSError):
            return False

    def _is_ready(self) -> bool:
        self._complain()
        nodes = self.api.items("/api/v1/nodes")
        # A pod needs its namespace's service account, which the controller manager makes.
        return any(
            each["type"] == "Ready" and each["status"] == "True"
            for node in nodes
            for each in node["status"]["conditions"]
        ) and self.api.exists("/api/v1/namespaces/default/serviceaccounts/default")

    def _complain(self) -> None:
        for program in self._programs:
            assert program.running, f"{program.name} ended:\n{program.errors()[-3000:]}"

    def _ctr(self, *arguments: str | Path) -> str:
        return _run("ctr", "--address", self._socket, "--namespace", "k8s.io", *arguments)

    def _delete_pods(self) -> None:
        """Delete what runs by way of the kubelet, which takes down the network of each pod."""
        for kind in ("daemonsets", "deployments", "replicasets"):
            for each in self.api.items(f"/apis/apps/v1/{kind}"):
                self.api.request("DELETE", f"/apis/apps/v1/namespaces/{_name(each)[0]}/{kind}/{_name(each)[1]}")
        for each in self.api.items("/api/v1/pods"):
            namespace, name = _name(each)
            with contextlib.suppress(ApiError):  # its owner's end may have been faster
                self.api.request("DELETE", f"/api/v1/namespaces/{namespace}/pods/{name}", {"gracePeriodSeconds": 1})
        until(lambda: not self.api.items("/api/v1/pods"), "all pods are gone")
        until(lambda: _network_namespaces() <= self._namespaces, "their networks are gone")

    def _remove_traces(self) -> None:
        """Remove what outlives the processes, also where something went wrong before."""
        for pid in {*_processes_of(str(self._socket)), *_processes_in_cgroups()}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for point in sorted(_mounts_below(self.folder), reverse=True):
            subprocess.run(["umount", "--lazy", point], check=False, capture_output=True)
        for namespace in _network_namespaces() - self._namespaces:
            subprocess.run(["ip", "netns", "delete", namespace], check=False, capture_output=True)
        subprocess.run(["ip", "link", "delete", BRIDGE], check=False, capture_output=True)
        _remove_rules()
        for cgroup in _cgroups():
            _remove_cgroup(cgroup)
        for path, setting in self._kernel.items():
            with contextlib.suppress(OSError):
                path.write_text(setting)
        for path in (self.folder, *(path for path in FIXED_FOLDERS if path not in self._foreign)):
            shutil.rmtree(path, ignore_errors=True)


def helm(
    *arguments: str | Path, kubeconfig: Path | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run helm; its standard output and error, and nothing of the user's own settings."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HELM_", "KUBE"))}
    if kubeconfig is not None:
        environment["KUBECONFIG"] = str(kubeconfig)
    command = [build.kubernetes() / "helm", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=START_S * 2)
    if check:
        assert done.returncode == 0, f"helm {' '.join(map(str, arguments))}:\n{done.stdout}{done.stderr}"
    return done


def missing() -> set[str]:
    """The Debian packages that a node needs and this machine has not."""
    lacking = {package for program, package in PROGRAMS.items() if shutil.which(program) is None}
    return lacking if (PLUGINS / "bridge").exists() else lacking | {"containernetworking-plugins"}


def _kubeconfig(port: int) -> str:
    cluster = {"server": f"https://{ADDRESS}:{port}", "insecure-skip-tls-verify": True}
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "admin", "user": {"token": TOKEN}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
            "current-context": "test",
        }
    )


def _kubelet(folder: Path, port: int) -> str:
    return yaml.safe_dump(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "failCgroupV1": False,  # there are machines that still have it
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{CGROUP}",
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "containerRuntimeEndpoint": f"unix://{folder / 'containerd.sock'}",
            "failSwapOn": False,
            "enforceNodeAllocatable": [],
            "evictionHard": {"nodefs.available": "1%", "imagefs.available": "1%"},
            "address": ADDRESS,
            "port": port,
            "healthzPort": 0,
            "makeIPTablesUtilChains": False,
            "podLogsDir": str(folder / "pod-logs"),
        }
    )


def _network(folder: Path) -> dict[str, Any]:
    addresses = {
        "type": "host-local",
        "dataDir": str(folder / "addresses"),
        "ranges": [[{"subnet": SUBNET, "gateway": ADDRESS}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": BRIDGE, "isGateway": True, "ipMasq": True, "ipam": addresses}
    return {"cniVersion": "0.4.0", "name": BRIDGE, "plugins": [bridge]}


def _containerd(folder: Path, pause: str) -> str:
    return f"""
version = 2
root = "{folder}/containerd/root"
state = "{folder}/containerd/state"
[grpc]
  address = "{folder}/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/{pause}"
  # Without CAP_SYS_RESOURCE every sandbox would die otherwise: "can't get final child's PID from pipe: EOF".
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{PLUGINS}"
    conf_dir = "{folder}/cni"
"""


def _run(*command: str | Path) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stderr}"
    return done.stdout


def _processes_of(word: str) -> Iterator[int]:
    """Every process that has ``word`` among its arguments: containerd's shims name their containerd."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if word in path.read_bytes().decode(errors="replace").split("\0"):
                yield int(path.parent.name)


def _mounts_below(folder: Path) -> list[str]:
    points = [line.split(" ")[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [point for point in points if Path(point).is_relative_to(folder)]


def _name(manifest: dict[str, Any]) -> tuple[str, str]:
    return manifest["metadata"]["namespace"], manifest["metadata"]["name"]


def _network_namespaces() -> set[str]:
    """The named network namespaces; containerd makes one for each pod."""
    return {path.name for path in Path("/run/netns").glob("cni-*")}


def _cgroups() -> list[Path]:
    """The node's cgroup: one with version 2, one in each hierarchy with version 1."""
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists():
        return [root / CGROUP]
    return [path / CGROUP for path in root.iterdir() if path.is_dir() and (path / "cgroup.procs").exists()]


def _processes_in_cgroups() -> Iterator[int]:
    for cgroup in _cgroups():
        for path in cgroup.rglob("cgroup.procs"):
            with contextlib.suppress(OSError):
                yield from map(int, path.read_text().split())


def _remove_rules() -> None:
    """Remove what the plugins made for this network and did not remove themselves."""
    saved = subprocess.run(["iptables-save", "-t", "nat"], check=False, capture_output=True, text=True).stdout
    ours = [shlex.split(line) for line in saved.splitlines() if f'name: \\"{BRIDGE}\\"' in line]
    for rule in ours:
        subprocess.run(["iptables", "-t", "nat", "-D", *rule[1:]], check=False, capture_output=True)
    for chain in {rule[1] for rule in ours if rule[1].startswith("CNI-")}:
        subprocess.run(["iptables", "-t", "nat", "-X", chain], check=False, capture_output=True)


def _remove_cgroup(folder: Path) -> None:
    """Remove a cgroup and those below it; processes in it are gone by now, or about to be."""
    deadline = time.monotonic() + 5
    while folder.exists() and time.monotonic() < deadline:
        for path in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
            with contextlib.suppress(OSError):
                path.rmdir()
        with contextlib.suppress(OSError):
            folder.rmdir()
        time.sleep(0.05)
