/* The charts: specifications that Python made, drawn by Vega without evaluating code. */

/* The charts of the table that is shown, with the rows that the filter leaves. */
function showCharts(result) {
  const at = DATA.results.indexOf(result);
  const charts = (DRAWN?.[at] ?? [])
    .map((chart) => ({ ...chart, rows: chart.rows.filter((row) => row.names.some(matches)) }))
    .filter((chart) => chart.rows.length);
  byId("no-charts").hidden = Boolean(DRAWN);
  for (const kind of ["accuracies", "forest"]) showSection(kind, charts, (chart) => drawChart(chart));
  showSection("curves", charts, (chart, i) => {
    const details = make("details", { open: i === 0 }, make("summary", {}, chart.title));
    details.addEventListener("toggle", () => details.open && details.append(drawChart(chart)), { once: true });
    return details;
  });
  const { head, lines } = DIFFERENCES[at];
  const left = lines.filter((line) => line.names.some(matches));
  byId("forest-section").hidden = left.length === 0;
  byId("differences-table").replaceChildren(
    grid("Paired differences", head, left.map((line) => line.cells)),
    make("details", {}, make("summary", {}, "In words"),
      left.map((line) => make("p", {}, make("b", {}, line.cells[0]), ": ", prose(line.words)))));
}

function showSection(kind, charts, show) {
  const own = charts.filter((chart) => chart.kind === kind);
  byId(`${kind}-section`).hidden = own.length === 0;
  byId(`${kind}-caption`).textContent = own[0]?.caption ?? "";
  byId(kind).replaceChildren(...own.map(show));
}

/* As many panels stand side by side as the page has room for. */
function drawChart({ spec: definition, title, rows }) {
  const spec = { ...definition, datasets: { rows } };
  const room = byId("view").clientWidth - 170;
  if (spec.columns) spec.columns = Math.max(1, Math.floor(room / (spec.spec.width + 20)));
  const said = `${title}: ${[...new Set(rows.flatMap((row) => row.names))].join(", ")}`;
  const figure = make("div", { class: "chart", role: "img", "aria-label": said });
  vegaEmbed(figure, spec, { mode: "vega-lite", ast: true, actions: false, renderer: "svg", logLevel: 1 });
  return figure;
}
