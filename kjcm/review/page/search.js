// The search: as you type, the codes that fit.
import { usual } from "./draw.js";
import { $, ask, make, now, onMove, say, titleOf } from "./server.js";

const GUESSES = ["MISSPELT", "SIMILAR", "MODEL"];
const END = 16;  // pixels below the list
let hits = [], marked = -1, choose = null, look = null;
// The text whose answer is shown, the row at its first letter, and the search.
let query = { text: "", row: null, number: 0, timer: 0 };

// Listen to the field; `chosen` takes the code that is chosen, `seen` the code that is marked.
export function listen(chosen, seen) {
  [choose, look] = [chosen, seen];
  $("query").addEventListener("keydown", searching);
  $("query").addEventListener("input", typing);
}

// A Korean keyboard sends a syllable with each of its keys: ask when the typing rests, and show only the latest answer.
function typing() {
  if (!$("query").value.trim()) query.row = null;
  else query.row ??= now.item?.row ?? null;
  clearTimeout(query.timer);
  query.timer = setTimeout(search, 120);
}

// Return whether the answer for the field's text is shown.
export async function search(model = false) {
  clearTimeout(query.timer);
  const text = $("query").value, number = ++query.number;
  let found = { hits: [], count: 0, may_ask_model: false };
  if (text.trim()) {
    try {
      found = await ask(`api/search?${new URLSearchParams({ query: text.slice(0, 200), model })}`);
    } catch {
      if (number === query.number) say(model ? now.words.no_model : now.words.unsearched);
      return false;
    }
  }
  if (number !== query.number) return false;
  query.text = text;
  list(found, model);
  if (found.may_ask_model) query.timer = setTimeout(search, 500, true);
  return true;
}

function list(found, model) {
  const before = marked, { words } = now;
  hits = found.hits;
  const asked = $("query").value.trim();
  const more = found.count > hits.length;
  $("many").textContent = more ? words.shown(found.count) : asked && !hits.length ? words.none : "";
  $("results").hidden = !asked;
  $("query").setAttribute("aria-expanded", String(hits.length > 0));
  $("found").replaceChildren(...hits.map(line));
  const below = innerHeight - $("found").getBoundingClientRect().top - END;
  $("found").style.maxHeight = `min(20rem, max(8rem, ${below}px))`;  // on the screen, however low the field is
  mark(model ? before : hits.length && !GUESSES.includes(hits[0].why) ? 0 : -1);  // a guess needs a choice by hand
}

// Show a code's title in the page's language and, if another title matched, that one too.
function line(hit, place) {
  const line = make("li"), own = titleOf(hit), title = make("span"), matched = hit.matched;
  const parts = (matched?.parts ?? []).map(([text, matches]) => matches ? make("mark", text) : text);
  title.append(...(matched?.title === own ? parts : [own]));
  if (matched && matched.title !== own) {
    const small = make("small");
    small.append(...parts, matched.code === hit.code ? "" : ` ${matched.code}`);
    title.append(small);
  }
  line.setAttribute("role", "option");
  line.id = `found-${place}`;
  line.dataset.code = hit.code;
  const share = hit.prob === null ? "" : ` ${(100 * hit.prob).toFixed(1)} %`;
  line.append(make("b", hit.code), title, make("em", (now.words.reason[hit.why] ?? "") + share));
  line.addEventListener("click", () => pick(hit.code));
  onMove(line, () => { if (now.marked !== hit.code) look(hit.code); });
  return line;
}

function mark(place) {
  const lines = [...$("found").children];
  marked = Math.min(lines.length - 1, place);
  lines.forEach((line, at) => line.setAttribute("aria-selected", String(at === marked)));
  if (marked < 0) { $("query").removeAttribute("aria-activedescendant"); return; }
  $("query").setAttribute("aria-activedescendant", lines[marked].id);
  lines[marked].scrollIntoView({ block: "nearest" });
  look(hits[marked].code);
}

// A search that began on another row needs a second choice before it decides this row.
function pick(code) {
  if (now.busy || !now.item) return;
  if (query.row !== now.item.row) {
    query.row = now.item.row;
    say(now.words.other_row);
    return;
  }
  clear();
  choose(code);
}

function clear() {
  $("query").value = "";
  query.row = null;
  search();
  look(now.item && usual());  // Enter must not choose a hit that is no longer shown
  $("query").blur();
}

async function searching(event) {
  if (event.isComposing || event.repeat && event.key === "Enter") return;  // Enter ends a Hangul syllable
  if (!["Enter", "Escape", "ArrowDown", "ArrowUp"].includes(event.key)) return;
  event.preventDefault();
  if (event.key === "Escape") { clear(); return; }
  if ($("query").value !== query.text && !await search()) return;
  if (event.key === "Enter") { if (marked >= 0) pick(hits[marked].code); }
  else mark(event.key === "ArrowDown" ? marked + 1 : Math.max(0, marked - 1));
}
