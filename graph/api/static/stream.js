// Reads a job's server-sent events to the last one, across lost connections.

const LAST_EVENTS = new Set(["done", "error"]);
const SILENCE_MS = 45_000; // the server sends a comment every 15 seconds
const RETRY_MS = [500, 1000, 2000, 4000, 8000];

export class HttpError extends Error {
  constructor(status, problem, retryAfterSeconds) {
    super(problem.detail || problem.title || `HTTP ${status}`);
    this.status = status;
    this.problem = problem;
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

/** Returns the answer to a request; throws HttpError unless it succeeded. */
export async function request(url, options) {
  const answer = await fetch(url, options);
  if (answer.ok) return answer;
  let problem = {};
  try {
    problem = await answer.json();
  } catch {
    // A proxy answered, not the API.
  }
  throw new HttpError(answer.status, problem, Number(answer.headers.get("Retry-After")) || 0);
}

/**
 * Yields {id, kind, data} until the job's last event.
 *
 * fetch is used because EventSource can send no Authorization header.
 * onConnection(isConnected) is called when the connection is lost, and when it is back.
 */
export async function* readEvents(url, { headers, onConnection }) {
  let lastId = "";
  let failures = 0;
  while (true) {
    const abort = new AbortController();
    let watchdog;
    const beat = () => {
      clearTimeout(watchdog);
      watchdog = setTimeout(() => abort.abort(), SILENCE_MS);
    };
    try {
      beat();
      const sent = { ...headers(), ...(lastId ? { "Last-Event-ID": lastId } : {}) };
      const answer = await request(url, { headers: sent, signal: abort.signal, cache: "no-store" });
      if (answer.status === 204) return;
      onConnection(true);
      for await (const event of parse(answer.body, beat)) {
        failures = 0;
        lastId = event.id;
        yield event;
        if (LAST_EVENTS.has(event.kind)) return;
      }
    } catch (error) {
      if (error instanceof HttpError && ![429, 502, 503, 504].includes(error.status)) throw error;
    } finally {
      clearTimeout(watchdog);
      abort.abort();
    }
    onConnection(false);
    await pause(RETRY_MS[Math.min(failures, RETRY_MS.length - 1)]);
    failures += 1;
  }
}

/** Waits, but not longer than until the device is online again. */
function pause(milliseconds) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      removeEventListener("online", end);
      resolve();
    };
    const timer = setTimeout(end, milliseconds);
    addEventListener("online", end);
  });
}

async function* parse(body, onBytes) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let event = { id: "", kind: "message", data: [] };
  while (true) {
    const { done, value } = await reader.read();
    if (done) return;
    onBytes();
    const lines = (rest + value).split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        if (event.data.length) yield { id: event.id, kind: event.kind, data: JSON.parse(event.data.join("\n")) };
        event = { id: "", kind: "message", data: [] };
        continue;
      }
      const [, name, text] = /^([^:]*):? ?(.*)$/s.exec(line);
      if (name === "id") event.id = text;
      else if (name === "event") event.kind = text;
      else if (name === "data") event.data.push(text);
    }
  }
}
