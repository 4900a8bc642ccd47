// The table: measured rows, then published ones, each sorted among themselves.

const table = { sorted: scoreColumns[0].key, reversed: false, metric: "" };

function tableSection() {
  const section = document.getElementById("results");
  const { edge, holder, shade } = scroller("Results, scrolls sideways", "");
  const redraw = () => {
    holder.replaceChildren(resultsTable(redraw));
    shade();
  };
  const choices = make("div", { class: "choices" });
  section.append(choices, edge, make("p", { class: "unseen", role: "status", id: "sorted" }), legend(), ...failures());
  redraw();
  if (results.metrics.length < 2) return;
  if (edge.classList.contains("more")) {
    table.metric = results.metrics[0].name;
    redraw();
  }
  const metrics = [["", "all"], ...results.metrics.map((metric) => [metric.name, metric.label])];
  const onchange = (value) => {
    table.metric = value;
    redraw();
  };
  choices.append(choice("Metrics", metrics, table.metric, onchange));
}

function legend() {
  const notes = [
    make("span", { class: "rank1" }, "best"),
    " and ",
    make("span", { class: "rank2" }, "second best"),
    " of the models measured here, by the figures as shown.",
  ];
  if (results.rows.some((row) => !isMeasured(row))) {
    notes.push(" ", make("span", { class: "tag" }, "published"), " rows were taken from papers, and are not ranked.");
  }
  if (costColumns.length) notes.push(` ${costNote()}`);
  notes.push(" A column's name sorts by it.");
  return make("p", { class: "note" }, notes);
}

function costNote() {
  const about = costColumns.filter((cost) => cost.about).map((cost) => `; ${cost.label}: ${cost.about}`).join("");
  const where = results.cost_size ? ` of an input of ${size(results.cost_size)} on ${results.environment.device}` : "";
  const disturbed = " Disturbed: other work had the processor for much of that row's time; its processor time holds.";
  return `Cost${where}${about}.${results.rows.some((row) => row.disturbed) ? disturbed : ""}`;
}

function failures() {
  const failed = results.rows.flatMap((row) =>
    results.test_sets
      .filter((set) => row.cells[set.name] && row.cells[set.name].error)
      .map((set) => make("li", {}, make("strong", {}, `${row.model}, ${set.name}: `), row.cells[set.name].error)),
  );
  return failed.length ? [make("h3", {}, "What failed"), make("ul", { class: "failures" }, failed)] : [];
}

function resultsTable(redraw) {
  const scores = scoreColumns.filter((column) => !table.metric || column.metric.name === table.metric);
  const name = { key: "model", label: "model", better: "lower", get: (row) => row.model.toLowerCase() };
  const columns = [name, ...scores, ...costColumns];
  const column = columns.find((each) => each.key === table.sorted) || scores[0];
  const bodies = [results.rows.filter(isMeasured), results.rows.filter((row) => !isMeasured(row))];
  const marks = new Map(scores.map((each) => [each, ranks(each)]));
  const sort = (each) => {
    table.reversed = each.key === column.key && !table.reversed;
    table.sorted = each.key;
    redraw();
    document.querySelector(`[data-column="${CSS.escape(each.key)}"]`).focus();
    const order = table.reversed ? "worst" : "best";
    document.getElementById("sorted").textContent = `Sorted by ${title(each)}${each.cell ? `, ${order} first` : ""}.`;
  };
  return make(
    "table",
    { class: "results" },
    make("caption", { class: "unseen" }, `${results.title}: scores and cost of each model`),
    heads(name, scores, column, sort),
    bodies.filter((rows) => rows.length).map((rows, index) => {
      const lines = inOrder(rows, column).map((row) => line(row, scores, marks));
      return make("tbody", {}, index ? bodyTitle(columns.length) : null, lines);
    }),
  );
}

const title = (column) => (column.cell ? `${column.label} on ${column.testSet.name}` : column.label);

