// What the page knows, and its requests.
import { WORDS } from "./words.js";

export const $ = (id) => document.getElementById(id);
export const make = (tag, text, name) =>
  Object.assign(document.createElement(tag), { textContent: text ?? "", className: name ?? "" });

// marked: the code whose definition is shown; trail: rows seen in the order "similar", the last one last.
export const now = { words: WORDS.ko, state: null, item: null, marked: "", trail: [], busy: false };

export const isEnglish = () => now.words === WORDS.en;
export const titleOf = (code) => isEnglish() && code.english || code.title;
export const name = () => $("who").value.trim();
// Act when the mouse moves over an element. A mouse that rests while the page changes below it does nothing.
export const onMove = (element, act) => element.addEventListener("mousemove", (event) => {
  if (event.movementX || event.movementY) act();
});
export const say = (text) => { $("message").textContent = text; };

// Return whether there is a reviewer's name; ask for it otherwise.
export function named() {
  if (name()) return true;
  say(now.words.noName);
  $("who").focus();
  return false;
}

export async function ask(path, body) {
  const options = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(path, options);
  const found = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(found.detail), { status: answer.status });
  return found;
}

// Allow one request at a time: two keys pressed at once send one request.
export async function go(path, body) {
  if (now.busy) return null;
  now.busy = true;
  try {
    const found = await ask(path, body);
    say("");
    return found;
  } catch (error) {
    const { words } = now;
    const fields = Object.entries({ who: words.name, note: words.note });
    const wrong = fields.find(([key]) => error.message.startsWith(`${key}:`))?.[1];
    const known = { 404: words.noRow, 409: words.meanwhile }[error.status] ?? wrong;
    say(error.status ? known ?? words.refused + error.message : words.failed);
    return error.status === 409 ? await ask(`api/next?${way()}`).catch(() => null) : null;
  } finally {
    now.busy = false;
  }
}

// Return the query that says which row comes next.
export function way(more) {
  const view = $("view").value || "open", order = $("order").value || "file";
  const passed = order === "similar" ? now.trail.join(",") : "";
  return new URLSearchParams({ after: now.item ? now.item.row : -1, who: name(), view, order, passed, ...more });
}
