// The page: asks questions, follows their answers, and adds up what the conversation cost.

import { element } from "./dom.js";
import { dollars, exact, sum } from "./money.js";
import { HttpError, readEvents, request } from "./stream.js";
import { language, number, switchLanguage, texts } from "./texts.js";
import { Turn } from "./turn.js";

const API = "api/v1/chat";
const THEMES = ["auto", "light", "dark"];
const MAX_KEPT_TURNS = 30;
const MAX_IMAGE_BYTES = 4_500_000; // the API takes 5 MB
const MAX_IMAGE_SIDE = 2048;
const TRIES = 6; // of sending a question; one Idempotency-Key makes it one question

const $ = (id) => document.getElementById(id);
const turns = [];
let session = restore();
let image = "";
let active = null;

// --- What this tab remembers -------------------------------------------------------------------------------------

function restore() {
  try {
    const kept = JSON.parse(sessionStorage.getItem("eco2.session"));
    if (typeof kept?.id === "string" && Array.isArray(kept.turns)) return kept;
  } catch {
    // Begin a new one.
  }
  return { id: crypto.randomUUID(), turns: [] };
}

function keep() {
  session.turns = session.turns.slice(-MAX_KEPT_TURNS);
  sessionStorage.setItem("eco2.session", JSON.stringify(session));
}

/** Returns the headers of a request for a turn: the token, and W3C Trace Context, which the server's spans continue. */
function headers(turn) {
  const token = sessionStorage.getItem("eco2.token");
  return {
    ...(token ? { Authorization: `Bearer ${token}` } : {}),
    ...(turn.trace ? { traceparent: `00-${turn.trace.id}-${turn.trace.span}-01` } : {}),
  };
}

// --- Asking ------------------------------------------------------------------------------------------------------

async function ask(question, picture = "") {
  if (active !== null || (!question.trim() && !picture)) return;
  const turn = addTurn(question, picture);
  active = turn;
  drawComposer();
  try {
    turn.trace = { id: randomHex(16), span: randomHex(8) };
    const sent = {
      method: "POST",
      headers: {
        "Content-Type": "application/json",
        "Idempotency-Key": crypto.randomUUID(),
        ...headers(turn),
      },
      body: JSON.stringify({ message: question, session_id: session.id, ...(picture ? { image: picture } : {}) }),
    };
    const job = await (await send(sent)).json();
    turn.jobId = job.job_id;
    turn.traceId = job.otel_trace_id;
    session.turns.push({ job: job.job_id, trace: turn.trace, traceId: turn.traceId, question });
    keep();
    await follow(turn);
  } catch (error) {
    turn.fail(reason(error));
    if (error instanceof HttpError && error.status === 401) $("token-dialog").showModal();
  } finally {
    active = null;
    $("connection").textContent = "";
    drawComposer();
    drawSession();
  }
}

/** Sends a question, again after a lost connection or while the server is busy. */
async function send(sent) {
  for (let tried = 1; ; tried += 1) {
    try {
      return await request(API, sent);
    } catch (error) {
      const again = !(error instanceof HttpError) || error.status === 503;
      if (!again || tried === TRIES) throw error;
      await new Promise((resolve) => setTimeout(resolve, 1000 * (error.retryAfterSeconds || tried)));
    }
  }
}

async function follow(turn) {
  const url = `${API}/${turn.jobId}/events`;
  for await (const event of readEvents(url, { headers: () => headers(turn), onConnection: showConnection })) {
    turn.apply(event);
    drawSession();
    if (event.kind === "token") keepInView();
  }
  if (!turn.ended) {
    // The stream was read to its end before: the answer itself says how it ended.
    const answer = await (await request(`${API}/${turn.jobId}`, { headers: headers(turn) })).json();
    turn.apply({ kind: answer.error ? "error" : "done", data: { ...answer, ...answer.error } });
  }
}

function showConnection(connected) {
  $("connection").textContent = connected ? "" : texts().lostConnection;
}

function reason(error) {
  if (error instanceof HttpError) return texts().problem[error.status] ?? error.message;
  return texts().offline;
}

async function stop() {
  if (active?.jobId) await request(`${API}/${active.jobId}`, { method: "DELETE", headers: headers(active) }).catch(() => {});
}

function addTurn(question, picture) {
  const turn = new Turn(question, {
    image: picture,
    askAgain: () => ask(question, picture),
    sendFeedback: async (score, comment) => {
      const sent = { method: "POST", headers: { "Content-Type": "application/json", ...headers(turn) }, body: JSON.stringify({ score, comment }) };
      return (await (await request(`${API}/${turn.jobId}/feedback`, sent)).json()).reached;
    },
  });
  turns.push(turn);
  $("turns").append(turn.element);
  $("welcome").hidden = true;
  turn.element.scrollIntoView({ block: "start" });
  return turn;
}

/** Shows the turns of this tab again after a reload, and goes on with the one that is not finished. */
async function showKept() {
  for (const { job, trace, traceId, question } of session.turns) {
    const turn = addTurn(question, "");
    turn.jobId = job;
    turn.trace = trace;
    turn.traceId = traceId;
    active = turn;
    drawComposer();
    try {
      await follow(turn);
    } catch (error) {
      turn.fail(error instanceof HttpError && error.status === 404 ? texts().expiredTitle : reason(error));
    }
  }
  active = null;
  showConnection(true);
  drawComposer();
  drawSession();
}

