"""A certificate that the server has made for itself, for HTTPS in a local network."""

import datetime
import ipaddress
import os
import secrets
from collections.abc import Collection
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from emotion_jax.files import reported

DAYS = 365
RENEWED = datetime.timedelta(days=7)  # before its end


def ensure(folder: Path, names: Collection[str]) -> Path:
    """A file with a private key and a certificate for it, made where there is none that will do.

    It is kept, so that a browser that was told to accept it does so after a restart.

    Args:
      folder: where it is kept, readable by its owner only.
      names: DNS names and IP addresses of the server.

    Raises:
      UserError: the folder cannot be written.
    """
    path = folder / "certificate.pem"
    with reported(path):
        folder.mkdir(parents=True, exist_ok=True)
        if not _will_do(path, names):
            _write_private(path, _make(names))
    return path


def fingerprint(path: Path) -> str:
    """SHA-256 of the certificate as browsers show it: pairs of hexadecimal digits."""
    return _read(path).fingerprint(hashes.SHA256()).hex(":").upper()


def _read(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def _will_do(path: Path, names: Collection[str]) -> bool:
    try:
        certificate = _read(path)
    except (FileNotFoundError, ValueError):
        return False
    now = datetime.datetime.now(datetime.UTC)
    alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    covered = {str(name.value) for name in alternatives.value}
    return certificate.not_valid_after_utc - RENEWED > now and covered >= set(names)


def _make(names: Collection[str]) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "emotion_jax on this machine")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))  # clocks differ
        .not_valid_after(now + datetime.timedelta(days=DAYS))
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return private + certificate.public_bytes(serialization.Encoding.PEM)


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write_private(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
