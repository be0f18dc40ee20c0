"""Count the retries inside OpenAI's client, against a server that fails twice; runs without keys."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

from langchain_openai import ChatOpenAI
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler
from eco2_callbacks.testing import RecordingSink

statuses = [503, 503, 200]
sent = []
choice = {"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}
usage = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}


class Server(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        sent.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(statuses[len(sent) - 1])
        self.send_header("retry-after-ms", "1")
        self.end_headers()
        self.wfile.write(json.dumps({"id": "1", "model": "gpt-5.2", "choices": [choice], "usage": usage}).encode())


if __name__ == "__main__":
    sink = RecordingSink()
    with (
        HTTPServer(("127.0.0.1", 0), Server) as server,
        Eco2CallbackHandler(registry=CollectorRegistry(), sinks=[sink]) as handler,
    ):
        Thread(target=server.serve_forever, daemon=True).start()
        model = ChatOpenAI(model="gpt-5.2", api_key="k", base_url=f"http://127.0.0.1:{server.server_port}/v1")
        handler.count_sdk_retries(model).invoke("Where does glass go?", {"callbacks": [handler]})
        server.shutdown()
    print("requests that were sent:", len(sent))
    print("retries that were counted:", sink.calls[0].sdk_retries)
