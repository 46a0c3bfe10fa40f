// The page of `kjcm review`: what its keys and buttons do.
import { draw, look, shownCodes } from "./draw.js";
import { listen, search } from "./search.js";
import { $, go, isEnglish, name, named, now, say, titleOf, way } from "./server.js";
import { WORDS } from "./words.js";

const LONGEST_TRAIL = 1000;
const on = { choose, look, visit };
let last = { code: "", at: 0 };  // the last key
const KEPT = ["who", "view", "order"];  // fields that a reload keeps

function show(found) {
  if (!found) return;
  if (found.item?.row !== now.item?.row) now.marked = "";
  now.state = found.state;
  now.item = found.item;
  draw(on);
}

async function choose(code) {
  if (!now.item || !named() || !await comment()) return;
  const { row, chosen } = now.item;
  const found = await go(`api/rows/${row}?${way()}`, { code, who: name(), seen: chosen?.id ?? null });
  if (found) step(row);
  show(found);
  if (!found?.kept) return;
  const { kept } = found, copies = kept.rows > 1 ? ` (× ${kept.rows})` : "";
  $("kept").textContent = `#${row + 1} → ${kept.code} ${titleOf(kept)}${copies}`;
}

// Undo the reviewer's last decision, or that of the row.
async function undo(row = null) {
  if (!named() || !await comment()) return;
  const found = await go("api/undo", { who: name(), row });
  if (!found) return;
  $("kept").textContent = "";
  if (found.item) {
    show(found);
    if (found.item.chosen && found.item.chosen.who !== name()) say(now.words.replaced);
    return;
  }
  now.state = found.state;
  draw(on);
  say(row === null ? now.words.nothing : now.words.notYours);
}

// Skip or flag the row, or end that; comment on it.
async function mark(kind, isOn, note = "") {
  if (!now.item || !named()) return false;
  const { row } = now.item, found = await go(`api/rows/${row}/mark?${way()}`, { who: name(), kind, on: isOn, note });
  if (found && kind === "skip" && isOn) step(row);
  show(found);
  return found !== null;
}

const toggle = async (kind) => await comment() && mark(kind, !now.item?.marks[kind]);

// Save what is in the comment's field; return false if that failed.
async function comment() {
  const note = $("comment").value.trim();
  return !now.item || note === (now.item.marks.comment?.note ?? "") || mark("comment", note !== "", note);
}

// Remember a row that the reviewer leaves: "similar" is no fixed order, so the way back is the way they came.
function step(row) {
  now.trail.push(row);
  if (now.trail.length > LONGEST_TRAIL) now.trail.shift();
}

async function move(back) {
  if (!await comment()) return;
  if (back && $("order").value === "similar" && now.trail.length) {
    visit(now.trail.pop(), false);
    return;
  }
  const row = now.item?.row, found = await go(`api/next?${way({ back })}`);
  if (found && !back && row !== undefined) step(row);
  show(found);
}

async function visit(row, remember = true) {
  await find(`#${row + 1}`, remember);
}

async function find(query, remember = true) {
  if (!await comment()) return false;
  const row = now.item?.row, found = await go(`api/find?${new URLSearchParams({ query, who: name() })}`);
  if (found && remember && row !== undefined) step(row);
  show(found);
  return found !== null;
}

// Show the first row of another view or order.
async function turn() {
  if (!await comment()) return;
  keep();
  now.trail = [];
  show(await go(`api/next?${way({ after: -1 })}`));
}

function cycle(id) {
  $(id).selectedIndex = ($(id).selectedIndex + 1) % $(id).options.length;
  turn();
}

function lookFurther(by) {
  const codes = shownCodes().map((one) => one.code), at = codes.indexOf(now.marked);
  look(codes[Math.max(0, Math.min(codes.length - 1, at + by))]);
}

