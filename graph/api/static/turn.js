// One question and its answer on the page: text, cost, timeline, feedback.

import { element, prose } from "./dom.js";
import { JobState } from "./job.js";
import { dollars, exact } from "./money.js";
import { nodeName, number, seconds, texts } from "./texts.js";
import { costliest, Timeline } from "./timeline.js";

const DRAW_MS = 100;

export class Turn {
  #timer = setInterval(() => this.#tick(), DRAW_MS);
  #failure = null; // an error that came instead of an answer
  #feedback = { score: null, sent: null, busy: false, failed: false };

  /**
   * @param {string} question
   * @param {{image?: string, sendFeedback: (score: number, comment: string) => Promise<string[]>, askAgain: () => void}} options
   */
  constructor(question, options) {
    this.question = question;
    this.options = options;
    this.job = new JobState();
    this.jobId = null;
    this.trace = null; // what the page's requests carry
    this.traceId = null; // if the server exports it
    this.timeline = new Timeline(this.job);
    this.status = element("p", { class: "status", role: "status" });
    this.text = element("div", { class: "text", "aria-live": "polite", "aria-busy": "true" });
    this.images = element("div", { class: "images" });
    this.cost = element("section", { class: "cost" });
    this.summary = element("summary");
    this.ids = element("p", { class: "ids" });
    this.how = element("details", { class: "how", open: true }, this.summary, this.timeline.element, this.timeline.legend, this.ids);
    this.how.hidden = true;
    this.feedback = element("div", { class: "feedback", hidden: true });
    const picture = options.image ? element("img", { src: options.image, alt: texts().pictureAlt }) : null;
    this.element = element(
      "li",
      { class: "turn" },
      element("div", { class: "question" }, element("span", { class: "sr" }), element("p", {}, question), picture),
      element("article", { class: "answer", tabindex: "-1" }, this.status, this.text, this.images, this.cost, this.how, this.feedback),
    );
    this.draw();
  }

  /** Takes one event of the job. */
  apply(event) {
    this.job.apply(event);
    this.draw();
  }

  /** Shows why there is no answer. */
  fail(message) {
    this.#failure = message;
    this.draw();
  }

  get ended() {
    return this.job.ended || this.#failure !== null;
  }

  /** Writes all words again, after a change of language. */
  translate() {
    this.timeline.translate();
    this.#drawFeedback();
    this.draw();
  }

  draw() {
    const job = this.job;
    this.element.querySelector(".sr").textContent = texts().you;
    this.element.querySelector(".answer").setAttribute("aria-label", texts().answer);
    this.element.dataset.status = this.#failure === null ? job.status : "failed";
    if (this.text.dataset.source !== job.answer) {
      this.text.dataset.source = job.answer;
      this.text.replaceChildren(...prose(job.answer));
    }
    this.text.setAttribute("aria-busy", String(!this.ended));
    if (this.images.childElementCount !== job.images.length) {
      const shown = job.images.filter((image) => image.startsWith("data:image/"));
      this.images.replaceChildren(...shown.map((src) => element("img", { src, alt: texts().answerImageAlt })));
    }
    this.#drawStatus();
    this.#drawCost();
    this.how.hidden = job.steps.size === 0;
    this.summary.textContent = texts().timeline;
    this.ids.textContent = this.jobId ? texts().ids(this.jobId, this.traceId) : "";
    if (!this.how.hidden) this.timeline.draw();
    if (this.feedback.hidden && job.status === "done") {
      this.feedback.hidden = false;
      this.#drawFeedback();
    }
    if (this.ended) clearInterval(this.#timer);
  }

  #tick() {
    if (!this.how.hidden && !this.ended) {
      this.timeline.draw();
      this.#drawCost();
    }
  }

