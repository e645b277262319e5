"""Models that the tests of this folder read, and an S3 server."""

from moto_s3 import aws, bucket, connect, moto_url
from tiny_models import bert, llama

__all__ = ["aws", "bert", "bucket", "connect", "llama", "moto_url"]
