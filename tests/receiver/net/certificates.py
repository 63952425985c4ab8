"""Certificates for tests, made by the ``openssl`` command."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path


class Pair(NamedTuple):
    """Files of a certificate and its private key, in PEM."""

    cert_file: Path
    key_file: Path


class Authority:
    """A certificate authority in a folder."""

    def __init__(self, folder: Path) -> None:
        """Make the authority's own key and certificate."""
        self._folder = folder
        self.ca_file = folder / "ca.pem"
        self._key = folder / "ca.key"
        self._run(
            f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test-ca "
            f"-keyout {self._key} -out {self.ca_file}"
        )

    def issue(self, name: str, *, days: int = 2) -> Pair:
        """Issue a certificate for one DNS name, which may be a wildcard; with negative ``days`` it has expired."""
        stem = name.replace("*", "any")
        pair = Pair(self._folder / f"{stem}.pem", self._folder / f"{stem}.key")
        extension = self._folder / f"{stem}.ext"
        extension.write_text(f"subjectAltName=DNS:{name}\n")
        request = self._folder / f"{stem}.csr"
        self._run(
            f"req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=test "
            f"-keyout {pair.key_file} -out {request}"
        )
        self._run(
            f"x509 -req -in {request} -CA {self.ca_file} -CAkey {self._key} -CAcreateserial -days {days} "
            f"-extfile {extension} -out {pair.cert_file}"
        )
        return pair

    @staticmethod
    def _run(arguments: str) -> None:
        subprocess.run(["openssl", *arguments.split()], check=True, capture_output=True)
