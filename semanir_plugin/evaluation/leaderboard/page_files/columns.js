// What a model can be compared by: a metric on a test set, or a cost.

/** A cost as `results.costs` describes it. */
function costColumn(cost) {
  const scaled = (value) => (number(value) === null ? null : number(value) / cost.factor);
  const isTime = cost.key === "time_ms";
  return {
    ...cost,
    better: "lower",
    show: short,
    get: (row) => scaled(row[cost.key]),
    range: isTime ? (row) => (row.time_ms === null ? null : [scaled(row.time_low_ms), scaled(row.time_high_ms)]) : null,
    disturbed: (row) => isTime && row.disturbed === true,
  };
}

function scoreColumn(testSet, metric) {
  const cell = (row) => row.cells[testSet.name];
  return {
    key: JSON.stringify([testSet.name, metric.name]),
    label: metric.label,
    unit: metric.unit,
    better: metric.better,
    testSet,
    metric,
    cell,
    get: (row) => (cell(row) ? number(cell(row).scores[metric.name]) : null),
    show: (value) => format(value, metric.digits),
  };
}

const scoreColumns = results.test_sets.flatMap((set) => results.metrics.map((metric) => scoreColumn(set, metric)));
const costColumns = results.costs.map(costColumn).filter((cost) => results.rows.some((row) => cost.get(row) !== null));

/** Which measured rows are best and second best: a map from row to 1 or 2, for equal figures as shown the same. */
function ranks(column, rows = results.rows.filter(isMeasured)) {
  const shown = rows.map((row) => [row, column.get(row)]).filter(([, value]) => value !== null && !Number.isNaN(value));
  const sign = column.better === "higher" ? -1 : 1;
  const order = [...new Set(shown.map(([, value]) => value).sort((a, b) => sign * (a - b)).map(column.show))];
  const rankOf = (value) => order.indexOf(column.show(value)) + 1;
  return new Map(shown.map(([row, value]) => [row, rankOf(value)]).filter(([, rank]) => rank <= 2));
}

/** A figure with its mark; the words are for those who do not see it. */
function ranked(text, rank) {
  if (!rank) return [text];
  const words = rank === 1 ? "best" : "second best";
  return [make("span", { class: `rank${rank}` }, text), make("span", { class: "unseen" }, ` (${words})`)];
}
