from __future__ import annotations

from moto_s3 import aws, bucket, connect, moto_url

__all__ = ["aws", "bucket", "connect", "moto_url"]
