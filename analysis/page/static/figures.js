// The figures: their controls and legends, and their drawing by plotly.

const SIGNS = {
  circle: "●", square: "■", "triangle-up": "▲", diamond: "◆", "triangle-down": "▼", cross: "✚", x: "✖",
  "triangle-left": "◀", "triangle-right": "▶", star: "★", "circle-open": "○", "square-open": "□", "diamond-open": "◇",
};
const DASHES = { solid: "", dash: "7 4", dot: "2 3", dashdot: "7 3 2 3", longdash: "11 4", longdashdot: "11 3 2 3" };
const SVG = "http://www.w3.org/2000/svg";
const WEBGL = Boolean(document.createElement("canvas").getContext("webgl")); // without it points are drawn as SVG
const CONFIG = {
  responsive: true, displaylogo: false, showSendToCloud: false, // the page needs no network
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"], locale: LANGUAGE,
  locales: { [LANGUAGE]: { dictionary: WORDS, format: { decimal: DECIMAL, thousands: THOUSANDS } } },
};

function sample(entry) {
  if (!entry.dash) {
    const sign = element("span", { "aria-hidden": "true" }, SIGNS[entry.symbol] || "●");
    sign.dataset.color = entry.color;
    return sign;
  }
  const svg = document.createElementNS(SVG, "svg");
  const line = document.createElementNS(SVG, "line");
  Object.entries({ width: 30, height: 10, "aria-hidden": "true" }).forEach(([key, value]) => svg.setAttribute(key, value));
  const look = { x1: 0, y1: 5, x2: 30, y2: 5, "stroke-width": 3, "stroke-dasharray": DASHES[entry.dash] };
  Object.entries(look).forEach(([key, value]) => line.setAttribute(key, value));
  svg.dataset.color = entry.color;
  svg.append(line);
  return svg;
}

function colourSamples(legend) {
  for (const made of legend.querySelectorAll("[data-color]")) {
    made.style.color = themed(made.dataset.color);
    if (made.firstElementChild) made.firstElementChild.setAttribute("stroke", themed(made.dataset.color));
  }
}

// Checkboxes for the entries of a legend. hidden: the set of the groups that are switched off.
function legendOf(entries, hidden, changed) {
  const boxes = entries.map((entry) => {
    const box = element("input", { type: "checkbox" });
    box.checked = true;
    box.addEventListener("change", () => {
      if (box.checked) hidden.delete(entry.group); else hidden.add(entry.group);
      changed();
    });
    return { entry, box };
  });
  const legend = element("div", { class: "legend", role: "group", "aria-label": _("Shown") },
    ...boxes.map(({ entry, box }) => element("label", {}, box, sample(entry), entry.label)));
  if (entries.length > 2) {
    const all = element("button", { type: "button" }, _("All or none"));
    all.addEventListener("click", () => {
      const none = hidden.size === 0;
      hidden.clear();
      boxes.forEach(({ entry, box }) => { box.checked = !none; if (none) hidden.add(entry.group); });
      changed();
    });
    legend.append(all);
  }
  return legend;
}

function choiceOf(label, options, changed, chosen = 0) {
  const select = element("select", {}, ...options.map((option, place) => element("option", { value: place }, option)));
  select.value = chosen;
  select.addEventListener("change", () => changed(Number(select.value)));
  return element("label", {}, label, select);
}

function sliderOf(frames, changed, chosen) {
  const range = element("input", { type: "range", min: 0, max: frames.length - 1, step: 1, value: chosen });
  const state = element("output");
  const say = () => {
    state.textContent = frames[Number(range.value)].label;
    range.setAttribute("aria-valuetext", state.textContent);
  };
  range.addEventListener("input", () => { say(); changed(Number(range.value)); });
  say();
  return element("label", { class: "slider" }, _("Step"), range, state);
}

// Of the inclined names of an axis, as many as fit its length: what the names of the rows and the colour bar leave.
function fewer(plot, { tickangle, tickvals, ticktext, type }, rows) {
  if (tickangle !== -45) return {};
  const places = tickvals.map((value, place) => (type === "category" ? place : type === "log" ? Math.log(value) : value));
  const lines = (rows?.ticktext ?? []).flatMap((name) => name.split("<br>"));
  const beside = 110 + 7 * Math.max(0, ...lines.map((line) => line.length));
  const pixels = Math.max(60, plot.clientWidth - beside) / (places.at(-1) - places[0]);
  const kept = [];
  places.forEach((place, index) => {
    if (!kept.length || (place - places[kept.at(-1)]) * pixels >= 17) kept.push(index);
  });
  return { tickvals: kept.map((index) => tickvals[index]), ticktext: kept.map((index) => ticktext[index]) };
}

