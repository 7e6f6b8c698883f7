/* The page: what it shows is in `state`, which the URL's hash keeps. */

const DATA = JSON.parse(byId("document").textContent);
const START = { table: "", filter: "", sort: "", row: "", column: "", modifier: "", bars: [], zoom: "", curves: [], environment: "" };
const COLOUR_OF = familyColours(DATA.results);
const familyColour = (algorithm) => COLOUR_OF.get(familyOf(algorithm));
const state = { ...START };
let view = null; // the result that is shown, with the columns and rows of its table

function readHash() {
  const words = new URLSearchParams(location.hash.slice(1));
  for (const [name, start] of Object.entries(START)) state[name] = Array.isArray(start) ? words.getAll(name) : words.get(name) ?? start;
}

function writeHash() {
  const words = new URLSearchParams();
  for (const [name, value] of Object.entries(state)) [value].flat().filter(Boolean).forEach((own) => words.append(name, own));
  try {
    history.replaceState(null, "", `#${words}`);
  } catch { /* A page in a frame without an address has no hash to keep. */ }
}

function showHeader() {
  byId("title").textContent = DATA.title;
  const folders = DATA.folders ?? [];
  byId("made").append(
    `${plural(DATA.runs, "run")} of ${plural(folders.length, "folder")}`,
    folders.length ? [": ", folders.flatMap((folder, i) => [i ? ", " : "", make("code", {}, folder)])].flat(2).reduce((span, part) => { span.append(part); return span; }, make("span")) : "",
    make("span", { class: "by" }, ` Made by ${DATA.made_by}, ${DATA.made_at}.`));
  byId("apart").append(...(DATA.apart ?? []).map((sentence) => make("p", {}, prose(sentence))));
  byId("problems").append(...(DATA.problems ?? []).map(showProblem));
  byId("problems").hidden = !DATA.problems?.length;
  byId("legend").append(...(DATA.legend ?? []).map((sentence) => make("p", {}, prose(sentence))));
}

/* Its texts may be thousands: they are listed when asked for. */
function showProblem(problem) {
  const details = make("details", {}, make("summary", {}, make("b", {}, String(problem.n)), " ", prose(problem.kind)));
  details.addEventListener("toggle", () => details.append(make("ul", {}, problem.texts.map((text) => make("li", {}, prose(text))))), { once: true });
  return details;
}

/* What a dataset's option says: the dataset, and those of the setting that differ among the tables. */
function settingName(result) {
  const names = Object.keys(result.setting).filter((name) => name !== "dataset");
  const varying = names.filter((name) => new Set(DATA.results.map((other) => other.setting[name])).size > 1);
  const dataset = result.dataset === "Avg" ? `Average over ${result.environments.join(", ")}` : result.dataset;
  return [dataset, ...varying.map((name) => `${name} ${result.setting[name]}`)].join(", ");
}

function showSelections() {
  const seen = new Map(DATA.results.map((result) => [result.selection, result]));
  for (const result of seen.values()) {
    const group = result.oracle ? "unfair" : "fair";
    byId(group).append(make("label", {}, make("input",
      { type: "radio", name: group, value: result.selection, onchange: () => chooseSelection(result.selection) }), ` ${result.selection_title}`));
  }
  byId("fence").hidden = ![...seen.values()].some((result) => result.oracle);
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

function showView() {
  const result = DATA.results.find((candidate) => candidate.id === state.table) ?? DATA.results.find((candidate) => !candidate.oracle) ?? DATA.results[0];
  for (const radio of byId("controls").querySelectorAll("input[type='radio']")) radio.checked = radio.value === result.selection;
  const choice = byId("setting");
  choice.replaceChildren(...DATA.results.filter((other) => other.selection === result.selection)
    .map((other) => make("option", { value: other.id }, settingName(other))));
  choice.value = result.id;
  byId("filter").value = state.filter;
  byId("zoom").checked = Boolean(state.zoom);
  byId("view").classList.toggle("oracle", Boolean(result.oracle));
  byId("band").hidden = !result.oracle;
  byId("band").textContent = result.oracle ? "Uses test data: not a fair number." : "";
  byId("caption").replaceChildren(...prose(result.caption));
  byId("lacking").hidden = !result.lacking;
  byId("lacking").replaceChildren(...prose(result.lacking ?? ""));
  for (const id of ["table-scroll", "hint", "legend"]) byId(id).hidden = Boolean(result.lacking);
  view = { result, ...buildTable(result.lacking ? { ...result, rows: [] } : result) };
  showRows();
}

/* What sorting and the filter change. */
function showRows() {
  const rows = arrangeRows(view);
  showDetails(view.result, rows);
  showBars(view.result, rows);
  showForest(view.result.lacking ? { comparisons: [] } : view.result);
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
    byId("view").replaceChildren(make("p", { class: "lacking" }, "No run is done, so there is no number yet."));
    return;
  }
  showSelections();
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("setting").addEventListener("change", (event) => chooseTable(event.target.value));
  byId("filter").addEventListener("input", (event) => { state.filter = event.target.value; showRows(); });
  byId("zoom").addEventListener("change", (event) => { state.zoom = event.target.checked ? "1" : ""; showRows(); });
  addEventListener("hashchange", () => { readHash(); showView(); });
  readHash();
  showView();
}

start();
