// One image at a time: the slider, the same crop of every version, and each image's scores.

const SIDES = [24, 32, 48, 64, 96, 128];
const view = { set: null, name: null, before: "input", after: null, crop: null, side: 48, metric: results.metrics[0].name };

const picturesOf = (set) => data.pictures[set] || [];
const currentPicture = () => picturesOf(view.set).find((picture) => picture.name === view.name);
const scoresOf = (row, set, name) => {
  const image = row.cells[set] && (row.cells[set].images || []).find((each) => each.name === name);
  return image ? image.scores : null;
};

function viewerSection() {
  const section = document.getElementById("images");
  const sets = results.test_sets.filter((set) => picturesOf(set.name).length || imageNames(set.name).length);
  if (!sets.length) {
    section.append(make("p", { class: "note" }, "There are no images to show."));
    return;
  }
  view.set = (sets.find((set) => picturesOf(set.name).length) || sets[0]).name;
  const controls = make("div", { class: "choices" });
  const slider = makeSlider({ onpick: pick });
  const crops = make("div", { class: "crops" });
  const side = make("div", { class: "choices" });
  const note = make("p", { class: "note" });
  const pane = make("div", { class: "pane" }, slider.element, hint());
  const viewer = make("div", { class: "viewer" }, pane, make("div", {}, side, crops));
  const scores = make("div", {});
  section.append(controls, viewer, note, scores);

  function pick(x, y) {
    const picture = currentPicture();
    const length = Math.min(view.side, picture.width, picture.height);
    const inside = (middle, limit) => Math.round(Math.min(limit - length, Math.max(0, middle - length / 2)));
    view.crop = { left: inside(x, picture.width), top: inside(y, picture.height), side: length };
    slider.showCrop(view.crop);
    drawCrops(crops, picture);
  }

  function show() {
    const picture = currentPicture();
    viewer.hidden = !picture;
    note.textContent = shownNote(view.set);
    scores.replaceChildren(...imageScores(update));
    if (!picture) return;
    const versions = versionsOf(picture);
    const named = (key, other) => versions.find((version) => version.key === key) || versions[other];
    const [before, after] = [named(view.before, 0), named(view.after, versions.length - 1)];
    controls.replaceChildren(...viewerChoices(sets, versions, before, after, update));
    const sides = SIDES.filter((each) => each <= Math.max(24, Math.min(picture.width, picture.height)));
    const options = sides.map((each) => [each, `${each} × ${each} pixels`]);
    side.replaceChildren(choice("Crop", options, view.side, (value) => update({ side: Number(value) })));
    slider.show(picture, before, after);
    const crop = view.crop || picture.detail;
    pick(crop.left + crop.side / 2, crop.top + crop.side / 2);
  }

  function update(change) {
    const moved = "set" in change || "name" in change;
    Object.assign(view, change);
    if ("set" in change && !("name" in change)) view.name = (picturesOf(view.set)[0] || {}).name;
    if (moved) view.crop = null;
    const focused = controls.contains(document.activeElement) && [...controls.querySelectorAll("select, button")].indexOf(document.activeElement);
    show();
    if (typeof focused === "number") controls.querySelectorAll("select, button")[focused].focus();
  }

  view.after = bestRow(view.set);
  update({ set: view.set });
}

const hint = () =>
  make("p", { class: "note" }, "Drag the line to compare. Click a place to enlarge it. Keys: arrows move the line or, with the frame in focus, the frame.");

/** The measured row with the best first metric on a test set: what is shown first beside the input. */
function bestRow(set) {
  const column = scoreColumns.find((each) => each.testSet.name === set);
  const best = [...ranks(column)].find(([, rank]) => rank === 1);
  return best ? String(results.rows.indexOf(best[0])) : "truth";
}

function imageNames(set) {
  return [...new Set(results.rows.flatMap((row) => ((row.cells[set] || {}).images || []).map((image) => image.name)))];
}

function versionsOf(picture) {
  const keys = ["input", ...results.rows.keys(), "truth"].map(String).filter((key) => picture.versions[key]);
  const names = { input: "Input", truth: "Ground truth" };
  return keys.map((key) => ({ key, name: names[key] || results.rows[key].model, row: results.rows[key], source: picture.versions[key] }));
}