// view: zoom is kept until another view is chosen; the camera of a scene is kept always. A map or a scene (`square`) is
// not higher than it is wide.
function layoutOf(plot, layout, { height, square, view }) {
  const shown = square ? Math.min(height, Math.max(300, plot.clientWidth)) : height;
  plot.style.height = `${shown}px`;
  const style = getComputedStyle(document.documentElement);
  const [ink, line, soft] = ["--ink", "--line", "--soft"].map((name) => style.getPropertyValue(name).trim());
  const axis = (found) => ({
    gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true, exponentformat: "power", // not 100μ
    ...found, ...fewer(plot, found, layout.yaxis),
  });
  const far = plot.clientWidth < 450 ? 1.25 : 1; // so that the names of the axes fit
  const eye = Object.entries(layout.scene?.camera.eye ?? {}).map(([name, place]) => [name, far * place]);
  const scene = Object.fromEntries(["xaxis", "yaxis", "zaxis"].map((name) => [
    name, { gridcolor: line, zerolinecolor: line, backgroundcolor: "rgba(0,0,0,0)", ...(layout.scene || {})[name] },
  ]));
  return {
    ...layout, height: shown, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false,
    font: { color: ink, size: 13, family: "system-ui, sans-serif" }, margin: { l: 56, r: 16, t: 24, b: 48 },
    hoverlabel: { align: "left", bgcolor: style.getPropertyValue("--back").trim(), bordercolor: line, font: { color: ink } },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: soft, activecolor: ink },
    hovermode: "closest", dragmode: layout.scene ? "orbit" : "zoom", uirevision: view + 1,
    ...(layout.scene ? {
      scene: { ...layout.scene, ...scene, camera: { eye: Object.fromEntries(eye) }, uirevision: "kept" },
      margin: { l: 0, r: 0, t: 0, b: 0 },
    } : Object.fromEntries(Object.keys(layout).filter((name) => /^[xy]axis/.test(name)).map((name) => [name, axis(layout[name])]))),
  };
}

function origins(place, names, runs) {
  const items = names.map((name) => {
    const run = runs[name];
    const command = run.command
      ? [element("br"), element("code", {}, run.command)]
      : [" ", _("(its settings are in its config.yaml)")];
    return element("li", {}, element("code", {}, run.folder), ", ", _("seed {seed}", { seed: run.seed }), ...command);
  });
  const details = element("details", {},
    element("summary", {}, names.length === 1 ? _("Its run, and the command that computes it again")
      : _("Its {n} runs, and the commands that compute them again", { n: names.length })), element("ul", {}, ...items));
  details.open = place.querySelector("details")?.open ?? false;
  place.replaceChildren(...(names.length ? [details] : []));
}

function tracesFigure(content, parts, { runs }) {
  const hidden = new Set();
  let chosen = 0;
  const draw = () => {
    const view = content.views[chosen];
    const traces = themedDeep(view.data).map((trace) => ({ ...trace, visible: !hidden.has(trace.legendgroup) }));
    const layout = layoutOf(parts.plot, themedDeep(view.layout), {
      height: content.height, square: Boolean(view.layout.scene), view: chosen,
    });
    parts.note.textContent = view.note;
    origins(parts.origin, view.runs, runs);
    colourSamples(parts.controls);
    return Plotly.react(parts.plot, traces, layout, CONFIG);
  };
  const many = content.views.length > 1;
  parts.controls.replaceChildren(
    ...(many ? [choiceOf(content.choice, content.views.map((view) => view.label), (place) => {
      chosen = place;
      draw();
    })] : []),
    ...(content.legend.length ? [legendOf(content.legend, hidden, draw)] : []));
  return draw;
}

