"""TLS for outgoing connections, with the Collector's own keys (configtls)."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Literal, Self

import grpc
from pydantic import field_validator, model_validator

from receiver.errors import StartError
from receiver.fields import Section


class ClientTLS(Section):
    """How a client secures its connection; the keys are those of the Collector's ``tls`` section."""

    insecure: bool = False
    """Plain text instead of TLS."""
    ca_file: Path | None = None
    """PEM file of the authorities that may have signed the server's certificate; the system's own when unset."""
    cert_file: Path | None = None
    """PEM file of the client's certificate chain, for mutual TLS."""
    key_file: Path | None = None
    """PEM file of the private key of ``cert_file``."""
    server_name_override: str = ""
    """The name that the server's certificate must carry, where it is not the endpoint's host."""
    insecure_skip_verify: bool = False
    """Only ``false``: gRPC for Python always verifies."""
    min_version: Literal["1.2"] = "1.2"
    """Only ``1.2``: gRPC for Python negotiates 1.2 or 1.3 and cannot be told."""

    @field_validator("insecure_skip_verify")
    @classmethod
    def _always_verified(cls, value: bool) -> bool:  # noqa: FBT001 - pydantic's signature
        if value:
            raise ValueError(
                "gRPC for Python cannot skip the verification of a certificate; name its authority in ca_file and, "
                "where the certificate carries another name, that name in server_name_override"
            )
        return value

    @field_validator("min_version", mode="before")
    @classmethod
    def _version_is_grpcs(cls, value: object) -> object:
        text = str(value)
        if text == "1.3":
            raise ValueError("gRPC for Python cannot refuse TLS 1.2; set the minimum on the server and leave this out")
        if text in {"1.0", "1.1"}:
            raise ValueError("gRPC for Python never speaks TLS below 1.2; leave this out")
        return text

    @model_validator(mode="after")
    def _certificate_has_key(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            missing, given = ("key_file", "cert_file") if self.key_file is None else ("cert_file", "key_file")
            raise ValueError(f"{given} needs {missing} as well: mutual TLS takes a certificate and its private key")
        return self

    @model_validator(mode="after")
    def _files_have_a_use(self) -> Self:
        if self.insecure and self.names_files:
            raise ValueError(
                "insecure: true means plain text, where ca_file and cert_file have no use; remove one of them"
            )
        return self

    @property
    def names_files(self) -> bool:
        """Whether a file is named, which has a meaning only with TLS."""
        return self.ca_file is not None or self.cert_file is not None

    def under(self, scheme_is_secure: bool | None) -> Self:  # noqa: FBT001 - three answers, not a switch
        """These settings where an endpoint's scheme says TLS (True), plain text (False) or nothing (None)."""
        return self if scheme_is_secure is None else self.model_copy(update={"insecure": not scheme_is_secure})

    def credentials(self) -> grpc.ChannelCredentials | None:
        """Read the files and return what gRPC takes; None for plain text.

        The files are read at every call, so that a connection made after a rotation has the new ones.

        Raises:
            StartError: A file is missing, unreadable, not PEM, or the key is not the certificate's.
        """
        if self.insecure:
            return None
        authorities = self._authorities()
        if self.cert_file is None or self.key_file is None:
            return grpc.ssl_channel_credentials(authorities)
        certificate, key = read_file("cert_file", self.cert_file), read_file("key_file", self.key_file)
        check_pair(self.cert_file, self.key_file)
        return grpc.ssl_channel_credentials(authorities, key, certificate)

    def context(self) -> ssl.SSLContext | None:
        """Read the files and return what asyncio takes, which accepts what gRPC accepts; None for plain text.

        Raises:
            StartError: As :meth:`credentials`.
        """
        if self.insecure:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # As gRPC's core: ca_file may name an intermediate authority without the one above it.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if (authorities := self._authorities()) is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(cadata=authorities.decode("ascii"))
        if self.cert_file is not None and self.key_file is not None:
            for option, path in (("cert_file", self.cert_file), ("key_file", self.key_file)):
                read_file(option, path)
            load_pair(context, self.cert_file, self.key_file)
        return context

    def _authorities(self) -> bytes | None:
        if self.ca_file is None:
            return None
        authorities = read_file("ca_file", self.ca_file)
        check_authorities("ca_file", self.ca_file, authorities)
        return authorities


def read_file(option: str, path: Path) -> bytes:
    """Read the file that ``tls.<option>`` names; raises ``StartError`` with the remedy."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise StartError(f"tls.{option}: {path} does not exist; correct the path or mount the file there") from None
    except PermissionError:
        raise StartError(
            f"tls.{option}: {path} may not be read by this user; give its group read permission and otelbee that group"
        ) from None
    except OSError as error:
        raise StartError(f"tls.{option}: {path} cannot be read: {error.strerror}") from None


def check_authorities(option: str, path: Path, content: bytes) -> None:
    """Raise ``StartError`` where a file's content is no certificate in PEM form."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=content.decode("ascii"))
    except (ssl.SSLError, UnicodeDecodeError, ValueError):
        raise StartError(
            f"tls.{option}: {path} has no certificate in PEM form (-----BEGIN CERTIFICATE-----); convert it to PEM"
        ) from None


def check_pair(certificate: Path, key: Path) -> None:
    """Raise ``StartError`` where two files are not a certificate and its private key."""
    load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), certificate, key)


def load_pair(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Give ``context`` a certificate and its private key; raises ``StartError`` where the files are not that."""
    try:
        # A password that is asked for means an encrypted key, which gRPC cannot take; without the callback OpenSSL
        # would ask on the terminal.
        context.load_cert_chain(certificate, key, password=_encrypted)
    except _EncryptedKeyError:
        raise StartError(
            f"tls.key_file: {key} is encrypted, which gRPC cannot read; write it without a password"
        ) from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise StartError(
                f"tls.key_file: {key} is not the private key of the certificate in tls.cert_file {certificate}; "
                "name the pair that was issued together"
            ) from None
        raise StartError(
            f"tls.cert_file {certificate} and tls.key_file {key} are not a PEM pair: {error.reason}"
        ) from None


class _EncryptedKeyError(Exception):
    """OpenSSL asked for a password."""


def _encrypted() -> str:
    raise _EncryptedKeyError
