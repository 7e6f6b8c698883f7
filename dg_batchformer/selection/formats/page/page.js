/* The page: what it shows is in `state`, which the URL's hash keeps. */

const DATA = JSON.parse(byId("document").textContent);
const START = {
  table: "", filter: "", sort: "", row: "", column: "", modifier: "", environment: "", zoom: "", bars: [], curves: [],
};
const COLOUR_OF = familyColours(DATA.results);
const familyColour = (algorithm) => COLOUR_OF.get(familyOf(algorithm));
const state = { ...START };
let view = null; // the result that is shown, with the columns and rows of its table

function readHash() {
  const words = new URLSearchParams(location.hash.slice(1));
  for (const [name, start] of Object.entries(START)) {
    state[name] = Array.isArray(start) ? words.getAll(name) : words.get(name) ?? start;
  }
}

function writeHash() {
  const words = new URLSearchParams();
  for (const [name, value] of Object.entries(state)) {
    for (const word of [value].flat()) if (word) words.append(name, word);
  }
  try {
    history.replaceState(null, "", `#${words}`);
  } catch { /* A page in a frame without an address has no hash to keep. */ }
}

function showHeader() {
  const folders = (DATA.folders ?? []).map((folder, i) => [i > 0 && ", ", make("code", {}, folder)]);
  const sentences = (texts) => (texts ?? []).map((text) => make("p", {}, prose(text)));
  byId("title").textContent = DATA.title;
  fill(byId("made"), {}, [
    `${plural(DATA.runs, "run")} of ${plural(folders.length, "folder")}`, folders.length > 0 && ": ", folders,
    `. Made by ${DATA.made_by}, ${DATA.made_at}.`,
  ]);
  fill(byId("apart"), {}, sentences(DATA.apart));
  fill(byId("legend"), {}, sentences(DATA.legend));
  fill(byId("problems"), {}, (DATA.problems ?? []).map(problemDetails));
  byId("problems").hidden = !DATA.problems?.length;
}

/* Its texts may be thousands: they are listed when asked for. */
function problemDetails(problem) {
  const details = make("details", {}, make("summary", {}, prose(problem.kind), " (", make("b", {}, String(problem.n)), ")"));
  const list = () => details.append(make("ul", {}, problem.texts.map((text) => make("li", {}, prose(text)))));
  details.addEventListener("toggle", list, { once: true });
  return details;
}

/* What a table's option says: the dataset, and of the setting what differs among the tables. */
function settingName(result) {
  const varying = Object.keys(result.setting).filter((name) =>
    name !== "dataset" && new Set(DATA.results.map((other) => other.setting[name])).size > 1);
  const dataset = result.dataset === "Avg" ? `Average over ${result.environments.join(", ")}` : result.dataset;
  return [dataset, ...varying.map((name) => `${name} ${result.setting[name]}`)].join(", ");
}

/* The oracle's radio button is of another group, so that arrow keys do not stray into it. */
function showSelections() {
  const selections = new Map(DATA.results.map((result) => [result.selection, result]));
  for (const { selection, selection_title: title, oracle } of selections.values()) {
    const group = oracle ? "unfair" : "fair";
    const onchange = () => chooseSelection(selection);
    const radio = make("input", { type: "radio", name: group, value: selection, onchange });
    byId(group).append(make("label", {}, radio, ` ${title}`));
  }
  byId("fence").hidden = !byId("unfair").firstChild;
}

/* Keeps the dataset where the other selection has it too. */
function chooseSelection(selection) {
  const candidates = DATA.results.filter((result) => result.selection === selection);
  const same = candidates.find((result) => settingName(result) === settingName(view.result));
  chooseTable((same ?? candidates[0]).id);
}

function chooseTable(id) {
  state.table = id;
  showView();
}

function chosenResult() {
  const find = (wanted) => DATA.results.find(wanted);
  return find((result) => result.id === state.table) ?? find((result) => !result.oracle) ?? DATA.results[0];
}

function showView() {
  const result = chosenResult();
  showControls(result);
  byId("view").classList.toggle("oracle", Boolean(result.oracle));
  byId("band").textContent = result.oracle ? "Uses test data: not a fair number." : "";
  byId("caption").replaceChildren(...prose(result.caption));
  byId("lacking").replaceChildren(...(result.lacking ? prose(result.lacking) : []));
  for (const id of ["table-scroll", "hint", "legend"]) byId(id).hidden = Boolean(result.lacking);
  const shown = result.lacking ? { ...result, rows: [], comparisons: [] } : result;
  view = { result: shown, ...buildTable(shown) };
  showRows();
}

function showControls(result) {
  for (const radio of byId("controls").querySelectorAll("input[type='radio']")) {
    radio.checked = radio.value === result.selection;
  }
  const tables = DATA.results.filter((other) => other.selection === result.selection);
  byId("setting").replaceChildren(...tables.map((other) => make("option", { value: other.id }, settingName(other))));
  byId("setting").value = result.id;
  byId("filter").value = state.filter;
  byId("zoom").checked = Boolean(state.zoom);
}

/* What sorting and the filter change. */
function showRows() {
  const rows = arrangeRows(view);
  showDetails(view.result, rows);
  showBars(view.result, rows);
  showForest(view.result);
  showCurves(view.result, rows);
  writeHash();
}

/* Opens a cell's details, or closes them where they are open. */
function openCell(key, column) {
  const open = state.row === key && state.column === column;
  [state.row, state.column] = open ? ["", ""] : [key, column];
  showDetails(view.result, view.rows);
  writeHash();
}

function start() {
  showHeader();
  if (!DATA.results.length) {
    byId("controls").hidden = true;
    byId("view").replaceChildren(make("p", { class: "lacking" }, "There is no table: no run is done."));
    return;
  }
  const change = (name, word) => (event) => { state[name] = word(event.target); showRows(); };
  showSelections();
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("setting").addEventListener("change", (event) => chooseTable(event.target.value));
  byId("filter").addEventListener("input", change("filter", (input) => input.value));
  byId("zoom").addEventListener("change", change("zoom", (box) => (box.checked ? "1" : "")));
  addEventListener("hashchange", () => { readHash(); showView(); });
  readHash();
  showView();
}

start();
