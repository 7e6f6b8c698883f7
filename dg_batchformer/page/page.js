/* The page: what it shows is in `state`, which the URL's hash keeps. */

const { document: DATA, drawn: DRAWN, differences: DIFFERENCES } = await unpacked(byId("data").textContent);
const START = { table: "", filter: "", sort: "", row: "", column: "" };
const state = { ...START };
let view = null; // the result that is shown, with the columns and rows of its table

function readHash() {
  const words = new URLSearchParams(location.hash.slice(1));
  for (const name of Object.keys(START)) state[name] = words.get(name) ?? "";
}

function writeHash() {
  const words = new URLSearchParams(Object.entries(state).filter(([, word]) => word));
  try {
    history.replaceState(null, "", `#${words}`);
  } catch { /* A page in a frame without an address has no hash to keep. */ }
}

function showHeader() {
  const folders = DATA.folders.map((folder, i) => [i > 0 && ", ", make("code", {}, folder)]);
  const sentences = (texts) => texts.map((text) => make("p", {}, prose(text)));
  byId("title").textContent = DATA.title;
  fill(byId("made"), {}, [
    `${plural(DATA.runs, "run")} of ${plural(folders.length, "folder")}`, folders.length > 0 && ": ", folders,
    `. Made by ${DATA.made_by}, ${DATA.made_at}.`,
  ]);
  fill(byId("apart"), {}, sentences(DATA.apart));
  fill(byId("legend"), {}, sentences(DATA.legend));
  fill(byId("problems"), {}, DATA.problems.map(problemDetails));
  byId("problems").hidden = !DATA.problems.length;
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

/* One list of all tables, by selection method. */
function showChoices() {
  const selections = new Map(DATA.results.map((result) => [result.selection, result]));
  byId("choice").append(...[...selections.values()].map(({ selection, selection_title: title, oracle }) =>
    make("optgroup", { label: oracle ? `${title}: uses test data, not a fair number` : title },
      DATA.results.filter((result) => result.selection === selection).map((result) =>
        make("option", { value: result.id }, `${settingName(result)} (${title})`)))));
}

function chosenResult() {
  const find = (wanted) => DATA.results.find(wanted);
  return find((result) => result.id === state.table) ?? find((result) => !result.oracle) ?? DATA.results[0];
}

function showView() {
  const result = chosenResult();
  byId("choice").value = result.id;
  byId("filter").value = state.filter;
  byId("band").textContent = result.oracle ? "Uses test data: not a fair number." : "";
  byId("caption").replaceChildren(...prose(result.caption));
  byId("lacking").replaceChildren(...(result.lacking ? prose(result.lacking) : []));
  for (const id of ["table-scroll", "hint", "legend"]) byId(id).hidden = Boolean(result.lacking);
  const shown = result.lacking ? { ...result, rows: [] } : result;
  view = { result, ...buildTable(shown) };
  showRows();
}

function showRows() {
  showTable();
  showCharts(view.result);
}

/* What sorting changes. */
function showTable() {
  showDetails(view.result, arrangeRows(view));
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
  showChoices();
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("choice").addEventListener("change", (event) => { state.table = event.target.value; showView(); });
  byId("filter").addEventListener("input", (event) => { state.filter = event.target.value; showRows(); });
  addEventListener("hashchange", () => { readHash(); showView(); });
  readHash();
  showView();
}

start();
