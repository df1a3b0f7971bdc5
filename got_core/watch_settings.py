"""Settings of who watches the line: alerts to a webhook, metrics for Prometheus.

Belongs here: ``GOT_ALERT_*`` and ``GOT_METRICS_*``. Not here: settings of servers that models stand behind
(`got_core.server_settings`), all others (`got_core.settings`).
"""

from __future__ import annotations

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from got_core.alerts.webhook import check_webhook


class AlertSettings(BaseSettings):
    """Where alerts go, and from when on something is one."""

    model_config = SettingsConfigDict(
        env_prefix="GOT_ALERT_",
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    webhook: SecretStr | None = None
    """URL that alerts are posted to as JSON. Not set: there are none."""

    stuck_runs: int = Field(default=3, ge=1)
    """A shard is stuck after this many failed runs of the last week that were to make the same."""

    budget_share: float = Field(default=0.9, gt=0, le=1)
    """Share of the budget of the day from which on it is spoken of."""

    disk_gb: float = Field(default=10.0, ge=0)
    """Free GB (1e9 bytes) of a local disk below which it is spoken of."""

    repeat_hours: float = Field(default=24.0, gt=0)
    """Hours after which an alert is sent again that is not over."""

    @field_validator("webhook")
    @classmethod
    def _usable(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            check_webhook(value)
        return value


class MetricsSettings(BaseSettings):
    """How `got metrics` listens."""

    model_config = SettingsConfigDict(
        env_prefix="GOT_METRICS_",
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    host: str = "127.0.0.1"
    """Address to listen at; any but a loopback one needs a token."""

    port: int = Field(default=9464, ge=0, le=65535)
    """0: a free one."""

    token: SecretStr | None = None
    """What Prometheus has to send as a bearer token."""

    every: float = Field(default=60.0, ge=1)
    """Seconds between two looks at the line."""
