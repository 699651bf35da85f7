"""The emulator's TLS certificate, and the bundle by which functions and jobs trust it.

Our own instead of MiniStack's: known before the start, so that its path can go into the
environment of every client, and without the `openssl` command.
"""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tarn.local.settings import Settings

VALID_DAYS = 825
RENEW_BEFORE = timedelta(days=30)


def ensure(settings: Settings) -> None:
    """Make certificate, key and bundle, unless they are there and will be valid for a while."""
    settings.certificate.parent.mkdir(parents=True, exist_ok=True)
    if not _still_valid(settings.certificate) or not settings.certificate_key.exists():
        _create(settings.certificate, settings.certificate_key)
    roots = ssl.get_default_verify_paths().cafile
    known = Path(roots).read_text() if roots else ""
    settings.ca_bundle.write_text(f"{known}\n{settings.certificate.read_text()}")


def _still_valid(certificate: Path) -> bool:
    if not certificate.exists():
        return False
    loaded = x509.load_pem_x509_certificate(certificate.read_bytes())
    return loaded.not_valid_after_utc - datetime.now(UTC) > RENEW_BEFORE


def _create(certificate: Path, key_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tarn local emulator")])
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
    key_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=VALID_DAYS))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(key_id, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_id), critical=False)
        .sign(key, hashes.SHA256())
    )
    key_path.touch(mode=0o600)
    key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
