"""What the launcher and its extension know: one state folder, one port, one region."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ACCOUNT_ID = "000000000000"
# MiniStack's root principal: it may do everything, and its signature is not checked.
ADMINISTRATOR_KEY = "test"


@dataclass(frozen=True)
class Settings:
    """An emulator's settings. Everything it writes is below `state_dir`."""

    state_dir: Path
    port: int
    region: str
    autosave_seconds: float = 10.0
    records_decisions: bool = False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Read the settings that `Settings.environment` or the user wrote; a missing name is a `KeyError`."""
        return cls(
            state_dir=Path(environment["TARN_STATE_DIR"]),
            port=int(environment["GATEWAY_PORT"]),
            region=environment["MINISTACK_REGION"],
            autosave_seconds=float(environment.get("TARN_AUTOSAVE_SECONDS", cls.autosave_seconds)),
            records_decisions="TARN_RECORD_DECISIONS" in environment,
        )

    def environment(self) -> dict[str, str]:
        """MiniStack's own variables for these settings.

        `AUTH` turns on its IAM evaluator and `USE_SSL` its TLS (without TLS, policies with
        `aws:SecureTransport` deny everything). It listens on loopback only, and the listeners
        that nothing here needs (MQTT, SFTP) stay off.
        """
        return {
            "TARN_STATE_DIR": str(self.state_dir),
            "TARN_AUTOSAVE_SECONDS": str(self.autosave_seconds),
            "GATEWAY_PORT": str(self.port),
            "BIND_HOST": "127.0.0.1",
            "MINISTACK_HOST": "127.0.0.1",
            "MINISTACK_REGION": self.region,
            "MINISTACK_ACCOUNT_ID": ACCOUNT_ID,
            "AUTH": "true",
            "USE_SSL": "1",
            "MINISTACK_SSL_CERT": str(self.certificate),
            "MINISTACK_SSL_KEY": str(self.certificate_key),
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            "PERSIST_STATE": "1",
            "STATE_DIR": str(self.state_dir / "services"),
            "S3_PERSIST": "1",
            "S3_DATA_DIR": str(self.objects_dir),
        }

    @property
    def endpoint_url(self) -> str:
        """The address of every service."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def certificate(self) -> Path:
        """The server's certificate, which is all that an AWS client has to trust."""
        return self.state_dir / "tls" / "server.crt"

    @property
    def certificate_key(self) -> Path:
        """The server's private key."""
        return self.state_dir / "tls" / "server.key"

    @property
    def ca_bundle(self) -> Path:
        """The machine's roots and the server's certificate: what functions and jobs trust."""
        return self.state_dir / "tls" / "ca-bundle.pem"

    @property
    def temp_dir(self) -> Path:
        """TMPDIR of the launcher and all that it starts; emptied at each start."""
        return self.state_dir / "tmp"

    @property
    def objects_dir(self) -> Path:
        """Where the objects of S3 are."""
        return self.state_dir / "s3"

    @property
    def decisions_path(self) -> Path:
        """What roles asked for, if it is recorded: a question a line."""
        return self.state_dir / "decisions.jsonl"

    @property
    def log_path(self) -> Path:
        """The launcher's log."""
        return self.state_dir / "emulator.log"