function pointsFigure(content, parts, { runs, thumbnails }) {
  const hidden = new Set();
  let [chosen, frame] = [0, 0];
  const search = element("input", { type: "search", size: "28", placeholder: _("class, predicted class, number") });
  const found = element("span", { role: "status" });
  const second = element("span", { class: content.slider ? "slider" : "" });
  const decoded = new Map();

  function points(place) {
    if (!decoded.has(place)) {
      const numbers = place.numbers && array(place.numbers);
      const predicted = place.predicted && array(place.predicted);
      const classes = array(place.classes);
      const texts = Array.from(classes, (label, index) => {
        const values = { number: numbers ? numbers[index] : index, name: content.classes[label] };
        const image = place.map === "train" ? _("train image {number}, class {name}", values)
          : _("test image {number}, class {name}", values);
        return predicted ? _("{image}, predicted {name}", { image, name: content.classes[predicted[index]] }) : image;
      });
      const tiles = thumbnails?.places[place.map];
      const tileOf = (index) => (tiles ? tiles[numbers ? numbers[index] : index] : -1); // -1: not on the sheet
      decoded.set(place, { x: array(place.x), y: array(place.y), classes, texts, tileOf });
    }
    return decoded.get(place);
  }

  // The range of an axis that has the points of all frames.
  function reach(frames, axis) {
    const [low, high] = [Math.min, Math.max].map((end) =>
      frames.map((place) => points(place)[axis].reduce((one, two) => end(one, two))).reduce((one, two) => end(one, two)));
    return [low - 0.04 * (high - low) - 1, high + 0.04 * (high - low) + 1];
  }

  const literal = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

  function draw() {
    const view = content.views[chosen];
    const { x, y, classes, texts, tileOf } = points(view.frames[frame]);
    const wanted = search.value.trim().toLowerCase();
    const [faint, kept] = [[], []]; // the points that the search does not find, and the others
    for (let index = 0; index < x.length; index++) {
      if (hidden.has(classes[index])) continue;
      (!wanted || texts[index].toLowerCase().includes(wanted) ? kept : faint).push(index);
    }
    const colors = content.colors.map(themed);
    const hasImages = thumbnails?.runs.includes(view.runs[0]);
    const seeds = view.runs.map((name) => _("{run}, seed {seed}", { run: name, seed: runs[name].seed })).join("; ");
    const traces = [faint, kept].map((shown) => ({
      type: WEBGL ? "scattergl" : "scatter", mode: "markers", hoverinfo: shown === kept ? "text" : "skip",
      x: shown.map((index) => x[index]), y: shown.map((index) => y[index]),
      hovertext: shown === kept ? kept.map((index) => `${literal(texts[index])}<br>${literal(seeds)}`) : undefined,
      customdata: hasImages ? shown.map(tileOf) : undefined,
      marker: {
        color: shown.map((index) => colors[classes[index]]), symbol: shown.map((index) => content.symbols[classes[index]]),
        opacity: shown === kept ? 0.85 : 0.1, size: x.length > 4000 ? 5 : 7,
      },
    }));
    found.textContent = wanted ? _("{n} found", { n: kept.length }) : _("{n} points", { n: kept.length });
    const bare = { showgrid: false, zeroline: false, showline: false, showticklabels: false };
    const xaxis = { ...bare, range: reach(view.frames, "x") };
    const yaxis = { ...bare, range: reach(view.frames, "y"), scaleanchor: "x" };
    const layout = layoutOf(parts.plot, { xaxis, yaxis }, { height: content.height, square: true, view: chosen });
    origins(parts.origin, view.runs, runs);
    colourSamples(parts.controls);
    return Plotly.react(parts.plot, traces, { ...layout, margin: { l: 8, r: 8, t: 24, b: 8 } }, CONFIG);
  }

  function frames() {
    const view = content.views[chosen];
    frame = Math.min(frame, view.frames.length - 1);
    const changed = (place) => { frame = place; draw(); };
    second.replaceChildren(content.slider ? sliderOf(view.frames, changed, frame)
      : choiceOf(_("Images"), view.frames.map((entry) => entry.label), changed, frame));
    return draw();
  }

  search.addEventListener("input", draw);
  const entries = content.classes.map((label, place) =>
    ({ group: place, label, color: content.colors[place], symbol: content.symbols[place] }));
  parts.controls.replaceChildren(
    choiceOf(content.choice, content.views.map((view) => view.label), (place) => { chosen = place; frames(); }),
    element("label", {}, _("Search"), search), found, second, legendOf(entries, hidden, draw));
  return () => (second.childElementCount ? draw() : frames());
}

async function drawFigure(figure, content, { runs, thumbnails }) {
  const [controls, plot, announcement, note, place] = [".controls", ".plot", ".announcement", ".note", ".origin"]
    .map((name) => figure.querySelector(name));
  const make = content.kind === "points" ? pointsFigure : tracesFigure;
  const draw = make(content, { controls, plot, note, origin: place }, { runs, thumbnails });
  const title = figure.querySelector("h3").textContent;
  plot.setAttribute("aria-label", [title, _("Arrow keys move from point to point, or turn a scene.")].join(". "));
  const done = draw();
  let pointed = () => {};
  if (thumbnails && content.kind === "points") {
    figure.querySelector("figcaption").append(` ${thumbnails.note}`);
    pointed = imagesOf(plot, thumbnails);
  }
  keyboard(plot, announcement, { scene: Boolean(content.views[0].layout?.scene), pointed });
  drawn.set(figure, draw);
  await done;
}
