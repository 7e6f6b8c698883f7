/* The page: `state` has what it shows, and the URL's hash keeps it. Texts become text nodes, never HTML. */

const NONE = "\u2013";
const START = { table: "", filter: "", sort: "", row: "", column: "" };
const state = { ...START };
let view = null; // the shown result, with the columns and rows of its table

const byId = (id) => document.getElementById(id);

/* Names that begin with "on" are listeners; null and false omit an attribute or a child. */
function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child || child === 0));
  return element;
}

const make = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const button = (attributes, ...children) => make("button", { type: "button", ...attributes }, children);
const small = (...children) => make("span", { class: "small" }, children);

/* A plain table in a box that scrolls. */
const grid = (kind, head, lines) => make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": kind },
  make("table", { class: "grid" },
    make("thead", {}, make("tr", {}, head.map((name) => make("th", { scope: "col" }, name)))),
    make("tbody", {}, lines.map((line) => make("tr", {}, line.map((value) => make("td", {}, value)))))));

/* The content, which may be large, is made when it is opened. */
function onDemand(summary, content, open = false) {
  const details = make("details", { open }, make("summary", {}, summary));
  details.addEventListener("toggle", () => details.append(content()), { once: true });
  return details;
}

const isNumber = (value) => typeof value === "number";
const number = (value) => (isNumber(value) ? value.toFixed(1) : NONE);
const plural = (n, word, words = `${word}s`) => `${n} ${n === 1 ? word : words}`;

/* Sentences in which `backticks` mark code. */
const prose = (text) => String(text).split("`").map((part, i) => (i % 2 ? make("code", {}, part) : part));

/* The data from Python: compressed JSON in base64. */
const bytes = Uint8Array.from(atob(byId("data").textContent), (letter) => letter.charCodeAt(0));
const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
const { document: DATA, drawn: DRAWN, differences: DIFFERENCES } = await new Response(unpacked).json();

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
  byId("notes").hidden = DATA.legend.length + DATA.apart.length + DATA.problems.length === 0;
  fill(byId("problems"), {}, DATA.problems.map(({ kind, n, texts }) => {
    const summary = [prose(kind), " (", make("b", {}, String(n)), ")"];
    return onDemand(summary, () => make("ul", {}, texts.map((text) => make("li", {}, prose(text)))));
  }));
}

/* The text of a table's option: the dataset, and the settings in which tables differ. */
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
    make("optgroup", { label: oracle ? `${title}: uses test data, not a fair result` : title },
      DATA.results.filter((result) => result.selection === selection).map((result) =>
        make("option", { value: result.id }, `${settingName(result)} (${title})`)))));
}

function showView() {
  const find = (wanted) => DATA.results.find(wanted);
  const result = find(({ id }) => id === state.table) ?? find(({ oracle }) => !oracle) ?? DATA.results[0];
  byId("choice").value = result.id;
  byId("filter").value = state.filter;
  byId("band").textContent = result.oracle ? "Uses test data: not a fair result." : "";
  byId("caption").replaceChildren(...prose(result.caption));
  byId("lacking").replaceChildren(...prose(result.lacking ?? ""));
  for (const id of ["table-scroll", "hint"]) byId(id).hidden = Boolean(result.lacking);
  view = { result, ...buildTable(result.lacking ? { ...result, rows: [] } : result) };
  showTable();
  showCharts(result);
}

/* The parts that sorting changes. */
function showTable() {
  arrangeRows(view);
  showDetails(view);
  writeHash();
}

/* The charts of the shown table, with the filtered rows. */
function showCharts(result) {
  const at = DATA.results.indexOf(result);
  const charts = (DRAWN?.[at] ?? [])
    .map((chart) => ({ ...chart, rows: chart.rows.filter((row) => row.names.some(matches)) }))
    .filter((chart) => chart.rows.length);
  byId("no-charts").hidden = Boolean(DRAWN);
  showSection("accuracies", charts, drawChart);
  showSection("forest", charts, drawChart);
  showSection("classes", charts, drawChart);
  showSection("curves", charts, (chart, i) => onDemand(chart.title, () => drawChart(chart), i === 0));
  const { head, lines } = DIFFERENCES[at];
  const left = lines.filter((line) => line.names.some(matches));
  byId("forest-section").hidden = left.length === 0;
  byId("forest").append(make("div", { id: "differences-table" },
    grid("Paired differences", head, left.map((line) => line.cells))));
  byId("verdicts").replaceChildren(...left.map(({ title, words }) => make("li", {}, make("b", {}, title), `: ${words}`)));
}

/* The section of a kind of charts, with their caption. */
const section = (kind, title) => make("section", { id: `${kind}-section`, "aria-label": title },
  make("h2", {}, title), make("p", { class: "caption", id: `${kind}-caption` }), make("div", { id: kind }));

function showSection(kind, charts, show) {
  const own = charts.filter((chart) => chart.kind === kind);
  byId(`${kind}-section`).hidden = own.length === 0;
  byId(`${kind}-caption`).textContent = own[0]?.caption ?? "";
  byId(kind).replaceChildren(...own.map(show));
}

/* Vega draws without evaluating code; the page's width limits the panels in a row. */
function drawChart({ spec: definition, title, rows }) {
  const spec = { ...definition, datasets: { rows } };
  const room = byId("view").clientWidth - 170;
  if (spec.columns) spec.columns = Math.max(1, Math.floor(room / (spec.spec.width + 20)));
  const said = `${title}: ${[...new Set(rows.flatMap((row) => row.names))].join(", ")}`;
  const figure = make("div", { class: "chart", role: "img", "aria-label": said });
  vegaEmbed(figure, spec, { mode: "vega-lite", ast: true, actions: false, renderer: "svg", logLevel: 1 });
  return figure;
}

function readHash() {
  const words = new URLSearchParams(location.hash.slice(1));
  for (const name of Object.keys(START)) state[name] = words.get(name) ?? "";
  showView();
}

function writeHash() {
  const words = new URLSearchParams(Object.entries(state).filter(([, word]) => word));
  try {
    history.replaceState(null, "", `#${words}`);
  } catch { /* A page in a frame without an address has no hash to keep. */ }
}

showHeader();
if (DATA.results.length) {
  showChoices();
  byId("view").append(section("accuracies", "By environment"), section("forest", "Paired differences"),
    section("classes", "By class"), section("curves", "Learning curves"));
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("choice").addEventListener("change", (event) => { state.table = event.target.value; showView(); });
  byId("filter").addEventListener("input", (event) => { state.filter = event.target.value; showView(); });
  addEventListener("hashchange", readHash);
  readHash();
} else {
  byId("controls").hidden = true;
  byId("view").replaceChildren(make("p", { class: "lacking" }, "No table: no run is done."));
}
