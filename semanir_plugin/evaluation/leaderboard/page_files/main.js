// Entry point: the sections above and below the table, and the calls that fill the page.

const TASKS = {
  sr: "Super-resolution",
  denoising: "Denoising",
  jpeg: "JPEG artefacts",
  demosaicking: "Demosaicking",
  deblurring: "Deblurring",
  weather: "Adverse weather",
  derain: "Deraining",
};

function headSection() {
  const { protocol } = results;
  const text = [protocol.name, `version ${protocol.version}`].join(", ");
  document.getElementById("head").append(
    make("p", { class: "task" }, TASKS[results.task] || results.task),
    make("h1", {}, results.title),
    make("p", {}, make("strong", {}, "Protocol "), make("code", {}, text), ": ", protocol.description || ""),
  );
}

function footSection() {
  const { command, versions, ...rest } = results.environment;
  const entries = Object.entries(rest).filter(([, value]) => value !== null).map(([key, value]) => [key, [String(value)]]);
  const packages = Object.entries(versions || {}).map(([name, version]) => `${name} ${version}`);
  if (packages.length) entries.push(["versions", [packages.join(", ")]]);
  if (command) entries.push(["command", [make("code", {}, command)]]);
  const missing = data.encoding.missing;
  if (missing.length) {
    const [listed, more] = [missing.slice(0, 10).join(", "), missing.length - 10];
    entries.push(["images that could not be shown", [listed + (more > 0 ? ` and ${more} more` : "")]]);
  }
  const list = make("dl", {}, entries.flatMap(([key, value]) => [make("dt", {}, key), make("dd", {}, value)]));
  document.getElementById("foot").append(make("h2", {}, "How this was measured"), list);
}

headSection();
tableSection();
plotSection();
viewerSection();
footSection();
