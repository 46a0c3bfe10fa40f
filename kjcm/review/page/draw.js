// What the page shows of the state and the row.
import { $, ask, isEnglish, make, name, now, onMove, titleOf } from "./server.js";

export const shownCodes = () => [...now.item.first, ...(now.item.further ?? [])];

// Return the code that is marked first: the decided code if it is shown, else the first.
export function usual() {
  const codes = shownCodes();
  return (codes.find((one) => one.code === now.item.chosen?.code) ?? codes[0])?.code;
}

// Draw everything; `on` has what a click does: choose(code), look(code), visit(row).
export function draw(on) {
  const { words, state } = now;
  document.documentElement.lang = isEnglish() ? "en" : "ko";
  for (const element of document.querySelectorAll("[data-t]")) element.textContent = words[element.dataset.t];
  for (const id of ["back", "next", "undo", "remove"]) $(id).textContent = words[id];
  $("language").textContent = words.other;
  $("file").textContent = $("file").title = state.file;
  for (const id of ["query", "comment"]) {
    $(id).placeholder = words[id === "query" ? "search" : id];
    $(id).setAttribute("aria-label", $(id).placeholder);
  }
  options("view", words.views, (view) => ` (${state.views[view]})`);
  options("order", words.orders, () => "");
  $("keys").replaceChildren(...words.keys.map(([key, what]) => {
    const pair = make("div");
    pair.append(make("dt", key), make("dd", what));
    return pair;
  }));
  $("unvalidated").hidden = !state.from_titles;
  drawProgress();
  drawItem(on);
}

function options(id, names, more) {
  const chosen = $(id).value || Object.keys(names)[0];
  const option = ([value, text]) => Object.assign(make("option", text + more(value)), { value });
  $(id).replaceChildren(...Object.entries(names).map(option));
  $(id).value = chosen;
}

function drawProgress() {
  const { words, state } = now;
  $("bar").firstElementChild.style.width = `${100 * (state.rows ? state.settled / state.rows : 1)}%`;
  $("bar").setAttribute("aria-valuenow", state.settled);
  $("bar").setAttribute("aria-valuemax", state.rows);
  const left = Object.entries(state.counts).map(([name, n]) => `${words.decisions[name] ?? name} ${n.rows - n.settled}`);
  const parts = [words.progress(state), `${words.left}: ${left.join(", ")}`];
  if (state.views.skipped + state.views.flagged) parts.push(words.marked.replace(/{(\w+)}/g, (_, view) => state.views[view]));
  const cases = state.views.open + state.views.skipped;
  if (state.pace !== null && cases) {
    const minutes = Math.max(1, Math.round(state.pace * cases / 60));
    parts.push(words.pace(state.pace.toFixed(state.pace < 10 ? 1 : 0), words.hours(Math.floor(minutes / 60), minutes % 60)));
  }
  $("progress").textContent = parts.join(" · ");
}

function drawItem(on) {
  const { words, item, state } = now, view = $("view").value;
  document.querySelector("aside").hidden = !item;
  $("answer").dataset.row = item ? item.row : "";
  for (const id of ["skip", "flag", "comment", "remove"]) $(id).disabled = !item;
  $("remove").hidden = !item?.chosen || item.chosen.who !== name();
  $("skip").textContent = words[item?.marks.skip ? "unskip" : "skip"];
  $("flag").textContent = words[item?.marks.flag ? "unflag" : "flag"];
  $("flag").setAttribute("aria-pressed", String(Boolean(item?.marks.flag)));
  const field = $("comment"), { row } = $("answer").dataset;
  if (document.activeElement !== field || field.dataset.row !== row) field.value = item?.marks.comment?.note ?? "";
  field.dataset.row = row;
  $("codes").replaceChildren(...(item ? shownCodes().map((code, place) => codeLine(code, place, on)) : []));
  $("similar").replaceChildren(...(item ? similarLines(on) : []));
  if (!item) {
    const still = view === "open" && state.views.skipped ? ` ${words.still(state.views.skipped)}` : "";
    $("answer").replaceChildren(make("p", words.done[view] + still));
    return;
  }
  const list = make("dl");
  for (const role of ["workplace", "position", "task"])
    if (item.text[role]) list.append(make("dt", words[role]), make("dd", item.text[role]));
  for (const [column, text] of item.columns) if (text) list.append(make("dt", column), make("dd", text, "further"));
  $("answer").replaceChildren(list, make("p", notes().join(" · ")));
  on.look(now.marked || usual());
}

