"""The little of the Kubernetes API that the tests need; there is no kubectl."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import urllib.parse
from typing import Any

from peers.processes import until

DEADLINE_S = 120.0


class ApiError(Exception):
    """The API server refused; the text is its own."""

    def __init__(self, status: int, text: str) -> None:
        """Keep its HTTP status."""
        super().__init__(f"{status}: {text}")
        self.status = status


class Api:
    """The little of the API server's interface that the tests need."""

    def __init__(self, host: str, port: int, token: str) -> None:
        """Talk to a server, as the user of a token."""
        self._host, self._port, self._token = host, port, token
        self._tls = ssl.create_default_context()
        self._tls.check_hostname, self._tls.verify_mode = False, ssl.CERT_NONE

    def request(self, method: str, path: str, body: object = None, content: str = "application/json") -> str:
        """Send one request; the body of the answer.

        Raises:
            ApiError: the server refused.
            OSError: it does not answer.
        """
        connection = http.client.HTTPSConnection(self._host, self._port, context=self._tls, timeout=30)
        with contextlib.closing(connection):
            headers = {"Authorization": f"Bearer {self._token}", "Content-Type": content}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            text = response.read().decode()
        if response.status >= http.client.BAD_REQUEST:
            with contextlib.suppress(ValueError, KeyError):
                text = json.loads(text)["message"]
            raise ApiError(response.status, text)
        return text

    def get(self, path: str) -> Any:
        """An object, or a list of them."""
        return json.loads(self.request("GET", path))

    def items(self, path: str, selector: str = "") -> list[Any]:
        """The objects of a list; ``selector`` picks by labels."""
        query = f"?labelSelector={urllib.parse.quote(selector)}" if selector else ""
        found: list[Any] = self.get(path + query)["items"]
        return found

    def exists(self, path: str) -> bool:
        """Whether there is such an object."""
        try:
            self.request("GET", path)
        except ApiError as error:
            if error.status == http.client.NOT_FOUND:
                return False
            raise
        return True

    def apply(self, manifest: dict[str, Any]) -> None:
        """Make or change an object, as ``kubectl apply --server-side`` does."""
        version, metadata = manifest["apiVersion"], manifest["metadata"]
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        namespace = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
        path = f"{root}{namespace}/{manifest['kind'].lower()}s/{metadata['name']}?fieldManager=tests&force=true"
        self.request("PATCH", path, manifest, "application/apply-patch+yaml")

    def delete(self, path: str) -> None:
        """Delete an object and what it owns; wait until it is gone."""
        with contextlib.suppress(ApiError):
            self.request("DELETE", path, {"propagationPolicy": "Foreground"})
        until(lambda: not self.exists(path), f"{path} is gone", DEADLINE_S)

    def pods(self, namespace: str, selector: str = "") -> list[Any]:
        """The pods of a namespace that are not on their way out."""
        found = self.items(f"/api/v1/namespaces/{namespace}/pods", selector)
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def ready_pod(self, namespace: str, selector: str = "", deadline_s: float = DEADLINE_S) -> Any:
        """Wait until there is exactly one such pod, and it is ready; the pod."""

        def ready() -> Any:
            pods = self.items(f"/api/v1/namespaces/{namespace}/pods", selector)
            if len(pods) != 1 or "deletionTimestamp" in pods[0]["metadata"]:
                return None
            conditions = {each["type"]: each["status"] for each in pods[0]["status"].get("conditions", [])}
            return pods[0] if conditions.get("Ready") == "True" else None

        try:
            return until(ready, f"a pod {selector} in {namespace} is ready", deadline_s)
        except TimeoutError as error:
            error.add_note(self.story(namespace))
            raise

    def log(self, namespace: str, pod: str, container: str) -> str:
        """What a container wrote."""
        return self.request("GET", f"/api/v1/namespaces/{namespace}/pods/{pod}/log?container={container}")

    def story(self, namespace: str) -> str:
        """What happened in a namespace, for the message of a test that failed."""
        lines = [
            f"{each['involvedObject']['name']}: {each['message']}"
            for each in self.items(f"/api/v1/namespaces/{namespace}/events")
        ]
        for pod in self.items(f"/api/v1/namespaces/{namespace}/pods"):
            lines.append(f"{pod['metadata']['name']}: {json.dumps(pod['status'].get('containerStatuses', []))}")
            for container in pod["spec"]["containers"]:
                with contextlib.suppress(ApiError):
                    lines.append(self.log(namespace, pod["metadata"]["name"], container["name"])[-3000:])
        return "\n".join(lines)[-12000:]
