"""What an object store answered, in one line that says what to do about it.

Owns the words only: no request is made here, and nothing is decided but whether a refused write may still happen.
"""

from __future__ import annotations

import re

_STATUS = re.compile(r"status code: (\d{3})\b")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_SERVER = re.compile(r"performing [A-Z]+ (https?://[^/\s?]+)")
_METADATA = re.compile(r"https?://(169\.254\.169\.254|metadata\.google\.internal)\b")
_NO_BUCKET = {"NoSuchBucket", "ContainerNotFound", "InvalidBucketName", "InvalidResourceName", "ContainerBeingDeleted"}
_REFUSED = {400, 401, 403, 404, 405}
_NOTHING_LOST = "nothing committed is lost"

CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, where there is one, AWS_SESSION_TOKEN",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
ENDPOINT = {"s3": "AWS_ENDPOINT_URL and AWS_REGION", "gs": "the network", "az": "the network and the account's name"}
BUCKET = {"s3": "bucket", "gs": "bucket", "az": "container"}


def explain(answer: str, kind: str, bucket: str) -> str:
    """Say what went wrong and what to do, by the client library's `answer`; `kind` is s3, gs or az."""
    code = _found(_CODE, answer)
    status = _found(_STATUS, answer)
    if code in _NO_BUCKET or "specified bucket does not exist" in answer:
        return f"there is no {BUCKET[kind]} {bucket}; create it, or give the URI of another one"
    if _METADATA.search(answer):
        return f"no credentials were found; set {CREDENTIALS[kind]}"
    if status in {"401", "403"}:
        return (
            f"access denied ({code or status}); check {CREDENTIALS[kind]}, and that they may read, write, list and "
            f"delete there, {_NOTHING_LOST}"
        )
    if status in {"301", "307"} or "redirect" in answer:
        return f"the {BUCKET[kind]} is in another region; set AWS_REGION to the one it is in"
    if status is None and "HTTP error" not in answer:
        return f"{_first_line(answer)}; check {CREDENTIALS[kind]}"
    if status is None:
        server = _found(_SERVER, answer) or "the object store"
        return f"{server} cannot be reached; check {ENDPOINT[kind]}, and start again, {_NOTHING_LOST}"
    return f"the object store answered {status} {code or ''}".rstrip() + f"; start again later, {_NOTHING_LOST}"


def _first_line(answer: str) -> str:
    """The client library's own words without what it says to its developers."""
    return answer.partition("\n")[0].rpartition(" error: ")[2].rstrip(" .")


def is_final(answer: str) -> bool:
    """Whether the store itself refused, so that what was asked did not happen and will not."""
    status = _found(_STATUS, answer)
    return status is not None and int(status) in _REFUSED


def _found(pattern: re.Pattern[str], answer: str) -> str | None:
    match = pattern.search(answer)
    return None if match is None else match[1]
