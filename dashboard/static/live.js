// The live page: one event stream, a bounded history for the charts, and panels that are redrawn only
// when their part of the state changes. Nothing is drawn while the page is hidden.

import { histogram, lines } from "./charts.js";
import * as numbers from "./numbers.js";
import { draw } from "./panels.js";
import { onSite } from "./paths.js";
import { listen } from "./steps.js";

const STALE_MS = 4_000;
const RETRY_MS = 2_000;
const LONGEST = { fast: 600, slow: 360 };
const root = document.getElementById("live");
const owner = root.dataset.owner === "yes";
const state = { fast: null, slow: null, newest: 0, skew: 0 };
const changed = new Set();
let drawing = 0;

const figure = (id) => document.getElementById(id);
const percent = (value) => (value === null ? numbers.UNKNOWN : `${+(value * 100).toPrecision(3)}%`);
const charts = {
  throughput: lines(figure("throughput"), {
    title: "Throughput", aside: "per second", span: 600, top: 10, whole: true, format: numbers.rate, axis: numbers.count,
    series: [
      { field: "decided", label: "decided", colour: "series-1", fill: true },
      { field: "arrived", label: "arrived", colour: "series-2", dash: true },
    ],
  }),
  latency: lines(figure("latency"), {
    title: "Latency", span: 600, top: 5, format: numbers.ms, axis: numbers.ms,
    series: [
      { field: "p99", label: "p99", colour: "series-2" },
      { field: "p50", label: "p50", colour: "series-1" },
      { field: "vector_p99", label: "features p99", colour: "series-4", dash: true },
    ],
  }),
  lag: lines(figure("lag"), {
    title: "Consumer lag", aside: "records", span: 600, top: 10, whole: true, format: numbers.count, axis: numbers.count,
    series: [
      { field: "lag_stream", label: "stream", colour: "series-1" },
      { field: "lag_scorer", label: "scorer", colour: "series-2" },
    ],
  }),
  mix: lines(figure("mix"), {
    title: "Decision mix", aside: "share", span: 600, top: 0.01, highest: 1, format: numbers.share, axis: percent,
    series: [
      { field: "review_share", label: "review", colour: "amber" },
      { field: "block_share", label: "block", colour: "red" },
    ],
  }),
  quality: lines(figure("quality"), {
    title: "Precision and recall", aside: "last day", span: 3_600, top: 1, highest: 1, format: numbers.share, axis: percent,
    series: [
      { field: "precision", label: "precision", colour: "series-3" },
      { field: "recall", label: "recall", colour: "series-4" },
    ],
  }),
};
const scores = histogram(figure("scores"), { title: "Scores", aside: "5 min, log", format: numbers.count });

function derived(columns) {
  const sum = (index) => {
    const parts = [columns.approve[index], columns.review[index], columns.block[index]];
    return parts.some((part) => part === null) ? null : parts[0] + parts[1] + parts[2];
  };
  const of = (field) => columns.at.map((_, index) => {
    const all = sum(index);
    return all ? columns[field][index] / all : null;
  });
  return {
    ...columns,
    decided: columns.at.map((_, index) => sum(index)),
    review_share: of("review"),
    block_share: of("block"),
  };
}

function append(name, columns) {
  if (name === "fast") columns = derived(columns);
  const kept = state[name];
  if (kept === null) {
    state[name] = columns;
    return;
  }
  const last = kept.at.length ? kept.at[kept.at.length - 1] : 0;
  columns.at.forEach((at, index) => {
    if (at <= last) return;
    for (const field of Object.keys(kept)) kept[field].push(columns[field][index]);
  });
  const surplus = kept.at.length - LONGEST[name];
  if (surplus > 0) for (const field of Object.keys(kept)) kept[field].splice(0, surplus);
}

function take(message, whole) {
  if (whole && !message.resumes) state.fast = state.slow = null;
  for (const name of ["fast", "slow"]) {
    if (message[name]) {
      append(name, message[name]);
      changed.add(name);
    }
  }
  for (const [name, section] of Object.entries(message)) {
    if (name === "fast" || name === "slow" || name === "resumes") continue;
    state[name] = section;
    changed.add(name);
  }
  const at = state.fast?.at.at(-1);
  if (at) {
    state.skew = Date.now() - at;
    state.newest = Date.now();
  }
  schedule();
}

function schedule() {
  if (document.hidden || drawing) return;
  drawing = requestAnimationFrame(() => {
    drawing = 0;
    const parts = new Set(changed);
    changed.clear();
    if (parts.has("fast")) for (const name of ["throughput", "latency", "lag", "mix"]) charts[name].set(state.fast);
    if (parts.has("slow") && state.slow) charts.quality.set(state.slow);
    if (parts.has("scores") || parts.has("thresholds")) scores.set(state.scores, state.thresholds);
    draw(state, parts, { now: Date.now() - state.skew, owner });
    freshness();
  });
}

function freshness() {
  const age = Date.now() - state.newest;
  const stale = state.newest > 0 && age > STALE_MS;
  root.toggleAttribute("data-stale", stale);
  const at = state.fast?.at.at(-1);
  const text = !at ? "" : stale ? `No data since ${numbers.clock(at)}` : `Live, ${numbers.clock(at)}`;
  const place = document.getElementById("freshness");
  if (place.textContent !== text) place.textContent = text;
}

// EventSource reconnects after a broken connection, with the last event's id. It gives up after an
// answer that is not a stream (a restarting dashboard, an expired session), so we create a new one.
function connect() {
  const source = new EventSource(onSite("/live/events"));
  source.addEventListener("snapshot", (event) => take(JSON.parse(event.data), true));
  source.addEventListener("delta", (event) => take(JSON.parse(event.data), false));
  source.addEventListener("error", async () => {
    if (source.readyState !== EventSource.CLOSED) return;
    const answer = await fetch(onSite("/live/events"), { method: "HEAD" }).catch(() => null);
    if (answer?.status === 401) location.reload();
    else setTimeout(connect, RETRY_MS);
  });
}

document.addEventListener("visibilitychange", schedule);
setInterval(() => {
  if (document.hidden) return;
  freshness();
  draw(state, new Set(["times"]), { now: Date.now() - state.skew, owner });
}, 1_000);
if (owner) listen();
connect();
