"""Retries, time limits, redirects, proxies and certificates, against a real HTTP server."""

import asyncio
import datetime as dt
import gc
import socket
import ssl
import threading
import time
import traceback

import aiohttp
import pytest
from aiohttp import web

from xtrace_sdk.errors import ApiError, XTraceError
from xtrace_sdk.integrations import transport
from xtrace_sdk.integrations.errors import (
    AnswerTimeoutError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    NotFoundError,
    PayloadTooLargeError,
    PermissionDeniedError,
    RateLimitError,
    ResponseError,
    ServerError,
    ServerUnreachableError,
    TransportError,
    UnexpectedAnswerError,
)
from xtrace_sdk.integrations.xtrace import XTraceIntegration


def error_body(message):
    return {"message": message, "error": {"message": message, "code": 400, "type": "x"}, "request_id": "r-1"}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequestError),
        (401, AuthenticationError),
        (403, PermissionDeniedError),
        (404, NotFoundError),
        (409, ConflictError),
        (413, PayloadTooLargeError),
        (418, ResponseError),
        (422, BadRequestError),
        (501, ServerError),
    ],
)
async def test_each_status_has_its_error(recorder, client, status, kind):
    recorder.say(error_body("kb_id: no such knowledge base"), status)
    with pytest.raises(kind) as caught:
        await client.get_kb("kb")
    error = caught.value
    assert type(error) is kind
    assert (error.status, error.message, error.request_id) == (status, "kb_id: no such knowledge base", "r-1")
    assert str(error) == f"{status} - kb_id: no such knowledge base (request r-1)"
    assert isinstance(error, ApiError | XTraceError)
    # what programs written for the original client catch
    assert isinstance(error, aiohttp.ClientResponseError)
    assert isinstance(error, RuntimeError)
    assert len(recorder.asked) == 1


async def test_error_that_is_not_json(recorder, client):
    recorder.say(b"<html>Bad gateway</html>", 404, X_Request_Id="r-2")
    with pytest.raises(NotFoundError) as caught:
        await client.get_kb("kb")
    assert caught.value.message == "<html>Bad gateway</html>"
    assert caught.value.request_id == "r-2"


async def test_error_without_a_body_has_the_phrase(recorder, client):
    recorder.say(b"", 403)
    with pytest.raises(PermissionDeniedError, match="403 - Forbidden"):
        await client.get_kb("kb")


async def test_keys_are_in_no_error_nor_repr(recorder, client):
    recorder.say(error_body("no"), 401)
    with pytest.raises(AuthenticationError) as caught:
        await client.list_kbs()
    with pytest.raises(AuthenticationError) as caught_data:
        await client.list_exec_contexts()
    shown = [repr(client), str(client)]
    for error in (caught.value, caught_data.value):
        shown += [repr(error), str(error), repr(error.args), repr(error.request_info), repr(vars(error))]
        shown += traceback.format_exception(error)
    assert not any(client.api_key in text or client.admin_key in text for text in shown)


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
async def test_repeatable_calls_are_tried_again(recorder, client, status):
    recorder.say(error_body("later"), status)
    recorder.say(error_body("later"), status)
    recorder.say([{"id": "kb"}])
    assert await client.list_kbs() == [{"id": "kb"}]
    assert len(recorder.asked) == 3


async def test_attempts_are_bounded(recorder, client):
    recorder.say(error_body("never"), 503)
    with pytest.raises(ServerError, match="never"):
        await client.list_kbs()
    assert len(recorder.asked) == 4


async def test_creating_is_not_repeated_after_a_server_error(recorder, client):
    recorder.say(error_body("broken"), 500)
    with pytest.raises(ServerError):
        await client.create_kb("name")
    with pytest.raises(ServerError):
        await client.create_api_key("name")
    assert len(recorder.asked) == 2


async def test_creating_is_repeated_when_the_server_did_nothing(recorder, client):
    recorder.say(error_body("slow down"), 429)
    recorder.say({"id": "kb"})
    assert await client.create_kb("name") == {"id": "kb"}
    assert len(recorder.asked) == 2


async def test_retry_after_is_obeyed(recorder, client):
    recorder.say(error_body("slow down"), 429, Retry_After="0.4")
    recorder.say([])
    begin = time.monotonic()
    await client.list_kbs()
    assert time.monotonic() - begin >= 0.4  # a lower bound holds on any machine


async def test_retry_after_may_be_a_date(recorder, client):
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(hours=2)
    recorder.say(error_body("come back"), 429, Retry_After=soon.strftime("%a, %d %b %Y %H:%M:%S GMT"))
    with pytest.raises(RateLimitError) as caught:
        await client.list_kbs()
    assert 7000 < caught.value.retry_after <= 7200
    assert len(recorder.asked) == 1


@pytest.mark.parametrize("advice", ["soon", "", "-5"])
async def test_useless_retry_after_is_ignored(recorder, client, advice):
    recorder.say(error_body("slow down"), 429, Retry_After=advice)
    recorder.say([])
    assert await client.list_kbs() == []


async def test_redirects_are_not_followed(recorder, client):
    recorder.say(b"", 307, Location="http://127.0.0.1:1/steal")
    with pytest.raises(UnexpectedAnswerError, match="redirects are not followed"):
        await client.list_exec_contexts()
    assert len(recorder.asked) == 1


async def test_cookies_are_ignored(recorder, client):
    recorder.say([], Set_Cookie="follow=me; Path=/")
    await client.list_kbs()
    await client.list_kbs()
    assert "Cookie" not in recorder.asked[1].headers


