// Two versions of an image, one over the other, with a line between them that can be dragged; and the place of the crop.

const NEAR = 22; // pixels from the line that still take hold of it
const STILL = 5; // pixels that a finger may move in a click

function makeSlider({ onpick }) {
  const before = make("img", { alt: "", draggable: "false" });
  const after = make("img", { alt: "", draggable: "false", class: "after" });
  const names = [make("span", { class: "caption" }), make("span", { class: "caption right" })];
  const knob = make("div", {
    class: "knob",
    role: "slider",
    tabindex: "0",
    "aria-label": "Line between the two versions",
    "aria-valuemin": "0",
    "aria-valuemax": "100",
    "aria-orientation": "horizontal",
  });
  const frame = make("div", { class: "crop-frame", tabindex: "0", role: "group", "aria-roledescription": "place of the crop" });
  const element = make("div", { class: "compare" }, before, after, frame, names, make("div", { class: "line" }), knob);
  const state = { at: 50, picture: null, crop: null };

  function move(percent) {
    state.at = Math.min(100, Math.max(0, percent));
    element.style.setProperty("--at", `${state.at}%`);
    knob.setAttribute("aria-valuenow", Math.round(state.at));
    knob.setAttribute("aria-valuetext", `${Math.round(state.at)} % ${names[0].textContent}`);
  }

  function showCrop(crop) {
    state.crop = crop;
    const { width, height } = state.picture;
    const edges = { left: crop.left / width, top: crop.top / height, width: crop.side / width, height: crop.side / height };
    for (const [edge, value] of Object.entries(edges)) frame.style[edge] = `${100 * value}%`;
    frame.setAttribute("aria-label", `Crop of ${crop.side} pixels at row ${crop.top}, column ${crop.left}; arrow keys move it`);
  }

  function show(picture, left, right) {
    state.picture = picture;
    const enlarged = Math.max(1, Math.floor(640 / Math.max(picture.width, picture.height)));
    element.style.width = `${picture.width * enlarged}px`;
    element.style.aspectRatio = `${picture.width} / ${picture.height}`;
    for (const [image, version, name] of [[before, left, names[0]], [after, right, names[1]]]) {
      if (image.src !== version.source) image.src = version.source;
      image.alt = `${picture.name}, ${version.name}`;
      name.textContent = version.name;
    }
    move(state.at);
  }

  addPointers(element, { move, place: () => state.at, pick: (x, y) => onpick(x * state.picture.width, y * state.picture.height) });
  addKeys(knob, frame, {
    move: (step) => move(state.at + step),
    to: move,
    shift: (x, y) => onpick(state.crop.left + state.crop.side / 2 + x, state.crop.top + state.crop.side / 2 + y),
  });
  return { element, show, showCrop };
}

/** A drag moves the line, a click elsewhere chooses the crop; mouse, pen and finger alike. */
function addPointers(element, { move, place, pick }) {
  let held = null;
  const at = (event) => {
    const { left, top, width, height } = element.getBoundingClientRect();
    return { x: (event.clientX - left) / width, y: (event.clientY - top) / height, width };
  };
  element.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    const { x, width } = at(event);
    held = { start: event.clientX, dragging: Math.abs(x - place() / 100) * width < NEAR };
    element.setPointerCapture(event.pointerId);
  });
  element.addEventListener("pointermove", (event) => {
    if (!held) return;
    held.dragging = held.dragging || Math.abs(event.clientX - held.start) > STILL;
    if (held.dragging) move(100 * at(event).x);
  });
  element.addEventListener("pointerup", (event) => {
    const { x, y } = at(event);
    if (held && !held.dragging) pick(x, y);
    held = null;
  });
  element.addEventListener("pointercancel", () => {
    held = null;
  });
}

function addKeys(knob, frame, { move, to, shift }) {
  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  knob.addEventListener("keydown", (event) => {
    const [x, y] = steps[event.key] || [0, 0];
    if (x || y) move((x - y) * (event.shiftKey ? 10 : 2));
    else if (event.key === "PageUp" || event.key === "PageDown") move(event.key === "PageUp" ? 10 : -10);
    else if (event.key === "Home" || event.key === "End") to(event.key === "Home" ? 0 : 100);
    else return;
    event.preventDefault();
  });
  frame.addEventListener("keydown", (event) => {
    if (!steps[event.key]) return;
    const [x, y] = steps[event.key].map((step) => step * (event.shiftKey ? 1 : 8));
    shift(x, y);
    event.preventDefault();
  });
}
