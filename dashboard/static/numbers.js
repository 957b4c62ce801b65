// Numbers and times as people read them. An unknown value is an en dash.

export const UNKNOWN = "–";
const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat("en-US", { notation: "compact", maximumSignificantDigits: 3 });
const fixed = [0, 1, 2, 3].map((digits) =>
  new Intl.NumberFormat("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits }));

const known = (value) => value !== null && value !== undefined && Number.isFinite(value);

/** 1,234; from a hundred thousand on 123k. */
export function count(value) {
  if (!known(value)) return UNKNOWN;
  return value >= 100_000 ? compact.format(value) : whole.format(value);
}

/** 1,234,567 */
export const exact = (value) => (known(value) ? whole.format(value) : UNKNOWN);

/** A rate per second, with one decimal while it is small. */
export function rate(value) {
  if (!known(value)) return UNKNOWN;
  return value > 0 && value < 9.95 ? fixed[1].format(value) : count(value);
}

/** Milliseconds with their unit: 0.42 ms, 8.1 ms, 73 ms, 1.2 s. */
export function ms(value) {
  if (!known(value)) return UNKNOWN;
  if (value === 0) return "0 ms";
  if (value >= 999.5) return `${fixed[value < 9_950 ? 1 : 0].format(value / 1000)} s`;
  return `${fixed[value < 0.995 ? 2 : value < 9.95 ? 1 : 0].format(value)} ms`;
}

/** Milliseconds without their unit, short: 0.42, 8.1, 73, 1,204. */
export const short = (value) => (known(value) ? fixed[value < 0.995 ? 2 : value < 9.95 ? 1 : 0].format(value) : UNKNOWN);

/** A share: 93.1%, 0.42%. */
export function share(value) {
  if (!known(value)) return UNKNOWN;
  const percent = value * 100;
  return `${fixed[percent > 0 && percent < 0.995 ? 2 : percent < 99.95 ? 1 : 0].format(percent)}%`;
}

/** A figure in [0, 1] with three digits. */
export const ratio = (value) => (known(value) ? fixed[3].format(value) : UNKNOWN);
export const two = (value) => (known(value) ? fixed[2].format(value) : UNKNOWN);

/** Seconds as `schemas.words.quantities.duration` writes them: 12 s, 3 min 24 s, 28 min, 6 days 21 h. */
export function duration(seconds) {
  if (!known(seconds)) return UNKNOWN;
  const total = Math.max(Math.round(seconds), 0);
  const steps = [["day", 86_400, "h", 3_600], ["h", 3_600, "min", 60], ["min", 60, "s", 1]];
  for (const [unit, size, finerUnit, finerSize] of steps) {
    if (total < size) continue;
    const count = Math.floor(total / size);
    const finer = Math.floor((total % size) / finerSize);
    const text = `${whole.format(count)} ${days(unit, count)}`;
    return finer && count < 10 ? `${text} ${finer} ${finerUnit}` : text;
  }
  return `${total} s`;
}

const days = (unit, count) => (unit === "day" && count > 1 ? "days" : unit);

/** How long ago a moment (ms) was: now, 12 s ago, 3 min ago, 5 h ago, 2 days ago. */
export function ago(at, now) {
  const seconds = Math.max((now - at) / 1000, 0);
  if (seconds < 2) return "now";
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min ago`;
  return seconds < 172_800 ? `${Math.floor(seconds / 3_600)} h ago` : `${Math.floor(seconds / 86_400)} days ago`;
}

/** 12:03:11 UTC */
export const clock = (at) => `${new Date(at).toISOString().slice(11, 19)} UTC`;
/** 2026-05-01 12:03:11 UTC */
export const moment = (at) => `${new Date(at).toISOString().slice(0, 19).replace("T", " ")} UTC`;
