// What a model can be compared by: a metric on a test set, or a cost.

const COSTS = [
  { key: "parameters", label: "Parameters", unit: "M", get: (row) => scaled(row.parameters, 1e6) },
  {
    key: "flops",
    label: "FLOPs",
    unit: "G",
    about: "a multiplication and its addition counted as one",
    get: (row) => scaled(row.flops, 1e9),
    at: (row) => row.flops_size,
  },
  {
    key: "runtime",
    label: "Runtime",
    unit: "ms",
    about: "the median and, below it, the quartiles",
    get: (row) => (row.runtime_ms ? number(row.runtime_ms.median) : null),
    range: (row) => (row.runtime_ms ? [number(row.runtime_ms.low), number(row.runtime_ms.high)] : null),
    at: (row) => row.runtime_size,
  },
  {
    key: "memory",
    label: "Peak memory",
    unit: "MiB",
    get: (row) => number(row.peak_memory_mib),
    at: (row) => row.runtime_size,
  },
].map((cost) => ({ ...cost, better: "lower", show: short }));

function scaled(value, unit) {
  const read = number(value);
  return read === null ? null : read / unit;
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
const costColumns = COSTS.filter((cost) => results.rows.some((row) => cost.get(row) !== null));

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

/** "for inputs of 3 × 64 × 64" where all rows have one size, else null. */
function commonSize(column) {
  const shapes = new Set(results.rows.filter((row) => column.at && column.at(row)).map((row) => size(column.at(row))));
  return shapes.size === 1 ? [...shapes][0] : null;
}
