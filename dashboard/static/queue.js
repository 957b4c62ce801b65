// The review queue: shortcuts, countdowns, a list that refreshes itself, and claims that are renewed
// while their holder works. The pages also work without this file, with links and forms.
import { send } from "./send.js";

const REFRESH_MS = 2000;
const TYPING = "input, textarea, select, [contenteditable]";
let leaving = false;

/** The first element whose data-key is the pressed key is clicked, or focused if it is a field. */
function press(key) {
  const found = document.querySelector(`[data-key="${CSS.escape(key)}"]:not(:disabled)`);
  if (!found) return false;
  if (found.matches(TYPING)) found.focus();
  else found.click();
  return true;
}

/** Move the focus through the list; Enter then opens the case by itself. */
function move(step) {
  const links = [...document.querySelectorAll(".cases .line-link")];
  if (!links.length) return false;
  const row = document.activeElement.closest("tr[data-case]");
  const at = links.findIndex((link) => row?.contains(link));
  const to = at < 0 ? 0 : Math.min(Math.max(at + step, 0), links.length - 1);
  links[to].focus();
  links[to].closest("tr").scrollIntoView({ block: "nearest" });
  return true;
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.isComposing) return;
  if (document.querySelector("dialog[open]")) return;
  if (event.target.closest?.(TYPING)) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const moved = { j: 1, k: -1 }[event.key];
  if ((moved && move(moved)) || (!leaving && event.key.length === 1 && press(event.key))) event.preventDefault();
});

document.addEventListener("click", (event) => {
  if (event.target.closest('[data-key="?"]')) document.querySelector("#shortcuts").showModal();
});

// One press, one verdict: a form is not sent again while its answer is pending.
document.addEventListener("submit", (event) => {
  if (event.target.method === "dialog") return;
  if (leaving) event.preventDefault();
  leaving = true;
});
window.addEventListener("pageshow", () => {
  leaving = false;
});

/** Show the time left until data-until; data-now is the server's time when it made the page. */
function countDown() {
  for (const each of document.querySelectorAll("[data-until]")) {
    each.ends ??= performance.now() + (Number(each.dataset.until) - Number(each.dataset.now));
    const left = Math.max(0, Math.ceil((each.ends - performance.now()) / 1000));
    const text = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
    if (each.textContent !== text) each.textContent = text;
    if (!left) each.closest("[data-toast]")?.remove();
  }
}
countDown();
setInterval(countDown, 250);

/** Fetch, or return null for the next round to try again. Without a session, go to the log-in. */
async function ask(path) {
  try {
    const answer = await fetch(path, { headers: { Accept: "*/*" } });
    if (answer.status === 401) location.reload();
    return answer.ok ? answer : null;
  } catch {
    return null;
  }
}

async function refreshList(list) {
  const answer = await ask(list.dataset.refresh);
  if (!answer || leaving) return;
  const html = await answer.text();
  const focused = document.activeElement;
  const row = focused.closest("tr[data-case]")?.dataset.case;
  const held = list.contains(focused) ? [focused.tagName, focused.getAttribute("href")] : null;
  list.innerHTML = html; // made by our own template, which escapes every value
  countDown();
  if (row) list.querySelector(`tr[data-case="${row}"] ${held[0] === "BUTTON" ? "button" : ".line-link"}`)?.focus();
  else if (held) list.querySelector(`[href="${CSS.escape(held[1] ?? "")}"]`)?.focus();
}

/** Reload the page when its case has changed, unless a note would be lost. */
async function watchCase(page) {
  const answer = await ask(page.dataset.watch);
  if (!answer || leaving) return;
  const { state } = await answer.json();
  const note = page.querySelector("textarea");
  const written = note !== null && note.value !== note.defaultValue;
  if (state !== page.dataset.state && !written) location.replace(location.pathname);
}

const list = document.querySelector("[data-refresh]");
const page = document.querySelector("[data-watch]");
const look = () => (list ? refreshList(list) : watchCase(page));
async function follow() {
  if (!document.hidden && !leaving) await look();
  setTimeout(follow, REFRESH_MS);
}
setTimeout(follow, REFRESH_MS);

if (page?.dataset.renew) {
  const every = Math.min(Number(page.dataset.claimMs) / 4, 60_000);
  let renewed = performance.now();
  const active = async () => {
    if (performance.now() - renewed < every || leaving) return;
    renewed = performance.now();
    try {
      const { claimed_until: until, now } = await send(page.dataset.renew);
      const shown = page.querySelector("[data-claim]");
      shown.ends = performance.now() + (until - now);
    } catch {
      look();
    }
  };
  for (const kind of ["keydown", "pointerdown", "pointermove", "scroll"]) {
    document.addEventListener(kind, active, { passive: true });
  }
}
