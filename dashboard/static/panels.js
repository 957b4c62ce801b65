// The panels of the live page. Outside values only ever become text nodes.

import * as numbers from "./numbers.js";
import { onSite } from "./paths.js";

const BADGES = { CHAMPION: "good", CANARY: "warn", SHADOW: "info" };
const STEPS = [
  { step: "promote", stage: "CHAMPION", name: "Promote" },
  { step: "canary", stage: "CANARY", name: "Canary" },
  { step: "rollback", stage: "ROLLED_BACK", name: "Roll back" },
];
const runbook = (entry) => onSite(`/runbook#${encodeURIComponent(entry.toLowerCase())}`);
const place = (id) => document.getElementById(id);

function make(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

function when(at, now) {
  const made = make("time", "ago", numbers.ago(at, now));
  made.dateTime = new Date(at).toISOString();
  made.title = numbers.moment(at);
  made.dataset.at = at;
  return made;
}

const empty = (tag, text) => make(tag, "nothing", text);

/** Draw the panels whose part of the state changed; "times" updates only the ages. */
export function draw(state, parts, { now, owner }) {
  const some = (...names) => names.some((name) => parts.has(name));
  if (some("verdict")) verdict(state.verdict);
  if (some("fast", "totals", "processes")) healthTiles(state);
  if (some("processes")) place("processes").replaceChildren(...state.processes.map(process));
  if (some("stages")) stages(state.stages);
  if (some("quality", "totals")) qualityTiles(state.quality);
  if (some("drift")) drift(state.drift);
  if (some("models", "serving", "policy")) models(state, now, owner);
  if (some("changes", "raised")) changes(state, now);
  if (some("blocks")) blocks(state.blocks, now);
  if (some("times")) {
    for (const each of document.querySelectorAll("#live time.ago")) {
      const text = numbers.ago(Number(each.dataset.at), now);
      if (each.textContent !== text) each.textContent = text;
    }
  }
}

function verdict({ level, text, todo, anchor }) {
  place("verdict").dataset.level = level;
  const write = (id, words) => { if (place(id).textContent !== words) place(id).textContent = words; };
  write("verdict-text", text);
  write("verdict-todo", todo);
  const link = place("verdict-link");
  link.hidden = !anchor;
  link.href = runbook(anchor);
}

function tiles(id, entries) {
  place(id).replaceChildren(...entries.map(([name, value, note, level]) => {
    const tile = make("div", "tile", make("dt", "", name), make("dd", "", value));
    if (note) tile.append(make("dd", "note", note));
    if (level) tile.dataset.level = level;
    return tile;
  }));
}

function healthTiles(state) {
  const newest = (field) => state.fast?.[field].at(-1) ?? null;
  const waiting = [newest("lag_stream"), newest("lag_scorer")].filter((value) => value !== null);
  const sum = waiting.length ? waiting.reduce((all, value) => all + value, 0) : null;
  tiles("health-tiles", [
    ["Decisions / s", numbers.rate(newest("decided")), `${numbers.count(state.totals?.decided)} so far`],
    ["Latency p50", numbers.ms(newest("p50")), "the median"],
    ["Latency p99", numbers.ms(newest("p99")), "slowest 1%", newest("p99") > 100 ? "warn" : ""],
    ["Waiting", numbers.count(sum), "records", sum > 5_000 ? "warn" : ""],
  ]);
}

function qualityTiles(quality) {
  const below = (value, bound) => (value !== null && value < bound ? "warn" : "");
  tiles("quality-tiles", [
    ["Precision", numbers.share(quality.precision), `block ${numbers.share(quality.block_precision)}`, below(quality.precision, 0.85)],
    ["Recall", numbers.share(quality.recall), `AUC ${numbers.ratio(quality.auc)}`],
    ["Alert rate", numbers.share(quality.alert_rate), "not approved"],
    ["Labelled", numbers.share(quality.coverage), `delay ${numbers.duration(quality.label_delay_s)}`],
  ]);
}

function process(row) {
  const level = !row.up ? "bad" : row.ready ? "good" : "warn";
  const word = !row.up ? "down" : row.ready ? "ready" : "waits";
  const badge = make("span", `badge ${level}`, word);
  const name = make("th", "", row.name);
  name.scope = "row";
  const made = make("tr", "", name, make("td", "", badge),
    make("td", "number", numbers.rate(row.rate)), make("td", "number", numbers.count(row.lag)),
    make("td", "number", numbers.ms(row.p99)));
  made.dataset.process = row.name;
  if (row.reason) badge.title = row.reason;
  return made;
}

function stages(found) {
  place("stages-panel").hidden = !found.length;
  const short = { stream_features: "stream" };
  place("stages").replaceChildren(...found.map((each) => {
    const times = make("dd", "", make("b", "", numbers.short(each.p50)), ` / ${numbers.short(each.p99)}`);
    const cell = make("div", "stage", make("dt", "", each.stage), times);
    cell.title = `${short[each.service] ?? each.service}: ${each.stage}`;
    cell.dataset.service = each.service;
    return cell;
  }));
}

function drift(found) {
  if (!found.length) {
    place("drift").replaceChildren(empty("li", "No figures yet: the monitor needs a champion with reference histograms."));
    return;
  }
  const part = (psi) => `${(100 * psi) / (psi + 0.35)}%`; // small shifts stand apart, large ones fit
  place("drift").replaceChildren(...found.map((each) => {
    const bar = make("span", "bar");
    const fill = make("i", "");
    fill.style.width = part(each.psi ?? 0);
    bar.append(fill);
    for (const limit of [0.1, 0.25]) {
      const mark = make("u", "");
      mark.style.left = part(limit);
      bar.append(mark);
    }
    const row = make("li", "", make("span", "name", each.column), bar, make("b", "", numbers.two(each.psi)));
    row.dataset.level = each.psi > 0.25 ? "bad" : each.psi > 0.1 ? "warn" : "good";
    row.title = each.text;
    return row;
  }));
}

function models(state, now, owner) {
  place("policy").textContent = state.policy ? `policy ${state.policy}` : "the default policy";
  const loaded = new Set((state.serving ?? []).map((each) => each.model_id));
  if (!state.models.length) {
    place("models").replaceChildren(empty("li", "No model is registered, so the rules decide alone."));
    return;
  }
  place("models").replaceChildren(...state.models.map((each) => {
    const share = each.share ? ` ${numbers.share(each.share)}` : "";
    const badge = make("span", `badge ${BADGES[each.stage] ?? ""}`, each.stage.toLowerCase().replace("_", " ") + share);
    const notes = [each.auc === null || each.auc === undefined ? "" : `AUC ${numbers.ratio(each.auc)}`, `by ${each.actor}`];
    if (["CHAMPION", "CANARY", "SHADOW"].includes(each.stage) && !loaded.has(each.model_id)) notes.push("not loaded");
    const about = make("span", "about", make("span", "model-name", each.model_id), badge,
      make("span", "note", `${notes.filter(Boolean).join(", ")}, `, when(each.since, now)));
    const row = make("li", "", about);
    row.title = each.comment ?? "";
    row.dataset.model = each.model_id;
    if (owner) row.append(make("span", "steps", ...steps(each)));
    return row;
  }));
}

function steps(model) {
  return STEPS.filter(({ stage }) => model.steps.includes(stage)).map(({ step, name }) => {
    const button = make("button", `button small${step === "rollback" ? " danger" : ""}`, name);
    button.type = "button";
    button.dataset.step = step;
    button.setAttribute("aria-label", `${name} ${model.model_id}`);
    return button;
  });
}

function changes(state, now) {
  const raised = state.raised?.length ?? 0;
  place("raised").textContent = raised ? `${raised} raised now` : "none raised now";
  place("raised").dataset.level = raised ? "warn" : "";
  const found = state.changes ?? [];
  place("changes").replaceChildren(...(found.length ? found.map((each) => {
    const title = each.kind === "alert" ? make("a", "", each.title) : make("strong", "", each.title);
    if (each.kind === "alert") title.href = runbook(each.title);
    const row = make("li", "", make("span", "dot"), make("p", "", title, " ", each.text), when(each.at, now));
    row.dataset.level = each.level;
    return row;
  }) : [empty("li", "Nothing has changed in the last 7 days.")]));
}

function blocks(found, now) {
  place("blocks").replaceChildren(...(found.length ? found.map((each) => {
    const link = make("a", "amount", each.amount);
    link.href = onSite(`/transactions/${encodeURIComponent(each.transaction_id)}`);
    const head = make("p", "line", link, make("span", "where", `at ${each.merchant_id}, card ${each.card}`),
      make("span", "badge block", numbers.two(each.score)), when(each.at, now));
    const why = make("p", "why", each.reasons.join(" · "));
    why.title = each.reasons.join("\n");
    return make("li", "", head, why);
  }) : [empty("li", "Nothing has been blocked since the dashboard started.")]));
}