async def test_lost_connection_is_tried_again(recorder, client):
    def drop(request: web.Request) -> web.Response:
        request.transport.close()
        return web.Response()

    recorder.answers.append(drop)
    recorder.say({"context_ids": ["c"]})
    assert await client.get_ctx_for_kb("kb") == ["c"]
    assert len(recorder.asked) == 2


async def test_lost_connection_is_no_reason_to_create_twice(recorder, client):
    def drop(request: web.Request) -> web.Response:
        request.transport.close()
        return web.Response()

    recorder.answers.append(drop)
    with pytest.raises(TransportError, match="the connection broke") as caught:
        await client.create_kb("name")
    assert isinstance(caught.value, aiohttp.ClientError)
    assert len(recorder.asked) == 1


async def test_answer_cut_short(recorder, client):
    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"[")
        request.transport.close()
        return response

    recorder.answers.append(cut)
    with pytest.raises(TransportError, match="the connection broke"):
        await client.list_kbs()
    assert len(recorder.asked) == 4


async def test_silent_server(recorder, connect):
    async def wait(_request: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    recorder.answers.append(wait)
    client = connect(recorder.url, timeout=0.2, retries=1)
    with pytest.raises(AnswerTimeoutError, match="no answer for") as caught:
        await client.list_exec_contexts()
    assert isinstance(caught.value, TimeoutError)
    assert len(recorder.asked) == 2


async def test_closed_port(connect):
    with socket.socket() as unused:  # bound, so that nobody else is given the port
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        client = connect(f"http://127.0.0.1:{port}", retries=1)
        with pytest.raises(ServerUnreachableError, match="is the server running") as caught:
            await client.list_exec_contexts()
    assert isinstance(caught.value, aiohttp.ClientConnectorError)
    assert caught.value.port == port


async def test_unknown_host(connect):
    client = connect("http://nowhere.invalid", retries=0)
    with pytest.raises(ServerUnreachableError, match=r"http://nowhere\.invalid"):
        await client.list_exec_contexts()


def test_one_client_in_several_event_loops():
    """Each loop has its own session, and closing one leaves the others alone."""
    ready, done = threading.Event(), threading.Event()
    addresses = []

    def serve() -> None:
        async def main() -> None:
            app = web.Application()

            async def answer(_request: web.Request) -> web.Response:
                return web.json_response({"contexts": ["c"]})

            app.router.add_get("/{tail:.*}", answer)
            runner = web.AppRunner(app, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            addresses.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
            ready.set()
            await asyncio.to_thread(done.wait)
            await runner.cleanup()

        asyncio.run(main())

    server = threading.Thread(target=serve)
    server.start()
    ready.wait()
    try:
        client = XTraceIntegration("org", "key", api_url=addresses[0])
        first, second = asyncio.Runner(), asyncio.Runner()
        with first, second:
            assert first.run(client.list_exec_contexts()) == ["c"]
            assert second.run(client.list_exec_contexts()) == ["c"]

            async def session():
                return client.session

            of_first, of_second = first.run(session()), second.run(session())
            assert of_first is not of_second
            second.run(client.close())
            assert of_second.closed and not of_first.closed
            assert first.run(client.list_exec_contexts()) == ["c"]
            assert first.run(session()) is of_first
            first.run(client.close())
        assert client.session is None
    finally:
        done.set()
        server.join()


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_loops_that_ended_leave_no_session(recorder, client):
    recorder.say({"contexts": []})
    for _ in range(3):
        await asyncio.to_thread(lambda: asyncio.run(client.list_exec_contexts()))
    await client.list_exec_contexts()
    assert list(client._transport._sessions) == [asyncio.get_running_loop()]
    gc.collect()  # what Python says of the forgotten connections, it says here


async def test_session_is_opened_again_after_close(recorder, client):
    recorder.say([])
    await client.list_kbs()
    await client.close()
    assert client.session is None
    assert await client.list_kbs() == []


async def test_proxy_of_the_environment(recorder, monkeypatch, connect):
    recorder.say({"contexts": []})
    monkeypatch.setenv("http_proxy", recorder.url)
    monkeypatch.setenv("no_proxy", "")
    client = connect("http://server.invalid:8700")
    assert await client.list_exec_contexts() == []
    assert recorder.asked[0].target == f"http://server.invalid:8700/v1/exec_context/{client.org_id}"


async def test_loopback_goes_past_the_proxy(recorder, client, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    recorder.say({"contexts": []})
    assert await client.list_exec_contexts() == []


async def test_private_authority(tmp_path, monkeypatch, connect):
    """A certificate of a private authority is refused, and accepted with SSL_CERT_FILE."""
    certificate, key = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def answer(_request: web.Request) -> web.Response:
        return web.json_response({"contexts": []})

    app = web.Application()
    app.router.add_get("/{tail:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    url = f"https://127.0.0.1:{runner.addresses[0][1]}"
    try:
        transport._tls.cache_clear()
        client = connect(url)
        with pytest.raises(ServerUnreachableError, match="SSL_CERT_FILE"):
            await client.list_exec_contexts()
        assert client.traffic.requests == 1
        transport._tls.cache_clear()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        client = connect(url)
        assert await client.list_exec_contexts() == []
    finally:
        transport._tls.cache_clear()
        await runner.cleanup()


def self_signed(folder):
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "private authority")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder / "cert.pem", folder / "key.pem"


async def test_traffic_is_counted(recorder, client):
    recorder.say({"id": "kb"})
    await client.create_kb("name")
    assert client.traffic.requests == 1
    assert client.traffic.sent == len(recorder.asked[0].body)
    assert client.traffic.received == len(b'{"id": "kb"}')
    assert client.traffic.seconds > 0
