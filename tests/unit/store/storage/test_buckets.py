"""What a URI and the environment lead to, and what an object store's answers mean; nothing is asked of a network."""

from pathlib import Path

import pytest

from modelops_ray.errors import UsageError
from modelops_ray.store.storage.buckets import bucket_of, connect
from modelops_ray.store.storage.places import inside, place_of
from modelops_ray.store.storage.refusals import explain, is_final

CONNECTION = "DefaultEndpointsProtocol=http;AccountName=me;AccountKey=a2V5==;BlobEndpoint=http://127.0.0.1:1/me;"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("runs/sir", Path("runs/sir")),
        (Path("s3:/odd"), Path("s3:/odd")),
        ("file:///data/a%20b", Path("/data/a b")),
        ("file://localhost/data", Path("/data")),
        ("s3://bucket/runs/sir/", "s3://bucket/runs/sir"),
        ("S3://bucket/a b%20c", "s3://bucket/a b%20c"),
        ("abfs://box@me.dfs.core.windows.net/run", "abfs://box@me.dfs.core.windows.net/run"),
    ],
)
def test_a_place_is_a_path_or_a_uri(text, place):
    """A URI of a file is a path; keys of objects are taken as they are written."""
    assert place == place_of(text)


def test_a_folder_in_a_place_is_a_place():
    """Of the same kind."""
    assert (Path("a/b/c"), "s3://x/a/b/c") == (inside(Path("a"), "b/c"), inside("s3://x/a", "b/c"))


@pytest.mark.parametrize(
    ("uri", "environ", "expected"),
    [
        ("s3://b/a/c", {}, ("s3", "b", {}, "a/c")),
        ("s3://b/a", {"AWS_ENDPOINT_URL": "http://h:1"}, ("s3", "b", {"endpoint": "http://h:1"}, "a")),
        (
            "s3://b/a",
            {"AWS_ENDPOINT_URL": "http://h:1", "AWS_ENDPOINT_URL_S3": "https://[::1]:2"},
            ("s3", "b", {"endpoint": "https://[::1]:2"}, "a"),
        ),
        ("gs://b/a", {"AWS_ENDPOINT_URL": "http://h:1"}, ("gs", "b", {}, "a")),
        ("az://b/a", {"AZURE_STORAGE_ACCOUNT": "me"}, ("az", "b", {"account_name": "me"}, "a")),
        (
            "abfs://b@you.dfs.core.windows.net/a",
            {"AZURE_STORAGE_ACCOUNT": "me"},
            ("az", "b", {"account_name": "you"}, "a"),
        ),
        (
            "az://b/a",
            {"AZURE_STORAGE_CONNECTION_STRING": CONNECTION, "AZURE_STORAGE_ACCOUNT": "other"},
            ("az", "b", {"account_name": "me", "account_key": "a2V5==", "endpoint": "http://127.0.0.1:1/me"}, "a"),
        ),
    ],
)
def test_the_environment_says_where_a_bucket_is(uri, environ, expected):
    """By the variables that the stores' own tools read; those that the client library knows are left to it."""
    bucket, folder = bucket_of(uri, environ)

    assert expected == (bucket.kind, bucket.name, dict(bucket.settings), folder)
    assert bucket.settings.get("endpoint", "").startswith("http:") == bucket.is_plain_http


@pytest.mark.parametrize("endpoint", ["nonsense", "ftp://host", "http://", "http://a b"])
def test_an_endpoint_that_is_no_url_is_wrong_usage(endpoint):
    """The client library would abort."""
    with pytest.raises(UsageError, match="which is no URL; write it as https://HOST or http://HOST:PORT"):
        bucket_of("s3://b/a", {"AWS_ENDPOINT_URL": endpoint})


def test_a_client_of_every_kind_can_be_made(monkeypatch):
    """GCS as well, which no test can reach."""
    for uri, environ in [("s3://b/a", {}), ("gs://b/a", {}), ("az://b/a", {"AZURE_STORAGE_ACCOUNT": "me"})]:
        assert connect(bucket_of(uri, environ)[0], retries=0, retry_s=1.0)


ASKED = "Generic S3 error: Error performing PUT http://127.0.0.1:9/b/a in 2ms"


def answered(status, code=""):
    """What the client library makes of an answer."""
    return f"{ASKED} - Server returned non-2xx status code: {status}: <Error><Code>{code}</Code></Error>"


@pytest.mark.parametrize(
    ("kind", "answer", "words"),
    [
        ("s3", answered("404 Not Found", "NoSuchBucket"), "there is no bucket b; create it"),
        ("az", answered("404 Not Found", "ContainerNotFound"), "there is no container b"),
        ("gs", "404: The specified bucket does not exist.", "there is no bucket b"),
        ("s3", answered("403 Forbidden", "AccessDenied"), "access denied (AccessDenied); check AWS"),
        ("s3", answered("403 Forbidden"), "access denied (403); check AWS_ACCESS_KEY_ID"),
        ("gs", answered("401 Unauthorized"), "check GOOGLE_APPLICATION_CREDENTIALS, and that"),
        ("s3", answered("301 Moved", "PermanentRedirect"), "another region; set AWS_REGION"),
        ("s3", "Error performing GET http://169.254.169.254/latest - HTTP error: x", "no credentials were found; set"),
        ("az", ASKED + " - HTTP error: error sending request", "http://127.0.0.1:9 cannot be reached; check"),
        ("s3", answered("503 Slow Down", "SlowDown"), "the object store answered 503 SlowDown; start"),
        ("az", "Generic MicrosoftAzure error: No account\n\nDebug source:", "No account; check AZURE_STORAGE_C"),
    ],
)
def test_an_answer_is_told_in_one_line_with_what_to_do(kind, answer, words):
    """In the words and with the variables of that kind of store."""
    text = explain(answer, kind, "b")

    assert words in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("answer", "final"),
    [
        (answered("403 Forbidden", "AccessDenied"), True),
        (answered("404 Not Found", "NoSuchBucket"), True),
        (answered("500 Internal", "InternalError"), False),
        (answered("409 Conflict", "ConditionalRequestConflict"), False),
        (ASKED + " - HTTP error: timed out", False),
    ],
)
def test_only_a_refusal_settles_that_nothing_was_written(answer, final):
    """After a time-out the object may be there."""
    assert final == is_final(answer)