function viewerChoices(sets, versions, before, after, update) {
  const pictures = picturesOf(view.set);
  const position = pictures.findIndex((picture) => picture.name === view.name);
  const step = (by, label, words) => {
    const go = () => update({ name: pictures[(position + by + pictures.length) % pictures.length].name });
    return make("button", { type: "button", class: "step", "aria-label": words, onclick: go }, label);
  };
  const names = versions.map((version) => [version.key, version.name]);
  return [
    choice("Test set", sets.map((set) => [set.name, set.name]), view.set, (set) => update({ set })),
    make(
      "span",
      { class: "steps" },
      step(-1, "‹", "Previous image"),
      choice("Image", pictures.map((picture) => [picture.name, picture.name]), view.name, (name) => update({ name })),
      step(1, "›", "Next image"),
    ),
    choice("Left", names, before.key, (value) => update({ before: value })),
    choice("Right", names, after.key, (value) => update({ after: value })),
  ];
}

function shownNote(set) {
  const [shown, all] = [picturesOf(set), imageNames(set).length];
  if (!shown.length) return `No image of ${set} can be shown.`;
  const which = shown.length < all ? `${shown.length} of the ${all} images of ${set}: those on which the models differ most. ` : "";
  const cut = shown.some((picture) => picture.cut);
  const part = cut ? `Of images larger than ${data.encoding.side} pixels a side, the most detailed part is shown. ` : "";
  return `${which}${part}To keep this file small, images are JPEG (quality ${data.encoding.quality}) here; scores are of the originals.`;
}

function drawCrops(holder, picture) {
  const rows = results.rows.filter((row) => isMeasured(row) && scoresOf(row, view.set, picture.name));
  const columns = results.metrics.map((metric) => imageColumn(metric, picture.name));
  const marks = columns.map((column) => ranks(column, rows));
  const figures = versionsOf(picture).map((version) => {
    const scores = version.row && scoresOf(version.row, view.set, picture.name);
    const words = columns.flatMap((column, index) => [
      index ? " / " : "",
      ...ranked(withUnit(column.show(column.get(version.row)), column.unit), marks[index].get(version.row)),
    ]);
    const about = scores ? make("small", {}, words) : null;
    return make("figure", {}, cropCanvas(version, picture), make("figcaption", {}, make("strong", {}, version.name), about));
  });
  holder.replaceChildren(...figures);
}

const imageColumn = (metric, name) => ({
  ...metric,
  show: (value) => format(value, metric.digits),
  get: (row) => {
    const scores = row && scoresOf(row, view.set, name);
    return scores ? number(scores[metric.name]) : null;
  },
});

function cropCanvas(version, picture) {
  const { left, top, side } = view.crop;
  const canvas = make("canvas", { width: side, height: side, role: "img", "aria-label": `${picture.name}, ${version.name}, crop` });
  const image = new Image();
  image.src = version.source;
  image.decode().then(() => canvas.getContext("2d").drawImage(image, -left, -top), () => canvas.remove());
  return canvas;
}

/** Scores of every image of the test set by one metric; an image's name shows it above. */
function imageScores(update) {
  const names = imageNames(view.set);
  const rows = results.rows.filter((row) => names.some((name) => scoresOf(row, view.set, name)));
  if (!rows.length) return [];
  const metric = results.metrics.find((each) => each.name === view.metric);
  const head = make("tr", {}, make("th", { scope: "col", class: "first" }, "Image"), rows.map((row) => make("th", { scope: "col" }, row.model)));
  const lines = names.map((name) => {
    const column = imageColumn(metric, name);
    const marks = ranks(column, rows.filter(isMeasured));
    const shown = picturesOf(view.set).some((picture) => picture.name === name);
    const open = () => {
      update({ name });
      document.getElementById("images").scrollIntoView();
    };
    const label = shown ? make("button", { type: "button", class: "link", onclick: open }, name) : name;
    const cells = rows.map((row) => make("td", {}, ranked(column.show(column.get(row)), marks.get(row))));
    const attributes = { "aria-current": name === view.name ? "true" : null };
    return make("tr", attributes, make("th", { scope: "row", class: "first" }, label), cells);
  });
  const metrics = results.metrics.map((each) => [each.name, withUnit(each.label, each.unit && `[${each.unit}]`)]);
  const summary = make("summary", {}, `Scores of each image of ${view.set}`);
  const table = make("table", { class: "results" }, make("thead", {}, head), make("tbody", {}, lines));
  const details = make(
    "details",
    { open: view.open === true, ontoggle: () => Object.assign(view, { open: details.open }) },
    summary,
    make("div", { class: "choices" }, choice("Metric", metrics, view.metric, (value) => update({ metric: value }))),
    scroller("Scores of each image", "tall", table).edge,
  );
  return [details];
}
