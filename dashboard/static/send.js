// Sends changes, with the CSRF token of the page.

import { here, onSite } from "./paths.js";

/** POST `values` as a form; returns the answer's JSON, null if it has none.
 *  Throws an Error whose message can be shown to people; leaves for the log-in page without a session. */
export async function send(path, values = {}) {
  const csrf = document.querySelector('meta[name="csrf"]')?.content ?? "";
  let answer;
  try {
    answer = await fetch(path, {
      method: "POST",
      headers: { "X-CSRF-Token": csrf, Accept: "application/json" },
      body: new URLSearchParams(values),
    });
  } catch {
    throw new Error("The dashboard does not answer. Try again.");
  }
  if (answer.status === 401) {
    location.assign(onSite(`/login?next=${encodeURIComponent(here())}`));
    throw new Error("Log in again.");
  }
  const json = answer.headers.get("content-type")?.startsWith("application/json");
  const found = json ? await answer.json() : null;
  if (!answer.ok) throw new Error(found?.detail ?? `That did not work (${answer.status}).`);
  return found;
}
