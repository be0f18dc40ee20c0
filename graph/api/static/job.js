// What the events of one job add up to.

import { sum } from "./money.js";

/** One question with everything that is known of its answer. */
export class JobState {
  constructor() {
    this.status = "sending"; // sending, queued, running, done, error
    this.run = 0;
    this.answer = "";
    this.images = [];
    this.steps = new Map(); // nodes and calls by id, in the order of their start
    this.result = null; // data of the last event
    this.clock = null; // [performance.now(), seconds since the question], to draw what runs now
  }

  /** Takes one event. */
  apply({ kind, data }) {
    if (data.run > this.run) {
      // Another worker began again: what the first one left open will not end, its words do not count.
      for (const step of this.steps.values()) if (step.status === "started") step.status = "lost";
      this.run = data.run;
      if (kind !== "snapshot") this.answer = "";
    }
    switch (kind) {
      case "queued":
        this.status = "queued";
        break;
      case "started":
        this.status = "running";
        break;
      case "node":
      case "call":
        this.status = "running";
        this.#step(kind, data);
        break;
      case "token":
        this.answer += data.text;
        break;
      case "snapshot":
        this.answer = data.answer;
        break;
      case "done":
        this.answer = data.answer || this.answer;
        this.images = data.images ?? [];
        this.#end("done", data);
        break;
      case "error":
        this.#end("error", data);
        break;
    }
  }

  get ended() {
    return this.status === "done" || this.status === "error";
  }

  /** Seconds since the question, as far as the server's events tell. */
  get nowSeconds() {
    if (this.ended) return this.endSeconds;
    return this.clock === null ? 0 : this.clock[1] + (performance.now() - this.clock[0]) / 1000;
  }

  /** When the last known step ended, in seconds since the question. */
  get endSeconds() {
    return Math.max(0, ...[...this.steps.values()].map((step) => step.at_seconds + (step.seconds ?? 0)));
  }

  /** When the first step started: before it, the question waited. */
  get firstSeconds() {
    return this.steps.size ? Math.min(...[...this.steps.values()].map((step) => step.at_seconds)) : 0;
  }

  get nodes() {
    return [...this.steps.values()].filter((step) => step.kind === "node").sort((a, b) => a.at_seconds - b.at_seconds);
  }

  calls(nodeId) {
    return [...this.steps.values()]
      .filter((step) => step.node_id === nodeId)
      .sort((a, b) => a.at_seconds - b.at_seconds);
  }

  /** Dollars so far, exact; while a node runs, those of its ended calls. Null: no call has a known price. */
  get usd() {
    if (this.result?.usd !== undefined) return this.result.usd;
    return sum(this.nodes.map((node) => this.usdOf(node)));
  }

  usdOf(step) {
    if (step.usd !== undefined && step.usd !== null) return step.usd;
    return sum(this.calls(step.id).map((call) => call.usd ?? "0"));
  }

  /** Tokens so far: {input, output, total}. */
  get tokens() {
    return this.result?.tokens ?? total(this.nodes.map((node) => this.tokensOf(node)));
  }

  tokensOf(step) {
    return step.tokens ?? total(this.calls(step.id).map((call) => call.tokens));
  }

  /** Model calls without a price: the dollars leave them out. */
  get unpricedCalls() {
    return this.result?.unpriced_calls ?? 0;
  }

  /** Model calls in which a worker died: the dollars leave them out too. */
  get openCalls() {
    return this.result?.open_calls ?? 0;
  }

  get isEstimated() {
    return this.result?.estimated ?? false;
  }

  #step(kind, data) {
    const known = this.steps.get(data.id);
    this.steps.set(data.id, { ...known, ...data, kind });
    const seen = data.at_seconds + (data.seconds ?? 0);
    if (this.clock === null || seen > this.nowSeconds) this.clock = [performance.now(), seen];
  }

  #end(status, data) {
    this.status = status;
    this.result = data;
    for (const step of this.steps.values()) if (step.status === "started") step.status = "lost";
  }
}

function total(parts) {
  const known = parts.filter(Boolean);
  const of = (name) => known.reduce((count, part) => count + part[name], 0);
  return { input: of("input"), output: of("output"), total: of("total") };
}