const KEYS = {
  S: () => toggle("skip"), F: () => toggle("flag"), C: () => $("comment").focus(), G: () => $("go").focus(),
  N: () => move(false), ARROWRIGHT: () => move(false), P: () => move(true), ARROWLEFT: () => move(true),
  U: () => undo(), X: () => { if (now.item?.chosen) undo(now.item.row); }, V: () => cycle("view"), O: () => cycle("order"),
  ARROWDOWN: () => { if (now.item) lookFurther(1); }, ARROWUP: () => { if (now.item) lookFurther(-1); },
  ENTER: () => { if (now.marked) choose(now.marked); }, "/": () => $("query").focus(), "?": help,
};
const ONCE = ["U", "X", "S", "F", "ENTER"];  // as digits: a held or doubly pressed key must not act on a row that nobody has read

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select")) return;
  if (event.key === "Enter" && event.target.matches("button")) return;
  const again = event.repeat || event.code === last.code && event.timeStamp - last.at < 300;
  last = { code: event.code, at: event.timeStamp };
  const letter = /^[a-z]$/i.test(event.key) || !event.code.startsWith("Key") ? event.key.toUpperCase()
    : event.code.replace("Key", "");  // the physical key in a Hangul layout
  const digit = /^[0-9]$/.test(event.key);
  if (!digit && !KEYS[letter]) return;
  event.preventDefault();
  if (again && (digit || ONCE.includes(letter))) return;
  if (!digit) { KEYS[letter](); return; }
  const code = now.item && shownCodes()[(Number(event.key) + 9) % 10];
  if (code) choose(code.code);
}

// Enter in a field acts; Escape leaves it and what it had.
function field(id, act, before) {
  $(id).addEventListener("keydown", async (event) => {
    if (event.isComposing || !["Enter", "Escape"].includes(event.key)) return;
    event.preventDefault();
    if (event.key === "Escape") $(id).value = before();
    if (event.key === "Escape" || await act($(id).value.trim())) $(id).blur();
  });
}

// Save the export as a file. A link to it would save an error without a word.
async function save() {
  const button = $("export"), link = document.createElement("a");
  button.disabled = true;
  try {
    const answer = await fetch("api/export");
    if (!answer.ok) { say(now.words.refused + (await answer.json()).detail); return; }
    link.href = URL.createObjectURL(await answer.blob());
    link.download = `${now.state.file.replace(/\.[^.]*$/, "")}_reviewed.csv`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);  // the browser may still be saving
    say("");
  } catch {
    say(now.words.unexported);
  } finally {
    button.disabled = false;
  }
}

function help() {
  $("keys").hidden = !$("keys").hidden;
  $("help").setAttribute("aria-expanded", String(!$("keys").hidden));
}

function keep() {
  for (const id of KEPT) sessionStorage.setItem(id, $(id).value);
  sessionStorage.setItem("language", isEnglish() ? "en" : "ko");
}

function listenToAll() {
  document.addEventListener("keydown", pressed);
  listen(choose, look);
  const clicks = {
    export: save, undo: () => undo(), back: () => move(true), next: () => move(false), skip: () => toggle("skip"),
    flag: () => toggle("flag"), remove: () => undo(now.item.row), help,
  };
  for (const [id, act] of Object.entries(clicks)) $(id).addEventListener("click", act);
  $("language").addEventListener("click", async () => {
    if (!await comment()) return;
    now.words = isEnglish() ? WORDS.ko : WORDS.en;
    $("kept").textContent = "";  // in the other language, as the message
    say("");
    draw(on);
    keep();
    search();
  });
  $("who").addEventListener("input", keep);
  for (const id of ["view", "order"]) $(id).addEventListener("change", () => { turn(); $(id).blur(); });
  field("go", async (text) => { if (!text || !await find(text)) return false; $("go").value = ""; return true; }, () => "");
  field("comment", comment, () => now.item?.marks.comment?.note ?? "");
  field("who", async () => true, () => $("who").value);
}

async function begin() {
  listenToAll();
  $("who").value = sessionStorage.getItem("who") ?? "";
  for (const id of ["view", "order"]) {
    $(id).append(new Option(sessionStorage.getItem(id) ?? "", sessionStorage.getItem(id) ?? ""));  // until the words are drawn
  }
  const found = await go(`api/next?${way()}`);
  if (!found) return;
  now.words = WORDS[sessionStorage.getItem("language") ?? found.state.language];
  $("who").value ||= found.state.who;
  show(found);
}
begin();
