// The steps of an answer as a tree on a time axis, with seconds, tokens and dollars.

import { element } from "./dom.js";
import { decimalsFor, dollarsWith, exact, sum } from "./money.js";
import { nodeName, number, seconds, texts } from "./texts.js";

const TICKS = matchMedia("(max-width: 40rem)");
const MIN_WAIT_SECONDS = 0.2; // shorter waiting is no row of its own

export class Timeline {
  #rows = new Map();
  #closed = new Map(); // whether a node's calls are hidden, by id
  #job;

  constructor(job) {
    this.#job = job;
    this.axis = element("div", { role: "columnheader", class: "time axis" });
    this.head = element("div", { role: "row", class: "row head" });
    this.body = element("div", { role: "rowgroup", on: { keydown: (event) => this.#onKey(event) } });
    this.element = element("div", { role: "treegrid", class: "timeline" }, element("div", { role: "rowgroup" }, this.head), this.body);
    this.legend = element("p", { class: "legend" });
    this.translate();
  }

  /** Writes all words again, after a change of language. */
  translate() {
    const { columns, legend, timeline } = texts();
    const head = (name) => element("div", { role: "columnheader", class: name }, columns[name]);
    this.axis.setAttribute("aria-label", columns.time);
    this.element.setAttribute("aria-label", timeline);
    this.head.replaceChildren(head("step"), this.axis, head("seconds"), head("tokens"), head("usd"));
    this.legend.replaceChildren(
      ...Object.entries(legend).map(([kind, text]) => element("span", { class: `key ${kind}` }, text)),
      element("span", { class: "about" }, texts().whatIsToken),
    );
    for (const row of this.#rows.values()) row.remove();
    this.#rows.clear();
    this.draw();
  }

  /** Draws the steps as they are now. */
  draw() {
    const job = this.#job;
    const total = Math.max(job.nowSeconds, job.endSeconds, 0.5);
    const step = tickSeconds(total, TICKS.matches ? 3 : 6);
    const width = Math.ceil(total / step) * step;
    const ticks = Array.from({ length: Math.round(width / step) + 1 }, (_, index) => index * step);
    this.element.style.setProperty("--tick", `${(100 * step) / width}%`);
    this.axis.replaceChildren(
      ...ticks.map((at) => element("span", { vars: { at: `${(100 * at) / width}%` } }, `${Number(at.toFixed(2))}`)),
    );
    const place = (from, to) => ({ from: `${(100 * from) / width}%`, size: `${(100 * Math.max(0, to - from)) / width}%` });
    const wanted = [];
    const show = (row) => wanted.push(this.#row({ ...row, bar: place(row.from, row.to), all: job.usd }));

    const running = !job.ended;
    show({ id: "request", level: 1, kind: "request", name: texts().request, from: 0, to: running ? job.nowSeconds : job.endSeconds, tokens: job.tokens, usd: job.usd, unpriced: job.usd === null, estimated: job.isEstimated, running });
    if (job.firstSeconds >= MIN_WAIT_SECONDS) {
      show({ id: "wait", level: 2, kind: "wait", name: texts().waited, from: 0, to: job.firstSeconds });
    }
    for (const node of job.nodes) {
      const calls = job.calls(node.id);
      const closed = this.#closed.get(node.id) ?? TICKS.matches;
      show({ ...this.#figures(node), level: 2, kind: "node", name: nodeName(node.node), tokens: job.tokensOf(node), usd: job.usdOf(node), unpriced: node.status === "ended" && node.usd === null, closed: calls.length ? closed : undefined });
      if (closed) continue;
      for (const call of calls) {
        const isModel = call.type === "model";
        show({ ...this.#figures(call), level: 3, kind: isModel ? "model" : "tool", name: call.name, tokens: isModel ? call.tokens : undefined, usd: isModel ? call.usd : undefined, unpriced: isModel && call.status === "ended" && call.usd === null });
      }
    }
    for (const [id, row] of this.#rows) {
      if (wanted.includes(row)) continue;
      row.remove();
      this.#rows.delete(id);
    }
    wanted.forEach((row, index) => {
      if (this.body.children[index] !== row) this.body.insertBefore(row, this.body.children[index] ?? null);
    });
    if (!wanted.some((row) => row.tabIndex === 0)) wanted[0].tabIndex = 0;
  }

  #figures(step) {
    const running = step.status === "started";
    const to = step.status === "ended" ? step.at_seconds + step.seconds : running ? this.#job.nowSeconds : this.#job.endSeconds;
    const outcome = step.status === "lost" ? "lost" : step.outcome === "success" ? undefined : step.outcome;
    return { id: step.id, from: step.at_seconds, to: Math.max(to, step.at_seconds), running, outcome, retry: step.retry, estimated: step.estimated };
  }

  #row(data) {
    let row = this.#rows.get(data.id);
    if (!row) {
      row = element("div", { role: "row", tabindex: "-1", "aria-level": data.level, class: `row ${data.kind}`, on: { click: () => this.#toggle(data.id) } });
      row.append(
        element("div", { role: "rowheader", class: "step" }, element("span", { class: "twisty", "aria-hidden": "true" }), element("span", { class: "name" }), element("span", { class: "notes" })),
        element("div", { role: "gridcell", class: "time" }, element("span", { class: "bar" })),
        element("div", { role: "gridcell", class: "seconds" }),
        element("div", { role: "gridcell", class: "tokens" }),
        element("div", { role: "gridcell", class: "usd" }),
      );
      row.dataset.id = data.id;
      this.#rows.set(data.id, row);
    }
    const [header, time, secondsCell, tokensCell, usdCell] = row.children;
    row.classList.toggle("running", Boolean(data.running));
    row.classList.toggle("failed", Boolean(data.outcome));
    if (data.closed === undefined) row.removeAttribute("aria-expanded");
    else row.setAttribute("aria-expanded", String(!data.closed));
    setText(header.children[1], data.name);
    const notes = [data.outcome && texts().outcome[data.outcome], data.retry && texts().retry[data.retry], data.estimated && texts().estimated];
    setText(header.children[2], notes.filter(Boolean).join(", "));
    time.firstChild.style.setProperty("--from", data.bar.from);
    time.firstChild.style.setProperty("--size", data.bar.size);
    setText(secondsCell, seconds(data.to - data.from));
    setText(tokensCell, data.tokens?.total ? number(data.tokens.total) : "");
    if (data.tokens?.total) tokensCell.title = texts().tokensTitle(number(data.tokens.input), number(data.tokens.output));
    const isPaid = data.usd !== undefined && data.usd !== null && Number(data.usd) > 0;
    const figure = data.unpriced ? texts().unknownUsd : isPaid ? dollarsWith(data.usd, decimalsFor(data.all)) : "";
    setText(usdCell, figure);
    usdCell.title = isPaid ? exact(data.usd) : "";
    const share = isPaid && data.kind !== "request" && Number(data.all) > 0 ? Number(data.usd) / Number(data.all) : 0;
    usdCell.style.setProperty("--share-size", `${Math.min(100, 100 * share)}%`);
    return row;
  }

  #toggle(id, closed) {
    const node = this.#job.steps.get(id);
    if (node?.kind !== "node") return;
    this.#closed.set(id, closed ?? !(this.#closed.get(id) ?? TICKS.matches));
    this.draw();
  }

  #onKey(event) {
    const rows = [...this.body.children];
    const index = rows.indexOf(event.target);
    if (index < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
    const row = rows[index];
    const expanded = row.getAttribute("aria-expanded");
    const level = Number(row.ariaLevel);
    let next = index;
    switch (event.key) {
      case "ArrowDown": next = index + 1; break;
      case "ArrowUp": next = index - 1; break;
      case "Home": next = 0; break;
      case "End": next = rows.length - 1; break;
      case "ArrowRight":
        if (expanded === "false") this.#toggle(row.dataset.id, false);
        else next = index + 1;
        break;
      case "ArrowLeft":
        if (expanded === "true") this.#toggle(row.dataset.id, true);
        else while (next > 0 && Number(rows[next].ariaLevel) >= level) next -= 1;
        break;
      case "Enter": case " ": this.#toggle(row.dataset.id); break;
      default: return;
    }
    event.preventDefault();
    const target = rows[Math.min(rows.length - 1, Math.max(0, next))];
    for (const each of rows) each.tabIndex = each === target ? 0 : -1;
    target.focus();
  }
}

/** The step of most of the dollars: {name, percent}; null if nothing was paid or only one step was. */
export function costliest(job) {
  const paid = job.nodes.map((node) => ({ node: node.node, usd: job.usdOf(node) })).filter((each) => Number(each.usd) > 0);
  if (paid.length < 2) return null;
  const byNode = Map.groupBy(paid, (each) => each.node);
  const sums = [...byNode].map(([node, parts]) => ({ node, usd: Number(sum(parts.map((part) => part.usd))) }));
  const most = sums.reduce((a, b) => (b.usd > a.usd ? b : a));
  return { name: nodeName(most.node), percent: Math.round((100 * most.usd) / Number(job.usd)) };
}

function tickSeconds(total, most) {
  for (let size = 0.1; ; size *= 10) {
    for (const factor of [1, 2, 5]) if (total / (size * factor) <= most) return size * factor;
  }
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
