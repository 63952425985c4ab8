"""TLS for listeners, with the Collector's own keys (configtls), and certificates that are replaced while they listen."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import grpc
from pydantic import field_validator

from receiver.errors import StartError
from receiver.fields import Section
from receiver.net.files import Watch
from receiver.net.tls import check_authorities, check_pair, read_file

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger(__name__)


class ServerTLS(Section):
    """How a listener secures its connections; the keys are those of the Collector's ``tls`` section."""

    cert_file: Path
    """PEM file of the server's certificate chain."""
    key_file: Path
    """PEM file of its private key."""
    client_ca_file: Path | None = None
    """PEM file of the authorities that must have signed a client's certificate; unset: clients need none."""
    min_version: Literal["1.2", "1.3"] = "1.2"
    """The oldest version of TLS that is spoken."""

    @field_validator("min_version", mode="before")
    @classmethod
    def _version_is_text(cls, value: object) -> object:
        if str(value) in {"1.0", "1.1"}:
            raise ValueError("TLS below 1.2 is not spoken; leave this out")
        return str(value)


class GrpcServerTLS(ServerTLS):
    """The same for gRPC."""

    min_version: Literal["1.2"] = "1.2"
    """Only ``1.2``: gRPC for Python negotiates 1.2 or 1.3 and cannot be told."""

    @field_validator("min_version", mode="before")
    @classmethod
    def _version_is_grpcs(cls, value: object) -> object:
        if str(value) == "1.3":
            raise ValueError("gRPC for Python cannot refuse TLS 1.2; leave this out, or use the http protocol for it")
        return value


class Certificates:
    """The files of a listener. A change that cannot be used is logged once, and the listener keeps what it had."""

    def __init__(self, config: ServerTLS) -> None:
        """Read the files.

        Raises:
            StartError: A file is missing, unreadable, not PEM, or the key is not the certificate's.
        """
        self._config = config
        files = (config.cert_file, config.key_file, config.client_ca_file)
        self._watch = Watch([path for path in files if path is not None])
        self._context = self._build_context()

    def context(self) -> ssl.SSLContext:
        """What the next connection is secured with, as asyncio takes it."""
        self._if_changed(self._set_context)
        return self._context

    def credentials(self) -> grpc.ServerCredentials:
        """The same as gRPC takes it; it asks again before every handshake, in a thread of its own."""
        fetch: Any = self._fetch  # its None, for no change, is missing in the stubs
        return grpc.dynamic_ssl_server_credentials(
            self._grpc_configuration(),
            fetch,
            require_client_authentication=self._config.client_ca_file is not None,
        )

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        new: list[grpc.ServerCertificateConfiguration] = []
        self._if_changed(lambda: new.append(self._grpc_configuration()))
        return new[0] if new else None

    def _if_changed(self, take: Callable[[], None]) -> None:
        if not self._watch.changed():
            return
        try:
            take()
        except (StartError, OSError, ssl.SSLError) as error:
            _log.warning("New certificates cannot be used, those before are kept: %s", error)
        else:
            _log.info("The certificate %s was read anew", self._config.cert_file)

    def _set_context(self) -> None:
        self._context = self._build_context()

    def _build_context(self) -> ssl.SSLContext:
        config = self._config
        self._grpc_configuration()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3 if config.min_version == "1.3" else ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        context.load_cert_chain(config.cert_file, config.key_file)
        if config.client_ca_file is not None:
            context.load_verify_locations(config.client_ca_file)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _grpc_configuration(self) -> grpc.ServerCertificateConfiguration:
        config = self._config
        certificate, key = read_file("cert_file", config.cert_file), read_file("key_file", config.key_file)
        check_pair(config.cert_file, config.key_file)
        authorities = None
        if config.client_ca_file is not None:
            authorities = read_file("client_ca_file", config.client_ca_file)
            check_authorities("client_ca_file", config.client_ca_file, authorities)
        return grpc.ssl_server_certificate_configuration([(key, certificate)], authorities)
