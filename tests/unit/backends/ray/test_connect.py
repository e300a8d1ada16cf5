"""Who is asked whether a Ray is there, and what is made of the answer."""

from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from modelops_ray.backends.ray.connect import connect, would_start
from modelops_ray.errors import BackendError


class Refusing(grpc.GenericRpcHandler):
    """Answers every question with a refusal."""

    def service(self, _details):
        """Handle a call."""
        why = "WrongClusterID: another cluster"
        return grpc.unary_unary_rpc_method_handler(
            lambda _request, context: context.abort(grpc.StatusCode.UNAUTHENTICATED, why)
        )


def test_a_refusal_for_another_reason_than_a_token_says_that_reason():
    """A token would not help."""
    server = grpc.server(ThreadPoolExecutor(1), handlers=[Refusing()])
    # Ray turns 127.0.0.1 into the address of this machine.
    port = server.add_insecure_port("0.0.0.0:0")
    server.start()
    refusal = rf"what answers at .*:{port} refuses \(WrongClusterID: another cluster\); is it the GCS port\?"
    with pytest.raises(BackendError, match=refusal), connect(f"127.0.0.1:{port}", environ={}):
        pass
    server.stop(None)


@pytest.mark.parametrize(
    ("address", "environ", "expected"),
    [
        (None, {}, True),
        ("auto", {}, False),
        (None, {"RAY_ADDRESS": "10.0.0.5:6379"}, False),
        ("local", {"RAY_ADDRESS": "10.0.0.5:6379"}, True),
        (None, {"RAY_ADDRESS": "local"}, True),
    ],
)
def test_a_ray_of_our_own_starts_where_none_is_named(address, environ, expected):
    """The option goes before the environment; `plan` asks the same, so that it sizes the Ray that would start."""
    assert would_start(address, environ) is expected