  #drawStatus() {
    const job = this.job;
    const again = () => element("button", { type: "button", on: { click: this.options.askAgain } }, texts().askAgain);
    let parts = [];
    if (this.#failure !== null) {
      parts = [`${texts().failedTitle} ${this.#failure}`, again()];
    } else if (job.status === "error") {
      const { type, usd } = job.result;
      const title = type === "cancelled" ? texts().cancelledTitle : texts().failedTitle;
      const kept = usd && Number(usd) > 0 ? texts().costKept(dollars(usd)) : "";
      parts = [[title, texts().failed[type], kept, ...uncertain(job)].filter(Boolean).join(" "), again()];
    } else if (job.status !== "done") {
      const running = job.nodes.filter((node) => node.status === "started").map((node) => nodeName(node.node));
      const busy = texts()[job.status === "running" ? "thinking" : job.status];
      parts = [element("span", { class: "spinner", "aria-hidden": "true" }), running.length ? texts().running(running.join(", ")) : busy];
    }
    const told = parts.map((part) => part.textContent ?? part).join();
    if (this.status.dataset.told === told) return;
    this.status.dataset.told = told;
    this.status.hidden = parts.length === 0;
    this.status.classList.toggle("failed", this.ended && parts.length > 0);
    this.status.replaceChildren(...parts);
  }

  #drawCost() {
    const job = this.job;
    const usd = job.usd;
    this.cost.hidden = job.steps.size === 0 || job.status === "error";
    if (this.cost.hidden) return;
    const { input, output, total } = job.tokens;
    const amount = element("strong", { class: "usd", title: usd === null ? "" : exact(usd) }, usd === null ? texts().unknownUsd : dollars(usd));
    if (!job.ended) {
      this.cost.replaceChildren(element("span", {}, texts().costSoFar), amount, element("span", {}, `${number(total)} ${texts().columns.tokens}`));
      return;
    }
    const value = Number(usd);
    const inWords = [];
    if (value > 0 && value < 1) inWords.push(texts().cents(Number((100 * value).toPrecision(2)).toString()));
    if (value > 0 && value < 0.5) inWords.push(texts().perDollar(number(Math.floor(1 / value))));
    const sentences = [total ? texts().usage(number(input), number(output), seconds(job.endSeconds)) : texts().noModel];
    const most = costliest(job);
    if (most) sentences.push(texts().mostly(most.name, most.percent));
    sentences.push(...uncertain(job));
    const isAtLeast = usd !== null && (job.unpricedCalls || job.openCalls);
    this.cost.replaceChildren(
      element("span", { class: "label" }, `${texts().cost}${isAtLeast ? ` (${texts().atLeast})` : ""}`),
      amount,
      element("span", { class: "words" }, inWords.join(" · ")),
      element("p", {}, sentences.join(" ")),
    );
  }

  #drawFeedback() {
    if (this.feedback.hidden) return;
    const state = this.#feedback;
    if (state.sent !== null) {
      const stores = state.sent.map((store) => texts().stores[store] ?? store).join(", ");
      this.feedback.replaceChildren(element("p", { role: "status" }, stores ? texts().feedbackSent(stores) : texts().feedbackNowhere));
      return;
    }
    const vote = (score, label) =>
      element("button", { type: "button", class: score ? "vote good" : "vote bad", "aria-pressed": String(state.score === score), "aria-label": label, title: label, on: { click: () => this.#vote(score) } }, thumb(score));
    const question = element("p", {}, texts().feedback, vote(1, texts().good), vote(0, texts().bad));
    this.feedback.replaceChildren(question);
    if (state.score === null) return;
    const comment = element("input", { type: "text", maxlength: "2000", "aria-label": texts().comment, placeholder: texts().comment });
    const form = element(
      "form",
      { on: { submit: (event) => this.#sendFeedback(event, comment.value) } },
      comment,
      element("button", { type: "submit", disabled: state.busy }, texts().sendFeedback),
      state.failed ? element("p", { role: "alert" }, texts().feedbackFailed) : null,
    );
    this.feedback.append(form);
    comment.focus();
  }

  #vote(score) {
    this.#feedback.score = score;
    this.#drawFeedback();
  }

  async #sendFeedback(event, comment) {
    event.preventDefault();
    const state = this.#feedback;
    if (state.busy) return;
    state.busy = true;
    try {
      state.sent = await this.options.sendFeedback(state.score, comment);
    } catch {
      state.failed = true;
    }
    state.busy = false;
    this.#drawFeedback();
  }
}

/** Returns a thumb, up for 1 and down for 0: not every system has a font with one. */
function thumb(score) {
  const space = "http://www.w3.org/2000/svg";
  const drawing = document.createElementNS(space, "svg");
  drawing.setAttribute("viewBox", "0 0 24 24");
  drawing.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(space, "path");
  path.setAttribute("d", "M3 11h4v9H3zM7 11l4-8c1.7 0 2.6 1.2 2.3 2.8L12.7 9H19c1.4 0 2.2 1.2 1.9 2.5l-1.6 6.6c-.3 1.2-1.2 1.9-2.4 1.9H7");
  if (!score) path.setAttribute("transform", "rotate(180 12 12)");
  drawing.append(path);
  return drawing;
}

/** Returns what is uncertain in the dollars of an answer, in sentences. */
function uncertain(job) {
  return [
    job.isEstimated && texts().isEstimated,
    job.unpricedCalls && texts().unpriced(job.unpricedCalls),
    job.openCalls && texts().open(job.openCalls),
  ].filter(Boolean);
}
