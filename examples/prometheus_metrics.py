"""Serve the metrics of an application and read them as Prometheus would; runs without keys."""

from __future__ import annotations

import urllib.request

from prometheus_client import CollectorRegistry, start_http_server

from eco2_callbacks import Eco2CallbackHandler, run_config
from eco2_callbacks.testing import FakeChatModel

registry = CollectorRegistry()  # most applications use the default one

if __name__ == "__main__":
    server, thread = start_http_server(0, addr="127.0.0.1", registry=registry)  # a free port; usually 8000
    with Eco2CallbackHandler(registry=registry, agent_name="sorter") as handler:
        for tenant in ("acme", "zoo", "acme"):
            FakeChatModel().invoke("Where does glass go?", run_config(handler, job_id="42", tenant_id=tenant))
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics") as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith("llm_cost_dollars_total"):
                    print(line)
    server.shutdown()
    server.server_close()
    thread.join()