function randomHex(bytes) {
  return [...crypto.getRandomValues(new Uint8Array(bytes))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

// --- Pictures ----------------------------------------------------------------------------------------------------

async function attach(file) {
  if (!file) return;
  const bitmap = await createImageBitmap(file).catch(() => null);
  if (bitmap === null) return;
  const scale = Math.min(1, MAX_IMAGE_SIDE / Math.max(bitmap.width, bitmap.height));
  const isFine = scale === 1 && file.size <= MAX_IMAGE_BYTES && ["image/jpeg", "image/png", "image/webp"].includes(file.type);
  image = isFine ? await asDataUrl(file) : asJpeg(bitmap, scale);
  $("picture").querySelector("img").src = image;
  drawComposer();
}

function asDataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

function asJpeg(bitmap, scale) {
  const canvas = element("canvas", { width: Math.round(bitmap.width * scale), height: Math.round(bitmap.height * scale) });
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/jpeg", 0.85);
}

// --- Drawing -----------------------------------------------------------------------------------------------------

function drawSession() {
  const paid = turns.filter((turn) => turn.job.steps.size || turn.job.result);
  const usd = sum(["0", ...paid.map((turn) => turn.job.usd ?? "0")]);
  const tokens = paid.reduce((count, turn) => count + turn.job.tokens.total, 0);
  $("session-usd").textContent = dollars(usd);
  $("session-usd").title = exact(usd);
  const answers = paid.filter((turn) => turn.job.status !== "error").length;
  $("session-detail").textContent = paid.length ? texts().sessionDetail(answers, number(tokens)) : "";
}

function drawComposer() {
  const busy = active !== null;
  $("send").hidden = busy;
  $("stop").hidden = !busy;
  $("send").disabled = !$("message").value.trim() && !image;
  $("picture").hidden = !image;
  $("new-session").disabled = busy || turns.length === 0;
  const area = $("message");
  area.style.height = "auto";
  area.style.height = `${Math.min(area.scrollHeight, 160)}px`;
}

function drawTexts() {
  document.documentElement.lang = language();
  for (const each of document.querySelectorAll("[data-text]")) each.textContent = texts()[each.dataset.text];
  for (const each of document.querySelectorAll("[data-label]")) each.setAttribute("aria-label", texts()[each.dataset.label]);
  for (const each of document.querySelectorAll("[data-placeholder]")) each.placeholder = texts()[each.dataset.placeholder];
  $("language").textContent = texts().language;
  $("language").lang = language() === "ko" ? "en" : "ko";
  $("language").setAttribute("aria-label", texts().languageLabel);
  $("picture").querySelector("img").alt = texts().pictureAlt;
  $("examples").replaceChildren(
    ...texts().questions.map((question) => element("li", {}, element("button", { type: "button", on: { click: () => ask(question) } }, question))),
  );
  drawTheme();
  for (const turn of turns) turn.translate();
  drawSession();
}

function drawTheme() {
  const theme = localStorage.getItem("eco2.theme") ?? "auto";
  document.documentElement.dataset.theme = theme;
  $("theme").textContent = texts().theme[theme];
}

function keepInView() {
  const page = document.scrollingElement;
  const text = turns.at(-1).text.getBoundingClientRect();
  const limit = innerHeight - $("ask").offsetHeight;
  if (text.bottom > limit && text.bottom < limit + 200) page.scrollBy({ top: text.bottom - limit + 16 });
}

// --- Input -------------------------------------------------------------------------------------------------------

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  if (active !== null) return;
  const question = $("message").value;
  const picture = image;
  if (!question.trim() && !picture) return;
  $("message").value = "";
  image = "";
  $("image").value = "";
  ask(question, picture);
});
$("message").addEventListener("input", drawComposer);
$("message").addEventListener("keydown", (event) => {
  // While an input method composes a syllable, Enter ends the syllable.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  event.preventDefault();
  $("ask").requestSubmit();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !$("token-dialog").open && !event.isComposing) stop();
});
$("stop").addEventListener("click", stop);
$("image").addEventListener("change", (event) => attach(event.target.files[0]));
document.addEventListener("paste", (event) => {
  const file = [...(event.clipboardData?.files ?? [])].find((each) => each.type.startsWith("image/"));
  if (file) attach(file);
});
$("remove-picture").addEventListener("click", () => {
  image = "";
  $("image").value = "";
  drawComposer();
  $("message").focus();
});
$("new-session").addEventListener("click", () => {
  session = { id: crypto.randomUUID(), turns: [] };
  keep();
  turns.length = 0;
  $("turns").replaceChildren();
  $("welcome").hidden = false;
  drawComposer();
  drawSession();
  $("message").focus();
});
$("language").addEventListener("click", () => {
  switchLanguage();
  drawTexts();
});
$("theme").addEventListener("click", () => {
  const theme = localStorage.getItem("eco2.theme") ?? "auto";
  localStorage.setItem("eco2.theme", THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length]);
  drawTheme();
});
$("token-dialog").addEventListener("close", () => {
  const token = $("token").value.trim();
  $("token").value = "";
  if (!token) return;
  sessionStorage.setItem("eco2.token", token);
  const last = turns.at(-1);
  if (last?.element.dataset.status === "failed") last.options.askAgain();
});

drawTexts();
drawComposer();
showKept();
$("message").focus();