function heads(name, scores, sorted, sort) {
  const groups = [];
  for (const column of scores) {
    const last = groups[groups.length - 1];
    if (last && last.set === column.testSet) last.span += 1;
    else groups.push({ set: column.testSet, span: 1 });
  }
  const head = (column, extra = {}) => {
    const direction = (column.better === "higher") !== table.reversed ? "descending" : "ascending";
    const attributes = { "data-column": column.key, type: "button", onclick: () => sort(column) };
    return make(
      "th",
      { scope: "col", "aria-sort": column.key === sorted.key ? direction : null, ...extra },
      make("button", attributes, make("span", { class: "key" }, column.label), make("small", {}, column.unit || "")),
    );
  };
  return make(
    "thead",
    {},
    make(
      "tr",
      {},
      head(name, { rowspan: 2, class: "first" }),
      groups.map(({ set, span }) =>
        make("th", { scope: "colgroup", colspan: span, class: "group" }, set.name, make("small", {}, about(set))),
      ),
      costColumns.length ? make("th", { scope: "colgroup", colspan: costColumns.length, class: "group" }, "cost") : null,
    ),
    make("tr", {}, starts(scores).map(([column, start]) => head(column, { class: start })), costHeads(head)),
  );
}

const costHeads = (head) => costColumns.map((column, index) => head(column, { class: index ? "cost" : "cost start" }));
const starts = (scores) =>
  scores.map((column, index) => [column, index && scores[index - 1].testSet === column.testSet ? null : "start"]);
const about = (set) => ` ${[set.condition, `${set.images} image${set.images === 1 ? "" : "s"}`].filter(Boolean).join(", ")}`;

/** The source of all published rows, where they have the same. */
const commonSource = () => {
  const sources = new Set(results.rows.filter((row) => !isMeasured(row)).map((row) => row.source));
  return sources.size === 1 ? [...sources][0] : null;
};

function bodyTitle(span) {
  const words = ["Published figures, not measured here", commonSource()].filter(Boolean).join(": ");
  return make("tr", { class: "body-title" }, make("th", { scope: "rowgroup", colspan: span }, make("span", {}, words)));
}

/** Sorted by a column, best first; rows without a figure stay last either way. */
function inOrder(rows, column) {
  const sign = (column.better === "higher" ? -1 : 1) * (table.reversed ? -1 : 1);
  const known = (row) => column.get(row) !== null && !Number.isNaN(column.get(row));
  return [...rows].sort((a, b) => {
    if (!known(a) || !known(b)) return known(b) - known(a);
    const [x, y] = [column.get(a), column.get(b)];
    return x === y ? 0 : sign * (x < y ? -1 : 1);
  });
}

function line(row, scores, marks) {
  const tag = isMeasured(row) ? null : make("span", { class: "tag" }, "published");
  const known = !row.source || (!isMeasured(row) && commonSource());
  const source = !known ? make("small", { class: "source" }, row.source) : null;
  return make(
    "tr",
    { class: row.kind },
    make("th", { scope: "row", class: "first" }, make("span", { class: "name" }, row.model), tag ? " " : null, tag, source),
    starts(scores).map(([column, start]) => make("td", { class: start }, scoreCell(row, column, marks))),
    costColumns.map((column, index) => make("td", { class: index ? null : "start" }, costCell(row, column))),
  );
}

function scoreCell(row, column, marks) {
  const cell = column.cell(row);
  if (cell && cell.error) return make("span", { class: "failed", title: cell.error }, "failed");
  return ranked(column.show(column.get(row)), marks.get(column).get(row));
}

function costCell(row, column) {
  const parts = [column.show(column.get(row))];
  const range = column.range && column.range(row);
  if (range) parts.push(make("small", { class: "range" }, ` ${short(range[0])}–${short(range[1])}`));
  if (column.disturbed(row)) parts.push(" ", make("span", { class: "tag" }, "disturbed"));
  return parts;
}
