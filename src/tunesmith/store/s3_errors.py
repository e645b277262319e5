"""What an S3 client's exceptions mean: what may pass, what the user can mend, and what to check.

No message repeats what the server or the client said of credentials.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from tunesmith.errors import TunesmithError, UserError
from tunesmith.store.s3 import S3Config

TRANSIENT_CODES = {
    "BadDigest",
    "ConditionalRequestConflict",
    "IncompleteBody",
    "InternalError",
    "OperationAborted",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "XAmzContentSHA256Mismatch",
}
REGION_CODES = {
    "AuthorizationHeaderMalformed",
    "AuthorizationQueryParametersError",
    "IllegalLocationConstraintException",
    "PermanentRedirect",
    "TemporaryRedirect",
    "301",
    "307",
}
SECRET_CODES = {"SignatureDoesNotMatch", "InvalidAccessKeyId"}
TOKEN_CODES = {"ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired"}

TRANSIENT = (
    boto.ConnectionError,
    boto.HTTPClientError,  # reading, sending
    boto.IncompleteReadError,
    ResponseParserError,
    aiohttp.ClientError,
    OSError,  # connection reset; TimeoutError is one too
)


class AbsentObject(Exception):
    """There is no object of this name."""


class ChangedObject(Exception):
    """The object is no longer what the request's condition says."""


class UnknownCondition(Exception):
    """The server does not know conditional writes."""


class TruncatedBody(OSError):
    """A body ended before it was complete."""


class DamagedObject(TunesmithError):
    """An object's bytes are not the ones that were written; the message says which."""


@dataclass(frozen=True)
class Place:
    """Where a request went, and as whom.

    Attributes:
        uri: The object or the bucket.
        config: The server as configured.
        endpoint: The server as used; empty before it is known.
        mistake: The class of errors that the user can mend.
    """

    uri: str
    config: S3Config
    endpoint: str
    mistake: type[UserError]

    @property
    def server(self) -> str:
        """The server, without anything secret in its address."""
        parts = urlsplit(self.endpoint or self.config.endpoint_url or "https://s3.amazonaws.com")
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{parts.hostname}{port}"

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return self.uri.removeprefix("s3://").partition("/")[0]

    @property
    def identity(self) -> str:
        """Where the credentials come from."""
        if self.config.profile:
            return f"the profile {self.config.profile!r} in ~/.aws"
        return "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE)"

    def mistaken(self, text: str) -> UserError:
        """The error that says what the user has to change."""
        return self.mistake(f"{self.uri}: {text}")


def explain(error: Exception, place: Place) -> Exception | None:
    """What to raise for an exception of a request; None where it may pass and the request be repeated."""
    if isinstance(error, boto.ClientError):
        return _explain_answer(error, place)
    if isinstance(error, boto.SSLError):
        return place.mistaken(f"{place.server}: no secure connection; check s3.endpoint_url and AWS_CA_BUNDLE")
    if isinstance(error, TRANSIENT):
        return None
    if isinstance(error, boto.ProfileNotFound):
        return place.mistaken(f"there is no profile {place.config.profile!r} in ~/.aws; check s3.profile")
    if isinstance(error, (boto.NoCredentialsError, boto.PartialCredentialsError)):
        return place.mistaken(
            f"no credentials for {place.server}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "or name a profile of ~/.aws in s3.profile"
        )
    if isinstance(error, (boto.CredentialRetrievalError, boto.TokenRetrievalError, boto.UnauthorizedSSOTokenError)):
        return place.mistaken(f"no credentials could be got; check {place.identity}")
    if isinstance(error, boto.ParamValidationError):
        return place.mistaken(f"{place.bucket!r} cannot be a bucket, or the key is too long; check the uri")
    if isinstance(error, boto.InvalidRegionError):
        return place.mistaken(f"{place.config.region!r} cannot be a region; check s3.region")
    if isinstance(error, (boto.BotoCoreError, ValueError)):
        return place.mistaken(f"{place.server} cannot be used ({type(error).__name__}); check s3.endpoint_url")
    return error


def _explain_answer(error: boto.ClientError, place: Place) -> Exception | None:
    details = error.response.get("Error", {})
    code = str(details.get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in TRANSIENT_CODES or status == 429 or (status >= 500 and status != 501):
        return None
    if code == "NoSuchBucket":
        return place.mistaken(f"there is no bucket {place.bucket!r} at {place.server}; check its name and the endpoint")
    if code in REGION_CODES or status in (301, 307):
        return _explain_region(error, place)
    if status == 404:
        return AbsentObject(place.uri)
    if status in (412, 416):
        return ChangedObject(place.uri)
    if status == 501 or code == "NotImplemented":
        return UnknownCondition(place.uri)
    if status in (401, 403) or code in SECRET_CODES | TOKEN_CODES:
        return _explain_refusal(code, place)
    return place.mistaken(f"{place.server} refuses the request: {code or status} {details.get('Message', '')}".strip())


def _explain_region(error: boto.ClientError, place: Place) -> UserError:
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    region = error.response.get("Error", {}).get("Region") or headers.get("x-amz-bucket-region")
    ours = f"{place.config.region!r}" if place.config.region else "the default one"
    there = f"it is in {region!r}: set s3.region" if region else "set s3.region to the bucket's, and check the endpoint"
    return place.mistaken(f"{place.server} does not serve bucket {place.bucket!r} under region {ours}; {there}")


def _explain_refusal(code: str, place: Place) -> UserError:
    reasons = {
        "SignatureDoesNotMatch": "the access key or the secret key is wrong",
        "InvalidAccessKeyId": "the access key is not known there",
        "RequestTimeTooSkewed": "this machine's clock is wrong",
        **dict.fromkeys(TOKEN_CODES, "the session token has expired or is wrong"),
    }
    reason = reasons.get(code, "the credentials are wrong, or may not do this")
    return place.mistaken(
        f"{place.server} refuses us ({code if code and not code.isdigit() else 'Forbidden'}): {reason}; "
        f"check {place.identity}, the endpoint, and what they may do in bucket {place.bucket!r}"
    )