// Return what the page says about the row below its texts.
function notes() {
  const { words, item } = now, { flag, skip, comment } = item.marks;
  const isUnsure = now.state.from_titles && item.decision === "choose";  // no answer says how likely the list is right
  const told = item.disputed ? words.disputed : isUnsure ? "" : words.why[item.decision] ?? item.decision;
  const why = told + (["back off", "accept", "index"].includes(item.decision) ? item.given : "");
  return [
    `#${item.row + 1}${item.id ? ` (${item.id})` : ""}`, why, item.same > 1 && words.same(item.same),
    item.chosen && `${words.chosen}: ${item.chosen.code} (${item.chosen.who})`,
    flag && `⚑ ${words.flaggedBy}: ${flag.who}`, skip && `${words.skippedBy}: ${skip.who}`,
    comment && `“${comment.note}” (${comment.who})`,
  ].filter(Boolean);
}

function codeLine(code, place, on) {
  const { words, item } = now, listed = item.picks.includes(code.code), chosen = item.chosen?.code === code.code;
  const line = make("li"), button = make("button", "", [listed && "listed", chosen && "chosen"].filter(Boolean).join(" "));
  button.title = [listed && words.listed, chosen && words.chosen].filter(Boolean).join(", ");
  button.type = "button";
  button.dataset.code = code.code;
  const bar = make("i");
  bar.style.width = `${100 * (code.prob ?? 0)}%`;
  const share = code.prob === undefined ? "" : `${(100 * code.prob).toFixed(1)} %`;  // further codes have no probability
  const key = place < 9 ? place + 1 : place === 9 ? 0 : "";
  button.append(bar, make("kbd", key), make("b", code.code), make("span", titleOf(code)), make("span", share, "prob"));
  button.addEventListener("click", () => on.choose(code.code));
  onMove(button, () => { if (now.marked !== code.code) on.look(code.code); });
  line.append(button);
  return line;
}

function similarLines(on) {
  if (!now.item.similar.length) return [make("li", now.words.noSimilar, "soft")];
  return now.item.similar.map((one) => {
    const line = make("li"), button = make("button"), { workplace, position, task } = one.text;
    const text = [position, workplace, task].filter(Boolean).join(" · ");
    button.type = "button";
    button.title = text;
    const similarity = `#${one.row + 1} · ${(100 * one.similarity).toFixed(0)} %`;
    button.append(make("b", one.code), make("span", titleOf(one)), make("small", similarity), make("span", text, "text"));
    button.addEventListener("click", () => on.visit(one.row));
    line.append(button);
    return line;
  });
}

// Show the definition of a code, and mark the code.
export async function look(code) {
  const row = now.item?.row;
  if (row === undefined || !code) { $("about").replaceChildren(); return; }
  now.marked = code;
  for (const button of document.querySelectorAll("#codes button")) {
    button.classList.toggle("marked", button.dataset.code === code);
  }
  const about = now.item.about[code] ?? await ask(`api/codes?${new URLSearchParams({ code, row })}`).catch(() => null);
  if (about && now.item?.row === row && now.marked === code) drawAbout(about);
}

function drawAbout(about) {
  const { words } = now, named = (one) => `${one.code} ${titleOf(one)}`;
  const parts = [make("p", about.above.map(named).join(" › "), "above"), make("h2", named(about))];
  parts.push(about.description ? make("p", about.description, "description")
    : about.below.length ? "" : make("p", words.undescribed, "soft"));
  const list = make("dl");
  if (about.below.length) list.append(make("dt", words.below), make("dd", about.below.map(named).join(", ")));
  if (about.titles.length) list.append(make("dt", words.titles), make("dd", about.titles.join(", ")));
  $("about").replaceChildren(...parts, list);
}
